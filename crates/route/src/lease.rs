//! A connection in the hands of one statement.
//!
//! sqlx's pool loses a permit for good when a statement on a silent peer is dropped, and asks the server for a sign of
//! life after each use. Both are avoided here: a lease that ends before its statement did takes its connection out of
//! the pool, and one that ended well keeps it warm for the next statement. Where there are more statements than
//! connections they stand in line here, not at the pool, so that they, too, find a warm one.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use herdsman_node::NodeName;
use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::stats::Counters;

/// One pool of one node, from when the node was found well until it is replaced.
#[derive(Debug)]
pub(crate) struct Epoch {
    pub(crate) node: NodeName,
    pub(crate) pool: PgPool,
    /// Whether the server refuses to write over these connections.
    pub(crate) read_only: bool,
    pub(crate) counters: Arc<Counters>,
    gone: Arc<Gone>,
    /// Set when another pool has taken this one's place.
    retired: AtomicBool,
    /// Connections between two statements. They are the pool's, only not given back yet.
    warm: ArrayQueue<PoolConnection<Postgres>>,
    /// One for each connection that there may be, first come first served. Whoever has one and finds no warm connection
    /// need not wait for one at the pool, unless callers have connections of their own or one is on its way back.
    places: Semaphore,
    /// How many wait at the pool in vain: while anyone does, none is kept warm.
    waiting: AtomicUsize,
    /// How many connections that were in use when the others cooled are still to be given back.
    cooling: AtomicUsize,
}

/// Whether the node was given up, and news of it: whoever waits for the node then stops waiting. Every statement
/// listens, so this is no cancellation token, of which each use takes several locks.
#[derive(Debug, Default)]
struct Gone {
    is: AtomicBool,
    news: Notify,
}

/// How long a place's holder waits at the pool before those who are done give up their connections for it. One that is
/// on its way back to the pool is there much sooner. Without this pause a single wait would make the next statement's
/// connection go back to the pool, and the next one's, for as long as there are more statements than connections.
const GRACE: Duration = Duration::from_millis(2);
/// How long a connection whose statement was abandoned may take to come to rest before it is closed.
const SETTLE: Duration = Duration::from_secs(2);
/// How long the closing of a pool's connections is waited for before they are forgotten.
const GOODBYE: Duration = Duration::from_secs(5);

impl Epoch {
    pub(crate) fn new(
        node: NodeName,
        pool: PgPool,
        read_only: bool,
        max_connections: u32,
        counters: Arc<Counters>,
    ) -> Self {
        let connections =
            usize::try_from(max_connections).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            node,
            pool,
            read_only,
            counters,
            gone: Arc::default(),
            retired: AtomicBool::new(false),
            warm: ArrayQueue::new(connections.min(1024)),
            places: Semaphore::new(connections),
            waiting: AtomicUsize::new(0),
            cooling: AtomicUsize::new(0),
        }
    }

    /// Takes a connection: a warm one, an idle one, or a new one, within the pool's acquire timeout.
    pub(crate) async fn lease(self: Arc<Self>) -> Result<Lease, sqlx::Error> {
        // Counted from here on: a node whose connections are all waited for is a busy node.
        let mut lease = Lease::empty(self);
        lease.placed = lease.epoch.places.try_acquire().map(SemaphorePermit::forget).is_ok();
        if lease.placed {
            lease.connection = lease.epoch.warm.pop();
        }
        if lease.connection.is_none() {
            // Boxed: it holds everything it takes to connect, which a statement that finds a warm one need not carry.
            Box::pin(lease.wait()).await?;
        }
        Ok(lease)
    }

    /// Waits for `work`, but not longer than the node is there.
    async fn unless_gone<T>(&self, work: impl Future<Output = T>) -> Result<T, sqlx::Error> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.gone.wait() => Err(gone()),
        }
    }

    /// A future that ends when the node is given up.
    pub(crate) fn until_gone(&self) -> impl Future<Output = sqlx::Error> + Send + 'static {
        let node = Arc::clone(&self.gone);
        async move {
            node.wait().await;
            gone()
        }
    }

    /// A connection from the pool itself.
    async fn ask_pool(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        let mut acquired = std::pin::pin!(self.pool.acquire());
        if let Ok(acquired) = timeout(GRACE, acquired.as_mut()).await {
            return acquired;
        }
        let _waiter = Waiter::new(&self.waiting);
        // Between announcing and waiting on: see `Lease::keep_warm`. Given to the pool, not taken: this one may be about
        // to be connected already.
        drop(self.warm.pop());
        acquired.await
    }

    /// Connections that serve nobody now.
    pub(crate) fn idle(&self) -> u32 {
        let idle = self.pool.num_idle().saturating_add(self.warm.len());
        u32::try_from(idle).unwrap_or(u32::MAX)
    }

    /// Gives warm connections back to the pool, so that its limits on idleness and age can act on them.
    pub(crate) fn cool(&self) {
        for _ in 0..self.warm.len() {
            drop(self.warm.pop());
        }
        // Where there are more statements than connections, none is ever found between two of them.
        let busy = self.places.available_permits() == 0;
        self.cooling.store(if busy { self.warm.capacity() } else { 0 }, Ordering::Relaxed);
    }

    /// Another pool takes over. Idle connections are closed; with `cut` also those in use.
    pub(crate) fn retire(self: &Arc<Self>, cut: bool) {
        self.retired.store(true, Ordering::SeqCst);
        self.places.close();
        if cut {
            self.gone.tell();
        }
        let old = Arc::clone(self);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                old.empty();
                // A silent peer would keep this waiting for ever.
                drop(timeout(GOODBYE, old.pool.close()).await);
            });
        }
    }

    /// Whether a connection that was in use now has to be given back.
    fn cools(&self) -> bool {
        self.cooling.load(Ordering::Relaxed) > 0
            && self
                .cooling
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
    }

    fn empty(&self) {
        while let Some(connection) = self.warm.pop() {
            discard(connection);
        }
    }
}

