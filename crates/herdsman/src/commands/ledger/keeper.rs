//! A ledger at work in this process: its nodes follow the log.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use herdsman_ledger::config::{LedgerConfig, NotReady};
use herdsman_ledger::engine::{Condition, Ledger};
use herdsman_ledger::log::{Log, OpenError};
use herdsman_ledger::node::Node;
use herdsman_ledger::requests::RequestCounts;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::lag::Ends;
use super::target::Setup;
use crate::exit::{Exit, Failed};
use crate::metrics::{LedgerNode, LedgerNumbers};

/// How often the end of the log is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long that may take.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// The ledger, and what its nodes are asked through by those who only look.
pub(crate) struct Keeper {
    pub(super) config: LedgerConfig,
    pub(super) ledger: Ledger,
    pub(super) log: Arc<dyn Log>,
    pub(super) lookers: Vec<Box<dyn Node>>,
    /// Of requests by Kafka, where they are answered.
    pub(super) requests: OnceLock<RequestCounts>,
    ends: Arc<Mutex<Ends>>,
    _sampler: AbortOnDropHandle<()>,
}

/// Why it does not begin.
#[derive(Debug)]
pub(super) enum NotKept {
    /// What it needs is away, and may be back.
    Yet(String),
    /// Another try would not help.
    Ever(Failed),
}

impl Keeper {
    /// Opens the log, and lets the nodes follow it.
    pub(super) async fn start(setup: &Setup) -> Result<Self, NotKept> {
        let log = setup.open_log().await.map_err(|error| match error {
            NotReady::Unavailable(error) => NotKept::Yet(error.to_string()),
            NotReady::Setting(problem) => NotKept::Ever(Exit::Config.with(problem)),
            other => NotKept::Ever(Exit::Failure.with(other)),
        })?;
        let nodes = setup.nodes().map_err(NotKept::Ever)?;
        let lookers = setup.nodes().map_err(NotKept::Ever)?;
        let ledger = Ledger::start(Arc::clone(&log), nodes, setup.config.settings()).await;
        let ledger = ledger.map_err(|error| match error {
            OpenError::NotALedger(_) => NotKept::Ever(Exit::Failure.with(error)),
            error => NotKept::Yet(error.to_string()),
        })?;
        let ends = Arc::new(Mutex::new(Ends::default()));
        let sampler = AbortOnDropHandle::new(tokio::spawn(sample(log.clone(), Arc::clone(&ends))));
        let config = setup.config.clone();
        let requests = OnceLock::new();
        Ok(Self { config, ledger, log, lookers, requests, ends, _sampler: sampler })
    }

    /// How long a node has been behind, in seconds.
    pub(super) fn behind(&self, applied: u64) -> f64 {
        lock(&self.ends).behind(Instant::now(), applied).as_secs_f64()
    }

    /// What is told of it at `/metrics`.
    pub(crate) fn numbers(&self) -> LedgerNumbers {
        let tallies = self.ledger.tallies().into_iter().map(|(_, tally)| tally);
        let node = |((name, engine, status), tally): ((String, _, _), _)| {
            let status: herdsman_ledger::engine::NodeStatus = status;
            LedgerNode {
                name,
                engine,
                applied: status.applied.0,
                following: status.condition == Condition::Following,
                fenced: matches!(status.condition, Condition::Fenced(_)),
                behind: self.behind(status.applied.0),
                tally,
            }
        };
        // Before the lock is asked for again, for each node.
        let end = lock(&self.ends).last();
        LedgerNumbers {
            end,
            nodes: self.ledger.status().into_iter().zip(tallies).map(node).collect(),
            requests: self.requests.get().map(RequestCounts::read),
        }
    }
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("config", &self.config).finish_non_exhaustive()
    }
}

async fn sample(log: Arc<dyn Log>, ends: Arc<Mutex<Ends>>) {
    loop {
        match tokio::time::timeout(LOOK_WITHIN, log.end()).await {
            Ok(Ok(end)) => lock(&ends).observe(Instant::now(), end.0),
            Ok(Err(error)) => tracing::debug!(%error, "the end of the log is not known"),
            Err(_) => tracing::debug!("the log does not say where it ends"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn lock(ends: &Mutex<Ends>) -> MutexGuard<'_, Ends> {
    ends.lock().unwrap_or_else(PoisonError::into_inner)
}
