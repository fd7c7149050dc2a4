//! What of a snapshot has been read, for going on after an interruption.

use std::collections::BTreeMap;

use herdsman_node::Lsn;
use serde::{Deserialize, Serialize};

use crate::snapshot::{ChunkId, Cut};

/// How far a snapshot is. Keep it with the rows, updating it for each [`ChunkDone`](crate::snapshot::SnapshotEvent) once
/// the rows before that are durable; hand it to [`Snapshot::start`](crate::snapshot::Snapshot::start) to go on.
///
/// The [module](crate::snapshot) says why going on under another snapshot ends with the right rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotProgress {
    /// Where the stream has to begin, whatever snapshots were taken later. `None` before the first.
    pub consistent_point: Option<Lsn>,
    /// The tables that were begun, by `pg_class.oid` of the table or partition that holds the rows.
    pub tables: BTreeMap<u32, TableProgress>,
}

/// How far one table is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableProgress {
    /// The file its rows were in. In another, they are in other places, and all has to be read again.
    pub filenode: u32,
    /// How it is cut: as it was the first time, whatever it has grown to.
    pub cut: Cut,
    /// Pieces that were read, each with the oldest transaction that had not ended when it was: rows written by that one
    /// or a later one may be other than what was read.
    pub done: BTreeMap<u32, u64>,
}

/// What is to be read of one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of it.
    All,
    /// What this transaction, or one that began later, has written.
    WrittenSince(u64),
}

/// Transactions more than this apart cannot be told before from after by the 32 bits that a row holds; a margin is left
/// for those that end while the piece is read.
const COMPARABLE: u64 = (1 << 31) - (1 << 24);

impl SnapshotProgress {
    /// Notes that a piece is durable. `oldest` is as the event said.
    pub fn record(&mut self, chunk: ChunkId, oldest: u64) {
        if let Some(table) = self.tables.get_mut(&chunk.table) {
            table.done.insert(chunk.number, oldest);
        }
    }

    /// Begins a table, or goes on with it: what is noted of it holds for this file only.
    pub(crate) fn enter(&mut self, table: u32, filenode: u32, cut: Cut) -> &TableProgress {
        let fresh = || TableProgress { filenode, cut, done: BTreeMap::new() };
        let known = self.tables.entry(table).or_insert_with(fresh);
        if known.filenode != filenode {
            *known = fresh();
        }
        known
    }
}

impl TableProgress {
    /// What is to be read of a piece, `oldest` being the oldest transaction that had not ended in the snapshot it will
    /// be read in.
    pub(crate) fn scope(&self, piece: u32, oldest: u64) -> Scope {
        match self.done.get(&piece) {
            Some(&since) if oldest.saturating_sub(since) < COMPARABLE => Scope::WrittenSince(since),
            _ => Scope::All,
        }
    }
}

impl Scope {
    /// The condition for its rows; `None` for all.
    pub(crate) fn condition(self) -> Option<String> {
        let Self::WrittenSince(since) = self else { return None };
        // `age` counts back from the newest transaction in 32 bits. A row that was frozen long ago may seem newer than
        // it is; it is then read once more, which does no harm.
        Some(format!("age(xmin) <= age('{}'::xid)", since & u64::from(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_that_was_read_is_read_again_only_where_it_was_written() {
        let mut progress = SnapshotProgress::default();
        let cut = Cut { pages_each: 10, pieces: 2 };
        progress.enter(7, 100, cut);
        progress.record(ChunkId { table: 7, number: 1 }, (3 << 32) + 5);
        let known = progress.enter(7, 100, Cut { pages_each: 99, pieces: 1 });
        assert_eq!(known.cut, cut, "it is cut as before");
        assert_eq!(known.scope(0, (3 << 32) + 9), Scope::All);
        assert_eq!(known.scope(1, (3 << 32) + 9), Scope::WrittenSince((3 << 32) + 5));
        assert_eq!(known.scope(1, 4 << 32), Scope::All, "too long ago to tell");
        let condition = known.scope(1, (3 << 32) + 9).condition();
        assert_eq!(condition.as_deref(), Some("age(xmin) <= age('5'::xid)"));
    }

    #[test]
    fn a_rewritten_table_begins_anew() {
        let mut progress = SnapshotProgress::default();
        let cut = Cut { pages_each: 10, pieces: 1 };
        progress.enter(7, 100, cut);
        progress.record(ChunkId { table: 7, number: 0 }, 5);
        assert_eq!(progress.enter(7, 101, cut).scope(0, 9), Scope::All);
    }

    #[test]
    fn it_is_the_same_after_being_written_down() {
        let mut progress =
            SnapshotProgress { consistent_point: Some(Lsn(77)), ..Default::default() };
        progress.enter(7, 100, Cut { pages_each: 10, pieces: 1 });
        progress.record(ChunkId { table: 7, number: 0 }, 5);
        let text = serde_json::to_string(&progress).unwrap();
        assert_eq!(serde_json::from_str::<SnapshotProgress>(&text).unwrap(), progress);
    }
}
