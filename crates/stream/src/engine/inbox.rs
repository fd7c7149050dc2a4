//! What is received: which transaction each change belongs to, and which ones came before a connection was lost.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use herdsman_node::Lsn;
use herdsman_wal::{Body, Change, ChangeRef, Event, Kind, Progress, Source, Transaction};

use super::Transform;
use super::outbox::Outbox;
use super::stats::{Lateness, Stats};
use crate::error::StreamError;
use crate::lanes::Ticket;
use crate::sink::Position;

/// See the [module](self).
pub(super) struct Inbox {
    pub(super) progress: Progress,
    transform: Option<Transform>,
    source: Option<Arc<Source>>,
    place: Place,
    /// How far the stream has been received.
    received: Position,
    /// After a lost connection: what was received before, and is sent again.
    before: Option<Position>,
    /// A transaction of which the connection was lost half-way.
    unfinished: Option<Ticket>,
    /// Up to where the server had nothing that has not been received, the last time it said so.
    idle: Lsn,
    counters: Counters,
    late: Lateness,
    /// When something was last received.
    heard: Option<SystemTime>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) changes: u64,
    pub(super) left_out: u64,
    pub(super) transactions: u64,
    pub(super) wal_end: Lsn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Outside,
    Within {
        ticket: Ticket,
        /// Changes below this number were received over an earlier connection.
        from: u64,
    },
    /// In a transaction all of which was received over an earlier connection.
    Known,
}

const NOWHERE: Position = Position { commit_lsn: Lsn(0), changes: 0 };

impl Inbox {
    pub(super) fn new(transform: Option<Transform>) -> Self {
        Self {
            progress: Progress::new(),
            transform,
            source: None,
            place: Place::Outside,
            received: NOWHERE,
            before: None,
            unfinished: None,
            idle: Lsn(0),
            counters: Counters::default(),
            late: Lateness::default(),
            heard: None,
        }
    }

    /// The commit of the last transaction of which something was received.
    pub(super) fn received(&self) -> Lsn {
        self.received.commit_lsn
    }

    /// The same stream comes over a new connection: from the last acknowledged transaction on, of which some is known.
    pub(super) fn resume(&mut self) {
        if let Some(ticket) = self.unfinished() {
            self.unfinished = Some(ticket);
        }
        self.place = Place::Outside;
        self.before = Some(self.received);
    }

    /// A stream comes of which nothing is known.
    pub(super) fn restart(&mut self, source: &Arc<Source>) {
        self.source = Some(Arc::clone(source));
        self.progress = Progress::new();
        self.place = Place::Outside;
        self.received = NOWHERE;
        self.before = None;
        self.unfinished = None;
        self.idle = Lsn(0);
        self.late = Lateness::default();
    }

    /// So many changes of this transaction have arrived.
    pub(super) fn handled(&mut self, ticket: Ticket, count: u64) {
        (0..count).for_each(|_| self.progress.handled(ticket));
        self.settle();
    }

    /// What the server said while something was under way counts as soon as nothing is.
    fn settle(&mut self) {
        self.progress.idle(self.idle);
    }

    /// The transaction whose end has not been received.
    pub(super) fn unfinished(&self) -> Option<Ticket> {
        match self.place {
            Place::Within { ticket, .. } => Some(ticket),
            Place::Outside | Place::Known => self.unfinished,
        }
    }

    pub(super) fn receive(
        &mut self,
        event: Event<'_>,
        outboxes: &mut [Outbox],
    ) -> Result<(), StreamError> {
        self.heard = Some(SystemTime::now());
        match event {
            Event::Change(change) => self.change(change, outboxes),
            Event::Begin(transaction) => self.begin(transaction),
            Event::Commit { end_lsn, .. } => self.commit(end_lsn, outboxes),
            Event::Idle { wal_end } => {
                self.idle = self.idle.max(wal_end);
                self.settle();
                self.counters.wal_end = self.counters.wal_end.max(wal_end);
                Ok(())
            }
            Event::Message { lsn, prefix, content } => self.message(lsn, prefix, content, outboxes),
            Event::Prepare { .. }
            | Event::CommitPrepared { .. }
            | Event::RollbackPrepared { .. } => Err(StreamError::TwoPhase),
            _ => Err(StreamError::OutOfOrder { problem: "an event that is not known" }),
        }
    }

    fn begin(&mut self, transaction: &Transaction) -> Result<(), StreamError> {
        if self.place != Place::Outside {
            return Err(StreamError::OutOfOrder { problem: "a transaction begins within another" });
        }
        self.place = self.place_of(transaction);
        Ok(())
    }

