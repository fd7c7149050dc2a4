//! Sessions whose writes are not sent on: for what every member has, or is given by us.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use herdsman_wal::quote_literal;
use tokio::time::{Instant, sleep};
use tokio_postgres::types::ToSql;

use super::sql::Commands;
use crate::error::MeshError;
use crate::names;
use crate::stamp::Stamp;
use crate::verify::session::{Seat, Session};

/// The first lane of what is not the applier's; lanes of appliers are below.
pub(crate) const HEAL: u16 = 60_000;
/// How long another session's transaction is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);
/// How long a row is waited for at a time: shorter than `deadlock_timeout`'s default of 1 s, so that of two who wait for each
/// other it is us who gives way, and never a user.
const LOCK: &str = "SET lock_timeout = '500ms'";

/// A statement and its parameters.
pub(crate) type Command<'a> = (&'a str, &'a [&'a (dyn ToSql + Sync)]);

/// Such a session.
pub(crate) struct Marked {
    /// The session.
    pub(crate) session: Session,
    origin: String,
    mesh: String,
    /// The commit time of what it writes, in microseconds, where that is a version; else `i64::MIN`, for the present.
    time: AtomicI64,
}

impl Marked {
    /// Opens one to put things right on a member. There is one of these at a time for each member.
    pub(crate) async fn open(seat: &Seat) -> Result<Self, MeshError> {
        let what = "say to which mesh it belongs";
        let sql = format!("SELECT name FROM {}", names::own("mesh"));
        let row = seat.session.row(what, &sql, &[]).await?;
        let mesh: String = seat.session.get(what, &row, 0)?;
        Self::of(seat.session.another().await?, &mesh, HEAL).await
    }

    /// Makes one of a session.
    pub(crate) async fn of(session: Session, mesh: &str, lane: u16) -> Result<Self, MeshError> {
        let origin = names::origin(mesh, lane);
        let literal = quote_literal(&origin);
        let what = "switch triggers and foreign keys off for this session";
        session.run(what, "SET session_replication_role = replica").await?;
        session.run("prepare the session", LOCK).await?;
        let create = format!(
            "SELECT pg_replication_origin_create({literal}) WHERE pg_replication_origin_oid({literal}) IS NULL"
        );
        session.run("make a replication origin", &create).await?;
        let setup = format!("SELECT pg_replication_origin_session_setup({literal})");
        session.run("mark the session with a replication origin", &setup).await?;
        let time = AtomicI64::new(i64::MIN);
        Ok(Self { session, origin, mesh: mesh.to_owned(), time })
    }

    /// Begins a transaction.
    pub(crate) async fn begin(&self) -> Result<(), MeshError> {
        self.session.run("begin", &self.beginning()).await
    }

    /// What begins a transaction.
    pub(crate) fn beginning(&self) -> String {
        let time = match self.time.load(Ordering::Relaxed) {
            i64::MIN => "now()".to_owned(),
            time => format!("'epoch'::timestamptz + {time} * interval '1 microsecond'"),
        };
        // Without the second statement the transaction would carry the position of the one before.
        format!("BEGIN; SELECT pg_replication_origin_xact_setup('0/1', {time})")
    }

    /// Has what is written from here on be from before all versions, where a transaction is what tells a row's version.
    pub(crate) fn write_as_before(&self) {
        self.write_at(0);
    }

    /// Has what is written from here on be of this time, in microseconds, and of the node it was of before.
    pub(crate) fn write_at(&self, micros: i64) {
        self.time.store(micros, Ordering::Relaxed);
    }

    /// Has what is written from here on be of this version, where a transaction is what tells a row's version; `None`: of
    /// none in particular.
    pub(crate) async fn write_as(&self, version: Option<Stamp>) -> Result<(), MeshError> {
        let (origin, time) = match version {
            Some(stamp) => {
                (format!("herdsman_{}_{}_copy", self.mesh, stamp.node), stamp.micros.max(0))
            }
            None => (self.origin.clone(), i64::MIN),
        };
        let literal = quote_literal(&origin);
        let what = "mark the session with another replication origin";
        let change = format!(
            "SELECT pg_replication_origin_session_reset();
SELECT pg_replication_origin_create({literal}) WHERE pg_replication_origin_oid({literal}) IS NULL;
SELECT pg_replication_origin_session_setup({literal})"
        );
        self.session.run(what, &change).await?;
        self.time.store(time, Ordering::Relaxed);
        Ok(())
    }

