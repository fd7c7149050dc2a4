//! One batch at a time, all in the order of the stream.

use std::collections::VecDeque;
use std::sync::Arc;

use herdsman_wal::{Change, Kind};
use tokio::time::Instant;

use super::{Effect, Fate, Letter, LetterId, Letters, Limits, Outcome, Ticket, Waiting, WorkId};
use super::{handled, has};
use crate::sink::{Batch, Position};

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Total {
    queue: VecDeque<(Arc<Change>, Item)>,
    flight: Option<Flight>,
    /// How many in the queue end a transaction.
    ends: usize,
    queued_bytes: usize,
    flying_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    ticket: Ticket,
    weight: usize,
    /// Nothing of its transaction comes after it.
    last: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fresh,
    /// Tried before without success: tried alone, so that it alone is held against it.
    Again {
        attempts: u32,
        until: Option<Instant>,
    },
    /// Given up, and not yet kept. Nothing overtakes it: a sink that holds the position would skip it after a crash.
    Dead(LetterId),
}

#[derive(Debug)]
struct Flight {
    id: WorkId,
    batch: Arc<Batch>,
    items: Vec<Item>,
}

impl Total {
    pub(super) fn push(&mut self, change: Arc<Change>, ticket: Ticket) {
        let weight = change.weight();
        self.queued_bytes += weight;
        self.queue.push_back((change, Item { ticket, weight, last: false, state: State::Fresh }));
    }

    pub(super) fn commit(&mut self, ticket: Ticket) {
        let queued = match self.queue.back_mut() {
            Some((_, item)) => Some((item, 1)),
            // What is under way may come back, and must not wait for an end that came meanwhile.
            None => self.flight.as_mut().and_then(|flight| Some((flight.items.last_mut()?, 0))),
        };
        if let Some((item, ends)) = queued
            && item.ticket == ticket
            && !item.last
        {
            item.last = true;
            self.ends += ends;
        }
    }

    pub(super) fn take(&mut self, id: WorkId, now: Instant, limits: Limits) -> Option<Arc<Batch>> {
        if self.flight.is_some() {
            return None;
        }
        let count = match self.queue.front()?.1.state {
            State::Dead(_) => return None,
            State::Again { until, .. } if until.is_some_and(|until| now < until) => return None,
            State::Again { .. } => 1,
            State::Fresh => self.fitting(limits)?,
        };
        let mut changes = Vec::with_capacity(count);
        let mut items = Vec::with_capacity(count);
        for (change, item) in self.queue.drain(..count) {
            self.ends -= usize::from(item.last);
            self.queued_bytes -= item.weight;
            self.flying_bytes += item.weight;
            changes.push(change);
            items.push(item);
        }
        let position = position(&changes, &items);
        let batch = Arc::new(Batch { changes, position });
        self.flight = Some(Flight { id, batch: Arc::clone(&batch), items });
        Some(batch)
    }

    /// How many to take: whole transactions where that can be had.
    fn fitting(&self, limits: Limits) -> Option<usize> {
        let all_fit = self.queue.len() <= limits.changes && self.queued_bytes <= limits.bytes;
        if self.ends == 0 && all_fit && limits.more_coming {
            return None;
        }
        let (mut count, mut whole, mut bytes) = (0, 0, 0);
        for (_, item) in self.queue.iter().take(limits.changes.max(1)) {
            bytes += item.weight;
            if item.state != State::Fresh || (count > 0 && bytes > limits.bytes) {
                break;
            }
            count += 1;
            if item.last {
                whole = count;
            }
        }
        if whole > 0 {
            return Some(whole);
        }
        let waits_for_end = count == self.queue.len() && limits.more_coming;
        (!waits_for_end).then_some(count)
    }

