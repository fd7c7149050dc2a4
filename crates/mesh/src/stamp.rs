//! When and where a version of a row was written.

use std::fmt;

/// A member of the mesh: small, given once, never given again.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct NodeId(pub i16);

/// When and on which node a version was written. Totally ordered: the later one wins, and of two of the same
/// microsecond the one of the greater node.
///
/// The time is a hybrid logical clock's (Kulkarni et al., 2014): microseconds since 1970 by the node's own clock, but
/// always above every stamp the node has seen, so that what was written knowing another version is later than it.
///
/// ```
/// use herdsman_mesh::{NodeId, Stamp};
/// let (here, there) = (Stamp::new(5, NodeId(1)), Stamp::new(5, NodeId(2)));
/// assert!(here < there && there < Stamp::new(6, NodeId(1)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Stamp {
    /// Microseconds since 1970-01-01 UTC; 0 for rows that were there before the mesh.
    pub micros: i64,
    /// Where.
    pub node: NodeId,
}

impl Stamp {
    /// Below every stamp: what a version replaced that replaced nothing.
    pub const NONE: Self = Self { micros: i64::MIN, node: NodeId(i16::MIN) };

    /// A stamp of these parts.
    #[must_use]
    pub const fn new(micros: i64, node: NodeId) -> Self {
        Self { micros, node }
    }
}

/// The time of a new version on a node: its clock's, but above the floor (the greatest time the node has seen) and above
/// the version it replaces. Returns the time and the floor afterwards.
///
/// While the clock is behind the floor, every version moves the floor. Otherwise two versions in a row could get the
/// same time, and a row that is changed, deleted and inserted again would end below its own tombstone.
///
/// ```
/// use herdsman_mesh::{NodeId, Stamp, next_time};
/// assert_eq!(next_time(100, 90, None), (100, 90));
/// assert_eq!(next_time(100, 120, None), (121, 121));
/// assert_eq!(next_time(100, 90, Some(Stamp::new(100, NodeId(7)))), (101, 90));
/// ```
#[must_use]
pub fn next_time(clock: i64, floor: i64, replaced: Option<Stamp>) -> (i64, i64) {
    let (time, floor) = if clock > floor {
        (clock, floor)
    } else {
        (floor.saturating_add(1), floor.saturating_add(1))
    };
    (replaced.map_or(time, |old| time.max(old.micros.saturating_add(1))), floor)
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.micros, self.node)
    }
}
