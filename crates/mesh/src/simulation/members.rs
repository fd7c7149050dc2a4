//! What befalls members: they join, crash, are lost and healed, and forget old tombstones.

use std::collections::BTreeMap;

use super::World;
use super::apply::{Arrival, Group};
use super::history::{Id, Way};
use super::node::{Life, Node, Progress, SPOTS, State, id, place};
use crate::resolve::frontier::frontier;
use crate::resolve::{Recent, Version};

impl World {
    pub(super) fn of_life(&self, life: Life) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].life == life).collect()
    }

    /// A new member, known to all: nothing of it is there yet.
    pub(super) fn register(&mut self) {
        let skew = self.skew();
        let mut node = Node::new(skew, self.memory);
        node.life = Life::Joining;
        self.nodes.push(node);
        let members = self.nodes.len();
        for node in &mut self.nodes {
            node.state.progress.resize(members, None);
            if let Some(state) = &mut node.on_disk {
                state.progress.resize(members, None);
                state.progress[members - 1] = Some(Progress { at: 0, heartbeat: None });
            }
            node.received.resize(members, 0);
            node.cut.resize(members, 0);
            node.slots.resize(members, None);
            node.state.progress[members - 1] = Some(Progress { at: 0, heartbeat: None });
        }
        self.note(&format!("n{members} is registered"));
    }

    /// A joining member gets another slot, or, when it has all, the copy.
    pub(super) fn join_on(&mut self, j: usize) {
        let members = self.of_life(Life::Active);
        let missing = members.iter().find(|s| self.nodes[j].slots[**s].is_none());
        if let Some(s) = missing.copied() {
            self.nodes[j].slots[s] = Some(self.nodes[s].log.len());
            return;
        }
        let Some(donor) = self.rng.choice(members.clone()) else { return };
        let slots = self.nodes[j].slots.clone();
        let from = |s: usize| slots[s].unwrap_or(0);
        let behind = |s: &usize| {
            let at = self.nodes[donor].state.progress[*s].map_or(0, |progress| progress.at);
            *s != donor && at < from(*s)
        };
        if self.rules.donor_waits && members.iter().any(behind) {
            return;
        }
        self.copies(donor, j);
        let mut state = self.nodes[donor].state.clone();
        state.records = 0;
        state.floor = state.newest().max(state.floor);
        state.progress = vec![None; self.nodes.len()];
        for s in members {
            state.progress[s] = Some(Progress { at: from(s), heartbeat: None });
            self.nodes[j].received[s] = from(s);
        }
        state.progress[j] = Some(Progress { at: 0, heartbeat: None });
        let node = &mut self.nodes[j];
        (node.state, node.life) = (state, Life::Active);
        self.note(&format!("n{} is copied from n{}", j + 1, donor + 1));
        if self.rules.sweep_copy {
            self.put_in_order(j);
        }
        self.nodes[j].state.records = 0;
        self.tally.joined += 1;
    }

    /// Notes for the checker what comes to a member in a copy.
    fn copies(&mut self, donor: usize, j: usize) {
        let progress = &self.nodes[donor].state.progress;
        let has = |author: usize, way: &Way| {
            let got = progress[author].map_or(0, |progress| progress.at);
            way.at.is_some_and(|at| author == donor || got >= at)
                || way.healed.contains(&donor)
                || way.copied.contains(&donor)
        };
        for version in &mut self.history.written {
            if has(version.author, &version.way) {
                version.way.copied.push(j);
            }
        }
        for emptied in &mut self.history.emptied {
            if has(emptied.author, &emptied.way) {
                emptied.way.copied.push(j);
            }
        }
    }

    /// The server of a member crashes and comes back, or only the process that applies does.
    pub(super) fn crash(&mut self, n: usize) {
        let memory = self.memory;
        let node = &mut self.nodes[n];
        node.recent = Recent::new(memory);
        if self.rng.bool() {
            node.open.clear();
            node.answers.clear();
            if let Some(state) = node.on_disk.take() {
                node.state = *state;
            }
        }
        for (received, progress) in node.received.iter_mut().zip(&node.state.progress) {
            *received = progress.map_or(0, |progress| progress.at);
        }
        self.tally.crashes += 1;
        self.note(&format!("n{} crashes", n + 1));
    }

    /// A member is lost for good. What the others have received of it differs.
    pub(super) fn lose(&mut self, lost: usize) {
        let node = &mut self.nodes[lost];
        node.life = Life::Lost;
        node.open.clear();
        for t in self.of_life(Life::Active) {
            let node = &mut self.nodes[t];
            node.on_disk = None;
            let at = node.state.progress[lost].map_or(0, |progress| progress.at);
            node.received[lost] = self.rng.usize(at..=node.received[lost].max(at));
        }
        self.tally.lost += 1;
        self.note(&format!("n{} is lost", lost + 1));
    }

    /// Spreads what only some have of a lost member, once all have applied what they have.
    pub(super) fn heal(&mut self, lost: usize) {
        let members = self.of_life(Life::Active);
        let waits = |t: &usize| {
            let at = self.nodes[*t].state.progress[lost].map_or(0, |progress| progress.at);
            at < self.nodes[*t].received[lost]
        };
        if members.iter().any(waits) {
            return;
        }
        if self.rules.heals {
            let has: Vec<_> = members.iter().map(|t| self.has_of(*t, lost)).collect();
            for t in &members {
                for (s, group) in members.iter().zip(&has).filter(|(s, _)| *s != t) {
                    self.wait_for(*t, group);
                    self.note(&format!("n{} is healed by n{} {group:?}", t + 1, s + 1));
                    self.apply(*t, None, group, None);
                    self.nodes[*t].on_disk = None;
                }
            }
        }
        self.nodes[lost].life = Life::Forgotten;
        self.note(&format!("n{} is forgotten", lost + 1));
    }

    /// What a member has in its tables that another has written.
    fn has_of(&self, t: usize, author: usize) -> Group {
        let State { rows, evicted, gone, truncates, .. } = &self.nodes[t].state;
        let mut group = Group::default();
        for spot in 0..SPOTS {
            let rows = [rows[spot], evicted[spot]].into_iter().flatten();
            for row in rows.filter(|row| row.stamp.node == id(author)) {
                // What it replaced nobody knows any more.
                let version = Version { stamp: row.stamp, seen: row.stamp, row: Some(row) };
                let arrival = Arrival { version, id: row.id, replaced: None, says: row.stamp };
                group.versions.push((spot, arrival));
            }
            if let Some(gone) = gone[spot].filter(|gone| gone.stamp.node == id(author)) {
                let version = Version { stamp: gone.stamp, seen: gone.seen, row: None };
                let replaced = Some(gone.seen);
                group
                    .versions
                    .push((spot, Arrival { version, id: gone.id, replaced, says: gone.seen }));
            }
        }
        for (table, truncate) in truncates.iter().enumerate() {
            let truncate = truncate.clone();
            let truncate = truncate.filter(|truncate| place(truncate.stamp.node) == author);
            group.truncates.extend(truncate.map(|truncate| (table, truncate)));
        }
        group
    }

    /// A member forgets tombstones that nobody needs.
    pub(super) fn prune(&mut self, n: usize) {
        let counts = |node: &Node| match node.life {
            Life::Active | Life::Lost => true,
            Life::Joining => self.rules.joiners_hold_back,
            Life::Forgotten => false,
        };
        let members: Vec<_> = (0..self.nodes.len()).filter(|n| counts(&self.nodes[*n])).collect();
        let alive = members.iter().filter(|n| self.nodes[**n].life != Life::Lost);
        let mut applied = BTreeMap::new();
        for (t, s) in alive.flat_map(|t| members.iter().map(move |s| (*t, *s))) {
            if let Some(time) = self.nodes[t].state.progress[s].and_then(|p| p.heartbeat) {
                applied.insert((id(t), id(s)), time);
            }
        }
        // A lost member applies nothing any more, and nobody waits for it to.
        for (t, s) in members.iter().flat_map(|t| members.iter().map(move |s| (*t, *s))) {
            if self.nodes[t].life == Life::Lost {
                applied.insert((id(t), id(s)), i64::MAX);
            }
        }
        let ids: Vec<_> = members.iter().map(|n| id(*n)).collect();
        let bound = match self.rules.frontier {
            true => frontier(&ids, &applied, self.margin),
            false => Some(self.clock(n) - 1_000_000),
        };
        let Some(bound) = bound else { return };
        for (gone, latest) in self.nodes[n].state.gone.iter_mut().zip(&mut self.forgotten) {
            if let Some(old) = gone.take_if(|gone| gone.stamp.micros < bound) {
                let later = |id: &Id| self.history.of(*id).stamp > old.stamp;
                *latest = Some(latest.filter(later).unwrap_or(old.id));
                self.tally.pruned += 1;
            }
        }
    }
}
