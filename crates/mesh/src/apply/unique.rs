//! Rows that claim a value of a unique constraint besides the key that another row has.
//!
//! Often that is only a matter of order: two rows that exchanged their values claim each other's while one is written
//! before the other. So what is replaced is deleted first, and then all come in. Where a row that stays has the value,
//! the configuration decides.
//!
//! `evict` keeps the rule that nodes with the same versions hold the same rows. The greatest versions of all keys are the
//! visible rows and those in `herdsman.evicted` together; visible is of these what one gets by going through them from the
//! latest to the earliest and taking each that does not clash with one taken already. Every node does that with the same
//! set of versions, whatever their order. It need not look at all of them: a visible row that clashes with no evicted one
//! stays visible, so the evicted ones and the rows they clash with are enough ([`settle`](Applier::settle)).

mod greedy;
mod texts;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::params::Versions;
use super::statements::Kind;
use super::{Applier, Stopped};
use crate::config::UniquePolicy;
use crate::error::MeshError;
use crate::group::{Group, TableBatch};
use crate::names;
use crate::stamp::{NodeId, Stamp};
use crate::table::Table;
use greedy::{Clashes, Row};

impl Applier {
    /// Takes a batch of which some rows claim values that others have.
    pub(super) async fn take_rivals(
        &mut self,
        group: &Group,
        batch: &TableBatch,
        record: bool,
    ) -> Result<u64, Stopped> {
        let Some(rows) = batch.rows() else { return Ok(0) };
        let Some(table) = self.tables.get(batch.gone()).map(Arc::clone) else { return Ok(0) };
        self.forget(group, batch, false).await?;
        self.step(group, batch, false, Kind::Lock).await?;
        if record {
            self.step(group, batch, false, Kind::Clash).await?;
        }
        self.step(group, batch, false, Kind::Clear).await?;
        let all = self.versions(batch.gone(), false, rows);
        let rivals = self.rivals(group, batch, &all).await?;
        if let (UniquePolicy::Halt, Some(rival)) = (self.unique, rivals.values().next()) {
            return Err(Stopped::Failed(self.halted(group, &table, rival)));
        }
        let numbers = all.numbers();
        let of = |clashing: bool| {
            let numbers = (0_u32..).zip(numbers.iter());
            let these = numbers.filter(|(at, _)| rivals.contains_key(at) == clashing);
            Versions::only(rows, these.map(|(_, number)| *number).collect())
        };
        let (peaceful, clashing) = (of(false), of(true));
        let mut count = self.step_for(group, batch, &peaceful, false, Kind::Upsert).await?;
        match self.unique {
            UniquePolicy::Evict => {
                count += self.step_for(group, batch, &clashing, false, Kind::Evict).await?;
                self.evicted.insert(table.name.to_string().into());
                let what = "record who keeps a unique value";
                let rel = table.name.to_string();
                let keys: Vec<&str> = rivals.values().map(|rival| &*rival.key).collect();
                for sql in texts::arrived(&table) {
                    self.session.rows(what, &sql, &[&rel, &keys]).await?;
                }
            }
            UniquePolicy::Log => {
                let rel = table.name.to_string();
                let what = "record a clash";
                for (at, rival) in &rivals {
                    let Some(number) = numbers.get(crate::group::index(*at)) else { continue };
                    let stamp = rows.stamp(*number);
                    let sql = texts::left_out();
                    self.session
                        .rows(
                            what,
                            &sql,
                            &[&rel, &rival.key, &rival.index, &stamp.micros, &stamp.node.0],
                        )
                        .await?;
                }
            }
            UniquePolicy::Halt => {}
        }
        Ok(count)
    }

    /// Rows of a batch, by their place in it, that claim what a row with another key has.
    async fn rivals(
        &mut self,
        group: &Group,
        batch: &TableBatch,
        versions: &Versions<'_>,
    ) -> Result<BTreeMap<u32, Rival>, Stopped> {
        let kind = Kind::Rivals;
        let Some(ready) = self.ready(group, batch, false, kind).await? else {
            return Ok(BTreeMap::new());
        };
        let params = self.params(batch, versions, false, kind, &ready.places);
        let params: Vec<_> = params.iter().map(|param| param as _).collect();
        let found = self.session.client.query(&ready.statement, &params).await;
        let found = found.map_err(|error| self.stopped(kind.what(), error))?;
        let mut rivals = BTreeMap::new();
        for row in found {
            let place: i32 = self.session.get(kind.what(), &row, 0)?;
            let rival = Rival {
                index: self.session.get(kind.what(), &row, 1)?,
                key: self.session.get(kind.what(), &row, 2)?,
                other: self.session.get(kind.what(), &row, 3)?,
            };
            if let Ok(place) = u32::try_from(place - 1) {
                rivals.entry(place).or_insert(rival);
            }
        }
        Ok(rivals)
    }

