//! Whole tables: what must wait for everything in them, and makes everything wait.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use herdsman_wal::Relation;

use super::Number;
use crate::lanes::key::{Key, columns};

/// Names a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableId(usize);

/// All tables seen so far; there are not so many that they had to be forgotten.
#[derive(Debug, Default)]
pub(super) struct TableSet {
    by_name: HashMap<Key, usize>,
    tables: Vec<Table>,
    shapes: HashMap<Key, Shape>,
}

#[derive(Debug, Default)]
struct Table {
    /// Rows in lanes.
    active: usize,
    /// One that touches the whole table, and whatever came after it.
    queue: VecDeque<Number>,
    /// Whether the first of the queue has the table to itself.
    granted: bool,
}

#[derive(Debug)]
struct Shape {
    relation: Arc<Relation>,
    columns: Vec<Box<str>>,
}

impl TableSet {
    pub(super) fn id(&mut self, name: Key) -> TableId {
        let new = self.tables.len();
        let at = *self.by_name.entry(name).or_insert(new);
        if at == new {
            self.tables.push(Table::default());
        }
        TableId(at)
    }

    /// Whether rows of the table are told apart by other columns than the last time: then keys from before and from
    /// now cannot be compared.
    pub(super) fn key_changed(&mut self, name: &Key, relation: &Arc<Relation>) -> bool {
        let Some(shape) = self.shapes.get_mut(name) else {
            let shape = Shape { relation: Arc::clone(relation), columns: key_names(relation) };
            self.shapes.insert(name.clone(), shape);
            return false;
        };
        if Arc::ptr_eq(&shape.relation, relation) {
            return false;
        }
        let columns = key_names(relation);
        let changed = columns != shape.columns;
        *shape = Shape { relation: Arc::clone(relation), columns };
        changed
    }

    /// Queues a row where something that touches the whole table is in front; false where nothing is.
    pub(super) fn defer(&mut self, table: TableId, number: Number) -> bool {
        match self.tables.get_mut(table.0) {
            Some(table) if !table.queue.is_empty() => {
                table.queue.push_back(number);
                true
            }
            _ => false,
        }
    }

    /// Queues one that touches the whole table; true where it has the table to itself at once.
    pub(super) fn enqueue_whole(&mut self, table: TableId, number: Number) -> bool {
        let Some(table) = self.tables.get_mut(table.0) else { return true };
        table.queue.push_back(number);
        if table.queue.len() == 1 && table.active == 0 {
            table.granted = true;
        }
        table.queue.len() == 1 && table.granted
    }

    /// A row goes into its lanes.
    pub(super) fn enter(&mut self, table: TableId) {
        if let Some(table) = self.tables.get_mut(table.0) {
            table.active += 1;
        }
    }

    /// A row is over; true where something may move up for that.
    pub(super) fn leave(&mut self, table: TableId) -> bool {
        let Some(table) = self.tables.get_mut(table.0) else { return false };
        table.active -= 1;
        table.active == 0 && !table.queue.is_empty()
    }

    pub(super) fn front(&self, table: TableId) -> Option<Number> {
        self.tables.get(table.0)?.queue.front().copied()
    }

    pub(super) fn pop(&mut self, table: TableId) {
        if let Some(table) = self.tables.get_mut(table.0) {
            table.queue.pop_front();
        }
    }

    /// Gives the table to the first of its queue; true where that is new.
    pub(super) fn grant(&mut self, table: TableId) -> bool {
        let Some(table) = self.tables.get_mut(table.0) else { return false };
        let new = table.active == 0 && !table.granted;
        table.granted |= new;
        new
    }

    /// One that touched the whole table is over.
    pub(super) fn remove_whole(&mut self, table: TableId, number: Number) {
        if let Some(table) = self.tables.get_mut(table.0) {
            if table.queue.front() == Some(&number) {
                table.queue.pop_front();
                table.granted = false;
            } else {
                table.queue.retain(|other| *other != number);
            }
        }
    }

    /// A row that was only queued is over.
    pub(super) fn withdraw(&mut self, number: Number) {
        for table in &mut self.tables {
            table.queue.retain(|other| *other != number);
        }
    }
}

fn key_names(relation: &Relation) -> Vec<Box<str>> {
    columns(relation)
        .filter_map(|index| relation.columns.get(index))
        .map(|column| column.name.clone())
        .collect()
}
