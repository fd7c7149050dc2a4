//! A ledger that runs: one task per node follows the log, and clients' transactions go through it.
//!
//! A transaction runs on the node its client is at, is rolled back there, and is put into the log as what it would
//! change. Every node decides about it by the same rule when it reads it; the first that has decided tells the client.

mod follow;
mod lag;
pub mod request;
mod tally;
mod upkeep;
mod verify;
mod waiting;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Deserialize;
use thiserror::Error;
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::{AbortHandle, JoinSet},
    time::Instant,
};

use crate::{
    LogId, Offset, RequestId,
    entry::Genesis,
    log::{Log, OpenError},
    node::{Answer, Engine, Node, SqlError},
};
pub use tally::Tally;
pub use verify::Verified;
use waiting::Waiting;

/// What a node is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is being asked where it is.
    Starting,
    /// It follows the log.
    Following,
    /// It does not for now, and is tried again for as long as it takes.
    Troubled(String),
    /// It may not until an operator has seen to it.
    Fenced(String),
}

/// How a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// The last entry in its data.
    pub applied: Offset,
    /// What it is doing.
    pub condition: Condition,
    /// How long the first entry that it lacks has been in the log, to a second.
    pub behind: Duration,
    /// Whether that is longer than [`Settings::late_after`]: it is asked no more while others are there.
    pub late: bool,
    /// Whether it waits at its place for [`Ledger::verify`].
    held: bool,
    /// Whether another program drives it.
    driven: bool,
    /// Whether it is fenced for want of an operator's word to skip an entry.
    waits_for_skip: bool,
}

/// How many nodes have a transaction in their data before its client is told that it committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ack {
    /// The client's own.
    Local,
    /// More than half of all.
    Majority,
    /// All.
    All,
}

/// How requests are treated.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Until when a client is to have an answer.
    pub deadline: Duration,
    /// How long an append without an acknowledgement may take to be read back before it is called off.
    pub cancel_after: Duration,
    /// How often a transaction is run that others keep beating.
    pub attempts: u32,
    /// Whom an answer waits for.
    pub ack: Ack,
    /// How long a node may be behind the log before others are asked in its place.
    pub late_after: Duration,
    /// How many entries the nodes that an answer waits for may be behind before a new one waits for them.
    pub most_behind: u64,
}

impl Default for Settings {
    /// Clients wait for half a minute; ten attempts get through a hundred clients on a handful of rows.
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            cancel_after: Duration::from_secs(2),
            attempts: 10,
            ack: Ack::Local,
            late_after: Duration::from_secs(5),
            most_behind: 10_000,
        }
    }
}

/// What became of a request that was not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the log; `None` if it changed nothing, and was but read.
    pub at: Option<Offset>,
    /// What its statements answered.
    pub answers: Vec<Answer>,
    /// Whether as many nodes have it as were to. If not, it is committed all the same.
    pub acknowledged: bool,
    /// Whether the request had committed before, at [`Committed::at`]: then `answers` are those of another run, against
    /// data that have it already, and were not what changed them.
    pub again: bool,
}

/// A request did not commit, or it is not known whether it did.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// A statement is to blame, or what it asks for is not to be had.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// Others were first, each time. SQLSTATE 40001.
    #[error("could not commit: other transactions changed the same rows first, {attempts} times")]
    Conflict {
        /// How often it was tried.
        attempts: u32,
    },
    /// It was called off, for good: the log did not say in time whether it had it.
    #[error("the request was called off: the log did not confirm it in time; nothing was changed")]
    Cancelled,
    /// Every node refuses it: the SQLSTATE.
    #[error("refused by every node (SQLSTATE {0})")]
    Refused(String),
    /// Nothing was changed: the log did not take it.
    #[error("the log did not take the request: {0}")]
    NotTaken(String),
    /// SQLSTATE 08007. Its id says later what became of it.
    #[error("it is not known whether request {0} committed; ask again under the same id")]
    Unknown(RequestId),
    /// The node is not there, or not fit to be asked.
    #[error("node {0:?} cannot be asked: {1}")]
    Node(String, String),
    /// A backup cannot be written or read.
    #[error("backup {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl RequestError {
    /// What a client that knows SQLSTATEs is told.
    ///
    /// - 40001: nothing was changed, and it may be run again.
    /// - 57014: it was called off. 08007: it is not known. 58030: the log did not take it.
    /// - 57P03: the node is not there, or not fit.
    /// - 54000: its changes are more than an entry of the log takes.
    #[must_use]
    pub fn sqlstate(&self) -> &str {
        match self {
            Self::Sql(error) => error.sqlstate(),
            Self::Conflict { .. } => "40001",
            Self::Cancelled => "57014",
            Self::Refused(state) => state,
            Self::NotTaken(_) => "58030",
            Self::Unknown(_) => "08007",
            Self::Node(..) => "57P03",
            Self::File { .. } => "58030",
        }
    }
}

/// A running ledger. Clones are the same one; when the last is dropped, its tasks end. Nodes are left as they are.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
    _tasks: Arc<Tasks>,
}

