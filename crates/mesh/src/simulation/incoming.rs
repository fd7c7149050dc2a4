//! What comes to a member: it is put together, and waits for what users do meanwhile.

use super::World;
use super::apply::{Arrival, Group, Snapshot};
use super::node::{Change, Life, Local, Progress, Row, SPOTS, UNIQUE, spots, table};
use crate::resolve::{Verdict, Version, join};

impl World {
    /// Puts transactions of a member's log together.
    pub(super) fn group(&self, s: usize, from: usize, to: usize) -> Group {
        let mut group = Group::default();
        for change in self.nodes[s].log[from..to].iter().flatten() {
            let (spot, next) = match change {
                Change::Row { spot, row, seen } => {
                    let version = Version { stamp: row.stamp, seen: *seen, row: Some(*row) };
                    (*spot, Arrival { version, id: row.id, replaced: None, says: *seen })
                }
                Change::Gone { spot, gone } => {
                    let version = Version { stamp: gone.stamp, seen: gone.seen, row: None };
                    (*spot, Arrival { version, id: gone.id, replaced: None, says: gone.seen })
                }
                Change::Truncate { table, truncate } => {
                    group.truncates.retain(|(of, _)| of != table);
                    group.truncates.push((*table, truncate.clone()));
                    continue;
                }
                Change::Heartbeat(time) => {
                    group.heartbeat = group.heartbeat.max(Some(*time));
                    continue;
                }
            };
            match group.versions.iter_mut().find(|(of, _)| *of == spot) {
                None => group.versions.push((spot, next)),
                Some((_, held)) if join(Some(&held.version), &next.version) == Verdict::Keep => {}
                Some((_, held)) => {
                    let first = held.version.clone();
                    *held = next;
                    if self.rules.runs {
                        held.version = first.then(held.version.clone());
                    }
                }
            }
        }
        for (_, arrival) in &mut group.versions {
            arrival.replaced = Some(arrival.version.seen);
        }
        group
    }

    /// Applies what has come to a member from some others, or from itself, in one transaction.
    pub(super) fn apply_some(&mut self, t: usize, durable: bool) -> bool {
        let waiting = |s: &usize| {
            let progress = self.nodes[t].state.progress[*s];
            progress.is_some_and(|progress| progress.at < self.nodes[t].received[*s])
        };
        let mut sources: Vec<_> = (0..self.nodes.len()).filter(waiting).collect();
        if sources.is_empty() {
            return false;
        }
        self.rng.shuffle(&mut sources);
        sources.truncate(self.rng.usize(1..=3));
        // What comes of a lost member comes once.
        let durable = durable || self.nodes.iter().any(|node| node.life == Life::Lost);
        if !durable && self.crashes && self.nodes[t].on_disk.is_none() {
            self.nodes[t].on_disk = Some(Box::new(self.nodes[t].state.clone()));
        }
        for s in sources {
            self.apply_from(t, s);
        }
        if durable {
            self.nodes[t].on_disk = None;
        }
        true
    }

    fn apply_from(&mut self, t: usize, s: usize) {
        let Some(Progress { at, heartbeat }) = self.nodes[t].state.progress[s] else { return };
        let most = self.nodes[t].received[s];
        let to = (at + self.rng.usize(1..12)).min(most);
        // A transaction that was applied and comes again is skipped; joined again it must do no harm either.
        let again = if self.repeats { self.rng.usize(0..4).min(at) } else { 0 };
        let group = self.group(s, at - again, to);
        if s == t && !self.rules.self_stream {
            self.nodes[t].state.progress[s] =
                Some(Progress { at: to, heartbeat: heartbeat.max(group.heartbeat) });
            return;
        }
        let beside = self.beside(t, s, to, &group);
        let snapshot = self.while_it_runs(t, s, &group);
        if self.nodes[t].state.progress[s].is_none_or(|progress| progress.at != at) {
            return;
        }
        if self.story.is_some() && !(group.versions.is_empty() && group.truncates.is_empty()) {
            let stale = if snapshot.is_some() { ", with an old snapshot" } else { "" };
            self.note(&format!("n{} applies of n{}{stale} {group:?}", t + 1, s + 1));
        }
        let reached = Some(Progress { at: to, heartbeat: heartbeat.max(group.heartbeat) });
        if let (Some(beside), false) = (&beside, self.rules.lanes_in_order)
            && beside.is_of(s)
        {
            // The later lot is noted as done, and the first one not yet.
            self.nodes[t].state.progress[s] = reached;
            if self.crashes && self.lanes.as_mut().is_some_and(|rng| rng.bool()) {
                return self.crash(t);
            }
        }
        self.apply(t, Some(s), &group, snapshot);
        self.nodes[t].state.progress[s] = reached;
        if let Some(beside) = beside {
            self.apply_beside(t, beside);
        }
    }

