//! How long a node has been behind the end of the log.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

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

/// Entries between the last one that a node has applied and the end of the log.
pub(super) fn entries(end: u64, applied: u64) -> u64 {
    end.saturating_sub(applied).saturating_sub(1)
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
        assert_eq!((entries(9, 8), entries(9, 3), entries(0, 0)), (0, 5, 0));
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
