//! Copying rows version by version, where a row's version is that of the transaction that wrote it.
//!
//! What was written long before the new streams begin needs no version of its own: nothing that comes through them is
//! older. Of what was written lately something older may still be on its way, and has to lose against it.

use futures_util::TryStreamExt as _;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::copying::{Item, Worker};
use super::marked::{Marked, gives_way};
use super::sql::Commands;
use super::{NewRow, NewRows};
use crate::apply::{send, simple};
use crate::error::MeshError;
use crate::names;
use crate::stamp::{NodeId, Stamp};
use crate::table::Table;
use crate::verify::session::Session;

/// Microseconds by which clocks may be apart for a row to count as old.
const APART: i64 = 15_000_000;
/// Rows on their way at once.
const CHUNK: usize = 500;
const READ: &str = "read rows to copy";
const WRITE: &str = "write copied rows";

/// The time before which rows of a member need no version of their own, where its streams began when it was prepared.
pub(crate) async fn beginning(target: &Session) -> Result<i64, MeshError> {
    let what = "see when it was prepared";
    let sql =
        format!("SELECT coalesce(min(at) - {APART}, 1) FROM {} WHERE base", names::own("memory"));
    let row = target.row(what, &sql, &[]).await?;
    target.get(what, &row, 0)
}

/// A table's rows to copy: all, or the old ones.
pub(crate) fn item(table: &Table, beginning: i64) -> Item {
    if table.untouched { Item::old_rows(table, beginning) } else { Item::rows(table) }
}

/// Whoever overwrites what is copied has to be later: waits until the target's clock is past the source's.
pub(crate) async fn clocks(worker: &Worker) -> Result<(), MeshError> {
    let what = "read its clock";
    let sql = "SELECT (date_part('epoch', clock_timestamp()) * 1000000)::bigint";
    let row = worker.source.row(what, sql, &[]).await?;
    let now = Stamp::new(worker.source.get(what, &row, 0)?, NodeId(0));
    worker.target.wait_for_clock(Some(now)).await
}

/// Copies the rows that are not old.
pub(crate) async fn rows(
    worker: &Worker,
    tables: &[&Table],
    beginning: i64,
) -> Result<u64, MeshError> {
    let mut count = 0;
    for table in tables.iter().filter(|table| table.untouched) {
        count += rows_of(worker, table, beginning).await?;
    }
    if count > 0 {
        worker.target.write_as(None).await?;
    }
    Ok(count)
}

async fn rows_of(worker: &Worker, table: &Table, beginning: i64) -> Result<u64, MeshError> {
    let source = &worker.source;
    let columns = table
        .written()
        .map(|(_, column)| format!("t.{}::text", herdsman_wal::quote_identifier(&column.name)));
    let columns: Vec<String> = columns.collect();
    let (time, node) = (table.time_of("t"), table.node_of("t"));
    // By node, as a session marks what it writes with one at a time. Each key has one row: their order does not matter.
    let sql = format!(
        "SELECT {time} AS s, {node} AS n, {} FROM ONLY {} AS t WHERE {time} >= $1 ORDER BY 2, 1",
        columns.join(", "),
        table.name.quoted()
    );
    let parameters: [&(dyn ToSql + Sync); 1] = [&beginning];
    let found = source.client.query_raw(&sql, parameters).await;
    let mut found = std::pin::pin!(found.map_err(|error| source.failed(READ, error))?);
    let versions = Versions::prepare(&worker.target, table).await?;
    let (mut waiting, mut count): (Vec<Vec<NewRow>>, u64) = (Vec::new(), 0);
    let (mut rows, mut node) = (0, None);
    while let Some(row) = found.try_next().await.map_err(|error| source.failed(READ, error))? {
        let stamp = Stamp::new(source.get(READ, &row, 0)?, NodeId(source.get(READ, &row, 1)?));
        if rows >= CHUNK || node != Some(stamp.node) {
            versions.put(&worker.target, &waiting).await?;
            waiting.clear();
            rows = 0;
        }
        if node != Some(stamp.node) {
            worker.target.write_as(Some(stamp)).await?;
            node = Some(stamp.node);
        }
        let values: Result<Vec<Option<String>>, MeshError> =
            (0..columns.len()).map(|at| source.get(READ, &row, at + 2)).collect();
        let row = NewRow { at: 0, key: Vec::new(), values: values?, stamp };
        match waiting.last_mut() {
            Some(last) if last.first().is_some_and(|first| first.stamp == stamp) => last.push(row),
            _ => waiting.push(vec![row]),
        }
        (rows, count) = (rows + 1, count + 1);
    }
    versions.put(&worker.target, &waiting).await?;
    Ok(count)
}

/// What puts versions into a table, each in a transaction of its own.
struct Versions<'a> {
    table: &'a Table,
    commands: Commands,
    statements: Vec<Statement>,
}

impl<'a> Versions<'a> {
    async fn prepare(target: &Marked, table: &'a Table) -> Result<Self, MeshError> {
        let commands = Commands::of(table);
        let mut statements = Vec::new();
        for sql in commands.before_rows.iter().chain([&commands.rows]) {
            let prepared = target.session.client.prepare(sql).await;
            statements.push(prepared.map_err(|error| target.session.failed(WRITE, error))?);
        }
        Ok(Self { table, commands, statements })
    }

    /// Puts versions of one node in: all in one flight, or, where somebody was in the way of one of them, one by one. Put in
    /// twice they are the same.
    async fn put(&self, target: &Marked, versions: &[Vec<NewRow>]) -> Result<(), MeshError> {
        let flown = self.fly(target, versions).await;
        match flown {
            Ok(()) => return Ok(()),
            Err(error) if gives_way(&error) => target.roll_back().await?,
            Err(error) => return Err(error),
        }
        for rows in versions {
            let Some(first) = rows.first() else { continue };
            target.write_at(first.stamp.micros);
            let rows: Vec<&NewRow> = rows.iter().collect();
            target.rows(&self.commands, self.table, &rows).await?;
        }
        Ok(())
    }

    async fn fly(&self, target: &Marked, versions: &[Vec<NewRow>]) -> Result<(), MeshError> {
        let client = &target.session.client;
        let all: Vec<(String, NewRows<'_>)> = versions
            .iter()
            .filter_map(|rows| {
                target.write_at(rows.first()?.stamp.micros);
                let rows: Vec<&NewRow> = rows.iter().collect();
                Some((target.beginning(), NewRows::of(self.table, &rows)))
            })
            .collect();
        let mut answers = Vec::with_capacity(all.len() * (self.statements.len() + 2));
        for (begin, rows) in &all {
            answers.push(send(simple(client, begin)).await);
            for statement in &self.statements {
                answers.push(send(async { client.execute(statement, &rows.params()).await }).await);
            }
            answers.push(send(simple(client, "COMMIT")).await);
        }
        let mut first = None;
        for answer in answers {
            if let Err(error) = answer.take().await {
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), |error| Err(target.session.failed(WRITE, error)))
    }
}
