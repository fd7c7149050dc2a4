//! Copying whole tables from one member to another, with their stamps, while both are written.
//!
//! The source is read as one snapshot shows it, in pieces of whole pages, over several connections. A piece goes straight
//! into the table; where a row of it is there already, the piece goes in again by the rule that the greater version stays.
//! So it does not matter what is there already, how often a piece is copied, or what is being applied meanwhile.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::{SinkExt as _, StreamExt as _};
use herdsman_wal::snapshot::time_left;
use herdsman_wal::{quote_identifier, quote_literal};
use tokio::time::{Instant, sleep};

use super::is_clash;
use super::marked::{Marked, gives_way};
use super::sql::{Commands, clear, fill, upsert};
use crate::apply::mend_all;
use crate::error::MeshError;
use crate::names::{self, NODE, SEEN, SEEN_NODE, STAMP};
use crate::table::Table;
use crate::verify::session::Session;

/// Pages of one piece: 16 MiB, so that what an interruption costs is little.
const STEP: u64 = 2048;
/// How often progress is told.
const TICK: Duration = Duration::from_millis(200);
/// Before a piece that had to give way to another transaction is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// How far the copying is.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Copying {
    /// Tables that are whole.
    pub done: usize,
    /// Tables in all.
    pub tables: usize,
    /// Rows that were copied.
    pub rows: u64,
    /// Bytes of them, as text.
    pub bytes: u64,
    /// How much is done, from 0 to 1, by size on disk.
    pub fraction: f64,
    /// For how long it has been going on.
    pub elapsed: Duration,
    /// How long it will still take; `None` while it is too early to tell.
    pub left: Option<Duration>,
}

impl Copying {
    /// Bytes in a second.
    #[must_use]
    pub fn bytes_per_second(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "for people")]
        let bytes = self.bytes as f64;
        bytes / self.elapsed.as_secs_f64().max(0.001)
    }
}

/// Something to copy: a table, or the mesh's own about it.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// What it is noted as.
    pub(crate) name: String,
    /// As SQL takes it.
    pub(crate) quoted: String,
    /// Columns, quoted.
    pub(crate) columns: Vec<String>,
    /// Statements that take rows from the piece's own table.
    merge: Vec<String>,
    /// Rows of versions from here on, in microseconds, are left out: they come version by version ([`super::recent`]).
    before: Option<i64>,
}

/// The table a piece is in while it is merged.
const FROM: &str = "pg_temp.herdsman_piece";

impl Item {
    /// A table's rows.
    pub(crate) fn rows(table: &Table) -> Self {
        let mut columns: Vec<String> =
            table.written().map(|(_, column)| quote_identifier(&column.name)).collect();
        let from = format!("{FROM} AS w");
        let merge = if table.untouched {
            vec![fill(table, &from)]
        } else {
            columns.extend([STAMP.to_owned(), NODE.to_owned()]);
            clear(table, &from, "<").into_iter().chain([upsert(table, &from, "<")]).collect()
        };
        let (name, quoted) = (table.name.to_string(), table.name.quoted());
        Self { name, quoted, columns, merge, before: None }
    }

    /// The same, without rows of versions from `before` on.
    pub(crate) fn old_rows(table: &Table, before: i64) -> Self {
        Self { before: Some(before), ..Self::rows(table) }
    }

    /// A table's tombstones.
    pub(crate) fn tombstones(table: &Table) -> Self {
        let key: Vec<String> =
            table.key_columns().map(|column| quote_identifier(&column.name)).collect();
        let own = [STAMP, NODE, SEEN, SEEN_NODE].map(str::to_owned);
        let columns: Vec<String> = key.iter().cloned().chain(own).collect();
        let gone = names::gone(&table.name);
        Self {
            name: format!("tombstones of {}", table.name),
            merge: vec![greater(&gone, &columns, &key.join(", "))],
            quoted: gone,
            columns,
            before: None,
        }
    }

    /// The last TRUNCATE of each table.
    pub(crate) fn truncates() -> Self {
        let (quoted, columns) = (
            names::own("truncates"),
            ["rel", STAMP, NODE, names::KNEW].map(str::to_owned).to_vec(),
        );
        Self {
            name: "truncates".to_owned(),
            merge: vec![greater(&quoted, &columns, "rel")],
            quoted,
            columns,
            before: None,
        }
    }

    /// Rows that wait for the value of a unique constraint.
    pub(crate) fn evicted() -> Self {
        let columns = ["rel", "key", "row", STAMP, NODE, "clash", "at"].map(quote_identifier);
        let (quoted, columns) = (names::own("evicted"), columns.to_vec());
        Self {
            name: "evicted".to_owned(),
            merge: vec![greater(&quoted, &columns, "rel, key")],
            quoted,
            columns,
            before: None,
        }
    }
}

