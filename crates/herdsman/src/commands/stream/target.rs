//! The server a command is about: the node the stream reads from, and a connection to it.

use std::time::Duration;

use herdsman_node::{Conninfo, NodeName, Tls};
use herdsman_wal::WalError;
use herdsman_wal::inspect::Session;

use crate::cli::Global;
use crate::commands::ask::Direct;
use crate::commands::primary;
use crate::config::{Config, Depth};
use crate::exit::{Exit, Failed};

/// Bound on connecting, and on each statement: a person waits for it.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// Where a command goes.
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) node: NodeName,
    pub(super) info: Conninfo,
    pub(super) tls: Tls,
}

impl Target {
    /// Reads the configuration and finds the node: the one it names, the only one there is, or the primary.
    pub(super) async fn find(global: &Global) -> Result<Self, Failed> {
        Self::of(Config::load(global.config.as_deref(), Depth::Full)?).await
    }

    /// Finds the node of a configuration that was read already.
    pub(super) async fn of(config: Config) -> Result<Self, Failed> {
        let node = node(&config).await?;
        let nodes = config.stream.nodes(&config.nodes);
        let info = nodes.get(&node).cloned().ok_or_else(|| {
            // The configuration was checked: the node is one of its hosts.
            Exit::Internal.with(format!("`{node}` is not in the configuration"))
        })?;
        let tls = Tls::new(&info).map_err(|error| Exit::Config.with(format!("{node}: {error}")))?;
        Ok(Self { config, node, info, tls })
    }

    /// Connects for questions and commands.
    pub(super) async fn session(&self) -> Result<Session, Failed> {
        Session::connect(&self.info, &self.tls, LIMIT).await.map_err(|error| self.failed(&error))
    }

    /// How a command ends that the server did not let succeed.
    pub(super) fn failed(&self, error: &WalError) -> Failed {
        Exit::Failure.with(format!("{}: {error}", self.node))
    }
}

async fn node(config: &Config) -> Result<NodeName, Failed> {
    if let Some(node) = &config.stream.node {
        return Ok(node.clone());
    }
    let mut nodes = config.nodes.keys();
    if let (Some(only), None) = (nodes.next(), nodes.next()) {
        return Ok(only.clone());
    }
    let direct = Direct::with(config)?;
    let told = Box::pin(direct.settled()).await;
    direct.stop().await;
    primary::answer(&told.topology, &told.groups, None).cloned()
}
