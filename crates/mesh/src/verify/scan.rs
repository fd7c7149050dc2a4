//! Reading what members hold.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use futures_util::future::try_join_all;
use herdsman_node::{Lsn, NodeName};
use herdsman_wal::quote_literal;
use tokio::time::{Instant, sleep};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::compare::{Held, Key, Look, Sums, candidates};
use super::session::Seat;
use super::sql::Questions;
use crate::error::MeshError;
use crate::names;
use crate::stamp::{NodeId, Stamp};
use crate::status::LinkName;
use crate::table::Table;

/// Pages that are read by one statement: 32 MiB, so that progress is seen and nothing waits long to be cancelled.
const STEP: u64 = 4096;
/// Keys that are looked at by one statement.
const KEYS: usize = 1000;
/// How often a member is asked how far it is.
const POLL: Duration = Duration::from_millis(50);

const READ: &str = "read a table of the mesh";

/// How far a scan is, in pages of all members.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    done: AtomicU64,
    all: AtomicU64,
}

impl Pages {
    /// The share that is done, from 0 to 1.
    pub(crate) fn fraction(&self) -> f64 {
        let (done, all) = (self.done.load(Ordering::Relaxed), self.all.load(Ordering::Relaxed));
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let fraction = done as f64 / all.max(1) as f64;
        fraction.clamp(0.0, 1.0)
    }
}

