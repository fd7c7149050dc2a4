use herdsman_node::{Lsn, SystemId, Timeline};

use super::SessionToken;

/// How far a reader has replayed, and on which branch of which cluster's history.
///
/// All of it must be of one moment: a position from before a node was rewound, joined with what was proven after, would
/// claim what the node no longer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Its cluster, where it may be asked.
    pub system_id: Option<SystemId>,
    /// The timeline it replays, by its own word, where it may be asked.
    ///
    /// A standby's control file names the timeline of its last checkpoint, which may be older than the one it replays.
    /// Older is safe here: it only sends reads elsewhere.
    pub timeline: Option<Timeline>,
    /// The timeline of the primary that the topology has proven this node to follow, where there is such proof.
    pub follows: Option<Timeline>,
    /// The position up to which it has replayed.
    pub lsn: Lsn,
}

/// How a reader stands to a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It has replayed everything the token stands for.
    Covered,
    /// Not yet; it may by waiting.
    NotYet,
    /// It belongs to another cluster, or does not say where it belongs: waiting is of no use.
    Never,
}

/// Whether the reader has replayed everything the token stands for.
#[must_use]
pub fn covers(reader: &Replayed, token: &SessionToken) -> bool {
    reach(reader, token) == Reach::Covered
}

/// How the reader stands to the token.
///
/// - Another cluster never covers it.
/// - The branch is the newer of the timeline the node names and the timeline it is proven to follow. With neither, it may
///   sit on a branch that was left, where the same position means something else: never covered.
/// - A node that does not say which cluster it belongs to is taken for one of ours only with proof: else never covered.
/// - An older branch than the token's does not cover it, however far it goes; on the same or a newer one the position
///   decides. On a newer one the write may have been lost by the promotion; then no node has it and none is better.
#[must_use]
pub fn reach(reader: &Replayed, token: &SessionToken) -> Reach {
    if reader.system_id.is_some_and(|id| id != token.system_id) {
        return Reach::Never;
    }
    let ours = reader.system_id.is_some() || reader.follows.is_some();
    match reader.timeline.max(reader.follows) {
        Some(branch) if ours => {
            let covered = branch >= token.timeline && reader.lsn >= token.lsn;
            if covered { Reach::Covered } else { Reach::NotYet }
        }
        _ => Reach::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: SessionToken =
        SessionToken { system_id: SystemId(7), timeline: Timeline(3), lsn: Lsn(100) };

    fn reader(system: Option<u64>, timeline: Option<u32>, follows: Option<u32>) -> Replayed {
        Replayed {
            system_id: system.map(SystemId),
            timeline: timeline.map(Timeline),
            follows: follows.map(Timeline),
            lsn: Lsn(100),
        }
    }

    #[test]
    fn the_branch_decides_whether_a_position_counts() {
        use Reach::{Covered, Never, NotYet};
        let cases = [
            // system, its own timeline, the proven one
            (Some(7), Some(3), None, Covered),
            (Some(7), Some(4), None, Covered),
            (Some(7), Some(2), None, NotYet),
            (Some(7), None, None, Never),
            (Some(7), None, Some(3), Covered),
            (Some(7), None, Some(4), Covered),
            (Some(7), None, Some(2), NotYet),
            (Some(7), Some(2), Some(3), Covered),
            (Some(7), Some(3), Some(2), Covered),
            (None, Some(3), None, Never),
            (None, Some(3), Some(3), Covered),
            (None, None, Some(3), Covered),
            (None, None, Some(2), NotYet),
            (None, None, None, Never),
            (Some(8), Some(3), None, Never),
            (Some(8), Some(9), Some(9), Never),
            (Some(8), None, None, Never),
        ];
        for (system, timeline, follows, expected) in cases {
            let reader = reader(system, timeline, follows);
            assert_eq!(reach(&reader, &TOKEN), expected, "{reader:?}");
            assert_eq!(covers(&reader, &TOKEN), expected == Covered, "{reader:?}");
        }
    }

    #[test]
    fn on_the_right_branch_the_position_must_be_reached() {
        for (lsn, expected) in
            [(0, Reach::NotYet), (99, Reach::NotYet), (100, Reach::Covered), (101, Reach::Covered)]
        {
            for timeline in [3, 4] {
                let reader = Replayed { lsn: Lsn(lsn), ..reader(Some(7), Some(timeline), None) };
                assert_eq!(reach(&reader, &TOKEN), expected, "{reader:?}");
            }
        }
    }

    #[test]
    fn a_position_far_ahead_on_a_branch_that_was_left_counts_for_nothing() {
        let stale = Replayed { lsn: Lsn(u64::MAX), ..reader(Some(7), Some(2), Some(2)) };
        assert_eq!(reach(&stale, &TOKEN), Reach::NotYet);
    }
}
