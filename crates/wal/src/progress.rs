//! Which position may be acknowledged: pure bookkeeping of what is under way.

use std::collections::VecDeque;

use herdsman_node::Lsn;

/// Transactions between "received" and "durably handled", in the order of their commits.
///
/// The server forgets what is acknowledged. So the only position that may be acknowledged is the end of the last
/// transaction before which, and with which, everything has been handled – or, where nothing is under way, the end of
/// what the server has looked at: an idle slot must not hold the log back.
///
/// ```
/// use herdsman_node::Lsn;
/// use herdsman_wal::Progress;
/// let mut progress = Progress::default();
/// let (first, second) = (progress.begin(), progress.begin());
/// progress.expect(first);
/// progress.commit(first, Lsn(10));
/// progress.commit(second, Lsn(20));
/// assert_eq!(progress.safe(), Lsn(0)); // the second holds nothing, but the first is under way
/// progress.handled(first);
/// assert_eq!(progress.safe(), Lsn(20));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Ticket of the transaction at the front.
    first: u64,
    under_way: VecDeque<Entry>,
    safe: Lsn,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Deliveries that have not arrived yet.
    awaited: u64,
    /// Where the transaction ends, once it has.
    end: Option<Lsn>,
}

impl Progress {
    /// Nothing is under way.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A transaction has begun to arrive. The ticket names it from here on.
    pub fn begin(&mut self) -> u64 {
        self.under_way.push_back(Entry::default());
        self.first + self.under_way.len() as u64 - 1
    }

    /// One more delivery of something in it is awaited.
    pub fn expect(&mut self, ticket: u64) {
        if let Some(entry) = self.entry(ticket) {
            entry.awaited += 1;
        }
    }

    /// One delivery of something in it has durably arrived.
    pub fn handled(&mut self, ticket: u64) {
        if let Some(entry) = self.entry(ticket) {
            entry.awaited = entry.awaited.saturating_sub(1);
        }
        self.advance();
    }

    /// It is complete and ends here: nothing more of it will be expected.
    pub fn commit(&mut self, ticket: u64, end: Lsn) {
        if let Some(entry) = self.entry(ticket) {
            entry.end = Some(end);
        }
        self.advance();
    }

    /// The server has nothing before `wal_end` that has not been received. Counts only while nothing is under way.
    pub fn idle(&mut self, wal_end: Lsn) {
        if self.under_way.is_empty() {
            self.safe = self.safe.max(wal_end);
        }
    }

    /// Everything up to here is handled; only ever grows.
    #[must_use]
    pub fn safe(&self) -> Lsn {
        self.safe
    }

    /// Whether a transaction is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    fn entry(&mut self, ticket: u64) -> Option<&mut Entry> {
        let index = usize::try_from(ticket.checked_sub(self.first)?).ok()?;
        self.under_way.get_mut(index)
    }

    fn advance(&mut self) {
        while let Some(&Entry { awaited: 0, end: Some(end) }) = self.under_way.front() {
            self.under_way.pop_front();
            self.first += 1;
            self.safe = self.safe.max(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_keepalive_counts_only_while_nothing_is_under_way() {
        let mut progress = Progress::new();
        progress.idle(Lsn(5));
        assert_eq!(progress.safe(), Lsn(5));
        let ticket = progress.begin();
        progress.idle(Lsn(9));
        assert_eq!(progress.safe(), Lsn(5));
        progress.commit(ticket, Lsn(8));
        progress.idle(Lsn(9));
        assert_eq!(progress.safe(), Lsn(9));
    }

    #[test]
    fn a_ticket_that_is_over_changes_nothing() {
        let mut progress = Progress::new();
        let ticket = progress.begin();
        progress.commit(ticket, Lsn(8));
        progress.handled(ticket);
        progress.commit(ticket, Lsn(99));
        assert_eq!(progress.safe(), Lsn(8));
    }

    proptest! {
        /// Whatever the order in which deliveries arrive, what is safe is the longest prefix that has arrived.
        #[test]
        fn what_is_safe_is_the_longest_handled_prefix(
            sizes in prop::collection::vec(0_u64..4, 1..12),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let mut progress = Progress::new();
            let tickets: Vec<_> = sizes.iter().map(|_| progress.begin()).collect();
            let mut left = sizes.clone();
            for (i, &size) in sizes.iter().enumerate() {
                for _ in 0..size {
                    progress.expect(tickets[i]);
                }
                progress.commit(tickets[i], Lsn(10 * (i as u64 + 1)));
            }
            for index in order {
                let i = index.index(sizes.len());
                if left[i] > 0 {
                    left[i] -= 1;
                    progress.handled(tickets[i]);
                }
                let prefix = left.iter().take_while(|&&left| left == 0).count();
                prop_assert_eq!(progress.safe(), Lsn(10 * prefix as u64));
            }
        }
    }
}
