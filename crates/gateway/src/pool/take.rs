//! Getting a connection, however long it takes; and what goes on meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};

use herdsman_node::ConnectError;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Pool;
use super::connect::Opened;
use super::error::PoolError;
use super::queue::{Answer, Ticket, Waiter};
use super::server::{Server, ServerIdentity, Slot, Use, fd_of};
use super::state::{Fate, State, Todo, is_stale};
use crate::settings::Settings;
use crate::stats::Deeds;

/// Numbers of server connections, over all pools.
static LAST_ID: AtomicU64 = AtomicU64::new(0);

/// What one who asks gets at once.
enum First {
    Server(Box<Server>),
    Wait(Waiting),
}

impl Pool {
    /// A connection: an idle one, else a new one within `size`, else the next that comes back. `now` is the coarse
    /// clock's. Dropped, it leaves nothing behind: what had been meant for it goes to the next.
    ///
    /// # Errors
    /// [`PoolError`] says why there is none: the queue is full, the deadline is over, nothing can be opened, the node was
    /// given up meanwhile.
    pub(crate) async fn take(
        self: &Arc<Self>,
        worker: usize,
        settings: &Settings,
        now: u64,
        deadline: Instant,
    ) -> Result<Box<Server>, PoolError> {
        let began = Instant::now();
        let mut ticket = None;
        loop {
            let server = match self.ask(worker, settings, now, &mut ticket)? {
                First::Server(server) => server,
                First::Wait(mut waiting) => {
                    match tokio::time::timeout_at(deadline, &mut waiting.answer).await {
                        Ok(Ok(answer)) => {
                            waiting.over = true;
                            answer?
                        }
                        // Whoever would have answered is gone: ask again.
                        Ok(Err(_)) => continue,
                        Err(_) => return Err(self.too_late(began)),
                    }
                }
            };
            if let Some(server) = self.made_ready(server, worker, now, deadline).await {
                return Ok(server);
            }
            // That one was of no use and is closed, and its slot is free again.
            if Instant::now() >= deadline {
                return Err(self.too_late(began));
            }
        }
    }

    /// An idle connection, or a place in the queue.
    fn ask(
        self: &Arc<Self>,
        worker: usize,
        settings: &Settings,
        now: u64,
        ticket: &mut Option<Ticket>,
    ) -> Result<First, PoolError> {
        let mut todo = Todo::default();
        let mut state = self.lock();
        state.now = state.now.max(now);
        if state.gone {
            return Err(PoolError::Gone { database: self.database.clone() });
        }
        if let Some(server) = state.pop(worker, settings.id, true) {
            return Ok(First::Server(server));
        }
        let time = Instant::now();
        if ticket.is_none() {
            if let Some(error) = state.hopeless(time) {
                return Err(PoolError::Connect { node: self.name.clone(), error });
            }
            if state.queue.len() >= state.limits.queue.saturating_add(free(&state)) {
                let waiting = state.queue.len();
                return Err(PoolError::QueueFull { node: self.name.clone(), waiting });
            }
        }
        let ticket = *ticket.get_or_insert_with(|| state.queue.ticket(time));
        let (sender, answer) = oneshot::channel();
        let runtime = Handle::current();
        state.queue.push(Waiter { ticket, worker, runtime, answer: sender });
        state.pump(&mut todo);
        drop(state);
        let pool = Arc::clone(self);
        let waiting = Waiting { pool, worker, id: ticket.id, answer, over: false };
        self.carry_out(todo);
        Ok(First::Wait(waiting))
    }

    /// The connection on the runtime of `worker`, and sure to work as far as that is asked; `None` where it is closed.
    async fn made_ready(
        &self,
        server: Box<Server>,
        worker: usize,
        now: u64,
        deadline: Instant,
    ) -> Option<Box<Server>> {
        let mut server = server.moved_to(worker).ok()?;
        if !server.is_quiet() {
            return None;
        }
        let limits = self.lock().limits;
        if is_stale(&server, now, limits.check_delay) {
            let left = deadline.saturating_duration_since(Instant::now());
            if !server.answers(limits.connect_timeout.min(left)).await {
                return None;
            }
            server.check = false;
        }
        Some(server)
    }

