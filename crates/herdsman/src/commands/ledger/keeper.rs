//! A ledger at work in this process: its nodes follow the log.

use std::sync::{Arc, OnceLock};

use herdsman_ledger::config::{LedgerConfig, NotReady};
use herdsman_ledger::engine::{Condition, Ledger};
use herdsman_ledger::log::{Log, OpenError};
use herdsman_ledger::node::Node;
use herdsman_ledger::requests::RequestCounts;

use super::target::Setup;
use crate::exit::{Exit, Failed};
use crate::metrics::{LedgerNode, LedgerNumbers};

/// The ledger, and what its nodes are asked through by those who only look.
pub(crate) struct Keeper {
    pub(super) config: LedgerConfig,
    pub(super) ledger: Ledger,
    pub(super) log: Arc<dyn Log>,
    pub(super) lookers: Vec<Box<dyn Node>>,
    /// Of requests by Kafka, where they are answered.
    pub(super) requests: OnceLock<RequestCounts>,
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
        let config = setup.config.clone();
        let requests = OnceLock::new();
        Ok(Self { config, ledger, log, lookers, requests })
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
                behind: status.behind.as_secs_f64(),
                tally,
            }
        };
        LedgerNumbers {
            end: self.ledger.last_end().map(|end| end.0),
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
