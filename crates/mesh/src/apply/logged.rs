//! Applying to tables to which nothing is added: one transaction of another member is one here, with that one's commit time
//! and origin, and what a member reads of its own is only looked at.
//!
//! Transactions go in flights ([`super::several`]). Before each COMMIT the server is asked whether its clock is past the
//! commit time, and whether it still knows enough commit times for what it has forgotten to be older; it refuses to go on
//! otherwise, and it is waited for, or looked at more closely.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::fast::{Ends, Truncates};
use super::several::Moving;
use super::statements::Kind;
use super::{Applied, Applier, CAREFUL, FAST, State, Stopped, pause};
use crate::error::MeshError;
use crate::group::{Group, TableBatch};

/// What is done with a batch: the statement, and whether it is for its tombstones.
type Step<'a> = (&'a TableBatch, Kind, bool);

/// How long it is waited until a member's own transactions are seen: everything else waits behind it.
const SEEN: Duration = Duration::from_secs(5);

impl Applier {
    /// Applies transactions one after another. Only the last may be incomplete; then its transaction stays open.
    pub(super) async fn one_by_one(
        &mut self,
        groups: &[Group],
        durable: bool,
        mut state: State,
    ) -> Result<Applied, MeshError> {
        let mut applied = Applied::default();
        let all: Vec<&Group> = groups.iter().flat_map(Group::each).collect();
        let mut rest = all.as_slice();
        while let Some(group) = rest.first() {
            if state == State::Ready {
                self.look_at_memory().await?;
                self.mark(group.source).await?;
                let (done, several) = self.several(rest, durable).await?;
                applied.add(several);
                if done > 0 {
                    rest = rest.get(done..).unwrap_or_default();
                    continue;
                }
            }
            let durable = durable && rest.len() == 1;
            let one = Box::pin(self.transaction(group, durable, state)).await?;
            applied.add(one);
            // Where it stays open it is what the next one goes on with.
            state = match std::mem::replace(&mut self.state, State::Unusable) {
                State::Open { newest, rows, keys, transactions } => {
                    State::Open { newest, rows, keys, transactions }
                }
                _ => State::Ready,
            };
            rest = rest.get(1..).unwrap_or_default();
        }
        if state != State::Ready {
            self.state = state;
        }
        Ok(applied)
    }

    async fn transaction(
        &mut self,
        group: &Group,
        durable: bool,
        state: State,
    ) -> Result<Applied, MeshError> {
        let complete = group.end.is_some();
        let fast = if state == State::Ready && complete { FAST } else { 0 };
        if state == State::Ready && !group.xids.is_empty() {
            self.until_seen(&group.xids).await?;
        }
        let mut attempt = 0;
        loop {
            if self.waits(group) {
                self.wait_out(group).await?;
            }
            let outcome = match self.witness(group) {
                Some(witness) if attempt < fast => {
                    let flown = self.fly(&[(group, witness)], durable).await?;
                    flown.stopped.map_or(Ok(flown.applied), Err)
                }
                witness => self.step_by_step(group, durable, state, witness).await,
            };
            match outcome {
                Ok(applied) => return Ok(applied),
                Err(Stopped::Again(error)) if state == State::Ready && attempt < FAST + CAREFUL => {
                    tracing::debug!(node = %self.member.name, %error, "applying again");
                    self.session.run("roll back", "ROLLBACK").await?;
                    self.clock.forget();
                    self.look_at_memory().await?;
                    pause(attempt).await;
                }
                // Only one row at a time tells which it is.
                Err(Stopped::Unique(_)) if attempt < fast => attempt = fast,
                Err(stopped) => return Err(stopped.into_error()),
            }
            attempt += 1;
        }
    }

    /// Waits until the member's own transactions are seen by others: one is in the log a moment before, and for as long as a
    /// synchronous standby takes. What is looked for too early is not there to be looked at again.
    async fn until_seen(&self, xids: &[u32]) -> Result<(), MeshError> {
        let what = "see whether its own transactions have ended";
        // It is let go when the transaction is seen.
        let sql = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'transactionid' AND transactionid::text = ANY ($1))";
        let xids: Vec<String> = xids.iter().map(ToString::to_string).collect();
        let until = Instant::now() + SEEN;
        while self.session.get(what, &self.session.row(what, sql, &[&xids]).await?, 0)? {
            if Instant::now() >= until {
                tracing::warn!(node = %self.member.name, "transactions are in its log and not seen yet (a synchronous standby?): what they wrote is not looked at again");
                return Ok(());
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// What is done with a group's batches, in order.
    pub(super) fn logged_steps<'g>(&self, group: &'g Group, careful: bool) -> Vec<Step<'g>> {
        let mut steps = Vec::new();
        for batch in &group.tables {
            let kinds: &[(Kind, bool)] = if group.source == self.member.id {
                // Deletions are on no other record here. Rows are all there, or something later is.
                &[(Kind::Bury, true), (Kind::Recheck, false), (Kind::Recheck, true)]
            } else if careful {
                &[(Kind::Lock, true), (Kind::Bury, true), (Kind::Lock, false), (Kind::Clash, false)]
            } else if self.is_renewed(batch) {
                &[
                    (Kind::Bury, true),
                    (Kind::Clash, false),
                    (Kind::Clear, false),
                    (Kind::Put, false),
                ]
            } else {
                &[(Kind::Bury, true), (Kind::Take, false)]
            };
            let has = |tombstones: bool| {
                let rows = if tombstones { batch.tombstones() } else { batch.rows() };
                rows.is_some()
            };
            steps.extend(
                kinds.iter().filter(|(_, of)| has(*of)).map(|(kind, of)| (batch, *kind, *of)),
            );
        }
        steps
    }

