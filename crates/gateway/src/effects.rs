//! What a statement leaves behind in the session that runs it. Pure.
//!
//! # What no text can tell
//!
//! A function, a procedure or a trigger may do anything to its session (`set_config`, advisory locks, temporary tables) and
//! its call does not show it: `SELECT f()` and `CALL p()` leave nothing behind as far as can be seen here. Values made by
//! `nextval` and looked at by `currval` belong to one session too: together they work within a transaction.

mod calls;
mod control;
mod set;
mod statement;
mod words;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use herdsman::classify::{self, Class, Functions, Kind, Token, TokenKind, Tokens, Why, classify};
use herdsman_node::NodeName;

use words::Words;

/// What one statement text does to the session. Errs on the side of `Unknown`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// Begins a transaction; whether it says `READ ONLY`. Only where the text is nothing but that and certain to succeed.
    Begin {
        /// `READ ONLY` was said.
        read_only: bool,
    },
    /// `COMMIT`, `END` (without `AND CHAIN`, not `PREPARED`).
    Commit,
    /// `ROLLBACK`, `ABORT` (likewise).
    Rollback,
    /// `ROLLBACK TO SAVEPOINT`: what was set since is undone.
    RollbackTo,
    /// `SET [SESSION] name TO value` of one name: name lower-case, value as SQL.
    Set {
        /// Lower-case.
        name: String,
        /// As SQL.
        value: String,
    },
    /// `RESET name` or `SET name TO DEFAULT`.
    Reset(String),
    /// `RESET ALL`.
    ResetAll,
    /// `SET LOCAL`, `SET TRANSACTION`, `SET CONSTRAINTS`: ends with the transaction.
    Local,
    /// `DISCARD ALL`.
    DiscardAll,
    /// `DISCARD PLANS`/`SEQUENCES`/`TEMP`: nothing of the client's is on a shared connection.
    Discard,
    /// `DEALLOCATE name`, with quotes taken off.
    Deallocate(String),
    /// `DEALLOCATE ALL`.
    DeallocateAll,
    /// `PREPARE name … AS …`.
    Prepare(String),
    /// `EXECUTE name`.
    Execute(String),
    /// State that only this server session has, and what it is: the client must keep the connection. "a temporary table",
    /// "LISTEN", "a session advisory lock", "a cursor WITH HOLD", "LOAD", …
    Sticky(&'static str),
    /// `UNLISTEN`, `pg_advisory_unlock…`, `CLOSE`, `FETCH`, `SAVEPOINT`, `LOCK`, `NOTIFY` …: needs the session it has,
    /// leaves nothing new.
    Uses,
    /// What is so (in the words of `Sticky`) is over: `UNLISTEN *`, `CLOSE ALL`, `SELECT pg_advisory_unlock_all()`.
    Releases(&'static [&'static str]),
    /// Several statements in one text, which succeed or fail together, and what they do, in order: `Set`, `Reset`,
    /// `ResetAll`, `DeallocateAll`, `Releases`.
    Several(Vec<Effect>),
    /// Something about the session that is not understood: treated as sticky.
    Unknown,
}

/// The effect of a text, which may hold several statements: then the stickiest, or `Unknown` where that cannot be told
/// (several with `SET` among them, the end of a transaction that was begun before, …).
///
/// Only a single statement is ever `Begin`, `Commit`, `Rollback`, `Set`, … and only one that is nothing but that. Several
/// from `BEGIN` on, with their end or without, are what is between them.
pub(crate) fn effect(sql: &str) -> Effect {
    static BUILTIN: LazyLock<Functions> = LazyLock::new(Functions::builtin);
    let class = classify(sql, &BUILTIN);
    if needs_look(&class, sql) { look(&class, sql) } else { Effect::None }
}

/// Whether [`effect`] may say anything but `None` of a text of this class. Cheap: no more than a glance at each byte, and
/// not even that for what is proven to only read.
pub(crate) fn needs_look(class: &Class, sql: &str) -> bool {
    match (class.kind, class.why) {
        (Kind::Read, _) => false,
        // The classifier has seen all of it, and none of the calls and words that it knows to belong to a session.
        (
            Kind::Write,
            Why::Empty | Why::RefusedBefore | Why::UnknownFunction | Why::VolatileFunction,
        ) => false,
        // It has stopped where it knew enough.
        (Kind::Write, Why::Changes(_) | Why::Into | Why::LocksRows | Why::Calls(_)) => {
            calls::may_matter(sql)
        }
        _ => true,
    }
}