fn greater(quoted: &str, columns: &[String], key: &str) -> String {
    let set: Vec<String> = columns.iter().map(|name| format!("{name} = excluded.{name}")).collect();
    let columns = columns.join(", ");
    format!(
        "INSERT INTO {quoted} AS g ({columns}) SELECT {columns} FROM {FROM} ON CONFLICT ({key}) DO UPDATE SET {}
WHERE (g.{STAMP}, g.{NODE}) < (excluded.{STAMP}, excluded.{NODE})",
        set.join(", ")
    )
}

/// A worker: a session that reads as the snapshot shows it, and one that writes.
pub(crate) struct Worker {
    /// Reads. Its transaction is open.
    pub(crate) source: Session,
    /// Writes.
    pub(crate) target: Marked,
}

impl Worker {
    /// Makes one. `snapshot` is one that the source has exported.
    pub(crate) async fn new(
        source: Session,
        target: Marked,
        snapshot: &str,
    ) -> Result<Self, MeshError> {
        let begin = format!(
            "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET TRANSACTION SNAPSHOT {}",
            quote_literal(snapshot)
        );
        source.run("read as a snapshot shows it", &begin).await?;
        Ok(Self { source, target })
    }
}

/// A part of an item.
struct Piece {
    item: usize,
    pages: (u64, u64),
    size: u64,
}

/// What all workers share.
struct Shared<'a> {
    items: &'a [Item],
    pieces: Mutex<VecDeque<Piece>>,
    /// Pieces of each item that are not done.
    left: Vec<AtomicU64>,
    /// Whether an item was not empty, or had to be merged: then it is merged from there on.
    merged: Vec<AtomicBool>,
    rows: AtomicU64,
    bytes: AtomicU64,
    pages: AtomicU64,
}

/// Copies. `done` is run on the first worker's target for each item that is whole.
pub(crate) async fn copy(
    workers: &[Worker],
    items: &[Item],
    note: impl Fn(&Item) -> Option<String>,
    mut tell: impl FnMut(&Copying),
) -> Result<Copying, MeshError> {
    let begun = Instant::now();
    let Some(first) = workers.first() else { return Ok(Copying::default()) };
    let (pieces, all) = cut(&first.source, items).await?;
    let mut left = vec![0_u64; items.len()];
    for piece in &pieces {
        if let Some(count) = left.get_mut(piece.item) {
            *count += 1;
        }
    }
    let shared = Shared {
        items,
        pieces: Mutex::new(pieces.into()),
        left: left.into_iter().map(AtomicU64::new).collect(),
        merged: items.iter().map(|_| AtomicBool::new(false)).collect(),
        rows: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        pages: AtomicU64::new(0),
    };
    let shared = &shared;
    let note = &note;
    let mut working =
        std::pin::pin!(try_join_all(workers.iter().map(|worker| work(worker, shared, note))));
    let progress = || {
        let done = shared.pages.load(Ordering::Relaxed);
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let fraction = if all == 0 { 1.0 } else { done as f64 / all as f64 };
        let elapsed = begun.elapsed();
        Copying {
            done: shared.left.iter().filter(|left| left.load(Ordering::Relaxed) == 0).count(),
            tables: items.len(),
            rows: shared.rows.load(Ordering::Relaxed),
            bytes: shared.bytes.load(Ordering::Relaxed),
            fraction: fraction.clamp(0.0, 1.0),
            elapsed,
            left: time_left(fraction.clamp(0.0, 1.0), elapsed),
        }
    };
    loop {
        tokio::select! {
            done = &mut working => {
                done?;
                tell(&progress());
                return Ok(progress());
            }
            () = sleep(TICK) => tell(&progress()),
        }
    }
}

/// Cuts items into pieces, the largest first so that no worker is left alone with it in the end; and how many pages they
/// have together.
async fn cut(source: &Session, items: &[Item]) -> Result<(Vec<Piece>, u64), MeshError> {
    let what = "measure the tables to copy";
    let (mut sizes, mut all) = (Vec::with_capacity(items.len()), 0);
    for (item, of) in items.iter().enumerate() {
        let sql = format!(
            "SELECT (pg_relation_size({}::regclass) / current_setting('block_size')::bigint)::bigint",
            quote_literal(&of.quoted)
        );
        let row = source.row(what, &sql, &[]).await?;
        let pages = u64::try_from(source.get::<i64>(what, &row, 0)?).unwrap_or(0);
        sizes.push((pages, item));
        all += pages;
    }
    sizes.sort_by_key(|(pages, item)| (u64::MAX - pages, *item));
    let mut pieces = Vec::new();
    for (pages, item) in sizes {
        let mut from = 0;
        loop {
            let to = from + STEP;
            let last = to >= pages;
            let end = if last { u64::from(u32::MAX) } else { to };
            pieces.push(Piece { item, pages: (from, end), size: to.min(pages) - from });
            if last {
                break;
            }
            from = to;
        }
    }
    Ok((pieces, all))
}

