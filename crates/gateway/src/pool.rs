//! Server connections of one database and user, on each node.
//!
//! A [`Pool`] is one database and user on one node, shared by all workers. Whoever needs a connection takes an idle one
//! ([`Pool::idle`]), which costs one short lock, or waits for one ([`Pool::take`]). It comes back through
//! [`Lease::give_back`], straight to whoever waits. A [`Server`] that is dropped, wherever that is, is closed and leaves
//! its slot to another; so nothing can get lost.

mod connect;
mod error;
mod idle;
mod lease;
mod queue;
mod registry;
mod server;
mod set;
mod state;
mod take;
mod talk;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::settings::Settings;
use crate::stats::{Deeds, PoolStats};
use state::{State, Todo};

use connect::Connect;
pub(crate) use error::{PoolError, TalkError};
pub(crate) use lease::Lease;
pub(crate) use registry::Pools;
pub(crate) use server::{Server, ServerIdentity, Use};
pub(crate) use set::{PoolSet, Reported, Rules};

/// One pool: one database, one user, one node. Shared by all workers.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) node: usize,
    /// The node's name.
    pub(crate) name: Arc<str>,
    pub(crate) stats: PoolStats,
    database: Arc<str>,
    rules: Arc<ArcSwap<Rules>>,
    connector: Arc<dyn Connect>,
    /// Never held while anything is awaited, sent, opened or closed.
    state: Mutex<State>,
    /// Connections a cancel request is under way for.
    cancelling: AtomicUsize,
}

/// How many connections and clients a pool has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Connections nobody has.
    pub(crate) idle: usize,
    /// Connections with clients, and those set aside while they are being cancelled.
    pub(crate) active: usize,
    /// Connections being opened.
    pub(crate) opening: usize,
    /// Connections a cancel request is under way for.
    pub(crate) cancelling: usize,
    /// Clients that wait for a connection.
    pub(crate) waiting: usize,
    /// How long the first of them has waited.
    pub(crate) longest_wait: Duration,
}

impl Pool {
    pub(super) fn new(
        node: usize,
        database: &Arc<str>,
        rules: Arc<ArcSwap<Rules>>,
        connector: Arc<dyn Connect>,
        paused: bool,
    ) -> Self {
        let state = State::new((&rules.load().pool).into(), paused);
        Self {
            node,
            name: connector.name(node),
            stats: PoolStats::default(),
            database: Arc::clone(database),
            rules,
            connector,
            state: Mutex::new(state),
            cancelling: AtomicUsize::new(0),
        }
    }

    /// An idle connection, if one can be had at once: of this worker first, preferably one with these settings. None
    /// while others wait, or where it would have to be checked first: then [`Pool::take`] does it. `now` is the coarse
    /// clock's.
    ///
    /// Only on the runtime of `worker`.
    #[inline]
    pub(crate) fn idle(
        self: &Arc<Self>,
        worker: usize,
        settings: &Settings,
        now: u64,
    ) -> Option<Box<Server>> {
        loop {
            let mut state = self.lock();
            state.now = state.now.max(now);
            let server = state.pop(worker, settings.id, false)?;
            drop(state);
            // One that the server has closed is dropped here, and the next one looked at.
            if let Ok(mut server) = server.moved_to(worker)
                && server.is_quiet()
            {
                return Some(server);
            }
        }
    }

    /// Counts what a client has done and goes on with; one that is done gives back its connection with that.
    pub(crate) fn count(&self, deeds: Deeds) {
        let _one_at_a_time = self.lock();
        self.stats.count(deeds);
    }

    /// Its connections and clients, counted.
    pub(crate) fn counts(&self) -> Counts {
        let state = self.lock();
        Counts {
            idle: state.idle.len(),
            active: state.active(),
            opening: state.opening,
            cancelling: self.cancelling.load(Ordering::Relaxed),
            waiting: state.queue.len(),
            longest_wait: state
                .queue
                .longest()
                .map(|since| Instant::now().saturating_duration_since(since))
                .unwrap_or_default(),
        }
    }

    /// How busy it is, for choosing among nodes: connections in use, and clients that wait. Cheap.
    #[inline]
    pub(crate) fn busy(&self) -> usize {
        let state = self.lock();
        let unused = state.idle.len() + state.opening;
        state.slots.saturating_sub(unused) + state.queue.len()
    }

    /// Its open connections.
    pub(crate) fn servers(&self) -> Vec<Arc<ServerIdentity>> {
        let mut servers: Vec<_> = self.lock().known.values().cloned().collect();
        servers.sort_unstable_by_key(|server| server.id);
        servers
    }

    /// Whether it has neither connections nor clients that wait.
    fn is_empty(&self) -> bool {
        let state = self.lock();
        state.slots == 0 && state.queue.is_empty()
    }

    fn sweep(self: &Arc<Self>, now: u64) {
        self.stats.tick(now);
        self.change(|state, todo| state.sweep(now, todo));
    }

    fn sever(self: &Arc<Self>, only_writers: bool) {
        self.change(|state, todo| state.sever(only_writers, &self.name, todo));
    }

    fn pause(self: &Arc<Self>, paused: bool) {
        self.change(|state, todo| {
            state.paused = paused;
            state.pump(todo);
        });
    }

    fn close_idle(self: &Arc<Self>) {
        self.change(|state, todo| todo.close.append(&mut state.idle.sort_out(|_| false)));
    }

    /// The configuration has it no more.
    fn remove(self: &Arc<Self>) {
        self.change(|state, todo| {
            state.gone = true;
            state.renew(todo);
            for waiter in state.queue.drain() {
                todo.fail.push((waiter, PoolError::Gone { database: self.database.clone() }));
            }
        });
    }

    /// Changes what is inside, and does what follows from it without the lock.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut State, &mut Todo)) {
        let mut todo = Todo::default();
        change(&mut self.lock(), &mut todo);
        self.carry_out(todo);
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
