use std::time::Duration;

/// Growing pauses between tries of something that goes on failing.
///
/// ```
/// use std::time::Duration;
/// use herdsman_node::Backoff;
///
/// let backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };
/// // The jitter is a random number; half of it takes away a quarter.
/// assert_eq!(backoff.pause(1, 1.0), Duration::from_millis(100));
/// assert_eq!(backoff.pause(3, 0.5), Duration::from_millis(300));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first failure; it doubles with each further one.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Backoff {
    /// The pause after so many failures in a row, less up to half of it.
    ///
    /// `jitter` is from 0 to 1 and comes from outside, so that the same input always gives the same pause. It keeps what
    /// failed together from being tried again together.
    #[must_use]
    pub fn pause(&self, failures: u32, jitter: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 1.0 };
        full.mul_f64(0.5 + jitter / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(first: u64, longest: u64) -> Backoff {
        Backoff { first: Duration::from_millis(first), longest: Duration::from_millis(longest) }
    }

    #[test]
    fn a_pause_doubles_up_to_the_longest() {
        let backoff = millis(200, 30_000);
        let full: Vec<_> =
            (1..=10).map(|failures| backoff.pause(failures, 1.0).as_millis()).collect();
        assert_eq!(full, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(backoff.pause(u32::MAX, 1.0).as_millis(), 30_000);
    }

    #[test]
    fn jitter_takes_away_half_at_most_and_never_adds() {
        let backoff = millis(1000, 1000);
        assert_eq!(backoff.pause(1, 0.0).as_millis(), 500);
        assert_eq!(backoff.pause(1, 0.5).as_millis(), 750);
        for odd in [7.0, f64::NAN, f64::INFINITY] {
            assert_eq!(backoff.pause(1, odd).as_millis(), 1000, "{odd}");
        }
        assert_eq!(backoff.pause(1, -3.0).as_millis(), 500);
    }

    #[test]
    fn a_longest_pause_below_the_first_one_is_the_pause() {
        assert_eq!(millis(1000, 10).pause(1, 1.0).as_millis(), 10);
    }
}
