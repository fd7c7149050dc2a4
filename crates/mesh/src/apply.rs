//! One session on a member that applies what the others wrote.
//!
//! Changes that meet just what their writers saw need no more than an UPDATE or DELETE each, and how many did says
//! whether all did. What else there is of a group is applied table by table, each with one statement for its rows and one
//! for its tombstones, all sent in one flight with BEGIN, progress and COMMIT around them. That transaction sees one
//! snapshot (REPEATABLE READ):
//! what its statements find to be a conflict is what they then overwrite, or the server refuses to go on and it is done
//! again. Where that does not help – large transactions that come in parts, rows that local writers never leave alone,
//! rows that claim the same value of another unique constraint – it is done carefully: READ COMMITTED, rows locked first,
//! one statement at a time. Where there is much to apply, other sessions help: see `lanes`.

mod batches;
mod careful;
mod clock;
mod drained;
mod fast;
mod fixed;
mod flight;
mod forms;
mod held;
mod lanes;
mod late;
mod logged;
mod params;
mod quick;
mod session;
mod several;
mod statements;
mod stopped;
mod tables;
mod unique;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use herdsman_node::{Conninfo, Lsn};
use tracing::{Instrument as _, Span};

use crate::config::{Mode, UniquePolicy};
use crate::error::MeshError;
use crate::group::{Group, TableBatch};
use crate::install;
use crate::names;
use crate::setup::{Member, Setup};
use crate::stamp::NodeId;
use clock::Clock;
pub(crate) use clock::sample;
pub(crate) use fast::simple;
use fixed::Fixed;
pub(crate) use flight::send;
pub(crate) use forms::Misfit;
pub(crate) use held::Alteration;
use held::Held;
use lanes::{Lanes, Turn};
use late::Late;
use session::Session;
pub(crate) use statements::mend_all;
use stopped::Stopped;
use tables::Tables;

/// A session on a member. It holds the member's lease as long as it lives: no other process applies there.
///
/// A call that is dropped while it waits leaves the session unusable, never half of something applied: every later call
/// fails, and dropping the session rolls back what was open.
#[derive(Debug)]
pub struct Applier {
    /// Whose session.
    pub member: Member,
    session: Session,
    tables: Tables,
    /// The members' names, for errors.
    names: BTreeMap<NodeId, String>,
    unique: UniquePolicy,
    mesh: String,
    mode: Mode,
    clock: Clock,
    fixed: Fixed,
    late: Arc<Late>,
    /// Tables with rows in `herdsman.evicted`.
    evicted: BTreeSet<Box<str>>,
    /// Such rows may have come, or values they wait for been freed, by another session.
    unsettled: bool,
    /// The last conflict record counted.
    counted: i64,
    state: State,
    /// Sessions beside this one.
    lanes: Lanes,
    /// What this session does is one of several things at once.
    turn: Option<Turn>,
    /// The open transaction is held for `mesh ddl`.
    held: Option<Held>,
    renewed: tokio::time::Instant,
    /// How long the server takes to answer, the last time.
    round_trip: Duration,
}

/// What the session is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// A transaction is open: a part of a large one is applied.
    Open {
        newest: i64,
        rows: u64,
        keys: i64,
        transactions: i64,
    },
    /// Something failed or was given up on the way.
    Unusable,
}

/// How far a member has got with another's changes: a row of `herdsman.progress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Everything up to here is applied.
    pub lsn: Lsn,
    /// The last sign of life that was applied.
    pub heartbeat: i64,
}

/// What applying came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rows and tombstones that took the place of something, or were new.
    pub rows: u64,
    /// Conflicts that were recorded.
    pub conflicts: u64,
    /// Whether all this session has ever committed is on disk now.
    pub durable: bool,
}

impl Applied {
    /// Adds what came after it.
    fn add(&mut self, more: Self) {
        self.rows += more.rows;
        self.conflicts += more.conflicts;
        self.durable = more.durable;
    }
}

/// How often the lease is renewed while there is work.
const RENEW: Duration = Duration::from_secs(5);
/// How long one transaction may take. Rows that are locked by local writers are waited for within it.
const LIMIT: Duration = Duration::from_secs(600);
/// How often a transaction is tried in one flight, and then carefully.
const FAST: u32 = 3;
const CAREFUL: u32 = 6;

