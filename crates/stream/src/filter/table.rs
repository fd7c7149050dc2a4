//! The rules for one table, ready to be applied to rows.

use std::sync::Arc;

use herdsman_wal::Relation;
use herdsman_wal::decode::{Field, Tuple, TupleWriter};

use super::MaskKey;
use crate::config::Mask;

/// The rules for one table.
#[derive(Debug)]
pub(super) struct Table {
    relation: Arc<Relation>,
    /// What the table looks like afterwards; `None` where it is not delivered.
    pub(super) derived: Option<Arc<Relation>>,
    /// Whether its rows stay as they are.
    pub(super) passes: bool,
    steps: Box<[Step]>,
}

/// What is done with a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Keep,
    Drop,
    Mask(Mask),
}

impl Table {
    /// A table that is not delivered.
    pub(super) fn left_out(relation: &Arc<Relation>) -> Self {
        let relation = Arc::clone(relation);
        Self { relation, derived: None, passes: false, steps: Box::default() }
    }

    /// A table that looks like `derived` afterwards.
    pub(super) fn new(relation: &Arc<Relation>, derived: Relation, steps: Vec<Step>) -> Self {
        let passes = derived == **relation && steps.iter().all(|step| *step == Step::Keep);
        let derived = if passes { Arc::clone(relation) } else { Arc::new(derived) };
        let relation = Arc::clone(relation);
        Self { relation, derived: Some(derived), passes, steps: steps.into() }
    }

    /// Whether these are the rules for the table as it is described here. The description is remembered by its address,
    /// so that it need not be read for the next row.
    pub(super) fn is_for(&mut self, relation: &Arc<Relation>) -> bool {
        if Arc::ptr_eq(&self.relation, relation) {
            return true;
        }
        let same = self.relation == *relation;
        if same {
            self.relation = Arc::clone(relation);
        }
        same
    }

    /// Writes what is left of a row.
    pub(super) fn write<'w>(
        &self,
        row: Tuple<'_>,
        key: &MaskKey,
        writer: &'w mut TupleWriter,
    ) -> Tuple<'w> {
        writer.clear();
        for (field, step) in row.iter().zip(&self.steps) {
            match step {
                Step::Keep => writer.push(field),
                Step::Drop => {}
                Step::Mask(mask) => masked(field, *mask, key, writer),
            }
        }
        writer.tuple()
    }
}

fn masked(field: Field<'_>, mask: Mask, key: &MaskKey, writer: &mut TupleWriter) {
    let value = match field {
        Field::Unchanged | Field::Null => return writer.push(field),
        Field::Text(value) | Field::Binary(value) => value,
    };
    match mask {
        Mask::Null => writer.push(Field::Null),
        Mask::Stars => writer.push(Field::Text(b"***")),
        Mask::Hash => writer.push(Field::Text(key.hash(value).as_bytes())),
    }
}
