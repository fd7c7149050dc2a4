//! Reading many tables at once, in pieces.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use herdsman_node::{Conninfo, Lsn, Tls};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Relation;
use crate::change::{Source, Timestamp, Transaction};
use crate::snapshot::copy_text::{CopyText, CopyTextError};
use crate::snapshot::stats::Counters;
use crate::snapshot::table::{self, Described};
use crate::snapshot::xids::Xids;
use crate::snapshot::{
    ChunkId, Cut, Exported, Rows, SnapshotConnection, SnapshotError, SnapshotProgress,
    SnapshotStats, SnapshotTable,
};

/// Bytes of rows that are handed on together: enough that handing on costs nothing beside reading.
const BATCH: usize = 256 << 10;

/// Batches that wait for the receiver, for each connection.
const WAITING: usize = 4;

/// A snapshot to be taken: see the [module](crate::snapshot).
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The tables.
    pub tables: Vec<SnapshotTable>,
    /// Connections that read at the same time, at least 1. The server does the work: half its cores is plenty.
    pub parallel: usize,
    /// Bytes of a table's file in one piece. Smaller pieces lose less at an interruption and cost more of them.
    pub chunk_bytes: u64,
    /// How long each step but the reading itself may take.
    pub limit: Duration,
}

/// What a snapshot tells.
#[derive(Debug)]
pub enum SnapshotEvent {
    /// Rows.
    Rows(Rows),
    /// All rows of a piece have been told. Once they are durable, [`SnapshotProgress::record`] it.
    ChunkDone {
        /// The piece.
        chunk: ChunkId,
        /// For [`SnapshotProgress::record`].
        oldest: u64,
    },
    /// All rows of a table have been told.
    TableDone(Arc<Relation>),
    /// That was all.
    Done,
}

/// A snapshot that is being taken. Dropping it ends it.
#[derive(Debug)]
pub struct Copying {
    events: mpsc::Receiver<Result<SnapshotEvent, SnapshotError>>,
    /// Each gives back its connection: their transactions keep the tables from being rewritten until all is read.
    readers: JoinSet<Option<SnapshotConnection>>,
    job: Arc<Job>,
    progress: SnapshotProgress,
    endpoint: String,
    since: Instant,
    over: bool,
}

/// What all connections share.
#[derive(Debug)]
struct Job {
    tables: Vec<Table>,
    pieces: Vec<Piece>,
    next: AtomicUsize,
    ordinal: AtomicU64,
    source: Arc<Source>,
    transaction: Arc<Transaction>,
    oldest: u64,
}

#[derive(Debug)]
struct Table {
    described: Described,
    counters: Vec<Counters>,
    /// Pieces that are not done.
    left: AtomicUsize,
}

#[derive(Debug)]
struct Piece {
    table: usize,
    heap: usize,
    id: ChunkId,
    sql: String,
    disk: u64,
}

impl Default for Snapshot {
    fn default() -> Self {
        let limit = Duration::from_secs(30);
        Self { tables: Vec::new(), parallel: 4, chunk_bytes: 64 << 20, limit }
    }
}