    /// Users go on while the transaction runs: what it then sees of tombstones and truncations is old. Had a row of its own
    /// been changed meanwhile, it would be tried again.
    fn while_it_runs(&mut self, t: usize, s: usize, group: &Group) -> Option<Snapshot> {
        if !self.rules.one_session && self.rng.bool() {
            // Another session applies another member's changes meanwhile.
            let snapshot = Snapshot::of(&self.nodes[t].state);
            let others = (0..self.nodes.len()).filter(|other| {
                let progress = self.nodes[t].state.progress[*other];
                *other != s && progress.is_some_and(|p| p.at < self.nodes[t].received[*other])
            });
            let others: Vec<_> = others.collect();
            if let Some(other) = self.rng.choice(others).filter(|_| !self.in_other_session) {
                self.in_other_session = true;
                self.apply_from(t, other);
                self.in_other_session = false;
            }
            self.wait_for(t, group);
            return Some(snapshot);
        }
        if self.nodes[t].life != Life::Active || self.rng.u8(0..4) > 0 {
            self.wait_for(t, group);
            return None;
        }
        let (snapshot, rows) = (Snapshot::of(&self.nodes[t].state), self.nodes[t].state.rows);
        for _ in 0..self.rng.u8(1..6) {
            self.act(t);
        }
        self.wait_for(t, group);
        let disturbed = self.is_disturbed(t, group, &snapshot, &rows);
        (!disturbed).then_some(snapshot)
    }

    /// Whether users have changed what a lot writes since it began: then it is tried again.
    pub(super) fn is_disturbed(
        &self,
        t: usize,
        group: &Group,
        snapshot: &Snapshot,
        rows: &[Option<Row>; SPOTS],
    ) -> bool {
        let state = &self.nodes[t].state;
        group.versions.iter().any(|(spot, arrival)| {
            let row = state.rows[*spot];
            (row.is_some() && row != rows[*spot])
                || (arrival.version.row.is_none() && state.gone[*spot] != snapshot.gone[*spot])
        }) || group.truncates.iter().any(|(of, _)| {
            state.truncates[*of] != snapshot.truncates[*of]
                || spots(*of)
                    .any(|spot| state.rows[spot].is_some() && state.rows[spot] != rows[spot])
        })
    }

    /// Rows that users' transactions have changed are waited for; or a deadlock ends those.
    pub(super) fn wait_for(&mut self, t: usize, group: &Group) {
        loop {
            let node = &self.nodes[t];
            let in_the_way = |local: &Local| {
                let of_row = group.versions.iter().any(|(spot, arrival)| {
                    // A tombstone does not meet an insertion that nobody sees yet.
                    let unseen = node.state.rows[*spot].is_none()
                        && node.state.evicted[*spot].is_none()
                        && arrival.version.row.is_none()
                        && !local.emptied.contains(&table(*spot));
                    local.holds(*spot) && !unseen
                });
                let of_table = group.truncates.iter().any(|(of, _)| {
                    let changed =
                        |spot: usize| local.holds(spot) && node.state.rows[spot].is_some();
                    spots(*of).any(changed) || local.emptied.contains(of)
                });
                let unique = group.versions.iter().any(|(spot, _)| table(*spot) == UNIQUE)
                    || group.truncates.iter().any(|(of, _)| *of == UNIQUE);
                of_row || of_table || unique && local.touches(UNIQUE)
            };
            let Some(at) = node.open.iter().position(in_the_way) else { return };
            let commits = self.rng.u8(0..4) > 0;
            self.end(t, at, commits);
        }
    }
}
