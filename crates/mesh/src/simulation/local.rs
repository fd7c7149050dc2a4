//! Users' transactions, and what the triggers make of them.

use super::World;
use super::history::{Emptied, Id, Kind, Way};
use super::node::{Change, Gone, Local, Row, TABLES, Truncate, id, spots, table};
use crate::next_time;
use crate::stamp::Stamp;

impl World {
    /// What the node's clock says.
    pub(super) fn clock(&mut self, n: usize) -> i64 {
        self.now += self.rng.i64(1..3);
        let node = &mut self.nodes[n];
        let raw = self.now + node.skew;
        // Some herds have coarse clocks, so that members often write in the same microsecond; a single member does not.
        let coarse = raw - raw % self.coarse;
        node.reading =
            if node.reading.0 == coarse { (coarse, node.reading.1 + 3) } else { (coarse, 0) };
        if self.coarse == 1 { raw } else { coarse + node.reading.1 }
    }

    /// What the stamp trigger gives a version.
    fn stamp(&mut self, n: usize, old: Option<Stamp>) -> Stamp {
        let clock = self.clock(n);
        let floor = if self.rules.floor { self.nodes[n].state.floor } else { 0 };
        let (micros, moved) = next_time(clock, floor, old);
        if self.rules.moving_floor && self.rules.floor {
            self.nodes[n].state.floor = moved;
        }
        Stamp::new(micros, id(n))
    }

    /// A user does something on a node.
    pub(super) fn act(&mut self, n: usize) {
        let open = self.nodes[n].open.len();
        if open == 0 || open < 3 && self.rng.u8(0..3) == 0 {
            let began = self.clock(n);
            let left = if self.rng.bool() { 1 } else { self.rng.u8(1..7) };
            self.nodes[n].open.push(Local { began, left, ..Local::default() });
        }
        let at = self.rng.usize(..self.nodes[n].open.len());
        if let Some((spot, stamp)) = self.nodes[n].open[at].waiting.take() {
            self.finish_insert(n, at, spot, stamp);
        } else if self.nodes[n].open[at].left == 0 {
            let commits = self.rng.u8(0..12) > 0;
            self.end(n, at, commits);
        } else {
            self.nodes[n].open[at].left -= 1;
            self.statement(n, at);
        }
    }

    fn statement(&mut self, n: usize, at: usize) {
        if self.rng.u8(0..150) == 0 {
            let of = self.rng.usize(..TABLES);
            self.truncate(n, at, of);
            return;
        }
        let spot = self.rng.usize(spots(0).start..spots(TABLES - 1).end);
        if self.nodes[n].is_locked(spot, at) {
            return;
        }
        let Some(row) = self.row(n, at, spot) else {
            let stamp = self.stamp(n, None);
            if self.rng.u8(0..8) == 0 {
                self.nodes[n].open[at].waiting = Some((spot, stamp));
            } else {
                self.must_be_above(n, at, spot, stamp);
                self.finish_insert(n, at, spot, stamp);
            }
            return;
        };
        match self.rng.u8(0..10) {
            0..5 => self.update(n, at, spot, row),
            5..7 => self.delete(n, at, spot, row),
            7 => {
                self.delete(n, at, spot, row);
                let stamp = self.stamp(n, None);
                self.must_be_above(n, at, spot, stamp);
                self.finish_insert(n, at, spot, stamp);
            }
            8 => self.move_to_another_key(n, at, spot, row),
            _ => {
                self.update(n, at, spot, row);
                if let Some(row) = self.row(n, at, spot) {
                    self.update(n, at, spot, row);
                }
            }
        }
    }

    /// A row as a transaction sees it.
    fn row(&self, n: usize, at: usize, spot: usize) -> Option<Row> {
        let node = &self.nodes[n];
        node.open[at].row(spot).unwrap_or(node.state.rows[spot])
    }

    /// What is inserted in the place of: nothing, if what is held is hidden from users.
    fn before_insert(&self, n: usize, at: usize, spot: usize) -> Option<Id> {
        let (node, local) = (&self.nodes[n], &self.nodes[n].open[at]);
        let mine = local.last.iter().rev().find(|(of, _)| *of == spot).map(|(_, id)| *id);
        let held = if node.state.evicted[spot].is_some() { None } else { node.state.last[spot] };
        mine.or(held)
    }

