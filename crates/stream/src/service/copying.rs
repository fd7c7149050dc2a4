//! The rows that are there already, as events like any other.
//!
//! Each batch of rows is a transaction of its own, at positions that lie below the snapshot's and grow: so a sink that
//! keeps its position keeps it over an interrupted snapshot as well, and whatever is delivered later comes after it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use herdsman_node::{Conninfo, Lsn, Tls};
use herdsman_wal::publication;
use herdsman_wal::snapshot::{
    ChunkId, Copying, Exported, Rows, Snapshot, SnapshotError, SnapshotEvent, SnapshotProgress,
    SnapshotStats, SnapshotTable,
};
use herdsman_wal::{
    Body, ChangeRef, Event, PublicationName, Session, Source, Transaction, WalError,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use super::ServiceError;
use crate::checkpoint::replace;
use crate::engine::Events;

const FILE: &str = "snapshot";
/// Bound on each step but the reading itself.
const LIMIT: Duration = Duration::from_secs(60);
/// A snapshot that was interrupted this often does not get done this way.
const MOST_ATTEMPTS: u32 = 60;

/// A snapshot that is not done, as the state folder keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    /// How often it has been begun.
    pub(super) attempts: u32,
    pub(super) progress: SnapshotProgress,
}

impl Pending {
    /// What an earlier run left undone.
    pub(super) fn load(folder: &Path) -> Result<Option<Self>, ServiceError> {
        let path = folder.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| unusable("read", &path, &error.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unusable("read", &path, &error.to_string())),
        }
    }

    pub(super) fn save(&self, folder: &Path) -> Result<(), ServiceError> {
        let path = folder.join(FILE);
        let bytes =
            serde_json::to_vec(self).map_err(|e| unusable("write", &path, &e.to_string()))?;
        replace(&path, &bytes).map_err(|error| unusable("write", &path, &error.to_string()))
    }

    pub(super) fn remove(folder: &Path) -> Result<(), ServiceError> {
        let path = folder.join(FILE);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(unusable("remove", &path, &error.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// The position below which this attempt's batches are numbered; `None` after too many attempts.
    fn base(&self, point: Lsn) -> Option<u64> {
        (self.attempts <= MOST_ATTEMPTS)
            .then(|| point.0 / u64::from(MOST_ATTEMPTS + 2) * u64::from(self.attempts))
    }
}

fn unusable(what: &'static str, path: &Path, problem: &str) -> ServiceError {
    ServiceError::State { what, path: path.display().to_string(), problem: problem.to_owned() }
}

/// The published tables, as the snapshot needs to know them.
pub(super) async fn tables(
    session: &Session,
    name: &PublicationName,
) -> Result<Vec<SnapshotTable>, ServiceError> {
    let found = publication::inspect(session, name).await?;
    let Some(found) = found else { return Ok(Vec::new()) };
    let via_root = found.spec.via_partition_root;
    if found.spec.all_tables || !found.schemas.is_empty() {
        let listed = publication::list_tables(session).await?;
        let of_schema = listed.iter().filter(|table| {
            (found.spec.all_tables || found.schemas.contains(&table.schema))
                && !(via_root && table.partition_of.is_some())
        });
        return Ok(of_schema
            .map(|table| SnapshotTable {
                via_root,
                ..SnapshotTable::new(&table.schema, &table.name)
            })
            .collect());
    }
    Ok(found
        .spec
        .tables
        .iter()
        .map(|table| SnapshotTable {
            columns: table.columns.clone(),
            condition: table.row_filter.clone(),
            via_root,
            ..SnapshotTable::new(&table.schema, &table.name)
        })
        .collect())
}

/// A snapshot under way, as events.
pub(super) struct Copied {
    copying: Copying,
    source: Arc<Source>,
    point: Lsn,
    place: Place,
    rows: Option<Rows>,
    transaction: Arc<Transaction>,
    /// Position of the batch that came last.
    last: u64,
    kept: Kept,
    stats: watch::Sender<SnapshotStats>,
}

/// Where in a batch we are.
enum Place {
    Between,
    /// The next row of the batch.
    Row(usize),
    /// All has been told; the last word too.
    Told,
}

/// What is durable.
struct Kept {
    folder: PathBuf,
    state: Mutex<State>,
    /// The last batch that is handled, with all before it.
    handled: AtomicU64,
    changed: Notify,
}

struct State {
    pending: Pending,
    /// Pieces that were told, and the batch with which they were.
    told: VecDeque<(u64, ChunkId, u64)>,
}

impl Copied {
    /// Begins to read what is not read yet.
    pub(super) async fn start(
        info: &Conninfo,
        tls: &Tls,
        exported: &Exported,
        tables: Vec<SnapshotTable>,
        source: Arc<Source>,
        mut pending: Pending,
        (folder, stats): (&Path, watch::Sender<SnapshotStats>),
    ) -> Result<Self, ServiceError> {
        let point = exported.consistent_point;
        pending.attempts += 1;
        let base = pending.base(point).ok_or_else(|| {
            let problem = format!("the snapshot was interrupted {MOST_ATTEMPTS} times");
            unusable("go on with", &folder.join(FILE), &problem)
        })?;
        pending.save(folder)?;
        let snapshot = Snapshot { tables, parallel: 2, limit: LIMIT, ..Snapshot::default() };
        let progress = pending.progress.clone();
        let copying = snapshot.start(info, tls, exported, Arc::clone(&source), progress).await?;
        pending.progress = copying.progress().clone();
        Ok(Self {
            copying,
            source,
            point,
            place: Place::Between,
            rows: None,
            transaction: Arc::default(),
            last: base,
            kept: Kept {
                folder: folder.to_owned(),
                state: Mutex::new(State { pending, told: VecDeque::new() }),
                // No batch: nothing to wait for.
                handled: AtomicU64::new(base),
                changed: Notify::new(),
            },
            stats,
        })
    }

    /// Where the stream goes on from.
    pub(super) fn point(&self) -> Lsn {
        self.point
    }

    /// The next batch, or the end.
    async fn batch(&mut self) -> Result<Option<Rows>, WalError> {
        loop {
            let next = self.copying.next().await.map_err(|error| lost(&error))?;
            self.stats.send_replace(self.copying.stats());
            match next {
                Some(SnapshotEvent::Rows(rows)) if !rows.is_empty() => return Ok(Some(rows)),
                Some(SnapshotEvent::ChunkDone { chunk, oldest }) => {
                    self.kept.lock().told.push_back((self.last, chunk, oldest));
                }
                Some(SnapshotEvent::Done) | None => return Ok(None),
                Some(_) => {}
            }
        }
    }
}

/// The engine knows one kind of interruption; what the snapshot says of it is kept.
fn lost(error: &SnapshotError) -> WalError {
    WalError::Lost { endpoint: "the snapshot's connections".to_owned(), problem: error.to_string() }
}

impl Kept {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // What a panic left behind is at worst an older progress.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events for Copied {
    async fn next(&mut self) -> Result<Event<'_>, WalError> {
        match self.place {
            Place::Between => {
                let Some(rows) = self.batch().await? else {
                    // That there is nothing more counts only when nothing is under way.
                    while self.kept.handled.load(Ordering::Acquire) < self.last {
                        self.kept.changed.notified().await;
                    }
                    self.place = Place::Told;
                    return Ok(Event::Idle { wal_end: self.point });
                };
                self.last += 1;
                self.transaction = Arc::new(Transaction {
                    begin_lsn: self.point,
                    commit_lsn: Lsn(self.last),
                    ..Transaction::default()
                });
                self.rows = Some(rows);
                self.place = Place::Row(0);
                Ok(Event::Begin(&self.transaction))
            }
            Place::Row(index) => {
                let row =
                    self.rows.as_ref().and_then(|rows| Some((rows.table(), rows.get(index)?)));
                let Some((table, new)) = row else {
                    self.place = Place::Between;
                    let end_lsn = Lsn(self.last);
                    return Ok(Event::Commit { transaction: &self.transaction, end_lsn });
                };
                self.place = Place::Row(index + 1);
                Ok(Event::Change(ChangeRef {
                    source: &self.source,
                    transaction: &self.transaction,
                    ordinal: u64::try_from(index).unwrap_or(u64::MAX),
                    lsn: self.point,
                    body: Body::Read { table, new },
                }))
            }
            Place::Told => std::future::pending().await,
        }
    }

    fn handled(&self, lsn: Lsn) {
        let mut state = self.kept.lock();
        let mut changed = false;
        while let Some(&(batch, chunk, oldest)) = state.told.front() {
            if batch > lsn.0 {
                break;
            }
            state.told.pop_front();
            state.pending.progress.record(chunk, oldest);
            changed = true;
        }
        self.kept.handled.fetch_max(lsn.0, Ordering::AcqRel);
        self.kept.changed.notify_one();
        if changed && let Err(error) = state.pending.save(&self.kept.folder) {
            // It only means that more is read again.
            tracing::warn!(problem = %error, "how far the snapshot is could not be kept");
        }
    }

    fn source(&self) -> &Arc<Source> {
        &self.source
    }

    fn is_finished(&self) -> bool {
        matches!(self.place, Place::Told)
    }
}
