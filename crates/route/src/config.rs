//! The `route:` section of the configuration, which is also what the builder fills in.

#[cfg(feature = "config")]
mod file;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use herdsman_node::{Conninfo, NodeName, units};
pub use herdsman_watch::MaxLag;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

#[cfg(feature = "config")]
pub use file::Settings;

/// How statements are routed, and with which pools: the `route:` section.
///
/// ```
/// use herdsman::{Balance, RouteConfig};
/// let config: RouteConfig = serde_json::from_str(r#"{"balance": "random", "pool": {"max_connections": 20}}"#)?;
/// assert_eq!((config.balance, config.pool.max_connections), (Balance::Random, 20));
/// assert_eq!(config.retries, RouteConfig::default().retries);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteConfig {
    /// Where the roles come from. Default: `given` where `writers` or `readers` list a node, else `discovered`. See
    /// [`RouteConfig::mode`].
    pub mode: Option<Mode>,
    /// The nodes that are written to. Default: none, they are discovered.
    pub writers: Vec<NodeName>,
    /// The nodes that are read from. Default: none, they are discovered.
    pub readers: Vec<NodeName>,
    /// What the pools log in with, where it differs from what `hosts` says. Default: no difference.
    pub application: Application,
    /// The pool of each node.
    pub pool: PoolConfig,
    /// How a reader is picked among those that may be read from. Default `two_choices`.
    pub balance: Balance,
    /// How much of the reads a node gets, relative to the others: 0 to 1000, 0 is none while any other node may be
    /// read from. Default 1 for each node.
    #[serde(deserialize_with = "weights")]
    pub weights: BTreeMap<NodeName, u32>,
    /// The zone this program runs in; readers of the same zone are preferred. Default: none, all are alike.
    pub zone: Option<String>,
    /// The zone each node is in. Default: none known.
    pub zones: BTreeMap<NodeName, String>,
    /// A reader further behind is not read from; a bound left out is none. Default 16 MiB and 10 s.
    pub max_lag: MaxLag,
    /// What becomes of a read that no reader may answer. Default `writer`.
    pub fallback: Fallback,
    /// How long a read with a session token waits for a reader to have replayed it, before it goes to the writer.
    /// Default 100 ms; 0 s goes there at once.
    #[serde(deserialize_with = "wait")]
    pub causal_wait: Duration,
    /// How long a write waits while there is no writer, as during a promotion. Default 5 s; 0 s fails at once.
    #[serde(deserialize_with = "wait")]
    pub writer_wait: Duration,
    /// How often a read whose node went away is tried again on another: 0 to 10. Default 2.
    #[serde(deserialize_with = "retries")]
    pub retries: u32,
    /// How nodes are looked at, in `given` mode; in `discovered` mode `watch` says it.
    pub probe: ProbeConfig,
    /// How long a node that came back takes to its full share of the reads. Default 10 s; 0 s gives it at once.
    #[serde(deserialize_with = "wait")]
    pub slow_start: Duration,
    /// Named groups of nodes with pools of their own. Default: none.
    pub groups: BTreeMap<String, GroupConfig>,
}

/// Where the roles of the nodes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The watcher finds them out, and a promotion moves the writer.
    Discovered,
    /// `writers` and `readers` list them, and they stay.
    Given,
}

/// What the pools log in with, where it differs from what `hosts` says, which is the monitoring user.
///
/// Printing it never shows the password.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Application {
    /// Role to log in as. Default: the node's.
    pub user: Option<String>,
    /// Database. Default: the node's.
    pub dbname: Option<String>,
    /// What the server lists the connections as. Default: the node's.
    pub application_name: Option<String>,
    /// File with the client certificate. Default: the node's.
    pub sslcert: Option<PathBuf>,
    /// File with its key. Default: the node's.
    pub sslkey: Option<PathBuf>,
    /// The password. Default: the node's where `user` is the same, else what `PGPASSWORD` or the password file has.
    pub password: Option<Secret>,
    /// The password in base64, instead of `password`.
    pub b64password: Option<Secret>,
    /// File whose first line is the password, instead of `password`.
    pub password_file: Option<PathBuf>,
    /// Variable that holds the password, instead of `password`.
    pub password_env: Option<String>,
    /// Program and arguments that print the password, instead of `password`.
    pub password_command: Option<String>,
    /// `plain` or `base64`: how the password is written, wherever it comes from. Default `plain`.
    pub password_encoding: Option<String>,
}

/// A piece of configuration that is never shown.
#[derive(Clone)]
pub struct Secret(SecretString);

/// The pool of one node.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    /// Most connections to a node: 1 to 10000. Default 10.
    #[serde(deserialize_with = "max_connections")]
    pub max_connections: u32,
    /// Connections kept open also when idle: 0 to 10000, not more than `max_connections`. Default 0.
    #[serde(deserialize_with = "min_connections")]
    pub min_connections: u32,
    /// How long a statement waits for a connection. Default 5 s.
    #[serde(deserialize_with = "timeout")]
    pub acquire_timeout: Duration,
    /// How long a connection may be idle before it is closed; `None`, written `never`, keeps it. Default 10 min.
    #[serde(deserialize_with = "lifetime")]
    pub idle_timeout: Option<Duration>,
    /// How old a connection may become before it is closed; `None`, written `never`, keeps it. Default 30 min.
    #[serde(deserialize_with = "lifetime")]
    pub max_lifetime: Option<Duration>,
    /// Whether statements are prepared on the server and kept; off for servers behind a pooler that cannot. Default
    /// `true`.
    pub prepared_statements: bool,
    /// Connections to nodes that are read from start with `default_transaction_read_only=on`, so that the server itself
    /// refuses what looks like a read and writes; it is then sent to the writer. Default on. Turn it off behind a
    /// pooler that does not take `options` at start.
    pub read_only_readers: bool,
}

