//! One change of one row, or of something as large: where it comes from, what it was and what it is.

mod owned;
mod row;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use herdsman_node::{Lsn, SystemId, Timeline};
use serde::Serialize;

pub use owned::Change;
pub use row::{FromField, Row, RowError};

use crate::Relation;
use crate::decode::{Old, Tuple};

/// Which stream a change came through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The cluster it happened in.
    pub system_id: SystemId,
    /// The timeline of the server that sent it.
    pub timeline: Timeline,
    /// The database it happened in.
    pub database: Box<str>,
    /// The slot it was read from; empty for a snapshot without one.
    pub slot: Box<str>,
}

/// The transaction a change belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Its number; 0 for the rows of a snapshot.
    pub xid: u32,
    /// Where its first change was logged.
    pub begin_lsn: Lsn,
    /// Where its commit record begins. With a change's ordinal it is the change's name for ever: transactions come in
    /// the order of this position. For the rows of a snapshot: the position the snapshot shows.
    pub commit_lsn: Lsn,
    /// When it was committed.
    pub commit_time: Timestamp,
    /// The replication origin it was applied under, where it did not begin here.
    pub origin: Option<Box<str>>,
    /// The name it was prepared under, in a stream with two phases.
    pub gid: Option<Box<str>>,
}

/// A moment as PostgreSQL counts it: microseconds since 2000-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Microseconds from the beginning of 1970 to the beginning of 2000.
    const UNIX_OFFSET: i64 = 946_684_800_000_000;

    /// Microseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn unix_micros(self) -> i64 {
        self.0.saturating_add(Self::UNIX_OFFSET)
    }

    /// From microseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn from_unix_micros(micros: i64) -> Self {
        Self(micros.saturating_sub(Self::UNIX_OFFSET))
    }

    /// As the system's clock counts.
    #[must_use]
    pub fn system_time(self) -> SystemTime {
        let micros = self.unix_micros();
        let span = Duration::from_micros(micros.unsigned_abs());
        let time = if micros < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(span)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(span)
        };
        time.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// What kind of change it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// A row is new.
    Insert,
    /// A row is another than before.
    Update,
    /// A row is gone.
    Delete,
    /// All rows of some tables are gone.
    Truncate,
    /// A row as a snapshot found it.
    Read,
    /// A table looks another way from here on.
    Schema,
    /// A logical message.
    Message,
}

impl Kind {
    /// The word for it in JSON and in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
            Self::Read => "read",
            Self::Schema => "schema",
            Self::Message => "message",
        }
    }
}

/// A change, borrowed from the receive buffer: what a stream yields. [`Change::from`] makes one that can be kept.
#[derive(Clone, Copy, Debug)]
pub struct ChangeRef<'a> {
    /// The stream it came through.
    pub source: &'a Arc<Source>,
    /// The transaction it belongs to.
    pub transaction: &'a Arc<Transaction>,
    /// Its number within the transaction, from 0, the same each time the transaction is sent again.
    pub ordinal: u64,
    /// Where it was logged.
    pub lsn: Lsn,
    /// What happened.
    pub body: Body<'a>,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Body<'a> {
    /// A row is new.
    Insert {
        /// The table.
        table: &'a Arc<Relation>,
        /// The row.
        new: Tuple<'a>,
    },
    /// A row is another than before.
    Update {
        /// The table.
        table: &'a Arc<Relation>,
        /// What it was, as far as the replica identity tells; `None`: the key has not changed.
        old: Option<Old<'a>>,
        /// What it is.
        new: Tuple<'a>,
    },
    /// A row is gone.
    Delete {
        /// The table.
        table: &'a Arc<Relation>,
        /// What it was, as far as the replica identity tells.
        old: Old<'a>,
    },
    /// A row as a snapshot found it.
    Read {
        /// The table.
        table: &'a Arc<Relation>,
        /// The row.
        new: Tuple<'a>,
    },
    /// All rows of these tables are gone.
    Truncate {
        /// The tables.
        tables: &'a [Arc<Relation>],
        /// Whether tables that refer to these were emptied with them.
        cascade: bool,
        /// Whether sequences were restarted.
        restart_identity: bool,
    },
    /// A table looks another way from here on: the first change of it after an `ALTER TABLE` follows.
    Schema {
        /// The table as it is.
        table: &'a Arc<Relation>,
        /// The table as it was.
        previous: &'a Arc<Relation>,
    },
    /// Somebody called `pg_logical_emit_message` within the transaction.
    Message {
        /// What kind of message it is, as its sender says.
        prefix: &'a str,
        /// What it says.
        content: &'a [u8],
    },
}

impl<'a> ChangeRef<'a> {
    /// What kind of change it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.body {
            Body::Insert { .. } => Kind::Insert,
            Body::Update { .. } => Kind::Update,
            Body::Delete { .. } => Kind::Delete,
            Body::Read { .. } => Kind::Read,
            Body::Truncate { .. } => Kind::Truncate,
            Body::Schema { .. } => Kind::Schema,
            Body::Message { .. } => Kind::Message,
        }
    }

    /// The table it is about, where it is about exactly one.
    #[must_use]
    pub fn table(&self) -> Option<&'a Arc<Relation>> {
        match self.body {
            Body::Insert { table, .. }
            | Body::Update { table, .. }
            | Body::Delete { table, .. }
            | Body::Read { table, .. }
            | Body::Schema { table, .. } => Some(table),
            Body::Truncate { tables: [table], .. } => Some(table),
            Body::Truncate { .. } | Body::Message { .. } => None,
        }
    }

    /// The row as it is now. A large value that was not touched is taken from the old row where that is told whole.
    #[must_use]
    pub fn new_row(&self) -> Option<Row<'a>> {
        match self.body {
            Body::Insert { table, new } | Body::Read { table, new } => Some(Row::new(table, new)),
            Body::Update { table, old, new } => {
                let row = Row::new(table, new);
                Some(match old {
                    Some(Old::Full(old)) => row.filled_from(old),
                    Some(Old::Key(old)) => row.key_filled_from(old),
                    None => row,
                })
            }
            _ => None,
        }
    }

    /// The row as it was, as far as the replica identity tells. Under [`Old::Key`] only the key's columns mean
    /// anything; [`Row::only_key`] says so.
    #[must_use]
    pub fn old_row(&self) -> Option<Row<'a>> {
        match self.body {
            Body::Update { table, old: Some(old), .. } | Body::Delete { table, old } => {
                let row = Row::new(table, old.tuple());
                Some(if matches!(old, Old::Key(_)) { row.with_only_key() } else { row })
            }
            _ => None,
        }
    }

    /// The row whose key names what was changed: the new one, or the old one of a delete.
    #[must_use]
    pub fn key_row(&self) -> Option<Row<'a>> {
        self.new_row().or_else(|| self.old_row())
    }

    /// A name for this change that is the same each time it is sent: commit position and ordinal. Rows of a snapshot
    /// have none that lasts.
    #[must_use]
    pub fn id(&self) -> (Lsn, u64) {
        (self.transaction.commit_lsn, self.ordinal)
    }
}
