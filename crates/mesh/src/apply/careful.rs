//! A transaction one statement at a time: what it finds it locks before it looks, so that nobody can come between.

use super::fast::{Ends, Truncates, execute};
use super::params::Versions;
use super::statements::Kind;
use super::{Applied, Applier, State, Stopped};
use crate::group::{Group, TableBatch};

impl Applier {
    /// Applies groups in a transaction of its own or in the one that is open.
    pub(super) async fn careful(
        &mut self,
        groups: &[Group],
        durable: bool,
        state: State,
    ) -> Result<Applied, Stopped> {
        let mut applied = Applied::default();
        let (mut newest, mut rows, mut keys, mut transactions) = match state {
            State::Open { newest, rows, keys, transactions } => (newest, rows, keys, transactions),
            _ => {
                let begin = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '30s'";
                self.session.run("begin", begin).await?;
                (i64::MIN, 0, 0, 0)
            }
        };
        for group in groups {
            if let Some(truncates) = Truncates::of(std::slice::from_ref(group)) {
                let params = truncates.params();
                let sent = self.session.client.execute(&self.fixed.truncated, &params).await;
                sent.map_err(|error| self.stopped("apply a truncation", error))?;
            }
            for batch in &group.tables {
                rows += self.careful_batch(group, batch).await?;
            }
            for (rel, sql) in self.emptied(std::slice::from_ref(group)) {
                let emptied = self.session.client.batch_execute(&sql).await;
                emptied.map_err(|error| self.stopped(&format!("empty {rel}"), error))?;
            }
            self.mend(group).await?;
            self.settle(group).await?;
            newest = newest.max(group.newest);
            keys += i64::try_from(group.rows()).unwrap_or_default();
            transactions += i64::try_from(group.transactions).unwrap_or_default();
        }
        if self.held.is_some() || groups.last().is_some_and(|group| group.end.is_none()) {
            if self.held.is_some() {
                self.note_held(groups).await?;
            }
            self.state = State::Open { newest, rows, keys, transactions };
            self.remember(groups);
            return Ok(applied);
        }
        let mut ends = Ends::of(groups);
        ends.newest = newest;
        // What came in parts before this one is counted with it.
        ends.count_all(keys, transactions);
        let client = &self.session.client;
        if durable {
            self.session.run("commit", "SET LOCAL synchronous_commit = local").await?;
        }
        let moved = client.execute(&self.fixed.progress, &ends.params()).await;
        let moved = moved.map_err(|error| self.stopped("keep how far it is", error))?;
        self.moved(&ends, moved)?;
        let finish = ends.finish(self.counted);
        let finished = client.query_one(&self.fixed.finish, &finish.params()).await;
        let row = finished.map_err(|error| self.stopped("finish a transaction", error))?;
        let committed = client.batch_execute("COMMIT").await;
        committed.map_err(|error| self.stopped("commit", error))?;
        (applied.conflicts, self.counted) = self.counts(&row)?;
        (applied.rows, applied.durable) = (rows, durable);
        self.unsettled = false;
        self.remember(groups);
        Ok(applied)
    }

    /// Has rows show what the parts of their columns come to, as far as this brought any.
    async fn mend(&mut self, group: &Group) -> Result<(), Stopped> {
        for batch in group.tables.iter().filter(|batch| batch.rows().is_some()) {
            if self.tables.has_parts(batch.gone()) {
                self.step(group, batch, false, Kind::LockMended).await?;
                self.step(group, batch, false, Kind::Mend).await?;
            }
        }
        Ok(())
    }

    async fn careful_batch(&mut self, group: &Group, batch: &TableBatch) -> Result<u64, Stopped> {
        if group.source == self.member.id {
            if batch.tombstones().is_some() || !group.truncates.is_empty() {
                self.take_carefully(group, batch, false).await?;
            }
            for tombstones in [false, true] {
                self.forget(group, batch, tombstones).await?;
                self.step(group, batch, tombstones, Kind::Recheck).await?;
            }
            return Ok(0);
        }
        let mut rows = self.take_carefully(group, batch, true).await?;
        self.forget(group, batch, true).await?;
        self.step(group, batch, true, Kind::Lock).await?;
        rows += self.step(group, batch, true, Kind::Bury).await?;
        Ok(rows)
    }

    async fn take_carefully(
        &mut self,
        group: &Group,
        batch: &TableBatch,
        record: bool,
    ) -> Result<u64, Stopped> {
        if batch.rows().is_none() {
            return Ok(0);
        }
        let guarded = self.has_uniques(batch);
        if guarded {
            self.session.run("set a savepoint", "SAVEPOINT herdsman_batch").await?;
        }
        match self.take_steps(group, batch, record).await {
            Err(Stopped::Unique(_)) if guarded => {
                let back = "ROLLBACK TO SAVEPOINT herdsman_batch";
                self.session.run("go back to a savepoint", back).await?;
                let rows = self.take_rivals(group, batch, record).await?;
                self.session.run("release a savepoint", "RELEASE SAVEPOINT herdsman_batch").await?;
                Ok(rows)
            }
            Ok(rows) => {
                if guarded {
                    let release = "RELEASE SAVEPOINT herdsman_batch";
                    self.session.run("release a savepoint", release).await?;
                }
                Ok(rows)
            }
            stopped => stopped,
        }
    }

    async fn take_steps(
        &mut self,
        group: &Group,
        batch: &TableBatch,
        record: bool,
    ) -> Result<u64, Stopped> {
        self.forget(group, batch, false).await?;
        // What is free is taken; what is not is locked and stays as it is until the end; then one can look.
        let mut rows = self.step(group, batch, false, Kind::Fresh).await?;
        self.step(group, batch, false, Kind::Lock).await?;
        if record {
            self.step(group, batch, false, Kind::Clash).await?;
        }
        if self.is_renewed(batch) {
            self.step(group, batch, false, Kind::Clear).await?;
        }
        rows += self.step(group, batch, false, Kind::Upsert).await?;
        Ok(rows)
    }

    pub(super) async fn step(
        &mut self,
        group: &Group,
        batch: &TableBatch,
        tombstones: bool,
        kind: Kind,
    ) -> Result<u64, Stopped> {
        let rows = if tombstones { batch.tombstones() } else { batch.rows() };
        let Some(rows) = rows else { return Ok(0) };
        let versions = self.versions(batch.gone(), tombstones, rows);
        self.step_for(group, batch, &versions, tombstones, kind).await
    }

    pub(super) async fn step_for(
        &mut self,
        group: &Group,
        batch: &TableBatch,
        versions: &Versions<'_>,
        tombstones: bool,
        kind: Kind,
    ) -> Result<u64, Stopped> {
        let Some(ready) = self.ready(group, batch, tombstones, kind).await? else { return Ok(0) };
        let params = self.params(batch, versions, tombstones, kind, &ready.places);
        let done = execute(&self.session.client, &ready.statement, &params).await;
        done.map_err(|error| self.stopped(&format!("{} of {}", kind.what(), batch.gone()), error))
    }

    /// Whether rows are replaced whole: a column outside the key that counts itself cannot be updated.
    pub(super) fn is_renewed(&self, batch: &TableBatch) -> bool {
        self.tables.get(batch.gone()).is_some_and(|table| {
            table.written().any(|(at, column)| column.identity_always && !table.key.contains(&at))
        })
    }

    fn has_uniques(&self, batch: &TableBatch) -> bool {
        self.tables.get(batch.gone()).is_some_and(|table| !table.uniques.is_empty())
    }
}
