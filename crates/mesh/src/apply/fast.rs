//! A transaction in one flight.

use std::collections::BTreeMap;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

use super::flight::{Answer, send};
use super::params::{Param, Versions};
use super::statements::{Kind, Statements};
use super::tables::Ready;
use super::{Applied, Applier, Stopped};
use crate::error::MeshError;
use crate::group::{End, Group, TableBatch, Truncated};
use crate::stamp::NodeId;

/// A statement to be sent, with the versions it is for.
pub(super) struct Step<'a> {
    pub(super) batch: &'a TableBatch,
    pub(super) kind: Kind,
    pub(super) tombstones: bool,
    ready: Ready,
    pub(super) versions: Versions<'a>,
}

/// What is to be done with versions of a batch.
pub(super) struct Wanted<'a> {
    pub(super) group: &'a Group,
    pub(super) batch: &'a TableBatch,
    pub(super) kind: Kind,
    pub(super) tombstones: bool,
    pub(super) versions: Versions<'a>,
}

impl<'a> Wanted<'a> {
    /// With all of its rows, or its tombstones; none if there are none.
    pub(super) fn all(
        group: &'a Group,
        batch: &'a TableBatch,
        (kind, tombstones): (Kind, bool),
    ) -> Option<Self> {
        let rows = if tombstones { batch.tombstones() } else { batch.rows() };
        let versions = Versions::new(rows?);
        Some(Self { group, batch, kind, tombstones, versions })
    }
}

/// A statement that was sent: what it does, and whether the rows it says count as applied.
pub(super) type Sent<'a> = (String, bool, Answer<'a, u64>);

impl Applier {
    pub(super) async fn fast(
        &mut self,
        groups: &[Group],
        durable: bool,
    ) -> Result<Applied, Stopped> {
        let mut wanted = Vec::new();
        for (group, batch) in batches(groups) {
            let kinds = kinds(group, batch, self.member.id, self.is_renewed(batch));
            wanted.extend(kinds.into_iter().filter_map(|kind| Wanted::all(group, batch, kind)));
        }
        wanted.extend(self.to_mend(groups));
        let steps = self.steps(wanted).await?;
        let params = self.all_params(&steps);
        let truncates = Truncates::of(groups);
        let ends = self.ends(groups);
        let emptied = self.emptied(groups);
        let client = &self.session.client;
        let mut answers: Vec<Sent<'_>> = Vec::with_capacity(steps.len() + 4);
        answers.push(("begin".to_owned(), false, send(simple(client, begin(durable))).await));
        if let Some(truncates) = &truncates {
            let sent =
                send(async { client.execute(&self.fixed.truncated, &truncates.params()).await });
            answers.push(("apply a truncation".to_owned(), false, sent.await));
        }
        self.send_all(&steps, &params, &mut answers).await;
        for (rel, sql) in &emptied {
            answers.push((format!("empty {rel}"), true, send(simple(client, sql)).await));
        }
        let (rows, row) = self.close(answers, ends).await?;
        let (conflicts, counted) = self.counts(&row)?;
        self.counted = counted;
        self.remember(groups);
        Ok(Applied { rows, conflicts, durable })
    }

