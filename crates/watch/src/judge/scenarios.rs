//! Tables of cases: what happens to a herd, and what the judge makes of it.

mod attestation;
mod claims;
mod controls;
mod mesh;
mod overrules;
mod reads;
mod remembering;

use std::collections::BTreeMap;
use std::time::Duration;

use herdsman_node::NodeName;

use super::world::{Power, World, name};
use super::{Judge, Memory, Rules};
use crate::Moment;
use crate::config::WatchConfig;
use crate::evidence::Sighting;
use crate::topology::{NodeView, Topology, Verdict};

/// A herd being watched: things happen to `world`, [`Herd::look`] probes every node and judges.
struct Herd {
    world: World,
    judge: Judge,
    config: WatchConfig,
    now: Moment,
    topology: Topology,
    size: usize,
    /// The node the next builder call is about.
    cursor: String,
}

/// A long look back: the watcher has been running for an hour.
const START: Moment = Moment::from_millis(3_600_000);

impl Herd {
    /// Nodes `n1` to `n<size>`, all switched off.
    fn new(size: usize) -> Self {
        Self::with(size, |_| {})
    }

    fn with(size: usize, set: impl FnOnce(&mut WatchConfig)) -> Self {
        let mut config = WatchConfig::default();
        set(&mut config);
        let judge = Judge::new(config.clone(), nodes(size), Memory::default(), None);
        let mut world = World::default();
        for node in nodes(size).into_keys() {
            let server = super::world::Server {
                power: Power::Off,
                ..super::world::Server::new(node.as_str())
            };
            world.servers.insert(node, server);
        }
        let (now, topology, cursor) = (START, Topology::default(), String::new());
        Self { world, judge, config, now, topology, size, cursor }
    }

    /// `n1` is primary and the rest its standbys, and this has been watched for a while.
    fn healthy(size: usize) -> Self {
        Self::healthy_with(size, |_| {})
    }

    fn healthy_with(size: usize, set: impl FnOnce(&mut WatchConfig)) -> Self {
        let mut herd = Self::with(size, set).primary("n1");
        for i in 2..=size {
            herd = herd.standby(&format!("n{i}")).of("n1");
        }
        herd.pass(60);
        herd
    }

    fn primary(mut self, node: &str) -> Self {
        self.world.get_mut(node).power = Power::On;
        self
    }

    fn standby(mut self, node: &str) -> Self {
        self.world.get_mut(node).power = Power::On;
        node.clone_into(&mut self.cursor);
        self
    }

    fn of(mut self, upstream: &str) -> Self {
        let node = self.cursor.clone();
        self.world.rebuild(&node, upstream);
        self
    }

    /// Without this rule.
    fn without(mut self, switch: fn(&mut Rules)) -> Self {
        switch(&mut self.judge.rules);
        self
    }

    fn promote(&mut self, node: &str) -> &mut Self {
        self.world.flow();
        self.world.promote(node);
        self
    }

    fn repoint(&mut self, node: &str, upstream: &str) -> &mut Self {
        self.world.repoint(node, upstream);
        self
    }

    fn rebuild(&mut self, node: &str, upstream: &str) -> &mut Self {
        self.world.rebuild(node, upstream);
        self
    }

    fn write(&mut self, node: &str, bytes: u64) -> &mut Self {
        self.world.write(node, bytes);
        self.world.flow();
        self
    }

    fn power(&mut self, node: &str, power: Power) -> &mut Self {
        self.world.get_mut(node).power = power;
        self
    }

    fn kill(&mut self, node: &str) -> &mut Self {
        self.power(node, Power::Off)
    }

    fn start(&mut self, node: &str) -> &mut Self {
        self.power(node, Power::On)
    }

    /// Cuts a node off from the watcher, or joins it again.
    fn hide(&mut self, node: &str, hidden: bool) -> &mut Self {
        self.world.get_mut(node).hidden = hidden;
        self
    }

    /// Probes every node once and judges.
    fn look(&mut self) -> &mut Self {
        self.now = self.now + Duration::from_millis(500);
        self.world.flow();
        for node in nodes(self.size).into_keys() {
            let sighting = self.sighting(&node);
            self.judge.observe(self.now, &node, sighting);
        }
        self.topology = self.judge.judge(self.now);
        self
    }

    fn sighting(&self, node: &NodeName) -> Sighting {
        let server = self.world.get(node.as_str());
        match server.power {
            _ if server.hidden => Sighting::Missed("no answer within 1s".to_owned()),
            Power::On => Sighting::Seen(Box::new(self.world.evidence(node.as_str()))),
            Power::Frozen => Sighting::Missed("no answer within 1s".to_owned()),
            Power::Off => Sighting::Gone("connection refused".to_owned()),
        }
    }

