//! The tables of the member that changes come to, and the statements for them.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};

use super::params;
use super::statements::{Kind, Missing, Statements, taken};
use crate::group::Rows;
use crate::names;
use crate::stamp::NodeId;
use crate::table::{Column, Table, TableName};

/// The tables of a member, by the names of their tombstone tables.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    known: HashMap<Box<str>, Known>,
    own: NodeId,
    /// Statements that are prepared.
    prepared: usize,
}

/// A table, and how batches of it come.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) table: Arc<Table>,
    shape: Option<Shape>,
    /// The table whose columns' parts it has, or of whose columns it keeps the parts.
    mended: Option<Arc<Table>>,
    prepared: HashMap<Kind, Statement>,
    /// Rows in an older form are taken too.
    allowed: bool,
    /// How applying the quick way went.
    pace: Pace,
}

/// When something is tried again that is done twice where it fails: less and less often.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    failures: u32,
    skip: u32,
}

impl Pace {
    fn goes(&mut self) -> bool {
        let goes = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        goes
    }

    fn went(&mut self, well: bool) {
        self.failures = if well { self.failures / 2 } else { (self.failures + 1).min(6) };
        self.skip = if well { 0 } else { (1 << self.failures) - 1 };
    }
}

/// How batches of rows come: the same until its writers' table is altered.
#[derive(Debug)]
struct Shape {
    names: Vec<Box<str>>,
    /// Of the batch's columns those that are written.
    uses: Vec<usize>,
    /// Their places in the table.
    columns: Vec<usize>,
}

/// A statement for a batch: what to run, and which of the batch's columns are its first parameters.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) statement: Statement,
    pub(crate) places: Vec<usize>,
}

/// Prepared statements a session keeps: each takes some ten kilobytes on the server.
const MOST: usize = 1000;

impl Tables {
    pub(crate) fn new(tables: Vec<Table>, own: NodeId) -> Self {
        let tables: Vec<Arc<Table>> = tables.into_iter().map(Arc::new).collect();
        let in_parts = tables.iter().filter(|table| !table.parts.is_empty());
        let by_name = in_parts.flat_map(|table| {
            [table.name.clone(), names::parts(&table.name)].map(|name| (name, Arc::clone(table)))
        });
        let by_name: HashMap<TableName, Arc<Table>> = by_name.collect();
        let known = tables.into_iter().map(|table| {
            let gone = names::gone_name(&table.name).into_boxed_str();
            let mended = by_name.get(&table.name).cloned();
            let prepared = HashMap::new();
            (
                gone,
                Known {
                    table,
                    shape: None,
                    mended,
                    prepared,
                    allowed: false,
                    pace: Pace::default(),
                },
            )
        });
        Self { known: known.collect(), own, prepared: 0 }
    }

    /// The same tables for another session, which has prepared nothing yet.
    pub(crate) fn for_another(&self) -> Self {
        let fresh = |known: &Known| Known {
            table: Arc::clone(&known.table),
            shape: None,
            mended: known.mended.clone(),
            prepared: HashMap::new(),
            allowed: known.allowed,
            pace: Pace::default(),
        };
        let known = self.known.iter().map(|(gone, known)| (gone.clone(), fresh(known)));
        Self { known: known.collect(), own: self.own, prepared: 0 }
    }

    /// Whether what is applied to a row of it says nothing of other rows, so that different rows may be applied at once: it has
    /// no other unique constraint, no parts of columns, and a key of which equal values are told by their texts.
    pub(crate) fn is_row_by_row(&self, gone: &str) -> bool {
        self.known.get(gone).is_some_and(|known| {
            let table = &known.table;
            known.mended.is_none() && table.uniques.is_empty() && table.key_columns().all(is_plain)
        })
    }

    /// The table of this tombstone table.
    pub(crate) fn get(&self, gone: &str) -> Option<&Arc<Table>> {
        self.known.get(gone).map(|known| &known.table)
    }

    /// Whether columns are kept in parts there, or it keeps them.
    pub(crate) fn has_parts(&self, gone: &str) -> bool {
        self.known.get(gone).is_some_and(|known| known.mended.is_some())
    }

    /// Takes rows of this table in an older form from now on.
    pub(crate) fn allow(&mut self, gone: &str) {
        if let Some(known) = self.known.get_mut(gone) {
            (known.allowed, known.shape) = (true, None);
        }
    }

    /// The table that `herdsman.truncates` and the like call so.
    pub(crate) fn by_name(&self, rel: &str) -> Option<&Arc<Table>> {
        self.known.values().map(|known| &known.table).find(|table| table.name.to_string() == rel)
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.known.values().map(|known| &known.table)
    }

    /// Whether this is the index of a unique constraint besides a primary key.
    pub(crate) fn is_secondary(&self, index: &str) -> bool {
        let mut uniques = self.known.values().flat_map(|known| &known.table.uniques);
        uniques.any(|unique| &*unique.name == index)
    }

    /// Whether changes of this table are tried the quick way this time.
    pub(crate) fn is_quick(&mut self, gone: &str) -> bool {
        let known = self.known.get_mut(gone).filter(|known| !known.table.untouched);
        known.is_some_and(|known| known.pace.goes())
    }

