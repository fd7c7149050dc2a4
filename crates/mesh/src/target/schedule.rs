//! What is applied next, when it has to be on disk, and what may be confirmed. Pure: time and groups come from outside.
//!
//! Groups of one source are applied in the order they came. Complete ones of all sources go into one local transaction
//! together, the source that was served last comes last; a part of a transaction goes alone, and after it nothing but
//! the rest of that transaction. Where that is more than one local transaction takes, there may be several of them at once,
//! each in a lane of its own; they are committed in their order. Local transactions are not waited for until they are on disk; after a while one of them
//! is, and with it all before it. Only then the sources hear of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use herdsman_node::Lsn;

use crate::stamp::NodeId;

/// How long something may be applied without being on disk.
const DURABLE_WITHIN: Duration = Duration::from_millis(100);

/// What the schedule has to know of a group.
pub(super) trait Item {
    /// Rows it changes.
    fn rows(&self) -> u64;
    /// Where its last transaction ends; none where that goes on.
    fn end(&self) -> Option<Lsn>;
}

/// Groups for one local transaction, with their sources.
pub(super) type Lot<G> = Vec<(NodeId, G)>;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<G> {
    /// Apply these, each lot in one local transaction, in this order.
    Apply {
        lots: Vec<Lot<G>>,
        /// Whether they have to be on disk.
        durable: bool,
    },
    /// See to it that what was applied is on disk.
    Flush,
    /// Wait for a group, and no longer than until then.
    Wait { until: Option<Duration> },
}

#[derive(Debug)]
pub(super) struct Schedule<G> {
    /// Rows in one local transaction, if there is more than one group.
    most: u64,
    /// The most local transactions at once.
    lanes: usize,
    sources: BTreeMap<NodeId, Source<G>>,
    /// The source that begins the next round: the first behind the one that began the last.
    after: Option<NodeId>,
    /// Whose transaction is open.
    open: Option<NodeId>,
    /// What is being applied: of each source where it ends.
    under_way: Vec<(NodeId, Option<Lsn>)>,
    /// Since when something is applied and not on disk.
    since: Option<Duration>,
}

#[derive(Debug)]
struct Source<G> {
    waiting: VecDeque<G>,
    applied: Lsn,
    durable: Lsn,
}

impl<G: Item> Schedule<G> {
    pub(super) fn new(most: usize, lanes: usize) -> Self {
        Self {
            most: u64::try_from(most).unwrap_or(u64::MAX),
            lanes,
            sources: BTreeMap::new(),
            after: None,
            open: None,
            under_way: Vec::new(),
            since: None,
        }
    }

    /// A source is there, applied up to here; whether that is on disk is not known.
    pub(super) fn add(&mut self, source: NodeId, applied: Lsn, now: Duration) {
        let state = Source { waiting: VecDeque::new(), applied, durable: Lsn(0) };
        self.sources.insert(source, state);
        self.since.get_or_insert(now);
    }

    /// A source is no more. Whether the session has to be given up, because a transaction of it is open.
    #[must_use]
    pub(super) fn remove(&mut self, source: NodeId) -> bool {
        self.sources.remove(&source);
        self.open == Some(source)
    }

    /// The stream of a source broke within a transaction of which parts came. How many of these wait no more, and whether
    /// the session has to be given up, because some of them are applied.
    #[must_use]
    pub(super) fn broken_within(&mut self, source: NodeId) -> (usize, bool) {
        let mut dropped = 0;
        if let Some(state) = self.sources.get_mut(&source) {
            while state.waiting.pop_back_if(|group| group.end().is_none()).is_some() {
                dropped += 1;
            }
        }
        (dropped, self.open == Some(source))
    }

    /// A group has come.
    pub(super) fn arrived(&mut self, source: NodeId, group: G) {
        if let Some(state) = self.sources.get_mut(&source) {
            state.waiting.push_back(group);
        }
    }