    /// Keeps looking for this many seconds.
    fn pass(&mut self, seconds: u32) -> &mut Self {
        for _ in 0..seconds * 2 {
            self.look();
        }
        self
    }

    /// The watcher is replaced by one that knows nothing.
    fn forget(&mut self) -> &mut Self {
        let rules = self.judge.rules;
        self.judge = Judge::new(self.config.clone(), nodes(self.size), Memory::default(), None);
        self.judge.rules = rules;
        self
    }

    /// The watcher is restarted and reads its state file.
    fn restart(&mut self) -> &mut Self {
        let text = serde_json::to_string(self.judge.memory()).unwrap();
        let memory = serde_json::from_str(&text).unwrap();
        self.judge = Judge::new(self.config.clone(), nodes(self.size), memory, None);
        self
    }

    /// Changes the configuration of the running watcher.
    fn reconfigure(&mut self, set: impl FnOnce(&mut WatchConfig)) -> &mut Self {
        set(&mut self.config);
        self.judge.reconfigure(self.config.clone(), nodes(self.size), None);
        self
    }

    fn view(&self, node: &str) -> &NodeView {
        &self.topology.nodes[node]
    }

    /// The verdict in a few words: `n1 Attested`, `split n1 n2`, `none NoQuorum`.
    fn verdict(&self) -> String {
        brief(&self.topology.verdict)
    }

    fn reads(&self) -> String {
        words(self.topology.readers())
    }

    /// Every node's place, for the messages of failed assertions.
    fn picture(&self) -> String {
        let line = |(name, view): (&NodeName, &NodeView)| {
            let NodeView { role, timeline, follows, reasons, .. } = view;
            format!("{name}: {role:?} timeline {timeline:?} follows {follows:?} {reasons:?}\n")
        };
        self.topology.nodes.iter().map(line).collect()
    }

    fn fenced(&self) -> String {
        words(self.topology.nodes.iter().filter(|(_, view)| view.fenced).map(|(name, _)| name))
    }

    /// The verdict now.
    #[track_caller]
    fn is(&mut self, verdict: &str) -> &mut Self {
        let reason = self.topology.verdict.reason();
        assert_eq!(self.verdict(), verdict, "{reason}\n{}", self.picture());
        self
    }

    /// The verdict after one more look at every node.
    #[track_caller]
    fn then(&mut self, verdict: &str) -> &mut Self {
        self.look().is(verdict)
    }

    /// The verdict's first word now and for the next minute: who is named, or that nobody is.
    #[track_caller]
    fn stays(&mut self, verdict: &str) -> &mut Self {
        for _ in 0..120 {
            self.look();
            let brief = self.verdict();
            let reason = self.topology.verdict.reason();
            assert!(brief.starts_with(verdict), "{brief}, not {verdict}: {reason}");
        }
        self
    }

    #[track_caller]
    fn with_reads(&mut self, readers: &str) -> &mut Self {
        assert_eq!(self.reads(), readers, "{}", self.picture());
        self
    }

    #[track_caller]
    fn with_fenced(&mut self, fenced: &str) -> &mut Self {
        assert_eq!(self.fenced(), fenced, "{}", self.picture());
        self
    }
}

fn nodes(size: usize) -> BTreeMap<NodeName, Vec<String>> {
    (1..=size).map(|i| (name(&format!("n{i}")), vec![format!("n{i}:5432")])).collect()
}

fn words<'a>(names: impl Iterator<Item = &'a NodeName>) -> String {
    names.map(NodeName::as_str).collect::<Vec<_>>().join(" ")
}

fn brief(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Primary { node, proof, .. } => format!("{node} {proof:?}"),
        Verdict::SplitBrain { claimants, .. } => format!("split {}", words(claimants.iter())),
        Verdict::None { why, .. } => format!("none {why:?}"),
    }
}

/// What is expected after a story, of a watcher that saw all of it and of one that starts only then.
struct Outcome {
    watched: &'static str,
    fresh: &'static str,
}

/// Tells the story to a healthy herd of this size and checks what is made of it, at once and for a minute after.
#[track_caller]
fn check(size: usize, story: fn(&mut Herd), outcome: &Outcome) {
    let mut herd = Herd::healthy(size);
    story(&mut herd);
    herd.then(outcome.watched).stays(who(outcome.watched));
    herd.forget().then(outcome.fresh).stays(who(outcome.fresh));
}

/// The part of a verdict that lasts: a witnessed promotion is attested a moment later.
fn who(verdict: &str) -> &str {
    match verdict.split_once(' ') {
        Some((first, _)) if !["none", "split"].contains(&first) => first,
        _ => verdict,
    }
}
