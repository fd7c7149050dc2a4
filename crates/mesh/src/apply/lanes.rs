//! Several transactions at once, each in a session of its own, where there is more to apply than one transaction takes.
//!
//! Only what has nothing in common goes side by side: no two lanes have a version of one key, so that neither could miss
//! what the other writes, and what says something of more than its own rows (a TRUNCATE, another unique constraint, the
//! parts of columns, a part of a large transaction) is applied alone. Each lot is whole transactions and stays one
//! transaction. They are committed in their order: nobody sees a change before what its writer had written earlier.
//!
//! The last lot is the session's own, and its commit notes how far all of them bring the member. Each one before it notes
//! in its own commit how far it has come, in `herdsman.lanes`: whoever goes on after a crash in between [gathers](Applier::gather)
//! that, so that nothing is applied twice or left out. What cannot be done at once is done one by one, as without lanes.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use herdsman_node::Conninfo;
use tokio::sync::watch;
use tokio::time::Instant;

use super::clock::Clock;
use super::fast::{Ends, Reach};
use super::fixed::Fixed;
use super::params::Versions;
use super::{Applied, Applier, LIMIT, RENEW, State, Stopped};
use crate::error::MeshError;
use crate::group::Group;
use crate::names;
use crate::setup::Setup;

/// Bound on opening a lane's session.
const OPEN: Duration = Duration::from_secs(30);
/// When a lane that could not be opened is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// The sessions beside the one that has the lease.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Where they connect to.
    info: Option<Conninfo>,
    most: usize,
    beside: Vec<Applier>,
    /// They are not opened before.
    again: Option<Instant>,
    hasher: RandomState,
}

impl Lanes {
    pub(super) fn new(setup: &Setup, info: &Conninfo) -> Self {
        let most = setup.config.lanes_in_use().saturating_sub(1);
        Self { info: Some(info.clone()), most, ..Self::none() }
    }

    fn none() -> Self {
        let (beside, hasher) = (Vec::new(), RandomState::new());
        Self { info: None, most: 0, beside, again: None, hasher }
    }
}

/// What a lot has to wait for before it is committed.
#[derive(Debug)]
pub(super) struct Turn {
    /// Whether the one before it was applied, once that is known.
    before: Option<watch::Receiver<Option<bool>>>,
    /// What those before it come to, if it is this one that notes it.
    earlier: Vec<Reach>,
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<Option<Applied>, MeshError>> + Send + 'a>>;

impl Applier {
    /// Applies lots of groups in their order, each in one local transaction that it commits; several at once where there
    /// are lanes and the lots have nothing in common. A single lot may end with a part of a transaction, as with
    /// [`Self::apply`]; with `durable` everything is on disk in the end.
    ///
    /// # Errors
    /// As [`Self::apply`]. The first lots may have been applied.
    pub async fn apply_lots(
        &mut self,
        lots: &[Vec<Group>],
        durable: bool,
    ) -> Result<Applied, MeshError> {
        let mut all = Applied::default();
        let mut rest = lots;
        if lots.len() > 1 && self.state == State::Ready {
            self.open_lanes().await;
        }
        while !rest.is_empty() {
            let (now, later) = rest.split_at(self.side_by_side(rest));
            let durable = durable && later.is_empty();
            all.add(match now {
                [lot] => self.apply(lot, durable).await?,
                lots => self.wave(lots, durable).await?,
            });
            rest = later;
        }
        Ok(all)
    }

    async fn open_lanes(&mut self) {
        while self.lanes.beside.len() < self.lanes.most {
            if self.lanes.again.is_some_and(|again| again > Instant::now()) {
                return;
            }
            let opened = match tokio::time::timeout(OPEN, self.lane()).await {
                Ok(opened) => opened,
                Err(_) => Err(self.session.timed_out("open another session", OPEN)),
            };
            match opened {
                Ok(lane) => self.lanes.beside.push(lane),
                Err(error) => {
                    let (node, lanes) = (&self.member.name, self.lanes.beside.len() + 1);
                    tracing::warn!(%node, %error, lanes, "no more lanes than these: it needs another session and replication origin");
                    self.lanes.again = Some(Instant::now() + AGAIN);
                    return;
                }
            }
        }
    }

