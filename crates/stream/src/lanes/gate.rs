//! Whether the sink as a whole can be tried.

use std::time::Duration;

use tokio::time::Instant;

/// Closed while a sink that said it cannot take anything is left alone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gate {
    failures: u32,
    until: Option<Instant>,
}

impl Gate {
    pub(super) fn is_closed(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Until the sink has taken something again, one batch at a time finds out whether it does.
    pub(super) fn is_probing(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Batches that were under way together fail together: that is one failure of the sink.
    pub(super) fn close(&mut self, now: Instant, pause: impl FnOnce(u32) -> Duration) {
        if self.is_closed(now) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + pause(self.failures));
    }

    pub(super) fn open(&mut self) {
        *self = Self::default();
    }
}
