//! How long deliveries take: counted in buckets, as metrics want it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

/// Upper bounds of the buckets, in milliseconds.
const BOUNDS: [u64; 13] = [1, 2, 5, 10, 20, 50, 100, 250, 500, 1000, 5000, 30_000, 300_000];

/// Times from commit to delivery, one for each batch: that of its oldest change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// How many there were.
    pub count: u64,
    /// All of them together, in microseconds.
    pub sum_micros: u64,
    /// The last one, in microseconds.
    pub last_micros: u64,
    /// Milliseconds, and how many took no longer than that. Those that took longer than the last are in `count` only.
    pub buckets: Vec<(u64, u64)>,
}

#[derive(Debug, Default)]
pub(super) struct Buckets {
    counts: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    sum_micros: AtomicU64,
    last_micros: AtomicU64,
}

impl Buckets {
    pub(super) fn add(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| micros <= bound * 1000);
        if let Some(count) = bucket.and_then(|at| self.counts.get(at)) {
            count.fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(micros, Relaxed);
        self.last_micros.store(micros, Relaxed);
    }

    pub(super) fn snapshot(&self) -> Latency {
        let mut so_far = 0;
        let buckets = BOUNDS.iter().zip(&self.counts).map(|(bound, count)| {
            so_far += count.load(Relaxed);
            (*bound, so_far)
        });
        let buckets = buckets.collect();
        Latency {
            count: self.count.load(Relaxed),
            sum_micros: self.sum_micros.load(Relaxed),
            last_micros: self.last_micros.load(Relaxed),
            buckets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_counts_all_that_took_no_longer() {
        let buckets = Buckets::default();
        for millis in [0, 1, 3, 60, 999_999] {
            buckets.add(Duration::from_millis(millis));
        }
        let latency = buckets.snapshot();
        assert_eq!((latency.count, latency.last_micros), (5, 999_999_000));
        let at = |bound| latency.buckets.iter().find(|(b, _)| *b == bound).unwrap().1;
        assert_eq!((at(1), at(2), at(5), at(50), at(100), at(300_000)), (2, 2, 3, 3, 4, 4));
    }
}