    /// Another session for what this one does.
    async fn lane(&self) -> Result<Self, MeshError> {
        let Some(info) = &self.lanes.info else {
            return Err(MeshError::refused(
                format!("node `{}`: a lane has no lanes", self.member.name),
                "please report it with the log",
            ));
        };
        let number = u16::try_from(self.lanes.beside.len() + 1).unwrap_or(u16::MAX);
        let session = self.session.lane(info, &self.mesh, number).await?;
        let fixed = Fixed::prepare(&session, self.mode, number).await?;
        Ok(Self {
            member: self.member.clone(),
            session,
            tables: self.tables.for_another(),
            names: self.names.clone(),
            unique: self.unique,
            mesh: self.mesh.clone(),
            mode: self.mode,
            clock: Clock::default(),
            fixed,
            late: Arc::clone(&self.late),
            evicted: self.evicted.clone(),
            unsettled: false,
            counted: self.counted,
            state: State::Ready,
            lanes: Lanes::none(),
            turn: None,
            held: None,
            renewed: self.renewed,
            round_trip: self.round_trip,
        })
    }

    /// Has the lanes know the tables as this session does.
    pub(super) fn tell_lanes(&mut self) {
        for lane in &mut self.lanes.beside {
            lane.tables = self.tables.for_another();
        }
    }

    /// How many of the first of these have nothing in common and may go at once; the first may always go.
    fn side_by_side(&self, lots: &[Vec<Group>]) -> usize {
        if self.lanes.beside.is_empty() || self.state != State::Ready || lots.len() == 1 {
            return 1;
        }
        let mut known = HashSet::new();
        let mut count = 0;
        for lot in lots.iter().take(self.lanes.beside.len() + 1) {
            let Some(keys) = self.keys(lot) else { break };
            if keys.iter().any(|key| known.contains(key)) {
                break;
            }
            known.extend(keys);
            count += 1;
        }
        count.max(1)
    }

    /// What a lot has versions of, as numbers; `None`: it says something of more than that.
    fn keys(&self, lot: &[Group]) -> Option<Vec<u64>> {
        if self.touches_evicted(lot) {
            return None;
        }
        let mut keys = Vec::new();
        for group in lot {
            if group.end.is_none() || !group.truncates.is_empty() || !group.apart.is_empty() {
                return None;
            }
            for batch in &group.tables {
                if !self.tables.is_row_by_row(batch.gone()) {
                    return None;
                }
                let table = self.lanes.hasher.hash_one(batch.gone());
                for rows in [batch.rows(), batch.tombstones()].into_iter().flatten() {
                    let numbers = Versions::new(rows);
                    let hash = |row: &u32| table ^ rows.hash(*row, &self.lanes.hasher);
                    keys.extend(numbers.numbers().iter().map(hash));
                }
            }
        }
        Some(keys)
    }

    /// Applies lots that have nothing in common at once, and one by one those that could not be applied so.
    async fn wave(&mut self, lots: &[Vec<Group>], durable: bool) -> Result<Applied, MeshError> {
        self.state = State::Unusable;
        let working = Box::pin(self.at_once(lots, durable));
        let Ok(outcomes) = tokio::time::timeout(LIMIT, working).await else {
            return Err(self.session.timed_out("apply changes", LIMIT));
        };
        let (mut all, mut done) = (Applied::default(), 0);
        for outcome in outcomes? {
            // Behind one that was not applied none is.
            let Some(applied) = outcome else { break };
            all.add(applied);
            done += 1;
        }
        if self.renewed.elapsed() > RENEW {
            self.session.renew().await?;
            self.renewed = Instant::now();
        }
        let rest = lots.get(done..).unwrap_or_default();
        if done > 0 && !rest.is_empty() {
            self.gather().await?;
        }
        self.state = State::Ready;
        for (at, lot) in rest.iter().enumerate() {
            all.add(self.apply(lot, durable && at + 1 == rest.len()).await?);
        }
        Ok(all)
    }

    async fn at_once(
        &mut self,
        lots: &[Vec<Group>],
        durable: bool,
    ) -> Result<Vec<Option<Applied>>, MeshError> {
        let mut beside = std::mem::take(&mut self.lanes.beside);
        let mut running: Vec<Running<'_>> = Vec::with_capacity(lots.len());
        let (mut before, mut earlier) = (None, Vec::new());
        let last = lots.len().saturating_sub(1);
        for (lane, lot) in beside.iter_mut().zip(lots.iter().take(last)) {
            let (went, next) = watch::channel(None);
            lane.turn = Some(Turn { before: before.replace(next), earlier: Vec::new() });
            earlier.extend(lot.iter().map(Reach::of));
            running.push(Box::pin(async move {
                let outcome = lane.swift(lot, false).await;
                lane.turn = None;
                went.send_replace(Some(matches!(outcome, Ok(Some(_)))));
                outcome
            }));
        }
        self.turn = Some(Turn { before, earlier });
        if let Some(lot) = lots.get(last) {
            running.push(Box::pin(self.swift(lot, durable)));
        }
        let outcomes = join_all(running).await;
        self.turn = None;
        // What another lane has recorded is counted.
        let counted = beside.iter().map(|lane| lane.counted).max().unwrap_or_default();
        self.counted = self.counted.max(counted);
        for lane in &mut beside {
            lane.counted = self.counted;
        }
        self.lanes.beside = beside;
        outcomes.into_iter().collect()
    }

