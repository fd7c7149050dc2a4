//! Groups are applied, as [`crate::apply`] does it in SQL.

use super::World;
use super::history::Id;
use super::node::{Gone, Row, SPOTS, State, TABLES, Truncate, UNIQUE, id, place, spots, table};
use crate::resolve::unique::{Claim, component, settle};
use crate::resolve::{Version, knew, truncated_unseen};
use crate::stamp::Stamp;

/// A version that arrives.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) version: Version<Row>,
    pub(super) id: Id,
    /// What its writer replaced, where that is known; of a tombstone also as the tombstone says it.
    pub(super) replaced: Option<Stamp>,
    pub(super) says: Stamp,
}

/// Changes of one member, taken together.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) versions: Vec<(usize, Arrival)>,
    pub(super) truncates: Vec<(usize, Truncate)>,
    pub(super) heartbeat: Option<i64>,
}

/// What a transaction that began before others ended sees of what they wrote.
pub(super) struct Snapshot {
    pub(super) gone: [Option<Gone>; SPOTS],
    pub(super) truncates: [Option<Truncate>; TABLES],
}

impl Snapshot {
    pub(super) fn of(state: &State) -> Self {
        Self { gone: state.gone, truncates: state.truncates.clone() }
    }
}

impl World {
    /// One group. `from` is `None` where its versions come from tables and not from a log.
    pub(super) fn apply(
        &mut self,
        t: usize,
        from: Option<usize>,
        group: &Group,
        old: Option<Snapshot>,
    ) {
        let own = from == Some(t);
        let newest = group.versions.iter().map(|(_, arrival)| arrival.version.stamp.micros);
        let newest = newest.chain(group.truncates.iter().map(|(_, t)| t.stamp.micros)).max();
        let mut view = old.unwrap_or_else(|| Snapshot::of(&self.nodes[t].state));
        let mut unique = false;
        for (spot, arrival) in &group.versions {
            unique |= table(*spot) == UNIQUE;
            if from.is_none() {
                self.history.written[arrival.id as usize].way.healed.push(t);
            }
            if own && arrival.version.row.is_none() && !self.rules.own_tombstones {
                continue;
            }
            self.sweep(t, *spot, &view);
            if !own {
                self.judge(t, *spot, arrival, &view);
            }
            self.take(t, *spot, arrival, &mut view);
            self.tally.applied += 1;
        }
        for (of, truncate) in &group.truncates {
            unique |= *of == UNIQUE;
            if from.is_none() {
                self.history.emptied[truncate.id].way.healed.push(t);
            }
            spots(*of).for_each(|spot| self.sweep(t, spot, &view));
            if !own {
                self.empty(t, *of, truncate);
            }
        }
        if self.rules.floor {
            let state = &mut self.nodes[t].state;
            state.floor = state.floor.max(newest.unwrap_or(0));
        }
        if unique {
            self.settle(t);
        }
    }

    /// Joins a version with what is held.
    fn take(&mut self, t: usize, spot: usize, arrival: &Arrival, view: &mut Snapshot) {
        let (rules, Arrival { version, id, .. }) = (self.rules, arrival);
        let state = &mut self.nodes[t].state;
        let before = state.rows[spot].or(state.evicted[spot]);
        let held = before.map(|row| row.stamp).max(state.gone[spot].map(|gone| gone.stamp));
        let Some(row) = version.row else {
            let older = state.gone[spot].is_none_or(|gone| gone.stamp < version.stamp);
            if rules.tombstones && (older || !rules.conditional_tombstones) {
                let gone = Gone { id: *id, stamp: version.stamp, seen: arrival.says };
                state.gone[spot] = Some(gone);
                view.gone[spot] = Some(gone);
            }
            let older = |row: &Row| row.stamp < version.stamp;
            state.rows[spot] = state.rows[spot].filter(|row| !older(row));
            state.evicted[spot] = state.evicted[spot].filter(|row| !older(row));
            if held.is_none_or(|held| held < version.stamp) {
                state.last[spot] = Some(*id);
                self.nodes[t].recent.applied(spot, held, version.stamp, version.seen);
            }
            return;
        };
        let gone = view.gone[spot].is_some_and(|gone| gone.stamp > version.stamp);
        let emptied = (view.truncates[table(spot)].as_ref())
            .is_some_and(|truncate| truncate.stamp > version.stamp);
        if rules.check_rows && (gone || emptied) {
            return;
        }
        let greater = before.is_none_or(|before| {
            if rules.ties_by_node {
                before.stamp < version.stamp
            } else {
                before.stamp.micros < version.stamp.micros
            }
        });
        if greater {
            let place = match state.evicted[spot] {
                Some(_) => &mut state.evicted[spot],
                None => &mut state.rows[spot],
            };
            *place = Some(row);
            state.last[spot] = Some(*id);
            self.must_not_be_deleted(t, spot, version.stamp);
        }
        if greater || before.is_some_and(|before| before.stamp == version.stamp) {
            self.nodes[t].recent.applied(spot, held, version.stamp, version.seen);
        }
    }

    /// What had been deleted must not come back where the deletion has been, once some member has forgotten it.
    fn must_not_be_deleted(&mut self, t: usize, spot: usize, stamp: Stamp) {
        let Some(gone) = self.forgotten[spot].map(|id| self.history.of(id)) else { return };
        let got = self.nodes[t].state.progress[gone.author].map_or(0, |progress| progress.at);
        if stamp < gone.stamp && gone.way.at.is_some_and(|at| got >= at) {
            let what = "is back, and its deletion forgotten";
            self.complain(format!("n{}: {stamp:?} of key {spot} {what}", t + 1));
        }
    }

