//! Changes of one member, put together for one transaction of another. Pure.
//!
//! Of every key only the greatest version is kept, a row or a tombstone, with what the first of its chain replaced: a
//! row that was changed a hundred times is applied once. Values are copied once, column by column, into the form in
//! which they are sent on.

mod batch;
mod keys;
mod logged;
mod rows;
mod values;

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::Arc;

use herdsman_node::Lsn;
use herdsman_wal::decode::{Old, Tuple};
use herdsman_wal::{Body, ChangeRef, FromField, Relation, ReplicaIdentity, Row, Timestamp};

pub use batch::TableBatch;
use logged::Logged;
pub(crate) use rows::NO_KEY;
pub use rows::Rows;
pub use values::Values;
pub(crate) use values::index;

use crate::names;
use crate::stamp::{NodeId, Stamp};
use crate::table::TableName;

/// Changes of one member: of every key the greatest version.
#[derive(Debug)]
pub struct Group {
    /// Who wrote them.
    pub source: NodeId,
    /// By table.
    pub tables: Vec<TableBatch>,
    /// Tables that were emptied.
    pub truncates: Vec<Truncated>,
    /// The last sign of life among them: everything the member stamped before has come.
    pub heartbeat: Option<i64>,
    /// The greatest time of any stamp; `i64::MIN` without any.
    pub newest: i64,
    /// Transactions that are complete.
    pub transactions: u64,
    /// Changes before those of the same key were taken together.
    pub changes: u64,
    /// Bytes it holds, roughly.
    pub bytes: usize,
    /// Where its last transaction ends; `None`: that goes on in the next group.
    pub end: Option<End>,
    /// Transactions one by one, where each has to be one on its target too ([`Group::logged`]); the group itself has no
    /// changes then.
    pub(crate) apart: Vec<Group>,
    /// Numbers of its transactions, where it is what a member reads of its own log ([`Group::logged_own`]): one that is in
    /// the log need not be seen by others yet.
    pub(crate) xids: Vec<u32>,
    /// What all its changes are stamped with, where rows hold no stamps.
    stamp: Option<Stamp>,
    logged: Logged,
    /// Where changes of a relation go, and the last one that was asked for.
    routes: HashMap<u32, (Arc<Relation>, Route)>,
    last: Option<(Arc<Relation>, Route)>,
    hasher: RandomState,
}

/// A table that was emptied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// The table, as `herdsman.truncates` names it.
    pub rel: Box<str>,
    /// When and where, the last time.
    pub stamp: Stamp,
    /// Up to when its writer had what each other member wrote, as a JSON object; of several of one writer what it had the
    /// first time, which is the least.
    pub knew: Option<Box<str>>,
}

/// Where a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// What may be acknowledged once it is applied.
    pub lsn: Lsn,
    /// Where its commit record begins.
    pub commit_lsn: Lsn,
    /// When it was committed.
    pub time: Timestamp,
}

/// What cannot be put into a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// A published table without what the mesh needs.
    #[error("table {table} is published by the mesh and {problem}; run `herdsman mesh up`")]
    NotPrepared {
        /// The table.
        table: TableName,
        /// What it lacks.
        problem: &'static str,
    },
}

/// Where changes of a relation go.
#[derive(Clone, Copy, Debug)]
enum Route {
    /// To a table: its rows, or its tombstones.
    Table {
        at: usize,
        tombstones: bool,
    },
    Truncates,
    Heartbeats,
    /// Another of the mesh's own tables, which nobody should have published.
    Nowhere,
}

/// What a version takes besides its values.
const OVERHEAD: usize = 64;

impl Group {
    /// An empty group.
    #[must_use]
    pub fn new(source: NodeId) -> Self {
        Self {
            source,
            tables: Vec::new(),
            truncates: Vec::new(),
            heartbeat: None,
            newest: i64::MIN,
            transactions: 0,
            changes: 0,
            bytes: 0,
            end: None,
            apart: Vec::new(),
            xids: Vec::new(),
            stamp: None,
            logged: Logged::No,
            routes: HashMap::new(),
            last: None,
            hasher: RandomState::new(),
        }
    }

    /// How many keys have changed.
    #[must_use]
    pub fn rows(&self) -> usize {
        let own: usize = self.tables.iter().map(TableBatch::len).sum();
        own + self.apart.iter().map(Self::rows).sum::<usize>()
    }