    /// Applies groups if that goes at the first attempt. It may hold rows that a local writer waits for who holds rows of
    /// another lot, and then stands in that one's way until it gives up.
    async fn swift(
        &mut self,
        groups: &[Group],
        durable: bool,
    ) -> Result<Option<Applied>, MeshError> {
        let outcome = match self.quick(groups, durable).await {
            Ok(None) => self.fast(groups, durable).await.map(Some),
            outcome => outcome,
        };
        match outcome {
            Ok(applied) => Ok(applied),
            Err(Stopped::Failed(error)) => Err(error),
            Err(stopped) => {
                let error = stopped.into_error();
                tracing::debug!(node = %self.member.name, %error, "applying one by one");
                Ok(None)
            }
        }
    }

    /// Waits until what comes before is committed; else nothing of this is.
    pub(super) async fn turn(&self) -> Result<(), Stopped> {
        let Some(before) = self.turn.as_ref().and_then(|turn| turn.before.as_ref()) else {
            return Ok(());
        };
        let went =
            before.clone().wait_for(Option::is_some).await.is_ok_and(|went| *went == Some(true));
        if went {
            return Ok(());
        }
        self.session.run("roll back", "ROLLBACK").await?;
        Err(Stopped::NotYet(MeshError::refused(
            format!("node `{}`: what comes before it was not applied", self.member.name),
            "it is applied behind that",
        )))
    }

    /// How far groups bring each source, with those before them that have not noted it for good.
    pub(super) fn ends(&self, groups: &[Group]) -> Ends {
        let earlier = self.turn.iter().flat_map(|turn| &turn.earlier).copied();
        Ends::of_all(earlier.chain(groups.iter().map(Reach::of)))
    }

    /// Notes for good how far lanes have come whose last lot was not applied.
    pub(super) async fn gather(&mut self) -> Result<(), MeshError> {
        let what = "see how far its lanes are";
        let there = "SELECT to_regclass('herdsman.lanes') IS NOT NULL";
        let row = self.session.row(what, there, &[]).await?;
        if !self.session.get::<bool>(what, &row, 0)? {
            // `mesh up` of this version was not run here yet.
            self.lanes.most = 0;
            return Ok(());
        }
        self.session.run(what, &gathered()).await
    }
}

/// What notes how far lane `lane` brings sources: as many rows as there are sources. The parameters are those of the
/// statement that notes it for good.
pub(super) fn note(lane: u16) -> String {
    format!(
        "INSERT INTO {} AS l (lane, source, base, lsn, commit_lsn, heartbeat, committed, rows, transactions)
SELECT {lane}, v.source, p.lsn, v.lsn::pg_lsn, v.commit_lsn::pg_lsn, v.heartbeat, 'epoch'::timestamptz + v.committed * interval '1 microsecond', v.rows, v.transactions
FROM (SELECT unnest($1) AS source, unnest($2) AS lsn, unnest($3) AS commit_lsn, unnest($4) AS heartbeat, unnest($5) AS committed,
  unnest($6) AS rows, unnest($7) AS transactions) AS v JOIN {} AS p ON p.source = v.source
ON CONFLICT (lane, source) DO UPDATE SET base = excluded.base, lsn = excluded.lsn, commit_lsn = excluded.commit_lsn, heartbeat = excluded.heartbeat,
  committed = excluded.committed, rows = excluded.rows, transactions = excluded.transactions",
        names::own("lanes"),
        names::own("progress")
    )
}

/// What lanes have noted since the member's own note, which all that were under way at once began from.
fn gathered() -> String {
    let (lanes, progress) = (names::own("lanes"), names::own("progress"));
    format!(
        "WITH noted AS (DELETE FROM {lanes} RETURNING *), came AS (
SELECT p.source, max(n.lsn) AS lsn, max(n.commit_lsn) AS commit_lsn, max(n.heartbeat) AS heartbeat, max(n.committed) AS committed,
  sum(n.rows)::bigint AS rows, sum(n.transactions)::bigint AS transactions
FROM noted AS n JOIN {progress} AS p ON p.source = n.source AND p.lsn = n.base AND n.lsn > n.base GROUP BY p.source
)
UPDATE {progress} AS p SET lsn = c.lsn, commit_lsn = c.commit_lsn, heartbeat = greatest(p.heartbeat, c.heartbeat), committed = c.committed,
  applied = clock_timestamp(), rows = p.rows + c.rows, transactions = p.transactions + c.transactions
FROM came AS c WHERE p.source = c.source"
    )
}
