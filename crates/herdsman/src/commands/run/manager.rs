//! What the service manager is told, where one started us: that we are up, reload, stop, and still live.
//!
//! It speaks the protocol of `sd_notify(3)`. Where nobody listens (`NOTIFY_SOCKET` is not set), nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Every port is open, and `doing` is what `systemctl status` shows.
pub(in crate::commands) fn ready(doing: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(doing)]);
}

/// The configuration is read again; [`ready`] says when that is over, however it ended.
pub(in crate::commands) fn reloading() {
    // Without the time the manager would not know which of its own wishes this answers.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now, NotifyState::Status("reloading")]),
        Err(error) => {
            tracing::debug!(%error, "no clock: the service manager is not told of the reload");
        }
    }
}

/// No more requests are taken.
pub(in crate::commands) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping: clients may finish")]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

/// The sign of life that the manager waits for, where it does (`WatchdogSec=`). It comes from the task that everything
/// hangs on, so that it fails to come when that one hangs.
pub(in crate::commands) struct Watchdog(Option<Interval>);

impl Watchdog {
    /// As often as the manager asks for.
    pub(in crate::commands) fn of_manager() -> Self {
        Self(sd_notify::watchdog_enabled().and_then(pause).map(|pause| {
            let mut beats = interval(pause);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beats
        }))
    }

    /// Waits for the time of the next sign, and gives it. Never comes back where nobody waits for any.
    pub(in crate::commands) async fn beat(&mut self) {
        match &mut self.0 {
            Some(beats) => {
                beats.tick().await;
                tell(&[NotifyState::Watchdog]);
            }
            None => std::future::pending().await,
        }
    }

    /// Gives signs while something is done whose time has bounds of its own.
    pub(in crate::commands) async fn during<T>(&mut self, doing: impl Future<Output = T>) -> T {
        tokio::pin!(doing);
        loop {
            tokio::select! {
                done = &mut doing => return done,
                () = self.beat() => (),
            }
        }
    }
}

/// Between two signs: two fit into the time after which the manager gives up, and one may be late.
fn pause(limit: Duration) -> Option<Duration> {
    Some(limit / 2).filter(|pause| !pause.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_signs_fit_into_the_time_that_the_manager_waits() {
        let pauses = [(30_000_000, Some(15_000_000)), (2, Some(1)), (0, None)];
        for (limit, expected) in pauses {
            let found = pause(Duration::from_micros(limit));
            assert_eq!(found, expected.map(Duration::from_micros), "{limit}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_told_where_nobody_asked() {
        let mut watchdog = Watchdog(None);
        assert_eq!(watchdog.during(async { 7 }).await, 7);
        assert!(tokio::time::timeout(Duration::from_secs(60), watchdog.beat()).await.is_err());
    }
}