/// Where a comment sends a statement, whatever the classifier says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// `/* herdsman: target=reader */`.
    Reader,
    /// `/* herdsman: writer */` or `/* herdsman: target=writer */`; the classifier hears it too.
    Writer,
    /// `/* herdsman: target=NAME */`.
    Node(NodeName),
}

/// The hint in a statement's comments. `/* herdsman: reader */` is none: it vouches for functions, to the classifier.
pub(crate) fn hint(sql: &str) -> Option<Hint> {
    match classify::hint(sql)? {
        classify::Hint::Reader => None,
        classify::Hint::Writer => Some(Hint::Writer),
        classify::Hint::Target(name) if name.eq_ignore_ascii_case("reader") => Some(Hint::Reader),
        classify::Hint::Target(name) if name.eq_ignore_ascii_case("writer") => Some(Hint::Writer),
        classify::Hint::Target(name) if name.eq_ignore_ascii_case("split") => None,
        classify::Hint::Target(name) => NodeName::new(name).ok().map(Hint::Node),
    }
}

/// Whether the value of a `search_path` names the schema of temporary tables, where `CREATE TABLE` might then create.
pub(crate) fn names_temporary_schema(value: &str) -> bool {
    value.to_ascii_lowercase().contains("pg_temp")
}

/// [`effect`] of a text that needs a look.
fn look(class: &Class, sql: &str) -> Effect {
    let tokens: Vec<_> = Tokens::of(sql).collect();
    if tokens.last().is_some_and(|last| last.kind == TokenKind::Unclear) {
        let plain = Words::of(&tokens).head().is_some_and(|head| statement::is_plain(&head));
        return if plain && !calls::may_matter(sql) { Effect::None } else { Effect::Unknown };
    }
    let effects: Vec<_> = statements(&tokens).into_iter().map(statement::effect).collect();
    let alone = effects.len() == 1;
    match together(effects) {
        // `currval` and the like.
        Effect::None
            if alone && class.kind == Kind::Session && matches!(class.why, Why::Calls(_)) =>
        {
            Effect::Uses
        }
        effect => effect,
    }
}

/// The statements of a text, as the server takes it apart; empty ones left out.
fn statements<'t, 'a>(tokens: &'t [Token<'a>]) -> Vec<&'t [Token<'a>]> {
    let mut found = Vec::new();
    let (mut start, mut depth, mut body) = (0, 0_u32, 0_u32);
    let mut end = |start: &mut usize, at: usize| {
        found.extend(tokens.get(*start..at).filter(|statement| !statement.is_empty()));
        *start = at + 1;
    };
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Open => depth += 1,
            TokenKind::Close => depth = depth.saturating_sub(1),
            // The body of a function written in SQL: BEGIN ATOMIC … END, with CASE … END in it.
            TokenKind::Word if body == 0 => {
                let creates = tokens.get(start).is_some_and(|first| first.is("create"));
                let begins = at.checked_sub(1).and_then(|at| tokens.get(at));
                if creates && token.is("atomic") && begins.is_some_and(|word| word.is("begin")) {
                    body = 1;
                }
            }
            TokenKind::Word if token.is("case") => body += 1,
            TokenKind::Word if token.is("end") => body -= 1,
            TokenKind::Semicolon if depth == 0 && body == 0 => end(&mut start, at),
            _ => {}
        }
    }
    end(&mut start, tokens.len());
    found
}

/// Of several statements in one text.
fn together(mut effects: Vec<Effect>) -> Effect {
    if effects.len() == 1 {
        return effects.pop().unwrap_or(Effect::Unknown);
    }
    if let Some(at) = effects.iter().position(|effect| matches!(effect, Effect::Sticky(_))) {
        return effects.swap_remove(at);
    }
    let (mut begun, mut uses) = (false, false);
    let mut local = false;
    let mut changes = Vec::new();
    for effect in &effects {
        match effect {
            Effect::None => {}
            Effect::Begin { .. } => begun = true,
            Effect::Commit | Effect::Rollback | Effect::RollbackTo if begun => {}
            Effect::Local => local = true,
            Effect::Uses => uses = true,
            Effect::Set { .. }
            | Effect::Reset(_)
            | Effect::ResetAll
            | Effect::DeallocateAll
            | Effect::Releases(_)
                if !begun =>
            {
                changes.push(effect.clone());
            }
            _ => return Effect::Unknown,
        }
    }
    if !changes.is_empty() {
        // What begins after them may be rolled back with a later message.
        return if begun { Effect::Unknown } else { Effect::Several(changes) };
    }
    match (uses, local) {
        (true, _) => Effect::Uses,
        (false, true) => Effect::Local,
        (false, false) => Effect::None,
    }
}
