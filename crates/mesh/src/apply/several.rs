//! Transactions of one member in one flight: each stays a transaction, and none waits for the answers to those before it.
//!
//! Each begins with noting how far the member is then, and that it was where the one before it has brought it. So once one
//! of them was not applied, the server refuses all behind it, and they are done again in their order.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::drained::Drained;
use super::fast::{Ends, Sent, Step, Truncates, Wanted, begin, simple};
use super::flight::{Answer, send};
use super::params::Param;
use super::{Applied, Applier, Stopped};
use crate::error::MeshError;
use crate::group::Group;

/// The most transactions of a flight: those behind one that has to be done again are sent again.
const MOST: usize = 64;

/// A transaction that is to be sent.
struct Ready<'g> {
    steps: Vec<Step<'g>>,
    truncates: Option<Truncates>,
    emptied: Vec<(Box<str>, String)>,
    moving: Moving,
    finishing: Finishing,
    begin: &'static str,
}

/// A transaction that was sent.
struct Flying<'a> {
    moved: Answer<'a, u64>,
    answers: Vec<Sent<'a>>,
    finished: Answer<'a, Row>,
    committed: Answer<'a, u64>,
}

/// What was applied of a flight.
#[derive(Default)]
pub(super) struct Flown {
    /// How many transactions.
    pub(super) done: usize,
    /// What they came to.
    pub(super) applied: Applied,
    /// Why the next one was not.
    pub(super) stopped: Option<Stopped>,
}

impl Applier {
    /// Applies the first of these in one flight, as many as may go together; how many it was, and what they came to. One
    /// that could not be applied is left, with all behind it, to be done by itself.
    pub(super) async fn several(
        &mut self,
        rest: &[&Group],
        durable: bool,
    ) -> Result<(usize, Applied), MeshError> {
        let together = rest.iter().take(self.together(rest)).copied();
        let flight: Vec<(&Group, i64)> =
            together.map_while(|group| Some((group, self.witness(group)?))).collect();
        if flight.len() < 2 {
            return Ok((0, Applied::default()));
        }
        let durable = durable && flight.len() == rest.len();
        let Flown { done, applied, stopped } = self.fly(&flight, durable).await?;
        if let Some(stopped) = stopped {
            let error = stopped.into_error();
            tracing::debug!(node = %self.member.name, %error, done, "applying one by one");
            self.session.run("roll back", "ROLLBACK").await?;
            self.clock.forget();
            self.look_at_memory().await?;
        }
        Ok((done, applied))
    }

    /// How many of these may be sent without waiting for anything in between. One that truncates is done by itself: it is
    /// rare, and goes through a whole table.
    fn together(&self, rest: &[&Group]) -> usize {
        let Some(first) = rest.first().filter(|first| first.source != self.member.id) else {
            return 0;
        };
        let may = |group: &&&Group| {
            let plain = group.source == first.source && group.truncates.is_empty();
            let end = group.end.filter(|_| plain);
            end.is_some_and(|end| !self.waits(group) || self.clock.is_past(end.time.unix_micros()))
        };
        rest.iter().take(MOST).take_while(may).count()
    }

    /// Whether the member's clock has to be past a transaction before it is applied.
    pub(super) fn waits(&self, group: &Group) -> bool {
        group.source != self.member.id && !group.is_empty()
    }

    /// The transaction whose commit time the server must still know; `None` where there is none that would do.
    pub(super) fn witness(&self, group: &Group) -> Option<i64> {
        let version = group.end.map_or(0, |end| end.time.unix_micros());
        if self.waits(group) { self.clock.witness(version) } else { Some(0) }
    }

    /// Applies transactions, each with its witness.
    pub(super) async fn fly(
        &mut self,
        flight: &[(&Group, i64)],
        durable: bool,
    ) -> Result<Flown, MeshError> {
        let mut ready: Vec<Ready<'_>> = Vec::with_capacity(flight.len());
        for (at, (group, witness)) in flight.iter().enumerate() {
            let before = ready.last().map(|before| before.finishing.lsn.clone());
            let durable = durable && at + 1 == flight.len();
            ready.push(self.get_ready(group, *witness, before, durable).await?);
        }
        let params: Vec<Vec<Vec<Param<'_>>>> =
            ready.iter().map(|one| self.all_params(&one.steps)).collect();
        let mut flying = Vec::with_capacity(ready.len());
        for (one, params) in ready.iter().zip(&params) {
            flying.push(self.send_one(one, params).await);
        }
        let mut flown = Flown::default();
        let mut last = None;
        for (one, sent) in ready.iter().zip(flying) {
            // All answers are taken, so that nothing is under way behind this.
            match sent.take().await {
                _ if flown.stopped.is_some() => {}
                Ok((moved, rows, row)) => {
                    self.moved(&one.moving.ends, moved)?;
                    flown.done += 1;
                    flown.applied.rows += rows;
                    last = Some(row);
                }
                Err((what, error)) => flown.stopped = Some(self.stopped(&what, error)),
            }
        }
        if let Some(row) = last {
            // Each says how many there are since the flight began.
            (flown.applied.conflicts, self.counted) = self.counts(&row)?;
        }
        flown.applied.durable = durable && flown.stopped.is_none();
        Ok(flown)
    }

