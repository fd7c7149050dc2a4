//! Versions that PostgreSQL keeps itself (`mode: untouched`): what a row's version is, when one may be applied, and when what
//! the server has forgotten does not matter. Pure.
//!
//! A version is the commit time of the transaction that wrote the row, and the node it was written on. The rule is the same
//! as everywhere: the greater one wins. Nothing raises these times above what a writer has seen, as a hybrid clock would:
//! so a version is applied only once the member's own clock is past it ([`wait`]), and whoever then overwrites it is later.

use crate::stamp::Stamp;

/// How far clocks may be apart: a version that is further ahead of a member's clock is not waited for but refused.
pub const SKEW: i64 = 60_000_000;

/// A version as a member holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its commit time and node; `None` where the server has forgotten them, or never knew.
    pub stamp: Option<Stamp>,
    /// Whether a transaction of the member itself wrote it, and not one that applied it.
    pub local: bool,
}

/// Whether a held row gives way to an arriving version of its key.
///
/// Of two transactions of one node and one microsecond the one that comes later in that node's log is the later: all of a
/// node's changes come in that order everywhere. What a member wrote itself never gives way to what comes back to it from
/// its own log: it is that, or later.
///
/// ```
/// use herdsman_mesh::resolve::untouched::{Held, gives_way};
/// use herdsman_mesh::{NodeId, Stamp};
/// let (here, there) = (NodeId(1), NodeId(2));
/// let held = |micros, node| Held { stamp: Some(Stamp::new(micros, node)), local: node == here };
/// assert!(gives_way(held(7, here), Stamp::new(7, there), here));
/// assert!(gives_way(held(7, there), Stamp::new(7, there), here));
/// assert!(!gives_way(held(7, here), Stamp::new(7, here), here));
/// ```
#[must_use]
pub fn gives_way(held: Held, arriving: crate::Stamp, own: crate::NodeId) -> bool {
    let known = held.stamp.unwrap_or(Stamp::new(0, own));
    known <= arriving && (arriving.node != own || !held.local)
}

/// What is done about a version that is to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The clock is past it.
    Go,
    /// It is not, and will be in so many microseconds.
    For(i64),
    /// It is so far ahead that one of the clocks is wrong: by so many microseconds.
    Refuse(i64),
}

/// Whether a version may be applied where the clock says `now`.
///
/// ```
/// use herdsman_mesh::resolve::untouched::{SKEW, Wait, wait};
/// assert_eq!(wait(101, 100), Wait::Go);
/// assert_eq!(wait(100, 100), Wait::For(1));
/// assert_eq!(wait(0, SKEW + 1), Wait::Refuse(SKEW + 1));
/// ```
#[must_use]
pub const fn wait(now: i64, version: i64) -> Wait {
    match version.saturating_sub(now) {
        ahead if ahead < 0 => Wait::Go,
        ahead if ahead > SKEW => Wait::Refuse(ahead),
        ahead => Wait::For(ahead + 1),
    }
}

/// A transaction of the mesh's own, remembered so as to tell what the server has forgotten: it forgets the commit times of
/// all transactions below a number at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its number.
    pub xid: i64,
    /// When it was, in microseconds since 1970.
    pub at: i64,
    /// Every transaction below this number had ended by then.
    pub horizon: i64,
    /// Whether it is the member's first: whatever is older than it was there before the mesh.
    pub base: bool,
}

/// The transaction whose commit time the server must still know for every forgotten row to be older than `version`: then it
/// gives way, whatever its time was. `None` where there is none that says so. `samples` are those it still knew lately, in
/// the order of their numbers.
///
/// What is forgotten is of a transaction before the first that is known. If all before that one had ended by some time, it
/// is not later than that time; and rows from before the mesh have no version at all.
#[must_use]
pub fn witness(samples: &[Sample], version: i64) -> Option<i64> {
    if let Some(base) = samples.iter().find(|sample| sample.base) {
        return Some(base.xid);
    }
    let by_then = samples.iter().rfind(|sample| sample.at < version)?;
    let known = samples.iter().rfind(|sample| sample.xid <= by_then.horizon)?;
    Some(known.xid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(xid: i64, at: i64, horizon: i64) -> Sample {
        Sample { xid, at, horizon, base: false }
    }

    #[test]
    fn what_is_forgotten_gives_way_only_to_what_is_certainly_later() {
        let samples = [sample(100, 1000, 90), sample(200, 2000, 150), sample(300, 3000, 300)];
        // All before 100 had ended by 2000, and all before 300 by 3000.
        assert_eq!(witness(&samples, 3001), Some(300));
        assert_eq!(witness(&samples, 2001), Some(100));
        assert_eq!(witness(&samples, 2000), None);
        assert_eq!(witness(&[], 5), None);
        let first = Sample { base: true, ..sample(50, 500, 50) };
        assert_eq!(witness(&[first, samples[0]], 1), Some(50));
    }
}
