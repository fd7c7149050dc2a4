//! One lane for each key that something waits for.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Number;
use crate::lanes::WorkId;
use crate::lanes::key::Key;

/// Names a lane for as long as something is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneId(usize);

/// All lanes. An empty lane is reused for the next new key, with the memory it has.
#[derive(Debug, Default)]
pub(super) struct LaneSet {
    by_key: HashMap<Arc<[u8]>, usize>,
    lanes: Vec<Lane>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Lane {
    key: Arc<[u8]>,
    queue: VecDeque<Number>,
    /// How many from the front are under way, all in the same batch.
    taken: usize,
    by: Option<WorkId>,
}

impl LaneSet {
    pub(super) fn push(&mut self, key: Key, number: Number) -> LaneId {
        let at = match self.by_key.get(&*key) {
            Some(&at) => at,
            None => self.add(key),
        };
        if let Some(lane) = self.lanes.get_mut(at) {
            lane.queue.push_back(number);
        }
        LaneId(at)
    }

    fn add(&mut self, key: Key) -> usize {
        let key: Arc<[u8]> = key.into();
        let at = match self.free.pop() {
            Some(at) => {
                if let Some(lane) = self.lanes.get_mut(at) {
                    lane.key = Arc::clone(&key);
                }
                at
            }
            None => {
                let queue = VecDeque::with_capacity(1);
                self.lanes.push(Lane { key: Arc::clone(&key), queue, taken: 0, by: None });
                self.lanes.len() - 1
            }
        };
        self.by_key.insert(key, at);
        at
    }

    /// Whether it is the first, with nothing under way.
    pub(super) fn is_head(&self, lane: LaneId, number: Number) -> bool {
        self.get(lane).is_some_and(|l| l.taken == 0 && l.queue.front() == Some(&number))
    }

    /// The first of those not under way, if all before it are under way in this batch.
    pub(super) fn next(&self, lane: LaneId, id: WorkId) -> Option<Number> {
        let lane = self.get(lane).filter(|lane| lane.taken == 0 || lane.by == Some(id))?;
        lane.queue.get(lane.taken).copied()
    }

    /// The next is under way from now on.
    pub(super) fn take(&mut self, lane: LaneId, id: WorkId) {
        if let Some(lane) = self.lanes.get_mut(lane.0) {
            lane.taken += 1;
            lane.by = Some(id);
        }
    }

    /// Nothing is under way any more.
    pub(super) fn release(&mut self, lane: LaneId) {
        if let Some(lane) = self.lanes.get_mut(lane.0) {
            lane.taken = 0;
            lane.by = None;
        }
    }

    /// It leaves the lane, wherever in it it is; the new head comes back.
    pub(super) fn remove(&mut self, id: LaneId, number: Number) -> Option<Number> {
        let lane = self.lanes.get_mut(id.0)?;
        if lane.queue.front() == Some(&number) {
            lane.queue.pop_front();
        } else {
            lane.queue.retain(|other| *other != number);
        }
        let head = lane.queue.front().copied();
        if head.is_none() {
            self.by_key.remove(&lane.key);
            self.free.push(id.0);
        }
        head
    }

    fn get(&self, lane: LaneId) -> Option<&Lane> {
        self.lanes.get(lane.0)
    }
}
