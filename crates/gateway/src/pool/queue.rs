//! Who waits for a connection, in order.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::PoolError;
use super::server::Server;

/// What a waiting client gets.
pub(super) type Answer = Result<Box<Server>, PoolError>;

/// By how much another worker's client must have waited longer to be served before one of the same worker: moving a
/// connection to another worker costs some system calls.
pub(super) const PATIENCE: Duration = Duration::from_millis(20);

/// A place in the queue. Whoever queues again, because what it got was of no use, keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// Grows with each newcomer.
    pub(super) id: u64,
    pub(super) since: Instant,
}

/// One that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) ticket: Ticket,
    pub(super) worker: usize,
    /// Its runtime: a connection opened for it is opened there.
    pub(super) runtime: Handle,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// All that wait for a connection of one pool: a queue per worker, each in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Queue {
    by_worker: Vec<VecDeque<Waiter>>,
    len: usize,
    last_id: u64,
}

impl Queue {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A place behind everybody.
    pub(super) fn ticket(&mut self, now: Instant) -> Ticket {
        self.last_id += 1;
        Ticket { id: self.last_id, since: now }
    }

    /// Puts one where its ticket says.
    pub(super) fn push(&mut self, waiter: Waiter) {
        if self.by_worker.len() <= waiter.worker {
            self.by_worker.resize_with(waiter.worker + 1, VecDeque::new);
        }
        let Some(queue) = self.by_worker.get_mut(waiter.worker) else { return };
        let place = queue.partition_point(|other| other.ticket.id < waiter.ticket.id);
        queue.insert(place, waiter);
        self.len += 1;
    }

    /// Takes one out that waits no longer. Whether it was there.
    pub(super) fn remove(&mut self, worker: usize, id: u64) -> bool {
        let Some(queue) = self.by_worker.get_mut(worker) else { return false };
        let Ok(place) = queue.binary_search_by_key(&id, |waiter| waiter.ticket.id) else {
            return false;
        };
        let found = queue.remove(place).is_some();
        self.len -= usize::from(found);
        found
    }

    /// Takes out the one whose turn it is to get a connection of `worker`: the first of that worker, unless another
    /// waited longer by [`PATIENCE`].
    pub(super) fn next_for(&mut self, worker: usize) -> Option<Waiter> {
        let (oldest, first) = self.oldest()?;
        let own = self.by_worker.get(worker).and_then(VecDeque::front);
        let from = match own {
            Some(own) if own.ticket.since.saturating_duration_since(first.since) < PATIENCE => {
                worker
            }
            _ => oldest,
        };
        let waiter = self.by_worker.get_mut(from)?.pop_front()?;
        self.len -= 1;
        Some(waiter)
    }

    /// When the one that has waited longest came.
    pub(super) fn longest(&self) -> Option<Instant> {
        self.oldest().map(|(_, ticket)| ticket.since)
    }

    /// Runtimes to open `count` connections on: of those that wait longest, each worker in turn.
    pub(super) fn runtimes(&self, count: usize) -> Vec<(usize, Handle)> {
        let fronts = || self.by_worker.iter().filter_map(VecDeque::front);
        let places = fronts().cycle().map(|waiter| (waiter.worker, waiter.runtime.clone()));
        places.take(count).collect()
    }

    /// Takes everybody out.
    pub(super) fn drain(&mut self) -> Vec<Waiter> {
        self.len = 0;
        self.by_worker.iter_mut().flat_map(|queue| queue.drain(..)).collect()
    }

    fn oldest(&self) -> Option<(usize, Ticket)> {
        let fronts = self.by_worker.iter().filter_map(VecDeque::front);
        let first = fronts.min_by_key(|waiter| waiter.ticket.id)?;
        Some((first.worker, first.ticket))
    }
}
