//! Counting, without locks: what every statement adds to.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What one node of a set has done for us.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) queries: AtomicU64,
    /// Errors that the node or the way to it is to blame for.
    pub(crate) errors: AtomicU64,
    /// Errors of the statements themselves.
    pub(crate) statement_errors: AtomicU64,
    pub(crate) connection_errors: AtomicU64,
    pub(crate) state_changes: AtomicU64,
    pub(crate) in_flight: AtomicU32,
    /// Moving average of statement times, in nanoseconds; 0 before the first.
    latency: AtomicU64,
    histogram: [AtomicU64; BUCKETS],
    last_error: Mutex<Option<String>>,
}

/// Buckets per power of two: quantiles are exact to an eighth.
const STEPS: usize = 8;
/// From 1 µs to about a quarter of an hour.
const POWERS: usize = 30;
const BUCKETS: usize = STEPS * POWERS;

impl Default for Counters {
    fn default() -> Self {
        Self {
            queries: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            statement_errors: AtomicU64::new(0),
            connection_errors: AtomicU64::new(0),
            state_changes: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            latency: AtomicU64::new(0),
            histogram: [const { AtomicU64::new(0) }; BUCKETS],
            last_error: Mutex::new(None),
        }
    }
}

impl Counters {
    /// Takes in how long a statement took.
    pub(crate) fn took(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 16);
        let old = self.latency.load(Relaxed);
        // A lost update between two threads costs one sample of many.
        // The first counts for an eighth like any other: it is the one that meets cold caches.
        let new = old - old / 8 + nanos / 8;
        self.latency.store(new.max(1), Relaxed);
        if let Some(bucket) = self.histogram.get(bucket(nanos)) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    /// Nothing was heard of the node for a while: what it was like fades, so that it is tried again.
    pub(crate) fn fade(&self) {
        self.latency.store(self.latency() / 2, Relaxed);
    }

    /// Moving average of statement times in nanoseconds, 0 if unknown.
    pub(crate) fn latency(&self) -> u64 {
        self.latency.load(Relaxed)
    }

    /// The times below which these shares (0 to 1) of all statements stayed.
    pub(crate) fn quantiles<const N: usize>(&self, shares: [f64; N]) -> [Option<Duration>; N] {
        let counts: Vec<u64> = self.histogram.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        shares.map(|share| quantile(&counts, total, share))
    }

    /// The connection failed.
    pub(crate) fn connection_failed(&self, error: &impl std::fmt::Display) {
        self.errors.fetch_add(1, Relaxed);
        self.connection_errors.fetch_add(1, Relaxed);
        self.note(error);
    }

    /// Remembers what last went wrong.
    pub(crate) fn note(&self, error: &impl std::fmt::Display) {
        if let Ok(mut last) = self.last_error.lock() {
            *last = Some(error.to_string());
        }
    }

    pub(crate) fn last_error(&self) -> Option<String> {
        self.last_error.lock().ok().and_then(|last| last.clone())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count is a count"
)]
fn quantile(counts: &[u64], total: u64, share: f64) -> Option<Duration> {
    let rank = ((total as f64 * share).ceil() as u64).clamp(1, total.max(1));
    let mut seen = 0;
    for (index, count) in counts.iter().enumerate() {
        seen += count;
        if seen >= rank && total > 0 {
            return Some(Duration::from_nanos(upper_edge(index)));
        }
    }
    None
}

fn bucket(nanos: u64) -> usize {
    let micros = (nanos / 1000).max(1);
    let power = micros.ilog2() as usize;
    let step = if power >= 3 { (micros >> (power - 3)) & 7 } else { (micros << (3 - power)) & 7 };
    usize::try_from(step).map_or(BUCKETS - 1, |step| (power * STEPS + step).min(BUCKETS - 1))
}

fn upper_edge(index: usize) -> u64 {
    let (power, step) = (index / STEPS, (index % STEPS) as u64);
    let base = 1000u64 << power;
    base + base / 8 * (step + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_an_eighth() {
        let counters = Counters::default();
        assert_eq!(counters.quantiles([0.5]), [None]);
        for micros in 1..=10_000 {
            counters.took(Duration::from_micros(micros));
        }
        let [median, p99] = counters.quantiles([0.5, 0.99]).map(|q| q.unwrap().as_micros());
        assert!((5_000..5_700).contains(&median), "{median}");
        assert!((9_900..11_200).contains(&p99), "{p99}");
    }

    #[test]
    fn no_time_is_too_short_or_too_long() {
        let counters = Counters::default();
        for time in
            [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(1 << 40), Duration::MAX]
        {
            counters.took(time);
        }
        assert!(counters.quantiles([1.0])[0].is_some());
        for nanos in (0..200_000_000u64).step_by(9_973) {
            assert!(upper_edge(bucket(nanos)) >= nanos, "{nanos}");
        }
    }

    #[test]
    fn the_average_follows_what_happens() {
        let counters = Counters::default();
        for _ in 0..100 {
            counters.took(Duration::from_millis(8));
        }
        let slow = counters.latency();
        assert!((7_500_000..=8_000_000).contains(&slow), "{slow}");
        for _ in 0..100 {
            counters.took(Duration::from_millis(1));
        }
        assert!(counters.latency() < 1_200_000);
    }
}
