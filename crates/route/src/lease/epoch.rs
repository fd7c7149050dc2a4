//! One pool of one node: how connections come out of it, pass from one statement to the next, and end.

use std::future::{Future, pending};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::time::Duration;

use crossbeam_queue::{ArrayQueue, SegQueue};
use herdsman_node::NodeName;
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};

use super::Lease;
use crate::stats::Counters;

/// One pool of one node, from when the node was found well until it is replaced.
#[derive(Debug)]
pub(crate) struct Epoch {
    pub(crate) node: NodeName,
    pub(crate) pool: PgPool,
    /// Whether the server refuses to write over these connections.
    pub(crate) read_only: bool,
    pub(crate) counters: Arc<Counters>,
    /// Whether the node was given up: whoever waits for it then stops waiting. Pools that follow each other while the
    /// node is there have it in common, so that giving it up also ends what still goes on in an earlier one.
    gone: Arc<Gone>,
    /// Set when this pool is used no more.
    retired: AtomicBool,
    /// Set while connections are opened ahead of need.
    filling: AtomicBool,
    /// Connections between two statements. They are the pool's, only not given back yet.
    warm: ArrayQueue<PoolConnection<Postgres>>,
    /// How many wait for a connection: while anyone does, none is kept warm.
    waiting: AtomicUsize,
    /// What those who wait are given, in the order of their coming: a permit of `handed` stands for each of `hand`.
    hand: SegQueue<Result<PoolConnection<Postgres>, sqlx::Error>>,
    handed: Semaphore,
    /// How many tasks take connections out of the pool for those who wait.
    fetching: AtomicUsize,
    /// How many connections that were in use when the others cooled are still to be given back.
    cooling: AtomicUsize,
}

/// Whether the node was given up, and news of it. Every statement listens, so this is no cancellation token, of which
/// each use takes several locks.
#[derive(Debug, Default)]
struct Gone {
    is: AtomicBool,
    news: Notify,
}

impl Gone {
    fn is(&self) -> bool {
        self.is.load(Ordering::SeqCst)
    }

    fn tell(&self) {
        self.is.store(true, Ordering::SeqCst);
        self.news.notify_waiters();
    }

    async fn wait(&self) {
        // Listening begins here, before looking.
        let news = self.news.notified();
        if !self.is() {
            news.await;
        }
    }
}

/// How long the closing of a pool's connections is waited for before they are forgotten.
const GOODBYE: Duration = Duration::from_secs(5);

impl Epoch {
    pub(crate) fn new(
        node: NodeName,
        pool: PgPool,
        read_only: bool,
        max_connections: u32,
        counters: Arc<Counters>,
        before: Option<&Self>,
    ) -> Self {
        let gone = before.map(|before| Arc::clone(&before.gone)).filter(|gone| !gone.is());
        Self {
            node,
            pool,
            read_only,
            counters,
            gone: gone.unwrap_or_default(),
            retired: AtomicBool::new(false),
            filling: AtomicBool::new(false),
            warm: ArrayQueue::new(usize::try_from(max_connections).unwrap_or(1).clamp(1, 1024)),
            waiting: AtomicUsize::new(0),
            hand: SegQueue::new(),
            handed: Semaphore::new(0),
            fetching: AtomicUsize::new(0),
            cooling: AtomicUsize::new(0),
        }
    }

    /// Takes a connection: a warm one, an idle one, or a new one, within the pool's acquire timeout.
    pub(crate) async fn lease(self: Arc<Self>) -> Result<Lease, sqlx::Error> {
        // Counted from here on: a node whose connections are all waited for is a busy node.
        let mut lease = Lease::empty(self);
        if lease.epoch.is_retired() {
            return Err(lease.epoch.why_retired());
        }
        lease.connection = Some(match lease.epoch.warm.pop() {
            Some(connection) => connection,
            // Boxed: a statement that finds a warm one need not carry what it takes to wait.
            None => Box::pin(lease.epoch.wait()).await?,
        });
        Ok(lease)
    }