    fn halted(&self, group: &Group, table: &Table, rival: &Rival) -> MeshError {
        MeshError::refused(
            format!(
                "table {}: row {} from node `{}` and row {} of node `{}` have the same value in the unique index `{}`",
                table.name,
                rival.key,
                self.name(group.source),
                rival.other,
                self.member.name,
                rival.index
            ),
            "change or delete one of the two, on the node that has it; or set `unique: evict` in `mesh:`",
        )
    }

    /// Versions that wait and are less than those of a batch no longer count.
    pub(super) async fn forget(
        &mut self,
        group: &Group,
        batch: &TableBatch,
        tombstones: bool,
    ) -> Result<(), Stopped> {
        if self.has_evicted(batch) {
            self.step(group, batch, tombstones, Kind::Forget).await?;
        }
        Ok(())
    }

    /// Looks which tables have rows that wait for a value: a copy may have brought some.
    ///
    /// # Errors
    /// The statement failed.
    pub async fn look_at_evicted(&mut self) -> Result<(), MeshError> {
        let what = "see which rows wait";
        let sql = format!("SELECT DISTINCT rel FROM {}", names::own("evicted"));
        self.evicted.clear();
        for row in self.session.rows(what, &sql, &[]).await? {
            self.evicted.insert(self.session.get::<String>(what, &row, 0)?.into());
        }
        self.unsettled = !self.evicted.is_empty();
        Ok(())
    }

    /// Rows that wait for a value come in where they may, and such as have it and must not go out.
    pub(super) async fn settle(&mut self, group: &Group) -> Result<(), Stopped> {
        if self.evicted.is_empty() {
            return Ok(());
        }
        let batches = group.tables.iter().filter_map(|batch| self.tables.get(batch.gone()));
        let truncated = group.truncates.iter().filter_map(|of| self.tables.by_name(&of.rel));
        let mut tables: BTreeMap<String, Arc<Table>> = BTreeMap::new();
        for table in batches.chain(truncated) {
            tables.insert(table.name.to_string(), Arc::clone(table));
        }
        if self.unsettled {
            let all = self.evicted.iter().filter_map(|rel| self.tables.by_name(rel));
            tables.extend(all.map(|table| (table.name.to_string(), Arc::clone(table))));
        }
        for (rel, table) in tables {
            if self.evicted.contains(rel.as_str()) {
                self.settle_table(&rel, &table).await?;
            }
        }
        Ok(())
    }

    async fn settle_table(&mut self, rel: &String, table: &Table) -> Result<(), Stopped> {
        let what = "settle who has unique values";
        let session = &self.session;
        session.run(what, "SET LOCAL enable_hashjoin = on").await?;
        session.rows(what, &texts::emptied(), &[rel]).await?;
        let mut clashes = Clashes::default();
        for row in session.rows(what, &texts::waiting(), &[rel]).await? {
            let stamp =
                Stamp::new(session.get(what, &row, 1)?, NodeId(session.get(what, &row, 2)?));
            clashes.row(Row { key: session.get(what, &row, 0)?, stamp, visible: false });
        }
        if clashes.is_empty() {
            self.evicted.remove(rel.as_str());
            return Ok(());
        }
        for sql in texts::with_visible(table) {
            for row in session.rows(what, &sql, &[rel]).await? {
                let stamp =
                    Stamp::new(session.get(what, &row, 2)?, NodeId(session.get(what, &row, 3)?));
                let other = Row { key: session.get(what, &row, 1)?, stamp, visible: true };
                clashes.clash(session.get::<&str>(what, &row, 0)?, &other.key.clone());
                clashes.row(other);
            }
        }
        for sql in texts::with_waiting(table) {
            for row in session.rows(what, &sql, &[rel]).await? {
                clashes.clash(session.get(what, &row, 0)?, session.get(what, &row, 1)?);
            }
        }
        let (hide, show) = clashes.changes();
        if !hide.is_empty() {
            for sql in texts::displaced(table) {
                session.rows(what, &sql, &[rel, &hide, &show]).await?;
            }
            session.rows(what, &texts::hide(table), &[rel, &hide]).await?;
        }
        if !show.is_empty() {
            // In an order of its own: nothing of what is shown clashes by now.
            let shown = session.client.query(&texts::show(table), &[rel, &show]).await;
            // A local writer may just have taken the value; the next time it is looked at anew.
            if let Err(error) = shown {
                return match self.stopped(what, error) {
                    Stopped::Unique(error) => Err(Stopped::Again(error)),
                    other => Err(other),
                };
            }
        }
        Ok(())
    }
}

/// A row that claims what another has.
#[derive(Debug)]
struct Rival {
    index: String,
    /// Its key, and the other's, as JSON.
    key: String,
    other: String,
}