/// The sums of one table on every member, and the bytes that were looked at. All members are read at once, each as one
/// snapshot shows it: a row that moves within its file is seen once.
pub(crate) async fn sums(
    seats: &[Seat],
    table: &Table,
    pages: &Pages,
) -> Result<(Vec<Sums>, u64), MeshError> {
    let name = quote_literal(&table.name.quoted());
    let begin = format!(
        "SELECT (pg_relation_size({name}::regclass) / current_setting('block_size')::bigint)::bigint"
    );
    let beginning = seats.iter().map(|seat| async {
        seat.session
            .run(READ, "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            .await?;
        let row = seat.session.row(READ, &begin, &[]).await?;
        let size: i64 = seat.session.get(READ, &row, 0)?;
        let size = u64::try_from(size).unwrap_or(0);
        pages.all.fetch_add(size, Ordering::Relaxed);
        Ok::<_, MeshError>(size)
    });
    let sizes = try_join_all(beginning).await?;
    let reading = seats.iter().zip(sizes).map(|(seat, size)| sums_of(seat, table, size, pages));
    let read = try_join_all(reading).await?;
    let bytes = read.iter().map(|(_, bytes)| bytes).sum();
    Ok((read.into_iter().map(|(sums, _)| sums).collect(), bytes))
}

async fn sums_of(
    seat: &Seat,
    table: &Table,
    size: u64,
    pages: &Pages,
) -> Result<(Sums, u64), MeshError> {
    let session = &seat.session;
    let questions = Questions::of(seat.table(&table.name).unwrap_or(table));
    let statement = session.client.prepare(&questions.buckets).await;
    let statement = statement.map_err(|error| session.failed(READ, error))?;
    let (mut sums, mut bytes, mut from) = (Sums::default(), 0_u64, 0);
    loop {
        let to = from + STEP;
        // The last piece has no end, should the file have grown.
        let end = if to >= size { u64::from(u32::MAX) } else { to };
        let (low, high) = (format!("({from},0)"), format!("({end},0)"));
        let rows = session.client.query(&statement, &[&low, &high]).await;
        for row in rows.map_err(|error| session.failed(READ, error))? {
            let (bucket, count): (i32, i64) =
                (session.get(READ, &row, 0)?, session.get(READ, &row, 1)?);
            let hash: String = session.get(READ, &row, 2)?;
            let length: i64 = session.get(READ, &row, 3)?;
            let (bucket, count) = (usize::try_from(bucket), u64::try_from(count));
            if let (Ok(bucket), Ok(count), Ok(hash)) = (bucket, count, hash.parse()) {
                sums.add(bucket, count, hash);
            }
            bytes = bytes.saturating_add(u64::try_from(length).unwrap_or(0));
        }
        pages.done.fetch_add(STEP.min(size.saturating_sub(from)), Ordering::Relaxed);
        if to >= size {
            session.run(READ, "COMMIT").await?;
            return Ok((sums, bytes));
        }
        from = to;
    }
}

/// The keys in these buckets that are not the same on all members.
pub(crate) async fn suspects(
    seats: &[Seat],
    table: &Table,
    buckets: &[usize],
) -> Result<Look, MeshError> {
    let buckets: Vec<i32> =
        buckets.iter().filter_map(|bucket| i32::try_from(*bucket).ok()).collect();
    let reading = seats.iter().map(|seat| rows_of(seat, table, &buckets));
    Ok(candidates(&try_join_all(reading).await?))
}

async fn rows_of(
    seat: &Seat,
    table: &Table,
    buckets: &[i32],
) -> Result<BTreeMap<Key, Held>, MeshError> {
    let session = &seat.session;
    let questions = Questions::of(seat.table(&table.name).unwrap_or(table));
    let parameters: [&(dyn ToSql + Sync); 1] = [&buckets];
    let rows = session.client.query_raw(&questions.rows, parameters).await;
    let rows = rows.map_err(|error| session.failed(READ, error))?;
    let mut held = BTreeMap::new();
    let mut rows = std::pin::pin!(rows);
    while let Some(row) = rows.try_next().await.map_err(|error| session.failed(READ, error))? {
        let mut key = Key::with_capacity(questions.key);
        for column in 0..questions.key {
            key.push(session.get(READ, &row, column)?);
        }
        let stamp = stamp(seat, &row, questions.key)?;
        let hash = session.get(READ, &row, questions.key + 2)?;
        held.insert(key, stamp.map_or(Held::Absent, |stamp| Held::Row { stamp, hash }));
    }
    Ok(held)
}

/// What every member holds of these keys now.
pub(super) async fn look(
    seats: &[Seat],
    table: &Table,
    keys: &[&Key],
) -> Result<Vec<Vec<Held>>, MeshError> {
    let looking = seats.iter().map(|seat| held_of(seat, table, keys));
    let members = try_join_all(looking).await?;
    let of =
        |at: usize| members.iter().map(|held| held.get(at).copied().unwrap_or_default()).collect();
    Ok((0..keys.len()).map(of).collect())
}

async fn held_of(seat: &Seat, table: &Table, keys: &[&Key]) -> Result<Vec<Held>, MeshError> {
    let session = &seat.session;
    let questions = Questions::of(seat.table(&table.name).unwrap_or(table));
    // One snapshot of a key's row, tombstone and the TRUNCATE: one transaction that shows all of it.
    session.run(READ, "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
    let truncated = session.rows(READ, &questions.truncate, &[]).await?;
    let truncated = truncated.first().map(|row| stamp(seat, row, 0)).transpose()?.flatten();
    let mut held = vec![Held::Absent; keys.len()];
    for (chunk, keys) in keys.chunks(KEYS).enumerate() {
        let columns = transposed(keys, questions.key);
        let parameters: Vec<&(dyn ToSql + Sync)> =
            columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
        for row in session.rows(READ, &questions.held, &parameters).await? {
            let place: i64 = session.get(READ, &row, 0)?;
            let hash: Option<i64> = session.get(READ, &row, 3)?;
            let hidden = [
                stamp(seat, &row, 4)?.map(|stamp| Held::Deleted { stamp }),
                stamp(seat, &row, 6)?.map(|stamp| Held::Evicted { stamp }),
                truncated.map(|stamp| Held::Truncated { stamp }),
            ];
            let row = stamp(seat, &row, 1)?;
            let found = match (row, hash) {
                (Some(stamp), Some(hash)) => Held::Row { stamp, hash },
                _ => hidden.into_iter().flatten().max_by_key(Held::stamp).unwrap_or_default(),
            };
            let place = usize::try_from(place).unwrap_or(0).saturating_sub(1);
            if let Some(slot) = held.get_mut(chunk * KEYS + place) {
                *slot = found;
            }
        }
    }
    session.run(READ, "COMMIT").await?;
    Ok(held)
}

/// Keys as an array for each column.
pub(crate) fn transposed(keys: &[&Key], columns: usize) -> Vec<Vec<String>> {
    (0..columns)
        .map(|column| keys.iter().map(|key| key.get(column).cloned().unwrap_or_default()).collect())
        .collect()
}

/// Stamp and node from two columns, which are both null or neither.
pub(crate) fn stamp(seat: &Seat, row: &Row, column: usize) -> Result<Option<Stamp>, MeshError> {
    let micros: Option<i64> = seat.session.get(READ, row, column)?;
    let node: Option<i16> = seat.session.get(READ, row, column + 1)?;
    Ok(micros.zip(node).map(|(micros, node)| Stamp::new(micros, NodeId(node))))
}

/// Where the logs of the members end.
pub(crate) async fn positions(seats: &[Seat]) -> Result<BTreeMap<NodeId, Lsn>, MeshError> {
    let asking = seats
        .iter()
        .map(|seat| async { Ok::<_, MeshError>((seat.id(), seat.session.position().await?)) });
    Ok(try_join_all(asking).await?.into_iter().collect())
}

/// Waits until every member has applied what every other one had logged at these positions; the links that had not within
/// `patience`.
pub(crate) async fn passed(
    seats: &[Seat],
    positions: &BTreeMap<NodeId, Lsn>,
    patience: Duration,
) -> Result<Vec<LinkName>, MeshError> {
    let name = |id: NodeId| -> Option<NodeName> {
        seats.iter().find(|seat| seat.id() == id).map(|seat| seat.member.name.clone())
    };
    let lagging = lagging(seats, positions, patience).await?;
    let links = lagging.into_iter().filter_map(|(source, target)| {
        Some(LinkName { source: name(source)?, target: name(target)? })
    });
    Ok(links.collect())
}

/// Waits until these members have applied what any member had logged at these positions, whether that is one of them or
/// not; by source and target those that had not within `patience`.
pub(crate) async fn lagging(
    seats: &[Seat],
    positions: &BTreeMap<NodeId, Lsn>,
    patience: Duration,
) -> Result<Vec<(NodeId, NodeId)>, MeshError> {
    let until = Instant::now() + patience;
    let waiting = seats.iter().map(|seat| async move {
        loop {
            let progress = progress(seat).await?;
            // A member's look at its own changes counts as well: it may put right what a race has left behind.
            let missing = |source: &NodeId, position: &Lsn| match progress.get(source) {
                Some(lsn) => lsn < position,
                None => *source != seat.id(),
            };
            let behind: Vec<(NodeId, NodeId)> = positions
                .iter()
                .filter(|(source, position)| missing(source, position))
                .map(|(source, _)| (*source, seat.id()))
                .collect();
            if behind.is_empty() || Instant::now() >= until {
                return Ok::<_, MeshError>(behind);
            }
            sleep(POLL).await;
        }
    });
    Ok(try_join_all(waiting).await?.concat())
}

/// How far a member has applied what others logged.
pub(crate) async fn progress(seat: &Seat) -> Result<BTreeMap<NodeId, Lsn>, MeshError> {
    let what = "say how far it has applied the others' changes";
    let sql = format!("SELECT source, lsn::text FROM {}", names::own("progress"));
    let mut progress = BTreeMap::new();
    for row in seat.session.rows(what, &sql, &[]).await? {
        let source: i16 = seat.session.get(what, &row, 0)?;
        progress.insert(NodeId(source), seat.session.lsn(what, &row, 1)?);
    }
    Ok(progress)
}
