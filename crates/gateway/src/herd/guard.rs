//! What travels with a write so that not even a primary that was left can acknowledge it (`write_guard`). Pure.

use std::time::Duration;

use herdsman_node::Role;
use herdsman_watch::{Moment, Topology};

use super::GuardValue;

/// Fails with 22012 (division by zero) where the server's clock has passed `$1`: microseconds since 2000-01-01 UTC.
///
/// Every name is qualified: the client's `search_path` must not be able to change what it means.
pub(crate) const DEADLINE_SQL: &str = "SELECT 1 OPERATOR(pg_catalog./) (pg_catalog.clock_timestamp() \
     OPERATOR(pg_catalog.<) (pg_catalog.timestamptz '2000-01-01 00:00:00+00' OPERATOR(pg_catalog.+) \
     ($1::pg_catalog.int8 OPERATOR(pg_catalog.*) interval '1 microsecond')))::pg_catalog.int4";

/// Fails with 22012 where the server's clock has passed the first of `$1`, or its WAL senders are not exactly those with the
/// process ids that follow it, sorted. The parameter stands in it once: ahead of a simple query its text takes that place.
pub(crate) const FOLLOWERS_SQL: &str = "SELECT 1 OPERATOR(pg_catalog./) (COALESCE((SELECT \
     pg_catalog.array_agg(s.pid::pg_catalog.int8 ORDER BY s.pid) FROM pg_catalog.pg_stat_get_wal_senders() s), \
     '{}'::pg_catalog.int8[]) OPERATOR(pg_catalog.=) w.v[2:] AND pg_catalog.clock_timestamp() \
     OPERATOR(pg_catalog.<) (pg_catalog.timestamptz '2000-01-01 00:00:00+00' OPERATOR(pg_catalog.+) \
     (w.v[1] OPERATOR(pg_catalog.*) interval '1 microsecond')))::pg_catalog.int4 \
     FROM (SELECT $1::pg_catalog.int8[]) w (v)";

/// The WAL senders a primary is expected to have.
///
/// A sender that comes is taken in at once. One that goes may have gone because its standby is being promoted, about a
/// tenth of a second before there is a second primary; so the expectation is lowered only after every other node has been
/// looked at anew, and each follows some node, or is down, or has long been left behind. Until then nothing is told, and the guard refuses writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Followers {
    expected: Vec<i32>,
    /// `expected` has been confirmed: it may be told.
    trusted: bool,
    /// Those of them that were not there, and since when that waits to be confirmed.
    missing: Option<(Vec<i32>, Loss)>,
}

/// When something was found missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) at: Moment,
    /// The topology's version then.
    pub(super) version: u64,
}

impl Followers {
    /// Takes in the senders found, sorted, by a look that ended at `now`.
    pub(super) fn look(&mut self, found: &[i32], now: Loss, confirmed: impl FnOnce(Loss) -> bool) {
        let gone: Vec<i32> =
            self.expected.iter().filter(|pid| !found.contains(pid)).copied().collect();
        if self.trusted && gone.is_empty() {
            self.missing = None;
            self.expected = found.to_vec();
            return;
        }
        let since = match &self.missing {
            // No more than what is missing already.
            Some((known, since)) if gone.iter().all(|pid| known.contains(pid)) => *since,
            _ => now,
        };
        if since != now && confirmed(since) {
            *self = Self { expected: found.to_vec(), trusted: true, missing: None };
        } else if self.trusted {
            self.missing = Some((gone, since));
        } else {
            // Nobody relies on it yet: what is there now is what is to be confirmed.
            *self = Self {
                expected: found.to_vec(),
                trusted: false,
                missing: Some((Vec::new(), since)),
            };
        }
    }

    /// What is expected; while one of them is missing, nobody knows, and the last one told goes on being refused.
    pub(super) fn value(&self) -> Option<Vec<i32>> {
        let known = self.trusted && self.missing.is_none();
        known.then(|| self.expected.clone())
    }
}

/// A standby that answers and has followed nobody for so long is broken, and not being promoted.
const GRACE: Duration = Duration::from_secs(5);

/// Whether every node has been looked at since `loss`, and `primary` is still the only one that claims to be it.
pub(super) fn confirms(topology: &Topology, primary: &str, loss: Loss) -> bool {
    let still = topology.primary().is_some_and(|name| name.as_str() == primary);
    still
        && topology.version > loss.version
        && topology.nodes.iter().all(|(name, view)| {
            let anew = view.evidence_at.is_some_and(|at| at > loss.at);
            if name.as_str() == primary {
                return anew;
            }
            // One that follows nobody may be about to be promoted.
            let settled = view.follows.is_some()
                || view.evidence_at.is_some_and(|at| at.since(loss.at) > GRACE);
            (anew && view.role == Role::Standby && settled)
                || view.error.is_some()
                || view.fenced
                || view.foreign
        })
}

/// The parameter of its check.
pub(super) fn text(value: &GuardValue) -> String {
    match value {
        GuardValue::Deadline(until) => until.to_string(),
        GuardValue::Followers { until, pids } => {
            let pids: String = pids.iter().map(|pid| format!(",{pid}")).collect();
            format!("{{{until}{pids}}}")
        }
    }
}

/// The deadline of a look that found the server's clock at `clock`.
pub(super) fn deadline(clock: i64, lease: Duration) -> i64 {
    let lease = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
    clock.saturating_add(lease)
}
