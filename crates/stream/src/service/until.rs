//! A stream up to a place in the log, and no further.

use std::sync::Arc;

use herdsman_node::Lsn;
use herdsman_wal::{Event, Source, WalError};

use crate::engine::{Events, Live};

/// Everything committed before a position; then it is finished. Nothing behind the position is acknowledged.
pub(super) struct Until {
    live: Live,
    end: Lsn,
    reached: bool,
}

impl Until {
    pub(super) fn new(live: Live, end: Lsn) -> Self {
        Self { live, end, reached: false }
    }

    pub(super) fn into_live(self) -> Live {
        self.live
    }
}

impl Events for Until {
    async fn next(&mut self) -> Result<Event<'_>, WalError> {
        if self.reached {
            std::future::pending::<()>().await;
        }
        match self.live.next().await? {
            // What comes in the order of commits comes behind the position from here on.
            Event::Begin(transaction) if transaction.commit_lsn >= self.end => {
                self.reached = true;
                Ok(Event::Idle { wal_end: self.end })
            }
            Event::Idle { wal_end } if wal_end >= self.end => {
                self.reached = true;
                Ok(Event::Idle { wal_end: self.end })
            }
            event => Ok(event),
        }
    }

    fn handled(&self, lsn: Lsn) {
        self.live.handled(lsn);
    }

    fn source(&self) -> &Arc<Source> {
        Events::source(&self.live)
    }

    fn is_finished(&self) -> bool {
        self.reached
    }
}
