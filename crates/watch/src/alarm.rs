//! When a lag is worth being told of. Pure.

use crate::{Lag, LagAlarm};

impl LagAlarm {
    /// Whether the alarm is on now, where it was (`was`) or was not before: it begins beyond a bound, and ends once the lag is
    /// at most half of every bound.
    ///
    /// ```
    /// use herdsman_watch::{Lag, LagAlarm};
    /// let alarm = LagAlarm { bytes: Some(1000), time: None };
    /// let behind = |bytes| Lag { bytes, seconds: 0.0 };
    /// assert!(alarm.is_on(false, &behind(1001)) && !alarm.is_on(false, &behind(900)));
    /// assert!(alarm.is_on(true, &behind(900)) && !alarm.is_on(true, &behind(500)));
    /// ```
    #[must_use]
    pub fn is_on(&self, was: bool, lag: &Lag) -> bool {
        let (bytes, time) = (self.bytes, self.time.map(|time| time.as_secs_f64()));
        if was {
            bytes.is_some_and(|most| lag.bytes > most / 2)
                || time.is_some_and(|most| lag.seconds > most / 2.0)
        } else {
            bytes.is_some_and(|most| lag.bytes > most)
                || time.is_some_and(|most| lag.seconds > most)
        }
    }

    /// Whether there is a bound at all.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        self.bytes.is_some() || self.time.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_alarm_begins_beyond_a_bound_and_ends_at_half_of_every_bound() {
        let second = Duration::from_secs(1);
        let none = LagAlarm::default();
        let bytes = LagAlarm { bytes: Some(100), time: None };
        let time = LagAlarm { bytes: None, time: Some(10 * second) };
        let both = LagAlarm { bytes: Some(100), time: Some(10 * second) };
        let zero = LagAlarm { bytes: Some(0), time: None };
        for (alarm, was, (bytes, seconds), expected) in [
            (none, false, (u64::MAX, 1e9), false),
            // A reload took the bounds away.
            (none, true, (u64::MAX, 1e9), false),
            (bytes, false, (100, 1e9), false),
            (bytes, false, (101, 0.0), true),
            (bytes, true, (51, 0.0), true),
            (bytes, true, (50, 1e9), false),
            (time, false, (u64::MAX, 10.0), false),
            (time, false, (0, 10.1), true),
            (time, true, (0, 5.1), true),
            (time, true, (u64::MAX, 5.0), false),
            (both, false, (0, 11.0), true),
            (both, false, (101, 0.0), true),
            (both, true, (101, 0.0), true),
            (both, true, (50, 6.0), true),
            (both, true, (50, 5.0), false),
            (zero, false, (0, 0.0), false),
            (zero, false, (1, 0.0), true),
            (zero, true, (0, 0.0), false),
        ] {
            let is = alarm.is_on(was, &Lag { bytes, seconds });
            assert_eq!(is, expected, "{alarm:?}, was {was}, {bytes} bytes, {seconds} s");
        }
    }
}