struct Shared {
    log: Arc<dyn Log>,
    genesis: Genesis,
    genesis_entry: Vec<u8>,
    members: Vec<Member>,
    waiting: Waiting,
    settings: Settings,
    /// Nodes go no further than this while it is set.
    hold: watch::Sender<Option<Offset>>,
    verifying: tokio::sync::Mutex<()>,
    /// One thing at a time: what is trimmed may be what a node that joins needs.
    upkeep: tokio::sync::Mutex<()>,
    /// Where the log ended when.
    ends: Mutex<lag::Ends>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Member {
    node: Box<dyn Node>,
    status: watch::Sender<NodeStatus>,
    /// It was fenced, and may follow again.
    again: Notify,
    /// Transactions that the ledger runs there by itself, from the first statement to the last.
    running: Semaphore,
    tally: tally::Counters,
}

struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Ledger {
    /// Opens the log, and lets the nodes follow it. A log without entries gets its first one; a node without notes
    /// begins there.
    ///
    /// # Errors
    /// The log cannot be used. Trouble of nodes is in their status.
    pub async fn start(
        log: Arc<dyn Log>,
        nodes: Vec<Box<dyn Node>>,
        settings: Settings,
    ) -> Result<Self, OpenError> {
        let fresh = LogId(fastrand::u128(..).to_be_bytes());
        let (genesis, genesis_entry) = crate::log::open(&*log, fresh).await?;
        let status = || NodeStatus {
            applied: Offset::GENESIS,
            condition: Condition::Starting,
            behind: Duration::ZERO,
            late: false,
            held: false,
            driven: false,
            waits_for_skip: false,
        };
        let members = nodes.into_iter().map(|node| Member {
            running: Semaphore::new(running_most(node.engine())),
            node,
            status: watch::Sender::new(status()),
            again: Notify::new(),
            tally: tally::Counters::default(),
        });
        let shared = Arc::new(Shared {
            log,
            genesis,
            genesis_entry,
            members: members.collect(),
            waiting: Waiting::default(),
            settings,
            hold: watch::Sender::new(None),
            verifying: tokio::sync::Mutex::default(),
            upkeep: tokio::sync::Mutex::default(),
            ends: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        let mut handles: Vec<AbortHandle> = (0..shared.members.len())
            .map(|at| tasks.spawn(follow::forever(Arc::clone(&shared), at)))
            .collect();
        handles.push(tasks.spawn(lag::sample(Arc::clone(&shared))));
        tasks.detach_all();
        Ok(Self { shared, _tasks: Arc::new(Tasks(handles)) })
    }

    /// Which log it is, and its rules.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.shared.genesis
    }

    /// How every node is, in the order they were given.
    #[must_use]
    pub fn status(&self) -> Vec<(String, Engine, NodeStatus)> {
        let (now, ends) = (Instant::now(), lock(&self.shared.ends));
        let of = |it: &Member| {
            let mut status = it.status.borrow().clone();
            status.behind = ends.behind(now, status.applied.0);
            status.late = status.behind > self.shared.settings.late_after;
            (it.node.name().to_owned(), it.node.engine(), status)
        };
        self.shared.members.iter().map(of).collect()
    }

    /// The nodes that clients are sent to, in the order they were given: those that follow the log and are not late; where
    /// there are none, all that follow it.
    #[must_use]
    pub fn serving(&self) -> Vec<(String, Engine)> {
        let status = self.status();
        let follow = || status.iter().filter(|(.., it)| it.condition == Condition::Following);
        let in_time: Vec<_> = follow().filter(|(.., it)| !it.late).collect();
        let chosen = if in_time.is_empty() { follow().collect() } else { in_time };
        chosen.into_iter().map(|(name, engine, _)| (name.clone(), *engine)).collect()
    }

    /// Where the log ended when that was last looked for: the place of the next entry.
    #[must_use]
    pub fn last_end(&self) -> Option<Offset> {
        lock(&self.shared.ends).last().map(Offset)
    }

    /// What came of the entries that each node has read since this began, in the order the nodes were given.
    #[must_use]
    pub fn tallies(&self) -> Vec<(String, Tally)> {
        self.shared.members.iter().map(|it| (it.node.name().to_owned(), it.tally.read())).collect()
    }

    /// Waits until a node has an entry in its data.
    ///
    /// # Errors
    /// It is not there, is fenced, or does not come that far in time.
    pub async fn reached(
        &self,
        node: &str,
        at: Offset,
        within: Duration,
    ) -> Result<(), RequestError> {
        let member = self.shared.member(node)?;
        let trouble = |why: String| RequestError::Node(node.to_owned(), why);
        let mut status = member.status.subscribe();
        let there =
            status.wait_for(|it| it.applied >= at || matches!(it.condition, Condition::Fenced(_)));
        let status = match tokio::time::timeout(within, there).await {
            Ok(Ok(status)) => status.clone(),
            Ok(Err(_)) => return Err(trouble("it is followed no more".to_owned())),
            Err(_) => {
                return Err(trouble(format!("it has not come to entry {at} within {within:?}")));
            }
        };
        match status.condition {
            Condition::Fenced(why) => Err(trouble(why)),
            _ => Ok(()),
        }
    }
}

/// How many transactions of one command run on a node at the same time. More would but hold each other up, and a server lets
/// in only so many; SQLite has one writer.
fn running_most(engine: Engine) -> usize {
    match engine {
        Engine::Postgres | Engine::MariaDb => 32,
        Engine::Sqlite => 1,
    }
}

impl Shared {
    fn member(&self, name: &str) -> Result<&Member, RequestError> {
        let found = self.members.iter().find(|it| it.node.name() == name);
        found.ok_or_else(|| {
            RequestError::Node(name.to_owned(), "it is not of this ledger".to_owned())
        })
    }
}
