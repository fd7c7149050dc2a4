//! The session on a member: its settings, its lease and its replication origin.

use std::time::Duration;

use herdsman_node::{Conninfo, NodeName, Tls, connect};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::error::MeshError;
use crate::names;

/// How long the member may take to let us in.
const CONNECT: Duration = Duration::from_secs(10);
/// How long it may take to answer anything but a batch.
const ANSWER: Duration = Duration::from_secs(30);
/// A holder of the lease that has done nothing at all for so long is frozen or cut off.
const STALE_SECONDS: i32 = 30;
/// How long what was ended may take to let go of the lease or the origin.
const LET_GO: Duration = Duration::from_secs(10);

/// Rows look the same on every member; limits that are meant for applications do not count; plans are those that are
/// right for a batch whatever the statistics say; and no trigger but ours, no foreign key and no rule acts.
const SETTINGS: &str = "
SET search_path = pg_catalog, pg_temp; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC';
SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET xmlbinary = 'base64'; SET xmloption = 'content';
SET statement_timeout = '10min'; SET lock_timeout = '2s'; SET idle_in_transaction_session_timeout = '10min';
SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off; SET row_security = off;
SET synchronous_commit = off; SET session_replication_role = replica; SET jit = off;
SET plan_cache_mode = force_generic_plan; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off;
SET enable_material = off; SET enable_memoize = off; SET enable_bitmapscan = off; SET max_parallel_workers_per_gather = 0";

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) node: NodeName,
    pub(crate) client: Client,
    key: i64,
    /// Who works for the holder of the lease.
    lanes_key: i64,
}

impl Session {
    /// Connects, takes the lease of this mesh there, and has what is written marked as not the member's own.
    pub(crate) async fn open(
        node: &NodeName,
        info: &Conninfo,
        mesh: &str,
    ) -> Result<Self, MeshError> {
        let session = Self::connect(node, info, mesh).await?;
        session.take_lease().await?;
        session.end_lanes().await?;
        session.note_lease().await?;
        session.set_origin(mesh).await?;
        Ok(session)
    }

    /// A session that works for this one, which holds the lease.
    pub(crate) async fn lane(
        &self,
        info: &Conninfo,
        mesh: &str,
        lane: u16,
    ) -> Result<Self, MeshError> {
        let what = "say who it is";
        let row = self.row(what, "SELECT pg_backend_pid()", &[]).await?;
        let holder: i32 = self.get(what, &row, 0)?;
        let session = Self::connect(&self.node, info, mesh).await?;
        session.work_for(holder).await?;
        session.take_origin(mesh, lane).await?;
        Ok(session)
    }

    async fn connect(node: &NodeName, info: &Conninfo, mesh: &str) -> Result<Self, MeshError> {
        let mut info = info.clone();
        info.application_name = "herdsman mesh".into();
        let tls =
            Tls::new(&info).map_err(|source| MeshError::Tls { node: node.clone(), source })?;
        let (client, driving) = connect(&info, &tls, CONNECT)
            .await
            .map_err(|source| MeshError::Connect { node: node.clone(), source })?
            .split(|_| {});
        // Ends by itself once the client is dropped, and the session with it.
        tokio::spawn(driving);
        let mut session = Self { node: node.clone(), client, key: 0, lanes_key: 0 };
        session.run("prepare the session", SETTINGS).await?;
        let what = "take the lease";
        let hash = "SELECT hashtextextended('herdsman mesh ' || $1, 0), hashtextextended('herdsman mesh lanes ' || $1, 0)";
        let row = session.row(what, hash, &[&mesh]).await?;
        session.key = session.get(what, &row, 0)?;
        session.lanes_key = session.get(what, &row, 1)?;
        Ok(session)
    }

    /// Tells others that this process still works.
    pub(crate) async fn renew(&self) -> Result<(), MeshError> {
        let sql = format!(
            "UPDATE {} SET renewed = clock_timestamp() WHERE pid = pg_backend_pid()",
            names::own("lease")
        );
        self.run("renew the lease", &sql).await
    }

