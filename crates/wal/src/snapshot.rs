//! Snapshots: the rows that a stream begins from.
//!
//! # A whole snapshot
//! [`Snapshot`] reads tables as one exported snapshot shows them, over several connections, in pieces of whole pages
//! (`ctid` ranges). The snapshot comes with a slot ([`Replication::create_slot`](crate::Replication::create_slot) with
//! [`Export`](crate::SlotSnapshot::Export), or [`HeldSnapshot`] where the slot to stream from exists) and shows exactly what
//! is committed before the [consistent point](Exported::consistent_point). **Deliver the stream up to that point, then the
//! rows, then the rest of the stream**: then the receiver never goes back. From a new slot there is nothing to deliver
//! first, as it begins there.
//!
//! # Going on after an interruption
//! An exported snapshot ends with the connection that exported it, so what is left is read under a **new** one, S₂ with its
//! consistent point C₂, while the stream goes on from where it was, at the latest from C₁, the point of the first one, S₁.
//! What was read in part or not at all is read whole. Of a piece that was done, what was written since S₁ is read: rows
//! whose `xmin` is not older than the oldest transaction that S₁ saw running.
//!
//! Why the receiver has the right rows after that, when it has been given the stream up to C₂ and then these rows, each of
//! which it takes as the whole truth (upsert):
//! 1. A row that S₂ shows and that is read now is right, whatever was there before.
//! 2. A row that S₂ shows and that is not read now lies in a piece done under S₁, and was written by a transaction that S₁
//!    shows. Rows do not move without being written, so it was read then, at this place and in this form. The stream from
//!    C₁ to C₂ told nothing of it, and of nobody else under its key.
//! 3. A row that the receiver has beyond that, S₂ does not show: it was deleted, or moved to another key, by a transaction
//!    before C₂ that S₁ does not show. The stream has told that by now.
//!
//! Without the second look at pieces that were done, the stream would not do: a row may move, within the table's file, from
//! a piece not yet read to one that was. The stream tells of the update, but not the large values that stayed the same. And
//! if the rows were given before the stream up to C₂, changes told late could take a row that now has a key for the one
//! that had it then.
//!
//! Not so where the table's file is another one (`VACUUM FULL`, `TRUNCATE`, a rewriting `ALTER TABLE`): rows are in other
//! places then, and [`SnapshotProgress`] begins that table anew. And a snapshot older than a rewrite would show an empty
//! table: that is refused ([`SnapshotError::Rewritten`]), and cannot come to pass while the tables are read, as they are
//! locked against it.
//!
//! # One table while the stream goes on
//! [`Incremental`] reads a table page by page and puts its rows into the stream's order.

mod chunk;
mod connection;
mod copy_text;
mod copying;
mod error;
mod held;
mod incremental;
mod keys;
mod plan;
mod progress;
mod rows;
mod stats;
mod table;
mod window;
mod writers;
mod xids;

pub use chunk::{ChunkQuery, ChunkRead};
pub use connection::SnapshotConnection;
pub use copying::{Copying, Snapshot, SnapshotEvent};
pub use error::SnapshotError;
pub use held::{Exported, HeldSnapshot};
pub use incremental::{Incremental, IncrementalProgress};
pub use plan::{ChunkId, Cut};
pub use progress::{SnapshotProgress, TableProgress};
pub use rows::Rows;
pub use stats::{SnapshotStats, TableStats, progress_bar, time_left};
pub use table::SnapshotTable;
