//! Times, counted without locks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// Buckets per power of two: a percentile is at most an eighth too high.
const STEPS: usize = 8;
/// log2 of [`STEPS`].
const STEP_BITS: u32 = 3;
/// Times of 2^37 µs (38 hours) and more share the last bucket.
const POWERS: usize = 37;
/// Below [`STEPS`] each microsecond has its own bucket; from there on each power of two has [`STEPS`].
const BUCKETS: usize = (POWERS - STEP_BITS as usize + 1) * STEPS;

/// How often which time was seen. Recording costs two relaxed additions and takes no lock.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Takes in one time, in microseconds.
    #[inline]
    pub(crate) fn record(&self, micros: u64) {
        if let Some(bucket) = self.buckets.get(bucket(micros)) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum.fetch_add(micros, Relaxed);
    }

    /// As [`Histogram::record`], where nobody else records meanwhile.
    #[inline]
    pub(super) fn record_alone(&self, micros: u64) {
        if let Some(bucket) = self.buckets.get(bucket(micros)) {
            super::add(bucket, 1);
        }
        super::add(&self.sum, micros);
    }

    /// How many times were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    /// All of them added up, in microseconds.
    pub(crate) fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }

    /// What has been recorded so far.
    pub(crate) fn snapshot(&self) -> Times {
        Times {
            buckets: self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect(),
            sum: self.sum(),
        }
    }
}

/// The times a gateway has counted at one moment: how many, how long together, and which share took at most how long.
///
/// Serialised, it is `count`, `sum`, `p50`, `p90`, `p99` and `p999`, all times in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    buckets: Vec<u64>,
    sum: u64,
}

impl Times {
    /// How many times were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of them together, in microseconds.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// How long `per_mille` of a thousand took at most, in microseconds: 500 asks for the median. At most an eighth more
    /// than the true value, never less; `None` before anything was counted.
    #[must_use]
    pub fn percentile(&self, per_mille: u64) -> Option<u64> {
        let count = self.count();
        let rank = count.saturating_mul(per_mille).div_ceil(1000).clamp(1, count.max(1));
        let mut seen = 0;
        let found = self.buckets.iter().position(|bucket| {
            seen += bucket;
            seen >= rank
        });
        found.map(longest)
    }

    /// How many took at most `micros` microseconds. Exact for one less than a power of two and for one less than an eighth
    /// between two powers; other bounds count as the next lower of those.
    #[must_use]
    pub fn at_most(&self, micros: u64) -> u64 {
        let within =
            self.buckets.iter().enumerate().take_while(|(index, _)| longest(*index) <= micros);
        within.map(|(_, count)| count).sum()
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Times", 6)?;
        fields.serialize_field("count", &self.count())?;
        fields.serialize_field("sum", &self.sum)?;
        fields.serialize_field("p50", &self.percentile(500))?;
        fields.serialize_field("p90", &self.percentile(900))?;
        fields.serialize_field("p99", &self.percentile(990))?;
        fields.serialize_field("p999", &self.percentile(999))?;
        fields.end()
    }
}

/// Which bucket a time belongs to.
#[inline]
fn bucket(micros: u64) -> usize {
    let Some(power) = micros.checked_ilog2().filter(|power| *power >= STEP_BITS) else {
        return usize::try_from(micros).unwrap_or(0);
    };
    let step = usize::try_from((micros >> (power - STEP_BITS)) & (STEPS as u64 - 1)).unwrap_or(0);
    let index = (power - STEP_BITS + 1) as usize * STEPS + step;
    index.min(BUCKETS - 1)
}

/// The longest time that belongs to a bucket.
fn longest(index: usize) -> u64 {
    let (row, step) = (index / STEPS, index % STEPS);
    match row.checked_sub(1) {
        None => step as u64,
        Some(shift) => {
            ((STEPS + step + 1) as u64).wrapping_shl(u32::try_from(shift).unwrap_or(0)) - 1
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        let mut last = None;
        for micros in (0..100_000).chain((17..37).map(|power| 1 << power)) {
            let index = bucket(micros);
            assert!(longest(index) >= micros, "{micros} is in a bucket that ends before it");
            assert!(last <= Some(index), "{micros} is in an earlier bucket than a shorter time");
            last = Some(index);
        }
        for index in 0..BUCKETS - 1 {
            assert_eq!(bucket(longest(index)), index, "the longest time of a bucket is in it");
            assert_eq!(
                bucket(longest(index) + 1),
                index + 1,
                "the next time is in the next bucket"
            );
        }
    }

    #[test]
    fn the_longest_time_is_counted_too() {
        let histogram = Histogram::default();
        histogram.record(u64::MAX);
        assert_eq!(histogram.count(), 1);
        assert!(histogram.snapshot().percentile(500) >= Some(1 << 36));
    }

    #[test]
    fn nothing_counted_has_no_percentile() {
        assert_eq!(Histogram::default().snapshot().percentile(500), None);
        assert_eq!(Times::default().percentile(999), None);
    }

    #[test]
    fn what_took_at_most_so_long_is_counted_from_the_shortest_on() {
        let histogram = Histogram::default();
        for micros in [1, 7, 8, 1000, 2000] {
            histogram.record(micros);
        }
        let times = histogram.snapshot();
        let counts: Vec<u64> = [0, 7, 1023, 2047, 1 << 30].map(|bound| times.at_most(bound)).into();
        assert_eq!(counts, [0, 2, 4, 5, 5]);
        assert_eq!(times.sum(), 3016);
    }

    proptest! {
        #[test]
        fn a_percentile_is_never_below_the_true_value_and_at_most_an_eighth_above(
            mut values in prop::collection::vec(prop_oneof![0_u64..64, 0_u64..100_000, 0..1_u64 << 36], 1..200),
            per_mille in 1_u64..=1000,
        ) {
            let histogram = Histogram::default();
            values.iter().for_each(|value| histogram.record(*value));
            values.sort_unstable();
            let rank = (values.len() as u64 * per_mille).div_ceil(1000).max(1);
            let exact = values[usize::try_from(rank).unwrap() - 1];
            let got = histogram.snapshot().percentile(per_mille).unwrap();
            prop_assert!(got >= exact && got <= exact + exact / 8, "{got} for {exact}");
            prop_assert_eq!(histogram.sum(), values.iter().sum::<u64>());
            prop_assert_eq!(histogram.count(), values.len() as u64);
        }

        #[test]
        fn merging_counts_as_if_all_had_been_recorded_together(
            left in prop::collection::vec(0_u64..1 << 30, 0..50),
            right in prop::collection::vec(0_u64..1 << 30, 0..50),
        ) {
            let [a, b, both] = [(); 3].map(|()| Histogram::default());
            left.iter().for_each(|value| { a.record(*value); both.record(*value); });
            right.iter().for_each(|value| { b.record(*value); both.record(*value); });
            let mut merged = Times::default();
            merged.merge(&a.snapshot());
            merged.merge(&b.snapshot());
            prop_assert_eq!(merged, both.snapshot());
        }
    }
}