    /// How that went: whether nothing was left to be done again.
    pub(crate) fn went(&mut self, gone: &str, well: bool) {
        if let Some(known) = self.known.get_mut(gone) {
            known.pace.went(well);
        }
    }

    /// A statement for a batch's versions.
    pub(crate) async fn ready(
        &mut self,
        client: &Client,
        gone: &str,
        rows: &Rows,
        kind: Kind,
    ) -> Result<Ready, NotReady> {
        if self.prepared > MOST {
            self.known.values_mut().for_each(|known| known.prepared.clear());
            self.prepared = 0;
        }
        let known = self.known.get_mut(gone).ok_or(NotReady::NoTable)?;
        let places = if kind.whole() { known.shape(rows)? } else { known.key(rows)? };
        if let Some(statement) = known.prepared.get(&kind) {
            return Ok(Ready { statement: statement.clone(), places });
        }
        let columns = known.shape.as_ref().map_or(&[][..], |shape| &shape.columns);
        let statements = Statements::new(&known.table, columns, self.own);
        let statements = statements.mending(known.mended.as_deref());
        let text = statements.text(kind);
        let mut types = params::types(places.len(), kind.pairs());
        if statements.has_images(kind) {
            types.push(Type::TEXT_ARRAY);
        }
        let statement = client
            .prepare_typed(&text, &types)
            .await
            .map_err(|error| NotReady::Sql(kind, error))?;
        known.prepared.insert(kind, statement.clone());
        self.prepared += 1;
        Ok(Ready { statement, places })
    }
}

impl Known {
    /// Places of the columns that are written.
    fn shape(&mut self, rows: &Rows) -> Result<Vec<usize>, NotReady> {
        let names = || rows.columns().map(|(column, _)| &*column.name);
        if let Some(shape) = &self.shape
            && shape.names.iter().map(|name| &**name).eq(names())
        {
            return Ok(shape.uses.clone());
        }
        let taken = match self.allowed {
            true => names().map(|name| self.place(name)).collect(),
            false => taken(&self.table, names()).map_err(NotReady::Column)?,
        };
        let uses = taken.iter().enumerate().filter(|(_, at)| at.is_some()).map(|(place, _)| place);
        let uses: Vec<usize> = uses.collect();
        let columns = taken.iter().copied().flatten().collect();
        self.prepared.retain(|kind, _| !kind.whole());
        let names = names().map(Into::into).collect();
        self.shape = Some(Shape { names, uses: uses.clone(), columns });
        Ok(uses)
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.table.written().find(|(_, column)| &*column.name == name).map(|(at, _)| at)
    }

    /// Places of the key's columns.
    fn key(&self, rows: &Rows) -> Result<Vec<usize>, NotReady> {
        let place = |column: &crate::table::Column| {
            let missing = || Missing { column: column.name.clone(), here: true };
            rows.columns()
                .position(|(known, _)| known.name == column.name)
                .ok_or_else(|| NotReady::Column(missing()))
        };
        self.table.key_columns().map(place).collect()
    }
}

/// Whether equal values of a key's column have one text, but for what a group puts aside itself.
fn is_plain(column: &Column) -> bool {
    const PLAIN: [&str; 14] = [
        "smallint",
        "integer",
        "bigint",
        "numeric",
        "boolean",
        "text",
        "character varying",
        "character",
        "bytea",
        "uuid",
        "date",
        "timestamp without time zone",
        "timestamp with time zone",
        "\"char\"",
    ];
    // Without its modifier, which may stand in the middle.
    let mut name = String::new();
    let mut within = false;
    for letter in column.sql_type.chars() {
        match letter {
            '(' => within = true,
            ')' => within = false,
            _ if within => {}
            _ => name.push(letter),
        }
    }
    PLAIN.contains(&&*name)
}

/// Why there is no statement.
#[derive(Debug)]
pub(crate) enum NotReady {
    /// The member has no such table.
    NoTable,
    /// A column is on one side only.
    Column(Missing),
    /// It could not be prepared.
    Sql(Kind, tokio_postgres::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_plain_whose_equal_values_have_one_text() {
        let plain = |sql_type: &str| {
            is_plain(&Column {
                name: "k".into(),
                sql_type: sql_type.into(),
                nullable: false,
                generated: false,
                identity_always: false,
            })
        };
        for sql_type in [
            "bigint",
            "character varying(20)",
            "numeric(10,2)",
            "timestamp(3) with time zone",
            "uuid",
        ] {
            assert!(plain(sql_type), "{sql_type}");
        }
        for sql_type in ["integer[]", "double precision", "public.own", "citext", "jsonb", "inet"] {
            assert!(!plain(sql_type), "{sql_type}");
        }
    }

    #[test]
    fn what_fails_is_tried_less_and_less_often_and_at_once_again_after_it_went_well() {
        let mut pace = Pace::default();
        let mut tried = Vec::new();
        for round in 0..100 {
            if pace.goes() {
                tried.push(round);
                pace.went(false);
            }
        }
        assert_eq!(tried, [0, 2, 6, 14, 30, 62]);
        while !pace.goes() {}
        pace.went(true);
        assert!(pace.goes());
    }
}
