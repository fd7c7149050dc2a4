//! How long a node has been behind the end of the log.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Ack, Shared, lock};
use crate::Offset;

/// How often the end of the log is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long that may take.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// Ends that are remembered; looked at each second, that is an hour of steady writing.
const MOST: usize = 3600;

/// Where the log ended when.
#[derive(Debug, Default)]
pub(super) struct Ends(VecDeque<(Instant, u64)>);

impl Ends {
    /// The log ended here now: `end` is the place of the next entry.
    pub(super) fn observe(&mut self, now: Instant, end: u64) {
        if self.0.back().is_none_or(|(_, last)| *last < end) {
            if self.0.len() == MOST {
                self.0.pop_front();
            }
            self.0.push_back((now, end));
        }
    }

    /// Where the log ended last.
    pub(super) fn last(&self) -> Option<u64> {
        self.0.back().map(|(_, end)| *end)
    }

    /// How long the first entry that a node has not applied has been there; zero where it has all of them.
    pub(super) fn behind(&self, now: Instant, applied: u64) -> Duration {
        let missing = applied.saturating_add(1);
        let first = self.0.partition_point(|(_, end)| *end <= missing);
        self.0.get(first).map_or(Duration::ZERO, |(at, _)| now.saturating_duration_since(*at))
    }
}

/// Looks again and again where the log ends.
pub(super) async fn sample(shared: Arc<Shared>) {
    loop {
        match tokio::time::timeout(LOOK_WITHIN, shared.log.end()).await {
            Ok(Ok(end)) => lock(&shared.ends).observe(Instant::now(), end.0),
            Ok(Err(error)) => tracing::debug!(%error, "the end of the log is not known"),
            Err(_) => tracing::debug!("the log does not say where it ends"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A node, as far as it matters for how fast entries may come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) applied: Offset,
    /// It is fenced: nobody waits for it.
    pub(super) out: bool,
    /// The transaction ran there.
    pub(super) own: bool,
}

/// The slowest node that an answer waits for: the last entry it has. `None`: it waits for none.
pub(super) fn required(nodes: &[Pace], ack: Ack) -> Option<Offset> {
    let wanted = match ack {
        Ack::Local => return nodes.iter().find(|it| it.own).map(|it| it.applied),
        Ack::Majority => nodes.len() / 2 + 1,
        Ack::All => nodes.len(),
    };
    let mut applied: Vec<Offset> = nodes.iter().filter(|it| !it.out).map(|it| it.applied).collect();
    applied.sort_unstable_by(|one, other| other.cmp(one));
    applied.get(wanted.min(applied.len()).checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_is_as_late_as_the_first_entry_that_it_lacks() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut ends = Ends::default();
        assert_eq!((ends.last(), ends.behind(start, 0)), (None, Duration::ZERO));
        for (at, end) in [(0, 1), (10, 5), (11, 5), (20, 9)] {
            ends.observe(after(at), end);
        }
        assert_eq!(ends.last(), Some(9));
        let cases = [(8, 0), (9, 0), (7, 5), (4, 5), (3, 15), (0, 15)];
        for (applied, seconds) in cases {
            assert_eq!(ends.behind(after(25), applied), Duration::from_secs(seconds), "{applied}");
        }
    }

    #[test]
    fn entries_come_no_faster_than_the_slowest_node_that_is_waited_for() {
        let node = |(applied, out, own)| Pace { applied: Offset(applied), out, own };
        let nodes = |of: [(u64, bool, bool); 3]| of.map(node);
        let three = nodes([(9, false, false), (5, false, true), (1, false, false)]);
        let fenced = nodes([(9, false, false), (5, false, true), (1, true, false)]);
        for (nodes, ack, expected) in [
            (&three, Ack::Local, Some(5)),
            (&three, Ack::Majority, Some(5)),
            (&three, Ack::All, Some(1)),
            (&fenced, Ack::All, Some(5)),
            (&fenced, Ack::Majority, Some(5)),
            (&nodes([(9, true, false), (5, true, false), (1, true, false)]), Ack::All, None),
        ] {
            assert_eq!(required(nodes, ack), expected.map(Offset), "{nodes:?} {ack:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_has_a_cap() {
        let mut ends = Ends::default();
        for end in 0..10_000 {
            ends.observe(Instant::now(), end);
        }
        assert_eq!((ends.0.len(), ends.last()), (MOST, Some(9999)));
    }
}