    pub(super) fn settle(
        &mut self,
        id: WorkId,
        outcome: Outcome<'_>,
        letters: &mut Letters,
    ) -> Vec<Effect> {
        let Some(flight) = self.flight.take_if(|flight| flight.id == id) else {
            return Vec::new();
        };
        self.flying_bytes = 0;
        let mut effects = Vec::new();
        if outcome.is_whole() {
            for item in &flight.items {
                handled(&mut effects, item.ticket);
            }
            return effects;
        }
        let mut dead = Vec::new();
        let mut back = Vec::new();
        let fates = outcome.fates(flight.items.iter().map(|item| item.attempts()));
        for ((change, mut item), fate) in flight.batch.changes.iter().zip(flight.items).zip(fates) {
            item.state = match fate {
                Fate::Delivered => {
                    handled(&mut effects, item.ticket);
                    continue;
                }
                Fate::Again { attempts: 0, .. } => State::Fresh,
                Fate::Again { attempts, until } => State::Again { attempts, until },
                Fate::Dead { attempts, error } => {
                    let letter =
                        Letter { id: letters.next(), change: Arc::clone(change), error, attempts };
                    let state = State::Dead(letter.id);
                    dead.push(Effect::DeadLetter(letter));
                    state
                }
            };
            back.push((Arc::clone(change), item));
        }
        self.put_in_front(back);
        effects.append(&mut dead);
        effects
    }

    pub(super) fn put_back(&mut self, id: WorkId) {
        if let Some(flight) = self.flight.take_if(|flight| flight.id == id) {
            self.flying_bytes = 0;
            let back = flight.batch.changes.iter().cloned().zip(flight.items).collect();
            self.put_in_front(back);
        }
    }

    fn put_in_front(&mut self, back: Vec<(Arc<Change>, Item)>) {
        for (change, item) in back.into_iter().rev() {
            self.ends += usize::from(item.last);
            self.queued_bytes += item.weight;
            self.queue.push_front((change, item));
        }
    }

    pub(super) fn bury(&mut self, id: LetterId) -> Option<Ticket> {
        let at = self.queue.iter().position(|(_, item)| item.state == State::Dead(id))?;
        self.remove(at)
    }

    pub(super) fn skip_to(&mut self, position: Position) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some((change, item)) = self.queue.front()
            // What is about to be kept as a dead letter is handled by that.
            && !matches!(item.state, State::Dead(_))
            && has(position, change)
        {
            if let Some(ticket) = self.remove(0) {
                handled(&mut effects, ticket);
            }
        }
        effects
    }

    pub(super) fn forget(&mut self, ticket: Ticket) {
        while self.queue.back().is_some_and(|(_, item)| item.ticket == ticket && !item.is_dead()) {
            self.remove(self.queue.len() - 1);
        }
    }

    fn remove(&mut self, at: usize) -> Option<Ticket> {
        let (_, item) = self.queue.remove(at)?;
        self.ends -= usize::from(item.last);
        self.queued_bytes -= item.weight;
        // The end of a transaction moves to what is left of it.
        if item.last
            && let Some(before) = at.checked_sub(1)
            && let Some((_, earlier)) = self.queue.get_mut(before)
            && earlier.ticket == item.ticket
        {
            earlier.last = true;
            self.ends += 1;
        }
        Some(item.ticket)
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        match self.queue.front()?.1.state {
            State::Again { until, .. } if self.flight.is_none() => until,
            _ => None,
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        usize::from(self.flight.is_some())
    }

    pub(super) fn waiting(&self) -> Waiting {
        let flying = self.flight.as_ref().map_or(0, |flight| flight.items.len());
        Waiting { changes: self.queue.len() + flying, bytes: self.queued_bytes + self.flying_bytes }
    }
}

impl Item {
    fn attempts(&self) -> u32 {
        match self.state {
            State::Again { attempts, .. } => attempts,
            State::Fresh | State::Dead(_) => 0,
        }
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, State::Dead(_))
    }
}

/// Where the stream stands after these. Rows of a snapshot stand at no place of their own in the log.
fn position(changes: &[Arc<Change>], items: &[Item]) -> Option<Position> {
    let mut pairs = changes.iter().zip(items).rev();
    let (change, item) = pairs.find(|(change, _)| change.kind() != Kind::Read)?;
    let (commit_lsn, ordinal) = change.view().id();
    let changes = match change.kind() {
        _ if item.last => u64::MAX,
        // It has the number of the change that follows it, which has not come.
        Kind::Schema => ordinal,
        _ => ordinal.saturating_add(1),
    };
    Some(Position { commit_lsn, changes })
}
