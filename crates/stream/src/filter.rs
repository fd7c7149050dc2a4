//! What is taken out of changes, hidden or given another name, between the stream and the sinks. Pure.
//!
//! Every rule is looked up once for each description of a table; after that a table without rules costs one comparison,
//! and one with rules costs a copy of the row.

mod key;
mod rules;
mod table;

use std::collections::HashMap;
use std::sync::Arc;

use herdsman_wal::decode::{Old, TupleWriter};
use herdsman_wal::{Body, Change, ChangeRef, InvalidGlob, Relation};

pub use key::{MaskKey, MaskKeyError};
use rules::Rules;
use table::Table;

use crate::config::StreamConfig;

/// The filter between a stream and its sinks.
///
/// A masked value is replaced wherever it stands: in new rows, in old ones and in keys. Under `hash` it is replaced by 64
/// hexadecimal digits, the same for the same value and key, and the column becomes `text`; NULL stays NULL. `stars` makes it
/// `***`, and `null` NULL. A value that the server did not send stays one that was not sent.
///
/// ```
/// use herdsman_stream::StreamConfig;
/// use herdsman_stream::filter::{Filter, MaskKey};
/// let config: StreamConfig = serde_json::from_str(
///     r#"{"tables": ["public.*"], "transform": {"public.users": {"mask": {"email": "hash"}}}}"#,
/// )?;
/// let filter = Filter::new(&config, MaskKey::from_bytes(b"of this stream only"))?;
/// assert!(filter.selects("public", "orders") && !filter.selects("private", "orders"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Filter {
    rules: Rules,
    key: MaskKey,
    foreign_origins: bool,
    /// By number; a table that looks another way replaces what it was.
    tables: HashMap<u32, Table>,
    /// The table whose rows passed as they are last: mostly the next one's, too.
    untouched: Option<Arc<Relation>>,
    old: TupleWriter,
    new: TupleWriter,
}

/// A rule is wrong, or does not fit its table. Nothing can be delivered of that table until it is corrected: what would
/// be delivered might be what was to be hidden.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// A pattern is none.
    #[error(transparent)]
    Glob(#[from] InvalidGlob),
    /// A rule contradicts itself or another.
    #[error("`transform`: {table}: {problem}; correct the rules of this table")]
    Rule {
        /// The table, or the pattern of the rule.
        table: String,
        /// What is wrong.
        problem: String,
    },
}

/// Tables remembered at most. More are only described again.
const MOST_TABLES: usize = 10_000;

impl Filter {
    /// Reads the rules: which tables, which columns, what is masked.
    ///
    /// # Errors
    /// [`FilterError`] where a pattern or rule is wrong in itself. Whether it fits its tables is seen when they are.
    pub fn new(config: &StreamConfig, key: MaskKey) -> Result<Self, FilterError> {
        Ok(Self {
            rules: Rules::new(config)?,
            key,
            foreign_origins: config.foreign_origins,
            tables: HashMap::new(),
            untouched: None,
            old: TupleWriter::default(),
            new: TupleWriter::default(),
        })
    }

    /// Whether the table is among those to deliver.
    #[must_use]
    pub fn selects(&self, schema: &str, table: &str) -> bool {
        self.rules.select(schema, table)
    }

    /// Whether any rule masks by hash: only then is the key used.
    #[must_use]
    pub fn hashes(&self) -> bool {
        self.rules.hash()
    }

    /// Whether the rules fit this table: for those who want to know before the first change.
    ///
    /// # Errors
    /// [`FilterError::Rule`] says what does not fit.
    pub fn check(&self, relation: &Relation) -> Result<(), FilterError> {
        self.rules.table(&Arc::new(relation.clone()), true).map(drop)
    }

    /// What is left of a change to deliver; `None` for nothing.
    ///
    /// # Errors
    /// [`FilterError::Rule`] where the rules do not fit the change's table: nothing of the change may be delivered.
    pub fn apply(&mut self, change: ChangeRef<'_>) -> Result<Option<Change>, FilterError> {
        if !self.foreign_origins && change.transaction.origin.is_some() {
            return Ok(None);
        }
        match change.body {
            Body::Truncate { tables, cascade, restart_identity } => {
                let mut left = Vec::with_capacity(tables.len());
                for table in tables {
                    left.extend(self.table(table)?.derived.clone());
                }
                let body = Body::Truncate { tables: &left, cascade, restart_identity };
                Ok((!left.is_empty()).then(|| ChangeRef { body, ..change }.into()))
            }
            Body::Schema { table, previous } => {
                // What was is not held against the rules: a column to hide may just have been added.
                let before = self.rules.table(previous, false)?.derived;
                let after = self.table(table)?.derived.clone();
                let (Some(table), Some(previous)) = (after, before) else { return Ok(None) };
                let body = Body::Schema { table: &table, previous: &previous };
                // Where only hidden columns changed, there is nothing to tell.
                Ok((table != previous).then(|| ChangeRef { body, ..change }.into()))
            }
            Body::Insert { table, .. }
            | Body::Update { table, .. }
            | Body::Delete { table, .. }
            | Body::Read { table, .. } => self.apply_row(change, table),
            _ => Ok(Some(change.into())),
        }
    }

    fn apply_row(
        &mut self,
        change: ChangeRef<'_>,
        relation: &Arc<Relation>,
    ) -> Result<Option<Change>, FilterError> {
        if self.untouched.as_ref().is_some_and(|last| Arc::ptr_eq(last, relation)) {
            return Ok(Some(change.into()));
        }
        self.table(relation)?;
        let Some(rules) = self.tables.get(&relation.oid) else { return Ok(None) };
        let Some(table) = &rules.derived else { return Ok(None) };
        if rules.passes {
            self.untouched = Some(Arc::clone(relation));
            return Ok(Some(change.into()));
        }
        let (key, new_row, old_row) = (&self.key, &mut self.new, &mut self.old);
        let body = match change.body {
            Body::Insert { new, .. } => Body::Insert { table, new: rules.write(new, key, new_row) },
            Body::Read { new, .. } => Body::Read { table, new: rules.write(new, key, new_row) },
            Body::Update { old, new, .. } => Body::Update {
                table,
                old: old.map(|old| rules.write_old(old, key, old_row)),
                new: rules.write(new, key, new_row),
            },
            Body::Delete { old, .. } => {
                Body::Delete { table, old: rules.write_old(old, key, old_row) }
            }
            body => body,
        };
        Ok(Some(ChangeRef { body, ..change }.into()))
    }

    /// The rules for a table as it is now.
    fn table(&mut self, relation: &Arc<Relation>) -> Result<&Table, FilterError> {
        let known = self.tables.get_mut(&relation.oid);
        if !known.is_some_and(|known| known.is_for(relation)) {
            if self.tables.len() >= MOST_TABLES {
                self.tables.clear();
            }
            let table = self.rules.table(relation, true)?;
            self.tables.insert(relation.oid, table);
        }
        self.tables.get(&relation.oid).ok_or_else(|| FilterError::Rule {
            table: relation.to_string(),
            problem: "its rules got lost".to_owned(),
        })
    }
}

impl Table {
    fn write_old<'w>(&self, old: Old<'_>, key: &MaskKey, row: &'w mut TupleWriter) -> Old<'w> {
        match old {
            Old::Key(tuple) => Old::Key(self.write(tuple, key, row)),
            Old::Full(tuple) => Old::Full(self.write(tuple, key, row)),
        }
    }
}

#[cfg(test)]
mod tests;
