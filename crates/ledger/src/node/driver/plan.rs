//! Which statements bring entries into the data, and what each must come to: decided here, said by [`super::apply`].
//!
//! Entries that follow each other and change different rows, by their primary keys, make a run. Its rows are sorted by what
//! becomes of them: first what goes, then what keeps its unique values, then what comes; new rows of a table share
//! statements. In this order nothing gets in another's way. What goes is as the entries before the run left it, since no
//! entry of the run changes a row twice. And whatever is there while new rows come is there at the end of the run, too,
//! where each unique value is had once. The moment an entry changes a row that one before it has changed, a new run begins.

mod joined;

use std::collections::{BTreeMap, HashSet};

use crate::{
    Offset, Value,
    node::{
        NodeError,
        dialect::{Ask, Dialect},
        session::{Heard, Told},
    },
    replica::{Act, Step},
    table::{Catalogue, Column, Table},
    writes::RowChange,
};

/// How many rows one statement has at most.
const ROWS_MOST: usize = 64;
/// How many values; SQLite takes no more than 32,766.
const VALUES_MOST: usize = 2000;
/// How many bytes, unless one row has more: statements have to fit a packet.
const BYTES_MOST: usize = 1024 * 1024;

/// Statements of one transaction, in order.
#[derive(Default)]
pub(super) struct Plan {
    asks: Vec<Ask>,
    /// What those that change rows of the ledger's tables must come to, by their places.
    wanted: BTreeMap<usize, Wanted>,
}

struct Wanted {
    rows: u64,
    at: Offset,
    about: String,
}

/// One row's change, of which entry and table.
#[derive(Clone, Copy)]
pub(super) struct Change<'s> {
    at: Offset,
    table: &'s Table,
    change: &'s RowChange,
}

/// A row, of which entry.
type Row<'s> = (Offset, &'s [Value]);

impl Plan {
    /// A statement of our own tables.
    pub(super) fn say(&mut self, ask: Ask) {
        self.asks.push(ask);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.asks.is_empty()
    }

    /// What these entries change.
    pub(super) fn entries<D: Dialect>(
        &mut self,
        dialect: &D,
        steps: &[Step],
        catalogue: &Catalogue,
    ) -> Result<(), NodeError> {
        for run in runs(steps, catalogue)? {
            self.run(dialect, &run);
        }
        Ok(())
    }

