//! What may happen to a herd, and how an operator puts it in order.

use herdsman_node::{NodeName, Timeline};

use super::super::Memory;
use super::super::world::{OURS, Power};
use super::Simulation;
use crate::config::SplitBrain;
use crate::evidence::Branch;

impl Simulation {
    /// Lets one random thing happen.
    pub(super) fn stir(&mut self) {
        let names = self.names();
        let node = self.rng.choice(&names).unwrap().clone();
        let other = self.rng.choice(&names).unwrap().clone();
        let (power, is_standby) = {
            let server = self.world.get(node.as_str());
            (server.power, server.in_recovery)
        };
        self.stirred = self.now;
        match self.rng.u8(0..40) {
            0..=9 if is_standby && power == Power::On => self.promote(&node),
            10..=12 => self.kill(&node),
            13..=14 if power == Power::On => self.set_power(&node, Power::Frozen, "freezes"),
            15..=18 if power == Power::Frozen => self.set_power(&node, Power::On, "thaws"),
            13..=18 if power == Power::Off => self.set_power(&node, Power::On, "starts again"),
            19..=22 if is_standby && node != other => {
                self.world.repoint(node.as_str(), other.as_str());
                self.note(&format!("{node} is pointed at {other}"));
            }
            23..=27 => self.rejoin(&node, &other),
            28..=29 => self.hide(&node, true),
            30..=32 => self.hide(&node, false),
            33 => self.spoil(&node),
            34 => {
                let server = self.world.get_mut(node.as_str());
                server.read_only = !server.read_only;
                self.note(&format!("{node} turns read-only on or off"));
            }
            35 => {
                let server = self.world.get_mut(node.as_str());
                server.lagging = !server.lagging;
                self.note(&format!("{node} stops or goes on replaying"));
            }
            36 => self.restart_watcher(),
            37 => {
                let pause = std::time::Duration::from_millis(self.rng.u64(500..40_000));
                self.now = self.now + pause;
                self.note("nobody looked for a while");
            }
            _ => {}
        }
    }

    /// A promotion is true when it loses nothing and no other of the same timeline was true.
    fn promote(&mut self, node: &NodeName) {
        self.world.flow();
        let promoted = self.world.get(node.as_str());
        let orderly = self.truth.as_ref().is_some_and(|truth| {
            let primary = self.world.get(truth.as_str());
            promoted.streaming
                && !promoted.lagging
                && !promoted.read_only
                && promoted.system_id == primary.system_id
                && promoted.timeline == primary.timeline
                && promoted.lsn == primary.lsn
        });
        self.truth = orderly.then(|| node.clone());
        self.world.promote(node.as_str());
        let how = if orderly { "in order" } else { "out of order" };
        self.note(&format!("{node} is promoted, {how}"));
        // An orchestrator moves the other standbys soon, or late, or never.
        for other in self.names() {
            if self.world.get(other.as_str()).in_recovery && self.rng.u8(0..3) == 0 {
                self.world.repoint(other.as_str(), node.as_str());
                self.note(&format!("{other} is pointed at {node}"));
            }
        }
    }

    fn kill(&mut self, node: &NodeName) {
        self.set_power(node, Power::Off, "is killed");
        // The watcher's connection usually breaks at once.
        if self.rng.u8(0..5) > 0 && !self.world.get(node.as_str()).hidden {
            let due = self.now;
            let sighting = crate::evidence::Sighting::Gone("connection closed".to_owned());
            self.flights.insert(node.clone(), super::Flight { taken: due, due, sighting });
        }
    }

    fn set_power(&mut self, node: &NodeName, power: Power, what: &str) {
        self.world.get_mut(node.as_str()).power = power;
        self.note(&format!("{node} {what}"));
    }

    fn hide(&mut self, node: &NodeName, hidden: bool) {
        self.world.get_mut(node.as_str()).hidden = hidden;
        let what = if hidden { "is cut off from the watcher" } else { "is in sight" };
        self.note(&format!("{node} {what}"));
    }

