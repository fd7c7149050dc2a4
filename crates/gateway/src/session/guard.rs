//! A check that travels inside a write's own transaction, ahead of what would commit it (`write_guard`).
//!
//! It is sent as `Bind` and `Execute` without a `Sync` of its own, so that it and what follows are one transaction for the
//! server: where it fails, the server skips what follows, and nothing was done.

use herdsman::classify::{TokenKind, Tokens};
use herdsman::policy::Want;

use super::batch::{Reach, seen};
use super::expect::Expect;
use super::fromclient::Leased;
use super::local::{QUERY, is_extended};
use super::{Context, Fed, Session};
use crate::wire::backend::Status;
use crate::wire::{HEADER, Header, Malformed, frontend, header, message};

/// How a check fails: it divides by zero.
pub(super) const REFUSED: &[u8] = b"22012";
/// The server does not know it any more.
pub(super) const FORGOTTEN: &[u8] = b"26000";

/// What is checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard<'a> {
    /// The check, with one parameter; it fails with `22012`.
    pub(crate) sql: &'static str,
    /// The parameter's type.
    pub(crate) oid: i32,
    /// The parameter, as text.
    pub(crate) value: &'a str,
}

/// The check's name on servers, and what stands for it among the statements there.
const NAME: &[u8] = b"hm_guard";
const ID: u64 = u64::MAX;

/// Whether a check is due with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    No,
    Yes,
    /// And the batch is long: an answer before its end is wanted.
    Flushed,
}

impl Session {
    /// Before a batch on a connection that writes: whether a check is due with it, and what it has to wait for.
    ///
    /// With a check, batches go out one by one: what one comes to decides what is to be checked with the next, and one that
    /// is sent again must be the only one.
    pub(super) fn look_ahead(
        &mut self,
        head: Header,
        rest: &[u8],
        cx: &Context<'_>,
    ) -> Result<Option<Fed>, Malformed> {
        let simple = matches!(head.tag, frontend::QUERY | frontend::FUNCTION_CALL);
        let begins = (simple || is_extended(head.tag)) && !self.unsynced;
        if cx.guard.is_none() || !begins || self.skipping || self.copying {
            return Ok(None);
        }
        if !self.expects.is_empty() {
            return Ok(Some(Fed::Wait));
        }
        self.check = Due::No;
        if self.status != Status::Idle {
            return Ok(None);
        }
        if !self.fresh {
            // On a connection that the client keeps, nobody has looked.
            match (head.tag, rest.get(HEADER..head.len)) {
                (frontend::QUERY, Some(body)) => {
                    let sql = frontend::query(body)?;
                    self.need_of(sql, seen(sql, cx));
                }
                (frontend::QUERY, None) if head.len <= QUERY => return Ok(Some(Fed::More)),
                (frontend::QUERY | frontend::FUNCTION_CALL, _) => self.batch.unknown(),
                _ => {
                    if self.scan(rest, cx)? == Reach::Partial {
                        return Ok(Some(Fed::More));
                    }
                }
            }
        }
        if self.batch.needs.want == Want::Write {
            self.check = self.check_due(rest)?;
        }
        Ok(None)
    }

    /// Whether a check is due with the batch of writes that begins here.
    fn check_due(&self, input: &[u8]) -> Result<Due, Malformed> {
        let (mut at, mut runs, mut unnamed) = (0, false, self.unnamed.query());
        while let Some(rest) = input.get(at..)
            && let Some(head) = header(rest)?
        {
            at += head.len;
            let Some(body) = rest.get(HEADER..head.len) else {
                return Ok(Due::Flushed);
            };
            let text = match head.tag {
                frontend::QUERY => {
                    let sql = frontend::query(body)?;
                    // What is empty is answered as such only where it is alone.
                    let alone = is_empty(sql) || runs_alone(sql);
                    return Ok(if alone { Due::No } else { Due::Yes });
                }
                // Nothing goes with it.
                frontend::FUNCTION_CALL => return Ok(Due::No),
                frontend::PARSE => {
                    let parse = frontend::parse(body)?;
                    if parse.name.is_empty() {
                        unnamed = parse.query;
                    }
                    parse.query
                }
                frontend::BIND => {
                    runs = true;
                    let name = frontend::bind(body)?.statement;
                    self.names.get(name).map_or(unnamed, |known| &known.query)
                }
                frontend::SYNC | frontend::FLUSH => {
                    return Ok(if runs { Due::Yes } else { Due::No });
                }
                _ => continue,
            };
            if runs_alone(text) {
                return Ok(Due::No);
            }
        }
        Ok(Due::Flushed)
    }

    /// Sends the check ahead of a batch that commits by itself, if it is due.
    pub(super) fn guard_batch(&mut self, lease: &mut Leased<'_>) -> bool {
        let due = self.check;
        if due == Due::No || self.unsynced || self.status != Status::Idle {
            return false;
        }
        let sent = self.guard_now(lease);
        if sent && due == Due::Flushed {
            message(&mut lease.out.to_server, frontend::FLUSH, |_| {});
        }
        self.guarded |= sent;
        sent
    }

    /// Sends the check ahead of what ends a transaction, if this text may.
    pub(super) fn guard_commit(&mut self, sql: &[u8], lease: &mut Leased<'_>) -> bool {
        lease.cx.guard.is_some() && may_commit(sql) && self.guard_now(lease)
    }

    /// Sends it ahead of a `Sync` that commits what was sent before, with an older check or none.
    pub(super) fn guard_late(&mut self, lease: &mut Leased<'_>) {
        let commits = self.status == Status::Idle && self.unsynced && self.check != Due::No;
        // While the server takes COPY data, it takes nothing else.
        if commits && !self.checked && !self.copying && !self.skipping {
            self.guard_now(lease);
        }
    }