    fn value(&mut self, n: usize, at: usize, spot: usize, old: u8) -> u8 {
        let value = if self.rng.u8(0..3) == 0 { self.rng.u8(0..5) } else { old };
        if self.nodes[n].is_taken(spot, value, at) { old } else { value }
    }

    /// What is inserted after a deletion that the member knows must be later, or it would be gone again at once. (It may
    /// wait for a deletion that is under way and be stamped before that; and a clock may have stepped back.)
    fn must_be_above(&mut self, n: usize, at: usize, spot: usize, stamp: Stamp) {
        let mine = self.nodes[n].open[at].changes.iter().filter_map(|change| match change {
            Change::Gone { spot: of, gone } if *of == spot => Some(gone.stamp),
            _ => None,
        });
        let known = self.nodes[n].state.gone[spot].map(|gone| gone.stamp);
        let above = mine.chain(known).all(|gone| gone <= stamp);
        if !above && !self.nodes[n].set_back && self.rules.tombstones {
            self.complain(format!("n{} inserts key {spot} below its tombstone", n + 1));
        }
    }

    fn put(&mut self, n: usize, at: usize, spot: usize, row: Row, seen: Stamp) {
        let local = &mut self.nodes[n].open[at];
        local.changes.push(Change::Row { spot, row, seen });
        local.rows.push((spot, Some(row)));
        local.last.push((spot, row.id));
        self.tally.operations += 1;
    }

    fn finish_insert(&mut self, n: usize, at: usize, spot: usize, stamp: Stamp) {
        if self.nodes[n].is_locked(spot, at) || self.row(n, at, spot).is_some() {
            return;
        }
        let value = self.value(n, at, spot, 0);
        let parent = self.before_insert(n, at, spot);
        let id = self.history.write(stamp, spot, Kind::Insert, n, parent);
        self.put(n, at, spot, Row { id, stamp, value }, Stamp::NONE);
    }

    fn update(&mut self, n: usize, at: usize, spot: usize, old: Row) {
        let stamp = self.stamp(n, Some(old.stamp));
        let value = self.value(n, at, spot, old.value);
        let id = self.history.write(stamp, spot, Kind::Update, n, Some(old.id));
        self.put(n, at, spot, Row { id, stamp, value }, old.stamp);
    }

    fn delete(&mut self, n: usize, at: usize, spot: usize, old: Row) {
        let stamp = self.stamp(n, Some(old.stamp));
        let id = self.history.write(stamp, spot, Kind::Delete, n, Some(old.id));
        let local = &mut self.nodes[n].open[at];
        local.changes.push(Change::Gone { spot, gone: Gone { id, stamp, seen: old.stamp } });
        local.rows.push((spot, None));
        local.last.push((spot, id));
        self.tally.operations += 1;
    }

    fn move_to_another_key(&mut self, n: usize, at: usize, spot: usize, old: Row) {
        let to = self.rng.usize(spots(table(spot)));
        if self.row(n, at, to).is_some() || self.nodes[n].is_locked(to, at) {
            return;
        }
        self.delete(n, at, spot, old);
        let stamp = self.stamp(n, Some(old.stamp));
        let parent = self.before_insert(n, at, to);
        let id = self.history.write(stamp, to, Kind::Insert, n, parent);
        self.put(n, at, to, Row { id, stamp, value: old.value }, Stamp::NONE);
    }

