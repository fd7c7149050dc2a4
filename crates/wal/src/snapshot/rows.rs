//! Rows as a snapshot hands them on: many of them in one buffer.

use std::sync::Arc;

use crate::change::{Body, ChangeRef, Source, Transaction};
use crate::decode::{Tuple, TupleWriter};
use crate::{Relation, decode::Field};

/// Rows of one table.
#[derive(Clone, Debug)]
pub struct Rows {
    source: Arc<Source>,
    transaction: Arc<Transaction>,
    table: Arc<Relation>,
    first: u64,
    columns: u16,
    bytes: Vec<u8>,
    /// Where each row ends.
    ends: Vec<usize>,
}

impl Rows {
    pub(crate) fn new(
        source: &Arc<Source>,
        transaction: &Arc<Transaction>,
        table: &Arc<Relation>,
    ) -> Self {
        Self {
            source: Arc::clone(source),
            transaction: Arc::clone(transaction),
            table: Arc::clone(table),
            first: 0,
            columns: u16::try_from(table.columns.len()).unwrap_or(u16::MAX),
            bytes: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// The same table, with no rows yet and as much memory as this took.
    pub(crate) fn next(&self) -> Self {
        let bytes = Vec::with_capacity(self.bytes.len());
        let ends = Vec::with_capacity(self.ends.len());
        Self { bytes, ends, ..Self::new(&self.source, &self.transaction, &self.table) }
    }

    /// Adds a row, which has this table's columns.
    pub(crate) fn push(&mut self, row: Tuple<'_>) {
        self.bytes.extend_from_slice(row.bytes());
        self.ends.push(self.bytes.len());
    }

    /// Gives the rows their numbers, from `first` on.
    pub(crate) fn number(&mut self, first: u64) {
        self.first = first;
    }

    /// How many rows it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of memory that the rows take.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<usize>()
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &Arc<Relation> {
        &self.table
    }

    /// The rows, each as a change of kind [`Read`](crate::Kind::Read).
    pub fn iter(&self) -> impl Iterator<Item = ChangeRef<'_>> {
        self.tuples().zip(self.first..).map(|(new, ordinal)| ChangeRef {
            source: &self.source,
            transaction: &self.transaction,
            ordinal,
            lsn: self.transaction.commit_lsn,
            body: Body::Read { table: &self.table, new },
        })
    }

    /// The row at this place among them.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Tuple<'_>> {
        let end = *self.ends.get(index)?;
        let from =
            index.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end);
        Some(Tuple::checked_before(self.columns, self.bytes.get(from..end)?))
    }

    pub(crate) fn tuples(&self) -> impl Iterator<Item = Tuple<'_>> {
        let mut from = 0;
        self.ends.iter().map(move |end| {
            let bytes = self.bytes.get(from..*end).unwrap_or_default();
            from = *end;
            Tuple::checked_before(self.columns, bytes)
        })
    }
}

/// Writes into `to` the columns of `row` that are in `keep`, and the others as not told.
pub(crate) fn only(row: Tuple<'_>, keep: impl Fn(usize) -> bool, to: &mut TupleWriter) {
    to.clear();
    for (index, field) in row.iter().enumerate() {
        to.push(if keep(index) { field } else { Field::Unchanged });
    }
}
