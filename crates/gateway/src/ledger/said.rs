//! What a statement asks for, as far as it is decided here. Pure.

use herdsman::classify::{TokenKind, Tokens};

use crate::effects::{self, Effect};

/// A statement of a client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Begins a transaction; `None` where it does not say how.
    Begin {
        read_only: Option<bool>,
        serializable: Option<bool>,
    },
    Commit,
    Rollback,
    /// Back to a savepoint.
    BackTo,
    /// `SAVEPOINT`, `RELEASE`.
    Savepoint(&'static str),
    /// `SET TRANSACTION`.
    Modes {
        read_only: Option<bool>,
        serializable: Option<bool>,
    },
    /// `SET name TO value`, the value as SQL.
    Set {
        name: String,
        value: String,
    },
    /// `SET LOCAL` of what may be set.
    SetLocal,
    Reset(String),
    ResetAll,
    DiscardAll,
    /// `DEALLOCATE`: of one, or of all.
    Forget(Option<String>),
    /// What the session itself is asked for.
    Show(Own),
    /// A change of a table.
    Define(&'static str),
    /// For the server. The part from this byte on is to be one that reads rows or changes the ledger's; `None` where no
    /// part has to be looked at.
    Server(Option<usize>),
    /// It is not for a ledger: the SQLSTATE and why.
    Refused(&'static str, String),
}

/// What is ours of the session's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// How fresh reads are.
    Read,
    /// What the session has seen of the log.
    Offset,
}

impl Own {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Read => "herdsman.read",
            Self::Offset => "herdsman.offset",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        [Self::Read, Self::Offset].into_iter().find(|own| own.name() == name)
    }
}

/// Settings that leave alone what is read of a transaction and what it may do.
const HARMLESS: [&str; 27] = [
    "application_name",
    "bytea_output",
    "client_connection_check_interval",
    "client_min_messages",
    "datestyle",
    "default_text_search_config",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "escape_string_warning",
    "extra_float_digits",
    "from_collapse_limit",
    "geqo",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "join_collapse_limit",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "plan_cache_mode",
    "statement_timeout",
    "timezone",
    "work_mem",
    "xmloption",
];

/// Why a setting cannot be made; `None` if it can.
pub(super) fn unfit(name: &str, value: &str) -> Option<String> {
    let value = value.trim_matches('\'').to_ascii_lowercase();
    let fits = HARMLESS.contains(&name)
        || name.starts_with("enable_")
        || Own::of(name).is_some()
        || (name == "client_encoding" && ["utf8", "utf-8", "unicode"].contains(&&*value))
        || (name == "standard_conforming_strings" && ["on", "true", "1"].contains(&&*value));
    (!fits).then(|| match name {
        "client_encoding" => "a ledger speaks UTF8".to_owned(),
        _ => format!("{name} cannot be set to that in a session of a ledger"),
    })
}

