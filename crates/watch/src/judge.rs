//! The pure heart: what every node was seen to say, and what is remembered → one [`Topology`].
//!
//! No I/O, no clock, no randomness. The edge feeds sightings with their moments and asks for a verdict; the same
//! sequence of inputs gives the same topologies, so a bug report can be replayed as a list.
//!
//! The decision core is *witnessed promotion + unanimous mutual attestation*: a node is the primary when its standbys
//! and it name each other, or when it was seen to be promoted while following the last primary and lost nothing that
//! was acknowledged. An old primary is fenced until it has been seen in recovery. Everything else is held.

mod attest;
mod decide;
mod lag;
mod memory;
mod rules;
mod view;

#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use herdsman_node::{NodeName, SystemId};

use self::attest::{Addresses, Live, Stance};
use self::decide::{Decision, Scene};
use self::lag::Track;
pub(crate) use self::memory::Memory;
use self::rules::Rules;
use self::view::Look;
use crate::Moment;
use crate::config::WatchConfig;
use crate::evidence::{Evidence, Sighting};
use crate::topology::{Heartbeat, Proof, Topology, Verdict, Why};

/// The verdict of a mesh, in words.
const MESH: &str = "the members take writes each on their own, and none of them is the primary";

/// Turns sightings into topologies.
#[derive(Debug)]
pub(crate) struct Judge {
    config: WatchConfig,
    rules: Rules,
    pin_until: Option<Moment>,
    nodes: BTreeMap<NodeName, NodeState>,
    memory: Memory,
    authority: Option<(Moment, NodeName)>,
    detached: BTreeMap<NodeName, Moment>,
    track: Track,
    /// Whose lag alarm was on at the last look.
    late: BTreeSet<NodeName>,
    version: u64,
}

/// What is known of one node beside its evidence.
#[derive(Clone, Debug, Default)]
struct NodeState {
    /// As configured, then as its host name resolved last.
    addresses: Vec<String>,
    configured_addresses: usize,
    evidence: Option<(Moment, Arc<Evidence>)>,
    error: Option<String>,
    tried: bool,
    up: bool,
    misses: u32,
    streak: u32,
    changes: VecDeque<Moment>,
    damped_until: Option<Moment>,
    /// Why it accepts no new connections, although it answers on the one that is held.
    shut: Option<String>,
    heartbeat: Heartbeat,
    /// How long it takes to answer, in seconds, smoothed.
    latency: Option<f64>,
}

impl Judge {
    /// A judge over these nodes, each with the addresses (`host:port`) others reach it under.
    ///
    /// `pin_until` is the configured pin's end on the watcher's clock.
    pub(crate) fn new(
        config: WatchConfig,
        nodes: BTreeMap<NodeName, Vec<String>>,
        memory: Memory,
        pin_until: Option<Moment>,
    ) -> Self {
        let nodes = nodes
            .into_iter()
            .map(|(name, addresses)| (name, NodeState::default().reached_under(addresses)))
            .collect();
        let memory = memory.of_cluster(config.system_id);
        Self {
            config,
            rules: Rules::ALL,
            pin_until,
            nodes,
            memory,
            authority: None,
            detached: BTreeMap::new(),
            track: Track::default(),
            late: BTreeSet::new(),
            version: 0,
        }
    }

    /// What is remembered, for the state file.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Continues with another configuration; evidence, memory and version are kept.
    pub(crate) fn reconfigure(
        &mut self,
        config: WatchConfig,
        nodes: BTreeMap<NodeName, Vec<String>>,
        pin_until: Option<Moment>,
    ) {
        let mut old = std::mem::take(&mut self.nodes);
        self.nodes = nodes
            .into_iter()
            .map(|(name, addresses)| {
                let state = old.remove(&name).unwrap_or_default();
                (name, state.reached_under(addresses))
            })
            .collect();
        (self.config, self.pin_until) = (config, pin_until);
        self.memory = std::mem::take(&mut self.memory).of_cluster(self.config.system_id);
        self.memory.claims.retain(|name, _| self.nodes.contains_key(name));
    }

