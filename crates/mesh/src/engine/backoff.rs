//! How long to wait before the next try.

use std::time::Duration;

/// The pause after the first failure.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause where things mend by themselves.
const LONGEST: Duration = Duration::from_secs(5);
/// The pause where somebody has to do something first.
const SLOW: Duration = Duration::from_secs(15);

/// The pause after so many failures in a row: it doubles each time, less up to half of it. `jitter`, from 0 to 1, keeps
/// what failed together from being tried again together.
pub(crate) fn pause(failures: u32, transient: bool, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let full = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    let full = if transient { full } else { SLOW };
    full.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_the_longest_and_jitter_takes_away_half_at_most() {
        let full: Vec<_> = (1..=8).map(|failures| pause(failures, true, 1.0).as_millis()).collect();
        assert_eq!(full, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pause(u32::MAX, true, 0.0).as_millis(), 2500);
    }

    #[test]
    fn what_somebody_has_to_mend_is_tried_slowly_from_the_first_time() {
        assert_eq!(pause(1, false, 1.0), SLOW);
        assert_eq!(pause(9, false, 0.0), SLOW / 2);
    }
}