    /// Sends the head of a simple query, with the check within its text where one is due: `ends` says that the text may end a
    /// transaction.
    ///
    /// As a message of its own, ahead of the query, it would have PostgreSQL 18 answer the query before it commits.
    pub(super) fn put_text(
        &mut self,
        head: Header,
        ends: bool,
        lease: &mut Leased<'_>,
    ) -> Result<(), Malformed> {
        let due = match self.status {
            Status::Idle => self.check != Due::No,
            Status::Transaction => ends,
            Status::Failed => false,
        };
        lease.out.to_server.push(head.tag);
        let at = lease.out.to_server.len();
        lease.out.to_server.extend_from_slice(&[0; 4]);
        if let Some(guard) = lease.cx.guard.filter(|_| due) {
            let (before, after) = guard.sql.split_once("$1").unwrap_or((guard.sql, ""));
            for part in [before, "'", guard.value, "'", after, ";"] {
                lease.out.to_server.extend_from_slice(part.as_bytes());
            }
            self.expects.push(Expect::Guard);
            self.guarded |= self.status == Status::Idle;
            self.checked = true;
            self.prefix = lease.out.to_server.len() - at - 4;
        }
        let len = i32::try_from(head.len - 1 + self.prefix)
            .map_err(|_| Malformed("it is longer than a message can be"))?;
        if let Some(place) = lease.out.to_server.get_mut(at..at + 4) {
            place.copy_from_slice(&len.to_be_bytes());
        }
        Ok(())
    }

    /// Sends the check.
    pub(super) fn guard_now(&mut self, lease: &mut Leased<'_>) -> bool {
        let Some(guard) = &lease.cx.guard else { return false };
        if self.status == Status::Failed {
            return false;
        }
        if !lease.held.statements.touch(ID) {
            self.make_room(ID, lease.cx.prepared.max(2), lease);
            let mut types = [0, 1, 0, 0, 0, 0];
            if let Some(place) = types.get_mut(2..) {
                place.copy_from_slice(&guard.oid.to_be_bytes());
            }
            frontend::put_parse(&mut lease.out.to_server, NAME, guard.sql.as_bytes(), &types);
            self.expects.push(Expect::Parse { shown: false, id: ID });
        }
        message(&mut lease.out.to_server, frontend::BIND, |out| {
            out.push(0);
            out.extend_from_slice(NAME);
            out.push(0);
            // Every parameter is text, and there is one.
            out.extend_from_slice(&[0, 0, 0, 1]);
            out.extend_from_slice(&i32::try_from(guard.value.len()).unwrap_or(0).to_be_bytes());
            out.extend_from_slice(guard.value.as_bytes());
            out.extend_from_slice(&[0, 0]);
        });
        self.expects.push(Expect::Bind { shown: false });
        message(&mut lease.out.to_server, frontend::EXECUTE, |out| {
            out.extend_from_slice(&[0, 0, 0, 0, 0]);
        });
        self.expects.push(Expect::Guard);
        self.checked = true;
        true
    }
}

/// Whether a text refuses to run in a transaction with something else, which a check would be.
fn runs_alone(sql: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(sql) else { return false };
    let mut first = Tokens::of(text).take_while(|token| token.kind != TokenKind::Semicolon);
    let mut next = || first.next().map_or("", |token| token.text);
    let is = |word: &str, any: &[&str]| any.iter().any(|known| word.eq_ignore_ascii_case(known));
    let (verb, object) = (next(), next());
    let mut later = |word: &str| is(object, &[word]) || first.any(|token| token.is(word));
    match verb.to_ascii_lowercase().as_str() {
        "vacuum" | "cluster" | "reindex" => true,
        // They may commit by themselves, or be refused outside of a transaction.
        "call" | "do" | "lock" | "declare" | "savepoint" | "release" => true,
        "discard" => is(object, &["all"]),
        "commit" | "rollback" => is(object, &["prepared"]),
        // An isolation level has to come before the first snapshot, which would be the check's.
        "begin" | "start" => later("isolation"),
        "create" | "drop" | "alter" => {
            is(object, &["database", "tablespace", "system", "subscription"])
                || later("concurrently")
        }
        _ => false,
    }
}

fn is_empty(sql: &[u8]) -> bool {
    str::from_utf8(sql).is_ok_and(|text| Tokens::of(text).all(|t| t.kind == TokenKind::Semicolon))
}

/// Whether a text may end the transaction that it is in.
pub(super) fn may_commit(sql: &[u8]) -> bool {
    sql.split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').any(|word| {
        [&b"commit"[..], b"end", b"prepare"].iter().any(|known| word.eq_ignore_ascii_case(known))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_need_a_transaction_of_their_own_are_known() {
        for sql in [
            "VACUUM t",
            "create database x",
            "CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)",
            "alter system set work_mem = 1",
            "reindex table t",
            "/* all */ vacuum",
            "alter table a detach partition b concurrently",
            "discard all",
            "commit prepared 'x'",
            "begin isolation level serializable; select 1; commit",
            "start transaction read write, isolation level repeatable read",
        ] {
            assert!(runs_alone(sql.as_bytes()), "{sql}");
        }
        for sql in [
            "insert into t values (1)",
            "create table database_x (a int)",
            "drop table t",
            "alter table t alter column database type int",
            "begin; insert into t values ('isolation'); commit",
            "checkpoint",
        ] {
            assert!(!runs_alone(sql.as_bytes()), "{sql}");
        }
    }
}
