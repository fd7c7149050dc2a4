//! What is answered without a server: the beginning of a transaction, the end of an empty or a broken one, and statements
//! about prepared statements and settings, which are kept here.

use super::batch::{Reach, Seen, seen};
use super::{Context, Fed, Session, Tx};
use crate::config::{PoolMode, Target};
use crate::effects::{self, Effect};
use crate::statements;
use crate::wire::backend::{self, Status};
use crate::wire::error::code;
use crate::wire::frontend::Named;
use crate::wire::{HEADER, Malformed, Problem, frontend, header};

/// A simple query is collected up to this many bytes to see what it is; a longer one goes to the writer.
pub(super) const QUERY: usize = 1 << 20;

impl Session {
    /// Bytes of a client that has no server.
    pub(super) fn unleased(
        &mut self,
        input: &[u8],
        cx: &Context<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(usize, Fed), Malformed> {
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            if self.discard > 0 {
                let take = self.discard.min(rest.len());
                self.discard -= take;
                at += take;
                if self.discard > 0 {
                    return Ok((at, Fed::More));
                }
                continue;
            }
            let Some(head) = header(rest)? else { return Ok((at, Fed::More)) };
            let body = rest.get(HEADER..head.len);
            match head.tag {
                frontend::TERMINATE => return Ok((at, Fed::Goodbye)),
                frontend::QUERY => match body {
                    Some(body) => {
                        let sql = frontend::query(body)?;
                        let seen = seen(sql, cx);
                        if self.answered_here(sql, &seen, cx, out) {
                            at += head.len;
                            continue;
                        }
                        self.need_of(sql, seen);
                        return Ok((at, Fed::Need));
                    }
                    None if head.len <= QUERY => return Ok((at, Fed::More)),
                    None => {
                        self.batch.unknown();
                        return Ok((at, Fed::Need));
                    }
                },
                frontend::SYNC => {
                    self.skipping = false;
                    backend::put_ready(out, self.status);
                    at += head.len;
                }
                frontend::FLUSH => at += head.len,
                frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL => {
                    // What is left of a COPY that has failed.
                    self.discard = head.len;
                }
                _ if self.skipping && is_extended(head.tag) => self.discard = head.len,
                _ if self.tx == Tx::Broken && is_extended(head.tag) => {
                    match self.broken_extended(rest, out)? {
                        Some(used) => at += used,
                        None => return Ok((at, Fed::More)),
                    }
                }
                frontend::PARSE | frontend::CLOSE if self.prepared_here(rest, out)? > 0 => {
                    at += self.taken_here;
                }
                tag if is_extended(tag) => match self.scan(rest, cx)? {
                    Reach::Whole => return Ok((at, Fed::Need)),
                    Reach::Partial => return Ok((at, Fed::More)),
                },
                frontend::FUNCTION_CALL => {
                    self.batch.unknown();
                    return Ok((at, Fed::Need));
                }
                frontend::PASSWORD => return Err(Malformed("a password after the login")),
                _ => return Err(Malformed("a message that no client sends")),
            }
        }
    }

    /// Whether a simple query was answered here.
    fn answered_here(
        &mut self,
        sql: &[u8],
        seen: &Seen,
        cx: &Context<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        let Seen { effect, several: false, .. } = seen else { return false };
        if *effect == Effect::None && self.tx != Tx::Broken {
            return false;
        }
        let text = str::from_utf8(sql).unwrap_or_default();
        let idle = self.tx == Tx::AtServer && self.status == Status::Idle;
        let tag = match (effect, &self.tx) {
            (Effect::Commit | Effect::Rollback, Tx::Ahead { .. }) => {
                self.tx = Tx::AtServer;
                self.status = Status::Idle;
                if *effect == Effect::Commit { "COMMIT" } else { "ROLLBACK" }
            }
            (Effect::Commit, Tx::Broken) if self.owed.is_some() => {
                // Nobody has told the client yet that there is nothing to commit.
                self.tx = Tx::AtServer;
                self.status = Status::Idle;
                if let Some(problem) = self.owed.take() {
                    problem.put(out);
                }
                backend::put_ready(out, self.status);
                return true;
            }
            (Effect::Commit | Effect::Rollback, Tx::Broken) => {
                self.owed = None;
                self.tx = Tx::AtServer;
                self.status = Status::Idle;
                "ROLLBACK"
            }
            (_, Tx::Broken) => {
                self.owed.take().unwrap_or_else(broken).put(out);
                backend::put_ready(out, self.status);
                return true;
            }
            (Effect::Begin { .. }, _) if idle && cx.mode == PoolMode::Statement => {
                Problem::new(
                    code::NOT_SUPPORTED,
                    "transactions are not possible in statement mode",
                )
                .hint("connect to a database or as a user whose pool mode is transaction")
                .put(out);
                backend::put_ready(out, self.status);
                return true;
            }
            (Effect::Begin { read_only }, _) if idle && self.may_begin_ahead(cx) => {
                let read_only = *read_only && self.can_read_elsewhere(text);
                self.tx = Tx::Ahead { begin: sql.to_vec(), read_only };
                self.status = Status::Transaction;
                if is_start(text) { "START TRANSACTION" } else { "BEGIN" }
            }
            (Effect::Deallocate(name), _) if self.names.contains_key(name.as_bytes()) => {
                self.names.remove(name.as_bytes());
                "DEALLOCATE"
            }
            (Effect::DeallocateAll, _) if self.tx == Tx::AtServer => {
                self.names.clear();
                "DEALLOCATE ALL"
            }
            (Effect::DiscardAll, _) if idle => {
                self.names.clear();
                self.unnamed.known = false;
                self.settings = self.startup.clone();
                "DISCARD ALL"
            }
            (Effect::Discard, _) if idle => "DISCARD",
            (Effect::ResetAll, _) if idle => {
                self.settings = self.settings.after_reset_all(&self.startup);
                "RESET"
            }
            _ => return false,
        };
        self.queries += 1;
        backend::put_complete(out, tag);
        backend::put_ready(out, self.status);
        true
    }

