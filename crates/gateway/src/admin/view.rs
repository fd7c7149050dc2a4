//! What there is to show, at one moment: plain values, looked up from everything the gateway shares.

use std::sync::Arc;

use herdsman_watch::Topology;

use crate::client::{Card, State};
use crate::config::{GatewayConfig, PoolMode};
use crate::stats::{ServerCounts, Stretch, Times, Totals};

/// What there is to show.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) config: Arc<GatewayConfig>,
    /// By id.
    pub(super) clients: Vec<ClientView>,
    /// By database and user, then by node.
    pub(super) pools: Vec<PoolView>,
    /// By id.
    pub(super) servers: Vec<ServerView>,
    pub(super) nodes: Vec<NodeSeat>,
    pub(super) topology: Arc<Topology>,
    /// Databases that are paused and disabled; a pause of everything is `*`.
    pub(super) paused: Vec<Arc<str>>,
    pub(super) disabled: Vec<Arc<str>>,
    /// Why no transaction that writes begins, where that is by order.
    pub(super) held: Option<String>,
    /// Nobody new is accepted.
    pub(super) suspended: bool,
    /// The coarse clock.
    pub(super) now: u64,
}

/// A client.
#[derive(Clone, Debug)]
pub(super) struct ClientView(pub(super) Arc<Card>);

/// One pool: a database, a user, a node.
#[derive(Clone, Debug)]
pub(super) struct PoolView {
    pub(super) database: Arc<str>,
    pub(super) user: Arc<str>,
    pub(super) node: Arc<str>,
    pub(super) mode: PoolMode,
    pub(super) servers: ServerCounts,
    pub(super) totals: Totals,
    pub(super) recent: Stretch,
    pub(super) wait: Times,
    pub(super) transaction: Times,
}

/// A server connection.
#[derive(Clone, Debug)]
pub(super) struct ServerView {
    pub(super) id: u64,
    pub(super) database: Arc<str>,
    pub(super) user: Arc<str>,
    pub(super) address: Option<Arc<str>>,
    pub(super) port: u16,
    pub(super) node: Arc<str>,
    pub(super) state: &'static str,
    /// The server process.
    pub(super) process: Option<i32>,
    pub(super) since: Option<std::time::SystemTime>,
    /// The client it works for.
    pub(super) client: Option<u64>,
    /// It is closed as soon as it comes back.
    pub(super) close_needed: bool,
}

/// A node's place.
#[derive(Clone, Debug)]
pub(super) struct NodeSeat {
    pub(super) name: Arc<str>,
    pub(super) host: Arc<str>,
    pub(super) port: u16,
    pub(super) epoch: u64,
}

impl ClientView {
    pub(super) fn is_logging_in(&self) -> bool {
        self.0.state().0 == State::Login
    }
}

impl PoolView {
    /// Server connections, with those being opened.
    pub(super) fn open(&self) -> u64 {
        let ServerCounts { active, idle, login, .. } = self.servers;
        active + idle + login
    }
}

impl View {
    pub(super) fn is_paused(&self, database: &str) -> bool {
        self.paused.iter().any(|paused| **paused == *database || &**paused == "*")
    }

    pub(super) fn is_disabled(&self, database: &str) -> bool {
        self.disabled.iter().any(|disabled| **disabled == *database)
    }
}