impl Applier {
    /// Opens the session and takes the lease.
    ///
    /// # Errors
    /// The node cannot be reached, is not prepared, or another process has the lease ([`MeshError::LeaseHeld`], at once).
    pub async fn open(
        setup: &Arc<Setup>,
        member: &Member,
        info: &Conninfo,
    ) -> Result<Self, MeshError> {
        let session = Session::open(&member.name, info, &setup.config.name).await?;
        let names = own_names(&session, member).await?;
        let tables = install::tables(setup, &member.name, &session.client).await?;
        let what = "see what it holds";
        let last = format!("SELECT coalesce(max(id), 0) FROM {}", names::own("conflicts"));
        let counted: i64 = session.get(what, &session.row(what, &last, &[]).await?, 0)?;
        let mode = setup.config.mode;
        let fixed = Fixed::prepare(&session, mode, 0).await?;
        let mut applier = Self {
            member: member.clone(),
            tables: Tables::new(tables, member.id),
            late: Arc::new(Late::new(names.len() > 2 && mode == Mode::Columns)),
            names,
            unique: setup.config.unique,
            mesh: setup.config.name.clone(),
            mode,
            clock: Clock::default(),
            fixed,
            evicted: BTreeSet::new(),
            unsettled: false,
            counted,
            session,
            state: State::Ready,
            lanes: Lanes::new(setup, info),
            turn: None,
            held: None,
            renewed: tokio::time::Instant::now(),
            round_trip: Duration::ZERO,
        };
        applier.gather().await?;
        applier.look_at_evicted().await?;
        Ok(applier)
    }

    /// How far the member is, by source.
    ///
    /// # Errors
    /// The statement failed.
    pub async fn progress(&self) -> Result<BTreeMap<NodeId, Progress>, MeshError> {
        let what = "read how far it is";
        let sql = format!("SELECT source, lsn::text, heartbeat FROM {}", names::own("progress"));
        let mut progress = BTreeMap::new();
        for row in self.session.rows(what, &sql, &[]).await? {
            let lsn: String = self.session.get(what, &row, 1)?;
            let lsn = lsn.parse().unwrap_or_default();
            let heartbeat = self.session.get(what, &row, 2)?;
            progress.insert(NodeId(self.session.get(what, &row, 0)?), Progress { lsn, heartbeat });
        }
        Ok(progress)
    }

    /// Applies groups in one local transaction, which is committed where the last group is complete; else it stays open
    /// for the next call. Groups of the member itself are its self-stream. Without groups it renews the lease, and with
    /// `durable` makes everything durable that was committed before.
    ///
    /// # Errors
    /// The session is lost or a statement failed for good; nothing of the transaction is applied then, and the session
    /// is of no further use.
    pub async fn apply(&mut self, groups: &[Group], durable: bool) -> Result<Applied, MeshError> {
        let state = std::mem::replace(&mut self.state, State::Unusable);
        if state == State::Unusable {
            return Err(MeshError::refused(
                format!(
                    "node `{}`: a transaction was given up half way in this session",
                    self.member.name
                ),
                "open another session",
            ));
        }
        let renew = self.renewed.elapsed() > RENEW;
        let span = if groups.is_empty() {
            Span::none()
        } else {
            tracing::debug_span!(
                target: "otel",
                "mesh apply",
                herdsman.node = %self.member.name,
                herdsman.groups = groups.len(),
                herdsman.durable = durable,
            )
        };
        let working = async {
            match state {
                State::Ready if groups.is_empty() => self.nothing(durable).await,
                _ if self.mode == Mode::Untouched => self.one_by_one(groups, durable, state).await,
                State::Ready => self.ladder(groups, durable).await,
                _ => self.careful(groups, durable, state).await.map_err(Stopped::into_error),
            }
        };
        let working = Box::pin(working.instrument(span));
        let applied = match tokio::time::timeout(LIMIT, working).await {
            Ok(applied) => applied?,
            Err(_) => return Err(self.session.timed_out("apply changes", LIMIT)),
        };
        // Left as it was: there is nothing open.
        if self.state == State::Unusable {
            self.state = State::Ready;
            if renew && !groups.is_empty() {
                self.session.renew().await?;
                self.renewed = tokio::time::Instant::now();
            }
        }
        Ok(applied)
    }

