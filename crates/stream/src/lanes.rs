//! The pure heart of delivery for one sink: which changes may be delivered now, and what became of them.
//!
//! It owns no clock, does no I/O and draws no random numbers. Changes are [pushed](Lanes::push) in the order of the
//! stream, work is [taken](Lanes::take) as it may be done, and what became of it is reported back. What follows from
//! that comes out as [`Effect`]s: above all which changes are handled and need not come again.

#[cfg(test)]
pub(crate) mod fixture;
mod gate;
mod key;
mod per_key;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod total;

use std::sync::Arc;
use std::time::Duration;

use herdsman_wal::{Change, Kind};
use tokio::time::Instant;

use self::gate::Gate;
use self::per_key::PerKey;
use self::total::Total;
use crate::config::RetryConfig;
use crate::sink::{Batch, Order, Position, SinkError, Undelivered, Why};

pub use self::key::Behind;
pub(crate) use self::key::{Key, Touch, touch};

/// Which transaction a change belongs to, as [`Progress`](herdsman_wal::Progress) counts them.
pub type Ticket = u64;

/// Names a batch under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkId(u64);

/// Names a change that has been given up and becomes a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId(u64);

/// A batch to deliver.
#[derive(Clone, Debug)]
pub struct Work {
    /// Its name, for reporting what became of it.
    pub id: WorkId,
    /// What to deliver.
    pub batch: Arc<Batch>,
}

/// How much a batch may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Changes at most.
    pub changes: usize,
    /// Bytes at most; one change is always taken.
    pub bytes: usize,
    /// Whether more is coming. If so, a transaction that fits into one batch is not cut before its end is known.
    pub more_coming: bool,
}

/// What follows from a report.
#[derive(Clone, Debug)]
pub enum Effect {
    /// So many changes of this transaction need not come again.
    Handled {
        /// The transaction.
        ticket: Ticket,
        /// How many changes.
        count: u64,
    },
    /// A change was given up: keep it as a dead letter, then say so with [`Lanes::dead_letter_written`]. Until then it
    /// is not handled, and its key waits.
    DeadLetter(Letter),
}

/// A change that was given up.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Its name, for saying that it is kept.
    pub id: LetterId,
    /// The change.
    pub change: Arc<Change>,
    /// Why it was not delivered, the last time.
    pub error: SinkError,
    /// How many times it was tried.
    pub attempts: u32,
}

/// What waits, batches under way included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Changes.
    pub changes: usize,
    /// Bytes they take.
    pub bytes: usize,
}

/// When to try again, and when to give up.
#[derive(Clone, Debug)]
pub struct Patience {
    /// How often and how soon.
    pub retry: RetryConfig,
    /// Whether a change is ever given up; if not, its key waits for as long as it takes.
    pub give_up: bool,
}

/// The changes that wait for one sink. See the [module](self).
#[derive(Debug)]
pub struct Lanes {
    inner: Inner,
    gate: Gate,
    patience: Patience,
    last_work: u64,
    letters: Letters,
}

#[derive(Debug)]
enum Inner {
    Total(Total),
    PerKey(Box<PerKey>),
}

impl Lanes {
    /// Lanes for a sink that needs this order.
    #[must_use]
    pub fn new(order: Order, patience: Patience) -> Self {
        let inner = match order {
            Order::Total => Inner::Total(Total::default()),
            Order::PerKey { parallel } => Inner::PerKey(Box::new(PerKey::new(parallel))),
        };
        Self { inner, gate: Gate::default(), patience, last_work: 0, letters: Letters::default() }
    }

    /// A change came, behind all that came before.
    pub fn push(&mut self, change: Arc<Change>, ticket: Ticket) {
        match &mut self.inner {
            Inner::Total(lanes) => lanes.push(change, ticket),
            Inner::PerKey(lanes) => lanes.push(change, ticket),
        }
    }

    /// No more changes of this transaction will come.
    pub fn commit(&mut self, ticket: Ticket) {
        if let Inner::Total(lanes) = &mut self.inner {
            lanes.commit(ticket);
        }
    }