    fn run<D: Dialect>(&mut self, dialect: &D, run: &[Change<'_>]) {
        let Phases { gone, changed, new } = phases(run);
        if dialect.joins_values() {
            self.joined(dialect, &gone, &changed);
        } else {
            for (table, before) in gone {
                self.delete(dialect, table, before);
            }
            for (table, before, after) in changed {
                self.update(dialect, table, before, after);
            }
        }
        for (table, rows) in new.into_values() {
            self.insert(dialect, table, &rows);
        }
    }

    /// New rows of a table.
    pub(super) fn insert<D: Dialect>(&mut self, dialect: &D, table: &Table, rows: &[Row<'_>]) {
        let names: Vec<String> = table.columns.iter().map(|it| dialect.quote(&it.name)).collect();
        let most = VALUES_MOST / table.columns.len().max(1);
        for lot in lots(rows, most, |(_, row)| size(row)) {
            let mut lines = Vec::with_capacity(lot.len());
            for line in 0..lot.len() {
                let first = line * table.columns.len() + 1;
                let columns = table.columns.iter().enumerate();
                let places: Vec<String> =
                    columns.map(|(i, it)| dialect.value(it.kind, first + i)).collect();
                lines.push(format!("({})", places.join(", ")));
            }
            let sql = format!(
                "INSERT INTO {} ({}) VALUES {}",
                dialect.quote(&table.name),
                names.join(", "),
                lines.join(", ")
            );
            let values = lot.iter().flat_map(|(_, row)| row.iter().cloned()).collect();
            self.change(table, lot, Ask::Execute(sql, values));
        }
    }

    fn delete<D: Dialect>(&mut self, dialect: &D, table: &Table, before: Row<'_>) {
        let found = is_as_it_was(dialect, table, 1);
        let sql = format!("DELETE FROM {} WHERE {found}", dialect.quote(&table.name));
        self.change(table, &[before], Ask::Execute(sql, found_by(table, before.1)));
    }

    fn update<D: Dialect>(&mut self, dialect: &D, table: &Table, before: Row<'_>, after: &[Value]) {
        let mut sets = Vec::new();
        let mut values = Vec::new();
        for ((column, before), after) in table.columns.iter().zip(before.1).zip(after) {
            if before != after {
                values.push(after.clone());
                sets.push(format!(
                    "{} = {}",
                    dialect.quote(&column.name),
                    dialect.value(column.kind, values.len())
                ));
            }
        }
        let found = is_as_it_was(dialect, table, values.len() + 1);
        values.extend(found_by(table, before.1));
        let sql =
            format!("UPDATE {} SET {} WHERE {found}", dialect.quote(&table.name), sets.join(", "));
        self.change(table, &[before], Ask::Execute(sql, values));
    }

    /// Exactly these rows, or the node is not what the log made it.
    fn change(&mut self, table: &Table, rows: &[Row<'_>], ask: Ask) {
        let Some((at, row)) = rows.first() else { return };
        let others = match rows.len() {
            1 => String::new(),
            count => format!(" or one of {} more", count - 1),
        };
        let about = format!("table {}, row {:?}{others}", table.name, table.key_of(row));
        let rows = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        self.wanted.insert(self.asks.len(), Wanted { rows, at: *at, about });
        self.asks.push(ask);
    }

    /// The statements, and what says whether they came to what they must.
    pub(super) fn parts(self) -> (Vec<Ask>, Judge) {
        (self.asks, Judge(self.wanted))
    }
}

/// What statements must come to.
pub(super) struct Judge(BTreeMap<usize, Wanted>);

impl Judge {
    /// Whether they did.
    pub(super) fn judge(&self, heard: Heard) -> Result<(), NodeError> {
        for (place, told) in heard.told.iter().enumerate() {
            let (Told::Changed(rows), Some(wanted)) = (told, self.0.get(&place)) else { continue };
            if *rows != wanted.rows {
                let Wanted { at, about, .. } = wanted;
                let why = format!("entry {at}: {about}: it is not as the log has it");
                return Err(NodeError::Diverged(why));
            }
        }
        let Some(failure) = heard.failed else { return Ok(()) };
        Err(match (failure.while_applying(), self.0.get(&heard.told.len())) {
            (NodeError::Diverged(why), Some(Wanted { at, about, .. })) => {
                NodeError::Diverged(format!("entry {at}: {about}: {why}"))
            }
            (error, _) => error,
        })
    }
}

/// What becomes of rows, in this order: those of one entry may pass unique values to each other.
#[derive(Default)]
struct Phases<'s> {
    gone: Vec<(&'s Table, Row<'s>)>,
    changed: Vec<(&'s Table, Row<'s>, &'s [Value])>,
    new: BTreeMap<&'s str, (&'s Table, Vec<Row<'s>>)>,
}

fn phases<'s>(run: &[Change<'s>]) -> Phases<'s> {
    let mut phases = Phases::default();
    for Change { at, table, change } in run.iter().copied() {
        match (&change.before, &change.after) {
            (Some(before), Some(after)) if !takes_another_unique_value(table, before, after) => {
                phases.changed.push((table, (at, before), after));
            }
            (before, after) => {
                phases.gone.extend(before.as_ref().map(|it| (table, (at, it.as_slice()))));
                if let Some(after) = after {
                    let new = phases.new.entry(&table.name).or_insert((table, Vec::new()));
                    new.1.push((at, after));
                }
            }
        }
    }
    phases
}

/// What a row is found by: the table, and its primary key.
type Key<'s> = (&'s str, Vec<&'s Value>);

/// The changes of entries, in runs.
pub(super) fn runs<'s>(
    steps: &'s [Step],
    catalogue: &'s Catalogue,
) -> Result<Vec<Vec<Change<'s>>>, NodeError> {
    runs_by(steps, catalogue, keys)
}

