//! Lets bytes gather while they come faster than each visit to the socket is worth.
//!
//! The server sends every change by itself. A reader that is woken for each few of them spends more on being woken than
//! on the changes. So while visits follow each other closely, the next one is a millisecond away; a lone change is still
//! taken at once.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// How long bytes gather: what is lost in latency, and only while there is no peace anyway.
const PAUSE: Duration = Duration::from_millis(1);
/// Visits within one pause from which on it is worth waiting.
const BUSY: u32 = 8;
/// A pause that brought less than this was one too many.
const LEAST: usize = 8 << 10;
/// A visit that brought this much waits for nobody: here is the bottleneck, not there.
const MUCH: usize = 128 << 10;

#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// When the visits that are counted began.
    since: Option<Instant>,
    visits: u32,
    flowing: bool,
    /// Until when to wait. Kept here, and not in a future that may be dropped.
    pause: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Gathering {
    /// Waits, where that is worth it. May be dropped and called again.
    pub(super) async fn wait(&mut self) {
        if self.waiting
            && let Some(pause) = &mut self.pause
        {
            pause.as_mut().await;
            self.waiting = false;
        }
    }

    /// Notes what a visit brought.
    pub(super) fn received(&mut self, bytes: usize, now: Instant) {
        if self.is_worth_waiting(bytes, now) {
            let until = now + PAUSE;
            match &mut self.pause {
                Some(pause) => pause.as_mut().reset(until),
                None => self.pause = Some(Box::pin(sleep_until(until))),
            }
            self.waiting = true;
        }
    }

    fn is_worth_waiting(&mut self, bytes: usize, now: Instant) -> bool {
        if self.flowing {
            self.flowing = bytes >= LEAST;
            return self.flowing && bytes < MUCH;
        }
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) > PAUSE {
            (self.since, self.visits) = (Some(now), 0);
        }
        self.visits += 1;
        if self.visits >= BUSY {
            (self.since, self.visits, self.flowing) = (None, 0, true);
        }
        self.flowing && bytes < MUCH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Visits of this many bytes, this many microseconds apart: which of them are followed by a pause.
    fn pauses(visits: &[(usize, u64)]) -> Vec<bool> {
        let mut gathering = Gathering::default();
        let mut now = Instant::now();
        let visit = |&(bytes, micros): &(usize, u64)| {
            now += Duration::from_micros(micros);
            gathering.is_worth_waiting(bytes, now)
        };
        visits.iter().map(visit).collect()
    }

    #[test]
    fn lone_changes_are_taken_at_once() {
        assert!(!pauses(&[(200, 300); 100]).contains(&true));
        assert!(!pauses(&[(MUCH, 10); 100]).contains(&true));
    }

    #[test]
    fn a_flow_gathers_until_it_ebbs() {
        let mut visits = vec![(400, 20); 8];
        visits.extend([(50_000, 1000), (60_000, 1000), (300, 1000), (300, 1000)]);
        let mut expected = vec![false; 7];
        expected.extend([true, true, true, false, false]);
        assert_eq!(pauses(&visits), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_given_up_goes_on() {
        let mut gathering = Gathering::default();
        (0..BUSY).for_each(|_| gathering.received(100, Instant::now()));
        let began = Instant::now();
        assert!(futures_util::poll!(std::pin::pin!(gathering.wait())).is_pending());
        gathering.wait().await;
        gathering.wait().await;
        let waited = began.elapsed();
        assert!((PAUSE..PAUSE * 3).contains(&waited), "{waited:?}");
    }
}