impl Snapshot {
    /// Begins to read what `progress` does not have. The rows are to be handed on when the stream has been delivered up to
    /// the snapshot's consistent point. When this returns, every connection has the snapshot, and whoever
    /// exported it may go on.
    ///
    /// # Errors
    /// [`SnapshotError`]; [`SnapshotError::Gone`] where the snapshot has ended.
    pub async fn start(
        &self,
        info: &Conninfo,
        tls: &Tls,
        exported: &Exported,
        source: Arc<Source>,
        progress: SnapshotProgress,
    ) -> Result<Copying, SnapshotError> {
        let mut connections = Vec::new();
        for _ in 0..self.parallel.max(1) {
            let connection = SnapshotConnection::open(info, tls, self.limit).await?;
            connection.begin(Some(&exported.name)).await?;
            connections.push(connection);
        }
        let mut progress = progress;
        progress.consistent_point.get_or_insert(exported.consistent_point);
        let mut job = Job {
            tables: Vec::new(),
            pieces: Vec::new(),
            next: AtomicUsize::new(0),
            ordinal: AtomicU64::new(0),
            source,
            transaction: Arc::new(shown_before(exported.consistent_point)),
            oldest: 0,
        };
        if let Some(first) = connections.first() {
            job.plan(first, self, &mut progress).await?;
        }
        let job = Arc::new(job);
        let (sender, events) = mpsc::channel(WAITING * connections.len());
        let mut readers = JoinSet::new();
        for connection in connections {
            let (job, sender) = (Arc::clone(&job), sender.clone());
            readers.spawn(async move {
                match job.read(&connection, &sender).await {
                    Ok(()) => Some(connection),
                    Err(error) => {
                        // Nobody waits for it any more where this fails.
                        sender.send(Err(error)).await.err().map(|_| connection)
                    }
                }
            });
        }
        let (endpoint, since) = (info.endpoint(), Instant::now());
        Ok(Copying { events, readers, job, progress, endpoint, since, over: false })
    }
}

/// The transaction that rows of a snapshot are given as part of: before all that the stream tells from `position` on,
/// and after all before. No commit record begins at this byte, as one is longer than it.
pub(crate) fn shown_before(position: Lsn) -> Transaction {
    let commit_lsn = Lsn(position.0.saturating_sub(1));
    Transaction {
        begin_lsn: commit_lsn,
        commit_lsn,
        commit_time: Timestamp(0),
        ..Transaction::default()
    }
}

impl Copying {
    /// What comes next; `None` after [`SnapshotEvent::Done`]. Rows come in no order; those of a piece before its end.
    ///
    /// # Errors
    /// [`SnapshotError`] ends it. What was recorded until then holds.
    pub async fn next(&mut self) -> Result<Option<SnapshotEvent>, SnapshotError> {
        if self.over {
            return Ok(None);
        }
        match self.events.recv().await {
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(error)) => {
                self.over = true;
                self.readers.abort_all();
                Err(error)
            }
            // Every reader has given back its connection; only now may they go.
            None => {
                self.over = true;
                while let Some(reader) = self.readers.join_next().await {
                    if matches!(reader, Ok(Some(_))) {
                        continue;
                    }
                    let problem = "a reader ended without a word".to_owned();
                    let endpoint = self.endpoint.clone();
                    return Err(SnapshotError::Lost { endpoint, problem });
                }
                Ok(Some(SnapshotEvent::Done))
            }
        }
    }

    /// The progress it began with, with what was found since. Whoever handles the rows keeps a copy of it and
    /// [records](SnapshotProgress::record) what is durable.
    #[must_use]
    pub fn progress(&self) -> &SnapshotProgress {
        &self.progress
    }

    /// How far it is.
    #[must_use]
    pub fn stats(&self) -> SnapshotStats {
        Counters::sum(self.job.tables.iter().flat_map(|table| &table.counters))
    }

    /// How long it has been running.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Job {
    /// Looks at the tables and cuts them, as they were cut before where that is known.
    async fn plan(
        &mut self,
        connection: &SnapshotConnection,
        wanted: &Snapshot,
        progress: &mut SnapshotProgress,
    ) -> Result<(), SnapshotError> {
        const WHAT: &str = "tell its snapshot";
        let [text] = connection.texts(WHAT, "SELECT pg_current_snapshot()::text").await?;
        let xids: Xids =
            text.parse().map_err(|_| connection.malformed(WHAT, "it is no snapshot"))?;
        self.oldest = xids.oldest;
        for listed in &wanted.tables {
            for described in table::describe(connection, listed).await? {
                self.cut(described, wanted.chunk_bytes, progress);
            }
        }
        Ok(())
    }

    fn cut(&mut self, described: Described, chunk_bytes: u64, progress: &mut SnapshotProgress) {
        let table = self.tables.len();
        let before = self.pieces.len();
        let mut counters = Vec::new();
        for (number, heap) in described.heaps.iter().enumerate() {
            let cut = Cut::new(heap.pages, heap.page_bytes, chunk_bytes);
            let known = progress.enter(heap.oid, heap.filenode, cut);
            let cut = known.cut;
            counters.push(Counters {
                name: format!("{}.{}", heap.schema, heap.name),
                chunks: cut.pieces,
                disk: u64::from(heap.pages) * u64::from(heap.page_bytes),
                ..Counters::default()
            });
            for piece in 0..cut.pieces {
                let scope = known.scope(piece, self.oldest);
                let conditions = cut.condition(piece).into_iter().chain(scope.condition());
                let conditions: Vec<String> = conditions.collect();
                let source = format!("ONLY {}", heap.sql_name());
                self.pieces.push(Piece {
                    table,
                    heap: number,
                    id: ChunkId { table: heap.oid, number: piece },
                    sql: described.select(&source, &conditions),
                    disk: cut.bytes_of(piece, heap.pages, heap.page_bytes),
                });
            }
        }
        let left = AtomicUsize::new(self.pieces.len() - before);
        self.tables.push(Table { described, counters, left });
    }
}

