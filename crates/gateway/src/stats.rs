//! Counters and histograms, per pool: written by clients' tasks, read by the console and for metrics without a lock.

mod histogram;
mod slow_log;
mod snapshot;
mod totals;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::session::Prepared;
pub(crate) use histogram::Histogram;
pub use histogram::Times;
pub(crate) use slow_log::slow;
pub use snapshot::{ClientCounts, GatewayStatistics, PoolStatistics, ServerCounts};
pub(crate) use totals::Stretch;
pub use totals::{Averages, Rates, Totals};

/// How long a period is that averages are taken over, in milliseconds: PgBouncer's `stats_period`.
const PERIOD: u64 = 60_000;

/// What one pool has done. Relaxed counters; written by clients' tasks, read by the console.
#[derive(Debug, Default)]
pub(crate) struct PoolStats {
    pub(crate) transactions: AtomicU64,
    pub(crate) queries: AtomicU64,
    /// Errors that the server reported.
    pub(crate) errors: AtomicU64,
    pub(crate) bytes_to_server: AtomicU64,
    pub(crate) bytes_to_client: AtomicU64,
    /// How long clients waited for a server connection, in microseconds. Those who got one at once are not among them.
    pub(crate) wait: Histogram,
    /// How long each transaction took, in microseconds.
    pub(crate) transaction: Histogram,
    /// Statements prepared on a server.
    pub(crate) parses: AtomicU64,
    /// Statements prepared by a client.
    pub(crate) client_parses: AtomicU64,
    pub(crate) binds: AtomicU64,
    period: Mutex<Option<Period>>,
}

/// What a client has done on a connection since that was last counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Deeds {
    /// A transaction has ended, which took so many microseconds, if that is known.
    pub(crate) transaction: Option<Option<u64>>,
    pub(crate) queries: u64,
    pub(crate) prepared: Prepared,
    pub(crate) to_server: u64,
    pub(crate) to_client: u64,
}

/// Where the counters stood when the last two periods began.
#[derive(Clone, Copy, Debug)]
struct Period {
    older: Mark,
    newer: Mark,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// On the coarse clock.
    at: u64,
    totals: Totals,
}

impl PoolStats {
    /// Adds what a client has done. One at a time, which the pool's lock sees to: locked additions would be six more for each
    /// transaction.
    #[inline]
    pub(crate) fn count(&self, deeds: Deeds) {
        let Deeds { transaction, queries, prepared, to_server, to_client } = deeds;
        if let Some(took) = transaction {
            add(&self.transactions, 1);
            if let Some(micros) = took {
                self.transaction.record_alone(micros);
            }
        }
        add(&self.queries, queries);
        add(&self.bytes_to_server, to_server);
        add(&self.bytes_to_client, to_client);
        // Most have done nothing of this.
        if prepared != Prepared::default() {
            let Prepared { client_parses, server_parses, binds } = prepared;
            add(&self.client_parses, client_parses);
            add(&self.parses, server_parses);
            add(&self.binds, binds);
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        let transactions = self.transactions.load(Relaxed);
        let transaction_time = self.transaction.sum();
        Totals {
            // A connection that was there at once is not always recorded as a wait.
            assignments: self.wait.count().max(transactions),
            transactions,
            queries: self.queries.load(Relaxed),
            errors: self.errors.load(Relaxed),
            received: self.bytes_to_server.load(Relaxed),
            sent: self.bytes_to_client.load(Relaxed),
            transaction_time,
            // The clock is read at a transaction's begin and end only: reading it per statement costs more than it tells.
            query_time: transaction_time,
            wait_time: self.wait.sum(),
            client_parses: self.client_parses.load(Relaxed),
            server_parses: self.parses.load(Relaxed),
            binds: self.binds.load(Relaxed),
        }
    }

    /// Begins a new period where the last one is over. To be called every few seconds at least; `now` is the coarse clock.
    pub(crate) fn tick(&self, now: u64) {
        let Ok(mut period) = self.period.lock() else { return };
        match &mut *period {
            None => {
                let begin = Mark { at: now, totals: Totals::default() };
                *period = Some(Period { older: begin, newer: begin });
            }
            Some(period) if now.saturating_sub(period.newer.at) >= PERIOD => {
                period.older = period.newer;
                period.newer = Mark { at: now, totals: self.totals() };
            }
            Some(_) => {}
        }
    }

    /// What was done in the last period and in what has passed of this one.
    pub(crate) fn recently(&self, now: u64) -> Stretch {
        let older = self.period.lock().ok().and_then(|period| period.map(|period| period.older));
        let older = older.unwrap_or_default();
        Stretch::between(older.totals, self.totals(), now.saturating_sub(older.at))
    }
}

/// Adds to a counter that nobody else adds to meanwhile.
#[inline]
pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_of_the_last_period_and_what_has_passed_of_this_one() {
        let stats = PoolStats::default();
        stats.tick(5000);
        stats.queries.store(60, Relaxed);
        let rate = |now| stats.recently(now).averages().per_second.queries;
        assert_eq!(rate(15_000), 6.0, "the first period counts from the first tick");
        stats.tick(65_000);
        stats.tick(70_000);
        stats.queries.store(120, Relaxed);
        assert_eq!(rate(125_000), 1.0);
        stats.tick(125_000);
        assert_eq!(rate(185_000), 0.5, "what was done before the last period is forgotten");
    }

    #[test]
    fn every_transaction_had_a_connection_though_nobody_waited() {
        let stats = PoolStats::default();
        stats.transactions.store(3, Relaxed);
        stats.wait.record(10);
        assert_eq!((stats.totals().assignments, stats.totals().wait_time), (3, 10));
    }
}