    async fn get_ready<'g>(
        &mut self,
        group: &'g Group,
        witness: i64,
        before: Option<String>,
        durable: bool,
    ) -> Result<Ready<'g>, MeshError> {
        let groups = std::slice::from_ref(group);
        let wanted = self.logged_steps(group, false).into_iter();
        let wanted = wanted
            .filter_map(|(batch, kind, tombstones)| Wanted::all(group, batch, (kind, tombstones)));
        let wanted = wanted.collect();
        let ends = Ends::of(groups);
        Ok(Ready {
            steps: self.steps(wanted).await?,
            truncates: Truncates::of(groups),
            emptied: self.emptied(groups),
            finishing: self.finishing(&ends, group, witness),
            moving: Moving::of(ends, before),
            begin: begin(durable),
        })
    }

    async fn send_one<'s>(
        &'s self,
        one: &'s Ready<'_>,
        params: &'s [Vec<Param<'_>>],
    ) -> Flying<'s> {
        let (client, fixed) = (&self.session.client, &self.fixed);
        let mut answers: Vec<Sent<'s>> = Vec::with_capacity(one.steps.len() + 4);
        answers.push(("begin".to_owned(), false, send(simple(client, one.begin)).await));
        let moved =
            send(async { client.execute(&fixed.progress, &one.moving.params()).await }).await;
        if let Some(truncates) = &one.truncates {
            let sent = send(async { client.execute(&fixed.truncated, &truncates.params()).await });
            answers.push(("apply a truncation".to_owned(), false, sent.await));
        }
        // Before what the transaction has written since.
        for (rel, sql) in &one.emptied {
            answers.push((format!("empty {rel}"), true, send(simple(client, sql)).await));
        }
        self.send_all(&one.steps, params, &mut answers).await;
        let finished =
            send(async { client.query_one(&fixed.finish, &one.finishing.params()).await }).await;
        let committed = send(simple(client, "COMMIT")).await;
        Flying { moved, answers, finished, committed }
    }

    pub(super) fn finishing(&self, ends: &Ends, group: &Group, witness: i64) -> Finishing {
        let (lsn, time) = ends.position();
        Finishing { lsn, time, counted: self.counted, waits: self.waits(group), witness }
    }
}

impl Flying<'_> {
    /// Sources that moved, rows that were applied, and what the transaction says; or what failed first.
    async fn take(self) -> Result<(u64, u64, Row), (String, tokio_postgres::Error)> {
        let moved =
            self.moved.take().await.map_err(|error| ("keep how far it is".to_owned(), error));
        let (moved, mut first) = match moved {
            Ok(moved) => (moved, None),
            Err(failed) => (0, Some(failed)),
        };
        let mut rows = 0;
        for (what, counts, answer) in self.answers {
            match answer.take().await {
                Ok(count) => rows += if counts { count } else { 0 },
                Err(error) => {
                    first.get_or_insert((what, error));
                }
            }
        }
        let finished = self.finished.take().await;
        let committed = self.committed.take().await;
        if let Some(first) = first {
            return Err(first);
        }
        let row = finished.map_err(|error| ("finish a transaction".to_owned(), error))?;
        committed.map_err(|error| ("commit".to_owned(), error))?;
        Ok((moved, rows, row))
    }
}

/// The parameters of the statement that notes how far the member is.
pub(super) struct Moving {
    pub(super) ends: Ends,
    /// For each source, how far it has to have been before; `None`: that is not asked.
    before: Vec<Option<String>>,
}

impl Moving {
    pub(super) fn of(ends: Ends, before: Option<String>) -> Self {
        let before = vec![before; ends.sources.len()];
        Self { ends, before }
    }

    pub(super) fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        let mut params = self.ends.params().to_vec();
        params.push(&self.before);
        params
    }
}

/// The parameters of the statement that finishes a transaction.
pub(super) struct Finishing {
    lsn: String,
    time: i64,
    counted: i64,
    waits: bool,
    witness: i64,
}

impl Finishing {
    /// Of a transaction that was held for `mesh ddl`: its time is that of the greatest version that was applied in it, which
    /// the clock is past.
    pub(super) fn held(ends: &Ends, drained: &Drained, counted: i64) -> Self {
        let (lsn, _) = ends.position();
        let time = drained.newest.map_or(0, |newest| newest.micros);
        Self { lsn, time, counted, waits: false, witness: drained.witness }
    }

    pub(super) fn params(&self) -> [&(dyn ToSql + Sync); 5] {
        [&self.lsn, &self.time, &self.waits, &self.counted, &self.witness]
    }
}
