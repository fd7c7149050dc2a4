//! Changes of one key in their order, different keys side by side.
//!
//! Each key has a lane: the changes that touch it, in the order of the stream. A change may be delivered once it is at
//! the head of all its lanes (an update that gives a row another key stands in two). What touches a whole table waits
//! until nothing of the table is under way, and all that comes later in the table waits for it.

mod lane;
mod table;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use herdsman_wal::Change;
use tokio::time::Instant;

use self::lane::{LaneId, LaneSet};
use self::table::{TableId, TableSet};
use super::key::{Key, Touch, touch};
use super::{Effect, Fate, Letter, LetterId, Letters, Limits, Outcome, Ticket, Waiting, WorkId};
use super::{handled, has};
use crate::sink::{Batch, Position};

/// A batch is not split among idle workers below this many changes: most sinks pay by the batch.
const SMALLEST_SHARE: usize = 16;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct PerKey {
    parallel: usize,
    entries: HashMap<Number, Entry>,
    last: Number,
    lanes: LaneSet,
    tables: TableSet,
    ready: BinaryHeap<Reverse<Number>>,
    /// Tried before, and to be tried again now: each alone, so that one bad change does not spoil others.
    again: BinaryHeap<Reverse<Number>>,
    delayed: BinaryHeap<Reverse<(Instant, Number)>>,
    /// Whether the next batch is one that was tried before, where there are both.
    turn_of_again: bool,
    flights: HashMap<WorkId, Flight>,
    letters: HashMap<LetterId, Number>,
    waiting: Waiting,
    forgotten: Option<Ticket>,
}

/// Changes are numbered as they come, so that this is their order.
type Number = u64;

#[derive(Debug)]
struct Entry {
    change: Arc<Change>,
    ticket: Ticket,
    weight: usize,
    attempts: u32,
    until: Option<Instant>,
    state: State,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Something is before it.
    Waiting,
    /// In one of the heaps.
    Queued,
    Flying(WorkId),
    /// Given up, and not yet kept.
    Dead,
    /// Waits for nothing any more: it will come again.
    Forgotten,
}

#[derive(Debug)]
enum Place {
    /// In the lanes of its keys.
    Lanes { table: Option<TableId>, first: LaneId, second: Option<LaneId> },
    /// Before the lanes, because something that touches the whole table is in front.
    Deferred { first: Key, second: Option<Key> },
    /// In the queues of whole tables; how many of them it is not yet the first and only one of.
    Tables { tables: Vec<TableId>, blocked: usize },
}

#[derive(Debug)]
struct Flight {
    batch: Arc<Batch>,
    numbers: Vec<Number>,
}

impl PerKey {
    pub(super) fn new(parallel: usize) -> Self {
        Self {
            parallel: parallel.max(1),
            entries: HashMap::new(),
            last: 0,
            lanes: LaneSet::default(),
            tables: TableSet::default(),
            ready: BinaryHeap::new(),
            again: BinaryHeap::new(),
            delayed: BinaryHeap::new(),
            turn_of_again: false,
            flights: HashMap::new(),
            letters: HashMap::new(),
            waiting: Waiting::default(),
            forgotten: None,
        }
    }

    pub(super) fn push(&mut self, change: Arc<Change>, ticket: Ticket) {
        self.last += 1;
        let number = self.last;
        let touched = self.touch(&change);
        let weight = change.weight();
        self.waiting.changes += 1;
        self.waiting.bytes += weight;
        let place = match touched {
            Touch::Rows { table, first, second } => {
                let table = self.tables.id(table);
                if self.tables.defer(table, number) {
                    Place::Deferred { first, second }
                } else {
                    self.lane_place(number, Some(table), first, second)
                }
            }
            Touch::Alone(key) => self.lane_place(number, None, key, None),
            Touch::Tables(names) => {
                let tables: Vec<_> = names.into_iter().map(|name| self.tables.id(name)).collect();
                let granted = tables.iter().filter(|&&t| self.tables.enqueue_whole(t, number));
                let blocked = tables.len() - granted.count();
                Place::Tables { tables, blocked }
            }
        };
        let state = State::Waiting;
        let entry = Entry { change, ticket, weight, attempts: 0, until: None, state, place };
        self.entries.insert(number, entry);
        self.queue_if_first(number);
    }

    /// What it touches; the whole table also where rows are told apart by other columns from here on.
    fn touch(&mut self, change: &Change) -> Touch {
        let touched = touch(change);
        if let Touch::Rows { table, .. } = &touched
            && let Some(relation) = change.table()
            && self.tables.key_changed(table, relation)
        {
            return Touch::Tables(vec![table.clone()]);
        }
        touched
    }

    fn lane_place(
        &mut self,
        number: Number,
        table: Option<TableId>,
        first: Key,
        second: Option<Key>,
    ) -> Place {
        if let Some(table) = table {
            self.tables.enter(table);
        }
        let first = self.lanes.push(first, number);
        let second = second.map(|key| self.lanes.push(key, number));
        Place::Lanes { table, first, second }
    }

