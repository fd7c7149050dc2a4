//! Whether a node is there: a state machine fed by its pulse.

use std::time::Duration;

use tokio::time::Instant;

pub(crate) use crate::policy::Health;

/// What the pulse met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// An answer.
    Answered,
    /// The server let nobody in, or said that it is starting or stopping.
    Refused,
    /// No answer in time.
    Silent,
}

/// How many silences in a row make a node that did answer offline. One may be a busy machine; two are two whole time
/// limits without a sign of life.
pub(crate) const SILENCES: u32 = 2;

/// The state machine of one node's health.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Monitor {
    health: Health,
    silences: u32,
    failures: u32,
}

impl Monitor {
    pub(crate) const fn health(&self) -> Health {
        self.health
    }

    /// Takes in what the pulse met at `now`; returns whether the node went offline or came back by it.
    pub(crate) fn take(&mut self, beat: Beat, now: Instant) -> bool {
        let before = self.health;
        match beat {
            Beat::Answered => {
                self.silences = 0;
                self.failures = 0;
                self.health = match before {
                    Health::Unknown => Health::Online { returned: None },
                    Health::Offline { .. } => Health::Online { returned: Some(now) },
                    online @ Health::Online { .. } => online,
                };
            }
            Beat::Refused => self.fail(now),
            Beat::Silent => {
                self.silences = self.silences.saturating_add(1);
                if matches!(before, Health::Unknown) || self.silences >= SILENCES {
                    self.fail(now);
                }
            }
        }
        self.health != before
    }

    fn fail(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if !matches!(self.health, Health::Offline { .. }) {
            self.health = Health::Offline { since: now };
        }
    }

    /// How long to wait before the next look: `interval` at a node that answers, and at one that does not between a
    /// tenth of it and four times it, growing with each failure. `jitter` is a random number from 0 to 1.
    pub(crate) fn pause(&self, interval: Duration, jitter: f64) -> Duration {
        let base = if self.failures == 0 && self.silences == 0 {
            interval
        } else {
            let growth = 1u32 << self.failures.min(6);
            (interval / 10 * growth).min(interval * 4)
        };
        base.mul_f64(0.75 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(500);

    #[tokio::test(start_paused = true)]
    async fn a_refusal_makes_a_node_offline_at_once_and_an_answer_brings_it_back() {
        let mut monitor = Monitor::default();
        assert_eq!(monitor.health(), Health::Unknown);
        assert!(monitor.take(Beat::Answered, Instant::now()));
        assert!(!monitor.take(Beat::Answered, Instant::now()));
        assert!(monitor.take(Beat::Refused, Instant::now()));
        assert!(!monitor.take(Beat::Refused, Instant::now()));
        tokio::time::advance(INTERVAL).await;
        let back = Instant::now();
        assert!(monitor.take(Beat::Answered, back));
        assert_eq!(monitor.health(), Health::Online { returned: Some(back) });
    }

    #[tokio::test(start_paused = true)]
    async fn one_silence_is_forgiven_to_a_node_that_has_answered() {
        let now = Instant::now();
        let mut monitor = Monitor::default();
        monitor.take(Beat::Answered, now);
        assert!(!monitor.take(Beat::Silent, now));
        assert!(!monitor.take(Beat::Answered, now));
        assert!(!monitor.take(Beat::Silent, now));
        assert!(monitor.take(Beat::Silent, now));
        let mut stranger = Monitor::default();
        assert!(stranger.take(Beat::Silent, now), "a node that never answered has no credit");
    }

    #[tokio::test(start_paused = true)]
    async fn looks_at_a_dead_node_get_rarer_and_stay_bounded() {
        let mut monitor = Monitor::default();
        let mut last = Duration::ZERO;
        for _ in 0..40 {
            monitor.take(Beat::Refused, Instant::now());
            let pause = monitor.pause(INTERVAL, 0.5);
            assert!(pause >= last && pause <= INTERVAL * 4, "{pause:?} after {last:?}");
            last = pause;
        }
        assert_eq!(last, INTERVAL * 4);
        monitor.take(Beat::Answered, Instant::now());
        assert_eq!(monitor.pause(INTERVAL, 0.5), INTERVAL);
    }
}