fn runs_by<'s>(
    steps: &'s [Step],
    catalogue: &'s Catalogue,
    keys: impl Fn(&Change<'s>) -> Vec<Key<'s>>,
) -> Result<Vec<Vec<Change<'s>>>, NodeError> {
    let mut runs = Vec::new();
    let mut run = Vec::new();
    let mut taken: HashSet<Key<'s>> = HashSet::new();
    for step in steps {
        let Act::Rows(rows) = &step.act else { continue };
        let of = |change| change_of(step.at, change, catalogue);
        let changes: Vec<Change<'s>> = rows.iter().map(of).collect::<Result<_, _>>()?;
        let own: Vec<Key<'s>> = changes.iter().flat_map(&keys).collect();
        if own.iter().any(|key| taken.contains(key)) {
            runs.push(std::mem::take(&mut run));
            taken.clear();
        }
        taken.extend(own);
        run.extend(changes);
    }
    runs.push(run);
    Ok(runs)
}

fn change_of<'s>(
    at: Offset,
    change: &'s RowChange,
    catalogue: &'s Catalogue,
) -> Result<Change<'s>, NodeError> {
    let diverged = |why: String| NodeError::Diverged(format!("entry {at}: {why}"));
    let table = catalogue.0.get(&change.table);
    let table = table.ok_or_else(|| diverged(format!("it has no table {:?}", change.table)))?;
    let wanted = table.columns.len();
    match change.before.iter().chain(&change.after).find(|row| row.len() != wanted) {
        None => Ok(Change { at, table, change }),
        Some(row) => Err(diverged(format!(
            "table {} has {wanted} columns, and the log {}",
            table.name,
            row.len()
        ))),
    }
}

fn keys<'s>(change: &Change<'s>) -> Vec<Key<'s>> {
    let rows = change.change.before.iter().chain(&change.change.after);
    rows.map(|row| (change.table.name.as_str(), change.table.key_of(row))).collect()
}

/// As many of `all` as share a statement, again and again. Their numbers are powers of two: so there are few statements,
/// and each is prepared once.
pub(super) fn lots<T>(all: &[T], most: usize, size: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let most = most.clamp(1, ROWS_MOST);
    let mut lots = Vec::new();
    let mut rest = all;
    while !rest.is_empty() {
        let mut sum = 0_usize;
        let fit = |it: &&T| {
            sum = sum.saturating_add(size(it));
            sum <= BYTES_MOST
        };
        let count = rest.iter().take(most).take_while(fit).count();
        let count = 1_usize << count.checked_ilog2().unwrap_or_default();
        let (lot, later) = rest.split_at(count.min(rest.len()));
        lots.push(lot);
        rest = later;
    }
    lots
}

/// What a row is found by, as of [`is_as_it_was`].
fn as_it_was<'t>(
    table: &'t Table,
    row: &'t [Value],
) -> impl Iterator<Item = (&'t Column, &'t Value)> {
    let key = table.key.iter().filter_map(|at| table.columns.get(*at).zip(row.get(*at)));
    key.chain(table.columns.iter().zip(row))
}

/// The columns that say whether a row is as it was, and how they are compared: its key, then all.
fn compared<'t, D: Dialect>(
    dialect: &D,
    table: &'t Table,
) -> impl Iterator<Item = (&'t Column, &'static str)> {
    let same = dialect.same();
    let key = table.key.iter().filter_map(|at| table.columns.get(*at)).map(|it| (it, "="));
    key.chain(table.columns.iter().map(move |it| (it, same)))
}

fn size(row: &[Value]) -> usize {
    row.iter().map(bytes).sum()
}

/// About how many bytes a value has in a statement.
fn bytes(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        // In digits.
        Value::Bytes(bytes) => bytes.len().saturating_mul(2),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 8,
        other => other.to_text().map_or(8, |it| it.len()),
    }
}

fn takes_another_unique_value(table: &Table, before: &[Value], after: &[Value]) -> bool {
    let differs = |at: &usize| before.get(*at) != after.get(*at);
    table.uniques.iter().flatten().any(differs)
}

/// The condition that a row has this key and all these values.
fn is_as_it_was<D: Dialect>(dialect: &D, table: &Table, first: usize) -> String {
    let conditions: Vec<String> = compared(dialect, table)
        .zip(first..)
        .map(|((column, operator), i)| {
            format!("{} {operator} {}", dialect.quote(&column.name), dialect.value(column.kind, i))
        })
        .collect();
    conditions.join(" AND ")
}

fn found_by(table: &Table, row: &[Value]) -> Vec<Value> {
    as_it_was(table, row).map(|(_, value)| value.clone()).collect()
}

#[cfg(test)]
mod tests;
