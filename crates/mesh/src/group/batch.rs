//! Changes of one table, of every key the greatest version.

use std::hash::RandomState;
use std::sync::Arc;

use herdsman_wal::Relation;
use herdsman_wal::decode::Tuple;

use super::keys::Keys;
use super::rows::{Added, Rows};
use super::values::index;
use crate::stamp::Stamp;

/// Changes of one table: of every key its greatest version, a row or a tombstone.
#[derive(Clone, Debug)]
pub struct TableBatch {
    gone: Box<str>,
    rows: Option<Rows>,
    tombstones: Option<Rows>,
    keys: Keys,
    entries: Vec<Entry>,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where its greatest version is.
    tombstone: bool,
    row: u32,
    stamp: Stamp,
    /// The version that came last, greatest or not, and what the first of those that follow each other replaced.
    last: Stamp,
    last_gone: bool,
    seen: Stamp,
}

impl TableBatch {
    pub(super) fn new(gone: Box<str>) -> Self {
        Self { gone, rows: None, tombstones: None, keys: Keys::default(), entries: Vec::new() }
    }

    /// The bare name of the table's tombstones ([`crate::names::gone_name`]): what a table goes by of which nothing has
    /// come but deletions.
    #[must_use]
    pub fn gone(&self) -> &str {
        &self.gone
    }

    /// Versions with rows.
    #[must_use]
    pub fn rows(&self) -> Option<&Rows> {
        self.rows.as_ref().filter(|rows| !rows.is_empty())
    }

    /// Versions without: deletions.
    #[must_use]
    pub fn tombstones(&self) -> Option<&Rows> {
        self.tombstones.as_ref().filter(|rows| !rows.is_empty())
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Makes ready for versions of this relation; `false`: there are some of an older form of it.
    pub(super) fn prepare(
        &mut self,
        relation: &Arc<Relation>,
        tombstone: bool,
        logged: bool,
    ) -> Result<bool, &'static str> {
        let rows = if tombstone { &mut self.tombstones } else { &mut self.rows };
        match rows {
            Some(rows) => {
                Ok(Arc::ptr_eq(rows.relation(), relation) || **rows.relation() == **relation)
            }
            None => {
                *rows = Some(Rows::new(relation, tombstone, logged)?);
                Ok(true)
            }
        }
    }

    /// Takes a version; `logged`: the stamp that it has by its transaction, which all of the batch are of, so that what comes
    /// later is later. What it adds in bytes is returned, with its stamp.
    pub(super) fn push(
        &mut self,
        tombstone: bool,
        new: Tuple<'_>,
        old: Option<Tuple<'_>>,
        hasher: &RandomState,
        logged: Option<Stamp>,
    ) -> Result<Added, &'static str> {
        let rows = if tombstone { &mut self.tombstones } else { &mut self.rows };
        let Some(rows) = rows else { return Err("is not prepared for") };
        let row = rows.next();
        let added = rows.add(new, old, logged)?;
        let (row_versions, tombstones) = (self.rows.as_ref(), self.tombstones.as_ref());
        let side = |tombstone| if tombstone { tombstones } else { row_versions };
        let Some(this) = side(tombstone) else { return Ok(added) };
        let next = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        let known = self.keys.find_or_add(this.hash(row, hasher), next, |entry| {
            self.entries.get(index(entry)).is_some_and(|entry| {
                side(entry.tombstone).is_some_and(|other| other.key(entry.row).eq(this.key(row)))
            })
        });
        let Added { stamp, seen, .. } = added;
        let Some(entry) = known.and_then(|known| self.entries.get_mut(index(known))) else {
            let last_gone = tombstone;
            self.entries.push(Entry { tombstone, row, stamp, last: stamp, last_gone, seen });
            return Ok(added);
        };
        if logged.is_some() {
            let before = *entry;
            (entry.tombstone, entry.row, entry.last_gone) = (tombstone, row, tombstone);
            self.replace(before, tombstone, row);
            return Ok(added);
        }
        // A version of somebody else's that came between is not told here: what replaced that one begins anew.
        if seen != entry.last && !(entry.last_gone && seen == Stamp::NONE) {
            entry.seen = seen;
        }
        (entry.last, entry.last_gone) = (stamp, tombstone);
        // Of one stamp the row is the later.
        let wins = entry.stamp < stamp || (entry.stamp == stamp && (entry.tombstone || !tombstone));
        let (before, chain) = (*entry, entry.seen);
        if wins {
            (entry.tombstone, entry.row, entry.stamp) = (tombstone, row, stamp);
        }
        if wins {
            self.side(before.tombstone, |rows| rows.bury(before.row));
            self.side(tombstone, |rows| rows.set_seen(row, chain));
        } else {
            self.side(tombstone, Rows::take_back);
        }
        Ok(added)
    }

    /// Has the version that was added last take the place of the one before it, of the same transaction.
    fn replace(&mut self, before: Entry, tombstone: bool, row: u32) {
        let held = if before.tombstone { &self.tombstones } else { &self.rows };
        let image = held.as_ref().and_then(|rows| rows.image_of(before.row)).map(<[u8]>::to_vec);
        self.side(before.tombstone, |rows| rows.bury(before.row));
        self.side(tombstone, |rows| rows.continue_chain(row, before.seen, image.as_deref()));
    }

    fn side(&mut self, tombstone: bool, change: impl FnOnce(&mut Rows)) {
        let rows = if tombstone { &mut self.tombstones } else { &mut self.rows };
        rows.as_mut().map(change);
    }
}
