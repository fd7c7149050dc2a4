//! What becomes of changes once they were taken, or are not wanted any more.

use std::sync::Arc;

use super::table::TableId;
use super::{Number, PerKey, Place, State};
use crate::lanes::{
    Effect, Fate, Letter, LetterId, Letters, Outcome, Ticket, WorkId, handled, has,
};
use crate::sink::Position;

impl PerKey {
    pub(in crate::lanes) fn settle(
        &mut self,
        id: WorkId,
        outcome: Outcome<'_>,
        letters: &mut Letters,
    ) -> Vec<Effect> {
        let Some(flight) = self.flights.remove(&id) else { return Vec::new() };
        let mut effects = Vec::new();
        let mut dead = Vec::new();
        let mut back = Vec::new();
        let fates = if outcome.is_whole() {
            Vec::new()
        } else {
            let entries = flight.numbers.iter().map(|n| self.entries.get(n));
            outcome.fates(entries.map(|entry| entry.map_or(0, |e| e.attempts)))
        };
        let mut fates = fates.into_iter();
        self.release_lanes(&flight.numbers);
        for (&number, change) in flight.numbers.iter().zip(&flight.batch.changes) {
            let entry = self.entries.get_mut(&number);
            match (fates.next().unwrap_or(Fate::Delivered), entry) {
                (Fate::Delivered, _) | (_, None) => {
                    if let Some(ticket) = self.finish(number) {
                        handled(&mut effects, ticket);
                    }
                }
                (Fate::Again { attempts, until }, Some(entry)) => {
                    (entry.attempts, entry.until) = (attempts, until);
                    back.push(number);
                }
                (Fate::Dead { attempts, error }, Some(entry)) => {
                    let change = Arc::clone(change);
                    let letter = Letter { id: letters.next(), change, error, attempts };
                    entry.state = State::Dead;
                    self.letters.insert(letter.id, number);
                    dead.push(Effect::DeadLetter(letter));
                }
            }
        }
        self.return_to_wait(&back);
        effects.append(&mut dead);
        effects
    }

    pub(in crate::lanes) fn put_back(&mut self, id: WorkId) {
        if let Some(flight) = self.flights.remove(&id) {
            self.release_lanes(&flight.numbers);
            self.return_to_wait(&flight.numbers);
        }
    }

    fn release_lanes(&mut self, numbers: &[Number]) {
        for number in numbers {
            if let Some(Place::Lanes { first, second, .. }) =
                self.entries.get(number).map(|entry| &entry.place)
            {
                self.lanes.release(*first);
                second.iter().for_each(|second| self.lanes.release(*second));
            }
        }
    }

    fn return_to_wait(&mut self, numbers: &[Number]) {
        for &number in numbers {
            if let Some(entry) = self.entries.get_mut(&number) {
                entry.state = State::Waiting;
                if self.forgotten == Some(entry.ticket) {
                    self.forget_one(number);
                }
            }
        }
        for &number in numbers {
            self.queue_if_first(number);
        }
    }

    /// It is over: out of its lanes and tables, and what stood behind it moves up.
    fn finish(&mut self, number: Number) -> Option<Ticket> {
        let entry = self.entries.remove(&number)?;
        if entry.state != State::Forgotten {
            self.waiting.changes -= 1;
            self.waiting.bytes -= entry.weight;
        }
        match entry.place {
            Place::Lanes { table, first, second } => {
                for lane in [Some(first), second].into_iter().flatten() {
                    if let Some(head) = self.lanes.remove(lane, number) {
                        self.queue_if_first(head);
                    }
                }
                if let Some(table) = table
                    && self.tables.leave(table)
                {
                    self.advance(table);
                }
            }
            Place::Deferred { .. } => self.tables.withdraw(number),
            Place::Tables { tables, .. } => {
                for table in tables {
                    self.tables.remove_whole(table, number);
                    self.advance(table);
                }
            }
        }
        Some(entry.ticket)
    }

    /// Lets in what waits before a table, up to the next that touches the whole of it.
    fn advance(&mut self, table: TableId) {
        while let Some(number) = self.tables.front(table) {
            let Some(entry) = self.entries.get_mut(&number) else {
                self.tables.pop(table);
                continue;
            };
            match &mut entry.place {
                Place::Tables { blocked, .. } => {
                    if self.tables.grant(table) {
                        *blocked = blocked.saturating_sub(1);
                        self.queue_if_first(number);
                    }
                    return;
                }
                Place::Deferred { first, second } => {
                    let (first, second) = (std::mem::take(first), second.take());
                    self.tables.pop(table);
                    let place = self.lane_place(number, Some(table), first, second);
                    if let Some(entry) = self.entries.get_mut(&number) {
                        entry.place = place;
                    }
                    self.queue_if_first(number);
                }
                Place::Lanes { .. } => self.tables.pop(table),
            }
        }
    }

    pub(in crate::lanes) fn bury(&mut self, id: LetterId) -> Option<Ticket> {
        let number = self.letters.remove(&id)?;
        self.finish(number)
    }

    pub(in crate::lanes) fn skip_to(&mut self, position: Position) -> Vec<Effect> {
        let mut numbers: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.state, State::Waiting | State::Queued))
            .filter(|(_, entry)| has(position, &entry.change))
            .map(|(number, _)| *number)
            .collect();
        numbers.sort_unstable();
        let mut effects = Vec::new();
        for number in numbers {
            if let Some(ticket) = self.finish(number) {
                handled(&mut effects, ticket);
            }
        }
        effects
    }

    pub(in crate::lanes) fn forget(&mut self, ticket: Ticket) {
        self.forgotten = Some(ticket);
        let numbers: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.ticket == ticket)
            .filter(|(_, entry)| matches!(entry.state, State::Waiting | State::Queued))
            .map(|(number, _)| *number)
            .collect();
        numbers.into_iter().for_each(|number| self.forget_one(number));
    }

    /// Keeps its place, so that whatever is behind it does not overtake, but is not waited for.
    fn forget_one(&mut self, number: Number) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.state = State::Forgotten;
            self.waiting.changes -= 1;
            self.waiting.bytes -= entry.weight;
        }
    }
}
