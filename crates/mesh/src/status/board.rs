//! Where the tasks write down how far they are. Nothing here waits for anything.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use herdsman_node::{Lsn, NodeName};
use herdsman_wal::{Feedback, Timestamp};
use tokio::time::Instant;

use super::{LinkStatus, Status, TargetStatus};

/// A source writes a sign of life each second; silence for longer than this is lag.
const SILENCE: Duration = Duration::from_secs(3);

/// The whole mesh.
#[derive(Debug, Default)]
pub(crate) struct Board {
    problem: Mutex<Option<String>>,
    targets: Mutex<BTreeMap<NodeName, Arc<TargetBoard>>>,
    /// Where each member's log ends, as its heartbeat told.
    ends: Mutex<BTreeMap<NodeName, Lsn>>,
}

/// What comes to one member.
#[derive(Debug, Default)]
pub(crate) struct TargetBoard {
    state: Mutex<(TargetState, Option<String>)>,
    links: Mutex<BTreeMap<NodeName, Arc<LinkBoard>>>,
    rows: AtomicU64,
    conflicts: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TargetState {
    #[default]
    Connecting,
    Working,
    Waiting,
    Failing,
}

/// What comes to one member from one other.
#[derive(Debug, Default)]
pub(crate) struct LinkBoard {
    state: Mutex<(LinkState, Option<String>)>,
    /// Where what is confirmed is told to.
    feedback: Mutex<Option<Feedback>>,
    confirmed: AtomicU64,
    sent: AtomicU64,
    /// Of every group that is being filled or waits: when its first change was committed, in microseconds since 1970.
    waiting: Mutex<VecDeque<i64>>,
    heard: Mutex<Option<Instant>>,
    rows: AtomicU64,
    transactions: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LinkState {
    #[default]
    Connecting,
    Streaming,
    Paused,
    Failing,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    pub(crate) fn set_problem(&self, problem: Option<String>) {
        *lock(&self.problem) = problem;
    }

    pub(crate) fn target(&self, name: &NodeName) -> Arc<TargetBoard> {
        Arc::clone(lock(&self.targets).entry(name.clone()).or_default())
    }

    pub(crate) fn forget(&self, name: &NodeName) {
        lock(&self.targets).remove(name);
        lock(&self.ends).remove(name);
    }

    pub(crate) fn set_end(&self, name: &NodeName, end: Lsn) {
        lock(&self.ends).insert(name.clone(), end);
    }

    pub(crate) fn status(&self) -> Status {
        let ends = lock(&self.ends).clone();
        let targets = lock(&self.targets)
            .iter()
            .map(|(name, target)| (name.as_str().to_owned(), target.status(&ends)))
            .collect();
        Status { problem: lock(&self.problem).clone(), targets }
    }
}

impl TargetBoard {
    pub(crate) fn set(&self, state: TargetState, problem: Option<String>) {
        *lock(&self.state) = (state, problem);
    }

    pub(crate) fn is_working(&self) -> bool {
        lock(&self.state).0 == TargetState::Working
    }

    pub(crate) fn applied(&self, rows: u64, conflicts: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.conflicts.fetch_add(conflicts, Ordering::Relaxed);
    }

    /// The place of a link that begins anew.
    pub(crate) fn link(&self, source: &NodeName) -> Arc<LinkBoard> {
        let link = Arc::clone(lock(&self.links).entry(source.clone()).or_default());
        link.reset();
        link
    }

    pub(crate) fn forget(&self, source: &NodeName) {
        lock(&self.links).remove(source);
    }

    /// No link is at work.
    pub(crate) fn stopped(&self) {
        for link in lock(&self.links).values() {
            link.reset();
        }
    }