    /// What is to be done now. Each [`Step::Apply`] is answered by [`Schedule::applied`].
    pub(super) fn next(&mut self, now: Duration) -> Step<G> {
        let due = self.since.map(|since| since + DURABLE_WITHIN);
        let is_due = due.is_some_and(|due| due <= now);
        let lots = match self.open {
            Some(source) => self.take_first(source).map(|group| vec![group]).into_iter().collect(),
            None => self.take_lots(),
        };
        if !lots.is_empty() {
            let groups = lots.iter().flatten();
            self.under_way = groups.map(|(source, group)| (*source, group.end())).collect();
            let commits = self.under_way.iter().all(|(_, end)| end.is_some());
            return Step::Apply { lots, durable: is_due && commits };
        }
        match (self.open, is_due) {
            // It is not to be had before the transaction ends.
            (Some(_), _) => Step::Wait { until: None },
            (None, true) => Step::Flush,
            (None, false) => Step::Wait { until: due },
        }
    }

    /// What the last step asked for is done, and whether all that was ever applied is on disk with it.
    pub(super) fn applied(&mut self, durable: bool, now: Duration) {
        if self.under_way.is_empty() && !durable {
            // It is asked for again, and not at once.
            self.since = Some(now);
        }
        let mut committed = true;
        for (source, end) in std::mem::take(&mut self.under_way) {
            committed = end.is_some();
            self.open = end.is_none().then_some(source);
            if let (Some(state), Some(end)) = (self.sources.get_mut(&source), end) {
                state.applied = state.applied.max(end);
            }
        }
        if durable && committed {
            self.since = None;
            for state in self.sources.values_mut() {
                state.durable = state.applied;
            }
        } else if committed {
            self.since.get_or_insert(now);
        }
    }

    /// Up to where each source may forget.
    pub(super) fn confirmed(&self) -> impl Iterator<Item = (NodeId, Lsn)> {
        self.sources.iter().map(|(source, state)| (*source, state.durable))
    }

    /// Whether something is applied and not on disk.
    pub(super) fn is_flush_wanted(&self) -> bool {
        self.since.is_some()
    }

    /// Whether a transaction is open.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether it is this source's.
    pub(super) fn is_open_of(&self, source: NodeId) -> bool {
        self.open == Some(source)
    }

    /// Up to where a source is applied, on disk or not.
    pub(super) fn applied_to(&self, source: NodeId) -> Option<Lsn> {
        self.sources.get(&source).map(|state| state.applied)
    }

    fn take_first(&mut self, source: NodeId) -> Option<(NodeId, G)> {
        self.sources.get_mut(&source)?.waiting.pop_front().map(|group| (source, group))
    }

    /// As much as there are lanes for.
    fn take_lots(&mut self) -> Vec<Lot<G>> {
        let mut lots = Vec::new();
        while lots.len() < self.lanes.max(1) {
            // A part of a transaction is not applied beside anything else.
            let lot = self.take(lots.is_empty());
            let Some((_, last)) = lot.last() else { break };
            let alone = last.end().is_none();
            lots.push(lot);
            if alone {
                break;
            }
        }
        lots
    }

    /// Groups for one local transaction; `parts`: or a part of one.
    fn take(&mut self, parts: bool) -> Lot<G> {
        let order: Vec<NodeId> = {
            let behind = |source: &NodeId| self.after.is_none_or(|after| *source > after);
            let (mut first, second): (Vec<_>, Vec<_>) =
                self.sources.keys().copied().partition(behind);
            first.extend(second);
            first
        };
        let (mut taken, mut rows) = (Vec::new(), 0_u64);
        for source in order {
            let Some(state) = self.sources.get_mut(&source) else { continue };
            while let Some(group) = state.waiting.front() {
                let alone = group.end().is_none();
                let more = rows.saturating_add(group.rows());
                if (!taken.is_empty() && (alone || more > self.most)) || (alone && !parts) {
                    break;
                }
                let Some(group) = state.waiting.pop_front() else { break };
                if taken.is_empty() {
                    self.after = Some(source);
                }
                rows = more;
                taken.push((source, group));
                if alone {
                    return taken;
                }
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests;
