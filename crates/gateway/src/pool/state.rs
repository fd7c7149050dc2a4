//! What one pool holds, and what follows from each change of it. No I/O, no waiting: what there is to do is handed to the
//! caller, who does it without the lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use herdsman_node::{Backoff, ConnectError};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::error::PoolError;
use super::idle::Idle;
use super::queue::{Queue, Waiter};
use super::server::{Server, ServerIdentity, Servers, Use};
use crate::config::PoolConfig;

/// Between attempts to open a connection. A server that is back is noticed after the longest pause at the latest.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(2) };
/// While the next attempt is nearer than this a newcomer waits for it; else it gets the last one's reason at once, and
/// may go to another node.
const WORTH_WAITING: Duration = Duration::from_millis(250);

/// What the configuration says, as the pool's own numbers. Times in milliseconds of the coarse clock; 0 is never.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) size: usize,
    pub(super) queue: usize,
    pub(super) idle_timeout: u64,
    pub(super) lifetime: u64,
    pub(super) check_delay: u64,
    pub(super) connect_timeout: Duration,
}

impl From<&PoolConfig> for Limits {
    fn from(config: &PoolConfig) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            size: config.size.max(1),
            queue: config.queue,
            idle_timeout: millis(config.server_idle_timeout),
            lifetime: millis(config.server_lifetime),
            check_delay: millis(config.server_check_delay),
            connect_timeout: config.connect_timeout,
        }
    }
}

/// Attempts to connect fail.
#[derive(Debug)]
pub(super) struct Failing {
    pub(super) error: Arc<ConnectError>,
    /// When the next attempt may be made.
    pub(super) until: Instant,
    failures: u32,
    /// Somebody will come back then.
    armed: bool,
}

/// What is to be done once the lock is gone.
#[derive(Debug, Default)]
pub(super) struct Todo {
    /// Connections for those whose turn it is.
    pub(super) hand: Vec<(Waiter, Box<Server>)>,
    /// Waiting is over for these.
    pub(super) fail: Vec<(Waiter, PoolError)>,
    /// To be closed.
    pub(super) close: Servers,
    /// To be ended from outside: others have them.
    pub(super) shut: Vec<Arc<ServerIdentity>>,
    /// Connections to open, each on a worker's runtime. Their slots are taken.
    pub(super) open: Vec<(usize, Handle)>,
    /// Come back then.
    pub(super) retry: Option<(Handle, Instant)>,
}

/// What becomes of a connection that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    /// Set aside until nobody wants to cancel it.
    Park,
    Close,
}

/// A pool's inside.
#[derive(Debug)]
pub(super) struct State {
    pub(super) limits: Limits,
    pub(super) idle: Idle,
    pub(super) queue: Queue,
    /// Given back while a cancel request for them was under way.
    pub(super) parked: Servers,
    /// Every open connection.
    pub(super) known: HashMap<u64, Arc<ServerIdentity>>,
    /// How many are open or being opened.
    pub(super) slots: usize,
    /// How many are being opened.
    pub(super) opening: usize,
    /// Nobody gets one until this is over.
    pub(super) paused: bool,
    /// The configuration has it no more.
    pub(super) gone: bool,
    /// Connections of an earlier generation are not used again.
    pub(super) generation: u64,
    /// The coarse clock as it was last told.
    pub(super) now: u64,
    pub(super) failing: Option<Failing>,
}

impl State {
    pub(super) fn new(limits: Limits, paused: bool) -> Self {
        Self {
            limits,
            idle: Idle::default(),
            queue: Queue::default(),
            parked: Vec::new(),
            known: HashMap::new(),
            slots: 0,
            opening: 0,
            paused,
            gone: false,
            generation: 0,
            now: 0,
            failing: None,
        }
    }

    /// Connections that somebody has, or had and is being cancelled on.
    #[inline]
    pub(super) fn active(&self) -> usize {
        (self.slots - self.opening).saturating_sub(self.idle.len())
    }

    /// An idle connection for one who has not waited; `stale` are those that have to be checked first.
    #[inline]
    pub(super) fn pop(&mut self, worker: usize, settings: u64, stale: bool) -> Option<Box<Server>> {
        // Whoever waits comes before whoever comes.
        if self.paused || !self.queue.is_empty() {
            return None;
        }
        let (now, delay) = (self.now, self.limits.check_delay);
        self.idle.pop(worker, settings, |server| stale || !is_stale(server, now, delay))
    }

    /// What becomes of a connection that comes back.
    #[inline]
    pub(super) fn fate(&self, server: &Server) -> Fate {
        if server.dirty
            || server.generation != self.generation
            || !server.unread.is_empty()
            || self.slots > self.limits.size
            || is_old(server, self.now, self.limits.lifetime)
        {
            Fate::Close
        } else if server.identity.is_being_cancelled() {
            Fate::Park
        } else {
            Fate::Keep
        }
    }