async fn work(
    worker: &Worker,
    shared: &Shared<'_>,
    note: &impl Fn(&Item) -> Option<String>,
) -> Result<(), MeshError> {
    loop {
        let piece = shared.pieces.lock().map_or(None, |mut pieces| pieces.pop_front());
        let Some(piece) = piece else { return Ok(()) };
        let (Some(item), Some(merged), Some(left)) = (
            shared.items.get(piece.item),
            shared.merged.get(piece.item),
            shared.left.get(piece.item),
        ) else {
            return Ok(());
        };
        let put = loop {
            let straight = !merged.load(Ordering::Relaxed);
            match worker.put(item, &piece, straight, shared).await {
                // Some of it is there already.
                Err(error) if straight && is_clash(&error) => merged.store(true, Ordering::Relaxed),
                Err(error) if gives_way(&error) => sleep(PAUSE).await,
                put => break put?,
            }
            worker.target.roll_back().await?;
        };
        shared.rows.fetch_add(put, Ordering::Relaxed);
        shared.pages.fetch_add(piece.size, Ordering::Relaxed);
        if left.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(sql) = note(item)
        {
            worker.target.session.run("note that a table is copied", &sql).await?;
        }
    }
}

impl Worker {
    /// Copies a piece in one transaction of the target; how many rows it had.
    async fn put(
        &self,
        item: &Item,
        piece: &Piece,
        straight: bool,
        shared: &Shared<'_>,
    ) -> Result<u64, MeshError> {
        let columns = item.columns.join(", ");
        let (from, to) = piece.pages;
        let old = item.before.map_or_else(String::new, |before| {
            format!(" AND {}(xmin) < {before}", names::own("micros"))
        });
        let out = format!(
            "COPY (SELECT {columns} FROM ONLY {} WHERE ctid >= '({from},0)' AND ctid < '({to},0)'{old}) TO STDOUT",
            item.quoted
        );
        let session = &self.target.session;
        if item.before.is_some() {
            self.target.write_as_before();
        }
        self.target.begin().await?;
        let into = if straight {
            item.quoted.clone()
        } else {
            let staging = format!(
                "CREATE TEMP TABLE herdsman_piece ON COMMIT DROP AS SELECT {columns} FROM ONLY {} WITH NO DATA",
                item.quoted
            );
            session.run("make a table for rows on their way", &staging).await?;
            FROM.to_owned()
        };
        let rows = self.pass(&out, &format!("COPY {into} ({columns}) FROM STDIN"), shared).await?;
        if !straight {
            for sql in &item.merge {
                session.execute("merge copied rows", sql, &[]).await?;
            }
        }
        self.target.commit().await?;
        Ok(rows)
    }

    /// Hands what one side reads to the other.
    async fn pass(&self, out: &str, into: &str, shared: &Shared<'_>) -> Result<u64, MeshError> {
        let (source, target) = (&self.source, &self.target.session);
        let (reading, writing) = ("read rows to copy", "write copied rows");
        let sink = target.client.copy_in(into).await.map_err(|e| target.failed(writing, e))?;
        let rows = source.client.copy_out(out).await.map_err(|e| source.failed(reading, e))?;
        let (mut sink, mut rows) = (std::pin::pin!(sink), std::pin::pin!(rows));
        while let Some(row) = rows.next().await {
            let row: bytes::Bytes = row.map_err(|e| source.failed(reading, e))?;
            let length = u64::try_from(row.len()).unwrap_or(0);
            if sink.feed(row).await.is_err() {
                // Why is told at the end.
                break;
            }
            shared.bytes.fetch_add(length, Ordering::Relaxed);
        }
        sink.finish().await.map_err(|e| target.failed(writing, e))
    }
}

/// Deletes rows that are older than a tombstone or TRUNCATE beside them: what was copied at one time and what was applied,
/// or copied, at another did not see each other. And has rows show what the parts of their columns come to.
pub(crate) async fn sweep(target: &Marked, tables: &[&Table]) -> Result<(), MeshError> {
    target.others_over().await?;
    for table in tables {
        let commands = Commands::of(table);
        for sql in commands.sweep_all.iter().chain(&commands.sweep_waiting) {
            target.transaction(&[(sql, &[])]).await?;
        }
    }
    for table in tables.iter().filter(|table| !table.parts.is_empty()) {
        target.transaction(&[(&mend_all(table), &[])]).await?;
    }
    Ok(())
}
