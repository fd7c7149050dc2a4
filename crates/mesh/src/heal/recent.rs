//! Copying rows version by version, where a row's version is that of the transaction that wrote it.
//!
//! What was written long before the new streams begin needs no version of its own: nothing that comes through them is
//! older. Of what was written lately something older may still be on its way, and has to lose against it.

use futures_util::TryStreamExt as _;
use tokio_postgres::types::ToSql;

use super::NewRow;
use super::copying::{Item, Worker};
use super::sql::Commands;
use crate::error::MeshError;
use crate::names;
use crate::stamp::{NodeId, Stamp};
use crate::table::Table;
use crate::verify::session::Session;

/// Microseconds by which clocks may be apart for a row to count as old.
const APART: i64 = 15_000_000;
/// Rows in one transaction.
const CHUNK: usize = 500;
const READ: &str = "read rows to copy";

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
    let sql = format!(
        "SELECT {time} AS s, {node} AS n, {} FROM ONLY {} AS t WHERE {time} >= $1 ORDER BY 1, 2",
        columns.join(", "),
        table.name.quoted()
    );
    let parameters: [&(dyn ToSql + Sync); 1] = [&beginning];
    let found = source.client.query_raw(&sql, parameters).await;
    let mut found = std::pin::pin!(found.map_err(|error| source.failed(READ, error))?);
    let commands = Commands::of(table);
    let (mut waiting, mut count): (Vec<NewRow>, u64) = (Vec::new(), 0);
    let mut writing = None;
    while let Some(row) = found.try_next().await.map_err(|error| source.failed(READ, error))? {
        let stamp = Stamp::new(source.get(READ, &row, 0)?, NodeId(source.get(READ, &row, 1)?));
        let of_another = waiting.first().is_some_and(|first| first.stamp != stamp);
        if of_another || waiting.len() >= CHUNK {
            count += put(worker, table, &commands, &mut waiting, &mut writing).await?;
        }
        let values: Result<Vec<Option<String>>, MeshError> =
            (0..columns.len()).map(|at| source.get(READ, &row, at + 2)).collect();
        waiting.push(NewRow { at: 0, key: Vec::new(), values: values?, stamp });
    }
    Ok(count + put(worker, table, &commands, &mut waiting, &mut writing).await?)
}

/// Puts in rows of one version.
async fn put(
    worker: &Worker,
    table: &Table,
    commands: &Commands,
    rows: &mut Vec<NewRow>,
    writing: &mut Option<Stamp>,
) -> Result<u64, MeshError> {
    let Some(first) = rows.first() else { return Ok(0) };
    if *writing != Some(first.stamp) {
        worker.target.write_as(Some(first.stamp)).await?;
        *writing = Some(first.stamp);
    }
    let refs: Vec<&NewRow> = rows.iter().collect();
    worker.target.rows(commands, table, &refs).await?;
    let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    rows.clear();
    Ok(count)
}
