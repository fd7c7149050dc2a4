//! A server connection in the hands of one client.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::Pool;
use super::server::{Server, Use};
use crate::settings::Settings;
use crate::statements::ServerStatements;
use crate::stats::Deeds;

/// Settings, role, prepared statements, temporary tables, cursors, locks, LISTEN: all of it.
const RESET: &str = "DISCARD ALL";

/// A server connection in the hands of one client. Dropping it closes the connection; [`Lease::give_back`] does not.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) server: Box<Server>,
    pub(crate) pool: Arc<Pool>,
    /// The node's epoch when it was taken (see `Herd::epoch`).
    pub(crate) epoch: u64,
    /// Taken to write.
    pub(crate) writer: bool,
    /// [`Lease::new`] notes what it is for.
    _noted: (),
}

impl Lease {
    /// A connection that a client begins to use.
    #[inline]
    pub(crate) fn new(server: Box<Server>, pool: Arc<Pool>, epoch: u64, writer: bool) -> Self {
        server.identity.enter(if writer { Use::Writer } else { Use::Reader });
        Self { server, pool, epoch, writer, _noted: () }
    }

    /// Hands the connection back, to whoever waits or to the pool. Only for one that is idle (`Z` with `I`, nothing
    /// outstanding). One that is being cancelled comes back when that is over; one that is too old, `dirty` or no longer
    /// wanted is closed. `now` is the coarse clock's.
    #[inline]
    pub(crate) fn give_back(self, worker: usize, now: u64) {
        let Self { mut server, pool, .. } = self;
        server.used = now;
        pool.put(server, worker, now);
    }

    /// As [`Lease::give_back`], with what the client has done. Returns the pool, for the client's next transaction.
    #[inline]
    pub(crate) fn give_back_after(self, worker: usize, now: u64, deeds: Deeds) -> Arc<Pool> {
        let Self { mut server, pool, .. } = self;
        server.used = now;
        pool.put_after(server, worker, now, deeds);
        pool
    }

    /// As [`Lease::give_back`], after everything that a session can leave behind has been thrown away: for a client that
    /// had the connection to itself. That goes on in the background; where it fails, the connection is closed. Only on
    /// the runtime of `worker`.
    pub(crate) fn reset_and_give_back(mut self, worker: usize, now: u64) {
        let Ok(runtime) = Handle::try_current() else { return };
        let limit = self.pool.lock().limits.connect_timeout;
        runtime.spawn(async move {
            let reset = tokio::time::timeout(limit, self.server.query(RESET)).await;
            if matches!(reset, Ok(Ok(_))) {
                self.server.settings = Settings::default();
                self.server.statements = ServerStatements::default();
                self.give_back(worker, now);
            }
        });
    }
}
