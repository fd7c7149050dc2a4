//! What must be true when nothing is under way any more.

use super::World;
use super::history::{Emptied, Id, Kind, Way, Written};
use super::node::{Life, Row, SPOTS, UNIQUE, spots, table};
use crate::resolve::unique::{Claim, visible};
use crate::stamp::Stamp;

impl World {
    /// Whether somebody still knows something, or what has taken its place: its writer, or whoever it has come to.
    fn is_known(&self, author: usize, way: &Way) -> bool {
        let copied = || way.copied.iter().any(|n| self.nodes[*n].is_alive());
        way.at.is_some() && (copied() || self.has_come(author, way))
    }

    /// Whether its writer is there, or others have met it, who judge what becomes of it.
    fn has_come(&self, author: usize, way: &Way) -> bool {
        let Some(at) = way.at else { return false };
        self.nodes.iter().enumerate().filter(|(_, node)| node.is_alive()).any(|(n, node)| {
            let got = node.state.progress[author].map_or(0, |progress| progress.at);
            // What came in a copy was judged by whom it was copied from.
            let began = node.slots[author].unwrap_or(0);
            n == author || (got >= at && at > began) || way.healed.contains(&n)
        })
    }

    pub(super) fn check(&mut self) {
        let members = self.of_life(Life::Active);
        let finals = self.finals();
        for n in &members {
            self.check_rows(*n, &finals);
        }
        for pair in members.windows(2) {
            let (one, two) = (&self.nodes[pair[0]].state, &self.nodes[pair[1]].state);
            let same = one.rows == two.rows
                && one.evicted == two.evicted
                && one.truncates == two.truncates;
            if !same {
                self.complain(format!("n{} and n{} differ", pair[0] + 1, pair[1] + 1));
            }
        }
        self.check_records(&members, &finals);
    }

    /// The greatest version of each key that anybody knows.
    fn finals(&self) -> Vec<Option<Id>> {
        let mut finals: Vec<Option<Id>> = vec![None; SPOTS];
        for (at, version) in self.history.written.iter().enumerate() {
            let greatest = finals[version.spot].map(|id| self.history.of(id));
            let greater = greatest.is_none_or(|held| {
                let (row, held_row) = (version.kind != Kind::Delete, held.kind != Kind::Delete);
                (held.stamp, held_row) < (version.stamp, row)
            });
            if greater && self.is_known(version.author, &version.way) {
                finals[version.spot] = Some(Id::try_from(at).unwrap());
            }
        }
        finals
    }

    /// The greatest versions are there and nothing else, and of those that claim one value the right ones are visible.
    fn check_rows(&mut self, n: usize, finals: &[Option<Id>]) {
        let state = &self.nodes[n].state;
        let mut wrong = Vec::new();
        for (spot, greatest) in finals.iter().enumerate() {
            let emptied = self.history.emptied.iter();
            let emptied =
                emptied.filter(|e| e.table == table(spot) && self.is_known(e.author, &e.way));
            let emptied = emptied.map(|e| e.stamp).max().unwrap_or(Stamp::NONE);
            let row = greatest.filter(|id| {
                let version = self.history.of(*id);
                version.kind != Kind::Delete && version.stamp >= emptied
            });
            let held = state.rows[spot].or(state.evicted[spot]);
            if held.map(|row| row.id) != row {
                wrong.push(format!("key {spot} is {held:?}, not {row:?}"));
            }
        }
        let rows = spots(UNIQUE)
            .filter_map(|spot| Some((spot, state.rows[spot].or(state.evicted[spot])?)));
        let claim = |(key, row): (usize, Row)| {
            let values = if row.value == 0 { vec![] } else { vec![row.value] };
            Claim { key, stamp: row.stamp, values }
        };
        let (shown, _) = visible(&rows.map(claim).collect::<Vec<_>>());
        let are: Vec<_> = spots(UNIQUE).filter(|spot| state.rows[*spot].is_some()).collect();
        if are != shown.into_iter().collect::<Vec<_>>() {
            wrong.push(format!("the keys {are:?} are visible"));
        }
        for wrong in wrong {
            self.complain(format!("n{}: {wrong}", n + 1));
        }
    }

