//! Snapshots: the rows that a stream begins from.
//!
//! # A whole snapshot
//! [`Snapshot`] reads tables as one exported snapshot shows them, over several connections, in pieces of whole pages
//! (`ctid` ranges). The snapshot comes with the slot ([`Replication::create_slot`](crate::Replication::create_slot) with
//! [`Export`](crate::SlotSnapshot::Export)) and shows exactly what was committed before the slot's consistent point, which
//! is what the stream does not tell; or, for a slot that exists, from [`HeldSnapshot`].
//!
//! # Going on after an interruption
//! An exported snapshot ends with the connection that exported it, so what is left is read under a **new** one, S₂, taken
//! the same way, while the stream goes on from the consistent point C of the **first**, S₁. What was read in part or not
//! at all is read whole. Of a piece that was done, what was written since S₁ is read: rows whose `xmin` is not older than
//! the oldest transaction that S₁ saw running.
//!
//! Why the receiver then ends with the right rows, if it takes each row as the whole truth (upsert):
//! 1. Every row that S₂ shows has been read as S₂ shows it. In a piece read under S₂ that is plain. In a piece done under
//!    S₁, a row that was there in this form was read then, at the same place, as rows do not move without being written;
//!    any other row was written by a transaction that S₁ does not show, and is read now. (So a row that moved from a piece
//!    not yet read to one that was is not lost. The stream tells its move too, but not the large values that stayed the
//!    same.)
//! 2. A row that the receiver has beyond that is one that S₁ showed and S₂ does not: deleted, or moved to another key, by a
//!    transaction that S₁ does not show. The stream tells all of those, as it goes on from C.
//! 3. The stream tells all that S₂ does not show, and, between C and S₂, some that it does show. Those change a row to what
//!    it was earlier, and then, the last of them, to what S₂ shows: columns that a change does not tell keep the value
//!    that they have in the end. (A change that moves a row to another key tells that the old key is gone. Where the
//!    receiver does not have the row under the old key, it must leave the columns that are not told as they are under the
//!    new one: the row may have been read there already.) So once the stream has passed the place where S₂ was taken, every row is right. Until
//!    then rows may be seen going back.
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