    fn place_of(&mut self, transaction: &Transaction) -> Place {
        // The rows of a snapshot are no part of the log, and all stand at the same position.
        if transaction.xid == 0 {
            return Place::Within { ticket: self.progress.begin(), from: 0 };
        }
        if let Some(before) = self.before {
            if (transaction.commit_lsn, u64::MAX) <= (before.commit_lsn, before.changes) {
                return Place::Known;
            }
            self.before = None;
            if let Some(ticket) = self.unfinished.take() {
                if transaction.commit_lsn == before.commit_lsn {
                    return Place::Within { ticket, from: before.changes };
                }
                // It does not come again, so that nothing more of it can be awaited.
                tracing::warn!(lsn = %before.commit_lsn, "a transaction did not come again after the connection was lost");
                self.progress.commit(ticket, Lsn(0));
            }
        }
        self.received = Position { commit_lsn: transaction.commit_lsn, changes: 0 };
        self.late.begin(transaction.commit_lsn, transaction.commit_time.system_time());
        Place::Within { ticket: self.progress.begin(), from: 0 }
    }

    fn change(
        &mut self,
        change: ChangeRef<'_>,
        outboxes: &mut [Outbox],
    ) -> Result<(), StreamError> {
        let (ticket, from) = match self.place {
            Place::Within { ticket, from } => (ticket, from),
            Place::Known => return Ok(()),
            Place::Outside => {
                return Err(StreamError::OutOfOrder { problem: "a change outside a transaction" });
            }
        };
        if change.ordinal < from {
            return Ok(());
        }
        self.hand_over(change, ticket, outboxes)?;
        // A description of a table has the number of the change that follows it.
        if change.transaction.xid != 0 && change.kind() != Kind::Schema {
            self.received.changes = change.ordinal.saturating_add(1);
        }
        Ok(())
    }

    fn hand_over(
        &mut self,
        change: ChangeRef<'_>,
        ticket: Ticket,
        outboxes: &mut [Outbox],
    ) -> Result<(), StreamError> {
        self.counters.changes += 1;
        let change = match &mut self.transform {
            None => Some(Change::from(change)),
            Some(transform) => transform(change)?,
        };
        let Some(change) = change.map(Arc::new) else {
            self.counters.left_out += 1;
            return Ok(());
        };
        let Some((last, others)) = outboxes.split_last_mut() else { return Ok(()) };
        for outbox in others {
            if outbox.wants(&change) {
                self.progress.expect(ticket);
                outbox.lanes.push(Arc::clone(&change), ticket);
            }
        }
        if last.wants(&change) {
            self.progress.expect(ticket);
            last.lanes.push(change, ticket);
        }
        Ok(())
    }

    fn commit(&mut self, end_lsn: Lsn, outboxes: &mut [Outbox]) -> Result<(), StreamError> {
        match std::mem::replace(&mut self.place, Place::Outside) {
            Place::Outside => {
                return Err(StreamError::OutOfOrder { problem: "an end outside a transaction" });
            }
            Place::Known => {}
            Place::Within { ticket, .. } => {
                self.received.changes = u64::MAX;
                self.counters.transactions += 1;
                self.counters.wal_end = self.counters.wal_end.max(end_lsn);
                self.end(ticket, end_lsn, outboxes);
            }
        }
        Ok(())
    }

    fn end(&mut self, ticket: Ticket, end_lsn: Lsn, outboxes: &mut [Outbox]) {
        outboxes.iter_mut().for_each(|outbox| outbox.lanes.commit(ticket));
        self.progress.commit(ticket, end_lsn);
        self.settle();
    }

    /// A message of no transaction is handed over as one of its own.
    fn message(
        &mut self,
        lsn: Lsn,
        prefix: &str,
        content: &[u8],
        outboxes: &mut [Outbox],
    ) -> Result<(), StreamError> {
        if self.place != Place::Outside {
            return Err(StreamError::OutOfOrder { problem: "a lone message within a transaction" });
        }
        let Some(source) = self.source.clone() else {
            return Err(StreamError::OutOfOrder { problem: "a message before the stream began" });
        };
        let transaction =
            Arc::new(Transaction { begin_lsn: lsn, commit_lsn: lsn, ..Transaction::default() });
        let body = Body::Message { prefix, content };
        let ticket = self.progress.begin();
        let change =
            ChangeRef { source: &source, transaction: &transaction, ordinal: 0, lsn, body };
        self.hand_over(change, ticket, outboxes)?;
        self.end(ticket, lsn, outboxes);
        Ok(())
    }

    pub(super) fn publish(&mut self, stats: &Stats) {
        self.late.handled(self.progress.safe());
        stats.set_received(self.counters);
        stats.set_times(self.late.oldest(), self.heard);
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("place", &self.place)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}
