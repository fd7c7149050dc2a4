//! What the writers of rows that were applied lately had seen: a row does not tell, and a change that comes late needs
//! it. Small, and only for what is recorded: which version wins does not depend on it.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::group::Rows;
use crate::stamp::{NodeId, Stamp};

/// By key, as far as it is known, the version that was applied last and what its writer had seen: of all lanes of a member.
#[derive(Debug)]
pub(crate) struct Late {
    needed: bool,
    entries: Mutex<Vec<Entry>>,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    hash: u64,
    stamp: Stamp,
    /// What it replaced, what that replaced, and so on as far as it was seen here.
    replaced: [Stamp; CHAIN],
}

/// Entries: 3 MiB. A change is late by what its link lags behind the others, seconds at most where all is well.
const SIZE: usize = 1 << 15;
/// Versions of one key that are remembered.
const CHAIN: usize = 4;

impl Late {
    /// `needed`: changes come from more than one other member, so that one may overtake another.
    pub(crate) fn new(needed: bool) -> Self {
        let entries = if needed { vec![Entry::default(); SIZE] } else { Vec::new() };
        Self { needed, entries: Mutex::new(entries), hasher: RandomState::new() }
    }

    pub(crate) fn is_needed(&self) -> bool {
        self.needed
    }

    /// These versions were applied.
    pub(crate) fn applied(&self, table: &str, rows: &Rows, numbers: &[u32]) {
        let mut entries = lock(&self.entries);
        let table = self.hasher.hash_one(table);
        for row in numbers {
            let hash = table ^ rows.hash(*row, &self.hasher);
            let (stamp, seen) = (rows.stamp(*row), rows.seen(*row));
            if let Some(entry) = place(hash).and_then(|at| entries.get_mut(at))
                && (entry.hash != hash || entry.stamp < stamp)
            {
                let mut replaced = [Stamp::NONE; CHAIN];
                let goes_on = entry.hash == hash && entry.stamp == seen;
                let before = entry.replaced.into_iter().filter(|_| goes_on);
                for (at, stamp) in replaced.iter_mut().zip(std::iter::once(seen).chain(before)) {
                    *at = stamp;
                }
                *entry = Entry { hash, stamp, replaced };
            }
        }
    }

    /// The stamps of versions known to be held, by writers that knew these versions; [`Stamp::NONE`] for most.
    pub(crate) fn overtaken(
        &self,
        table: &str,
        rows: &Rows,
        tombstones: bool,
        numbers: &[u32],
    ) -> Vec<Stamp> {
        let entries = lock(&self.entries);
        let table = self.hasher.hash_one(table);
        let known = |row: &u32| {
            let hash = table ^ rows.hash(*row, &self.hasher);
            let stamp = rows.stamp(*row);
            let entry = place(hash).and_then(|at| entries.get(at));
            let entry = entry.filter(|entry| entry.hash == hash && entry.stamp > stamp);
            entry.filter(|held| knew(held, stamp, tombstones)).map_or(Stamp::NONE, |e| e.stamp)
        };
        numbers.iter().map(known).collect()
    }
}

/// Nothing in there is half done, whoever panics.
fn lock(entries: &Mutex<Vec<Entry>>) -> MutexGuard<'_, Vec<Entry>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

fn knew(held: &Entry, stamp: Stamp, tombstone: bool) -> bool {
    held.stamp.node == stamp.node
        || held.replaced.iter().any(|of| *of >= stamp && of.node == stamp.node)
        // Who inserts knows that there is nothing.
        || (tombstone && held.replaced.first() == Some(&Stamp::NONE))
}

fn place(hash: u64) -> Option<usize> {
    usize::try_from(hash).ok().map(|hash| hash % SIZE)
}

/// Times and nodes apart.
pub(crate) fn apart(stamps: &[Stamp]) -> (Vec<i64>, Vec<i16>) {
    stamps.iter().map(|Stamp { micros, node: NodeId(node) }| (*micros, *node)).unzip()
}
