//! What follows a run. Pure.

use std::time::Duration;

use crate::config::RetryConfig;
use crate::failure::{Failure, Kind};

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It was told.
    Told,
    /// It is tried again after this pause.
    Again(Duration),
    /// It is not tried any more.
    Never,
}

/// What becomes of a message after a run that was its `tries`th. `wanted` is how long the receiver wants to be left alone.
pub(super) fn after(
    run: Result<(), &Failure>,
    tries: u32,
    retry: &RetryConfig,
    wanted: Option<Duration>,
    jitter: f64,
) -> Next {
    match run {
        Ok(()) => Next::Told,
        Err(Failure { kind: Kind::Refused, .. }) => Next::Never,
        Err(_) if tries >= retry.attempts => Next::Never,
        Err(_) => {
            let pause = retry.backoff().pause(tries, jitter);
            Next::Again(pause.max(wanted.unwrap_or_default().min(retry.longest_pause)))
        }
    }
}

/// What a state was last set to, and whether that worked. `H` is what it is set to.
#[derive(Debug)]
pub(super) struct Tried<H> {
    last: Option<H>,
    failures: u32,
}

impl<H: PartialEq> Tried<H> {
    pub(super) const fn nothing() -> Self {
        Self { last: None, failures: 0 }
    }

    /// Whether it has to be set to `wanted` at once; else only when [`Tried::pause`] is over.
    pub(super) fn is_news(&self, wanted: &H) -> bool {
        self.last.as_ref() != Some(wanted)
    }

    pub(super) fn done(&mut self, wanted: H, worked: bool) {
        self.last = Some(wanted);
        self.failures = if worked { 0 } else { self.failures.saturating_add(1) };
    }

    /// When it is set again although nothing is news: soon where it failed, else as often as it is refreshed.
    pub(super) fn pause(
        &self,
        retry: &RetryConfig,
        refresh: Option<Duration>,
        jitter: f64,
    ) -> Option<Duration> {
        match self.failures {
            0 => refresh,
            failures => Some(retry.backoff().pause(failures, jitter)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_message_is_tried_so_often_and_never_again_where_it_is_refused() {
        let retry = RetryConfig { attempts: 3, pause: seconds(1), longest_pause: seconds(3) };
        let failed = Failure::failed("x");
        let refused = Failure { kind: Kind::Refused, ..failed.clone() };
        for (run, tries, wanted, expected) in [
            (Ok(()), 3, None, Next::Told),
            (Err(&failed), 1, None, Next::Again(seconds(1))),
            (Err(&failed), 2, None, Next::Again(seconds(2))),
            (Err(&failed), 1, Some(seconds(2)), Next::Again(seconds(2))),
            (Err(&failed), 1, Some(seconds(99)), Next::Again(seconds(3))),
            (Err(&failed), 3, None, Next::Never),
            (Err(&Failure::late("x")), 1, None, Next::Again(seconds(1))),
            (Err(&refused), 1, None, Next::Never),
        ] {
            assert_eq!(after(run, tries, &retry, wanted, 1.0), expected, "{run:?} {tries}");
        }
    }

    #[test]
    fn a_state_is_set_at_news_after_failures_and_to_refresh_it() {
        let retry = RetryConfig { attempts: 1, pause: seconds(1), longest_pause: seconds(4) };
        let mut tried = Tried::nothing();
        assert!(tried.is_news(&"a"));
        tried.done("a", true);
        assert!(!tried.is_news(&"a") && tried.is_news(&"b"));
        assert_eq!(tried.pause(&retry, None, 1.0), None);
        assert_eq!(tried.pause(&retry, Some(seconds(9)), 1.0), Some(seconds(9)));
        for expected in [1, 2, 4, 4] {
            tried.done("b", false);
            // More often than `attempts`: it still has to hold.
            assert_eq!(tried.pause(&retry, Some(seconds(9)), 1.0), Some(seconds(expected)));
            assert!(!tried.is_news(&"b"));
        }
        tried.done("b", true);
        assert_eq!(tried.pause(&retry, None, 1.0), None);
    }
}