    /// A batch that only prepares what servers are known to take, or closes: its length, if it was answered here. So a
    /// client never waits for a connection only to prepare what others have prepared before it.
    fn prepared_here(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Malformed> {
        self.taken_here = 0;
        let mut at = 0;
        let mut found = Vec::new();
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let Some(head) = header(rest)? else { return Ok(0) };
            let Some(body) = rest.get(HEADER..head.len) else { return Ok(0) };
            at += head.len;
            match head.tag {
                // The unnamed statement.
                frontend::PARSE if body.first() == Some(&0) => return Ok(0),
                frontend::PARSE => {
                    let parse = frontend::parse(body)?;
                    let known = found.iter().any(|(name, _): &(&[u8], _)| *name == parse.name);
                    if known || self.names.contains_key(parse.name) {
                        return Ok(0);
                    }
                    let statement = statements::intern(parse.query, parse.types);
                    if !statement.is_known_good() {
                        return Ok(0);
                    }
                    found.push((parse.name, Some(statement)));
                }
                frontend::CLOSE => match frontend::named(body)? {
                    Named::Statement(name) => found.push((name, None)),
                    Named::Portal(_) => return Ok(0),
                },
                frontend::SYNC => break,
                _ => return Ok(0),
            }
        }
        for (name, statement) in found {
            match statement {
                Some(statement) => {
                    self.names.insert(name.into(), statement);
                    self.prepared.client_parses += 1;
                    backend::put_empty(out, backend::PARSE_COMPLETE);
                }
                None => {
                    self.names.remove(name);
                    if name.is_empty() {
                        self.unnamed.known = false;
                    }
                    backend::put_empty(out, backend::CLOSE_COMPLETE);
                }
            }
        }
        backend::put_ready(out, self.status);
        self.taken_here = at;
        Ok(at)
    }

    /// Whether a transaction may begin here before it has a server: where it is certain that the server will take it.
    fn may_begin_ahead(&self, cx: &Context<'_>) -> bool {
        self.pinned().is_none() && matches!(cx.target, Target::Split | Target::Writer)
    }

    /// Whether a read-only transaction may run on a standby, which has no serializable ones.
    fn can_read_elsewhere(&self, text: &str) -> bool {
        let preset = |(name, _): &(Box<str>, Box<str>)| name.starts_with("default_transaction_");
        !text.to_ascii_lowercase().contains("serializable")
            && !self.settings.values.iter().any(preset)
    }

    /// Extended messages in a transaction that has failed without a server, up to `Sync`: only its end is carried out.
    fn broken_extended(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<usize>, Malformed> {
        let mut at = 0;
        let (mut ends, mut commits) = (false, false);
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let Some(head) = header(rest)? else { return Ok(None) };
            let Some(body) = rest.get(HEADER..head.len) else { return Ok(None) };
            match head.tag {
                frontend::PARSE => {
                    let (end, commit) = is_end(frontend::parse(body)?.query);
                    (ends, commits) = (ends | end, commits | commit);
                }
                frontend::BIND => {
                    let name = frontend::bind(body)?.statement;
                    let known = self.names.get(name).map(|known| is_end(&known.query));
                    let (end, commit) = known.unwrap_or_default();
                    (ends, commits) = (ends | end, commits | commit);
                }
                frontend::SYNC | frontend::FLUSH => break,
                _ => {}
            }
            at += head.len;
        }
        if commits && self.owed.is_some() {
            // The transaction is over, and the client is told that it was not committed.
            self.tx = Tx::AtServer;
            self.status = Status::Idle;
        }
        if !ends || commits && self.owed.is_some() {
            self.owed.take().unwrap_or_else(broken).put(out);
            self.skipping = true;
            return Ok(Some(at));
        }
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let Some(head) = header(rest)? else { return Ok(Some(at)) };
            match head.tag {
                frontend::PARSE => backend::put_empty(out, backend::PARSE_COMPLETE),
                frontend::BIND => backend::put_empty(out, backend::BIND_COMPLETE),
                frontend::DESCRIBE => backend::put_empty(out, backend::NO_DATA),
                frontend::CLOSE => backend::put_empty(out, backend::CLOSE_COMPLETE),
                frontend::EXECUTE => {
                    self.tx = Tx::AtServer;
                    self.status = Status::Idle;
                    backend::put_complete(out, "ROLLBACK");
                }
                _ => return Ok(Some(at)),
            }
            at += head.len;
        }
    }
}

fn broken() -> Problem {
    Problem::new(
        code::FAILED_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

/// Whether a text ends a transaction, and whether by committing it.
fn is_end(sql: &[u8]) -> (bool, bool) {
    let effect = str::from_utf8(sql).map(effects::effect);
    let commits = effect == Ok(Effect::Commit);
    (commits || effect == Ok(Effect::Rollback), commits)
}

fn is_start(text: &str) -> bool {
    let text = text.trim_start();
    text.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("start"))
}

/// Whether a message belongs to the extended protocol, `Sync` and `Flush` aside.
pub(super) const fn is_extended(tag: u8) -> bool {
    matches!(
        tag,
        frontend::PARSE | frontend::BIND | frontend::DESCRIBE | frontend::EXECUTE | frontend::CLOSE
    )
}
