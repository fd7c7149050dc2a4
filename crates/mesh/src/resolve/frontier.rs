//! Which tombstones nobody needs any more.
//!
//! A tombstone stands in the way of older versions of its key that come late. Every member tells, in its own stream, up
//! to which time everything it has stamped was in the stream before ([`crate::apply::Progress::heartbeat`]). What lies
//! below the least of these times over all members and all their streams, their own among them, has come everywhere, and
//! nothing older can come any more. Four things keep that true:
//!
//! - The own stream counts: an insertion that was stamped and not yet visible is joined by it.
//! - A joining member is among the members before its first slot is made, and holds everything back until it has applied
//!   a sign of life of each of the others: what its slots will send must not be older than what its copy lacks.
//! - A lost member stays among them until what only some had received from it has been spread.
//! - A clock that steps back makes a sign of life promise too much, by as much as it steps; hence a margin.

use std::collections::{BTreeMap, BTreeSet};

use crate::stamp::NodeId;

/// How far below the frontier tombstones are kept all the same: more than any clock steps back. In microseconds.
pub const MARGIN: i64 = 3600 * 1_000_000;

/// The time below which tombstones may go, by the last sign of life that each member has applied of each: `None` while
/// one is missing. Members are all that receive changes or whose changes may still come: joining, active, leaving, and
/// lost ones until they are healed.
///
/// ```
/// use std::collections::BTreeMap;
/// use herdsman_mesh::NodeId;
/// use herdsman_mesh::resolve::frontier;
/// let (one, two) = (NodeId(1), NodeId(2));
/// let applied = BTreeMap::from([((one, one), 9), ((one, two), 7), ((two, one), 8), ((two, two), 9)]);
/// assert_eq!(frontier::frontier(&[one, two], &applied, 1), Some(6));
/// assert_eq!(frontier::frontier(&[one, two, NodeId(3)], &applied, 1), None);
/// ```
#[must_use]
pub fn frontier(
    members: &[NodeId],
    applied: &BTreeMap<(NodeId, NodeId), i64>,
    margin: i64,
) -> Option<i64> {
    let members: BTreeSet<_> = members.iter().collect();
    let mut least = None;
    for target in &members {
        for source in &members {
            let heartbeat = *applied.get(&(**target, **source))?;
            least = Some(least.map_or(heartbeat, |least: i64| least.min(heartbeat)));
        }
    }
    least.map(|least| least.saturating_sub(margin))
}
