//! Where to go on reading after a break, on whatever server is there now. Pure.

use herdsman_node::{Lsn, SystemId, Timeline};
use herdsman_wal::slot::{Slot, StartFrom, may_start};
use herdsman_wal::{Identity, WalError};

/// How far the stream had come, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) system_id: SystemId,
    pub(super) timeline: Timeline,
    /// Everything up to here has been handled.
    pub(super) handled: Lsn,
    /// Nothing after this has been given to any sink; at least `handled`.
    pub(super) given: Lsn,
}

/// The server that is there now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Here<'a> {
    pub(super) endpoint: &'a str,
    pub(super) identity: &'a Identity,
    /// What `TIMELINE_HISTORY` says: each earlier timeline, and where it was left.
    pub(super) history: &'a [(Timeline, Lsn)],
    pub(super) slot: Option<&'a Slot>,
    pub(super) slot_name: &'a str,
}

/// Going on would leave out changes, or has delivered what never happened.
#[derive(Debug, thiserror::Error)]
pub enum Gap {
    /// The slot is not there, or not what it was.
    #[error("{source}{}", .handled.map(|lsn| format!("; everything up to {lsn} had been delivered, and what was committed after it may be missing")).unwrap_or_default())]
    Slot {
        /// What is wrong with it.
        source: Box<WalError>,
        /// Up to where everything had been delivered, where that is known.
        handled: Option<Lsn>,
    },
    /// A promotion took back what had been delivered.
    #[error(
        "{endpoint} is on timeline {now}, which left timeline {then} at {left}, but changes up to {given} had been delivered: those between {left} and {given} never happened for the new primary; compare the targets with it, take a snapshot (`on_lost_slot: resnapshot`), and set `synchronized_standby_slots` (PostgreSQL 17) so that this cannot happen"
    )]
    Undone {
        /// `host:port`.
        endpoint: String,
        /// The timeline that is read now.
        now: Timeline,
        /// The one that was read before.
        then: Timeline,
        /// Where the new one left it.
        left: Lsn,
        /// Up to where changes had been delivered.
        given: Lsn,
    },
    /// The server's history does not contain what was read before.
    #[error(
        "{endpoint} is on timeline {now} and its history has no timeline {then}, which was read before: it is another branch of the cluster; point the stream at the right server, or take a snapshot (`on_lost_slot: resnapshot`)"
    )]
    OtherBranch {
        /// `host:port`.
        endpoint: String,
        /// The timeline that is read now.
        now: Timeline,
        /// The one that was read before.
        then: Timeline,
    },
}

/// Where to begin, or what would be missing.
///
/// # Errors
/// [`Outcome::Wrong`] where waiting or a person helps; [`Outcome::Gap`] where only a snapshot does.
pub(super) fn resume(reached: Option<Reached>, here: Here<'_>) -> Result<StartFrom, Outcome> {
    let Here { endpoint, identity, .. } = here;
    if let Some(reached) = reached {
        if reached.system_id != identity.system_id {
            return Err(Outcome::Wrong(WalError::OtherCluster {
                endpoint: endpoint.to_owned(),
                found: identity.system_id.to_string(),
                expected: reached.system_id.to_string(),
            }));
        }
        if let Some(gap) = taken_back(reached, here) {
            return Err(Outcome::Gap(gap));
        }
    }
    let handled = reached.map(|reached| reached.handled);
    let Some(slot) = here.slot else {
        let (endpoint, slot) = (endpoint.to_owned(), here.slot_name.to_owned());
        let source = Box::new(WalError::SlotMissing { endpoint, slot });
        return Err(Outcome::Gap(Gap::Slot { source, handled }));
    };
    may_start(handled, slot, endpoint).map_err(|error| match error {
        WalError::SlotAhead { .. } | WalError::SlotLost { .. } => {
            Outcome::Gap(Gap::Slot { source: Box::new(error), handled })
        }
        other => Outcome::Wrong(other),
    })
}

/// Why reading cannot go on.
#[derive(Debug)]
pub(super) enum Outcome {
    Wrong(WalError),
    Gap(Gap),
}

/// Whether the new timeline left the one that was read before it came to where we are.
fn taken_back(reached: Reached, here: Here<'_>) -> Option<Gap> {
    let now = here.identity.timeline;
    if now == reached.timeline {
        return None;
    }
    let (endpoint, then) = (here.endpoint.to_owned(), reached.timeline);
    match here.history.iter().find(|(timeline, _)| *timeline == then) {
        None => Some(Gap::OtherBranch { endpoint, now, then }),
        Some(&(_, left)) if left < reached.given => {
            Some(Gap::Undone { endpoint, now, then, left, given: reached.given })
        }
        Some(_) => None,
    }
}

/// Reads what `TIMELINE_HISTORY` answers: a line for each earlier timeline, with the position where it was left.
pub(super) fn history(content: &str) -> Vec<(Timeline, Lsn)> {
    let lines = content.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let timeline = words.next()?.parse().ok()?;
            Some((Timeline(timeline), words.next()?.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: &str =
        "1\t0/3000060\tno recovery target specified\n\n# a note\n2\t0/5000000\treason\n";

    fn identity(timeline: u32) -> Identity {
        Identity {
            system_id: SystemId(7),
            timeline: Timeline(timeline),
            wal_position: Lsn(0x600_0000),
            database: "app".to_owned(),
        }
    }

    fn at(timeline: u32, handled: u64) -> Option<Reached> {
        Some(Reached {
            system_id: SystemId(7),
            timeline: Timeline(timeline),
            handled: Lsn(handled),
            given: Lsn(handled),
        })
    }

    #[track_caller]
    fn check(reached: Option<Reached>, timeline: u32, expected: &str) {
        let (identity, history) = (identity(timeline), history(HISTORY));
        let here = Here {
            endpoint: "db:5432",
            identity: &identity,
            history: &history,
            slot: None,
            slot_name: "s",
        };
        let said = match resume(reached, here) {
            Ok(from) => format!("from {}", from.lsn()),
            Err(Outcome::Wrong(error)) => error.to_string(),
            Err(Outcome::Gap(gap)) => gap.to_string(),
        };
        assert!(said.contains(expected), "{said}");
    }

    #[test]
    fn a_history_file_tells_where_each_timeline_was_left() {
        let expected = [(Timeline(1), Lsn(0x300_0060)), (Timeline(2), Lsn(0x500_0000))];
        assert_eq!(history(HISTORY), expected);
    }

    #[test]
    fn what_a_promotion_took_back_is_named() {
        check(at(1, 0x300_0061), 3, "left timeline 1 at 0/3000060");
        check(at(2, 0x500_0001), 3, "between 0/5000000 and 0/5000001");
        // Also where no sink has said yet that it has it.
        let mut ahead = at(2, 0x400_0000);
        ahead.as_mut().unwrap().given = Lsn(0x500_0002);
        check(ahead, 3, "between 0/5000000 and 0/5000002");
    }

    #[test]
    fn a_missing_slot_says_from_where_on_changes_may_be_missing() {
        check(at(1, 0x300_0060), 3, "everything up to 0/3000060 had been delivered");
        check(None, 3, "there is no replication slot `s`");
    }

    #[test]
    fn another_branch_and_another_cluster_are_refused() {
        check(at(4, 1), 3, "its history has no timeline 4");
        let other = Reached { system_id: SystemId(8), ..at(3, 1).unwrap() };
        check(Some(other), 3, "belongs to another cluster");
    }
}
