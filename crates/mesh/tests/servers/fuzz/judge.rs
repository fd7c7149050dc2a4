//! What became of what was written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use super::ledger::{Ledger, Truncated, Written, rows};
use super::{TABLE, Table};
use crate::proof::{Mesh, Version};

/// What was found after a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    /// Everything that should not be.
    pub(crate) problems: Vec<String>,
    /// Keys that are not the same on every node.
    pub(crate) differing: usize,
    /// Tombstones that are not.
    pub(crate) tombstones: usize,
    /// Acknowledged writes that are gone without having been overwritten or recorded.
    pub(crate) lost: usize,
    pub(crate) transactions: u64,
    pub(crate) failed: u64,
    pub(crate) versions: usize,
    pub(crate) conflicts: usize,
}

impl Findings {
    pub(crate) fn add(&mut self, other: &Self) {
        self.problems.extend(other.problems.iter().cloned());
        self.differing += other.differing;
        self.tombstones += other.tombstones;
        self.lost += other.lost;
        self.transactions += other.transactions;
        self.failed += other.failed;
        self.versions += other.versions;
        self.conflicts += other.conflicts;
    }

    pub(crate) fn figures(&self) -> String {
        let Self { differing, lost, transactions, failed, versions, conflicts, .. } = self;
        format!(
            "{transactions} transactions with {versions} versions ({failed} failed), {conflicts} conflicts recorded, {differing} keys differ, {lost} writes lost"
        )
    }

    fn problem(&mut self, text: String) {
        const ENOUGH: usize = 12;
        if self.problems.len() < ENOUGH {
            self.problems.push(text);
        }
    }
}

/// Holds the nodes against each other and against the books.
pub(crate) async fn judge(mesh: &Mesh, ledger: &Ledger) -> Findings {
    let mut found = Findings {
        transactions: ledger.transactions.load(Ordering::Relaxed),
        failed: ledger.failed.load(Ordering::Relaxed),
        ..Findings::default()
    };
    for table in &TABLE {
        let gone = format!("herdsman_gone.\"public.{}\"", table.name);
        let rows = mesh.differences(table.name, table.shown).await;
        let tombstones = gone_differences(mesh, &gone, table).await;
        found.differing += rows.len();
        found.tombstones += tombstones.len();
        rows.into_iter().chain(tombstones).for_each(|text| found.problem(text));
    }
    let recorded = recorded(mesh, ledger, &mut found).await;
    let acked = ledger.acked.lock().unwrap().clone();
    found.versions = acked.len();
    for (place, table) in TABLE.iter().enumerate() {
        let client = mesh.root(&mesh.nodes()[0]).await;
        let last = rows(&client, table).await;
        let last = last.into_iter().map(|(key, stamp, val)| (key, (stamp, val))).collect();
        let mut truncated = ledger.truncated.lock().unwrap().clone();
        truncated.retain(|truncated| truncated.table == place);
        let books = Books { place, truncated, last, recorded: &recorded };
        books.check(ledger, &acked, &mut found);
    }
    found
}

/// Tombstones by key and stamp: what they replaced is told differently by whoever took several together, and those that
/// a later row or TRUNCATE hides need not be sent.
async fn gone_differences(mesh: &Mesh, gone: &str, table: &Table) -> Vec<String> {
    let Table { name, shown, key, .. } = table;
    let stamps = format!(
        "(SELECT ({shown})::text AS k, _herdsman_stamp, _herdsman_node FROM {gone} AS g
          WHERE ({key}) NOT IN (SELECT {key} FROM {name}) AND NOT EXISTS (
            SELECT FROM herdsman.truncates AS t WHERE t.rel = 'public.{name}'
            AND (t._herdsman_stamp, t._herdsman_node) > (g._herdsman_stamp, g._herdsman_node)))"
    );
    let mut differences = mesh.differences(&stamps, "k").await;
    differences.iter_mut().for_each(|text| text.insert_str(0, "tombstone: "));
    differences
}

