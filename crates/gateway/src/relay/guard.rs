//! The check that travels with writes (`write_guard`): what is known when a batch goes out.

use std::sync::Arc;

use tokio::time::Instant;

use crate::herd::{self, DEADLINE_SQL, FOLLOWERS_SQL, GuardValue, Herd};
use crate::session::Guard;

/// The types `int8` and `int8[]`.
const INT8: i32 = 20;
const INT8_ARRAY: i32 = 1016;

/// One check, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Check(Arc<herd::Guard>);

/// When checks have failed, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failures {
    pub(super) first: Instant,
    pub(super) last: Instant,
}

impl Check {
    /// What is to be checked on `node` now, if that is known.
    pub(super) fn now(herd: &Herd, node: usize) -> Option<Self> {
        herd.guard(node).map(Self)
    }

    /// Whether it is by a newer look than what has failed.
    pub(super) fn is_news(&self, failures: Option<Failures>) -> bool {
        failures.is_none_or(|failures| self.0.began > failures.last)
    }

    pub(super) fn guard(&self) -> Guard<'_> {
        let (sql, oid) = match self.0.value {
            GuardValue::Deadline(_) => (DEADLINE_SQL, INT8),
            GuardValue::Followers { .. } => (FOLLOWERS_SQL, INT8_ARRAY),
        };
        Guard { sql, oid, value: &self.0.text }
    }
}
