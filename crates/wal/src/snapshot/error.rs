//! What can go wrong with a snapshot, and what to do about it.

use herdsman_node::{ConnectError, describe};

/// A snapshot could not be taken or not be finished. Says what failed, where, and what to do; never a row's content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The exported snapshot is no more.
    #[error(
        "there is no snapshot `{snapshot}` on {endpoint} any more: it goes with the next command on the connection that exported it, or with that connection; keep that connection open and idle until every reader has begun, or take a new snapshot and go on from the saved progress"
    )]
    Gone {
        /// `host:port`.
        endpoint: String,
        /// Its name.
        snapshot: String,
    },
    /// A connection ended.
    #[error(
        "lost a snapshot's connection to {endpoint}: {problem}; take a new snapshot and go on from the saved progress"
    )]
    Lost {
        /// `host:port`.
        endpoint: String,
        /// What the system said.
        problem: String,
    },
    /// The server did not answer in time.
    #[error("{endpoint} did not {what} within {seconds} s; check what it is busy with")]
    TimedOut {
        /// `host:port`.
        endpoint: String,
        /// What it was to do.
        what: &'static str,
        /// How long it had.
        seconds: u64,
    },
    /// The server refused.
    #[error("{endpoint} refused to {what}: {problem}")]
    Refused {
        /// `host:port`.
        endpoint: String,
        /// What it was to do.
        what: String,
        /// What it said, with its code.
        problem: String,
        /// Its code alone.
        sqlstate: String,
    },
    /// There is no such table in the snapshot.
    #[error(
        "there is no table `{table}` to read on {endpoint}; check its name and schema, and that it is a table"
    )]
    NoTable {
        /// `host:port`.
        endpoint: String,
        /// The table.
        table: String,
    },
    /// The table has no such column to read.
    #[error(
        "table `{table}` on {endpoint} has no column `{column}` that can be published; check the column list"
    )]
    NoColumn {
        /// `host:port`.
        endpoint: String,
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The table's rows are in another file than the snapshot knows, which may show none of them.
    #[error(
        "table `{table}` on {endpoint} was rewritten after the snapshot was taken (ALTER TABLE, TRUNCATE, VACUUM FULL or CLUSTER), so that the snapshot may not show its rows; take a new one"
    )]
    Rewritten {
        /// `host:port`.
        endpoint: String,
        /// The table.
        table: String,
    },
    /// Nothing tells the rows apart in the stream.
    #[error(
        "table `{table}` on {endpoint} cannot be read while the stream goes on: {problem}; give it a primary key, or stop the stream and take a whole snapshot"
    )]
    NoKey {
        /// `host:port`.
        endpoint: String,
        /// The table.
        table: String,
        /// What is missing.
        problem: &'static str,
    },
    /// The table's key is another than when reading began.
    #[error("the key of table `{table}` on {endpoint} was changed while it was read; begin again")]
    KeyChanged {
        /// `host:port`.
        endpoint: String,
        /// The table.
        table: String,
    },
    /// A transaction that writes to the table does not end.
    #[error(
        "on {endpoint}, transactions that have written to the table did not end within {seconds} s ({who}): only after them can it be read safely; end them, or wait longer"
    )]
    Writers {
        /// `host:port`.
        endpoint: String,
        /// How long was waited.
        seconds: u64,
        /// Which sessions or prepared transactions.
        who: String,
    },
    /// The server is a standby, where what is visible cannot be told.
    #[error(
        "{endpoint} is a standby, which does not tell which transactions it shows; read the table from the primary"
    )]
    Standby {
        /// `host:port`.
        endpoint: String,
    },
    /// An answer makes no sense.
    #[error(
        "cannot read what {endpoint} answered when asked to {what}: {problem}; please report it with the server's version"
    )]
    Malformed {
        /// `host:port`.
        endpoint: String,
        /// What was asked.
        what: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// What was read is no chunk of this table, or not the one that is due.
    #[error(
        "a chunk of `{table}` was handed over that is not the one asked for; run one query at a time"
    )]
    NotAsked {
        /// The table.
        table: String,
    },
}

impl SnapshotError {
    /// Whether a new snapshot may well succeed, with nobody doing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(_)
            | Self::Gone { .. }
            | Self::Lost { .. }
            | Self::TimedOut { .. }
            | Self::Rewritten { .. }
            | Self::Writers { .. } => true,
            Self::Refused { sqlstate, .. } => {
                sqlstate.starts_with("57") || sqlstate.starts_with("53") || sqlstate == "55P03"
            }
            _ => false,
        }
    }

    pub(crate) fn of(endpoint: &str, what: &str, error: &tokio_postgres::Error) -> Self {
        let endpoint = endpoint.to_owned();
        let problem = describe(error);
        match error.code().map(|code| code.code().to_owned()) {
            // The session was ended: by an administrator, a shutdown or a crash.
            Some(code) if code.starts_with("57P") => Self::Lost { endpoint, problem },
            Some(sqlstate) => Self::Refused { endpoint, what: what.to_owned(), problem, sqlstate },
            None => Self::Lost { endpoint, problem },
        }
    }
}