    /// Whether there is nothing in it to be written to tables.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.truncates.is_empty()
            && self.tables.iter().all(TableBatch::is_empty)
            && self.apart.iter().all(Self::is_empty)
    }

    /// Takes a change. Deletions and truncations of the tables themselves are passed over: tombstones tell of them.
    ///
    /// # Errors
    /// [`GroupError`]; the group is of no further use then.
    pub fn push(&mut self, change: &ChangeRef<'_>) -> Result<(), GroupError> {
        if self.logged != Logged::No {
            return self.push_logged(change);
        }
        let (table, new, old) = match change.body {
            Body::Insert { table, new } => (table, new, None),
            Body::Update { table, new, old } => {
                (table, new, old.filter(|old| matches!(old, Old::Full(_))).map(Old::tuple))
            }
            _ => return Ok(()),
        };
        self.end = None;
        self.changes += 1;
        let route = match &self.last {
            Some((last, route)) if Arc::ptr_eq(last, table) => *route,
            _ => self.route(table)?,
        };
        match route {
            Route::Table { at, tombstones } => self.version(at, tombstones, table, new, old),
            Route::Truncates => self.truncated(change),
            Route::Heartbeats => self.heartbeat(change),
            Route::Nowhere => Ok(()),
        }
    }

    /// A transaction is complete.
    pub fn commit(&mut self, end: End) {
        self.commit_logged(end);
        self.transactions += 1;
        self.end = Some(end);
    }

    fn version(
        &mut self,
        at: usize,
        tombstone: bool,
        table: &Arc<Relation>,
        new: Tuple<'_>,
        old: Option<Tuple<'_>>,
    ) -> Result<(), GroupError> {
        let Some(batch) = self.tables.get_mut(at) else { return Ok(()) };
        let added = batch
            .push(tombstone, new, old, &self.hasher, self.stamp)
            .map_err(|problem| not_prepared(table, problem))?;
        self.newest = self.newest.max(added.stamp.micros);
        self.bytes += added.bytes + OVERHEAD;
        Ok(())
    }

    fn route(&mut self, relation: &Arc<Relation>) -> Result<Route, GroupError> {
        let known = self.routes.get(&relation.oid);
        let route = match known {
            Some((known, route)) if Arc::ptr_eq(known, relation) || **known == **relation => *route,
            _ => self.new_route(relation)?,
        };
        self.routes.insert(relation.oid, (Arc::clone(relation), route));
        self.last = Some((Arc::clone(relation), route));
        Ok(route)
    }

    fn new_route(&mut self, relation: &Arc<Relation>) -> Result<Route, GroupError> {
        let gone = match (&*relation.schema, &*relation.name) {
            (names::SCHEMA, "truncates") => return Ok(Route::Truncates),
            (names::SCHEMA, "heartbeats") => return Ok(Route::Heartbeats),
            (names::SCHEMA, _) => return Ok(Route::Nowhere),
            (names::GONE, _) if self.stamp.is_some() => return Ok(Route::Nowhere),
            (names::GONE, name) => name.into(),
            _ => names::gone_name(&name(relation)).into_boxed_str(),
        };
        let tombstones = &*relation.schema == names::GONE;
        if relation.identity != ReplicaIdentity::Full {
            return Err(not_prepared(relation, "its REPLICA IDENTITY is not FULL"));
        }
        let wrong = |problem| not_prepared(relation, problem);
        // The last batch of a name is that of the table's newest form.
        if let Some(at) = self.tables.iter().rposition(|batch| *batch.gone() == *gone)
            && let Some(batch) = self.tables.get_mut(at)
            && batch.prepare(relation, tombstones, self.stamp.is_some()).map_err(wrong)?
        {
            return Ok(Route::Table { at, tombstones });
        }
        // What comes from now on, of rows and tombstones alike, goes to the new batch.
        self.routes.clear();
        self.last = None;
        let mut batch = TableBatch::new(gone);
        batch.prepare(relation, tombstones, self.stamp.is_some()).map_err(wrong)?;
        self.tables.push(batch);
        Ok(Route::Table { at: self.tables.len() - 1, tombstones })
    }

    fn truncated(&mut self, change: &ChangeRef<'_>) -> Result<(), GroupError> {
        let Some(row) = change.new_row() else { return Ok(()) };
        let table: String = value(&row, "rel")?;
        let stamp = Stamp::new(value(&row, names::STAMP)?, NodeId(value(&row, names::NODE)?));
        self.newest = self.newest.max(stamp.micros);
        self.bytes += table.len() + OVERHEAD;
        match self.truncates.iter_mut().find(|known| *known.rel == *table) {
            Some(known) => known.stamp = stamp.max(known.stamp),
            None => {
                let knew: Option<String> = value(&row, names::KNEW)?;
                let knew = knew.map(String::into_boxed_str);
                self.truncates.push(Truncated { rel: table.into(), stamp, knew });
            }
        }
        Ok(())
    }

    fn heartbeat(&mut self, change: &ChangeRef<'_>) -> Result<(), GroupError> {
        let Some(row) = change.new_row() else { return Ok(()) };
        let node: i16 = value(&row, "node")?;
        if NodeId(node) == self.source {
            let stamp: i64 = value(&row, names::STAMP)?;
            self.heartbeat = self.heartbeat.max(Some(stamp));
        }
        Ok(())
    }
}

fn name(relation: &Relation) -> TableName {
    TableName::new(&relation.schema, &relation.name)
}

fn not_prepared(relation: &Relation, problem: &'static str) -> GroupError {
    GroupError::NotPrepared { table: name(relation), problem }
}

fn value<T: FromField>(row: &Row<'_>, column: &str) -> Result<T, GroupError> {
    row.get(column).map_err(|_| not_prepared(row.relation(), "has not the columns it must have"))
}

#[cfg(test)]
mod tests;
