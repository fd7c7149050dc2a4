//! How a stream is asked for.

use std::path::PathBuf;

use herdsman_node::Lsn;

use crate::{PublicationName, SlotName};

/// Which stream to start, and where.
#[derive(Clone, Debug)]
pub struct Start {
    /// The slot. It must exist, and have been made after the publications.
    pub slot: SlotName,
    /// The publications.
    pub publications: Vec<PublicationName>,
    /// Everything up to here is handled. Behind the slot's own position the server begins there; ahead of it, it
    /// silently leaves out what lies between: compare the two before (`Slot::may_start`).
    pub from: Lsn,
    /// Everything else.
    pub options: StreamOptions,
}

/// What can be chosen about a stream.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// Whether large transactions are sent while they run (PostgreSQL 14 and later). Without it the server keeps them
    /// on its own disk until they are committed.
    pub streaming: bool,
    /// Whether the changes of such transactions are yielded while they run, as [`Event::Early`](crate::Event::Early),
    /// instead of being kept until they are committed. For who can undo what never happened.
    pub early: bool,
    /// Whether prepared transactions are sent when they are prepared; the slot must have been made for that.
    pub two_phase: bool,
    /// Whether logical messages are sent (14 and later).
    pub messages: bool,
    /// Whether values are sent in binary form, where the type has one.
    pub binary: bool,
    /// Whether changes that were themselves replicated from elsewhere are left out: by the server from 16 on, here
    /// before.
    pub local_only: bool,
    /// Bytes of memory the server decodes a transaction in before it sends or writes to disk what it has; its own
    /// setting (`logical_decoding_work_mem`, 64 MiB) when left out, at least 64 KiB.
    pub decoding_memory: Option<u64>,
    /// Bytes of transactions in progress that are kept in memory; what is more goes to disk.
    pub spill_after: usize,
    /// Folder for that; the system's folder for temporary files when left out.
    pub spill_folder: Option<PathBuf>,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            streaming: true,
            early: false,
            two_phase: false,
            messages: true,
            binary: false,
            local_only: false,
            decoding_memory: None,
            spill_after: 64 << 20,
            spill_folder: None,
        }
    }
}
