//! The ledger a command is about.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use herdsman_gateway::GatewayConfig;
use herdsman_ledger::config::{LedgerConfig, NotReady};
use herdsman_ledger::log::Log;
use herdsman_ledger::node::Node;
use herdsman_node::{Conninfo, NodeName};

use crate::config::{Config, Depth};
use crate::exit::{Exit, Failed};

/// What of the configuration a ledger works from.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) config: LedgerConfig,
    pub(super) hosts: BTreeMap<NodeName, Conninfo>,
    /// Where commands ask the program that runs.
    pub(super) socket: PathBuf,
    /// Where drivers find it, if they do.
    pub(super) served: Option<GatewayConfig>,
}

impl Setup {
    /// `None` where the configuration has no ledger.
    pub(super) fn of(config: &Config) -> Option<Self> {
        // The section was checked: a ledger with nodes has a socket.
        let socket = config.ledger.socket()?;
        let served = config.ledger.serve.as_deref();
        (!config.ledger.nodes.is_empty()).then(|| Self {
            config: config.ledger.clone(),
            hosts: config.nodes.clone(),
            socket,
            served: served.map(|address| config.gateway.for_ledger(address)),
        })
    }

    pub(super) fn nodes(&self) -> Result<Vec<Box<dyn Node>>, Failed> {
        self.config.nodes(&self.hosts).map_err(|error| Exit::Config.with(error))
    }

    pub(super) async fn open_log(&self) -> Result<Arc<dyn Log>, NotReady> {
        self.config.open_log().await
    }
}

/// Reads the configuration, which must have a ledger.
pub(super) fn find(file: Option<&Path>) -> Result<(Config, Setup), Failed> {
    of(Config::load(file, Depth::Full)?)
}

/// What is to be done with a configuration, which must have a ledger.
pub(super) fn of(config: Config) -> Result<(Config, Setup), Failed> {
    let Some(setup) = Setup::of(&config) else {
        let problem = format!(
            "{} has no section `ledger`; name the databases that are to follow a log under `ledger.nodes`, and the log under `ledger.log`",
            config.path.display()
        );
        return Err(Exit::Config.with(problem));
    };
    Ok((config, setup))
}