    fn status(&self, ends: &BTreeMap<NodeName, Lsn>) -> TargetStatus {
        let (state, problem) = lock(&self.state).clone();
        let links: BTreeMap<_, _> = lock(&self.links)
            .iter()
            .map(|(name, link)| {
                (name.as_str().to_owned(), link.status(ends.get(name).copied().unwrap_or_default()))
            })
            .collect();
        let paused = !links.is_empty() && links.values().all(|link| link.state == "paused");
        let word = match state {
            TargetState::Working if paused => "paused",
            TargetState::Working => "working",
            TargetState::Connecting => "connecting",
            TargetState::Waiting => "waiting",
            TargetState::Failing => "failing",
        };
        TargetStatus {
            state: word.to_owned(),
            problem,
            links,
            rows: self.rows.load(Ordering::Relaxed),
            rows_per_second: 0.0,
            conflicts: self.conflicts.load(Ordering::Relaxed),
        }
    }
}

impl LinkBoard {
    pub(crate) fn set(&self, state: LinkState, problem: Option<String>) {
        *lock(&self.state) = (state, problem);
    }

    /// A stream has begun: what is confirmed is told there.
    pub(crate) fn opened(&self, feedback: Feedback) {
        feedback.handled(self.confirmed());
        *lock(&self.feedback) = Some(feedback);
        self.heard();
    }

    /// The stream is over. What was being filled comes again in the next one.
    pub(crate) fn closed(&self) {
        *lock(&self.feedback) = None;
    }

    /// Everything up to here is applied and on disk.
    pub(crate) fn confirm(&self, position: Lsn) {
        self.confirmed.fetch_max(position.0, Ordering::AcqRel);
        if let Some(feedback) = &*lock(&self.feedback) {
            feedback.handled(position);
        }
    }

    pub(crate) fn confirmed(&self) -> Lsn {
        Lsn(self.confirmed.load(Ordering::Acquire))
    }

    /// The source told that its log reaches up to here.
    pub(crate) fn sent(&self, position: Lsn) {
        self.sent.fetch_max(position.0, Ordering::Relaxed);
        self.heard();
    }

    /// A group has its first change.
    pub(crate) fn begun(&self, committed: Timestamp) {
        lock(&self.waiting).push_back(committed.unix_micros());
    }

    /// The group that was filled last is thrown away.
    pub(crate) fn thrown_away(&self) {
        lock(&self.waiting).pop_back();
    }

    /// The oldest group is applied.
    pub(crate) fn applied(&self, changes: u64, transactions: u64) {
        lock(&self.waiting).pop_front();
        self.rows.fetch_add(changes, Ordering::Relaxed);
        self.transactions.fetch_add(transactions, Ordering::Relaxed);
    }

    fn heard(&self) {
        *lock(&self.heard) = Some(Instant::now());
    }

    fn reset(&self) {
        *lock(&self.state) = (LinkState::Connecting, None);
        *lock(&self.feedback) = None;
        // What was applied and not yet on disk may be gone.
        lock(&self.waiting).clear();
    }

    fn status(&self, end: Lsn) -> LinkStatus {
        let (state, problem) = lock(&self.state).clone();
        let word = match state {
            LinkState::Connecting => "connecting",
            LinkState::Streaming => "streaming",
            LinkState::Paused => "paused",
            LinkState::Failing => "failing",
        };
        let sent = Lsn(self.sent.load(Ordering::Relaxed)).max(end);
        let confirmed = self.confirmed();
        let lag = match (lock(&self.waiting).front(), *lock(&self.heard)) {
            (Some(&oldest), _) => since(oldest),
            (None, Some(heard)) if heard.elapsed() > SILENCE => heard.elapsed(),
            _ => Duration::ZERO,
        };
        LinkStatus {
            state: word.to_owned(),
            problem,
            sent,
            confirmed,
            lag_bytes: sent.bytes_after(confirmed),
            lag_seconds: lag.as_secs_f64(),
            rows: self.rows.load(Ordering::Relaxed),
            transactions: self.transactions.load(Ordering::Relaxed),
        }
    }
}

/// The source's clock may be ahead of ours.
fn since(unix_micros: i64) -> Duration {
    let then = UNIX_EPOCH + Duration::from_micros(u64::try_from(unix_micros).unwrap_or(0));
    SystemTime::now().duration_since(then).unwrap_or_default()
}
