//! A check that travels inside a write's own transaction, ahead of what would commit it (`write_guard`).
//!
//! It is sent as `Bind` and `Execute` without a `Sync` of its own, so that it and what follows are one transaction for the
//! server: where it fails, the server skips what follows, and nothing was done.

use herdsman::policy::Want;

use super::expect::Expect;
use super::{Context, Held, Outputs, Session};
use crate::wire::backend::Status;
use crate::wire::{frontend, message};

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

impl Session {
    /// Sends the check ahead of a batch that commits by itself, if it may write.
    pub(super) fn guard_batch(
        &mut self,
        sql: Option<&[u8]>,
        held: &mut Held<'_>,
        cx: &Context<'_>,
        out: &mut Outputs,
    ) -> bool {
        let writes = self.status == Status::Idle && self.batch.needs.want == Want::Write;
        let alone = sql.is_some_and(runs_alone);
        if !writes || alone || self.unsynced {
            return false;
        }
        let sent = self.guard_now(held, cx, out);
        self.guarded |= sent;
        sent
    }

    /// Sends the check ahead of a commit.
    pub(super) fn guard_now(
        &mut self,
        held: &mut Held<'_>,
        cx: &Context<'_>,
        out: &mut Outputs,
    ) -> bool {
        let Some(guard) = &cx.guard else { return false };
        if self.status == Status::Failed {
            return false;
        }
        if !held.statements.touch(ID) {
            self.make_room(ID, cx.prepared.max(2), held, out);
            let mut types = [0, 1, 0, 0, 0, 0];
            if let Some(place) = types.get_mut(2..) {
                place.copy_from_slice(&guard.oid.to_be_bytes());
            }
            frontend::put_parse(&mut out.to_server, NAME, guard.sql.as_bytes(), &types);
            self.expects.push(Expect::Parse { shown: false, id: ID });
        }
        message(&mut out.to_server, frontend::BIND, |out| {
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
        message(&mut out.to_server, frontend::EXECUTE, |out| out.extend_from_slice(&[0, 0, 0, 0, 0]));
        self.expects.push(Expect::Guard);
        true
    }
}

/// Whether a statement refuses to run in a transaction with something else, which a check would be.
fn runs_alone(sql: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(sql) else { return false };
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| !w.is_empty());
    let first = words.next().unwrap_or_default().to_ascii_lowercase();
    match first.as_str() {
        "vacuum" | "cluster" | "reindex" | "checkpoint" => true,
        "create" | "drop" | "alter" | "refresh" => words.take(4).any(|word| {
            ["database", "tablespace", "system", "subscription", "concurrently"]
                .iter()
                .any(|alone| word.eq_ignore_ascii_case(alone))
        }),
        _ => false,
    }
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
        ] {
            assert!(runs_alone(sql.as_bytes()), "{sql}");
        }
        for sql in ["insert into t values (1)", "create table database_x (a int)", "drop table t"] {
            assert!(!runs_alone(sql.as_bytes()), "{sql}");
        }
    }
}
