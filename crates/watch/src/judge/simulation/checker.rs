//! What must hold of every topology, written from what the judge was told and from the truth, not from its code.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use herdsman_node::{NodeName, Role, Timeline};

use super::super::world::{OURS, Power, World};
use crate::Moment;
use crate::config::WatchConfig;
use crate::evidence::{Evidence, Sighting};
use crate::topology::{Topology, Verdict};

/// Something that must never be.
#[derive(Debug)]
pub(super) struct Violation(String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Follows one watcher's life.
pub(super) struct Checker {
    config: WatchConfig,
    sights: BTreeMap<NodeName, Sight>,
    /// Nodes seen as standbys of ours since the watcher knew nothing, and in each recovery they went through.
    recovered: BTreeSet<NodeName>,
    /// Primaries that were left, with their timelines, and have not been in recovery since.
    left: BTreeMap<NodeName, Timeline>,
    named: Option<(NodeName, Timeline)>,
    /// Whether the one last named was seen in recovery since.
    stepped_down: bool,
    version: u64,
    term: u64,
}

/// The last look at a node.
#[derive(Clone, Default)]
struct Sight {
    seen: Option<(Moment, Evidence)>,
    misses: u32,
    gone: bool,
}

impl Checker {
    pub(super) fn new(config: &WatchConfig) -> Self {
        Self {
            config: config.clone(),
            sights: BTreeMap::new(),
            recovered: BTreeSet::new(),
            left: BTreeMap::new(),
            named: None,
            stepped_down: false,
            version: 0,
            term: 0,
        }
    }

    /// The watcher was restarted and remembers; versions begin anew, terms do not.
    pub(super) fn restarted(&mut self) {
        self.version = 0;
        for sight in self.sights.values_mut() {
            sight.gone = true;
        }
    }

    pub(super) fn saw(&mut self, at: Moment, node: &NodeName, sighting: &Sighting) {
        let sight = self.sights.entry(node.clone()).or_default();
        match sighting {
            Sighting::Seen(evidence) => {
                let unseen = |(_, before): &(Moment, Evidence)| {
                    !before.in_recovery
                        && !evidence.in_recovery
                        && before.timeline < evidence.timeline
                };
                if sight.seen.as_ref().is_some_and(unseen) {
                    self.recovered.remove(node);
                }
                *sight = Sight { seen: Some((at, (**evidence).clone())), misses: 0, gone: false };
                if evidence.in_recovery && evidence.system_id == OURS {
                    self.recovered.insert(node.clone());
                    self.left.remove(node);
                    self.stepped_down |= self.named.as_ref().is_some_and(|(n, _)| n == node);
                }
            }
            Sighting::Missed(_) => sight.misses += 1,
            Sighting::Gone(_) => sight.gone = true,
        }
    }

    /// What a node said, if that counts at `now`.
    fn fresh(&self, now: Moment, node: &NodeName) -> Option<&Evidence> {
        let sight = self.sights.get(node)?;
        let (at, evidence) = sight.seen.as_ref()?;
        let late = now.since(*at) > self.config.lease();
        let fails = sight.gone || sight.misses >= self.config.unhealthy_checks;
        (!late && !fails).then_some(evidence)
    }

    pub(super) fn judged(&mut self, now: Moment, topology: &Topology) -> Result<(), Violation> {
        if topology.version <= self.version {
            return broken(format!("version {} after {}", topology.version, self.version));
        }
        if topology.term < self.term {
            return broken(format!("term {} after {}", topology.term, self.term));
        }
        (self.version, self.term) = (topology.version, topology.term);
        self.check_readers(now, topology)?;
        let Verdict::Primary { node, timeline, .. } = &topology.verdict else { return Ok(()) };
        self.check_primary(now, node, *timeline)?;
        self.check_rivals(now, node, *timeline)?;
        let moved = self.named.take().filter(|(left, _)| left != node);
        if let Some((left, timeline)) = moved
            && !self.stepped_down
        {
            self.left.insert(left, timeline);
        }
        if self.left.get(node).is_some_and(|left| timeline <= left) {
            return broken(format!("{node} was left and is primary again without recovery"));
        }
        self.named = Some((node.clone(), *timeline));
        self.stepped_down = false;
        Ok(())
    }

    fn check_primary(
        &self,
        now: Moment,
        node: &NodeName,
        timeline: Timeline,
    ) -> Result<(), Violation> {
        let Some(evidence) = self.fresh(now, node) else {
            return broken(format!("{node} is named on stale evidence"));
        };
        if evidence.in_recovery || evidence.timeline != timeline {
            return broken(format!("{node} is named and said otherwise"));
        }
        if evidence.system_id != OURS {
            return broken(format!("{node} is named and belongs to another cluster"));
        }
        if let Some((_, newest)) = self.named.as_ref().filter(|(_, newest)| timeline < *newest) {
            return broken(format!("timeline {timeline} is named after {newest}"));
        }
        Ok(())
    }

    /// Nobody is named while another node of ours wrote the same timeline, or others follow a newer one.
    fn check_rivals(
        &self,
        now: Moment,
        node: &NodeName,
        timeline: Timeline,
    ) -> Result<(), Violation> {
        for other in self.sights.keys().filter(|other| *other != node) {
            let Some(evidence) = self.fresh(now, other).filter(|e| e.system_id == OURS) else {
                continue;
            };
            let both_known = self.recovered.contains(other)
                && self.recovered.contains(node)
                && !self.left.contains_key(other);
            let writes = !evidence.in_recovery && !evidence.read_only;
            if writes && evidence.timeline == timeline && both_known {
                return broken(format!("{node} is named, and {other} writes the same timeline"));
            }
            let receives = evidence.receiver.as_ref().is_some_and(|r| r.streaming);
            if evidence.in_recovery && receives && evidence.timeline > timeline {
                return broken(format!("{node} is named, and {other} receives a newer timeline"));
            }
        }
        Ok(())
    }

    fn check_readers(&self, now: Moment, topology: &Topology) -> Result<(), Violation> {
        let ours = topology.system_id.is_some_and(|id| id == OURS);
        for (node, view) in &topology.nodes {
            let standby = view.readable && view.role == Role::Standby;
            let sound = self
                .fresh(now, node)
                .is_some_and(|e| e.in_recovery && (e.system_id == OURS || !ours));
            if standby && !sound {
                return broken(format!("{node} is readable and no living standby of ours"));
            }
            let named = topology.primary() == Some(node);
            if view.readable && view.role != Role::Standby && !named {
                return broken(format!("{node} is readable and neither standby nor primary"));
            }
        }
        Ok(())
    }

    /// With everything in sight and fresher than the last change, only the true primary may be named.
    pub(super) fn check_truth(
        &self,
        now: Moment,
        topology: &Topology,
        truth: Option<&NodeName>,
        stirred: Moment,
        world: &World,
    ) -> Result<(), Violation> {
        let (Some(truth), Some(named)) = (truth, topology.primary()) else { return Ok(()) };
        let in_sight = |(node, server): (&NodeName, &super::super::world::Server)| {
            let seen = self.sights.get(node).and_then(|sight| sight.seen.as_ref());
            let after = self.fresh(now, node).and(seen).is_some_and(|(at, _)| *at > stirred);
            server.power == Power::On && !server.hidden && after
        };
        let known = self.recovered.contains(truth) || self.named.is_none();
        if named != truth && known && world.servers.iter().all(in_sight) {
            return broken(format!("{named} is named, and {truth} is the primary in plain sight"));
        }
        Ok(())
    }

    /// A herd in order has its true primary named and its standbys readable.
    pub(super) fn check_order(
        &self,
        topology: &Topology,
        truth: Option<&NodeName>,
        world: &World,
    ) -> Result<(), Violation> {
        if topology.primary() != truth {
            let verdict = &topology.verdict;
            return broken(format!("{truth:?} is the primary of a herd in order, and {verdict}"));
        }
        for (node, server) in &world.servers {
            let view = &topology.nodes[node];
            if server.in_recovery && !view.readable {
                return broken(format!(
                    "{node} is a sound standby and not read: {:?}",
                    view.reasons
                ));
            }
        }
        Ok(())
    }
}

fn broken<T>(what: String) -> Result<T, Violation> {
    Err(Violation(what))
}
