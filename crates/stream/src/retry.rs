//! How long to wait before the next try.

use std::time::Duration;

use crate::config::RetryConfig;

/// The pause after so many failures in a row: it doubles each time up to the longest, less up to half of it.
///
/// `jitter` is from 0 to 1 and comes from outside, so that the same input always gives the same pause. It keeps many
/// changes that failed together from being tried again together.
#[must_use]
pub fn pause(config: &RetryConfig, failures: u32, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let full = config.pause.saturating_mul(1 << doublings).min(config.longest_pause);
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 1.0 };
    full.mul_f64(0.5 + jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(pause: u64, longest: u64) -> RetryConfig {
        let (pause, longest_pause) = (Duration::from_millis(pause), Duration::from_millis(longest));
        RetryConfig { pause, longest_pause, ..RetryConfig::default() }
    }

    #[test]
    fn a_pause_doubles_up_to_the_longest() {
        let config = millis(200, 30_000);
        let full: Vec<_> =
            (1..=10).map(|failures| pause(&config, failures, 1.0).as_millis()).collect();
        assert_eq!(full, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(pause(&config, u32::MAX, 1.0).as_millis(), 30_000);
    }

    #[test]
    fn jitter_takes_away_half_at_most_and_never_adds() {
        let config = millis(1000, 1000);
        assert_eq!(pause(&config, 1, 0.0).as_millis(), 500);
        assert_eq!(pause(&config, 1, 0.5).as_millis(), 750);
        for odd in [7.0, f64::NAN, f64::INFINITY] {
            assert_eq!(pause(&config, 1, odd).as_millis(), 1000, "{odd}");
        }
        assert_eq!(pause(&config, 1, -3.0).as_millis(), 500);
    }

    #[test]
    fn a_longest_pause_below_the_first_one_is_the_pause() {
        assert_eq!(pause(&millis(1000, 10), 1, 1.0).as_millis(), 10);
    }
}