type Events = mpsc::Sender<Result<SnapshotEvent, SnapshotError>>;

impl Job {
    /// Reads pieces until none is left. Ends silently where nobody receives any more.
    async fn read(
        &self,
        connection: &SnapshotConnection,
        events: &Events,
    ) -> Result<(), SnapshotError> {
        while let Some(piece) = self.pieces.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let Some(table) = self.tables.get(piece.table) else { continue };
            let Some(counters) = table.counters.get(piece.heap) else { continue };
            self.read_piece(connection, piece, (table, counters), events).await?;
            counters.chunks_done.fetch_add(1, Ordering::Relaxed);
            counters.disk_done.fetch_add(piece.disk, Ordering::Relaxed);
            let done = SnapshotEvent::ChunkDone { chunk: piece.id, oldest: self.oldest };
            let told = events.send(Ok(done)).await;
            // The last one to end tells it: by then the others have told theirs.
            if told.is_ok() && table.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                let relation = Arc::clone(&table.described.relation);
                if events.send(Ok(SnapshotEvent::TableDone(relation))).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn read_piece(
        &self,
        connection: &SnapshotConnection,
        piece: &Piece,
        (table, counters): (&Table, &Counters),
        events: &Events,
    ) -> Result<(), SnapshotError> {
        let relation = &table.described.relation;
        let mut text = CopyText::new(relation.columns.len());
        let mut rows = Rows::new(&self.source, &self.transaction, relation);
        let wrong = |error: CopyTextError| {
            connection.malformed(&format!("read table `{}`", counters.name), &error.to_string())
        };
        let sql = format!("COPY ({}) TO STDOUT", piece.sql);
        let mut pieces = connection.copy(&counters.name, &sql).await?;
        while let Some(bytes) = pieces.next().await? {
            counters.bytes.fetch_add(u64::try_from(bytes.len()).unwrap_or(0), Ordering::Relaxed);
            text.push(&bytes, |row| rows.push(row)).map_err(wrong)?;
            if rows.weight() >= BATCH {
                let empty = rows.next();
                self.tell(std::mem::replace(&mut rows, empty), counters, events).await;
            }
        }
        text.end().map_err(wrong)?;
        self.tell(rows, counters, events).await;
        Ok(())
    }

    async fn tell(&self, mut rows: Rows, counters: &Counters, events: &Events) {
        let count = u64::try_from(rows.len()).unwrap_or(0);
        if count == 0 {
            return;
        }
        rows.number(self.ordinal.fetch_add(count, Ordering::Relaxed));
        counters.rows.fetch_add(count, Ordering::Relaxed);
        // Nobody receives: then the whole snapshot is being ended.
        let _told = events.send(Ok(SnapshotEvent::Rows(rows))).await;
    }
}
