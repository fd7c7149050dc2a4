//! What is applied in the one transaction that `mesh ddl` holds, where a row's version is that of its transaction.
//!
//! All of that gets one commit time and origin, and while the transaction is open its rows have none at all. So the versions
//! that came are remembered here: one that is below another of its key is left out, as it would be anywhere. The transaction
//! gets the greatest of them in the end. That is more than most of its rows had where they were written, and does not matter:
//! all tables are locked on all members, so that afterwards all hold the same rows, nothing older is under way, and whatever
//! is written next is later than all of them on every member (each has waited until its clock was past what it applied).

use std::collections::{BTreeSet, HashMap, HashSet};

use super::params::Versions;
use crate::group::{Group, Rows, TableBatch};
use crate::stamp::{NodeId, Stamp};

/// The most keys that are remembered.
const MOST: usize = 1_000_000;

type Key = Box<[Option<Box<[u8]>>]>;

/// What was applied in a held transaction.
#[derive(Debug, Default)]
pub(super) struct Drained {
    /// By the bare names of their tombstones, tables that are locked.
    locked: BTreeSet<Box<str>>,
    /// By table and key the greatest version that came.
    known: HashMap<Box<str>, HashMap<Key, Stamp>>,
    keys: usize,
    /// The greatest of all.
    pub(super) newest: Option<Stamp>,
    /// The earliest transaction whose commit time the server must still know in the end; 0: none.
    pub(super) witness: i64,
    /// Of the group that is being applied, by table, whether they are tombstones, and number, what is left out.
    overtaken: HashMap<(Box<str>, bool), HashSet<u32>>,
}

impl Drained {
    /// Nothing yet; these tables are locked (by the bare names of their tombstones).
    pub(super) fn new(locked: BTreeSet<Box<str>>) -> Self {
        Self { locked, ..Self::default() }
    }

    /// A group is applied now. Why it cannot be in this transaction: it has to be applied without it, and then tried again.
    pub(super) fn begin(&mut self, group: &Group, own: NodeId) -> Result<(), &'static str> {
        self.overtaken.clear();
        if !group.truncates.is_empty() && self.keys > 0 {
            return Err("a TRUNCATE is to be applied behind other changes");
        }
        for batch in &group.tables {
            if !self.locked.contains(batch.gone()) {
                return Err("changes of a table come that is not locked");
            }
            for (tombstones, rows) in [(false, batch.rows()), (true, batch.tombstones())] {
                if let Some(rows) = rows {
                    self.take(batch, rows, tombstones, group.source == own);
                }
            }
        }
        if self.keys > MOST {
            Err("more is to be applied than can be kept in mind")
        } else {
            Ok(())
        }
    }

    fn take(&mut self, batch: &TableBatch, rows: &Rows, tombstones: bool, own: bool) {
        let mut overtaken = HashSet::new();
        for row in Versions::new(rows).numbers().iter().copied() {
            let key: Key = rows.key(row).map(|part| part.map(Into::into)).collect();
            if !self.counts(batch.gone(), key, rows.stamp(row), own) {
                overtaken.insert(row);
            }
        }
        if !overtaken.is_empty() {
            self.overtaken.insert((batch.gone().into(), tombstones), overtaken);
        }
    }

    /// Whether a version counts, which is that of the key from now on. `own`: the member wrote it itself, and holds it with a
    /// version of its own.
    fn counts(&mut self, gone: &str, key: Key, stamp: Stamp, own: bool) -> bool {
        if !self.known.contains_key(gone) {
            self.known.insert(gone.into(), HashMap::new());
        }
        let Some(known) = self.known.get_mut(gone) else { return true };
        // Of one node and one microsecond what comes later in its log is the later.
        if known.get(&key).is_some_and(|known| *known > stamp) {
            return false;
        }
        if !own {
            self.newest = self.newest.max(Some(stamp));
            self.keys += usize::from(known.insert(key, stamp).is_none());
        }
        true
    }

    /// The versions of a batch that are not below another one.
    pub(super) fn count<'r>(&self, gone: &str, tombstones: bool, rows: &'r Rows) -> Versions<'r> {
        let all = Versions::new(rows);
        let place: (Box<str>, bool) = (gone.into(), tombstones);
        match self.overtaken.get(&place) {
            None => all,
            Some(overtaken) => all.split(|row| !overtaken.contains(&row)).0,
        }
    }

    /// The server has to know this transaction's commit time in the end.
    pub(super) fn rely_on(&mut self, witness: i64) {
        if witness != 0 && (self.witness == 0 || witness < self.witness) {
            self.witness = witness;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_something_that_came_before_does_not_count_and_the_greatest_is_the_version_of_all()
     {
        let key = |text: &str| -> Key { [Some(text.as_bytes().into())].into() };
        let at = |micros, node| Stamp::new(micros, NodeId(node));
        let mut drained = Drained::default();
        // Table, key, version, whether it is the member's own, whether it counts.
        let steps = [
            ("t", "a", at(10, 2), false, true),
            ("t", "a", at(5, 3), false, false),
            ("t", "a", at(10, 2), false, true),
            ("t", "b", at(5, 3), false, true),
            ("u", "a", at(5, 3), false, true),
            ("t", "a", at(9, 1), true, false),
            ("t", "b", at(20, 1), true, true),
            // The member's own is looked at where it is held.
            ("t", "b", at(15, 2), false, true),
            ("t", "a", at(10, 3), false, true),
        ];
        for (step, (table, text, stamp, own, counts)) in steps.into_iter().enumerate() {
            assert_eq!(drained.counts(table, key(text), stamp, own), counts, "{step}");
        }
        assert_eq!((drained.newest, drained.keys), (Some(at(15, 2)), 3));
        for (witness, kept) in [(0, 0), (7, 7), (9, 7), (0, 7), (3, 3)] {
            drained.rely_on(witness);
            assert_eq!(drained.witness, kept);
        }
    }
}
