//! What differs between engines.

use std::time::Duration;

use async_trait::async_trait;

pub(super) use super::session::{Ask, Session, next_rows};
use super::{Engine, NodeError, SqlError};
use crate::{
    table::{Column, OnDelete, Reference, Table},
    value::Kind,
};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Applying: triggers are off.
    Apply,
    /// Running clients' transactions: triggers capture.
    Capture,
}

/// Why an engine did not do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Trouble that may pass.
    Environmental(String),
    /// Another transaction was first.
    Conflict(String),
    /// It would say the same again: SQLSTATE and words.
    Refused { state: String, message: String },
}

impl Failure {
    pub(super) fn refused(state: &str, message: impl Into<String>) -> Self {
        Self::Refused { state: state.to_owned(), message: message.into() }
    }

    /// While applying: what the engine refuses does not fit.
    pub(super) fn while_applying(self) -> NodeError {
        match self {
            Self::Environmental(why) | Self::Conflict(why) => NodeError::Environmental(why),
            Self::Refused { state, message } => {
                NodeError::Diverged(format!("{message} (SQLSTATE {state})"))
            }
        }
    }
}

impl From<Failure> for SqlError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Environmental(why) => Self::Node(NodeError::Environmental(why)),
            Failure::Conflict(why) => Self::Conflict(why),
            Failure::Refused { state, message } => Self::Refused { state, message },
        }
    }
}

/// How an engine is asked what a session has written, whoever had it written: the statement itself, a view, a trigger, a
/// function.
#[derive(Clone, Copy)]
pub(super) struct Counts {
    /// The query for all relations that can be written to: number and name, the ledger's own tables by their names and
    /// others by something that is no name of ours.
    pub(super) relations: &'static str,
    /// The expression that changes when there is a new one.
    pub(super) newest: &'static str,
    /// The expression for the rows that were written in the session to each of these, by number: `{1,0,7}`.
    pub(super) written: fn(&[String]) -> String,
}