/// How a reader is picked among those that may be read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Two are drawn, and the one with less work in flight, times its latency, is taken.
    #[default]
    TwoChoices,
    /// One is drawn.
    Random,
    /// One after the other.
    RoundRobin,
    /// The one with the fewest statements in flight, for its weight.
    LeastConnections,
}

/// What becomes of a read that no reader may answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// The writer answers it.
    #[default]
    Writer,
    /// It fails.
    Error,
    /// It waits for a reader, as long as `writer_wait`, then fails.
    Wait,
}

/// How nodes are looked at where their roles are given.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeConfig {
    /// Time between two looks at a node. Default 500 ms.
    #[serde(deserialize_with = "probe")]
    pub interval: Duration,
    /// Bound on one look. Default 1.5 s.
    #[serde(deserialize_with = "probe")]
    pub timeout: Duration,
}

/// A named group of nodes with pools of its own.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// Its nodes.
    pub nodes: Vec<NodeName>,
    /// Most connections to each of its nodes: 1 to 10000. Default: as `pool` has it.
    #[serde(default, deserialize_with = "group_connections")]
    pub max_connections: Option<u32>,
    /// Whether each statement commits by itself; where not, a handle of the group is one transaction. Default `true`.
    #[serde(default = "yes")]
    pub autocommit: bool,
    /// Whether statements are prepared on the server and kept. Default: as `pool` has it.
    #[serde(default)]
    pub prepared_statements: Option<bool>,
}

impl RouteConfig {
    /// Where the roles come from: as `mode` says, else `given` where any role is listed.
    #[must_use]
    pub fn mode(&self) -> Mode {
        let given = !(self.writers.is_empty() && self.readers.is_empty());
        self.mode.unwrap_or(if given { Mode::Given } else { Mode::Discovered })
    }
}

impl Application {
    /// What the pool of a node logs in with. Of the keys about passwords only `password` counts; reading a file puts
    /// there what the others lead to.
    #[must_use]
    pub fn login(&self, node: &Conninfo) -> Conninfo {
        let password = self.password.clone().map(|secret| secret.0);
        let mut login = node.for_login(self.user.as_deref(), password, self.dbname.as_deref());
        if let Some(name) = &self.application_name {
            name.clone_into(&mut login.application_name);
        }
        login.sslcert = self.sslcert.clone().or(login.sslcert);
        login.sslkey = self.sslkey.clone().or(login.sslkey);
        login
    }
}

impl Default for RouteConfig {
    fn default() -> Self {
        Self {
            mode: None,
            writers: Vec::new(),
            readers: Vec::new(),
            application: Application::default(),
            pool: PoolConfig::default(),
            balance: Balance::default(),
            weights: BTreeMap::new(),
            zone: None,
            zones: BTreeMap::new(),
            // One WAL segment: less is the normal breath of streaming, more is a reader that does not keep up.
            max_lag: MaxLag { bytes: Some(16 * 1024 * 1024), time: Some(Duration::from_secs(10)) },
            fallback: Fallback::default(),
            causal_wait: Duration::from_millis(100),
            writer_wait: Duration::from_secs(5),
            retries: 2,
            probe: ProbeConfig::default(),
            slow_start: Duration::from_secs(10),
            groups: BTreeMap::new(),
        }
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            max_connections: 10,
            min_connections: 0,
            acquire_timeout: Duration::from_secs(5),
            idle_timeout: Some(Duration::from_secs(600)),
            max_lifetime: Some(Duration::from_secs(1800)),
            prepared_statements: true,
            read_only_readers: true,
        }
    }
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self { interval: Duration::from_millis(500), timeout: Duration::from_millis(1500) }
    }
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            max_connections: None,
            autocommit: true,
            prepared_statements: None,
        }
    }
}

impl Secret {
    /// The text, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// Most connections to one node: PostgreSQL itself takes few thousands.
const MAX_CONNECTIONS: u32 = 10_000;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

const fn yes() -> bool {
    true
}

fn wait<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, Duration::ZERO..=HOUR)
}

fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, Duration::from_millis(10)..=HOUR)
}

/// Faster is a load of its own, slower is not looking.
fn probe<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, Duration::from_millis(10)..=HOUR)
}

fn lifetime<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    units::duration_or_never(deserializer, Duration::from_secs(1)..=DAY)
}

fn max_connections<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    units::number(deserializer, 1..=MAX_CONNECTIONS)
}

fn min_connections<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    units::number(deserializer, 0..=MAX_CONNECTIONS)
}

fn group_connections<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    max_connections(deserializer).map(Some)
}

fn retries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    units::number(deserializer, 0..=10)
}

fn weights<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<NodeName, u32>, D::Error> {
    let weights = BTreeMap::<NodeName, Weight>::deserialize(deserializer)?;
    Ok(weights.into_iter().map(|(node, weight)| (node, weight.0)).collect())
}

/// One weight on its way in, so that an error stands where the weight does.
#[derive(Deserialize)]
struct Weight(#[serde(deserialize_with = "weight")] u32);

fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    units::number(deserializer, 0..=1000)
}

#[cfg(test)]
mod tests;