    async fn take_lease(&self) -> Result<(), MeshError> {
        if self.try_lock().await? { Ok(()) } else { self.end_stale().await }
    }

    /// Notes who has the lease.
    async fn note_lease(&self) -> Result<(), MeshError> {
        let what = "take the lease";
        let sql = format!(
            "INSERT INTO {} AS l (one, holder, pid, renewed)
SELECT true, 'process ' || $1::text || ' on ' || coalesce(host(inet_client_addr()), 'the same machine'), pg_backend_pid(), clock_timestamp()
ON CONFLICT (one) DO UPDATE SET holder = excluded.holder, pid = excluded.pid, renewed = excluded.renewed",
            names::own("lease")
        );
        self.rows(what, &sql, &[&std::process::id().to_string()]).await.map(drop)
    }

    /// Ends sessions that worked for whoever had the lease before: what one of them is in the middle of would be met by what
    /// is applied now, and neither would see the other. Who takes the lease waits until they are gone.
    async fn end_lanes(&self) -> Result<(), MeshError> {
        let what = "end the sessions of who had the lease before";
        let end = "SELECT pg_terminate_backend(l.pid) FROM pg_locks AS l
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32 | l.objid::bigint) = $1";
        let lock = "SELECT pg_try_advisory_lock($1)";
        let ending = async {
            loop {
                let row = self.row(what, lock, &[&self.lanes_key]).await?;
                if self.get(what, &row, 0)? {
                    break;
                }
                self.rows(what, end, &[&self.lanes_key]).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            self.rows(what, "SELECT pg_advisory_unlock($1)", &[&self.lanes_key]).await.map(drop)
        };
        match tokio::time::timeout(LET_GO, ending).await {
            Ok(ended) => ended,
            Err(_) => Err(self.timed_out(what, LET_GO)),
        }
    }

