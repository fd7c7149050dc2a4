//! An ordinary connection that reads tables.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use herdsman_node::{Conninfo, Tls, connect};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, CopyOutStream, Row};

use crate::catalogue::Catalogue;
use crate::pinned;
use crate::snapshot::SnapshotError;
use crate::{TypeBook, quote_literal};

/// A connection that reads tables for a snapshot, with the same settings as the stream, so that a value has the same
/// text whichever way it comes. It ends when it is dropped.
#[derive(Debug)]
pub struct SnapshotConnection {
    client: Client,
    endpoint: String,
    limit: Duration,
    catalogue: tokio::sync::Mutex<Catalogue>,
    /// A transaction was begun and not ended: whoever began it was dropped, or failed.
    within: AtomicBool,
}

/// A copy under way.
pub(crate) struct Pieces {
    copying: Pin<Box<CopyOutStream>>,
    endpoint: String,
    what: String,
}

/// What a read must not be ended by: it takes as long as the table is large and the receiver slow.
const UNBOUNDED: &str = "SELECT count(set_config(name, '0', false)) FROM pg_catalog.pg_settings
    WHERE name IN ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout')";

impl SnapshotConnection {
    /// Connects. Each step but the reading of rows may take `limit`; so may waiting for a table's lock.
    ///
    /// # Errors
    /// [`SnapshotError`]: no connection, or the settings were refused.
    pub async fn open(info: &Conninfo, tls: &Tls, limit: Duration) -> Result<Self, SnapshotError> {
        let (client, driving) = connect(info, tls, limit).await?.split(|_| {});
        let endpoint = info.endpoint();
        let at = endpoint.clone();
        // Ends by itself when the client is dropped.
        tokio::spawn(async move {
            let story = driving.await;
            tracing::debug!(endpoint = at, story, "a snapshot's connection is over");
        });
        let catalogue = Catalogue::new(info.clone(), tls.clone(), limit).into();
        let this = Self { client, endpoint, limit, catalogue, within: AtomicBool::new(false) };
        let pins = pinned::SETTINGS.iter();
        let mut settings: Vec<String> =
            pins.map(|(name, value)| format!("SET {name} = {}", quote_literal(value))).collect();
        // Policies hide no rows from the stream. Where they would hide some from us, this makes the server refuse.
        settings.push("SET row_security = off".to_owned());
        settings.push(format!("SET lock_timeout = {}", limit.as_millis()));
        settings.push(UNBOUNDED.to_owned());
        this.run("take its settings", &settings.join(";")).await?;
        Ok(this)
    }

    /// `host:port` of the server.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Begins a transaction that sees one state of the database.
    pub(crate) async fn begin(&self, snapshot: Option<&str>) -> Result<(), SnapshotError> {
        self.end_old().await?;
        self.within.store(true, Ordering::Relaxed);
        self.run("begin to read", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let Some(name) = snapshot else { return Ok(()) };
        let sql = format!("SET TRANSACTION SNAPSHOT {}", quote_literal(name));
        self.run("read from a snapshot", &sql).await.map_err(|error| match error {
            // No such snapshot; the code and the words depend on the server's version.
            SnapshotError::Refused { endpoint, sqlstate, .. }
                if matches!(sqlstate.as_str(), "22023" | "42704" | "42809" | "58P01") =>
            {
                SnapshotError::Gone { endpoint, snapshot: name.to_owned() }
            }
            other => other,
        })
    }

    /// Runs `sql` in a transaction that may write, and commits it without waiting for standbys: one that does not answer
    /// must not hold it up.
    pub(crate) async fn write(
        &self,
        what: &'static str,
        sql: &str,
    ) -> Result<String, SnapshotError> {
        self.end_old().await?;
        self.within.store(true, Ordering::Relaxed);
        self.run(what, "BEGIN READ WRITE; SET LOCAL synchronous_commit = local").await?;
        let [answer] = self.texts(what, sql).await?;
        self.commit().await?;
        Ok(answer)
    }

    async fn end_old(&self) -> Result<(), SnapshotError> {
        if self.within.swap(false, Ordering::Relaxed) {
            self.run("end a transaction", "ROLLBACK").await?;
        }
        Ok(())
    }

    pub(crate) async fn commit(&self) -> Result<(), SnapshotError> {
        self.run("end a transaction", "COMMIT").await?;
        self.within.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Commands without answers.
    pub(crate) async fn run(&self, what: &'static str, sql: &str) -> Result<(), SnapshotError> {
        self.bounded(what, self.client.batch_execute(sql)).await
    }

    pub(crate) async fn query(
        &self,
        what: &'static str,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, SnapshotError> {
        self.bounded(what, Box::pin(self.client.query_typed(sql, parameters))).await
    }

    /// The one row of an answer, as texts.
    pub(crate) async fn texts<const N: usize>(
        &self,
        what: &'static str,
        sql: &str,
    ) -> Result<[String; N], SnapshotError> {
        let rows = self.query(what, sql, &[]).await?;
        let row = rows.first().ok_or_else(|| self.malformed(what, "no row"))?;
        let mut texts = [const { String::new() }; N];
        for (index, text) in texts.iter_mut().enumerate() {
            *text = self.field(row, index, what)?;
        }
        Ok(texts)
    }

    pub(crate) fn field<'a, T: tokio_postgres::types::FromSql<'a>>(
        &self,
        row: &'a Row,
        index: usize,
        what: &'static str,
    ) -> Result<T, SnapshotError> {
        row.try_get(index).map_err(|error| self.malformed(what, &error.to_string()))
    }

    pub(crate) fn malformed(&self, what: &str, problem: &str) -> SnapshotError {
        let (what, problem) = (what.to_owned(), problem.to_owned());
        SnapshotError::Malformed { endpoint: self.endpoint.clone(), what, problem }
    }

    /// What `COPY … TO STDOUT` writes.
    pub(crate) async fn copy(&self, table: &str, sql: &str) -> Result<Pieces, SnapshotError> {
        let what = format!("read table `{table}`");
        let copying = Box::pin(self.client.copy_out(sql)).await;
        let copying = copying.map_err(|error| SnapshotError::of(&self.endpoint, &what, &error))?;
        Ok(Pieces { copying: Box::pin(copying), endpoint: self.endpoint.clone(), what })
    }

    /// What is known of these types, and all they are made of.
    pub(crate) async fn types(&self, oids: &[u32]) -> TypeBook {
        let mut book = TypeBook::default();
        self.catalogue.lock().await.learn(&mut book, oids).await;
        book
    }

    async fn bounded<T>(
        &self,
        what: &'static str,
        step: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, SnapshotError> {
        // The server gives up on a lock by itself after `limit`: its own word is the better one.
        match tokio::time::timeout(self.limit + Duration::from_secs(2), step).await {
            Ok(outcome) => outcome.map_err(|error| SnapshotError::of(&self.endpoint, what, &error)),
            Err(_) => Err(SnapshotError::TimedOut {
                endpoint: self.endpoint.clone(),
                what,
                seconds: self.limit.as_secs(),
            }),
        }
    }
}

impl Pieces {
    /// More of it. How long that takes is not bounded, only by the connection's own keepalive: it may be long in coming
    /// where few rows fit a condition.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        let next = self.copying.try_next().await;
        next.map_err(|error| SnapshotError::of(&self.endpoint, &self.what, &error))
    }
}