    async fn nothing(&mut self, durable: bool) -> Result<Applied, MeshError> {
        if durable {
            // A transaction that writes nothing flushes nothing.
            self.session.run("begin", "BEGIN; SET LOCAL synchronous_commit = local").await?;
            self.session.renew().await?;
            self.session.run("commit", "COMMIT").await?;
        } else if self.renewed.elapsed() > RENEW {
            self.session.renew().await?;
        } else {
            return Ok(Applied::default());
        }
        self.renewed = tokio::time::Instant::now();
        Ok(Applied { durable, ..Applied::default() })
    }

    async fn ladder(&mut self, groups: &[Group], durable: bool) -> Result<Applied, MeshError> {
        let complete = groups.last().is_some_and(|group| group.end.is_some());
        let mut fast = if complete && !self.touches_evicted(groups) { FAST } else { 0 };
        if fast > 0 {
            match self.quick(groups, durable).await {
                Ok(Some(applied)) => return Ok(applied),
                Ok(None) => {}
                Err(Stopped::Again(error)) => {
                    tracing::debug!(node = %self.member.name, %error, "applying the other way");
                }
                Err(Stopped::Unique(_)) => fast = 0,
                Err(Stopped::NotYet(error) | Stopped::Failed(error)) => return Err(error),
            }
        }
        for attempt in 0..fast {
            match self.fast(groups, durable).await {
                Ok(applied) => return Ok(applied),
                Err(Stopped::Again(error)) => {
                    tracing::debug!(node = %self.member.name, %error, "applying again");
                    pause(attempt).await;
                }
                // Only one row at a time tells which it is.
                Err(Stopped::Unique(_)) => break,
                Err(Stopped::NotYet(error) | Stopped::Failed(error)) => return Err(error),
            }
        }
        let mut attempt = 0;
        loop {
            match self.careful(groups, durable, State::Ready).await {
                Ok(applied) => return Ok(applied),
                Err(Stopped::Again(error)) if attempt < CAREFUL => {
                    tracing::info!(node = %self.member.name, %error, "applying again");
                    self.session.run("roll back", "ROLLBACK").await?;
                    // What was settled is not.
                    self.look_at_evicted().await?;
                    pause(FAST + attempt).await;
                }
                Err(stopped) => return Err(stopped.into_error()),
            }
            attempt += 1;
        }
    }

    /// Whether something in them may claim or free a value that a row in `herdsman.evicted` waits for.
    fn touches_evicted(&self, groups: &[Group]) -> bool {
        self.unsettled
            || groups.iter().any(|group| {
                let truncated = group.truncates.iter().any(|of| self.evicted.contains(&of.rel));
                truncated || group.tables.iter().any(|batch| self.has_evicted(batch))
            })
    }

    fn has_evicted(&self, batch: &TableBatch) -> bool {
        let table = self.tables.get(batch.gone());
        table.is_some_and(|table| self.evicted.contains(table.name.to_string().as_str()))
    }
}

/// Before another attempt: longer each time, and never the same for two who wait for each other.
async fn pause(attempt: u32) {
    let longest = 20_u64 << attempt.min(6);
    tokio::time::sleep(Duration::from_millis(fastrand::u64(5..=longest))).await;
}

/// The members' names; and that this is the member it is taken for.
async fn own_names(
    session: &Session,
    member: &Member,
) -> Result<BTreeMap<NodeId, String>, MeshError> {
    let what = "see who it is";
    let sql = format!(
        "SELECT node, name, node = (SELECT node FROM {}) FROM {}",
        names::own("mesh"),
        names::own("members")
    );
    let mut names = BTreeMap::new();
    let mut own = None;
    for row in session.rows(what, &sql, &[]).await? {
        let (id, name) = (NodeId(session.get(what, &row, 0)?), session.get(what, &row, 1)?);
        if session.get::<Option<bool>>(what, &row, 2)? == Some(true) {
            own = Some(id);
        }
        names.insert(id, name);
    }
    if own == Some(member.id) {
        return Ok(names);
    }
    Err(MeshError::refused(
        format!(
            "node `{}` is not member {} of the mesh as it knows itself",
            member.name, member.id
        ),
        "check that `hosts` names the right server, and run `herdsman mesh up`",
    ))
}
