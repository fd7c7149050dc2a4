//! What the mesh knows about a table of a member.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use herdsman_wal::quote_identifier;

use crate::names::{self, NODE, STAMP};
use crate::parts::Parts;

/// A table's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct TableName {
    /// Its schema.
    pub schema: Box<str>,
    /// Its own name.
    pub name: Box<str>,
}

impl TableName {
    /// A name of these parts.
    #[must_use]
    pub fn new(schema: &str, name: &str) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }

    /// As SQL takes it.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }
}

/// `schema.name`, where a part with a dot or a double quote in it stands in double quotes: no two tables have one text. The
/// mesh notes tables by it ([`crate::names::as_noted`]).
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", part(&self.schema), part(&self.name))
    }
}

fn part(name: &str) -> Cow<'_, str> {
    if name.contains(['.', '"']) { quote_identifier(name).into() } else { name.into() }
}

/// What [`TableName`] is written as.
impl FromStr for TableName {
    type Err = NoTableName;

    fn from_str(text: &str) -> Result<Self, NoTableName> {
        let none = || NoTableName(text.into());
        let (schema, rest) = first(text).ok_or_else(none)?;
        let (name, rest) = rest.strip_prefix('.').and_then(first).ok_or_else(none)?;
        if rest.is_empty() { Ok(Self::new(&schema, &name)) } else { Err(none()) }
    }
}

/// The first part of a name, and what comes after it.
fn first(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (part, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
        return (!part.is_empty() && !part.contains('"')).then(|| (part.to_owned(), rest));
    };
    let (mut part, mut rest) = (String::new(), quoted);
    loop {
        let (before, after) = rest.split_once('"')?;
        part.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => (part, rest) = (part + "\"", after),
            None => return Some((part, after)),
        }
    }
}

/// A text that is no table's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no `schema.table`")]
pub struct NoTableName(Box<str>);

/// A table as it is on one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: TableName,
    /// Its columns in the order they were made, without dropped ones and without the mesh's own two.
    pub columns: Vec<Column>,
    /// Places in `columns` of the primary key, in the key's order.
    pub key: Vec<usize>,
    /// Unique constraints and indexes besides the primary key.
    pub uniques: Vec<Unique>,
    /// Foreign keys it has.
    pub foreign_keys: Vec<ForeignKey>,
    /// Whether it has the mesh's two columns.
    pub stamped: bool,
    /// Whether its replica identity is FULL.
    pub full_identity: bool,
    /// Which of its columns are kept in parts.
    pub parts: Parts,
    /// Whether nothing is added to it: a row's version is what PostgreSQL knows of its last transaction
    /// ([`crate::config::Mode::Untouched`]).
    pub untouched: bool,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: Box<str>,
    /// Its type as `format_type` writes it, with its modifier: what SQL takes behind `::`.
    pub sql_type: Box<str>,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Whether it is computed from others: never written.
    pub generated: bool,
    /// Whether it is GENERATED ALWAYS AS IDENTITY.
    pub identity_always: bool,
}

/// A unique constraint or index besides the primary key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unique {
    /// The index's name.
    pub name: Box<str>,
    /// Places of its columns; empty where it is over expressions.
    pub columns: Vec<usize>,
    /// Whether it is checked at once, over plain columns, for all rows: the only kind that can be resolved.
    pub plain: bool,
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// Its name.
    pub name: Box<str>,
    /// Places of its columns here.
    pub columns: Vec<usize>,
    /// The table it points to.
    pub to: TableName,
    /// The columns it points to.
    pub to_columns: Vec<Box<str>>,
}

impl Table {
    /// The columns of the primary key.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().filter_map(|at| self.columns.get(*at))
    }

    /// The time of the version of a row `alias`, as SQL.
    pub(crate) fn time_of(&self, alias: &str) -> String {
        match self.untouched {
            true => format!("{}({alias}.xmin)", names::own("micros")),
            false => format!("{alias}.{STAMP}"),
        }
    }

    /// The node of the version of a row `alias`, as SQL.
    pub(crate) fn node_of(&self, alias: &str) -> String {
        match self.untouched {
            true => format!("{}({alias}.xmin)", names::own("node")),
            false => format!("{alias}.{NODE}"),
        }
    }

    /// The version of a row `alias`, as SQL that can be compared with others. The node is only asked for where times are equal.
    pub(crate) fn version_of(&self, alias: &str) -> String {
        format!("({}, {})", self.time_of(alias), self.node_of(alias))
    }

    /// The columns that are written, with their places.
    pub fn written(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.columns.iter().enumerate().filter(|(_, column)| !column.generated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_names_have_one_text_and_each_text_is_read_as_its_name() {
        let names = [
            ("public", "t", "public.t"),
            ("a.b", "c", "\"a.b\".c"),
            ("a", "b.c", "a.\"b.c\""),
            ("a\"", "b", "\"a\"\"\".b"),
            ("\"a.b\"", "c", "\"\"\"a.b\"\"\".c"),
            ("My S", "ä t", "My S.ä t"),
        ];
        for (schema, name, text) in names {
            let table = TableName::new(schema, name);
            assert_eq!(table.to_string(), text);
            assert_eq!(text.parse(), Ok(table));
        }
        for text in ["", "t", "a.b.c", "\"a.b", "\"a\"b.c", ".t", "a.", "a\".b"] {
            text.parse::<TableName>().unwrap_err();
        }
    }
}
