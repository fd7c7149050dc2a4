//! Publications: which tables, columns and rows the server sends.
//!
//! A [`PublicationSpec`] says what is wanted, [`create_or_alter`] makes it so with the smallest change, and refuses what
//! would make the application's own statements fail. [`prepare`] makes publication and slot in the one order that works.

mod checks;
mod commands;
mod plan;
mod tables;

use serde::Serialize;

pub use checks::check;
pub use commands::{Outcome, Prepared, check_order, create_or_alter, drop, inspect, prepare};
pub use plan::plan;
pub use tables::{TableFacts, list_tables, matching};

use crate::{PublicationName, SlotName, WalError};

/// What a publication is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublicationSpec {
    /// Its name.
    pub name: PublicationName,
    /// The tables, where not all of them are meant.
    pub tables: Vec<TableSpec>,
    /// Every table of the database, also those yet to be made. Only a superuser may.
    pub all_tables: bool,
    /// Which changes are published.
    pub operations: Operations,
    /// Whether changes of partitions are sent as changes of the table they are partitions of.
    pub via_partition_root: bool,
}

/// One table of a publication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableSpec {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The only columns to send; all, also those yet to be added, when none.
    pub columns: Option<Vec<String>>,
    /// Which rows to send, as an SQL condition; all when none. It is SQL: never take it from a stranger.
    pub row_filter: Option<String>,
}

/// Which changes a publication sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Operations {
    /// Rows that are added.
    pub insert: bool,
    /// Rows that are changed.
    pub update: bool,
    /// Rows that are removed.
    pub delete: bool,
    /// Tables that are emptied.
    pub truncate: bool,
}

/// A publication as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Publication {
    /// What it is; row filters as the server writes them.
    pub spec: PublicationSpec,
    /// Schemas of which it has every table, also those yet to be made.
    pub schemas: Vec<String>,
    /// Slots of this database that stand at a position from before it was made, or last had its options changed.
    pub newer_than: Vec<SlotName>,
    /// Whether our role owns it, and so may change it.
    pub owned: bool,
}

impl PublicationSpec {
    /// A publication of these tables with everything in it.
    #[must_use]
    pub fn of(name: PublicationName, tables: Vec<TableSpec>) -> Self {
        let operations = Operations::default();
        Self { name, tables, all_tables: false, operations, via_partition_root: false }
    }
}

impl TableSpec {
    /// The whole table.
    #[must_use]
    pub fn whole(schema: &str, name: &str) -> Self {
        let (schema, name) = (schema.to_owned(), name.to_owned());
        Self { schema, name, columns: None, row_filter: None }
    }
}

impl Default for Operations {
    /// All of them.
    fn default() -> Self {
        Self { insert: true, update: true, delete: true, truncate: true }
    }
}

/// A publication was not made or changed; nothing was changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublicationError {
    /// The server could not be asked, or refused.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// Publishing these tables would break the application.
    #[error(
        "publishing {table} on {endpoint} would make the application's own UPDATE and DELETE fail: {problem}; {fix}"
    )]
    Harmful {
        /// `host:port`.
        endpoint: String,
        /// The table, as `schema.table`.
        table: String,
        /// Why.
        problem: String,
        /// What to do.
        fix: String,
    },
    /// There is no such table, or it is none whose changes can be sent.
    #[error(
        "{endpoint} has no table {tables} that could be published (views, foreign, temporary and unlogged tables cannot); check the names, they are compared letter by letter"
    )]
    NoTable {
        /// `host:port`.
        endpoint: String,
        /// The tables, as `schema.table`.
        tables: String,
    },
    /// The slot was there before the publication.
    #[error(
        "replication slot `{slot}` on {endpoint} is older than publication `{publication}`: the server looks for the publication as of the slot's position, where there is none, and would fail or leave changes out; drop the slot and create it anew, after the publication (`herdsman stream recreate` does both)"
    )]
    SlotIsOlder {
        /// `host:port`.
        endpoint: String,
        /// The slot.
        slot: String,
        /// The publication.
        publication: String,
    },
}
