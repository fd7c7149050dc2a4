//! Tables that every engine can hold, and how they change.
//!
//! The log never carries an engine's DDL, only a [`TableChange`]; each engine writes its own DDL from it. What is checked
//! here, once and purely, no engine refuses later.

mod check;
mod codec;
mod reference;
mod sql;

use std::collections::BTreeMap;

use crate::value::{Kind, Unfit, Value};
pub use reference::{OnDelete, Reference};

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name: small letters, digits and underscores.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// Whether it may be null.
    pub nullable: bool,
}

/// A table, the same on every engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name: small letters, digits and underscores.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// The columns of the primary key, by place. There is always one: a row must be found again on every node.
    pub key: Vec<usize>,
    /// The columns of each further unique key, by place.
    pub uniques: Vec<Vec<usize>>,
    /// The foreign keys.
    pub references: Vec<Reference>,
}

/// How tables change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableChange {
    /// A new table.
    Create(Table),
    /// A further column, null in the rows that are there.
    AddColumn {
        /// The table.
        table: String,
        /// The column; it may be null.
        column: Column,
    },
    /// The table goes, with its rows.
    Drop {
        /// The table.
        table: String,
    },
}

/// All tables, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue(pub BTreeMap<String, Table>);

/// Why tables cannot change so: a SQLSTATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub &'static str);

impl Table {
    /// The values of the primary key.
    #[must_use]
    pub fn key_of<'r>(&self, row: &'r [Value]) -> Vec<&'r Value> {
        self.key.iter().filter_map(|at| row.get(*at)).collect()
    }

    /// Whether a row can be in the table, on every engine. (Whether its keys are taken is another question.)
    ///
    /// # Errors
    /// What does not fit, with its column.
    pub fn fits(&self, row: &[Value]) -> Result<(), Unfit> {
        if row.len() != self.columns.len() {
            let (found, wanted) = (row.len(), self.columns.len());
            return Err(Unfit::new(format!(
                "{}: a row of {found} values, not {wanted}",
                self.name
            )));
        }
        for (column, value) in self.columns.iter().zip(row) {
            let about = |why: String| Unfit::new(format!("{}.{}: {why}", self.name, column.name));
            if value.is_null() && !column.nullable {
                return Err(about("may not be null".to_owned()));
            }
            value.fits(column.kind).map_err(|Unfit(why)| about(why))?;
        }
        Ok(())
    }
}

impl TableChange {
    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        match self {
            Self::Create(table) => &table.name,
            Self::AddColumn { table, .. } | Self::Drop { table } => table,
        }
    }

    /// Changes the catalogue.
    ///
    /// # Errors
    /// The catalogue does not allow it, and is as it was: the same answer on every node.
    pub fn apply(&self, catalogue: &mut Catalogue) -> Result<(), Refused> {
        match self {
            Self::Create(table) => {
                table.check().map_err(|_| Refused("42P16"))?;
                if catalogue.0.contains_key(&table.name) {
                    return Err(Refused("42P07"));
                }
                catalogue.check_references(table)?;
                catalogue.0.insert(table.name.clone(), table.clone());
            }
            Self::AddColumn { table, column } => {
                let old = catalogue.0.get_mut(table).ok_or(Refused("42P01"))?;
                if old.columns.iter().any(|it| it.name == column.name) {
                    return Err(Refused("42701"));
                }
                let mut new = old.clone();
                new.columns.push(column.clone());
                if !column.nullable || new.check().is_err() {
                    return Err(Refused("42P16"));
                }
                *old = new;
            }
            Self::Drop { table } => {
                if catalogue.referring_to(table).any(|(child, _)| child.name != *table) {
                    return Err(Refused("2BP01"));
                }
                catalogue.0.remove(table).ok_or(Refused("42P01"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
