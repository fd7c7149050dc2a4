//! Sums since the start, and per second of the last period.

use serde::Serialize;

/// What has been done since the gateway began. Times in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Totals {
    /// Times a client was given a server connection.
    pub assignments: u64,
    /// Transactions.
    pub transactions: u64,
    /// Statements.
    pub queries: u64,
    /// Errors that servers reported.
    pub errors: u64,
    /// Bytes from clients, passed on to servers.
    pub received: u64,
    /// Bytes from servers, passed on to clients.
    pub sent: u64,
    /// Time spent in transactions.
    pub transaction_time: u64,
    /// Time in which servers worked on statements.
    pub query_time: u64,
    /// Time clients waited for a server connection.
    pub wait_time: u64,
    /// Statements that clients prepared.
    pub client_parses: u64,
    /// Statements that were prepared on servers.
    pub server_parses: u64,
    /// Times values were bound to a prepared statement.
    pub binds: u64,
}

/// What the last period was like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Averages {
    /// Per second, but for the three times.
    pub per_second: Rates,
    /// One transaction took so long on average, in microseconds.
    pub transaction_time: u64,
    /// One statement took so long on average, in microseconds.
    pub query_time: u64,
    /// A client waited so long for a server connection on average, in microseconds.
    pub wait_time: u64,
}

/// How often something happened, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Rates {
    /// See [`Totals`].
    pub assignments: f64,
    /// See [`Totals`].
    pub transactions: f64,
    /// See [`Totals`].
    pub queries: f64,
    /// See [`Totals`].
    pub errors: f64,
    /// Bytes; see [`Totals`].
    pub received: f64,
    /// Bytes; see [`Totals`].
    pub sent: f64,
    /// See [`Totals`].
    pub client_parses: f64,
    /// See [`Totals`].
    pub server_parses: f64,
    /// See [`Totals`].
    pub binds: f64,
}

/// What was done between two looks at the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Stretch {
    done: Totals,
    rates: Rates,
}

impl Totals {
    /// Applies `combine` to each number of both.
    fn zip(self, other: Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            assignments: combine(self.assignments, other.assignments),
            transactions: combine(self.transactions, other.transactions),
            queries: combine(self.queries, other.queries),
            errors: combine(self.errors, other.errors),
            received: combine(self.received, other.received),
            sent: combine(self.sent, other.sent),
            transaction_time: combine(self.transaction_time, other.transaction_time),
            query_time: combine(self.query_time, other.query_time),
            wait_time: combine(self.wait_time, other.wait_time),
            client_parses: combine(self.client_parses, other.client_parses),
            server_parses: combine(self.server_parses, other.server_parses),
            binds: combine(self.binds, other.binds),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.zip(other, u64::wrapping_add)
    }
}

impl Stretch {
    /// What happened between `before` and `after`, which are `millis` apart.
    pub(crate) fn between(before: Totals, after: Totals, millis: u64) -> Self {
        // Counters are read one after the other while others add to them: a difference may seem to be below zero.
        let done = after.zip(before, u64::saturating_sub);
        let rate = |count: u64| match millis {
            0 => 0.0,
            _ => count as f64 * 1000.0 / millis as f64,
        };
        let rates = Rates {
            assignments: rate(done.assignments),
            transactions: rate(done.transactions),
            queries: rate(done.queries),
            errors: rate(done.errors),
            received: rate(done.received),
            sent: rate(done.sent),
            client_parses: rate(done.client_parses),
            server_parses: rate(done.server_parses),
            binds: rate(done.binds),
        };
        Self { done, rates }
    }

    /// What happened in two places.
    pub(crate) fn plus(self, other: Self) -> Self {
        let (a, b) = (self.rates, other.rates);
        let rates = Rates {
            assignments: a.assignments + b.assignments,
            transactions: a.transactions + b.transactions,
            queries: a.queries + b.queries,
            errors: a.errors + b.errors,
            received: a.received + b.received,
            sent: a.sent + b.sent,
            client_parses: a.client_parses + b.client_parses,
            server_parses: a.server_parses + b.server_parses,
            binds: a.binds + b.binds,
        };
        Self { done: self.done.plus(other.done), rates }
    }

    pub(crate) fn averages(self) -> Averages {
        let each = |time: u64, count: u64| time.checked_div(count).unwrap_or(0);
        Averages {
            per_second: self.rates,
            transaction_time: each(self.done.transaction_time, self.done.transactions),
            query_time: each(self.done.query_time, self.done.queries),
            wait_time: each(self.done.wait_time, self.done.assignments),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_and_times_per_piece() {
        let before = Totals { transactions: 10, received: 1000, ..Totals::default() };
        let after = Totals {
            transactions: 40,
            transaction_time: 600,
            received: 7000,
            wait_time: 50,
            ..Totals::default()
        };
        let averages = Stretch::between(before, after, 60_000).averages();
        assert_eq!(averages.per_second.transactions, 0.5);
        assert_eq!(averages.per_second.received, 100.0);
        assert_eq!(averages.transaction_time, 20);
        assert_eq!(averages.wait_time, 0, "nobody was given a connection");
    }

    #[test]
    fn two_places_add_up_though_they_were_looked_at_for_different_times() {
        let done = |queries, query_time| Totals { queries, query_time, ..Totals::default() };
        let long = Stretch::between(Totals::default(), done(120, 1200), 60_000);
        let short = Stretch::between(Totals::default(), done(30, 1800), 1000);
        let averages = long.plus(short).averages();
        assert_eq!(averages.per_second.queries, 32.0);
        assert_eq!(averages.query_time, 20);
    }

    #[test]
    fn no_time_and_a_counter_read_early_are_no_rate() {
        let some = Totals { queries: 5, ..Totals::default() };
        assert_eq!(Stretch::between(Totals::default(), some, 0).averages().per_second.queries, 0.0);
        assert_eq!(
            Stretch::between(some, Totals::default(), 1000).averages().per_second.queries,
            0.0
        );
    }
}
