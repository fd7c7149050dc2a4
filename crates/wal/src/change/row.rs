//! A row with the names and types of its columns.

use crate::decode::{Field, Tuple};
use crate::{Column, Relation};

/// A row: its columns' values beside their names and types. Borrowed, cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    relation: &'a Relation,
    tuple: Tuple<'a>,
    fill: Option<Fill<'a>>,
    only_key: bool,
}

/// The row before, from which is taken what was sent as unchanged.
#[derive(Clone, Copy, Debug)]
struct Fill<'a> {
    old: Tuple<'a>,
    /// Only the replica identity's columns are told.
    only_key: bool,
}

/// A value cannot be had from a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The table has no such column, or does not publish it.
    #[error("`{table}` has no published column `{column}`; it has {known}")]
    NoColumn {
        /// The table.
        table: String,
        /// The column asked for.
        column: String,
        /// The columns there are.
        known: String,
    },
    /// The value is NULL and the type asked for has no such value.
    #[error("`{table}.{column}` is NULL; read it as an Option")]
    Null {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// Of this row the change tells the key only, as with every row that is deleted.
    #[error(
        "the change does not tell `{table}.{column}`: of a row as it was only the key is sent; set REPLICA IDENTITY FULL, or do without (`#[change(default)]`)"
    )]
    OnlyKey {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The change does not tell the value.
    #[error(
        "`{table}.{column}` is large, was not changed, and so was not sent; set REPLICA IDENTITY FULL, or look it up by key"
    )]
    Unchanged {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The value is of another type than asked for. The value itself is not shown.
    #[error("`{table}.{column}` is of type {data_type} and cannot be read as {wanted}: {problem}")]
    Type {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The column's type.
        data_type: String,
        /// The type asked for.
        wanted: &'static str,
        /// What stands in the way.
        problem: String,
    },
}

/// A Rust type that a column's value can be read as.
pub trait FromField: Sized {
    /// Its name in errors.
    const NAME: &'static str;

    /// Whether it is itself read from an array: what the dimensions of an array within an array are told by.
    const LIST: bool = false;

    /// Reads a value in PostgreSQL's text form.
    ///
    /// # Errors
    /// Says what stands in the way, without the value.
    fn from_text(text: &str, column: &Column) -> Result<Self, String>;

    /// What NULL is read as; an error for most types.
    #[must_use]
    fn from_null() -> Option<Self> {
        None
    }
}

impl<'a> Row<'a> {
    /// A row of this relation.
    #[must_use]
    pub fn new(relation: &'a Relation, tuple: Tuple<'a>) -> Self {
        Self { relation, tuple, fill: None, only_key: false }
    }

    /// Takes from `old`, the whole row before, what was sent as unchanged.
    #[must_use]
    pub fn filled_from(mut self, old: Tuple<'a>) -> Self {
        self.fill = Some(Fill { old, only_key: false });
        self
    }

    /// Takes a large value of the replica identity that was sent as unchanged from `old`, the old key: the server sends
    /// the old key whenever one of its values is kept out of line, changed or not.
    #[must_use]
    pub fn key_filled_from(mut self, old: Tuple<'a>) -> Self {
        self.fill = Some(Fill { old, only_key: true });
        self
    }

    pub(crate) fn with_only_key(mut self) -> Self {
        self.only_key = true;
        self
    }

    /// Whether only the replica identity's columns are told, and the others look like NULL without being it.
    #[must_use]
    pub fn only_key(&self) -> bool {
        self.only_key
    }

    /// The table.
    #[must_use]
    pub fn relation(&self) -> &'a Relation {
        self.relation
    }

    /// Columns and values, in the table's order; only the key's columns where nothing else is told.
    pub fn iter(&self) -> impl Iterator<Item = (&'a Column, Field<'a>)> + use<'a> {
        let only_key = self.only_key;
        let mut fill = self.fill.map(|fill| (fill.old.iter(), fill.only_key));
        let columns = self.relation.columns.iter();
        columns
            .zip(self.tuple.iter())
            .map(move |(column, field)| {
                let old = fill.as_mut().and_then(|(old, key)| Some((old.next()?, *key)));
                match (field, old) {
                    (Field::Unchanged, Some((old, only_key))) if !only_key || column.key => {
                        (column, old)
                    }
                    _ => (column, field),
                }
            })
            .filter(move |(column, _)| !only_key || column.key)
    }

    /// The value of this column as it was sent; `None` where the row does not tell it or has no such column.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<Field<'a>> {
        let (index, column) = self.relation.column(name)?;
        if self.only_key && !column.key {
            return None;
        }
        match self.tuple.get(index)? {
            Field::Unchanged => {
                let fill = self.fill.filter(|fill| !fill.only_key || column.key);
                Some(fill.and_then(|fill| fill.old.get(index)).unwrap_or(Field::Unchanged))
            }
            field => Some(field),
        }
    }

    /// The columns that tell this row apart, with their values.
    pub fn key(&self) -> impl Iterator<Item = (&'a Column, Field<'a>)> + use<'a> {
        let primary = self.relation.columns.iter().any(|column| column.primary);
        self.iter().filter(move |(column, _)| if primary { column.primary } else { column.key })
    }

    /// The value of this column as a Rust type.
    ///
    /// # Errors
    /// [`RowError`] says which column of which table, and what to do.
    pub fn get<T: FromField>(&self, name: &str) -> Result<T, RowError> {
        let table = || self.relation.to_string();
        let Some((_, column)) = self.relation.column(name) else {
            let known: Vec<_> =
                self.relation.columns.iter().map(|c| format!("`{}`", c.name)).collect();
            return Err(RowError::NoColumn {
                table: table(),
                column: name.to_owned(),
                known: known.join(", "),
            });
        };
        let wrong = |problem| RowError::Type {
            table: table(),
            column: name.to_owned(),
            data_type: column.data_type.name.to_string(),
            wanted: T::NAME,
            problem,
        };
        match self.field(name) {
            Some(Field::Null) => T::from_null()
                .ok_or_else(|| RowError::Null { table: table(), column: name.to_owned() }),
            None => Err(RowError::OnlyKey { table: table(), column: name.to_owned() }),
            Some(Field::Unchanged) => {
                Err(RowError::Unchanged { table: table(), column: name.to_owned() })
            }
            Some(Field::Binary(_)) => Err(wrong("it was sent in binary form".to_owned())),
            Some(Field::Text(bytes)) => {
                let text =
                    std::str::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
                T::from_text(text, column).map_err(wrong)
            }
        }
    }
}