    fn too_late(&self, began: Instant) -> PoolError {
        let failure = self.lock().failing.as_ref().map(|failing| failing.error.clone());
        PoolError::TimedOut { node: self.name.clone(), waited: began.elapsed(), failure }
    }

    /// Does what has been decided, without the lock.
    pub(super) fn carry_out(self: &Arc<Self>, todo: Todo) {
        for identity in todo.shut {
            identity.shut();
        }
        for (waiter, error) in todo.fail {
            // One that left is not told.
            let _left = waiter.answer.send(Err(error)).is_err();
        }
        for mut server in todo.close {
            server.farewell();
        }
        for (waiter, server) in todo.hand {
            self.hand(waiter, server);
        }
        for (worker, runtime) in todo.open {
            let opening = Opening { pool: Arc::clone(self), over: false };
            runtime.spawn(opening.run(worker));
        }
        if let Some((runtime, until)) = todo.retry {
            let pool = Arc::downgrade(self);
            runtime.spawn(async move {
                tokio::time::sleep_until(until).await;
                if let Some(pool) = pool.upgrade() {
                    pool.change(State::retry);
                }
            });
        }
    }

    /// Gives a connection to one that waits; to the next one, or back, if that one has left.
    fn hand(self: &Arc<Self>, waiter: Waiter, server: Box<Server>) {
        server.identity.enter(Use::Taken);
        if let Err(Ok(server)) = waiter.answer.send(Ok(server)) {
            let worker = server.worker;
            self.put(server, worker, 0);
        }
    }

    /// Takes a connection back, or in: to the one whose turn it is, or to the idle ones of `worker`.
    #[inline]
    pub(super) fn put(self: &Arc<Self>, server: Box<Server>, worker: usize, now: u64) {
        let mut state = self.lock();
        state.now = state.now.max(now);
        self.place(state, server, worker);
    }

    /// As [`Pool::put`], and counts what the client has done.
    #[inline]
    pub(super) fn put_after(
        self: &Arc<Self>,
        server: Box<Server>,
        worker: usize,
        now: u64,
        deeds: Deeds,
    ) {
        let mut state = self.lock();
        self.stats.count(deeds);
        state.now = state.now.max(now);
        self.place(state, server, worker);
    }

    /// As [`Pool::put`], by one who has the lock already.
    #[inline]
    fn place(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        mut server: Box<Server>,
        worker: usize,
    ) {
        match state.fate(&server) {
            Fate::Keep if state.paused || state.queue.is_empty() => {
                state.idle.push(worker, server);
            }
            Fate::Keep => match state.queue.next_for(worker) {
                Some(waiter) => {
                    drop(state);
                    self.hand(waiter, server);
                }
                None => state.idle.push(worker, server),
            },
            Fate::Park => state.parked.push(server),
            Fate::Close => {
                drop(state);
                server.farewell();
            }
        }
    }