    fn rejoin(&mut self, node: &NodeName, other: &NodeName) {
        let upstream = self.truth.clone().unwrap_or_else(|| other.clone());
        let source = self.world.get(upstream.as_str());
        if *node == upstream || source.power != Power::On || source.system_id != OURS {
            return;
        }
        if self.truth.as_ref() == Some(node) {
            self.truth = None;
        }
        self.world.rebuild(node.as_str(), upstream.as_str());
        self.note(&format!("{node} is rebuilt as a standby of {upstream}"));
    }

    /// Something that does not belong here answers at this node's address.
    fn spoil(&mut self, node: &NodeName) {
        let Some(truth) = self.truth.clone().filter(|truth| truth != node) else { return };
        if self.rng.bool() {
            self.world.replace_by_stranger(node.as_str());
            self.note(&format!("another cluster answers as {node}"));
        } else {
            // In place of a standby it looks like a promotion, and may be taken for one.
            if self.world.get(node.as_str()).in_recovery {
                self.truth = None;
            }
            self.world.restore_copy(node.as_str(), truth.as_str());
            // A copy that is followed would be as good as a promotion.
            for server in self.world.servers.values_mut() {
                server.upstream = server.upstream.take().filter(|upstream| upstream != node);
            }
            self.note(&format!("a restored copy answers as {node}"));
        }
    }

    fn restart_watcher(&mut self) {
        let text = serde_json::to_string(self.judge.memory()).unwrap();
        let memory: Memory = serde_json::from_str(&text).unwrap();
        if self.rng.bool() {
            self.note("the watcher is restarted with its memory");
            self.checker.restarted();
            self.watch_anew(memory);
        } else {
            self.note("the watcher is restarted without memory");
            self.checker = super::Checker::new(&self.config);
            self.watch_anew(Memory::default());
        }
    }

    /// The operator makes one node the primary and most others its standbys; old primaries may be left running.
    pub(super) fn put_in_order(&mut self) {
        self.note("the operator puts the herd in order");
        self.stirred = self.now;
        for server in self.world.servers.values_mut() {
            server.power = Power::On;
            (server.hidden, server.lagging, server.read_only) = (false, false, false);
        }
        // A watcher that was led to a newer timeline, by a copy it could not know for one, does not go back.
        let accepted = self.judge.memory().incumbent.as_ref().map(|incumbent| incumbent.timeline);
        let truth = self.truth.take();
        let truth = truth.filter(|node| Some(self.world.get(node.as_str()).timeline) >= accepted);
        // Where the story has no true primary, everything is rebuilt.
        let mut spare = if truth.is_some() { (self.world.servers.len() - 1) / 2 } else { 0 };
        let truth = truth.unwrap_or_else(|| self.crown());
        let newest = self.world.get(truth.as_str()).timeline;
        let names = self.names();
        for node in names.into_iter().filter(|node| *node != truth) {
            let server = self.world.get(node.as_str());
            let harmless = server.system_id != OURS || server.timeline < newest;
            let claims = !server.in_recovery;
            if claims && harmless && spare > 0 && self.config.split_brain == SplitBrain::Proof {
                spare -= 1;
                self.note(&format!("{node} is left as it is"));
            } else {
                self.world.rebuild(node.as_str(), truth.as_str());
                self.note(&format!("{node} is rebuilt as a standby of {truth}"));
            }
        }
        self.truth = Some(truth);
    }

    fn crown(&mut self) -> NodeName {
        let mut names = self.names();
        names.retain(|node| self.world.get(node.as_str()).system_id == OURS);
        let node = self.rng.choice(&names).unwrap().clone();
        // Beyond every timeline that anybody, or only the watcher, has ever seen.
        let known = self.world.servers.values().map(|s| s.timeline);
        let accepted = self.judge.memory().incumbent.iter().map(|incumbent| incumbent.timeline);
        let newest = known.chain(accepted).map(|timeline| timeline.0).max().unwrap_or(0);
        let timeline = Timeline(newest + 1);
        let server = self.world.get_mut(node.as_str());
        server.branches.push(Branch { parent: server.timeline, at: server.lsn });
        (server.timeline, server.in_recovery, server.upstream) = (timeline, false, None);
        self.note(&format!("{node} is made the primary"));
        node
    }
}