    /// Tables whose columns are kept in parts show what those come to, when all parts are there.
    pub(super) fn to_mend<'g>(&self, groups: &'g [Group]) -> Vec<Wanted<'g>> {
        let parts = batches(groups).filter(|(_, batch)| self.tables.has_parts(batch.gone()));
        parts.filter_map(|(group, batch)| Wanted::all(group, batch, (Kind::Mend, false))).collect()
    }

    /// The statements for what is to be done.
    pub(super) async fn steps<'g>(
        &mut self,
        wanted: Vec<Wanted<'g>>,
    ) -> Result<Vec<Step<'g>>, MeshError> {
        let mut steps = Vec::with_capacity(wanted.len());
        for Wanted { group, batch, kind, tombstones, versions } in wanted {
            if let Some(ready) = self.ready(group, batch, tombstones, kind).await? {
                steps.push(Step { batch, kind, tombstones, ready, versions });
            }
        }
        Ok(steps)
    }

    /// Their parameters.
    pub(super) fn all_params<'s>(&self, steps: &'s [Step<'_>]) -> Vec<Vec<Param<'s>>> {
        let params = |step: &'s Step<'_>| {
            let places = &step.ready.places;
            self.params(step.batch, &step.versions, step.tombstones, step.kind, places)
        };
        steps.iter().map(params).collect()
    }

    /// Sends them.
    pub(super) async fn send_all<'s>(
        &'s self,
        steps: &'s [Step<'_>],
        params: &'s [Vec<Param<'_>>],
        answers: &mut Vec<Sent<'s>>,
    ) {
        for (step, params) in steps.iter().zip(params) {
            let what = format!("{} of {}", step.kind.what(), step.batch.gone());
            let counts = !matches!(
                step.kind,
                Kind::Recheck | Kind::Clash | Kind::Clear | Kind::Drop | Kind::Mend
            );
            let sent = send(execute(&self.session.client, &step.ready.statement, params)).await;
            answers.push((what, counts, sent));
        }
    }

    /// When it is its turn: sends what ends a transaction, and takes the answers to it and to all that was sent before: the rows that were
    /// applied, and what the transaction says.
    pub(super) async fn close(
        &self,
        answers: Vec<Sent<'_>>,
        ends: Ends,
    ) -> Result<(u64, tokio_postgres::Row), Stopped> {
        self.turn().await?;
        let (client, ends) = (&self.session.client, &ends);
        let note = self.fixed.lane.as_ref().unwrap_or(&self.fixed.progress);
        let moved = send(async { client.execute(note, &ends.params()).await }).await;
        let finishing = ends.finish(self.counted);
        let finished =
            send(async { client.query_one(&self.fixed.finish, &finishing.params()).await }).await;
        let committed = send(simple(client, "COMMIT")).await;

        let (mut rows, mut first) = (0, None);
        for (what, counts, answer) in answers {
            match answer.take().await {
                Ok(count) if counts => rows += count,
                Ok(_) => {}
                Err(error) => {
                    first.get_or_insert((what, error));
                }
            }
        }
        let moved = moved.take().await.map_err(|error| ("keep how far it is", error));
        let finished = finished.take().await.map_err(|error| ("finish a transaction", error));
        let committed = committed.take().await.map_err(|error| ("commit", error));
        if let Some((what, error)) = first {
            return Err(self.stopped(&what, error));
        }
        let moved = moved.map_err(|(what, error)| self.stopped(what, error))?;
        let row = finished.map_err(|(what, error)| self.stopped(what, error))?;
        committed.map_err(|(what, error)| self.stopped(what, error))?;
        self.moved(ends, moved)?;
        Ok((rows, row))
    }

    /// What a finished transaction says: new conflicts, and the last one.
    pub(super) fn counts(&self, row: &tokio_postgres::Row) -> Result<(u64, i64), MeshError> {
        let what = "finish a transaction";
        let conflicts: i64 = self.session.get(what, row, 2)?;
        let counted: i64 = self.session.get(what, row, 3)?;
        Ok((u64::try_from(conflicts).unwrap_or_default(), counted))
    }

    /// That each source has its row in `herdsman.progress`: else it would all be read again for ever.
    pub(super) fn moved(&self, ends: &Ends, moved: u64) -> Result<(), MeshError> {
        if moved == ends.sources.len() as u64 {
            return Ok(());
        }
        Err(MeshError::refused(
            format!(
                "node `{}`: herdsman.progress has no row for one of the members {:?}",
                self.member.name, ends.sources
            ),
            "run `herdsman mesh up`",
        ))
    }

    /// Statements that delete what truncations have left, by table.
    pub(super) fn emptied(&self, groups: &[Group]) -> Vec<(Box<str>, String)> {
        let mut emptied = Vec::new();
        for group in groups {
            for Truncated { rel, stamp, .. } in &group.truncates {
                if let Some(table) = self.tables.by_name(rel) {
                    let own = group.source == self.member.id;
                    let statements = Statements::new(table, &[], self.member.id);
                    emptied.push((rel.clone(), statements.empty(own, *stamp)));
                }
            }
        }
        emptied
    }
}

pub(super) fn batches(groups: &[Group]) -> impl Iterator<Item = (&Group, &TableBatch)> {
    groups.iter().flat_map(|group| group.tables.iter().map(move |batch| (group, batch)))
}

/// What is done with a batch, in order. `renewed`: rows of the table are replaced whole.
pub(super) fn kinds(
    group: &Group,
    batch: &TableBatch,
    own: NodeId,
    renewed: bool,
) -> Vec<(Kind, bool)> {
    let clear = renewed.then_some((Kind::Clear, false));
    let mut kinds = Vec::new();
    if group.source != own {
        match clear {
            Some(clear) => kinds.extend([(Kind::Clash, false), clear, (Kind::Put, false)]),
            None => kinds.push((Kind::Take, false)),
        }
        kinds.push((Kind::Bury, true));
        return kinds;
    }
    // Only where something went can something of it be missing.
    if batch.tombstones().is_some() || !group.truncates.is_empty() {
        kinds.extend(clear);
        kinds.push((Kind::Put, false));
    }
    kinds.extend([(Kind::Recheck, false), (Kind::Recheck, true)]);
    kinds
}

/// What begins a transaction.
pub(super) const fn begin(durable: bool) -> &'static str {
    if durable {
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL synchronous_commit = local"
    } else {
        "BEGIN ISOLATION LEVEL REPEATABLE READ"
    }
}

/// Runs statements that have no parameters.
pub(crate) async fn simple(client: &Client, sql: &str) -> Result<u64, Error> {
    client.batch_execute(sql).await.map(|()| 0)
}

