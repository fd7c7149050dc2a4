//! Changes of one key in their order, different keys side by side.
//!
//! Each key has a lane: the changes that touch it, in the order of the stream. A change may be delivered once it is at
//! the head of all its lanes (an update that gives a row another key stands in two). What touches a whole table waits
//! until nothing of the table is under way, and all that comes later in the table waits for it.

mod lane;
mod leaving;
mod table;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use herdsman_wal::Change;
use tokio::time::Instant;

use self::lane::{LaneId, LaneSet};
use self::table::{TableId, TableSet};
use super::key::{Key, Touch, touch};
use super::{LetterId, Limits, Ticket, Waiting, WorkId};
use crate::sink::Batch;

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
