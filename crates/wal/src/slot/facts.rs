//! What is known of a slot.

use herdsman_node::Lsn;
use serde::{Deserialize, Serialize};

use crate::SlotName;

/// A replication slot as the server describes it at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// Its name.
    pub name: SlotName,
    /// The output plugin; none for a physical slot.
    pub plugin: Option<String>,
    /// The database it reads; none for a physical slot.
    pub database: Option<String>,
    /// Whether that is the database of the session that looked.
    pub database_is_ours: bool,
    /// Whether it ends with the session that made it.
    pub temporary: bool,
    /// The server process that reads it now.
    pub active_pid: Option<u32>,
    /// The oldest position whose log is kept for it; none when it is lost, or was never reserved.
    pub restart: Option<Lsn>,
    /// Up to where its reader has confirmed; none for a physical slot, and for one that is still being made.
    pub confirmed: Option<Lsn>,
    /// Whether its log is still there; none when nothing is reserved.
    pub wal_status: Option<WalStatus>,
    /// Bytes of log that may still be written before it is in danger; none where nothing limits them.
    pub safe_wal_size: Option<i64>,
    /// Whether prepared transactions are sent before they commit.
    pub two_phase: bool,
    /// Whether standbys keep it too (PostgreSQL 17 and later).
    pub failover: bool,
    /// Whether it was copied here from the primary (PostgreSQL 17 and later).
    pub synced: bool,
    /// Whether the server that looked was a standby.
    pub on_standby: bool,
    /// Why it is of no use any more, as the server calls it (PostgreSQL 17 and later; 16 says only
    /// [`conflicting`](Self::conflicting)).
    pub invalidation_reason: Option<String>,
    /// Whether rows it needed were removed on a standby (PostgreSQL 16 and later).
    pub conflicting: bool,
    /// The end of the server's log at the same moment: written on a primary, received on a standby.
    pub wal_position: Lsn,
    /// What decoding it has cost so far; none before it was first read.
    pub decoding: Option<Decoding>,
}

/// Whether the log that a slot needs is there (`pg_replication_slots.wal_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalStatus {
    /// Within `max_wal_size`.
    Reserved,
    /// Beyond `max_wal_size`, kept for the slot.
    Extended,
    /// Not kept any more, and still there: the next checkpoint may remove it.
    Unreserved,
    /// Removed.
    Lost,
}

/// What decoding a slot has cost since its statistics were reset (`pg_stat_replication_slots`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decoding {
    /// Transactions that did not fit into `logical_decoding_work_mem` and went through the server's disk.
    #[serde(rename(deserialize = "spill_txns"))]
    pub spilled_transactions: u64,
    /// Bytes of those, counted each time.
    pub spill_bytes: u64,
    /// Transactions sent while they were in progress.
    #[serde(rename(deserialize = "stream_txns"))]
    pub streamed_transactions: u64,
    /// Bytes of those.
    pub stream_bytes: u64,
    /// All transactions sent.
    #[serde(rename(deserialize = "total_txns"))]
    pub transactions: u64,
    /// Bytes of those.
    #[serde(rename(deserialize = "total_bytes"))]
    pub bytes: u64,
}

impl Slot {
    /// Bytes of log the server keeps for it.
    #[must_use]
    pub fn retained(&self) -> Option<u64> {
        self.restart.map(|restart| self.wal_position.bytes_after(restart))
    }

    /// Bytes of log its reader has not confirmed: what waits, without looking into it. Other tables' and other databases'
    /// changes count as well, so it is an upper bound.
    #[must_use]
    pub fn waiting(&self) -> Option<u64> {
        self.confirmed.map(|confirmed| self.wal_position.bytes_after(confirmed))
    }

    /// Why it is of no use any more, in words; none while it is.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        let words = match self.invalidation_reason.as_deref() {
            Some("wal_removed") => {
                "its log was removed: it was further behind than max_slot_wal_keep_size"
            }
            Some("rows_removed") => "rows it needed were removed on the standby",
            Some("wal_level_insufficient") => "the primary's wal_level was lower than logical",
            Some("idle_timeout") => "nobody read it for longer than idle_replication_slot_timeout",
            Some(other) => return Some(format!("the server says `{other}`")),
            None if self.wal_status == Some(WalStatus::Lost) => {
                "its log was removed: it was further behind than max_slot_wal_keep_size"
            }
            None if self.conflicting => "rows it needed were removed on the standby",
            None => return None,
        };
        Some(words.to_owned())
    }

    /// Whether it is a logical slot.
    #[must_use]
    pub fn is_logical(&self) -> bool {
        self.plugin.is_some()
    }
}
