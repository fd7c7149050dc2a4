//! A log in a file, for a ledger on one machine, without a broker.
//!
//! It is an SQLite database in WAL mode that is synced on every commit. One thread appends: what waits while it syncs is
//! in its next transaction, so that a hundred writers cost one sync. Several programs on the machine may append to and
//! read the same file.

use std::{
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use thiserror::Error;
use tokio::sync::{oneshot, watch};

use super::{AppendError, Log, ReadError, Reader, Record, Unavailable, check_order};
use crate::{Offset, worker::Worker};

/// The most records of one sync; the rest waits for the next.
const BATCH_MOST: usize = 512;
/// How many records a reader is handed at once.
const AT_ONCE: u32 = 256;
/// How soon a reader sees what another program appended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long another program may hold the file.
const BUSY: Duration = Duration::from_secs(10);

/// The file cannot be used as a log.
#[derive(Debug, Error)]
#[error("cannot open the log {}: {reason}", path.display())]
pub struct EmbeddedError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// A log in a file. Clones are the same log.
#[derive(Clone)]
pub struct EmbeddedLog {
    path: PathBuf,
    appender: mpsc::Sender<Append>,
    asker: Worker,
    grown: watch::Sender<()>,
}

struct Append {
    body: Vec<u8>,
    tell: oneshot::Sender<Result<Offset, AppendError>>,
}

impl EmbeddedLog {
    /// Opens the file, and makes it if it is not there.
    ///
    /// # Errors
    /// It cannot be opened, or is something else.
    pub fn open(path: &Path) -> Result<Self, EmbeddedError> {
        let failed = |reason: String| EmbeddedError { path: path.to_path_buf(), reason };
        let connection = connect(path).map_err(|error| failed(error.to_string()))?;
        connection
            .execute_batch(
                "CREATE TABLE IF NOT EXISTS record (at INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
                 CREATE TABLE IF NOT EXISTS first (one INTEGER PRIMARY KEY CHECK (one = 1), at INTEGER NOT NULL) STRICT;
                 INSERT INTO first VALUES (1, 0) ON CONFLICT DO NOTHING;",
            )
            .map_err(|error| failed(error.to_string()))?;
        let asker = connect(path).map_err(|error| failed(error.to_string()))?;
        let asker =
            Worker::start("ledger-log-ask", asker).map_err(|error| failed(error.to_string()))?;
        let (appender, inbox) = mpsc::channel();
        let grown = watch::Sender::new(());
        let tell = grown.clone();
        thread::Builder::new()
            .name("ledger-log".to_owned())
            .spawn(move || append_all(connection, &inbox, &tell))
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { path: path.to_path_buf(), appender, asker, grown })
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Unavailable> {
        answered(self.asker.run(question).await)
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    async fn append(&self, body: Vec<u8>) -> Result<Offset, AppendError> {
        let (tell, told) = oneshot::channel();
        let gone = || "its thread has ended".to_owned();
        self.appender.send(Append { body, tell }).map_err(|_| AppendError::Rejected(gone()))?;
        told.await.unwrap_or_else(|_| Err(AppendError::Unknown(gone())))
    }

    async fn end(&self) -> Result<Offset, Unavailable> {
        self.ask(|connection| end(connection)).await
    }

    async fn start(&self) -> Result<Offset, Unavailable> {
        self.ask(|connection| first(connection)).await
    }

    async fn read(&self, from: Offset) -> Result<Box<dyn Reader>, Unavailable> {
        let connection = connect(&self.path).map_err(|error| Unavailable(error.to_string()))?;
        let worker = Worker::start("ledger-log-read", connection);
        let worker = worker.map_err(|error| Unavailable(error.to_string()))?;
        Ok(Box::new(EmbeddedReader { worker, next: from, grown: self.grown.subscribe() }))
    }

    async fn trim(&self, below: Offset) -> Result<(), Unavailable> {
        self.ask(move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let below = below.min(end(&transaction)?);
            transaction.execute("UPDATE first SET at = max(at, ?)", [signed(below)])?;
            transaction.execute("DELETE FROM record WHERE at < ?", [signed(below)])?;
            transaction.commit()
        })
        .await
    }
}

struct EmbeddedReader {
    worker: Worker,
    next: Offset,
    grown: watch::Receiver<()>,
}

#[async_trait]
impl Reader for EmbeddedReader {
    async fn next(&mut self) -> Result<Vec<Record>, ReadError> {
        loop {
            self.grown.mark_unchanged();
            let from = self.next;
            let (first, end, records) = answered(self.worker.run(move |it| there(it, from)).await)?;
            if from < first {
                return Err(ReadError::Trimmed { first, wanted: from });
            }
            if from > end {
                return Err(ReadError::Short { wanted: from });
            }
            check_order(&mut self.next, &records)?;
            if !records.is_empty() {
                return Ok(records);
            }
            tokio::select! {
                changed = self.grown.changed() => if changed.is_err() {
                    // The log was dropped; others may still append.
                    tokio::time::sleep(LOOK_EVERY).await;
                },
                () = tokio::time::sleep(LOOK_EVERY) => (),
            }
        }
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
    Ok(connection)
}

fn answered<T>(answer: Option<rusqlite::Result<T>>) -> Result<T, Unavailable> {
    answer
        .ok_or_else(|| Unavailable("its thread has ended".to_owned()))?
        .map_err(|error| Unavailable(error.to_string()))
}

/// Takes what waits, writes it, syncs once, and tells all.
fn append_all(
    mut connection: Connection,
    inbox: &mpsc::Receiver<Append>,
    grown: &watch::Sender<()>,
) {
    while let Ok(one) = inbox.recv() {
        let mut batch = vec![one];
        while batch.len() < BATCH_MOST
            && let Ok(more) = inbox.try_recv()
        {
            batch.push(more);
        }
        let result = append(&mut connection, &batch);
        if result.is_ok() {
            grown.send_replace(());
        }
        for (i, one) in (0_u64..).zip(batch) {
            // Who asked may have given up.
            drop(one.tell.send(result.clone().map(|first| Offset(first.0.saturating_add(i)))));
        }
    }
}

/// The place of the first of them.
fn append(connection: &mut Connection, batch: &[Append]) -> Result<Offset, AppendError> {
    let rejected = |error: rusqlite::Error| AppendError::Rejected(error.to_string());
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(rejected)?;
    let first = end(&transaction).map_err(rejected)?;
    {
        let mut insert =
            transaction.prepare_cached("INSERT INTO record VALUES (?, ?)").map_err(rejected)?;
        let mut at = first;
        for one in batch {
            insert.execute(params![signed(at), one.body]).map_err(rejected)?;
            at = at.next();
        }
    }
    // What a commit that failed has left on the disk is for the next one who opens it to say.
    transaction.commit().map_err(|error| AppendError::Unknown(error.to_string()))?;
    Ok(first)
}

fn there(
    connection: &mut Connection,
    from: Offset,
) -> rusqlite::Result<(Offset, Offset, Vec<Record>)> {
    let snapshot = connection.transaction()?;
    let bounds = (first(&snapshot)?, end(&snapshot)?);
    let mut select =
        snapshot.prepare_cached("SELECT at, body FROM record WHERE at >= ? ORDER BY at LIMIT ?")?;
    let records = select.query_map(params![signed(from), AT_ONCE], |row| {
        Ok(Record { at: unsigned(row.get(0)?), body: row.get(1)? })
    })?;
    Ok((bounds.0, bounds.1, records.collect::<rusqlite::Result<_>>()?))
}

fn first(connection: &Connection) -> rusqlite::Result<Offset> {
    connection.query_row("SELECT at FROM first", [], |row| row.get(0)).map(unsigned)
}

fn end(connection: &Connection) -> rusqlite::Result<Offset> {
    let newest: Option<i64> = connection
        .query_row("SELECT at FROM record ORDER BY at DESC LIMIT 1", [], |row| row.get(0))
        .optional()?;
    newest.map_or_else(|| first(connection), |newest| Ok(unsigned(newest).next()))
}

fn signed(at: Offset) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

fn unsigned(at: i64) -> Offset {
    Offset(u64::try_from(at).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_programs_share_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (one, other) = (EmbeddedLog::open(&path).unwrap(), EmbeddedLog::open(&path).unwrap());
        let mut reader = other.read(Offset(0)).await.unwrap();
        for (body, log) in (0..20).zip([&one, &other].into_iter().cycle()) {
            assert_eq!(log.append(vec![body]).await, Ok(Offset(u64::from(body))));
        }
        let mut seen = Vec::new();
        while seen.len() < 20 {
            seen.extend(reader.next().await.unwrap());
        }
        assert!((0..20).eq(seen.into_iter().flat_map(|record| record.body)));
    }

    #[tokio::test]
    async fn what_was_appended_is_there_after_a_restart_also_when_all_was_trimmed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = EmbeddedLog::open(&path).unwrap();
        for body in 0..3 {
            log.append(vec![body]).await.unwrap();
        }
        drop(log);
        let log = EmbeddedLog::open(&path).unwrap();
        assert_eq!(log.end().await, Ok(Offset(3)));
        log.trim(Offset(3)).await.unwrap();
        drop(log);
        assert_eq!(EmbeddedLog::open(&path).unwrap().append(vec![3]).await, Ok(Offset(3)));
    }

    #[test]
    fn a_file_that_is_no_log_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, "not a database, and long enough to look like one".repeat(100))
            .unwrap();
        let error = EmbeddedLog::open(&path).err().unwrap();
        assert!(error.to_string().contains("not a database"), "{error}");
    }
}
