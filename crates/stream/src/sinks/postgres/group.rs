//! Which changes go into one statement. Pure.
//!
//! Where only the result counts, each change joins the earliest statement of its table that it can without passing another
//! change of the same row. Deletes may be done early, because they only make room; nothing else passes a delete, which may
//! have made room for it.

mod place;

use std::collections::HashMap;

use herdsman_wal::{Body, Relation};

use super::plan::{Plan, Shape, SharedPlan};
use crate::sink::Batch;
use place::{Placed, place};

pub(super) use place::whole_row;

/// Rows in one statement at most: bounds what is held in memory twice.
const LONGEST: usize = 4096;

/// What tells a row from others.
type Key<'b> = Vec<Option<&'b str>>;

/// A statement with its rows.
#[derive(Debug)]
pub(super) struct Group<'b> {
    pub(super) plan: SharedPlan,
    pub(super) shape: Shape,
    pub(super) rows: Vec<Item<'b>>,
    /// Where in `rows` a key is; nothing where keys do not matter.
    keys: HashMap<Key<'b>, usize>,
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
pub(super) enum Freedom {
    /// One after the other, as they came.
    AsTheyCame,
    /// In any way that comes to the same: no foreign key and no trigger watches.
    SameResult,
}

/// What is to be done for a batch.
#[derive(Debug, Default)]
pub(super) struct Steps<'b> {
    /// In this order.
    pub(super) steps: Vec<Step<'b>>,
    /// What cannot be said in a statement, and why.
    pub(super) refused: Vec<(usize, String)>,
}

/// The statements of one table that may still take rows.
#[derive(Debug, Default)]
struct Open<'b> {
    /// By their place among the steps.
    groups: Vec<usize>,
    /// The last statement that writes a row.
    touched: HashMap<Key<'b>, usize>,
}

/// Puts changes into statements. `plan_of` is asked for tables; `None` leaves a change out.
pub(super) fn steps<'b>(
    batch: &'b Batch,
    indexes: &[usize],
    freedom: Freedom,
    plan_of: impl Fn(&Relation) -> Option<SharedPlan>,
) -> Steps<'b> {
    let mut result = Steps::default();
    let mut tables: HashMap<String, Open<'b>> = HashMap::new();
    for &index in indexes {
        let Some(change) = batch.changes.get(index) else { continue };
        if let Body::Truncate { tables: truncated, cascade, restart_identity } = change.view().body
        {
            let plans = truncated.iter().filter_map(|table| plan_of(table));
            let names: Vec<String> = plans.map(|plan| plan.table.clone()).collect();
            if !names.is_empty() {
                tables.clear();
                let sql = truncate(&names, cascade, restart_identity);
                result.steps.push(Step::Truncate { index, sql });
            }
            continue;
        }
        let Some(plan) = change.table().and_then(|table| plan_of(table)) else { continue };
        if freedom == Freedom::AsTheyCame {
            tables.retain(|table, _| *table == plan.table);
        }
        match place(&plan, change, index) {
            Ok(Some(placed)) => {
                let open = tables.entry(plan.table.clone()).or_default();
                open.put(placed, &plan, freedom, &mut result.steps);
            }
            Ok(None) => {}
            Err(problem) => result.refused.push((index, problem.to_owned())),
        }
    }
    result
}

impl<'b> Open<'b> {
    fn put(
        &mut self,
        placed: Placed<'b>,
        plan: &SharedPlan,
        freedom: Freedom,
        steps: &mut Vec<Step<'b>>,
    ) {
        if placed.alone {
            *self = Self::default();
            return steps.push(Step::Rows(Group::new(placed, plan)));
        }
        let found = match freedom {
            Freedom::SameResult if plan.has_one_key() => self.earlier(&placed, plan, steps),
            _ => self.last(&placed, plan, steps),
        };
        let at = found.unwrap_or(steps.len());
        if !placed.key.is_empty() {
            self.touched.insert(placed.key.clone(), at);
        }
        match steps.get_mut(at) {
            Some(Step::Rows(group)) => group.add(placed),
            _ => {
                self.groups.push(at);
                steps.push(Step::Rows(Group::new(placed, plan)));
            }
        }
    }

    /// The last statement, where it takes this row and has none of the same key.
    fn last(&self, placed: &Placed<'b>, plan: &Plan, steps: &[Step<'b>]) -> Option<usize> {
        let at = *self.groups.last()?;
        let Some(Step::Rows(group)) = steps.get(at) else { return None };
        (group.takes(placed, plan) && !group.keys.contains_key(&placed.key)).then_some(at)
    }

    /// A statement that takes this row, where no other change of it stands later.
    fn earlier(&self, placed: &Placed<'b>, plan: &Plan, steps: &[Step<'b>]) -> Option<usize> {
        let from = self.touched.get(&placed.key).copied().unwrap_or(0);
        let open = self.groups.iter().copied().filter(|at| *at >= from);
        let group = |at: usize| match steps.get(at) {
            Some(Step::Rows(group)) => Some((at, group)),
            _ => None,
        };
        if placed.shape == Shape::Delete {
            return open.filter_map(group).find(|(_, g)| g.takes(placed, plan)).map(|(at, _)| at);
        }
        let since_delete =
            open.rev().filter_map(group).take_while(|(_, g)| g.shape != Shape::Delete);
        since_delete.filter(|(_, g)| g.takes(placed, plan)).map(|(at, _)| at).next()
    }
}

impl<'b> Group<'b> {
    fn new(placed: Placed<'b>, plan: &SharedPlan) -> Self {
        let keys = HashMap::from_iter((!placed.key.is_empty()).then_some((placed.key, 0)));
        Self { plan: SharedPlan::clone(plan), shape: placed.shape, rows: vec![placed.item], keys }
    }

    fn takes(&self, placed: &Placed<'b>, plan: &Plan) -> bool {
        self.plan.id == plan.id && self.shape == placed.shape && self.rows.len() < LONGEST
    }

    /// Adds a row, in the place of another with the same key.
    fn add(&mut self, placed: Placed<'b>) {
        let at = self.keys.get(&placed.key).copied();
        if let Some(row) = at.and_then(|at| self.rows.get_mut(at)) {
            *row = placed.item;
            return;
        }
        if !placed.key.is_empty() {
            self.keys.insert(placed.key, self.rows.len());
        }
        self.rows.push(placed.item);
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