/// Every stamp that a conflict record of this run names.
async fn recorded(mesh: &Mesh, ledger: &Ledger, found: &mut Findings) -> BTreeSet<Version> {
    let before = ledger.recorded_before.lock().unwrap().clone();
    let mut all = BTreeSet::new();
    for node in mesh.nodes() {
        let question = "SELECT held_stamp, held_node, arriving_stamp, arriving_node, winner
                        FROM herdsman.conflicts WHERE id > $1";
        let rows = mesh.root(&node).await.query(question, &[&before[&node]]).await.unwrap();
        found.conflicts += rows.len();
        for row in rows {
            let side =
                |at: usize| row.get::<_, Option<i64>>(at).zip(row.get::<_, Option<i16>>(at + 1));
            let (held, arriving) = (side(0), side(2));
            if held.is_some()
                && arriving.is_some()
                && (arriving > held) != (row.get::<_, &str>(4) == "arriving")
            {
                found.problem(format!("{node}: the earlier of {held:?} and {arriving:?} has won"));
            }
            all.extend(held);
            all.extend(arriving);
        }
    }
    all
}

/// One table's.
struct Books<'b> {
    place: usize,
    truncated: Vec<Truncated>,
    last: BTreeMap<String, (Version, String)>,
    recorded: &'b BTreeSet<Version>,
}

impl Books<'_> {
    fn check(&self, ledger: &Ledger, acked: &[Written], found: &mut Findings) {
        let maybe = ledger.maybe.lock().unwrap().clone();
        let mine = |written: &&Written| written.table == self.place;
        let every: Vec<&Written> = acked.iter().chain(&maybe).filter(mine).collect();
        let seen: BTreeSet<(&str, Version)> =
            every.iter().filter_map(|w| Some((w.key.as_str(), w.seen?))).collect();
        let mut by_key: BTreeMap<&str, Vec<&Written>> = BTreeMap::new();
        for &written in &every {
            by_key.entry(&written.key).or_default().push(written);
        }
        let before = ledger.before.lock().unwrap().clone();
        for (key, (stamp, val)) in &self.last {
            let written = every.iter().any(|w| {
                w.key == *key && w.stamp == *stamp && w.val.as_deref() == Some(val.as_str())
            });
            let was_there = before.get(&(self.place, key.clone())) == Some(&(*stamp, val.clone()));
            if !written && !was_there {
                found.problem(format!(
                    "{} {key}: {val} of {stamp:?} was never written",
                    self.name()
                ));
            }
        }
        for written in acked.iter().filter(mine) {
            let same_key = &by_key[written.key.as_str()];
            if let Some(problem) = self.lost(written, same_key, &seen) {
                found.lost += 1;
                found.problem(problem);
            }
        }
    }

    fn name(&self) -> &'static str {
        TABLE[self.place].name
    }

    /// Why an acknowledged write should be there, or in a record, and is not.
    fn lost(
        &self,
        written: &Written,
        same_key: &[&Written],
        seen: &BTreeSet<(&str, Version)>,
    ) -> Option<String> {
        let Written { key, stamp, val, .. } = written;
        let truncated = self.truncated.iter().any(|truncated| truncated.stamp > *stamp);
        let taken = self.truncated.iter().any(|truncated| truncated.takes(*stamp));
        let last = self.last.get(key);
        if last.is_some_and(|(last, _)| last == stamp) && val.is_some() {
            return None;
        }
        let name = self.name();
        // A row that is there although its deletion is later, or not there without one.
        let greatest = same_key.iter().map(|other| (other.stamp, other.val.is_some())).max()?;
        match (last, greatest) {
            (Some((last, _)), (greatest, _))
                if *last < greatest && !truncated && greatest.0 == stamp.0 =>
            {
                return Some(format!(
                    "{name} {key}: {written:?} is the greatest, and there is {last:?}"
                ));
            }
            (None, (greatest, true)) if greatest == *stamp && !truncated => {
                return Some(format!(
                    "{name} {key}: {written:?} is the greatest, and there is nothing"
                ));
            }
            _ => {}
        }
        let is_last_deletion = val.is_none() && greatest.0 == *stamp;
        // A deletion that another deletion or an insertion follows loses nothing, whoever knew what.
        let replaced = val.is_none()
            && same_key.iter().any(|w| w.stamp > *stamp && (w.val.is_none() || w.inserted));
        let known = seen.contains(&(key.as_str(), *stamp));
        // Of a deletion a TRUNCATE takes nothing.
        let taken = taken || truncated && val.is_none();
        if taken || is_last_deletion || replaced || known || self.recorded.contains(stamp) {
            return None;
        }
        let rest: Vec<String> = same_key
            .iter()
            .filter(|w| w.stamp >= *stamp)
            .take(6)
            .map(|w| format!("{:?} seen {:?} {:?}", w.stamp, w.seen, w.val))
            .collect();
        Some(format!(
            "{name} {key}: {written:?} is gone and in no record; later: {rest:?}; there is {last:?}"
        ))
    }
}
