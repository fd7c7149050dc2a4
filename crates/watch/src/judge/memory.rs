//! What the judge remembers between two verdicts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use herdsman_node::{Lsn, NodeName, SystemId, Timeline};
use serde::{Deserialize, Serialize};

use crate::Moment;

/// Looks at the primary that are kept: more than fit between two looks at a standby.
const LOOKS: usize = 32;

/// What outlives a restart of the watcher: enough never to go back to a primary that was left.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// The cluster, once a primary was accepted.
    pub(crate) system_id: Option<SystemId>,
    /// Grows with each change of primary.
    pub(crate) term: u64,
    /// The last primary accepted.
    pub(crate) incumbent: Option<Incumbent>,
    /// Old primaries that must not be used until they have been seen in recovery, with the timeline they wrote.
    pub(crate) fences: BTreeMap<NodeName, Timeline>,
    /// Fenced nodes that were never accepted, but taken for copies: their word counts again once every standby follows.
    #[serde(default)]
    pub(crate) strays: BTreeSet<NodeName>,
    /// Nodes that have been standbys of this cluster while we watched.
    pub(crate) standbys: BTreeSet<NodeName>,
    /// When each standby was last seen following the incumbent. Not kept over a restart: nobody watched meanwhile.
    #[serde(skip)]
    pub(crate) attachments: BTreeMap<NodeName, Attachment>,
    /// What each node that accepts writes, and has not been seen in recovery since, was first seen to claim.
    #[serde(skip)]
    pub(crate) claims: BTreeMap<NodeName, FirstClaim>,
}

/// The last primary accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Incumbent {
    pub(crate) node: NodeName,
    pub(crate) timeline: Timeline,
    /// The furthest position it was seen to have flushed: everything before it may have been acknowledged.
    pub(crate) flushed: Lsn,
    /// When it was last seen writing this timeline.
    #[serde(skip)]
    pub(crate) seen: Moment,
    /// Its last looks, oldest first: when, and how far it had got then.
    #[serde(skip)]
    pub(crate) looks: VecDeque<(Moment, Lsn)>,
    /// Whether it has been seen in recovery since.
    #[serde(default)]
    pub(crate) stepped_down: bool,
    /// When a node that we had not seen in recovery could last have been following it.
    #[serde(skip)]
    pub(crate) unaccounted: Moment,
}

/// A standby seen following the incumbent, both sides saying so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Attachment {
    pub(crate) timeline: Timeline,
    pub(crate) at: Moment,
    /// How far the incumbent had got then.
    pub(crate) flushed: Lsn,
}

/// A claim as it was when first seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FirstClaim {
    pub(crate) since: Moment,
    pub(crate) timeline: Timeline,
    pub(crate) lsn: Lsn,
    /// Whether it is certain that the node does not run now.
    pub(crate) gone: bool,
}

impl Incumbent {
    /// Takes in one more look at it.
    pub(crate) fn look(&mut self, at: Moment, flushed: Lsn) {
        self.flushed = self.flushed.max(flushed);
        self.seen = self.seen.max(at);
        if self.looks.back().is_none_or(|(last, _)| *last < at) {
            self.looks.push_back((at, self.flushed));
        }
        if self.looks.len() > LOOKS {
            self.looks.pop_front();
        }
    }

    /// How far it was known to have got by `moment`; where that is too long ago, the first later look counts.
    pub(crate) fn flushed_by(&self, moment: Moment) -> Lsn {
        let by_then = self.looks.iter().rev().find(|(at, _)| *at <= moment);
        by_then.or_else(|| self.looks.front()).map_or(self.flushed, |(_, flushed)| *flushed)
    }
}

impl Memory {
    /// What of it holds for the configured cluster: of another one only the term, which never shrinks.
    pub(crate) fn of_cluster(self, configured: Option<SystemId>) -> Self {
        let same = configured.is_none() || self.system_id.is_none() || configured == self.system_id;
        if same { self } else { Self { term: self.term, ..Self::default() } }
    }

    /// Whether it differs from what was last saved in more than the position of a primary at work.
    pub(crate) fn is_worth_saving_over(&self, saved: &Self) -> bool {
        let who = |memory: &Self| memory.incumbent.as_ref().map(|i| (i.node.clone(), i.timeline));
        self.term != saved.term
            || self.system_id != saved.system_id
            || self.fences != saved.fences
            || self.standbys != saved.standbys
            || who(self) != who(saved)
    }

    /// Takes `node` as the primary and fences whoever it takes over from.
    ///
    /// An outgoing primary that has been seen in recovery needs no fence.
    pub(crate) fn accept(&mut self, node: &NodeName, timeline: Timeline, now: Moment) {
        let same =
            self.incumbent.as_ref().is_some_and(|i| i.node == *node && i.timeline == timeline);
        if same {
            return;
        }
        let old = self.incumbent.take().filter(|old| old.node != *node && !old.stepped_down);
        if let Some(old) = old {
            self.strays.remove(&old.node);
            self.fences.insert(old.node, old.timeline);
        }
        self.fences.remove(node);
        self.attachments.clear();
        self.term += 1;
        self.incumbent = Some(Incumbent {
            node: node.clone(),
            timeline,
            flushed: Lsn::default(),
            seen: Moment::default(),
            looks: VecDeque::new(),
            stepped_down: false,
            unaccounted: now,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_owes_what_the_primary_had_when_it_was_last_seen_following() {
        let mut memory = Memory::default();
        memory.accept(&NodeName::new("n1").unwrap(), Timeline(1), Moment::default());
        let incumbent = memory.incumbent.as_mut().unwrap();
        assert_eq!(incumbent.flushed_by(Moment::from_millis(5)), Lsn(0));
        for look in 1..=100 {
            incumbent.look(Moment::from_millis(look * 10), Lsn(look * 100));
        }
        let by =
            |millis| memory.incumbent.as_ref().unwrap().flushed_by(Moment::from_millis(millis));
        assert_eq!(by(1000), Lsn(10_000));
        assert_eq!(by(999), Lsn(9_900), "what came later is not owed");
        assert_eq!(by(5000), Lsn(10_000));
        assert_eq!(by(10), Lsn(6_900), "too long ago to tell: the oldest look that is kept");
    }
}