impl Gone {
    fn tell(&self) {
        self.is.store(true, Ordering::SeqCst);
        self.news.notify_waiters();
    }

    async fn wait(&self) {
        // Listening begins here, before looking.
        let news = self.news.notified();
        if !self.is.load(Ordering::SeqCst) {
            news.await;
        }
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.empty();
    }
}

/// Closes a connection's socket at once and gives its place in the pool back. Needs no runtime and waits for nothing.
fn discard(connection: PoolConnection<Postgres>) {
    drop(connection.detach());
}

fn gone() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(
        std::io::ErrorKind::ConnectionAborted,
        "the node was found to be offline",
    ))
}

/// Counts one who waits for a connection.
struct Waiter<'a>(&'a AtomicUsize);

impl<'a> Waiter<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A connection for one statement. Dropped before [`Lease::done`], it does not go back as it is.
#[derive(Debug)]
pub(crate) struct Lease {
    epoch: Arc<Epoch>,
    connection: Option<PoolConnection<Postgres>>,
    /// Whether it has one of the epoch's places.
    placed: bool,
}

impl Lease {
    fn empty(epoch: Arc<Epoch>) -> Self {
        epoch.counters.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { epoch, connection: None, placed: false }
    }

    /// Stands in line for a place, if it has none yet, and then for a connection.
    async fn wait(&mut self) -> Result<(), sqlx::Error> {
        let epoch = Arc::clone(&self.epoch);
        let patience = epoch.pool.options().get_acquire_timeout();
        let in_line = async {
            if !self.placed {
                let place = epoch.places.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
                place.forget();
                self.placed = true;
            }
            match epoch.warm.pop() {
                Some(connection) => Ok(connection),
                None => epoch.ask_pool().await,
            }
        };
        let waited = epoch.unless_gone(timeout(patience, in_line)).await?;
        self.connection = Some(waited.map_err(|_| sqlx::Error::PoolTimedOut)??);
        Ok(())
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
        if let Some(connection) = self.connection.take() {
            self.keep_warm(connection);
        }
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

    /// Keeps the connection unless somebody waits for one. A waiter announces itself and then looks among the warm;
    /// here a connection is put there and then the waiters are counted: one of the two sees the other.
    fn keep_warm(&self, connection: PoolConnection<Postgres>) {
        let epoch = &self.epoch;
        let retired = || epoch.retired.load(Ordering::SeqCst);
        if retired() || epoch.waiting.load(Ordering::Relaxed) > 0 || epoch.cools() {
            return drop(connection);
        }
        if let Err(connection) = epoch.warm.push(connection) {
            return drop(connection);
        }
        fence(Ordering::SeqCst);
        if epoch.waiting.load(Ordering::SeqCst) > 0 || retired() {
            drop(epoch.warm.pop());
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.epoch.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.placed {
            self.epoch.places.add_permits(1);
        }
        let Some(mut connection) = self.connection.take() else { return };
        let Ok(runtime) = Handle::try_current() else { return discard(connection) };
        if self.epoch.gone.is.load(Ordering::SeqCst) {
            return discard(connection);
        }
        let node = self.epoch.node.clone();
        // The rest of the result may still be on its way: read past it, but not for ever.
        runtime.spawn(async move {
            match timeout(SETTLE, connection.ping()).await {
                Ok(Ok(())) => drop(connection),
                Ok(Err(_)) | Err(_) => {
                    tracing::debug!(%node, "closed the connection of an abandoned statement");
                    discard(connection);
                }
            }
        });
    }
}