    /// A batch that may be delivered now; ask until there is none.
    pub fn take(&mut self, now: Instant, limits: Limits) -> Option<Work> {
        if self.gate.is_closed(now) || (self.gate.is_probing() && self.in_flight() > 0) {
            return None;
        }
        let id = WorkId(self.last_work + 1);
        let batch = match &mut self.inner {
            Inner::Total(lanes) => lanes.take(id, now, limits),
            Inner::PerKey(lanes) => lanes.take(id, now, limits),
        }?;
        self.last_work = id.0;
        Some(Work { id, batch })
    }

    /// All of the batch is delivered.
    pub fn done(&mut self, id: WorkId) -> Vec<Effect> {
        self.gate.open();
        let outcome = Outcome::default();
        self.settle(id, outcome)
    }

    /// All of the batch is delivered but these. `jitter` gives numbers from 0 to 1.
    pub fn undelivered(
        &mut self,
        id: WorkId,
        undelivered: Vec<Undelivered>,
        now: Instant,
        mut jitter: impl FnMut() -> f64,
    ) -> Vec<Effect> {
        // An answer for single changes is an answer: the sink as a whole is there.
        self.gate.open();
        let retry = &self.patience.retry;
        let outcome = Outcome {
            undelivered,
            now: Some(now),
            give_up: self.patience.give_up,
            attempts: retry.attempts,
            pause: Some(&mut |failures| retry.backoff().pause(failures, jitter())),
        };
        match &mut self.inner {
            Inner::Total(lanes) => lanes.settle(id, outcome, &mut self.letters),
            Inner::PerKey(lanes) => lanes.settle(id, outcome, &mut self.letters),
        }
    }

    /// The sink could not take anything: all of the batch is tried again, after a pause for the whole sink. That does
    /// not count as a try of any change, so that an outage makes no dead letters.
    pub fn unavailable(&mut self, id: WorkId, now: Instant, jitter: f64) {
        let backoff = self.patience.retry.backoff();
        self.gate.close(now, |failures| backoff.pause(failures, jitter));
        match &mut self.inner {
            Inner::Total(lanes) => lanes.put_back(id),
            Inner::PerKey(lanes) => lanes.put_back(id),
        }
    }

    /// A dead letter is kept durably.
    pub fn dead_letter_written(&mut self, id: LetterId) -> Vec<Effect> {
        let ticket = match &mut self.inner {
            Inner::Total(lanes) => lanes.bury(id),
            Inner::PerKey(lanes) => lanes.bury(id),
        };
        ticket.map(|ticket| Effect::Handled { ticket, count: 1 }).into_iter().collect()
    }

    /// The sink says that it has everything up to `position`: what waits of that is handled. For a sink that was
    /// (re-)opened and none of whose batches is under way.
    pub fn skip_to(&mut self, position: Position) -> Vec<Effect> {
        match &mut self.inner {
            Inner::Total(lanes) => lanes.skip_to(position),
            Inner::PerKey(lanes) => lanes.skip_to(position),
        }
    }

    /// Drops what waits of a transaction that has not been received whole: at the end, where it will come again.
    pub fn forget(&mut self, ticket: Ticket) {
        match &mut self.inner {
            Inner::Total(lanes) => lanes.forget(ticket),
            Inner::PerKey(lanes) => lanes.forget(ticket),
        }
    }

    /// When [`Lanes::take`] should be asked again though nothing happens; `None` for never.
    #[must_use]
    pub fn next_wake(&self, now: Instant) -> Option<Instant> {
        if self.gate.is_closed(now) {
            return self.gate.until().filter(|_| self.waiting().changes > 0);
        }
        if self.gate.is_probing() && self.in_flight() > 0 {
            return None;
        }
        match &self.inner {
            Inner::Total(lanes) => lanes.next_wake(),
            Inner::PerKey(lanes) => lanes.next_wake(),
        }
    }

