//! What holds for pools, and who says so.

use std::time::Duration;

use serde::Deserialize;

use super::read;

/// What can be set for all pools, a database or a user, the narrower over the wider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolOverrides {
    /// See [`PoolConfig`].
    pub mode: Option<PoolMode>,
    /// See [`PoolConfig`].
    #[serde(deserialize_with = "read::some_size")]
    pub size: Option<usize>,
    /// See [`PoolConfig`].
    #[serde(deserialize_with = "read::some_queue")]
    pub queue: Option<usize>,
    /// See [`PoolConfig`].
    #[serde(deserialize_with = "read::some_timeout")]
    pub queue_timeout: Option<Duration>,
    /// See [`PoolConfig`].
    #[serde(deserialize_with = "read::some_or_never")]
    pub query_timeout: Option<Duration>,
    /// See [`PoolConfig`].
    #[serde(deserialize_with = "read::some_queue")]
    pub max_clients: Option<usize>,
}

/// One pool: one database, one user, one node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    /// When a server connection goes back. Default `transaction`.
    pub mode: PoolMode,
    /// Most server connections: 1 to 10,000. Default 20.
    #[serde(deserialize_with = "read::size")]
    pub size: usize,
    /// Most clients that wait for one: 0 to 1,000,000. Default 10,000.
    #[serde(deserialize_with = "read::queue")]
    pub queue: usize,
    /// How long they wait. Default 30 s.
    #[serde(deserialize_with = "read::timeout")]
    pub queue_timeout: Duration,
    /// How long a connection attempt may take. Default 5 s.
    #[serde(deserialize_with = "read::timeout")]
    pub connect_timeout: Duration,
    /// A server connection unused for longer is closed. Default 10 min.
    #[serde(deserialize_with = "read::lifetime")]
    pub server_idle_timeout: Duration,
    /// An older one is closed when it comes back. Default 1 h.
    #[serde(deserialize_with = "read::lifetime")]
    pub server_lifetime: Duration,
    /// One unused for longer is checked before use. Default 30 s.
    #[serde(deserialize_with = "read::wait")]
    pub server_check_delay: Duration,
    /// A client idle outside a transaction for longer is sent away; zero, written `never`, keeps it. Default `never`.
    #[serde(deserialize_with = "read::or_never")]
    pub client_idle_timeout: Duration,
    /// A client idle in a transaction for longer is sent away; zero, written `never`, keeps it. Default `never`.
    #[serde(deserialize_with = "read::or_never")]
    pub transaction_idle_timeout: Duration,
    /// A statement that takes longer is cancelled; zero, written `never`, lets it run. Default `never`.
    #[serde(deserialize_with = "read::or_never")]
    pub query_timeout: Duration,
    /// Most clients of this database and user: 0 to 1,000,000. Default 0: no bound of its own.
    #[serde(deserialize_with = "read::queue")]
    pub max_clients: usize,
}

/// When a server connection goes back to the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolMode {
    /// When the client leaves.
    Session,
    /// When its transaction ends.
    #[default]
    Transaction,
    /// After each statement; explicit transactions are refused.
    Statement,
}

/// PgBouncer's default, which fits PostgreSQL's own bound of 100 connections for a few databases and users.
const SIZE: usize = 20;
/// A waiting client costs a few kilobytes.
const QUEUE: usize = 10_000;
/// Longer than any wait that ends well; shorter than most load balancers' patience.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(30);
/// A server that takes longer to let somebody in is in trouble.
const CONNECT: Duration = Duration::from_secs(5);
const SERVER_IDLE: Duration = Duration::from_secs(600);
/// Server processes grow with what they have seen, and a node that came back gets its share again.
const SERVER_LIFETIME: Duration = Duration::from_secs(3600);
/// Less than the time after which firewalls forget a connection.
const CHECK_DELAY: Duration = Duration::from_secs(30);

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            mode: PoolMode::default(),
            size: SIZE,
            queue: QUEUE,
            queue_timeout: QUEUE_TIMEOUT,
            connect_timeout: CONNECT,
            server_idle_timeout: SERVER_IDLE,
            server_lifetime: SERVER_LIFETIME,
            server_check_delay: CHECK_DELAY,
            client_idle_timeout: Duration::ZERO,
            transaction_idle_timeout: Duration::ZERO,
            query_timeout: Duration::ZERO,
            max_clients: 0,
        }
    }
}

impl PoolConfig {
    /// What holds where `narrower` says something of its own.
    #[must_use]
    pub fn with(&self, narrower: &PoolOverrides) -> Self {
        Self {
            mode: narrower.mode.unwrap_or(self.mode),
            size: narrower.size.unwrap_or(self.size),
            queue: narrower.queue.unwrap_or(self.queue),
            queue_timeout: narrower.queue_timeout.unwrap_or(self.queue_timeout),
            query_timeout: narrower.query_timeout.unwrap_or(self.query_timeout),
            max_clients: narrower.max_clients.unwrap_or(self.max_clients),
            ..self.clone()
        }
    }
}
