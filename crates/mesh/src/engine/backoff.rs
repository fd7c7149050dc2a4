//! How long to wait before the next try.

use std::time::Duration;

use herdsman_node::Backoff;

/// Where things mend by themselves.
const MENDING: Backoff =
    Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };
/// Where somebody has to do something first.
const SLOW: Backoff = Backoff { first: Duration::from_secs(15), longest: Duration::from_secs(15) };

/// The pause after so many failures in a row.
pub(crate) fn pause(failures: u32, transient: bool, jitter: f64) -> Duration {
    if transient { MENDING } else { SLOW }.pause(failures, jitter)
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
        assert_eq!(pause(1, false, 1.0), SLOW.first);
        assert_eq!(pause(9, false, 0.0), SLOW.first / 2);
    }
}
