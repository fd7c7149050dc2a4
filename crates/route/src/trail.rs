//! How late a standby is, by our own clock: where the writer was when.

use std::collections::VecDeque;
use std::time::Duration;

use herdsman_node::Lsn;
use tokio::time::Instant;

use crate::policy::Lag;

/// Positions of the writer with the moments they were first seen, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Trail(VecDeque<(Instant, Lsn)>);

/// Enough for half a minute at two looks a second; later than the whole trail is late enough.
const LENGTH: usize = 64;

impl Trail {
    /// The writer was seen at `position`. A position further back means another history: the trail begins anew.
    pub(crate) fn step(&mut self, now: Instant, position: Lsn) {
        match self.0.back() {
            Some(&(_, last)) if last == position => return,
            Some(&(_, last)) if last > position => self.0.clear(),
            _ => {}
        }
        if self.0.len() == LENGTH {
            self.0.pop_front();
        }
        self.0.push_back((now, position));
    }

    /// How far behind a standby at `position` is: bytes to the writer's last position, and the age of the first one it
    /// has not reached. `None` while nothing is known of the writer.
    pub(crate) fn lag(&self, now: Instant, position: Lsn) -> Option<Lag> {
        let &(_, last) = self.0.back()?;
        let missed = self.0.iter().find(|&&(_, step)| step > position);
        let time = missed.map_or(Duration::ZERO, |&(at, _)| now.saturating_duration_since(at));
        Some(Lag { bytes: last.bytes_after(position), time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lag_is_the_age_of_the_first_position_not_reached() {
        let mut trail = Trail::default();
        let start = Instant::now();
        assert_eq!(trail.lag(start, Lsn(5)), None);
        for second in 0..10 {
            trail.step(start + Duration::from_secs(second), Lsn(100 * (second + 1)));
        }
        let now = start + Duration::from_secs(10);
        let lag = |position| trail.lag(now, Lsn(position)).unwrap();
        assert_eq!(lag(1000), Lag { bytes: 0, time: Duration::ZERO });
        assert_eq!(lag(2000), Lag { bytes: 0, time: Duration::ZERO });
        assert_eq!(lag(850), Lag { bytes: 150, time: Duration::from_secs(2) });
        assert_eq!(lag(0).time, Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_writer_makes_nobody_late() {
        let mut trail = Trail::default();
        let start = Instant::now();
        trail.step(start, Lsn(7));
        trail.step(start + Duration::from_secs(100), Lsn(7));
        assert_eq!(
            trail.lag(start + Duration::from_secs(200), Lsn(7)).unwrap().time,
            Duration::ZERO
        );
    }

    #[tokio::test(start_paused = true)]
    async fn another_history_begins_a_new_trail() {
        let mut trail = Trail::default();
        let start = Instant::now();
        trail.step(start, Lsn(1000));
        trail.step(start + Duration::from_secs(1), Lsn(10));
        assert_eq!(trail.lag(start + Duration::from_secs(2), Lsn(10)).unwrap().bytes, 0);
    }
}
