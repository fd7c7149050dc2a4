//! Two lots of changes that are applied at once, each in a lane of its own: neither sees what the other writes, and they are
//! committed in their order, or only the first of them is.

use super::World;
use super::apply::{Group, Snapshot};
use super::node::{Life, Progress, Row, SPOTS, UNIQUE, table};

/// What is applied beside another lot.
pub(super) struct Beside {
    s: usize,
    at: usize,
    to: usize,
    group: Group,
    snapshot: Snapshot,
    rows: [Option<Row>; SPOTS],
}

impl Beside {
    pub(super) fn is_of(&self, s: usize) -> bool {
        self.s == s
    }
}

impl World {
    /// What may be applied beside a lot that brings member `s` to `to`, begun before that is committed.
    pub(super) fn beside(
        &mut self,
        t: usize,
        s: usize,
        to: usize,
        first: &Group,
    ) -> Option<Beside> {
        // As often as not of the same member; it is what comes behind the first.
        if self.lanes.as_mut().is_none_or(|rng| rng.u8(0..3) == 0) {
            return None;
        }
        let rng = self.lanes.as_mut()?;
        let other = if rng.bool() { s } else { rng.usize(..self.nodes.len()) };
        let rows = rng.usize(1..12);
        let at = if other == s { to } else { self.nodes[t].state.progress[other]?.at };
        let to = (at + rows).min(self.nodes[t].received[other]);
        if to <= at || (other == t && !self.rules.self_stream) {
            return None;
        }
        let group = self.group(other, at, to);
        if self.have_something_in_common(first, &group) {
            return None;
        }
        let state = &self.nodes[t].state;
        let (snapshot, rows) = (Snapshot::of(state), state.rows);
        Some(Beside { s: other, at, to, group, snapshot, rows })
    }

    /// Whether two lots may not be applied at once.
    fn have_something_in_common(&self, one: &Group, other: &Group) -> bool {
        let groups = [one, other];
        let keys =
            one.versions.iter().any(|(spot, _)| other.versions.iter().any(|(of, _)| of == spot));
        let truncates = groups.iter().any(|group| !group.truncates.is_empty());
        let unique = |group: &&Group| group.versions.iter().any(|(spot, _)| table(*spot) == UNIQUE);
        (keys && self.rules.lanes_apart)
            || (truncates && self.rules.truncates_alone)
            || groups.iter().any(unique)
    }

    /// Applies it, behind the first lot that was just committed; or whoever applies ends in between.
    pub(super) fn apply_beside(&mut self, t: usize, beside: Beside) {
        let Beside { s, at, to, group, snapshot, rows } = beside;
        let Some(rng) = &mut self.lanes else { return };
        if self.crashes && rng.u8(0..10) == 0 {
            return self.crash(t);
        }
        if self.nodes[t].life == Life::Active && rng.u8(0..4) == 0 {
            self.act(t);
        }
        self.wait_for(t, &group);
        let heartbeat = match self.nodes[t].state.progress[s] {
            Some(progress) if progress.at == at => progress.heartbeat,
            // What comes before it was not applied.
            _ => return,
        };
        // What a user has changed meanwhile is done again, and then seen.
        let disturbed = self.is_disturbed(t, &group, &snapshot, &rows);
        self.note(&format!("n{} applies beside it of n{} {group:?}", t + 1, s + 1));
        self.apply(t, Some(s), &group, (!disturbed).then_some(snapshot));
        let heartbeat = heartbeat.max(group.heartbeat);
        self.nodes[t].state.progress[s] = Some(Progress { at: to, heartbeat });
    }
}