    /// Puts in order what users and this session have left behind by not seeing each other: a visible row below a
    /// tombstone, or above a row that was put away.
    fn sweep(&mut self, t: usize, spot: usize, view: &Snapshot) {
        let state = &mut self.nodes[t].state;
        if let (Some(row), Some(hidden)) = (state.rows[spot], state.evicted[spot]) {
            let (winner, loser) = if row.stamp > hidden.stamp {
                state.evicted[spot] = None;
                (row.id, hidden.id)
            } else {
                state.rows[spot] = None;
                (hidden.id, row.id)
            };
            self.record(t, Some(winner), Some(loser), true, false);
        }
        let state = &mut self.nodes[t].state;
        let Some(row) = state.rows[spot].or(state.evicted[spot]) else { return };
        let visible = state.rows[spot].is_some();
        let gone = view.gone[spot].filter(|gone| gone.stamp > row.stamp);
        let truncate = view.truncates[table(spot)].clone();
        let truncate = truncate.filter(|truncate| truncate.stamp > row.stamp);
        if gone.is_none() && truncate.is_none() {
            return;
        }
        (state.rows[spot], state.evicted[spot]) = (None, None);
        state.last[spot] = gone.map(|gone| gone.id);
        let own = row.stamp.node == id(t) && visible;
        if let Some(gone) = gone {
            let recent = self.nodes[t].recent.replaced(&spot, gone.stamp);
            let replaced = if recent.is_empty() { &[gone.seen] } else { recent };
            if own || knew(gone.stamp, replaced, row.stamp) != Some(true) {
                self.record(t, Some(gone.id), Some(row.id), own, false);
            }
        } else if let Some(truncate) = truncate {
            let known = truncate.knew.get(place(row.stamp.node)).copied();
            if own || truncated_unseen(truncate.stamp, known, row.stamp) {
                self.record(t, None, Some(row.id), own, false);
            } else {
                self.blurred.push(row.id);
            }
        }
    }

    /// Another member's truncation.
    fn empty(&mut self, t: usize, of: usize, truncate: &Truncate) {
        let held = &self.nodes[t].state.truncates[of];
        if held.as_ref().is_some_and(|held| held.stamp >= truncate.stamp) {
            return;
        }
        self.nodes[t].state.truncates[of] = Some(truncate.clone());
        for spot in spots(of) {
            let state = &mut self.nodes[t].state;
            let held = state.rows[spot].or(state.evicted[spot]);
            let Some(row) = held.filter(|row| row.stamp < truncate.stamp) else { continue };
            (state.rows[spot], state.evicted[spot], state.last[spot]) = (None, None, None);
            let known = truncate.knew.get(place(row.stamp.node)).copied();
            if truncated_unseen(truncate.stamp, known, row.stamp) {
                self.record(t, None, Some(row.id), false, false);
            } else {
                self.blurred.push(row.id);
            }
        }
    }

    /// As if every key had arrived.
    pub(super) fn put_in_order(&mut self, t: usize) {
        let view = Snapshot::of(&self.nodes[t].state);
        (0..SPOTS).for_each(|spot| self.sweep(t, spot, &view));
        self.settle(t);
    }

    /// Shows the rows that the greatest versions say.
    fn settle(&mut self, t: usize) {
        let view = Snapshot::of(&self.nodes[t].state);
        for spot in spots(UNIQUE) {
            if self.nodes[t].state.evicted[spot].is_some() {
                self.sweep(t, spot, &view);
            }
        }
        let state = &self.nodes[t].state;
        let claim = |spot: usize, row: &Row| Claim {
            key: spot,
            stamp: row.stamp,
            values: if row.value == 0 { vec![] } else { vec![row.value] },
        };
        let held = |spot: usize| state.rows[spot].or(state.evicted[spot]);
        let hidden = spots(UNIQUE).filter(|spot| state.evicted[*spot].is_some());
        let seeds = hidden.chain(spots(UNIQUE)).filter_map(held).map(|row| row.value);
        let seeds: Vec<_> = seeds.filter(|value| *value != 0).collect();
        let claiming = |value: &u8| -> Vec<Claim<usize, u8>> {
            let rows = spots(UNIQUE).filter_map(|spot| Some((spot, held(spot)?)));
            let rows = rows.filter(|(_, row)| row.value == *value);
            rows.map(|(spot, row)| claim(spot, &row)).collect()
        };
        let moves = settle(&component(seeds, claiming), |spot| state.rows[*spot].is_some());
        // Rows that claim nothing any more are in nobody's way.
        let free = spots(UNIQUE).filter(|spot| state.evicted[*spot].is_some_and(|r| r.value == 0));
        let show: Vec<_> = moves.show.into_iter().chain(free).collect();
        for (spot, by) in moves.hide {
            let state = &mut self.nodes[t].state;
            let (row, by) = (state.rows[spot].take(), state.rows[by].or(state.evicted[by]));
            state.evicted[spot] = row;
            let (loser, winner) = (row.map(|row| row.id), by.map(|row| row.id));
            self.tally.evicted += 1;
            self.record(t, winner, loser, true, true);
        }
        for spot in show.into_iter().filter(|_| self.rules.reevaluate) {
            let state = &mut self.nodes[t].state;
            state.rows[spot] = state.evicted[spot].take();
        }
    }
}