/// One engine's ways.
#[async_trait]
pub(super) trait Dialect: Send + Sync + 'static {
    type Session: Session;

    /// What a connection is told by from outside, to be ended.
    type Handle: Clone + PartialEq + Send + Sync + 'static;

    /// A lock on the node; dropped, or when this program is gone, somebody else may have it.
    type Hold: Send + Sync + 'static;

    fn engine(&self) -> Engine;

    /// Takes the lock; `None` if another program has it.
    async fn hold(&self) -> Result<Option<Self::Hold>, Failure>;

    /// Whether the lock is held still.
    async fn holds(&self, hold: &mut Self::Hold) -> bool;

    async fn connect(&self, purpose: Purpose) -> Result<Self::Session, Failure>;

    /// A connection as for [`Purpose::Capture`] whose [`Session::together`] waits once for everything, and takes no values;
    /// `None` where there is none such.
    async fn connect_pipeline(&self) -> Result<Option<Self::Session>, Failure> {
        Ok(None)
    }

    /// A connection that one client has for itself, in PostgreSQL's protocol; `None` where the engine speaks another.
    async fn connect_native(&self) -> Result<Option<Self::Session>, Failure> {
        Ok(None)
    }

    /// What is said before a client's own connection is asked for what it has changed.
    fn before_capture(&self) -> Option<&'static str> {
        None
    }

    fn handle(&self, session: &Self::Session) -> Self::Handle;

    /// How long an entry may take before it is asked who holds it up.
    fn patience(&self) -> Duration;

    /// Which of the clients' connections (`open`) the one that applies waits for.
    async fn blockers(
        &self,
        helper: &mut Self::Session,
        applier: &Self::Handle,
        open: &[Self::Handle],
    ) -> Result<Vec<Self::Handle>, Failure>;

    /// Ends a client's connection, in the middle of whatever it does; what it holds is released.
    async fn end(&self, helper: &mut Self::Session, client: &Self::Handle) -> Result<(), Failure>;

    /// The query for all that the transaction's triggers have captured, in order: rows of one column, each some lines that
    /// a JSON array: the table, `i`, `u` or `d`, the values before and those after, as far as there are any. `None` where each table has a capture table of its own.
    fn captured_at_once(&self) -> Option<&'static str> {
        None
    }

    /// Whether a statement can change rows that it joins with a list of values.
    fn joins_values(&self) -> bool {
        false
    }

    /// Where the engine tells how many rows a session has written to a relation: how it is asked.
    fn counts(&self) -> Option<Counts> {
        None
    }

    /// Whether a client's statement surely gives no rows, and has parameters just where it has values: it can be sent before
    /// the answer to the one before is there.
    fn is_plain_change(&self, _sql: &str, _has_values: bool) -> bool {
        false
    }

    /// Whether what a statement calls could write unseen.
    async fn check_calls(
        &self,
        _session: &mut Self::Session,
        _calls: &[String],
    ) -> Result<(), Failure> {
        Ok(())
    }

    /// Begins a transaction that applies.
    fn begin_apply(&self) -> &'static str;

    /// Begins a transaction that sees one snapshot; statements, in order.
    fn begin_snapshot(&self) -> &'static [&'static str];

    /// Begins a transaction that only reads, one snapshot, and holds nobody up; statements, in order.
    fn begin_read(&self) -> &'static [&'static str];

    /// Whether DDL can be rolled back. Where it cannot, it is repeatable.
    fn transactional_ddl(&self) -> bool;

    fn quote(&self, name: &str) -> String;

    /// The `number`-th value of a statement, from 1, as a column of this kind takes it.
    fn value(&self, kind: Kind, number: usize) -> String;

    /// A column in the text that [`Value::of_text`] reads.
    fn text_of(&self, kind: Kind, column: &str) -> String;

    /// The operator of two values that are the same, also when both are null.
    fn same(&self) -> &'static str;

    /// The type of a text, a number of 64 bits, of our own tables.
    fn own_text(&self) -> &'static str;

    /// A column's definition.
    fn column(&self, column: &Column, in_key: bool) -> String;

    /// What comes after the columns of `CREATE TABLE`.
    fn table_options(&self) -> &'static str;

    /// `CREATE TABLE` of a capture table's own number.
    fn numbered(&self) -> &'static str {
        ""
    }

    /// The type of a column in a capture table, which holds anything.
    fn captured(&self, kind: Kind) -> String;

    /// The triggers of a table; they may be there already.
    fn triggers(&self, table: &Table) -> Vec<String>;

    /// What a foreign key's definition says of rows that refer to one that goes.
    fn on_delete(&self, what: OnDelete) -> &'static str {
        match what {
            OnDelete::Refuse => "",
            OnDelete::Cascade => " ON DELETE CASCADE",
            OnDelete::SetNull => " ON DELETE SET NULL",
        }
    }

    /// What a table is to do when a row goes that others refer to, where the engine's own cascades would not be captured.
    /// It may be there already.
    fn cascade(&self, _parent: &Table, _children: &[(&Table, &Reference)]) -> Vec<String> {
        Vec::new()
    }

    /// What is left to drop when a table has gone.
    fn drop_rest(&self, _table: &str) -> Vec<String> {
        Vec::new()
    }
}

/// What an engine gives for bytes that it cannot give; no digits.
pub(super) const TOO_LONG: &str = "too long";

/// The name of a table's capture table.
pub(super) fn capture_table(table: &str) -> String {
    format!("_ledger_cap_{table}")
}

/// What triggers say to whoever is not Herdsman.
pub(super) fn turned_away(table: &str) -> String {
    format!("table {table} belongs to a ledger: write to it through Herdsman")
}

/// `o_a, o_b` or `n_a, n_b`.
pub(super) fn captured_columns(
    dialect: &dyn Fn(&str) -> String,
    table: &Table,
    prefix: &str,
) -> String {
    let columns: Vec<String> =
        table.columns.iter().map(|it| dialect(&format!("{prefix}_{}", it.name))).collect();
    columns.join(", ")
}

/// The statement that a trigger captures one change with.
pub(super) fn capture_insert(quote: &dyn Fn(&str) -> String, table: &Table, op: Op) -> String {
    let mut columns = vec!["op".to_owned()];
    let mut values = vec![format!("'{}'", op.letter())];
    for (prefix, row, there) in [("o", "OLD", op != Op::Insert), ("n", "NEW", op != Op::Delete)] {
        if there {
            columns.push(captured_columns(quote, table, prefix));
            values.extend(table.columns.iter().map(|it| format!("{row}.{}", quote(&it.name))));
        }
    }
    format!(
        "INSERT INTO {} ({}) VALUES ({})",
        quote(&capture_table(&table.name)),
        columns.join(", "),
        values.join(", ")
    )
}

/// How a row changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Insert,
    Update,
    Delete,
}

impl Op {
    pub(super) const ALL: [Self; 3] = [Self::Insert, Self::Update, Self::Delete];

    pub(super) fn letter(self) -> char {
        match self {
            Self::Insert => 'i',
            Self::Update => 'u',
            Self::Delete => 'd',
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}