    /// Queues it where nothing is before it (any more).
    fn queue_if_first(&mut self, number: Number) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let first = match &entry.place {
            Place::Lanes { first, second, .. } => {
                self.lanes.is_head(*first, number)
                    && second.is_none_or(|second| self.lanes.is_head(second, number))
            }
            Place::Tables { blocked, .. } => *blocked == 0,
            Place::Deferred { .. } => false,
        };
        if !first || entry.state != State::Waiting {
            return;
        }
        entry.state = State::Queued;
        match entry.until {
            Some(until) => self.delayed.push(Reverse((until, number))),
            None if entry.attempts > 0 => self.again.push(Reverse(number)),
            None => self.ready.push(Reverse(number)),
        }
    }

    pub(super) fn take(&mut self, id: WorkId, now: Instant, limits: Limits) -> Option<Arc<Batch>> {
        let idle = self.parallel.checked_sub(self.flights.len()).filter(|idle| *idle > 0)?;
        self.wake(now);
        let again = !self.again.is_empty() && (self.turn_of_again || self.ready.is_empty());
        self.turn_of_again = !again;
        let mut numbers = if again { self.take_again(id) } else { Vec::new() };
        if numbers.is_empty() {
            numbers = self.take_ready(id, idle, limits);
        }
        if numbers.is_empty() {
            return None;
        }
        let changes = numbers.iter().filter_map(|n| self.entries.get(n));
        let changes = changes.map(|entry| Arc::clone(&entry.change)).collect();
        let batch = Arc::new(Batch { changes, position: None });
        self.flights.insert(id, Flight { batch: Arc::clone(&batch), numbers });
        Some(batch)
    }

    fn wake(&mut self, now: Instant) {
        while let Some(Reverse((until, number))) = self.delayed.peek().copied()
            && until <= now
        {
            self.delayed.pop();
            self.again.push(Reverse(number));
        }
    }

    fn take_again(&mut self, id: WorkId) -> Vec<Number> {
        while let Some(Reverse(number)) = self.again.pop() {
            if self.fly(number, id, State::Queued) {
                return vec![number];
            }
        }
        Vec::new()
    }

    /// Takes what is ready, and with it what then stands next in the same lanes.
    fn take_ready(&mut self, id: WorkId, idle: usize, limits: Limits) -> Vec<Number> {
        let share = self.ready.len().div_ceil(idle).max(SMALLEST_SHARE);
        let most = share.min(limits.changes.max(1));
        let mut next: BinaryHeap<Reverse<Number>> = BinaryHeap::new();
        let mut taken = Vec::with_capacity(most.min(self.waiting.changes));
        let mut bytes = 0;
        while taken.len() < most {
            // The older one of both, so that the batch is in the order of the stream.
            let from_next = match (next.peek(), self.ready.peek()) {
                (Some(Reverse(next)), Some(Reverse(ready))) => next < ready,
                (next, _) => next.is_some(),
            };
            let heap = if from_next { &mut next } else { &mut self.ready };
            let Some(Reverse(number)) = heap.peek().copied() else { break };
            let weight = self.entries.get(&number).map_or(0, |entry| entry.weight);
            if !taken.is_empty() && bytes + weight > limits.bytes {
                break;
            }
            heap.pop();
            let before = if from_next { State::Waiting } else { State::Queued };
            if self.fly(number, id, before) {
                bytes += weight;
                taken.push(number);
                next.extend(self.successors(number, id).map(Reverse));
            }
        }
        taken
    }

    /// Marks it as under way; false where it is not what it was any more.
    fn fly(&mut self, number: Number, id: WorkId, before: State) -> bool {
        let Some(entry) = self.entries.get_mut(&number).filter(|e| e.state == before) else {
            return false;
        };
        entry.state = State::Flying(id);
        if let Place::Lanes { first, second, .. } = entry.place {
            self.lanes.take(first, id);
            if let Some(second) = second {
                self.lanes.take(second, id);
            }
        }
        true
    }

    /// What may follow this change within the same batch.
    fn successors(&self, number: Number, id: WorkId) -> impl Iterator<Item = Number> {
        let lanes = match self.entries.get(&number).map(|entry| &entry.place) {
            Some(Place::Lanes { first, second, .. }) => [Some(*first), *second],
            _ => [None, None],
        };
        let candidates = lanes.map(|lane| lane.and_then(|lane| self.lanes.next(lane, id)));
        let [one, two] = candidates.map(|candidate| candidate.filter(|n| self.may_follow(*n, id)));
        // Both lanes may have the same one next.
        [one, two.filter(|two| Some(*two) != one)].into_iter().flatten()
    }

    fn may_follow(&self, number: Number, id: WorkId) -> bool {
        let Some(entry) = self.entries.get(&number) else { return false };
        let Place::Lanes { first, second, .. } = entry.place else { return false };
        entry.state == State::Waiting
            && entry.attempts == 0
            && self.lanes.next(first, id) == Some(number)
            && second.is_none_or(|second| self.lanes.next(second, id) == Some(number))
    }

    pub(super) fn settle(
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

    pub(super) fn put_back(&mut self, id: WorkId) {
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

    pub(super) fn bury(&mut self, id: LetterId) -> Option<Ticket> {
        let number = self.letters.remove(&id)?;
        self.finish(number)
    }

    pub(super) fn skip_to(&mut self, position: Position) -> Vec<Effect> {
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

    pub(super) fn forget(&mut self, ticket: Ticket) {
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

    pub(super) fn next_wake(&self) -> Option<Instant> {
        let Reverse((until, _)) = self.delayed.peek()?;
        (self.flights.len() < self.parallel).then_some(*until)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn waiting(&self) -> Waiting {
        self.waiting
    }
}