    /// Batches under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        match &self.inner {
            Inner::Total(lanes) => lanes.in_flight(),
            Inner::PerKey(lanes) => lanes.in_flight(),
        }
    }

    /// What waits.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        match &self.inner {
            Inner::Total(lanes) => lanes.waiting(),
            Inner::PerKey(lanes) => lanes.waiting(),
        }
    }

    fn settle(&mut self, id: WorkId, outcome: Outcome<'_>) -> Vec<Effect> {
        match &mut self.inner {
            Inner::Total(lanes) => lanes.settle(id, outcome, &mut self.letters),
            Inner::PerKey(lanes) => lanes.settle(id, outcome, &mut self.letters),
        }
    }
}

/// What became of a batch.
#[derive(Default)]
struct Outcome<'a> {
    undelivered: Vec<Undelivered>,
    now: Option<Instant>,
    give_up: bool,
    attempts: u32,
    pause: Option<&'a mut dyn FnMut(u32) -> Duration>,
}

/// What becomes of one change of a batch.
enum Fate {
    Delivered,
    Again { attempts: u32, until: Option<Instant> },
    Dead { attempts: u32, error: SinkError },
}

impl Outcome<'_> {
    /// Whether nothing was delivered wrong: the usual case, which needs no look at single changes.
    fn is_whole(&self) -> bool {
        self.undelivered.is_empty()
    }

    /// The fates of a batch of which `attempts` says how often each change was tried before.
    fn fates(mut self, attempts: impl ExactSizeIterator<Item = u32>) -> Vec<Fate> {
        let mut whys: Vec<Option<Why>> = Vec::new();
        whys.resize_with(attempts.len(), || None);
        let undelivered = std::mem::take(&mut self.undelivered);
        let sound = undelivered.iter().all(|one| one.index < whys.len())
            && undelivered.iter().any(|one| !matches!(one.why, Why::Behind));
        if !sound {
            // Whatever it meant, nothing of the batch is known to be delivered.
            whys.fill_with(|| Some(Why::Failed(nonsense())));
        }
        for Undelivered { index, why } in undelivered {
            if let Some(slot) = whys.get_mut(index).filter(|_| sound) {
                *slot = Some(why);
            }
        }
        whys.into_iter().zip(attempts).map(|(why, before)| self.fate(why, before)).collect()
    }

    fn fate(&mut self, why: Option<Why>, before: u32) -> Fate {
        let attempts = before.saturating_add(1);
        match why {
            None => Fate::Delivered,
            Some(Why::Behind) => Fate::Again { attempts: before, until: None },
            Some(Why::Rejected(error)) if self.give_up => Fate::Dead { attempts, error },
            Some(Why::Failed(error)) if self.give_up && attempts >= self.attempts => {
                Fate::Dead { attempts, error }
            }
            Some(Why::Rejected(_) | Why::Failed(_)) => {
                let pause = self.pause.as_mut().map(|pause| pause(attempts));
                let until = self.now.zip(pause).map(|(now, pause)| now + pause);
                Fate::Again { attempts, until }
            }
        }
    }
}

fn nonsense() -> SinkError {
    SinkError {
        what: "make sense of",
        target: "the sink's answer".to_owned(),
        problem: "it names changes that the batch does not have, or some as behind none".to_owned(),
        advice: "this is a mistake in the sink, please report it",
        reopen: false,
    }
}

/// Hands out names for dead letters.
#[derive(Debug, Default)]
struct Letters(u64);

impl Letters {
    fn next(&mut self) -> LetterId {
        self.0 += 1;
        LetterId(self.0)
    }
}

/// Adds handled changes to `effects`, together with those of the same transaction right before.
fn handled(effects: &mut Vec<Effect>, of: Ticket) {
    if let Some(Effect::Handled { ticket, count }) = effects.last_mut()
        && *ticket == of
    {
        *count += 1;
        return;
    }
    effects.push(Effect::Handled { ticket: of, count: 1 });
}

/// Whether a sink that is at `position` has this change. A row of a snapshot stands at no place of its own in the log.
pub(crate) fn has(position: Position, change: &Change) -> bool {
    let (commit_lsn, ordinal) = change.view().id();
    let before = commit_lsn < position.commit_lsn
        || (commit_lsn == position.commit_lsn && ordinal < position.changes);
    before && change.kind() != Kind::Read
}
