//! Many rows that go or change with one statement, where the engine joins a table with a list of values.

use std::collections::BTreeMap;

use super::{Plan, Row, VALUES_MOST, as_it_was, compared, lots, size};
use crate::{
    Value,
    node::dialect::{Ask, Dialect},
    table::{Column, Table},
};

/// A row as it was, and as it becomes.
type Pair<'s> = (Row<'s>, &'s [Value]);

/// What rows that share a statement have in common: the table, and the columns that change.
type Alike<'s> = (&'s str, Vec<usize>);

impl Plan {
    /// Rows that go, and rows that change in the same columns: each lot with one statement.
    pub(super) fn joined<'s, D: Dialect>(
        &mut self,
        dialect: &D,
        gone: &[(&'s Table, Row<'s>)],
        changed: &[(&'s Table, Row<'s>, &'s [Value])],
    ) {
        let mut going: BTreeMap<&str, (&Table, Vec<Row<'_>>)> = BTreeMap::new();
        for (table, row) in gone {
            going.entry(&table.name).or_insert((table, Vec::new())).1.push(*row);
        }
        for (table, rows) in going.into_values() {
            let width = table.key.len() + table.columns.len();
            for lot in lots(&rows, VALUES_MOST / width.max(1), |(_, row)| size(row)) {
                match lot {
                    [row] => self.delete(dialect, table, *row),
                    _ => self.delete_lot(dialect, table, lot),
                }
            }
        }
        let mut alike: BTreeMap<Alike<'_>, (&Table, Vec<Pair<'_>>)> = BTreeMap::new();
        for (table, before, after) in changed {
            let columns = (0..table.columns.len()).filter(|at| before.1.get(*at) != after.get(*at));
            let group = alike.entry((&table.name, columns.collect()));
            group.or_insert((table, Vec::new())).1.push((*before, after));
        }
        for ((_, columns), (table, pairs)) in alike {
            let width = columns.len() + table.key.len() + table.columns.len();
            let bytes = |(before, after): &Pair<'_>| size(before.1).saturating_add(size(after));
            for lot in lots(&pairs, VALUES_MOST / width.max(1), bytes) {
                match lot {
                    [(before, after)] => self.update(dialect, table, *before, after),
                    _ => self.update_lot(dialect, table, &columns, lot),
                }
            }
        }
    }

    fn delete_lot<D: Dialect>(&mut self, dialect: &D, table: &Table, lot: &[Row<'_>]) {
        let mut list = ValueList::default();
        for (_, row) in lot {
            list.row(dialect, as_it_was(table, row));
        }
        let sql = format!(
            "DELETE FROM {} AS t USING {} WHERE {}",
            dialect.quote(&table.name),
            list.named(),
            joins(dialect, table, 0)
        );
        self.change(table, lot, Ask::Execute(sql, list.values));
    }

    fn update_lot<D: Dialect>(
        &mut self,
        dialect: &D,
        table: &Table,
        columns: &[usize],
        lot: &[Pair<'_>],
    ) {
        let mut list = ValueList::default();
        for ((_, before), after) in lot {
            let new = columns.iter().filter_map(|at| table.columns.get(*at).zip(after.get(*at)));
            list.row(dialect, new.chain(as_it_was(table, before)));
        }
        let names = columns.iter().filter_map(|at| table.columns.get(*at));
        let sets: Vec<String> = names
            .enumerate()
            .map(|(i, it)| format!("{} = v.v{i}", dialect.quote(&it.name)))
            .collect();
        let sql = format!(
            "UPDATE {} AS t SET {} FROM {} WHERE {}",
            dialect.quote(&table.name),
            sets.join(", "),
            list.named(),
            joins(dialect, table, columns.len())
        );
        let rows: Vec<Row<'_>> = lot.iter().map(|(before, _)| *before).collect();
        self.change(table, &rows, Ask::Execute(sql, list.values));
    }
}

/// A list of values that a statement joins with.
#[derive(Default)]
struct ValueList {
    lines: Vec<String>,
    width: usize,
    values: Vec<Value>,
}

impl ValueList {
    fn row<'v, D: Dialect>(
        &mut self,
        dialect: &D,
        values: impl Iterator<Item = (&'v Column, &'v Value)>,
    ) {
        let first = self.values.len();
        let mut places = Vec::with_capacity(self.width);
        for (column, value) in values {
            self.values.push(value.clone());
            places.push(dialect.value(column.kind, self.values.len()));
        }
        self.width = self.values.len() - first;
        self.lines.push(format!("({})", places.join(", ")));
    }

    /// `(VALUES (…), (…)) AS v(v0, v1, …)`.
    fn named(&self) -> String {
        let names: Vec<String> = (0..self.width).map(|i| format!("v{i}")).collect();
        format!("(VALUES {}) AS v({})", self.lines.join(", "), names.join(", "))
    }
}

/// As [`is_as_it_was`], of the row `t` and the values `v`, from this one on.
fn joins<D: Dialect>(dialect: &D, table: &Table, first: usize) -> String {
    let conditions = compared(dialect, table).zip(first..);
    let conditions: Vec<String> = conditions
        .map(|((column, operator), i)| {
            format!("t.{} {operator} v.v{i}", dialect.quote(&column.name))
        })
        .collect();
    conditions.join(" AND ")
}