    /// Every row that is gone was overwritten by a writer that had seen it, or lost on record.
    fn check_records(&mut self, members: &[usize], finals: &[Option<Id>]) {
        let history = &self.history;
        let mut accounted = vec![false; history.written.len()];
        let mut account = |id: Id| accounted[id as usize] = true;
        finals.iter().flatten().for_each(|id| account(*id));
        for n in members {
            let node = &self.nodes[*n];
            for record in &node.records[..node.state.records] {
                record.loser.into_iter().for_each(&mut account);
                let (Some(winner), Some(loser), false) =
                    (record.winner, record.loser, record.unique)
                else {
                    self.tally.truncated += u64::from(!record.unique);
                    continue;
                };
                self.tally.conflicts += 1;
                if history.descends(winner, loser) {
                    self.tally.false_sure += u64::from(record.sure);
                    self.tally.false_unsure += u64::from(!record.sure);
                }
            }
        }
        for emptied in history.emptied.iter().filter(|e| self.is_known(e.author, &e.way)) {
            emptied.heads.iter().flatten().for_each(|id| account(*id));
        }
        self.excuse(&mut accounted);
        let mut missing = Vec::new();
        for (at, version) in history.written.iter().enumerate().rev() {
            // What no member knows any more was lost with its writer.
            let counts = self.has_come(version.author, &version.way);
            // Whether a deletion may lose is asked when it does (`judge`). It may be known from a copy only.
            if version.kind == Kind::Delete && self.is_known(version.author, &version.way) {
                accounted[at] = true;
            }
            if let Some(parent) = version.parent.filter(|_| accounted[at]) {
                accounted[parent as usize] = true;
            }
            if counts && !accounted[at] {
                missing.push(format!(
                    "{at} ({:?} of key {}) is lost and on no record",
                    version.stamp, version.spot
                ));
            }
        }
        for missing in missing {
            self.complain(missing);
        }
    }

    /// What may be lost without a record, as docs/mesh.md says: something of a member that is lost for good, or of one whose
    /// clock was set back. Each of these is as narrow as it can be: some schedule needs it.
    fn excuse(&self, accounted: &mut [bool]) {
        let history = &self.history;
        let lost = |n: usize| !self.nodes[n].is_alive();
        for (n, node) in self.nodes.iter().enumerate().filter(|(n, _)| lost(*n)) {
            // It had recorded its own row as the loser; but its records are lost with it, and nobody else may have met the
            // two. (Of others' rows there must be a record elsewhere.)
            let losers =
                node.records[..node.state.records].iter().filter_map(|record| record.loser);
            for loser in losers.filter(|loser| history.of(*loser).author == n) {
                accounted[loser as usize] = true;
            }
        }
        for (at, version) in history.written.iter().enumerate() {
            // It was below a deletion that its writer's member had: the clock had been set back, or the insertion had
            // waited. To the others it looks like one that was deleted; its writer's own stream would have recorded it, had
            // that member not been lost before.
            accounted[at] |= version.buried && lost(version.author);
        }
        for emptied in history.emptied.iter().filter(|e| lost(e.author)) {
            // Who truncated had met all these. What lost to what among them is on the lost member's records only, if the
            // winner came nowhere else.
            if self.is_known(emptied.author, &emptied.way) {
                self.met_before(emptied).for_each(|at| accounted[at] = true);
            }
        }
        for id in &self.blurred {
            // Who truncated seems to have met it, by its writer's sign of life; but that promises too much when the clock
            // is set back after it.
            accounted[*id as usize] |= self.nodes[history.of(*id).author].set_back;
        }
    }

    /// What had come to a member when it truncated.
    fn met_before<'a>(&'a self, emptied: &'a Emptied) -> impl Iterator<Item = usize> + 'a {
        let had = |version: &Written| {
            let got = emptied.had.get(version.author).copied().unwrap_or(0);
            table(version.spot) == emptied.table && version.way.at.is_some_and(|at| at <= got)
        };
        let written = self.history.written.iter().enumerate();
        written.filter(move |(_, version)| had(version)).map(|(at, _)| at)
    }
}