    /// Commits.
    pub(crate) async fn commit(&self) -> Result<(), MeshError> {
        self.session.run("commit", "COMMIT").await
    }

    /// Gives the transaction up.
    pub(crate) async fn roll_back(&self) -> Result<(), MeshError> {
        self.session.run("roll back", "ROLLBACK").await
    }

    /// Runs one statement.
    async fn execute(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, MeshError> {
        self.session.execute("put versions of rows in", sql, parameters).await
    }

    /// Runs statements in one transaction, again where it had to give way to another; how many rows the last one changed.
    pub(crate) async fn transaction(&self, commands: &[Command<'_>]) -> Result<u64, MeshError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.once(commands).await {
                Err(error) if gives_way(&error) && Instant::now() < until => {
                    self.roll_back().await?;
                    sleep(Duration::from_millis(50)).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn once(&self, commands: &[Command<'_>]) -> Result<u64, MeshError> {
        self.begin().await?;
        let mut count = 0;
        for (sql, parameters) in commands {
            count = self.execute(sql, parameters).await?;
        }
        self.commit().await?;
        Ok(count)
    }

    /// Takes a TRUNCATE.
    pub(crate) async fn truncated(
        &self,
        commands: &Commands,
        stamp: Stamp,
    ) -> Result<(), MeshError> {
        self.wait_for_clock(Some(stamp)).await?;
        let emptying: Command<'_> = (&commands.after_truncate, &[]);
        let note: Command<'_> = (&commands.truncate, &[&stamp.micros, &stamp.node.0]);
        self.transaction(&[note, emptying]).await?;
        self.others_over().await?;
        self.transaction(&[emptying]).await.map(drop)
    }

    /// Waits until the member's clock is past a version it is given: what is written there then is above it. The applier
    /// raises the floor instead, which only one session may do.
    pub(crate) async fn wait_for_clock(&self, newest: Option<Stamp>) -> Result<(), MeshError> {
        let Some(newest) = newest else { return Ok(()) };
        let what = "wait until its clock is past the versions it is given";
        let until = Instant::now() + PATIENCE;
        loop {
            let sql = "SELECT (date_part('epoch', clock_timestamp()) * 1000000)::bigint";
            let row = self.session.row(what, sql, &[]).await?;
            if self.session.get::<i64>(what, &row, 0)? > newest.micros {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(self.late(what));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the transactions are over that others of our role have open here now.
    pub(crate) async fn others_over(&self) -> Result<(), MeshError> {
        let what = "wait until what is being applied there is committed";
        let sql = "SELECT array(SELECT backend_xid::text FROM pg_stat_activity
WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() AND datname = current_database() AND usename = current_user)";
        let until = Instant::now() + PATIENCE;
        let mut open: Option<Vec<String>> = None;
        loop {
            let row = self.session.row(what, sql, &[]).await?;
            let now: Vec<String> = self.session.get(what, &row, 0)?;
            let left = match open {
                None => now,
                Some(open) => open.into_iter().filter(|xid| now.contains(xid)).collect(),
            };
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(self.late(what));
            }
            open = Some(left);
            sleep(POLL).await;
        }
    }

    /// Ends it and removes its origin.
    pub(crate) async fn close(self) -> Result<(), MeshError> {
        let origin = quote_literal(&self.origin);
        let sql = format!(
            "SELECT pg_replication_origin_session_reset(); SELECT pg_replication_origin_drop({origin})"
        );
        self.session.run("remove a replication origin", &sql).await
    }

    fn late(&self, what: &str) -> MeshError {
        MeshError::TimedOut {
            node: self.session.node.clone(),
            what: what.to_owned(),
            seconds: PATIENCE.as_secs(),
        }
    }
}

/// Whether a transaction failed only because another was in its way.
pub(crate) fn gives_way(error: &MeshError) -> bool {
    // Not to be had in time, deadlock, serialization failure.
    matches!(error, MeshError::Sql { source, .. }
        if source.code().is_some_and(|code| ["55P03", "40P01", "40001"].contains(&code.code())))
}