    fn truncate(&mut self, n: usize, at: usize, of: usize) {
        let others = |(other, local): (usize, &Local)| other != at && local.touches(of);
        if self.nodes[n].open.iter().enumerate().any(others) {
            return;
        }
        let rows = spots(of).filter_map(|spot| self.row(n, at, spot));
        let newest = rows.map(|row| row.stamp).max_by_key(|stamp| stamp.micros);
        let stamp = self.stamp(n, newest.filter(|_| self.rules.truncate_above));
        let node = &mut self.nodes[n];
        let knew: Vec<_> = (node.state.progress.iter())
            .map(|progress| progress.and_then(|p| p.heartbeat).unwrap_or(i64::MIN))
            .collect();
        let mut had: Vec<_> =
            node.state.progress.iter().map(|progress| progress.map_or(0, |p| p.at)).collect();
        had[n] = node.log.len();
        let heads = spots(of).map(|spot| {
            let mine = node.open[at].last.iter().rev().find(|(of, _)| *of == spot);
            mine.map_or(node.state.last[spot], |(_, id)| Some(*id))
        });
        let emptied = Emptied {
            stamp,
            table: of,
            author: n,
            heads: heads.collect(),
            had,
            way: Way::default(),
        };
        let truncate = Truncate { id: self.history.emptied.len(), stamp, knew: knew.into() };
        self.history.emptied.push(emptied);
        let local = &mut node.open[at];
        local.changes.push(Change::Truncate { table: of, truncate });
        local.rows.extend(spots(of).map(|spot| (spot, None)));
        local.emptied.push(of);
        self.tally.operations += 1;
        self.tally.truncates += 1;
    }

    /// A transaction ends.
    pub(super) fn end(&mut self, n: usize, at: usize, commits: bool) {
        let local = self.nodes[n].open.swap_remove(at);
        if !commits || local.changes.is_empty() {
            return;
        }
        let (node, rules) = (&mut self.nodes[n], self.rules);
        let mut log = Vec::new();
        let at = Some(node.log.len() + 1);
        for change in local.changes {
            match &change {
                Change::Row { row, .. } => self.history.written[row.id as usize].way.at = at,
                Change::Gone { spot, gone } => {
                    self.history.written[gone.id as usize].way.at = at;
                    let held = node.state.gone[*spot];
                    if held.is_some_and(|held| held.stamp >= gone.stamp) {
                        continue;
                    }
                    if rules.tombstones {
                        node.state.gone[*spot] = Some(*gone);
                    }
                }
                Change::Truncate { table, truncate } => {
                    self.history.emptied[truncate.id].way.at = at;
                    let held = &node.state.truncates[*table];
                    if held.as_ref().is_some_and(|held| held.stamp >= truncate.stamp) {
                        continue;
                    }
                    node.state.truncates[*table] = Some(truncate.clone());
                }
                Change::Heartbeat(_) => {}
            }
            log.push(change);
        }
        for (spot, row) in local.rows {
            if let Some(row) = row {
                let gone = node.state.gone[spot].is_some_and(|gone| gone.stamp > row.stamp);
                let emptied = node.state.truncates[table(spot)].as_ref();
                self.history.written[row.id as usize].buried =
                    gone || emptied.is_some_and(|truncate| truncate.stamp > row.stamp);
            }
            node.state.rows[spot] = row;
        }
        for (spot, id) in local.last {
            node.state.last[spot] = Some(id);
        }
        node.log.push(log);
        // The commit is on disk, and everything before it.
        node.on_disk = None;
        if self.story.is_some() {
            let log = self.nodes[n].log.last().unwrap();
            let text = format!("n{} commits {log:?}", n + 1);
            self.note(&text);
        }
    }

    /// The sign of life: everything this member will still commit has a later stamp.
    pub(super) fn beat(&mut self, n: usize) {
        let clock = self.clock(n);
        let node = &mut self.nodes[n];
        let oldest = node.open.iter().map(|local| local.began).min().unwrap_or(clock).min(clock);
        if oldest > node.beaten {
            node.beaten = oldest;
            node.log.push(vec![Change::Heartbeat(oldest)]);
            node.on_disk = None;
        }
    }

    /// Writes what policies have answered.
    pub(super) fn write_answers(&mut self, n: usize) {
        for (spot, winner, writes) in std::mem::take(&mut self.nodes[n].answers) {
            let free = self.nodes[n].open.iter().all(|local| !local.holds(spot));
            let row = self.nodes[n].state.rows[spot].filter(|row| row.stamp == winner);
            let (Some(row), true) = (row, free) else { continue };
            let began = self.clock(n);
            self.nodes[n].open.push(Local { began, ..Local::default() });
            let at = self.nodes[n].open.len() - 1;
            if writes {
                self.update(n, at, spot, row);
            } else {
                self.delete(n, at, spot, row);
            }
            self.tally.answers += 1;
            self.end(n, at, true);
        }
    }
}
