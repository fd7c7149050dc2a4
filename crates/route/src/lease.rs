//! A connection in the hands of one statement.
//!
//! sqlx's pool loses a permit for good when a statement on a silent peer is dropped, asks the server for a sign of life
//! after each use, and gives up connecting when the one who waits for it gives up. All are avoided here: a lease that ends
//! before its statement did takes its connection out of the pool, one that ended well hands it to the next statement, and
//! connections are made by tasks of their own, so that a storm of impatient statements cannot keep a pool empty.

mod epoch;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(crate) use epoch::Epoch;

use epoch::discard;
use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, PgConnection, Postgres};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How long a connection whose statement was abandoned may take to come to rest before it is closed.
pub(crate) const SETTLE: Duration = Duration::from_secs(2);

/// A connection for one statement. Dropped before [`Lease::done`], it does not go back as it is.
#[derive(Debug)]
pub(crate) struct Lease {
    epoch: Arc<Epoch>,
    connection: Option<PoolConnection<Postgres>>,
    /// Its result is being handed on row by row, and nobody knows how many are still to come.
    streaming: bool,
}

impl Lease {
    fn empty(epoch: Arc<Epoch>) -> Self {
        epoch.counters.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { epoch, connection: None, streaming: false }
    }

    pub(crate) const fn epoch(&self) -> &Arc<Epoch> {
        &self.epoch
    }

    /// The connection itself.
    pub(crate) fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.connection.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// The statement has ended and its whole result was read: the connection may serve the next one.
    pub(crate) fn done(mut self) {
        match self.connection.take() {
            Some(connection) if self.epoch.cools() => drop(connection),
            Some(connection) => self.epoch.give(connection),
            None => {}
        }
    }

    /// While it is streaming, a drop closes the connection: whoever streams has read past as much as is worth it.
    pub(crate) const fn streaming(&mut self, on: bool) {
        self.streaming = on;
    }

    /// The connection is broken, or nobody knows what state it is in.
    pub(crate) fn broken(mut self) {
        if let Some(connection) = self.connection.take() {
            discard(connection);
        }
    }

    /// Hands the connection over to the caller, who gives it back to the pool by dropping it.
    pub(crate) fn into_inner(mut self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        self.connection.take().ok_or(sqlx::Error::PoolClosed)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return self.epoch.ended() };
        let abandoned = Abandoned { epoch: Arc::clone(&self.epoch), connection: Some(connection) };
        if let (Ok(runtime), false) =
            (Handle::try_current(), self.streaming || self.epoch.is_gone())
        {
            runtime.spawn(abandoned.settle());
        }
    }
}

/// The connection of a statement that was given up, or of which nobody knows how it ended. The node counts as busy with
/// it until it has come to rest. Dropped before, it is closed: nothing of it needs a runtime.
struct Abandoned {
    epoch: Arc<Epoch>,
    connection: Option<PoolConnection<Postgres>>,
}

impl Abandoned {
    /// The rest of the result may still be on its way: reads past it, but not for ever.
    async fn settle(mut self) {
        let Some(connection) = self.connection.as_mut() else { return };
        let pong = tokio::select! {
            biased;
            pong = timeout(SETTLE, connection.ping()) => matches!(pong, Ok(Ok(()))),
            _ = self.epoch.until_gone() => false,
        };
        if !pong {
            tracing::debug!(node = %self.epoch.node, "closing the connection of an abandoned statement");
            return;
        }
        if let Some(connection) = self.connection.take() {
            self.epoch.give(connection);
        }
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.epoch.ended();
        if let Some(connection) = self.connection.take() {
            discard(connection);
        }
    }
}