    /// Learns the addresses a node's host name stands for now, in place of those it stood for before.
    pub(crate) fn hear_addresses(&mut self, node: &NodeName, resolved: Vec<String>) {
        let Some(state) = self.nodes.get_mut(node).filter(|_| !resolved.is_empty()) else { return };
        state.addresses.truncate(state.configured_addresses);
        state.addresses.extend(resolved);
    }

    /// Takes in one look at one node.
    pub(crate) fn observe(&mut self, at: Moment, node: &NodeName, sighting: Sighting) {
        let (config, rules) = (&self.config, self.rules);
        let Some(state) = self.nodes.get_mut(node) else { return };
        state.tried = true;
        let up = match sighting {
            Sighting::Seen(evidence) => {
                let ours = config.system_id.or(self.memory.system_id);
                if evidence.in_recovery && ours.is_none_or(|id| id == evidence.system_id) {
                    self.memory.fences.remove(node);
                    self.memory.standbys.insert(node.clone());
                    if let Some(incumbent) = &mut self.memory.incumbent {
                        incumbent.stepped_down |= incumbent.node == *node;
                    }
                }
                state.evidence = Some((at, Arc::new(*evidence)));
                state.error = None;
                state.misses = 0;
                state.streak = state.streak.saturating_add(1);
                true
            }
            Sighting::Missed(error) => {
                state.error = Some(error);
                state.misses = state.misses.saturating_add(1);
                let up = state.up && (state.misses < config.unhealthy_checks || !rules.lease);
                state.streak = if up { state.streak } else { 0 };
                up
            }
            Sighting::Gone(error) => {
                if let Some(claim) = self.memory.claims.get_mut(node) {
                    claim.gone = true;
                }
                state.error = Some(error);
                state.latency = None;
                state.misses = state.misses.saturating_add(1);
                state.streak = 0;
                !rules.lease && state.up
            }
        };
        if up != state.up {
            state.up = up;
            state.note_change(at, config);
        }
    }

    /// Whether this evidence says nothing new, so that judging can wait a little.
    pub(crate) fn expects(&self, node: &NodeName, evidence: &Evidence) -> bool {
        let Some(state) = self.nodes.get(node).filter(|s| s.up) else { return false };
        let follows = |e: &Evidence| {
            e.receiver.as_ref().map(|r| (r.streaming, r.host.clone(), r.port, r.timeline))
        };
        state.evidence.as_ref().is_some_and(|(_, old)| {
            old.in_recovery == evidence.in_recovery
                && old.timeline == evidence.timeline
                && old.system_id == evidence.system_id
                && old.read_only == evidence.read_only
                && old.senders.len() == evidence.senders.len()
                && follows(old) == follows(evidence)
        })
    }

    /// Takes in whether a node accepts new connections, beside the one that is held: `None` when it does, else why
    /// not. Tells whether that changed.
    pub(crate) fn hear_door(&mut self, at: Moment, node: &NodeName, shut: Option<String>) -> bool {
        let config = &self.config;
        let Some(state) = self.nodes.get_mut(node) else { return false };
        let changed = state.shut.is_some() != shut.is_some();
        state.shut = shut;
        if changed {
            state.note_change(at, config);
        }
        changed
    }

    /// Takes in how long a node took to answer a probe. One slow answer is a quarter of what is told.
    pub(crate) fn hear_latency(&mut self, node: &NodeName, took: Duration) {
        const SHARE: f64 = 0.25;
        let took = took.as_secs_f64();
        if let Some(state) = self.nodes.get_mut(node) {
            state.latency = Some(state.latency.map_or(took, |old| old + (took - old) * SHARE));
        }
    }

    /// Takes in the outside authority's word; `None` when it does not know.
    pub(crate) fn hear_authority(&mut self, at: Moment, named: Option<NodeName>) {
        self.authority = named.map(|node| (at, node));
    }

    /// Takes in what was read of a node's heartbeat row.
    pub(crate) fn hear_heartbeat(&mut self, node: &NodeName, heartbeat: Heartbeat) {
        if let Some(state) = self.nodes.get_mut(node) {
            state.heartbeat = heartbeat;
        }
    }