    /// Serves those who wait, as far as that can be done: with what is idle, and by opening more.
    pub(super) fn pump(&mut self, todo: &mut Todo) {
        if self.paused {
            return;
        }
        while !self.queue.is_empty()
            && let Some(server) = self.idle.pop(0, 0, |_| true)
        {
            match self.queue.next_for(server.worker) {
                Some(waiter) => todo.hand.push((waiter, server)),
                None => self.idle.push(server.worker, server),
            }
        }
        let room = self.limits.size.saturating_sub(self.slots);
        let mut count = self.queue.len().saturating_sub(self.opening).min(room);
        if count == 0 {
            return;
        }
        if let Some(failing) = &mut self.failing {
            if self.opening > 0 {
                return;
            }
            if failing.until > Instant::now() {
                if !failing.armed
                    && let Some((_, runtime)) = self.queue.runtimes(1).pop()
                {
                    failing.armed = true;
                    todo.retry = Some((runtime, failing.until));
                }
                return;
            }
            // One finds out for all.
            count = 1;
        }
        todo.open = self.queue.runtimes(count);
        self.slots += todo.open.len();
        self.opening += todo.open.len();
    }

    /// Why one who comes now need not wait: nothing is open and nothing will be soon.
    pub(super) fn hopeless(&self, now: Instant) -> Option<Arc<ConnectError>> {
        let failing = self.failing.as_ref()?;
        (self.slots == 0 && failing.until > now + WORTH_WAITING).then(|| failing.error.clone())
    }

    /// An attempt has failed.
    pub(super) fn attempt_failed(
        &mut self,
        error: &Arc<ConnectError>,
        now: Instant,
        jitter: f64,
        todo: &mut Todo,
        node: &Arc<str>,
    ) {
        self.slots -= 1;
        self.opening -= 1;
        // Attempts that failed together count once.
        let before = self.failing.take();
        let failures = match &before {
            Some(before) if before.until > now => before.failures,
            Some(before) => before.failures.saturating_add(1),
            None => 1,
        };
        let until = match &before {
            Some(before) if before.until > now => before.until,
            _ => now + BACKOFF.pause(failures, jitter),
        };
        let armed = before.is_some_and(|before| before.armed && before.until > now);
        self.failing = Some(Failing { error: Arc::clone(error), until, failures, armed });
        if self.slots == 0 {
            // Nothing will come back to the pool either.
            for waiter in self.queue.drain() {
                todo.fail.push((
                    waiter,
                    PoolError::Connect { node: node.clone(), error: error.clone() },
                ));
            }
        }
        self.pump(todo);
    }

    /// It is time for the next attempt.
    pub(super) fn retry(&mut self, todo: &mut Todo) {
        if let Some(failing) = &mut self.failing {
            failing.armed = false;
        }
        self.pump(todo);
    }

    /// Gives up connections: all that are idle, and of those in use all or, with `only_writers`, those that may write.
    pub(super) fn sever(&mut self, only_writers: bool, node: &Arc<str>, todo: &mut Todo) {
        self.renew(todo);
        let spared = |identity: &ServerIdentity| {
            only_writers && matches!(identity.doing(), Use::Reader | Use::Idle)
        };
        todo.shut.extend(self.known.values().filter(|identity| !spared(identity)).cloned());
        for waiter in self.queue.drain() {
            todo.fail.push((waiter, PoolError::Severed { node: node.clone() }));
        }
    }

    /// Has every connection replaced: idle ones now, others when they come back.
    pub(super) fn renew(&mut self, todo: &mut Todo) {
        self.generation += 1;
        self.failing = None;
        todo.close.append(&mut self.idle.sort_out(|_| false));
        todo.close.append(&mut self.parked);
    }

    /// Looks after what is idle, and after everything that nobody came back for.
    pub(super) fn sweep(&mut self, now: u64, todo: &mut Todo) {
        self.now = self.now.max(now);
        let (now, limits, paused) = (self.now, self.limits, self.paused);
        let mut surplus = self.slots.saturating_sub(limits.size);
        let gone = self.idle.sort_out(|server| {
            let unwanted = paused
                || surplus > 0
                || is_old(server, now, limits.lifetime)
                || (limits.idle_timeout > 0
                    && now.saturating_sub(server.used) >= limits.idle_timeout)
                || !server.is_quiet();
            if unwanted {
                surplus = surplus.saturating_sub(1);
            }
            !unwanted
        });
        todo.close.extend(gone);
        if let Some(failing) = &mut self.failing
            && failing.until <= Instant::now()
        {
            failing.armed = false;
        }
        self.pump(todo);
    }
}

#[inline]
fn is_old(server: &Server, now: u64, lifetime: u64) -> bool {
    lifetime > 0 && now.saturating_sub(server.born) >= lifetime
}

/// Whether it has to show that it still works.
#[inline]
pub(super) fn is_stale(server: &Server, now: u64, delay: u64) -> bool {
    server.check || now.saturating_sub(server.used) > delay
}
