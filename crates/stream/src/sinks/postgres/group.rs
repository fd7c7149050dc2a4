//! Which changes go into one statement. Pure.
//!
//! Within a table nothing is reordered but by replacing what is overwritten within the same statement; across tables only
//! where no foreign key is watched.

use std::collections::HashMap;

use herdsman_wal::decode::Field;
use herdsman_wal::{Body, Change, Relation};

use super::plan::{Plan, PlanColumn, Shape, SharedPlan};
use crate::sink::Batch;

/// Rows in one statement at most: bounds what is held in memory twice.
const LONGEST: usize = 4096;

/// A statement with its rows.
#[derive(Debug)]
pub(super) struct Group<'b> {
    pub(super) plan: SharedPlan,
    pub(super) shape: Shape,
    pub(super) rows: Vec<Item<'b>>,
    /// Where in `rows` a key is; nothing where keys do not matter.
    keys: HashMap<Vec<Option<&'b str>>, usize>,
    closed: bool,
}

/// One change's part in a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item<'b> {
    /// Its place in the batch.
    pub(super) index: usize,
    /// The values, in the order of the statement's parameters.
    pub(super) values: Vec<Option<&'b str>>,
}

/// One thing to do.
#[derive(Debug)]
pub(super) enum Step<'b> {
    /// Rows.
    Rows(Group<'b>),
    /// A truncate.
    Truncate {
        /// Its place in the batch.
        index: usize,
        /// The statement.
        sql: String,
    },
}

/// How freely changes may be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Freedom {
    /// Changes of one table may pass those of another.
    pub(super) across_tables: bool,
    /// A row written twice is written once.
    pub(super) overwrite: bool,
}

/// What is to be done for a batch.
#[derive(Debug, Default)]
pub(super) struct Steps<'b> {
    /// In this order.
    pub(super) steps: Vec<Step<'b>>,
    /// What cannot be said in a statement, and why.
    pub(super) refused: Vec<(usize, String)>,
}

/// Puts changes into statements. `plan_of` is asked for tables; `None` leaves a change out.
pub(super) fn steps<'b>(
    batch: &'b Batch,
    indexes: &[usize],
    freedom: Freedom,
    plan_of: impl Fn(&Relation) -> Option<SharedPlan>,
) -> Steps<'b> {
    let mut result = Steps::default();
    // By table: the step that may still take rows.
    let mut open: HashMap<String, usize> = HashMap::new();
    for &index in indexes {
        let Some(change) = batch.changes.get(index) else { continue };
        if let Body::Truncate { tables, cascade, restart_identity } = change.view().body {
            let names: Vec<String> = tables
                .iter()
                .filter_map(|table| plan_of(table))
                .map(|plan| plan.table.clone())
                .collect();
            if !names.is_empty() {
                open.clear();
                let sql = truncate(&names, cascade, restart_identity);
                result.steps.push(Step::Truncate { index, sql });
            }
            continue;
        }
        let Some(plan) = change.table().and_then(|table| plan_of(table)) else { continue };
        let placed = match place(&plan, change, index) {
            Ok(Some(placed)) => placed,
            Ok(None) => continue,
            Err(problem) => {
                result.refused.push((index, problem.to_owned()));
                continue;
            }
        };
        if !freedom.across_tables {
            open.retain(|table, _| *table == plan.table);
        }
        let at = open.get(&plan.table).copied();
        let group = at.and_then(|at| match result.steps.get_mut(at) {
            Some(Step::Rows(group)) => Some(group),
            _ => None,
        });
        let Some(new) = placed.join(group, &plan, freedom) else { continue };
        open.insert(plan.table.clone(), result.steps.len());
        result.steps.push(Step::Rows(new));
    }
    result
}

/// The row of this change as an insert, where the change tells all of it.
pub(super) fn whole_row<'b>(plan: &Plan, change: &'b Change, index: usize) -> Option<Item<'b>> {
    let new = fields(change.view().new_row()?.iter().map(|(_, field)| field));
    let values = values(&plan.columns, &new).ok()?;
    Some(Item { index, values })
}

struct Placed<'b> {
    shape: Shape,
    item: Item<'b>,
    key: Vec<Option<&'b str>>,
    alone: bool,
}

impl<'b> Placed<'b> {
    /// Joins the group, or returns the one that it begins.
    fn join(
        self,
        group: Option<&mut Group<'b>>,
        plan: &SharedPlan,
        freedom: Freedom,
    ) -> Option<Group<'b>> {
        let joined = group.filter(|group| {
            !group.closed
                && !self.alone
                && group.plan.id == plan.id
                && group.shape == self.shape
                && group.rows.len() < LONGEST
                && (freedom.overwrite || !group.keys.contains_key(&self.key))
        });
        let Some(group) = joined else {
            let keys = HashMap::from_iter((!self.key.is_empty()).then_some((self.key, 0)));
            let (shape, rows) = (self.shape, vec![self.item]);
            return Some(Group {
                plan: SharedPlan::clone(plan),
                shape,
                rows,
                keys,
                closed: self.alone,
            });
        };
        let at = group.keys.get(&self.key).copied();
        if let Some(row) = at.and_then(|at| group.rows.get_mut(at)) {
            *row = self.item;
        } else {
            if !self.key.is_empty() {
                group.keys.insert(self.key, group.rows.len());
            }
            group.rows.push(self.item);
        }
        None
    }
}

