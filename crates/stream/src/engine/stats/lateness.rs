//! How old the oldest change is that waits. Pure.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use herdsman_node::Lsn;

/// Transactions committed within this time of each other count as one: nobody looks closer.
const GRAIN: Duration = Duration::from_millis(100);
/// Groups kept; what comes beyond is taken to be as old as the last of them.
const MOST: usize = 4096;

/// Transactions that are received and not handled, by when they were committed.
#[derive(Debug, Default)]
pub(in crate::engine) struct Lateness(VecDeque<Group>);

#[derive(Debug)]
struct Group {
    first: SystemTime,
    /// Where the last of them committed.
    last: Lsn,
}

impl Lateness {
    /// A transaction has begun to arrive. They come in the order of their commits.
    pub(in crate::engine) fn begin(&mut self, commit: Lsn, at: SystemTime) {
        let full = self.0.len() >= MOST;
        if let Some(group) = self.0.back_mut() {
            let near = at.duration_since(group.first).is_ok_and(|apart| apart < GRAIN);
            if near || full {
                group.last = group.last.max(commit);
                return;
            }
        }
        self.0.push_back(Group { first: at, last: commit });
    }

    /// Everything before this position is handled.
    pub(in crate::engine) fn handled(&mut self, safe: Lsn) {
        while self.0.front().is_some_and(|group| group.last < safe) {
            self.0.pop_front();
        }
    }

    /// When the oldest one that waits was committed.
    pub(in crate::engine) fn oldest(&self) -> Option<SystemTime> {
        self.0.front().map(|group| group.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    #[test]
    fn the_oldest_that_is_not_handled_counts() {
        let mut late = Lateness::default();
        assert_eq!(late.oldest(), None);
        for (lsn, millis) in [(10, 1000), (20, 1050), (30, 2000), (40, 900)] {
            late.begin(Lsn(lsn), at(millis));
        }
        assert_eq!(late.oldest(), Some(at(1000)));
        late.handled(Lsn(11));
        assert_eq!(late.oldest(), Some(at(1000)), "one of the group still waits");
        late.handled(Lsn(20));
        assert_eq!(late.oldest(), Some(at(1000)), "what ends there is not handled yet");
        late.handled(Lsn(21));
        assert_eq!(late.oldest(), Some(at(2000)));
        late.handled(Lsn(31));
        assert_eq!(late.oldest(), Some(at(900)), "a clock that was set back");
        late.handled(Lsn(41));
        assert_eq!(late.oldest(), None);
    }

    #[test]
    fn however_many_wait_it_stays_small_and_forgets_none() {
        let mut late = Lateness::default();
        for number in 0..10_000 {
            late.begin(Lsn(number), at(number * 1000));
        }
        assert_eq!(late.0.len(), MOST);
        late.handled(Lsn(9_999));
        assert!(late.oldest().is_some());
        late.handled(Lsn(10_000));
        assert_eq!(late.oldest(), None);
    }
}
