//! A database that follows the log: one trait, and one file per engine.
//!
//! A node keeps its place in the log in the same transactions as its data. It does two things: it applies what the log
//! says, in order, exactly once; and it runs clients' transactions to see what they would change, always rolling them
//! back. Only [`Node::apply`] ever changes data.
//!
//! Every engine has the same tables of ours: `_ledger_state` (one row: the log, the place, why it is fenced),
//! `_ledger_outcome` (what came of each entry of the window), `_ledger_table` (the tables' definitions), `_ledger_guard` (which program drives it).
//! Triggers of each table write down what a transaction changes: on PostgreSQL in settings of the session, elsewhere in a
//! table `_ledger_cap_…`, which outside of a transaction is always empty. They turn away whoever writes past Herdsman.

mod dialect;
mod driver;
pub mod mariadb;
pub mod postgres;
mod room;
mod session;
pub mod sqlite;
mod statement;

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::mpsc;

pub use postgres::Wire;
pub use room::Room;

use crate::{
    ChainHash, LogId, Offset, Value,
    entry::Genesis,
    replica::{Durable, Step},
    snapshot::Part,
    table::Catalogue,
    writes::RowChange,
};

/// What makes a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// MariaDB.
    MariaDb,
    /// SQLite.
    Sqlite,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::MariaDb => "MariaDB",
            Self::Sqlite => "SQLite",
        })
    }
}

/// A node could not do what the log says.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NodeError {
    /// Trouble of this node alone, and for now: the disk is full, the server is down, a lock is held. To be tried again,
    /// for as long as it takes; nothing is ever passed over.
    #[error("{0}")]
    Environmental(String),
    /// What the log says does not fit the data: the node is not what the log made it.
    #[error("{0}")]
    Diverged(String),
    /// Somebody else drives this node, too, and is further.
    #[error(
        "the node is at entry {found} and should be at {expected}: another program drives it, too"
    )]
    Moved {
        /// Where it should be.
        expected: Offset,
        /// Where it is.
        found: Offset,
    },
    /// Another program has the node; this one neither applies to it nor runs anything on it.
    #[error(
        "another program drives the node ({by}); stop it there, or take the node out of one of the two configurations"
    )]
    Driven {
        /// Who, as it says itself.
        by: String,
    },
}

/// A client's statement could not be run.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SqlError {
    /// The statement is to blame: a SQLSTATE and what the engine said.
    #[error("{message} (SQLSTATE {state})")]
    Refused {
        /// Five characters.
        state: String,
        /// The engine's words, or ours.
        message: String,
    },
    /// Another transaction was first; this one may be run again.
    #[error("{0}")]
    Conflict(String),
    /// The node is to blame.
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl SqlError {
    /// What a client that knows SQLSTATEs is told: 40001 where it may try again, 57P03 where the node is to blame.
    #[must_use]
    pub fn sqlstate(&self) -> &str {
        match self {
            Self::Refused { state, .. } => state,
            Self::Conflict(_) => "40001",
            Self::Node(_) => "57P03",
        }
    }
}

/// A client's statement: its text, in the engine's dialect, and the values of its parameters.
///
/// Parameters are written `$1`, `$2` and so on, on every engine, each at least once and as often as need be. The values are
/// never part of the text: the engine is handed them beside it, and takes them for what they are. A text also stands for a
/// number, a day, a moment, a UUID and so on, where the engine expects such.
///
/// ```
/// use herdsman_ledger::{Value, node::Sql};
/// let values = [Value::Int(7), Value::Text("O'Hara".to_owned())];
/// let insert = Sql { text: "INSERT INTO account (id, name) VALUES ($1, $2)", values: &values };
/// let plain = Sql::from("SELECT 1");
/// assert!(plain.values.is_empty() && insert.values.len() == 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sql<'s> {
    /// One statement.
    pub text: &'s str,
    /// As many as it has parameters.
    pub values: &'s [Value],
}

impl<'s> From<&'s str> for Sql<'s> {
    fn from(text: &'s str) -> Self {
        Self { text, values: &[] }
    }
}

/// A statement's result, in the engine's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Rows it changed; 0 for one that returns rows.
    pub affected: u64,
    /// The names of the columns of those rows; none where it returns no rows.
    pub columns: Vec<String>,
    /// Their types, as many as columns, in PostgreSQL's words where it has one; `unknown` where the engine tells none.
    pub types: Vec<String>,
    /// Rows it returned, as far as there was [`Room`].
    pub rows: Vec<Vec<Option<String>>>,
    /// How many more it returned.
    pub beyond: u64,
}

/// Where a node is, as it has written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The log it follows.
    pub log: LogId,
    /// The last entry in its data.
    pub applied: Offset,
    /// The log up to there.
    pub hash: ChainHash,
    /// Why it may not go on, if that was found.
    pub fenced: Option<String>,
}

/// What a transaction would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The last entry whose effects it saw: read in the same snapshot as the data.
    pub base: Offset,
    /// The tables as they were there.
    pub catalogue: Arc<Catalogue>,
    /// Its changes, one per row.
    pub rows: Vec<RowChange>,
    /// The ledger's tables that its statements named, whether they read or changed them.
    pub named: Vec<String>,
}

/// How many rows a table has and the sum of their hashes, which does not depend on their order or on the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    /// Rows.
    pub rows: u64,
    /// Two halves of 128 bits.
    pub sum: [u128; 2],
}