    /// The topology as of `now`; each call's version is greater than the last.
    pub(crate) fn judge(&mut self, now: Moment) -> Topology {
        self.version += 1;
        let nodes = std::mem::take(&mut self.nodes);
        let topology = self.judge_nodes(&nodes, now);
        self.nodes = nodes;
        let late = topology.nodes.iter().filter(|(_, view)| view.lag_alarm);
        self.late = late.map(|(name, _)| name.clone()).collect();
        topology
    }

    fn judge_nodes(&mut self, nodes: &BTreeMap<NodeName, NodeState>, now: Moment) -> Topology {
        if !self.config.mesh.is_empty() {
            let verdict = Verdict::None { why: Why::Mesh, reason: MESH.to_owned() };
            return self.topology(nodes, now, verdict, &BTreeMap::new(), None);
        }
        let lease = self.lease();
        let answering: Live<'_> =
            nodes.iter().filter_map(|(n, s)| Some((n, &**s.live(now, lease)?))).collect();
        let Some(cluster) = self.cluster(&answering, nodes.len()) else {
            let reason = "nodes of several clusters answer; remove the strangers, or name ours with watch.system_id";
            let verdict = Verdict::None { why: Why::UnknownCluster, reason: reason.to_owned() };
            return self.topology(nodes, now, verdict, &BTreeMap::new(), None);
        };
        let foreign = self.rules.filter_foreign;
        let live: Live<'_> = answering
            .into_iter()
            .filter(|(_, e)| !foreign || cluster.is_none_or(|id| e.system_id == id))
            .collect();
        let addresses: Addresses<'_> =
            nodes.iter().map(|(n, s)| (n, s.addresses.as_slice())).collect();
        let stances = attest::stances(&live, &addresses);
        self.note_detached(&stances, now);
        self.note_claims(&live, now);
        self.note_incumbent(nodes, &live, &stances, now);

        let scene = Scene {
            now,
            config: &self.config,
            rules: self.rules,
            memory: &self.memory,
            live: &live,
            stances: &stances,
            detached: &self.detached,
            configured: nodes.len(),
            all_tried: nodes.values().all(|s| s.tried),
            pin_holds: self.pin_until.is_none_or(|until| now < until),
            authority: self
                .authority
                .as_ref()
                .filter(|(at, _)| now.since(*at) <= self.authority_lease())
                .map(|(_, n)| n),
        };
        let Decision { verdict, fence } = decide::decide(&scene);
        if let Verdict::Primary { node, timeline, proof, .. } = &verdict {
            self.memory.accept(node, *timeline, now);
            self.memory.system_id = self.memory.system_id.or(cluster);
            for name in fence {
                let Some(evidence) = live.get(&name) else { continue };
                // What the operator sends away had a newer timeline too, but stays away.
                if *proof == Proof::Pinned {
                    self.memory.strays.remove(&name);
                } else if evidence.timeline > *timeline {
                    self.memory.strays.insert(name.clone());
                }
                self.memory.fences.insert(name, evidence.timeline);
            }
            self.note_incumbent(nodes, &live, &stances, now);
        }
        self.topology(nodes, now, verdict, &stances, cluster)
    }

    fn topology(
        &self,
        nodes: &BTreeMap<NodeName, NodeState>,
        now: Moment,
        verdict: Verdict,
        stances: &BTreeMap<NodeName, Stance>,
        cluster: Option<SystemId>,
    ) -> Topology {
        let views = Look { judge: self, nodes, now, verdict: &verdict, stances, cluster }.views();
        Topology {
            version: self.version,
            term: self.memory.term,
            system_id: cluster,
            verdict,
            nodes: views,
        }
    }