    /// One statement at a time, what it changes locked first. Without a witness every held row's commit time must be known.
    async fn step_by_step(
        &mut self,
        group: &Group,
        durable: bool,
        state: State,
        witness: Option<i64>,
    ) -> Result<Applied, Stopped> {
        let groups = std::slice::from_ref(group);
        let mut applied = Applied::default();
        let (mut rows, mut keys, mut transactions) = match state {
            State::Open { rows, keys, transactions, .. } => (rows, keys, transactions),
            _ => {
                let begin = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '30s'";
                self.session.run("begin", begin).await?;
                (0, 0, 0)
            }
        };
        self.begin_drained(group, witness)?;
        if let Some(truncates) = Truncates::of(groups) {
            let params = truncates.params();
            let sent = self.session.client.execute(&self.fixed.truncated, &params).await;
            sent.map_err(|error| self.stopped("apply a truncation", error))?;
        }
        for (rel, sql) in self.emptied(groups) {
            let emptied = self.session.client.batch_execute(&sql).await;
            emptied.map_err(|error| self.stopped(&format!("empty {rel}"), error))?;
        }
        if witness.is_none() {
            self.nothing_forgotten(group).await?;
        }
        for (batch, kind, tombstones) in self.logged_steps(group, true) {
            let count = self.step(group, batch, tombstones, kind).await?;
            rows += if kind == Kind::Bury { count } else { 0 };
        }
        if group.source != self.member.id {
            for batch in group.tables.iter().filter(|batch| batch.rows().is_some()) {
                rows += self.put_carefully(group, batch).await?;
            }
        }
        keys += i64::try_from(group.rows()).unwrap_or_default();
        transactions += i64::try_from(group.transactions).unwrap_or_default();
        if self.held.is_some() || group.end.is_none() {
            if self.held.is_some() {
                self.note_held(groups).await?;
            }
            self.state = State::Open { newest: i64::MIN, rows, keys, transactions };
            return Ok(applied);
        }
        let mut ends = Ends::of(groups);
        ends.count_all(keys, transactions);
        if durable {
            self.session.run("commit", "SET LOCAL synchronous_commit = local").await?;
        }
        let client = &self.session.client;
        let finish = self.finishing(&ends, group, witness.unwrap_or_default());
        let moving = Moving::of(ends, None);
        let moved = client.execute(&self.fixed.progress, &moving.params()).await;
        let moved = moved.map_err(|error| self.stopped("keep how far it is", error))?;
        self.moved(&moving.ends, moved)?;
        let finished = client.query_one(&self.fixed.finish, &finish.params()).await;
        let row = finished.map_err(|error| self.stopped("finish a transaction", error))?;
        let committed = client.batch_execute("COMMIT").await;
        committed.map_err(|error| self.stopped("commit", error))?;
        (applied.conflicts, self.counted) = self.counts(&row)?;
        (applied.rows, applied.durable) = (rows, durable);
        Ok(applied)
    }

    /// Rows that claim each other's values of another unique constraint come in once what they replace has gone.
    async fn put_carefully(&mut self, group: &Group, batch: &TableBatch) -> Result<u64, Stopped> {
        let unique = self.tables.get(batch.gone()).is_some_and(|table| !table.uniques.is_empty());
        if unique {
            return self.take_rivals(group, batch, false).await;
        }
        if self.is_renewed(batch) {
            self.step(group, batch, false, Kind::Clear).await?;
        }
        self.step(group, batch, false, Kind::Upsert).await
    }

    /// That the server knows the commit time of all rows that are held of a transaction's keys.
    async fn nothing_forgotten(&mut self, group: &Group) -> Result<(), Stopped> {
        let mut all = Vec::new();
        for batch in &group.tables {
            for tombstones in [false, true] {
                let rows = self.step(group, batch, tombstones, Kind::Forgotten).await?;
                all.push((batch.gone().to_owned(), rows));
            }
        }
        for truncated in &group.truncates {
            let Some(table) = self.tables.by_name(&truncated.rel) else { continue };
            let sql = format!(
                "SELECT count(*) FROM {} WHERE pg_xact_commit_timestamp(xmin) IS NULL",
                table.name.quoted()
            );
            let row = self.session.row("look for forgotten commit times", &sql, &[]).await?;
            let rows: i64 = self.session.get("look for forgotten commit times", &row, 0)?;
            all.push((truncated.rel.to_string(), rows.unsigned_abs()));
        }
        match all.into_iter().find(|(_, rows)| *rows > 0) {
            None => Ok(()),
            Some((table, rows)) => Err(Stopped::Failed(self.too_late(group, &table, rows))),
        }
    }

    fn too_late(&self, group: &Group, table: &str, rows: u64) -> MeshError {
        MeshError::refused(
            format!(
                "node `{}`: what comes from `{}` for {table} is so late that it cannot be told whether {rows} of the rows there are older: PostgreSQL has forgotten when they were written (VACUUM has frozen them)",
                self.member.name,
                self.name(group.source),
            ),
            "write the rows it is about there once more (`UPDATE … SET v = v`): that is later than what waits, and it goes on; what is meant to be replaced is written there as it should be",
        )
    }
}
