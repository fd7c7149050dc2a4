//! Which statement a change needs, and with which values.

use herdsman_wal::decode::Field;
use herdsman_wal::{Body, Change};

use super::{Item, Key};
use crate::sinks::postgres::plan::{Plan, PlanColumn, Shape};

/// A change's statement.
pub(super) struct Placed<'b> {
    pub(super) shape: Shape,
    pub(super) item: Item<'b>,
    /// Which row it is about; empty where that does not matter.
    pub(super) key: Key<'b>,
    /// Whether it shares its statement with no other.
    pub(super) alone: bool,
}

/// The row of this change as an insert, where the change tells all of it.
pub(in crate::sinks::postgres) fn whole_row<'b>(
    plan: &Plan,
    change: &'b Change,
    index: usize,
) -> Option<Item<'b>> {
    let new = fields(change.view().new_row()?.iter().map(|(_, field)| field));
    let values = values(&plan.columns, &new).ok()?;
    Some(Item { index, values })
}

/// Finds the statement for a change; `None` where nothing is to be done.
pub(super) fn place<'b>(
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
