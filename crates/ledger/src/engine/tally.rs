//! What came of how many entries.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::replica::Outcome;

/// Entries that a node has read, by what came of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Their changes are in the data.
    pub committed: u64,
    /// Somebody else was first.
    pub conflict: u64,
    /// They were called off.
    pub cancelled: u64,
    /// No node does that.
    pub refused: u64,
    /// Their request had committed before.
    pub duplicate: u64,
    /// The operator had them passed over.
    pub skipped: u64,
}

/// The same while it grows.
#[derive(Debug, Default)]
pub(super) struct Counters {
    committed: AtomicU64,
    conflict: AtomicU64,
    cancelled: AtomicU64,
    refused: AtomicU64,
    duplicate: AtomicU64,
    skipped: AtomicU64,
}

impl Counters {
    pub(super) fn count(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Committed => &self.committed,
            Outcome::Conflict => &self.conflict,
            Outcome::Cancelled => &self.cancelled,
            Outcome::Refused(_) => &self.refused,
            Outcome::Duplicate(_) => &self.duplicate,
            Outcome::Skipped => &self.skipped,
            // Nobody's transaction.
            Outcome::Noted => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Tally {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Tally {
            committed: read(&self.committed),
            conflict: read(&self.conflict),
            cancelled: read(&self.cancelled),
            refused: read(&self.refused),
            duplicate: read(&self.duplicate),
            skipped: read(&self.skipped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Offset;

    #[test]
    fn each_outcome_is_counted_as_what_it_is() {
        let counters = Counters::default();
        let all = [
            Outcome::Committed,
            Outcome::Committed,
            Outcome::Conflict,
            Outcome::Cancelled,
            Outcome::Refused(*b"42P01"),
            Outcome::Duplicate(Offset(1)),
            Outcome::Skipped,
            Outcome::Noted,
        ];
        all.into_iter().for_each(|outcome| counters.count(outcome));
        let expected =
            Tally { committed: 2, conflict: 1, cancelled: 1, refused: 1, duplicate: 1, skipped: 1 };
        assert_eq!(counters.read(), expected);
    }
}