    /// Has whoever takes the lease from this holder wait until this session is gone, and makes sure that nobody has it yet.
    async fn work_for(&self, holder: i32) -> Result<(), MeshError> {
        let what = "work for who has the lease";
        // In this order: who takes the lease after the look finds this session.
        let lock = "SELECT pg_try_advisory_lock_shared($1)";
        let row = self.row(what, lock, &[&self.lanes_key]).await?;
        let held = "SELECT EXISTS (SELECT FROM pg_locks AS l
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.mode = 'ExclusiveLock' AND l.pid = $2
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32 | l.objid::bigint) = $1)";
        let locked: bool = self.get(what, &row, 0)?;
        let row = self.row(what, held, &[&self.key, &holder]).await?;
        if locked && self.get(what, &row, 0)? {
            return Ok(());
        }
        let holder = "another session".to_owned();
        Err(MeshError::LeaseHeld { node: self.node.clone(), holder })
    }

    async fn try_lock(&self) -> Result<bool, MeshError> {
        let what = "take the lease";
        let row = self.row(what, "SELECT pg_try_advisory_lock($1)", &[&self.key]).await?;
        self.get(what, &row, 0)
    }

    /// Ends the session that holds the lease where nothing has come from it for long; else says who holds it.
    async fn end_stale(&self) -> Result<(), MeshError> {
        let what = "see who has the lease";
        let sql = format!(
            "SELECT coalesce(e.holder, 'another session'), l.pid,
  coalesce(e.renewed < clock_timestamp() - make_interval(secs => $2), true)
  AND coalesce(greatest(a.state_change, a.query_start) < clock_timestamp() - make_interval(secs => $2), true) AND coalesce(a.state <> 'active', true)
FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid LEFT JOIN {} AS e ON e.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32 | l.objid::bigint) = $1",
            names::own("lease")
        );
        let seconds = f64::from(STALE_SECONDS);
        let rows = self.rows(what, &sql, &[&self.key, &seconds]).await?;
        let Some(row) = rows.first() else { return self.wait_for_lock("another session").await };
        let (holder, pid, stale) = (
            self.get::<String>(what, row, 0)?,
            self.get::<i32>(what, row, 1)?,
            self.get::<bool>(what, row, 2)?,
        );
        if !stale {
            return Err(MeshError::LeaseHeld { node: self.node.clone(), holder });
        }
        tracing::warn!(node = %self.node, holder, pid, "ending a session that holds the lease and does nothing");
        self.rows(what, "SELECT pg_terminate_backend($1)", &[&pid]).await?;
        self.wait_for_lock(&holder).await
    }

    async fn wait_for_lock(&self, holder: &str) -> Result<(), MeshError> {
        let waiting = async {
            while !self.try_lock().await? {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        match tokio::time::timeout(LET_GO, waiting).await {
            Ok(taken) => taken,
            Err(_) => {
                Err(MeshError::LeaseHeld { node: self.node.clone(), holder: holder.to_owned() })
            }
        }
    }

    /// Everything written from here on carries an origin, so that it is not read as the member's own and sent on. Where
    /// these functions are not allowed, a logical message first in each transaction can mark it instead; that is another
    /// form of this function and of the reader's filter, and not built.
    async fn set_origin(&self, mesh: &str) -> Result<(), MeshError> {
        self.take_origin(mesh, 0).await
    }

    /// Has what is written from here on carry another origin.
    pub(crate) async fn change_origin(&self, mesh: &str, lane: u16) -> Result<(), MeshError> {
        let what = "give up its replication origin";
        let reset = "SELECT pg_replication_origin_session_reset() WHERE pg_replication_origin_session_is_setup()";
        self.rows(what, reset, &[]).await?;
        self.take_origin(mesh, lane).await
    }

    async fn take_origin(&self, mesh: &str, lane: u16) -> Result<(), MeshError> {
        let what = "set up its replication origin";
        let origin = names::origin(mesh, lane);
        let create =
            "SELECT pg_replication_origin_create($1) WHERE pg_replication_origin_oid($1) IS NULL";
        self.rows(what, create, &[&origin]).await?;
        let patience = tokio::time::Instant::now() + LET_GO;
        loop {
            let set = "SELECT pg_replication_origin_session_setup($1)";
            match self.rows(what, set, &[&origin]).await {
                // Whoever has it had the lease before us and is on the way out.
                Err(MeshError::Sql { source, .. })
                    if source.code().is_some_and(|code| code.code() == "55006")
                        && tokio::time::Instant::now() < patience =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                outcome => return outcome.map(drop),
            }
        }
    }

    /// Runs statements. `what` completes "failed to …".
    pub(crate) async fn run(&self, what: &str, sql: &str) -> Result<(), MeshError> {
        self.bounded(what, self.client.batch_execute(sql)).await
    }

    /// Asks.
    pub(crate) async fn rows(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, MeshError> {
        self.bounded(what, self.client.query(sql, parameters)).await
    }

    pub(crate) async fn row(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, MeshError> {
        self.bounded(what, self.client.query_one(sql, parameters)).await
    }

    pub(crate) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(
        &self,
        what: &str,
        row: &'a Row,
        column: usize,
    ) -> Result<T, MeshError> {
        row.try_get(column).map_err(|error| self.failed(what, error))
    }

    async fn bounded<T>(
        &self,
        what: &str,
        asking: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, MeshError> {
        match tokio::time::timeout(ANSWER, asking).await {
            Ok(answer) => answer.map_err(|error| self.failed(what, error)),
            Err(_) => Err(self.timed_out(what, ANSWER)),
        }
    }

    pub(crate) fn timed_out(&self, what: &str, limit: Duration) -> MeshError {
        MeshError::TimedOut {
            node: self.node.clone(),
            what: what.to_owned(),
            seconds: limit.as_secs(),
        }
    }

    pub(crate) fn failed(&self, what: &str, source: tokio_postgres::Error) -> MeshError {
        MeshError::Sql { node: self.node.clone(), what: what.to_owned(), source }
    }
}
