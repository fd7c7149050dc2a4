//! Changes of tables to which nothing is added: what the log itself tells of them.
//!
//! Every transaction stays by itself, since its commit time and origin are the version of all that it wrote. Deletions and
//! truncations are read as such, and the change of a key as the deletion of the old one and an insertion.

use std::sync::Arc;

use herdsman_wal::decode::{Old, Tuple};
use herdsman_wal::{Body, ChangeRef, Relation};

use super::{End, Group, GroupError, OVERHEAD, Route, TableBatch, Truncated, name};
use crate::names;
use crate::stamp::{NodeId, Stamp};

/// How changes without stamps of their own are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logged {
    /// They have stamps of their own.
    No,
    /// Transactions one by one.
    Apart,
    /// All as one.
    Together,
}

impl Group {
    /// An empty group of changes to tables without stamps: of transactions one by one ([`Group::each`]), since each has to be
    /// one where it is applied, too.
    #[must_use]
    pub fn logged(source: NodeId) -> Self {
        Self { logged: Logged::Apart, ..Self::new(source) }
    }

    /// The same of what a member reads of its own. No row is written from it, so that transactions may be taken together.
    #[must_use]
    pub fn logged_own(source: NodeId) -> Self {
        Self { logged: Logged::Together, ..Self::new(source) }
    }

    /// The transactions that have to be applied one by one, or all as one.
    #[must_use]
    pub fn each(&self) -> &[Self] {
        if self.logged == Logged::Apart { &self.apart } else { std::slice::from_ref(self) }
    }

    /// All batches, whatever transactions they are of.
    pub(crate) fn batches(&self) -> impl Iterator<Item = &TableBatch> {
        self.each().iter().flat_map(|group| &group.tables)
    }

    /// Leaves out what is of one table.
    pub(crate) fn leave_out(&mut self, gone: &str) {
        for group in self.apart.iter_mut() {
            group.tables.retain(|batch| batch.gone() != gone);
        }
        self.tables.retain(|batch| batch.gone() != gone);
    }

    pub(super) fn push_logged(&mut self, change: &ChangeRef<'_>) -> Result<(), GroupError> {
        self.end = None;
        self.changes += 1;
        let stamp = Stamp::new(change.transaction.commit_time.unix_micros(), self.source);
        if self.logged == Logged::Together {
            self.stamp = Some(stamp);
            let xid = change.transaction.xid;
            if self.xids.last() != Some(&xid) {
                self.xids.push(xid);
            }
            return self.take(change);
        }
        self.begin(stamp);
        let Some(part) = self.apart.last_mut() else { return Ok(()) };
        let before = part.bytes;
        let taken = part.take(change);
        // What a TRUNCATE took out of it may be more than what came.
        self.bytes += part.bytes.saturating_sub(before);
        taken
    }

    pub(super) fn commit_logged(&mut self, end: End) {
        if self.logged != Logged::Apart {
            return;
        }
        self.begin(Stamp::new(end.time.unix_micros(), self.source));
        let Some(mut last) = self.apart.pop() else { return };
        (last.transactions, last.end) = (1, Some(end));
        match self.apart.last_mut() {
            // Of transactions without changes of ours it only matters that they have been read.
            Some(before) if last.is_empty() && before.is_empty() => {
                before.heartbeat = before.heartbeat.max(last.heartbeat);
                before.transactions += 1;
                before.end = last.end;
            }
            _ => self.apart.push(last),
        }
    }

    /// Begins a transaction, unless one is being read.
    fn begin(&mut self, stamp: Stamp) {
        if self.apart.last().is_none_or(|group| group.end.is_some()) {
            self.apart.push(Self { stamp: Some(stamp), ..Self::new(self.source) });
        }
    }

    fn take(&mut self, change: &ChangeRef<'_>) -> Result<(), GroupError> {
        match change.body {
            Body::Insert { table, new } => self.row(change, table, new, None),
            Body::Update { table, new, old } => self.row(change, table, new, old),
            Body::Delete { table, old } => match self.route(table)? {
                Route::Table { at, .. } => self.deleted(at, table, old.tuple()),
                _ => Ok(()),
            },
            Body::Truncate { tables, .. } => {
                tables.iter().try_for_each(|table| self.emptied(table))
            }
            _ => Ok(()),
        }
    }

    fn row(
        &mut self,
        change: &ChangeRef<'_>,
        table: &Arc<Relation>,
        new: Tuple<'_>,
        old: Option<Old<'_>>,
    ) -> Result<(), GroupError> {
        let at = match self.route(table)? {
            Route::Table { at, .. } => at,
            Route::Heartbeats => return self.heartbeat(change),
            Route::Truncates | Route::Nowhere => return Ok(()),
        };
        let old = old.filter(|old| matches!(old, Old::Full(_))).map(Old::tuple);
        if let Some(old) = old.filter(|old| has_moved(table, *old, new)) {
            self.deleted(at, table, old)?;
        }
        self.version(at, false, table, new, old)
    }

    fn deleted(
        &mut self,
        at: usize,
        table: &Arc<Relation>,
        old: Tuple<'_>,
    ) -> Result<(), GroupError> {
        if let Some(batch) = self.tables.get_mut(at) {
            let wrong = |problem| super::not_prepared(table, problem);
            batch.prepare(table, true, true).map_err(wrong)?;
        }
        self.version(at, true, table, old, Some(old))
    }

    /// A table was emptied: what the transaction had written to it before is gone with the rest.
    fn emptied(&mut self, table: &Arc<Relation>) -> Result<(), GroupError> {
        if [names::SCHEMA, names::GONE].contains(&&*table.schema) {
            return Ok(());
        }
        let Some(stamp) = self.stamp else { return Ok(()) };
        let rel = name(table).to_string();
        let gone = names::gone_name(&name(table));
        self.tables.retain(|batch| *batch.gone() != *gone);
        self.routes.clear();
        self.last = None;
        self.bytes += rel.len() + OVERHEAD;
        match self.truncates.iter_mut().find(|known| *known.rel == *rel) {
            Some(known) => known.stamp = stamp.max(known.stamp),
            None => self.truncates.push(Truncated { rel: rel.into(), stamp, knew: None }),
        }
        Ok(())
    }
}

/// Whether two rows have different keys, as far as their texts tell.
fn has_moved(table: &Relation, old: Tuple<'_>, new: Tuple<'_>) -> bool {
    let columns = table.columns.iter().zip(old.iter().zip(new.iter()));
    columns.into_iter().any(|(column, (old, new))| {
        column.primary && new != herdsman_wal::decode::Field::Unchanged && old != new
    })
}
