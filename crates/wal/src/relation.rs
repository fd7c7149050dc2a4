//! What a table looks like at one point of the stream.

use std::fmt;
use std::sync::Arc;

use crate::decode::{Malformed, RelationBody};
use crate::types::{DataType, TypeBook};

/// A table as the server described it before the changes that follow. A later `ALTER TABLE` makes a new one; changes
/// already seen keep theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Its number in `pg_class`.
    pub oid: u32,
    /// Its schema.
    pub schema: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// What tells its rows apart in updates and deletes.
    pub identity: ReplicaIdentity,
    /// Its published columns, in the order of every row.
    pub columns: Vec<Column>,
}

/// One column of a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: Box<str>,
    /// Its type.
    pub data_type: Arc<DataType>,
    /// Its type's modifier as `pg_attribute` has it, -1 for none.
    pub type_modifier: i32,
    /// Whether it belongs to the replica identity. Under [`ReplicaIdentity::Full`] every column does.
    pub key: bool,
    /// Whether it belongs to the primary key, where that is known – from the replica identity, or from the catalogue – and
    /// every change tells it: not under [`ReplicaIdentity::Index`], where rows go by the index's columns.
    pub primary: bool,
}

/// What the server logs of a row before an update or delete (`pg_class.relreplident`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaIdentity {
    /// The primary key.
    Default,
    /// Nothing: updates and deletes are refused while the table is published.
    Nothing,
    /// The whole row.
    Full,
    /// The columns of a unique index.
    Index,
}

impl ReplicaIdentity {
    /// From `pg_class.relreplident`.
    #[must_use]
    pub fn from_catalogue(letter: u8) -> Self {
        match letter {
            b'n' => Self::Nothing,
            b'f' => Self::Full,
            b'i' => Self::Index,
            _ => Self::Default,
        }
    }
}

impl Relation {
    /// Reads a relation message, with the names of types from `types`.
    pub(crate) fn read(body: &RelationBody<'_>, types: &TypeBook) -> Result<Self, Malformed> {
        let identity = ReplicaIdentity::from_catalogue(body.identity);
        let by_identity = matches!(identity, ReplicaIdentity::Default);
        let columns = body.columns()?.into_iter().map(|column| Column {
            name: column.name.into(),
            data_type: types.get(column.type_oid),
            type_modifier: column.type_modifier,
            key: column.key,
            primary: column.key && by_identity,
        });
        Ok(Self {
            oid: body.oid,
            schema: body.schema.into(),
            name: body.name.into(),
            identity,
            columns: columns.collect(),
        })
    }

    /// The column of this name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<(usize, &Column)> {
        self.columns.iter().enumerate().find(|(_, column)| &*column.name == name)
    }

    /// The columns that tell its rows apart: the primary key, else the replica identity; empty where there is neither.
    pub fn key_columns(&self) -> impl Iterator<Item = (usize, &Column)> {
        let primary = self.columns.iter().any(|column| column.primary);
        let columns = self.columns.iter().enumerate();
        columns.filter(move |(_, column)| if primary { column.primary } else { column.key })
    }
}

/// `schema.name`, not quoted: for people and logs, never for SQL.
impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}