    async fn wait(self: &Arc<Self>) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        let _waiter = Waiter::new(&self.waiting);
        // Between announcing and looking: see `give`.
        if let Some(connection) = self.warm.pop() {
            return Ok(connection);
        }
        let handed = async {
            loop {
                match self.handed.acquire().await {
                    Ok(permit) => permit.forget(),
                    Err(_closed) => return Err(self.why_retired()),
                }
                if let Some(one) = self.hand.pop() {
                    return one;
                }
            }
        };
        let idle = self.pool.num_idle() > 0;
        let pooled = async { if idle { self.pool.acquire().await } else { pending().await } };
        if !idle {
            self.fetch();
        }
        tokio::select! {
            biased;
            one = handed => one,
            one = pooled => one,
            () = self.gone.wait() => Err(gone()),
            () = self.pool.close_event() => Err(self.why_retired()),
            () = sleep(self.pool.options().get_acquire_timeout()) => Err(sqlx::Error::PoolTimedOut),
        }
    }

    /// Has a task take a connection out of the pool, unless as many do so already as can be of use.
    fn fetch(self: &Arc<Self>) {
        let Some(fetching) = Fetching::begin(self) else { return };
        drop(tokio::spawn(async move {
            let mut fetching = Some(fetching);
            while let Some(one) = fetching.take() {
                let epoch = Arc::clone(&one.0);
                match epoch.while_in_use(epoch.pool.acquire()).await.flatten() {
                    Ok(connection) => epoch.give(connection),
                    // Those who wait have clocks of their own.
                    Err(sqlx::Error::PoolTimedOut) => {}
                    Err(error) if epoch.waiting.load(Ordering::SeqCst) > 0 => {
                        epoch.hand_over(Err(error));
                    }
                    Err(error) => tracing::debug!(node = %epoch.node, %error, "no connection"),
                }
                drop(one);
                fetching = Fetching::begin(&epoch);
            }
        }));
    }

    /// Waits for `work`, but not longer than the node is there and this pool is the one in use: sqlx goes on trying to
    /// connect also for a pool that was closed.
    async fn while_in_use<T>(&self, work: impl Future<Output = T>) -> Result<T, sqlx::Error> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.gone.wait() => Err(gone()),
            () = self.pool.close_event() => Err(self.why_retired()),
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.is()
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    fn why_retired(&self) -> sqlx::Error {
        if self.gone.is() { gone() } else { sqlx::Error::PoolClosed }
    }

    /// Whether this pool has no fault but that another has taken its place.
    pub(crate) fn is_replaced(&self) -> bool {
        self.is_retired() && !self.gone.is()
    }

    /// A future that ends when the node is given up.
    pub(crate) fn until_gone(&self) -> impl Future<Output = sqlx::Error> + Send + 'static {
        let node = Arc::clone(&self.gone);
        async move {
            node.wait().await;
            gone()
        }
    }

    /// A statement has ended.
    pub(super) fn ended(&self) {
        self.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections that serve nobody now.
    pub(crate) fn idle(&self) -> u32 {
        let idle = self
            .pool
            .num_idle()
            .saturating_add(self.warm.len())
            .saturating_add(self.handed.available_permits());
        u32::try_from(idle).unwrap_or(u32::MAX)
    }

    /// Gives warm connections back to the pool, so that its limits on idleness and age can act on them.
    pub(crate) fn cool(&self) {
        for _ in 0..self.warm.len() {
            drop(self.warm.pop());
        }
        // What was handed to somebody who had just left.
        while let Ok(permit) = self.handed.try_acquire() {
            permit.forget();
            drop(self.hand.pop());
        }
        // Where there are more statements than connections, none is ever found between two of them.
        let busy = self.waiting.load(Ordering::Relaxed) > 0;
        self.cooling.store(if busy { self.warm.capacity() } else { 0 }, Ordering::Relaxed);
    }

    /// Whether a connection that was in use now has to be given back.
    pub(super) fn cools(&self) -> bool {
        self.cooling.load(Ordering::Relaxed) > 0
            && self
                .cooling
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
    }

    /// Opens connections until there are `min`, in a task of its own, unless one is at it already.
    pub(crate) fn fill(self: &Arc<Self>, min: u32) {
        if self.pool.size() >= min || self.is_retired() || self.filling.swap(true, Ordering::SeqCst)
        {
            return;
        }
        let epoch = Arc::clone(self);
        drop(tokio::spawn(async move {
            // Held until there are enough: what is given back earlier would be taken again instead of a new one.
            let mut held = Vec::new();
            while epoch.pool.size() < min {
                match epoch.while_in_use(epoch.pool.acquire()).await {
                    Ok(Ok(connection)) => held.push(connection),
                    Ok(Err(error)) | Err(error) => {
                        tracing::debug!(node = %epoch.node, %error, "min_connections are not reached");
                        break;
                    }
                }
            }
            drop(held);
            epoch.filling.store(false, Ordering::SeqCst);
        }));
    }

    /// The pool is used no more. Idle connections are closed; with `cut` also those in use.
    pub(crate) fn retire(self: &Arc<Self>, cut: bool) {
        self.retired.store(true, Ordering::SeqCst);
        if cut {
            self.gone.tell();
        }
        // From the call on, not from its first poll, nobody gets a connection any more.
        drop(self.pool.close());
        let old = Arc::clone(self);
        let Ok(runtime) = Handle::try_current() else { return old.empty() };
        runtime.spawn(async move {
            old.empty();
            old.farewell().await;
        });
    }

    /// Waits until the connections of a retired pool are closed, but not for ever: a silent peer would never say so.
    pub(crate) async fn farewell(&self) {
        drop(timeout(GOODBYE, self.pool.close()).await);
    }

    /// Gives a connection to whoever waits for one, or keeps it warm. One who waits announces itself and then looks among
    /// the warm; here a connection is put there and then those who wait are counted: one of the two sees the other.
    pub(super) fn give(&self, connection: PoolConnection<Postgres>) {
        if self.is_retired() {
            return drop(connection);
        }
        if self.waiting.load(Ordering::SeqCst) > 0 {
            return self.hand_over(Ok(connection));
        }
        if let Err(connection) = self.warm.push(connection) {
            return drop(connection);
        }
        fence(Ordering::SeqCst);
        if self.is_retired() {
            drop(self.warm.pop());
        } else if self.waiting.load(Ordering::SeqCst) > 0
            && let Some(connection) = self.warm.pop()
        {
            self.hand_over(Ok(connection));
        }
    }

    fn hand_over(&self, one: Result<PoolConnection<Postgres>, sqlx::Error>) {
        self.hand.push(one);
        self.handed.add_permits(1);
    }

    fn empty(&self) {
        while let Some(connection) = self.warm.pop() {
            discard(connection);
        }
        while let Some(one) = self.hand.pop() {
            one.map_or_else(drop, discard);
        }
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.empty();
    }
}

/// Closes a connection's socket at once and gives its place in the pool back. Needs no runtime and waits for nothing.
pub(super) fn discard(connection: PoolConnection<Postgres>) {
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

/// Counts one task that takes connections out of the pool.
struct Fetching(Arc<Epoch>);

impl Fetching {
    /// There is no use in more of them than wait, nor in more than there can be connections.
    fn begin(epoch: &Arc<Epoch>) -> Option<Self> {
        if epoch.is_retired() {
            return None;
        }
        let most = epoch.waiting.load(Ordering::SeqCst).min(epoch.warm.capacity());
        let more = |count| (count < most).then_some(count + 1);
        let begun = epoch.fetching.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        begun.is_ok().then(|| Self(Arc::clone(epoch)))
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.fetching.fetch_sub(1, Ordering::SeqCst);
    }
}