/// Finds the statement for a change; `None` where nothing is to be done.
fn place<'b>(
    plan: &Plan,
    change: &'b Change,
    index: usize,
) -> Result<Option<Placed<'b>>, &'static str> {
    let row = |shape, values, key| {
        let alone = matches!(shape, Shape::UpdateWhole(_) | Shape::DeleteWhole);
        Ok(Some(Placed { shape, item: Item { index, values }, key, alone }))
    };
    match change.view().body {
        Body::Insert { new, .. } | Body::Read { new, .. } => {
            let new = fields(new);
            row(Shape::Upsert, values(&plan.columns, &new)?, values(&plan.arbiter, &new)?)
        }
        Body::Update { old, .. } => {
            let row = change.new_row().ok_or("the change has no row")?;
            let new = fields(row.iter().map(|(_, field)| field));
            place_update(plan, index, old.map(|old| fields(old.tuple())), &new)
        }
        Body::Delete { old, .. } => {
            let old = fields(old.tuple());
            if plan.key.is_empty() {
                row(Shape::DeleteWhole, values(&plan.compared, &old)?, Vec::new())
            } else {
                let key = values(&plan.key, &old)?;
                row(Shape::Delete, key.clone(), key)
            }
        }
        // What a table looks like was seen to when it was planned; messages have no table.
        _ => Ok(None),
    }
}

fn place_update<'b>(
    plan: &Plan,
    index: usize,
    old: Option<Vec<Field<'b>>>,
    new: &[Field<'b>],
) -> Result<Option<Placed<'b>>, &'static str> {
    let told = |column: &PlanColumn| !matches!(new.get(column.index), Some(Field::Unchanged));
    let chosen = |wanted: &dyn Fn(&PlanColumn) -> bool| -> Box<[bool]> {
        plan.columns.iter().map(|column| told(column) && wanted(column)).collect()
    };
    let set_values = |set: &[bool]| -> Result<Vec<Option<&'b str>>, &'static str> {
        let columns = plan.columns.iter().zip(set).filter(|(_, chosen)| **chosen);
        columns.map(|(column, _)| value(column, new)).collect()
    };
    if plan.key.is_empty() {
        let old = old.ok_or("neither a key nor the old row is told; set REPLICA IDENTITY FULL")?;
        let set = chosen(&PlanColumn::is_settable);
        if !set.contains(&true) {
            return Ok(None);
        }
        let mut values_ = set_values(&set)?;
        values_.extend(values(&plan.compared, &old)?);
        let item = Item { index, values: values_ };
        return Ok(Some(Placed {
            shape: Shape::UpdateWhole(set),
            item,
            key: Vec::new(),
            alone: true,
        }));
    }
    let key = values(&plan.key, old.as_deref().unwrap_or(new))?;
    // An unchanged value that was not sent cannot be a changed key.
    let moved = old.is_some() && plan.key.iter().any(told) && values(&plan.key, new)? != key;
    if !moved && plan.upsert_updates && plan.columns.iter().all(told) {
        let item = Item { index, values: values(&plan.columns, new)? };
        return Ok(Some(Placed { shape: Shape::Upsert, item, key, alone: false }));
    }
    let set = if moved {
        chosen(&|column| column.is_settable() || plan.is_key(column))
    } else {
        chosen(&|column| column.is_settable() && !plan.is_key(column))
    };
    if !set.contains(&true) {
        return Ok(None);
    }
    let mut values = set_values(&set)?;
    values.extend(&key);
    let item = Item { index, values };
    Ok(Some(Placed { shape: Shape::Update(set), item, key, alone: moved }))
}

fn fields<'b>(tuple: impl IntoIterator<Item = Field<'b>>) -> Vec<Field<'b>> {
    tuple.into_iter().collect()
}

fn values<'b>(
    columns: &[PlanColumn],
    row: &[Field<'b>],
) -> Result<Vec<Option<&'b str>>, &'static str> {
    columns.iter().map(|column| value(column, row)).collect()
}

fn value<'b>(column: &PlanColumn, row: &[Field<'b>]) -> Result<Option<&'b str>, &'static str> {
    match row.get(column.index) {
        Some(Field::Null) => Ok(None),
        Some(field @ Field::Text(_)) => field.text().map(Some).ok_or("a value is not UTF-8"),
        Some(Field::Binary(_)) => Err("a value was sent in binary form"),
        Some(Field::Unchanged) | None => Err("the change does not tell a value that is needed"),
    }
}

fn truncate(tables: &[String], cascade: bool, restart_identity: bool) -> String {
    let mut sql = format!("TRUNCATE TABLE {}", tables.join(", "));
    if restart_identity {
        sql.push_str(" RESTART IDENTITY");
    }
    if cascade {
        sql.push_str(" CASCADE");
    }
    sql
}

#[cfg(test)]
mod tests;