    /// Which cluster is ours: `None` when several answer and nothing tells; `Some(None)` when nobody answers.
    #[expect(
        clippy::option_option,
        reason = "not knowing which and not knowing any are different answers"
    )]
    fn cluster(&self, answering: &Live<'_>, configured: usize) -> Option<Option<SystemId>> {
        if let Some(id) = self.config.system_id.or(self.memory.system_id) {
            return Some(Some(id));
        }
        let mut counts = BTreeMap::new();
        for evidence in answering.values() {
            *counts.entry(evidence.system_id).or_insert(0_usize) += 1;
        }
        match counts.len() {
            0 => Some(None),
            1 => Some(counts.into_keys().next()),
            _ if !self.rules.filter_foreign => Some(None),
            _ => counts.into_iter().find(|(_, n)| *n > configured / 2).map(|(id, _)| Some(id)),
        }
    }

    fn note_detached(&mut self, stances: &BTreeMap<NodeName, Stance>, now: Moment) {
        self.detached.retain(|name, _| stances.get(name) == Some(&Stance::Detached));
        for (name, stance) in stances {
            if *stance == Stance::Detached {
                self.detached.entry(name.clone()).or_insert(now);
            }
        }
    }

    fn note_claims(&mut self, live: &Live<'_>, now: Moment) {
        for (&name, evidence) in live {
            if evidence.in_recovery {
                self.memory.claims.remove(name);
                continue;
            }
            let Evidence { timeline, lsn, .. } = **evidence;
            let seen = memory::FirstClaim { since: now, timeline, lsn, gone: false };
            let first = self.memory.claims.entry(name.clone()).or_insert(seen);
            if first.timeline != timeline {
                *first = seen;
            }
            first.gone = false;
        }
    }

    /// Remembers how far the incumbent got and who follows it, as long as it answers as what it was accepted as.
    fn note_incumbent(
        &mut self,
        nodes: &BTreeMap<NodeName, NodeState>,
        live: &Live<'_>,
        stances: &BTreeMap<NodeName, Stance>,
        now: Moment,
    ) {
        let lease = self.config.lease();
        let Some(incumbent) = &mut self.memory.incumbent else { return };
        let Some(evidence) = live.get(&incumbent.node) else { return };
        if evidence.in_recovery || evidence.timeline != incumbent.timeline {
            return;
        }
        let seen_at =
            |name: &NodeName| nodes.get(name).and_then(|s| s.evidence.as_ref()).map(|(at, _)| *at);
        let Some(at) = seen_at(&incumbent.node) else { return };
        if at.since(incumbent.seen) > lease || !attest::accounts_for_all(live, stances) {
            incumbent.unaccounted = now;
        }
        incumbent.stepped_down = false;
        incumbent.look(at, evidence.lsn);
        for standby in stances.keys() {
            if attest::root(standby, stances) == Some(&incumbent.node) {
                let at = seen_at(standby).map_or(at, |own| own.min(at));
                // What the incumbent wrote after this look at its standby, the standby may have left without.
                let flushed = incumbent.flushed_by(at);
                let attachment = memory::Attachment { timeline: incumbent.timeline, at, flushed };
                self.memory.attachments.insert(standby.clone(), attachment);
                self.memory.standbys.insert(standby.clone());
            }
        }
        self.track.record(&incumbent.node, incumbent.timeline, at, evidence.lsn);
    }

    fn lease(&self) -> Option<Duration> {
        self.rules.lease.then(|| self.config.lease())
    }

    fn authority_lease(&self) -> std::time::Duration {
        self.config.authority.as_ref().map_or_else(Default::default, |a| a.interval * 2 + a.timeout)
    }
}

impl NodeState {
    fn reached_under(self, addresses: Vec<String>) -> Self {
        Self { configured_addresses: addresses.len(), addresses, ..self }
    }

    /// The evidence, while it counts: the node was up when last looked at, and not too long ago.
    fn live(&self, now: Moment, lease: Option<Duration>) -> Option<&Arc<Evidence>> {
        let (at, evidence) = self.evidence.as_ref().filter(|_| self.up && self.shut.is_none())?;
        lease.is_none_or(|lease| now.since(*at) <= lease).then_some(evidence)
    }

    fn note_change(&mut self, at: Moment, config: &WatchConfig) {
        let damping = &config.damping;
        self.changes.push_back(at);
        while self.changes.front().is_some_and(|then| at.since(*then) > damping.window)
            || self.changes.len() > 128
        {
            self.changes.pop_front();
        }
        let many = usize::try_from(damping.changes).unwrap_or(usize::MAX);
        if many > 0 && self.changes.len() >= many {
            self.damped_until = Some(at + damping.hold);
        }
    }
}