/// The statements of a text; `None` where it cannot be taken apart.
pub(super) fn split(sql: &str) -> Option<Vec<&str>> {
    let (mut parts, mut depth) = (Vec::new(), 0_u32);
    let mut open: Option<(usize, usize)> = None;
    for token in Tokens::of(sql) {
        match token.kind {
            TokenKind::Unclear => return None,
            TokenKind::Semicolon if depth == 0 => {
                parts.extend(open.take().and_then(|(from, to)| sql.get(from..to)));
                continue;
            }
            TokenKind::Open => depth = depth.saturating_add(1),
            TokenKind::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        let from = open.map_or(token.start, |(from, _)| from);
        open = Some((from, token.start.saturating_add(token.text.len())));
    }
    parts.extend(open.and_then(|(from, to)| sql.get(from..to)));
    Some(parts)
}

/// What one statement asks for.
pub(super) fn said(sql: &str) -> Said {
    let words: Vec<_> = Tokens::of(sql).take(12).collect();
    let word = |at: usize| words.get(at).map(|it| it.text.to_ascii_lowercase()).unwrap_or_default();
    let first = word(0);
    let refused = |why: &str| Said::Refused("0A000", why.to_owned());
    match first.as_str() {
        "begin" | "start" | "commit" | "end" | "rollback" | "abort" => ends(sql),
        "savepoint" => Said::Savepoint("SAVEPOINT"),
        "release" => Said::Savepoint("RELEASE"),
        "set" | "reset" | "discard" | "deallocate" => session(sql, &word(1)),
        "show" => {
            let own = Tokens::of(sql).skip(1).map(|it| it.text.to_ascii_lowercase());
            Own::of(&own.collect::<String>()).map_or(Said::Server(None), Said::Show)
        }
        "fetch" | "move" | "close" | "unlisten" => Said::Server(None),
        "create" => Said::Define("CREATE TABLE"),
        "alter" => Said::Define("ALTER TABLE"),
        "drop" => Said::Define("DROP TABLE"),
        "explain" => explained(sql),
        "declare" => {
            let mut query = Tokens::of(sql).skip_while(|it| !it.is("for")).skip(1);
            let holds = Tokens::of(sql).take_while(|it| !it.is("for")).any(|it| it.is("hold"));
            match query.next() {
                Some(token) if !holds => Said::Server(Some(token.start)),
                _ => refused(
                    "a cursor of a ledger is DECLARE … CURSOR FOR a query, within a transaction",
                ),
            }
        }
        "prepare" | "execute" => {
            refused("statements are prepared by the driver, in the protocol, and not by PREPARE")
        }
        "listen" | "notify" | "lock" | "copy" | "call" | "do" | "truncate" | "vacuum" | "load" => {
            Said::Refused("0A000", format!("{} is not for a ledger", first.to_uppercase()))
        }
        _ => Said::Server(Some(0)),
    }
}

/// The beginning or the end of a transaction.
fn ends(sql: &str) -> Said {
    let odd = || {
        Said::Refused(
            "0A000",
            "this way to begin or end a transaction is not for a ledger".to_owned(),
        )
    };
    match effects::effect(sql) {
        Effect::Begin { .. } => {
            let (read_only, serializable) = modes(sql);
            Said::Begin { read_only, serializable }
        }
        Effect::Commit => Said::Commit,
        Effect::Rollback => Said::Rollback,
        Effect::RollbackTo => Said::BackTo,
        _ => odd(),
    }
}

/// What a transaction is said to be.
fn modes(sql: &str) -> (Option<bool>, Option<bool>) {
    let words: Vec<_> = Tokens::of(sql).collect();
    let has = |pair: [&str; 2]| {
        words.windows(2).any(|two| two.iter().zip(pair).all(|(word, wanted)| word.is(wanted)))
    };
    let read_only = [(["read", "only"], true), (["read", "write"], false)];
    let read_only = read_only.into_iter().find(|(pair, _)| has(*pair)).map(|(_, only)| only);
    let serializable = has(["isolation", "level"]).then(|| has(["level", "serializable"]));
    (read_only, serializable)
}

/// What is said about the session.
fn session(sql: &str, second: &str) -> Said {
    let odd = |why: &str| Said::Refused("0A000", format!("{why} is not for a session of a ledger"));
    match effects::effect(sql) {
        Effect::Set { name, value } => match unfit(&name, &value) {
            None => Said::Set { name, value },
            Some(why) => Said::Refused("0A000", why),
        },
        Effect::Reset(name) if unfit(&name, "on").is_none() || name == "client_encoding" => {
            Said::Reset(name)
        }
        Effect::ResetAll => Said::ResetAll,
        Effect::DiscardAll => Said::DiscardAll,
        Effect::Discard => Said::Server(None),
        Effect::Deallocate(name) => Said::Forget(Some(name)),
        Effect::DeallocateAll => Said::Forget(None),
        Effect::Local if second == "transaction" => {
            let snapshot = Tokens::of(sql).any(|it| it.is("snapshot"));
            let (read_only, serializable) = modes(sql);
            if snapshot {
                odd("SET TRANSACTION SNAPSHOT")
            } else {
                Said::Modes { read_only, serializable }
            }
        }
        Effect::Local if second == "local" => {
            let rest =
                Tokens::of(sql).nth(2).and_then(|it| sql.get(it.start..)).unwrap_or_default();
            match effects::effect(&format!("SET {rest}")) {
                Effect::Set { name, value }
                    if unfit(&name, &value).is_none() && Own::of(&name).is_none() =>
                {
                    Said::SetLocal
                }
                _ => odd("this SET LOCAL"),
            }
        }
        _ => odd("this"),
    }
}

/// `EXPLAIN` of what could be run.
fn explained(sql: &str) -> Said {
    let mut tokens = Tokens::of(sql).skip(1).peekable();
    if tokens.peek().is_some_and(|it| it.kind == TokenKind::Open) {
        let mut depth = 0_u32;
        for token in tokens.by_ref() {
            match token.kind {
                TokenKind::Open => depth = depth.saturating_add(1),
                TokenKind::Close => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    } else {
        while tokens
            .next_if(|it| it.is("analyze") || it.is("analyse") || it.is("verbose"))
            .is_some()
        {}
    }
    match tokens.next() {
        Some(token) => Said::Server(Some(token.start)),
        None => Said::Server(Some(0)),
    }
}

#[cfg(test)]
mod tests;
