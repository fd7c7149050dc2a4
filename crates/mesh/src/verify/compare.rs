//! What differs, and whether it does for good. Pure.
//!
//! Members are looked at one after the other while writes go on, so that what one look shows is not yet a difference.
//! The rule: once every link has passed the positions where the logs stood after a look, every member holds, of every
//! key, at least the greatest version that look has shown. Who does not is behind for good.

use std::collections::{BTreeMap, BTreeSet};

use crate::stamp::Stamp;

/// Parts that a table's keys fall into.
pub const BUCKETS: usize = 1024;

/// A key: its columns as text, in the key's order.
pub type Key = Vec<String>;

/// What a member holds of one part of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Rows.
    pub rows: u64,
    /// The sum of their fingerprints, which does not depend on an order.
    pub hash: i128,
}

/// What a member holds of a table, by part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums(Vec<Sum>);

impl Default for Sums {
    fn default() -> Self {
        Self(vec![Sum::default(); BUCKETS])
    }
}

impl Sums {
    /// Adds what a part of the table's file has of a bucket.
    pub fn add(&mut self, bucket: usize, rows: u64, hash: i128) {
        if let Some(sum) = self.0.get_mut(bucket) {
            sum.rows = sum.rows.saturating_add(rows);
            sum.hash = sum.hash.wrapping_add(hash);
        }
    }

    /// Rows of the whole table.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.0.iter().map(|sum| sum.rows).sum()
    }

    /// Rows of a bucket.
    #[must_use]
    pub fn rows_of(&self, bucket: usize) -> u64 {
        self.0.get(bucket).map_or(0, |sum| sum.rows)
    }
}

/// The buckets that are not the same on all members, in groups of at most about `most` rows of one member.
#[must_use]
pub fn differing(members: &[Sums], most: u64) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut room = 0_u64;
    for bucket in 0..BUCKETS {
        let of = |sums: &Sums| sums.0.get(bucket).copied().unwrap_or_default();
        let first = members.first().map(of);
        if members.iter().all(|sums| Some(of(sums)) == first) {
            continue;
        }
        let rows = members.iter().map(|sums| sums.rows_of(bucket)).max().unwrap_or(0).max(1);
        match groups.last_mut() {
            Some(group) if rows <= room => group.push(bucket),
            _ => {
                groups.push(vec![bucket]);
                room = most;
            }
        }
        room = room.saturating_sub(rows);
    }
    groups
}

/// What a member holds of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Held {
    /// A row.
    Row {
        /// Its version.
        stamp: Stamp,
        /// Its fingerprint.
        hash: i64,
    },
    /// No row: it was deleted.
    Deleted {
        /// When and where.
        stamp: Stamp,
    },
    /// No row: the table was emptied.
    Truncated {
        /// When and where.
        stamp: Stamp,
    },
    /// No row: it waits until another row frees the value of a unique constraint.
    Evicted {
        /// Its version.
        stamp: Stamp,
    },
    /// Nothing.
    #[default]
    Absent,
}

impl Held {
    /// The version, if there is one.
    #[must_use]
    pub const fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::Row { stamp, .. }
            | Self::Deleted { stamp }
            | Self::Truncated { stamp }
            | Self::Evicted { stamp } => Some(*stamp),
            Self::Absent => None,
        }
    }

    /// The row that a client sees, as version and fingerprint.
    #[must_use]
    pub const fn visible(&self) -> Option<(Stamp, i64)> {
        match self {
            Self::Row { stamp, hash } => Some((*stamp, *hash)),
            _ => None,
        }
    }
}

/// What members hold of a key, in the order of the members.
pub type Look = BTreeMap<Key, Vec<Held>>;

/// The keys that are not the same on all members.
#[must_use]
pub fn candidates(members: &[BTreeMap<Key, Held>]) -> Look {
    let keys: BTreeSet<&Key> = members.iter().flat_map(BTreeMap::keys).collect();
    let mut look = Look::new();
    for key in keys {
        let held: Vec<Held> =
            members.iter().map(|rows| rows.get(key).copied().unwrap_or_default()).collect();
        if !same(&held) {
            look.insert(key.clone(), held);
        }
    }
    look
}

/// Whether clients see the same on all members.
#[must_use]
pub fn same(held: &[Held]) -> bool {
    // A fingerprint is of the version, too, where rows hold theirs; else a server may have forgotten it.
    let seen = |one: &Held| one.visible().map(|(_, hash)| hash);
    held.iter().all(|one| Some(seen(one)) == held.first().map(seen))
}

/// What a look says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// All see the same.
    Same,
    /// It can not become the same by itself.
    Differs,
    /// It may become the same.
    Open,
}

/// Judges a key by what is held now, and by the greatest version that everybody must have received before (`None` where
/// nothing is known of that).
#[must_use]
pub fn judge(received: Option<Stamp>, held: &[Held]) -> Judgement {
    if same(held) {
        return Judgement::Same;
    }
    // One version is one row: no transmission makes these the same.
    let rows = held.iter().filter_map(Held::visible);
    let mut hashes = BTreeMap::new();
    for (stamp, hash) in rows {
        if *hashes.entry(stamp).or_insert(hash) != hash {
            return Judgement::Differs;
        }
    }
    let Some(received) = received else { return Judgement::Open };
    let behind = held.iter().any(|one| one.stamp().is_none_or(|stamp| stamp < received));
    // Nobody has anything newer, and still it is not the same: a row here, none there, of the same version.
    let settled = held.iter().all(|one| one.stamp() == Some(received));
    if behind || settled { Judgement::Differs } else { Judgement::Open }
}

/// The greatest version of a key that a look has shown.
#[must_use]
pub fn greatest(held: &[Held]) -> Option<Stamp> {
    held.iter().filter_map(Held::stamp).max()
}

/// A key under suspicion.
#[derive(Clone, Debug)]
pub struct Suspect {
    /// What was seen last.
    pub held: Vec<Held>,
    /// How often in a row it was found to differ for good.
    strikes: u8,
}

impl Suspect {
    /// One that the first look has shown.
    #[must_use]
    pub const fn new(held: Vec<Held>) -> Self {
        Self { held, strikes: 0 }
    }

    /// Takes another look, after `passed`: whether everybody has received what the last one showed.
    ///
    /// A difference counts when two looks say so: between two looks a tombstone may have been removed, which was known to
    /// all, so that a single one may take a member for being behind.
    pub fn look(&mut self, passed: bool, held: Vec<Held>) -> Judgement {
        let received = if passed { greatest(&self.held) } else { None };
        let judgement = judge(received, &held);
        self.held = held;
        match judgement {
            Judgement::Same => return Judgement::Same,
            Judgement::Open => self.strikes = 0,
            Judgement::Differs => self.strikes = self.strikes.saturating_add(1),
        }
        if self.strikes >= 2 { Judgement::Differs } else { Judgement::Open }
    }
}

#[cfg(test)]
mod tests;