    /// The first cancel request for a connection begins, or the last is over.
    pub(super) fn cancelling(self: &Arc<Self>, id: u64, begins: bool) {
        if begins {
            self.cancelling.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.cancelling.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.lock();
        let Some(place) = state.parked.iter().position(|server| server.identity.id == id) else {
            return;
        };
        let mut server = state.parked.swap_remove(place);
        drop(state);
        // Should the request take effect late, then on a question of ours.
        server.check = true;
        let worker = server.worker;
        self.put(server, worker, 0);
    }

    /// A connection has been closed.
    pub(super) fn freed(self: &Arc<Self>, id: u64) {
        self.change(|state, todo| {
            if state.known.remove(&id).is_some() {
                state.slots -= 1;
                state.pump(todo);
            }
        });
    }

    /// A connection that was opened gets its slot.
    fn admit(self: &Arc<Self>, opened: Opened, worker: usize, generation: u64) {
        let id = LAST_ID.fetch_add(1, Ordering::Relaxed) + 1;
        let home = Arc::downgrade(self);
        let socket = fd_of(&opened.stream).try_clone_to_owned();
        let identity = ServerIdentity::new(id, self.node, opened.backend, opened.conninfo);
        let identity = Arc::new(match socket {
            Ok(socket) => identity.at_home(home.clone(), socket),
            Err(error) => {
                // Out of file descriptors: a connection that nobody could end from outside is not used.
                tracing::warn!(node = %self.name, %error, "a server connection was given up");
                identity
            }
        });
        let usable = identity.has_socket();
        let mut state = self.lock();
        state.opening -= 1;
        state.failing = None;
        state.known.insert(id, Arc::clone(&identity));
        let server = Box::new(Server {
            stream: opened.stream,
            unread: opened.unread,
            reported: opened.reported,
            settings: Settings::default(),
            statements: crate::statements::ServerStatements::default(),
            commits_early: opened.commits_early,
            in_recovery: opened.in_recovery,
            born: state.now,
            used: state.now,
            dirty: !usable,
            check: false,
            generation,
            worker,
            _slot: Slot { pool: home, identity: Arc::clone(&identity) },
            identity,
        });
        // Under the same lock: who looks in between would see somebody wait and nothing on its way, and open one more.
        self.place(state, server, worker);
        // Where attempts failed before this one, only this one was made.
        self.change(State::pump);
    }

    fn could_not_open(self: &Arc<Self>, error: ConnectError) {
        use herdsman_node::ConnectErrorKind::{Other, Rejected, Tls, TooManyConnections};
        // The client is not told all of it. That a node is down, everybody is told who watches it.
        if matches!(error.kind, Rejected | Tls | TooManyConnections | Other) {
            let (database, node) = (&*self.database, &*self.name);
            tracing::warn!(database, node, %error, "a server connection cannot be opened");
        } else {
            tracing::debug!(node = &*self.name, %error, "a server connection cannot be opened");
        }
        let error = Arc::new(error);
        let jitter = fastrand::f64();
        self.change(|state, todo| {
            state.attempt_failed(&error, Instant::now(), jitter, todo, &self.name);
        });
    }
}

/// How many could still be served at once: those are not counted as waiting.
fn free(state: &State) -> usize {
    let on_the_way = state.opening + state.limits.size.saturating_sub(state.slots);
    if state.paused { 0 } else { on_the_way }
}

/// One's place in the queue, while it waits.
#[derive(Debug)]
struct Waiting {
    pool: Arc<Pool>,
    worker: usize,
    id: u64,
    answer: oneshot::Receiver<Answer>,
    over: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let queued = self.pool.lock().queue.remove(self.worker, self.id);
        if queued {
            return;
        }
        // The answer is under way: what comes after this is handed on by its sender, what came before by us.
        self.answer.close();
        if let Ok(Ok(server)) = self.answer.try_recv() {
            let worker = server.worker;
            self.pool.put(server, worker, 0);
        }
    }
}

/// A slot for a connection that is being opened.
#[derive(Debug)]
struct Opening {
    pool: Arc<Pool>,
    over: bool,
}

impl Opening {
    async fn run(mut self, worker: usize) {
        let pool = Arc::clone(&self.pool);
        let generation = pool.lock().generation;
        let rules = pool.rules.load_full();
        let limit = rules.pool.connect_timeout.saturating_mul(2);
        let attempt = pool.connector.connect(pool.node, &rules);
        let outcome = tokio::time::timeout(limit, attempt).await;
        self.over = true;
        match outcome {
            Ok(Ok(opened)) => pool.admit(opened, worker, generation),
            Ok(Err(error)) => pool.could_not_open(error),
            Err(_) => pool.could_not_open(ConnectError {
                kind: herdsman_node::ConnectErrorKind::TimedOut,
                endpoint: pool.name.to_string(),
                problem: format!("no answer within {limit:?}"),
            }),
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.over {
            // Its runtime is ending. Nothing is begun anew here: it could be on the same runtime. Others that wait are
            // served by the next sweep at the latest.
            let mut state = self.pool.lock();
            state.opening -= 1;
            state.slots -= 1;
        }
    }
}