/// Runs a statement for a batch.
pub(super) async fn execute(
    client: &Client,
    statement: &Statement,
    params: &[Param<'_>],
) -> Result<u64, Error> {
    let params: Vec<&(dyn ToSql + Sync)> =
        params.iter().map(|param| param as &(dyn ToSql + Sync)).collect();
    client.execute(statement, &params).await
}

/// The truncations of groups as parameters.
pub(super) struct Truncates {
    rel: Vec<String>,
    stamps: Vec<i64>,
    nodes: Vec<i16>,
    knew: Vec<Option<String>>,
}

impl Truncates {
    pub(super) fn of(groups: &[Group]) -> Option<Self> {
        let mut greatest = BTreeMap::new();
        for truncated in groups.iter().flat_map(|group| &group.truncates) {
            let known = greatest.entry(&truncated.rel).or_insert(truncated);
            if known.stamp < truncated.stamp {
                *known = truncated;
            }
        }
        let rel = greatest.keys().map(|rel| rel.to_string()).collect();
        let stamps = greatest.values().map(|of| of.stamp.micros).collect();
        let nodes = greatest.values().map(|of| of.stamp.node.0).collect();
        let knew = greatest.values().map(|of| of.knew.as_deref().map(str::to_owned)).collect();
        (!greatest.is_empty()).then_some(Self { rel, stamps, nodes, knew })
    }

    pub(super) fn params(&self) -> [&(dyn ToSql + Sync); 4] {
        [&self.rel, &self.stamps, &self.nodes, &self.knew]
    }
}

/// How far a group brings its source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    source: NodeId,
    end: Option<End>,
    heartbeat: i64,
    rows: i64,
    transactions: i64,
    newest: i64,
}

impl Reach {
    pub(super) fn of(group: &Group) -> Self {
        Self {
            source: group.source,
            end: group.end,
            heartbeat: group.heartbeat.unwrap_or_default(),
            rows: whole(group.rows() as u64),
            transactions: whole(group.transactions),
            newest: group.newest,
        }
    }
}

/// How far groups bring each source, as parameters.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) sources: Vec<i16>,
    lsn: Vec<String>,
    commit_lsn: Vec<String>,
    heartbeats: Vec<i64>,
    committed: Vec<i64>,
    rows: Vec<i64>,
    transactions: Vec<i64>,
    last: Option<End>,
    pub(super) newest: i64,
}

/// The parameters of the statement that finishes a transaction.
pub(super) struct Finish {
    lsn: String,
    time: i64,
    newest: i64,
    counted: i64,
}

impl Ends {
    pub(super) fn of(groups: &[Group]) -> Self {
        Self::of_all(groups.iter().map(Reach::of))
    }

    /// Of what groups come to, in their order.
    pub(super) fn of_all(groups: impl Iterator<Item = Reach>) -> Self {
        let mut by_source: BTreeMap<i16, (End, i64, i64, i64)> = BTreeMap::new();
        let mut ends = Self { newest: i64::MIN, ..Self::default() };
        for group in groups {
            ends.newest = ends.newest.max(group.newest);
            let Some(end) = group.end else { continue };
            ends.last = Some(end);
            let entry = by_source.entry(group.source.0).or_insert((end, 0, 0, 0));
            entry.0 = end;
            entry.1 = entry.1.max(group.heartbeat);
            entry.2 += group.rows;
            entry.3 += group.transactions;
        }
        for (source, (end, heartbeat, rows, transactions)) in by_source {
            ends.sources.push(source);
            ends.lsn.push(end.lsn.to_string());
            ends.commit_lsn.push(end.commit_lsn.to_string());
            ends.heartbeats.push(heartbeat);
            ends.committed.push(end.time.unix_micros());
            ends.rows.push(rows);
            ends.transactions.push(transactions);
        }
        ends
    }

    /// Makes the sums of keys and transactions these.
    pub(super) fn count_all(&mut self, keys: i64, transactions: i64) {
        let counts = [(&mut self.rows, keys), (&mut self.transactions, transactions)];
        for (counted, all) in counts {
            let own: i64 = counted.iter().sum();
            if let Some(last) = counted.last_mut() {
                *last += all - own;
            }
        }
    }

    pub(super) fn params(&self) -> [&(dyn ToSql + Sync); 7] {
        [
            &self.sources,
            &self.lsn,
            &self.commit_lsn,
            &self.heartbeats,
            &self.committed,
            &self.rows,
            &self.transactions,
        ]
    }

    /// Position and time of the last transaction.
    pub(super) fn position(&self) -> (String, i64) {
        let lsn = self.last.map_or_else(|| "0/0".to_owned(), |end| end.lsn.to_string());
        (lsn, self.last.map_or(0, |end| end.time.unix_micros()))
    }

    pub(super) fn finish(&self, counted: i64) -> Finish {
        let lsn = self.last.map_or_else(|| "0/0".to_owned(), |end| end.lsn.to_string());
        let time = self.last.map_or(0, |end| end.time.unix_micros());
        Finish { lsn, time, newest: self.newest, counted }
    }
}

impl Finish {
    pub(super) fn params(&self) -> [&(dyn ToSql + Sync); 4] {
        [&self.lsn, &self.time, &self.newest, &self.counted]
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
