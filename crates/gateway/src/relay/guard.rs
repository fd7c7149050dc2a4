//! The check that travels with writes (`write_guard`): what is known when a batch goes out.

use crate::herd::{DEADLINE_SQL, FOLLOWERS_SQL, GuardValue, Herd};
use crate::session::Guard;

/// The types `int8` and `int4[]`.
const INT8: i32 = 20;
const INT4_ARRAY: i32 = 1007;

/// One check, ready to be sent.
#[derive(Debug)]
pub(super) struct Check {
    sql: &'static str,
    oid: i32,
    value: String,
}

impl Check {
    /// What is to be checked on `node` now, if that is known.
    pub(super) fn now(herd: &Herd, node: usize) -> Option<Self> {
        Some(match herd.guard(node)? {
            GuardValue::Deadline(until) => {
                Self { sql: DEADLINE_SQL, oid: INT8, value: until.to_string() }
            }
            GuardValue::Followers(pids) => {
                let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
                let value = format!("{{{}}}", pids.join(","));
                Self { sql: FOLLOWERS_SQL, oid: INT4_ARRAY, value }
            }
        })
    }

    pub(super) fn guard(&self) -> Guard<'_> {
        Guard { sql: self.sql, oid: self.oid, value: &self.value }
    }
}