/// What a node holds at one place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// The place.
    pub at: Offset,
    /// Each table's.
    pub tables: BTreeMap<String, Checksum>,
}

/// A database that follows the log.
#[async_trait]
pub trait Node: Send + Sync + 'static {
    /// What it is called in errors and in the log.
    fn name(&self) -> &str;

    /// What it is.
    fn engine(&self) -> Engine;

    /// Makes the node a follower of this log, with nothing but the genesis applied; a follower of it stays as it is.
    async fn install(&self, genesis: &Genesis, hash: ChainHash) -> Result<(), NodeError>;

    /// What it has written down.
    async fn durable(&self) -> Result<Durable, NodeError>;

    /// Where it is; `None` if it follows no log yet. Changes nothing, and reads little.
    async fn place(&self) -> Result<Option<Place>, NodeError>;

    /// Does what the steps say and writes it down, in one transaction. To be called again with the same steps after
    /// [`NodeError::Environmental`]: what was done is not done twice.
    async fn apply(&self, steps: &[Step]) -> Result<(), NodeError>;

    /// Writes down that the node may not go on, and why.
    async fn fence(&self, why: &str) -> Result<(), NodeError>;

    /// Begins a client's transaction, on a snapshot of the data.
    async fn begin(&self) -> Result<Box<dyn Transaction>, SqlError>;

    /// A client's transaction of these statements, from its beginning to what it would change: as [`Node::begin`],
    /// [`Transaction::run`] and [`Transaction::capture`], with as little waiting in between as the engine allows.
    async fn run(
        &self,
        statements: &[Sql<'_>],
        room: Room,
    ) -> Result<(Vec<Answer>, Captured), SqlError>;

    /// A connection that one client has for itself, in PostgreSQL's own protocol; `None` where the engine speaks another.
    async fn native(&self) -> Result<Option<Box<dyn Native>>, SqlError>;

    /// Gives everything that it holds, in one snapshot, while it goes on following the log. Changes of tables wait until
    /// it is done.
    async fn give(&self, to: mpsc::Sender<Part>) -> Result<(), NodeError>;

    /// Lets go of what it holds, and becomes what the parts say; the place it is then at. It is fenced until it has taken
    /// the last of them.
    async fn take(
        &self,
        genesis: &Genesis,
        hash: ChainHash,
        parts: mpsc::Receiver<Part>,
    ) -> Result<Offset, NodeError>;

    /// What it holds, in one snapshot.
    async fn checksums(&self) -> Result<Checksums, NodeError>;
}

/// A client's transaction that runs on one node. It is always rolled back: when its changes have been captured, or when
/// it is dropped.
///
/// It never holds the log up: when the node cannot apply an entry because of what the transaction holds, the transaction
/// is ended. Whatever is asked of it then fails with [`SqlError::Conflict`], SQLSTATE 40001.
#[async_trait]
pub trait Transaction: Send {
    /// The last entry whose effects it sees.
    fn base(&self) -> Offset;

    /// Runs one statement, in the engine's dialect. After an error nothing more can be run.
    ///
    /// A statement reads whatever it likes, and changes rows of the ledger's tables, of one table each and by its bare
    /// name. Anything else is refused with SQLSTATE 0A000: other tables would be changed on this node alone, or not at
    /// all. So is what could switch the capturing of changes off, such as MariaDB's variables or PostgreSQL's
    /// `set_config`, and, on MariaDB, a call of a stored function, which could do either unseen.
    async fn run(&mut self, sql: &str) -> Result<Answer, SqlError> {
        self.run_with(sql.into(), &mut Room::unlimited()).await
    }

    /// As [`Transaction::run`], with values, and with room for what it returns. Values that do not match the statement's
    /// parameters are refused with SQLSTATE 08P01 (their number) or 42P18 (one that is not named).
    async fn run_with(&mut self, sql: Sql<'_>, room: &mut Room) -> Result<Answer, SqlError>;

    /// What the statements have changed.
    async fn capture(self: Box<Self>) -> Result<Captured, SqlError>;
}

/// A client's own connection to a PostgreSQL node. The client's messages go straight to the server and the answers back, so
/// types, formats, cursors and savepoints are the server's own; where transactions begin and end is said here. They are
/// always rolled back, as those of [`Transaction`], and give way to the log like them: the server then ends the connection.
///
/// After an error of the node's, or the end of the connection, everything fails; a new one is to be made.
#[async_trait]
pub trait Native: Send {
    /// Where the client's messages go; `None` once the connection is gone. Nothing may be sent there that was not found good
    /// by [`Native::check`], but for what cannot end the transaction, change the session's `herdsman.…` settings, its role
    /// or its `search_path`, or write.
    fn wire(&mut self) -> Option<&mut Wire>;

    /// Begins a transaction on a snapshot of the data.
    async fn begin(&mut self, read_only: bool) -> Result<(), SqlError>;

    /// Whether a statement may be run in the transaction: as of [`Transaction::run`].
    async fn check(&mut self, sql: &str) -> Result<(), SqlError>;

    /// The client has gone back to a savepoint.
    fn take_back(&mut self);

    /// Whether the transaction had to give way to the log: then it may be run again.
    fn is_beaten(&self) -> bool;

    /// What the transaction has changed; it is over then.
    async fn capture(&mut self) -> Result<Captured, SqlError>;

    /// Ends the transaction.
    async fn roll_back(&mut self);

    /// Says something of ours to the server, which has no rows to give for it.
    async fn command(&mut self, sql: &str) -> Result<(), SqlError>;
}
