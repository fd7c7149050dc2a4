//! Putting a set together.

mod assemble;

use std::time::Duration;

use herdsman_node::{
    Conninfo, ConninfoError, Hosts, InvalidName, LoadBalanceHosts, NodeName, TargetSessionAttrs,
    TlsError,
};
use herdsman_watch::{Watch, WatchConfig};

use crate::ReplicaSet;
use crate::config::{Balance, Fallback, GroupConfig, PoolConfig, RouteConfig};
use crate::policy::Want;
use crate::remote::Remote;

/// Puts a [`ReplicaSet`] together. Nothing is connected, and nothing can block, before the first statement.
///
/// Mistakes are told by [`build`](Self::build), all in one place.
#[derive(Debug, Default)]
#[must_use = "a builder does nothing before `build`"]
pub struct Builder {
    nodes: Vec<Node>,
    settings: RouteConfig,
    roles: Roles,
    watch: WatchConfig,
    monitor: Option<String>,
    only: Option<Want>,
    errors: Vec<BuildError>,
}

/// One node as the builder was told.
#[derive(Debug)]
struct Node {
    name: NodeName,
    /// What the pools and the pulse log in with.
    conninfo: Conninfo,
    /// What the watcher logs in with, where it differs.
    monitor: Option<Conninfo>,
    writer: bool,
    reader: bool,
}

/// Where roles come from.
#[derive(Debug, Default)]
enum Roles {
    /// From the calls `writer` and `reader`; where there were none, from a watcher of our own.
    #[default]
    Own,
    /// From a watch that somebody else keeps.
    Watch(Watch),
    /// From a running Herdsman.
    Remote(Remote),
}

/// A set could not be put together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The configuration file is wrong.
    #[cfg(feature = "config")]
    #[error(transparent)]
    Config(#[from] herdsman_config::ConfigError),
    /// There is no node.
    #[error(
        "a replica set needs at least one node: give it a writer, or nodes whose roles are to be discovered"
    )]
    NoNodes,
    /// A connection string is wrong.
    #[error("node {node}: {source}")]
    Conninfo {
        /// The node.
        node: String,
        /// What is wrong; never a secret.
        source: ConninfoError,
    },
    /// A node's name is wrong.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// Two nodes have one name.
    #[error("two nodes are called {0}; give each a name of its own")]
    Twice(NodeName),
    /// A setting or group is about a node that is not there.
    #[error("{what} names node {node}, which is not in the set")]
    UnknownNode {
        /// What names it.
        what: String,
        /// The name.
        node: NodeName,
    },
    /// Roles are given for some nodes and to be discovered for others.
    #[error(
        "node {0} has no role, others have: give every node a role, or none and let them be discovered"
    )]
    Mixed(NodeName),
    /// A setting is out of its range.
    #[error("{setting} {problem}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A node's TLS files do not work.
    #[error("failed to prepare TLS for node {node}: {source}")]
    Tls {
        /// The node.
        node: NodeName,
        /// What is wrong with its files.
        source: TlsError,
    },
    /// Several things are wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<Self>),
}

impl ReplicaSet {
    /// A builder with nothing in it.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A set over the hosts of a libpq connection string, their roles discovered.
    ///
    /// `host=a,b,c` names the nodes; `target_session_attrs` narrows what the set does: `primary` and `read-write` send
    /// everything to the writer, `standby` and `read-only` everything to readers, `prefer-standby` to readers and,
    /// where there is none, to the writer; `any` routes each statement. `load_balance_hosts=random` balances at random.
    ///
    /// # Errors
    /// [`BuildError`] with what is wrong with the string.
    pub fn from_hosts(hosts: &str) -> Result<Self, BuildError> {
        Self::builder().hosts(hosts).build()
    }
}

#[cfg(feature = "config")]
impl ReplicaSet {
    /// A set as a `herdsman.yml` describes it: its `hosts`, `watch` and `route` sections.
    ///
    /// # Errors
    /// [`BuildError::Config`] with every mistake in the file, by line and column.
    pub fn from_config(path: impl AsRef<std::path::Path>) -> Result<Self, BuildError> {
        let settings = crate::Settings::load(Some(path.as_ref()))?;
        Builder::from(settings).build()
    }
}

/// To change or add something before it is built.
#[cfg(feature = "config")]
impl From<crate::Settings> for Builder {
    fn from(settings: crate::Settings) -> Self {
        let crate::Settings { nodes, watch, route, .. } = settings;
        let given = route.mode() == crate::Mode::Given;
        let nodes = nodes.into_iter().map(|(name, monitor)| Node {
            conninfo: route.application.login(&monitor),
            writer: given && route.writers.contains(&name),
            reader: given && route.readers.contains(&name),
            monitor: Some(monitor),
            name,
        });
        // A host without a role in a file that gives roles is there for the other doors.
        let nodes = nodes.filter(|node| !given || node.writer || node.reader).collect();
        Self { nodes, watch, settings: route, ..Self::default() }
    }
}

impl Builder {
    /// Adds a node to write to. The first is called `write`, further ones `write1`, `write2`, …
    pub fn writer(self, conninfo: &str) -> Self {
        let name = match self.nodes.iter().filter(|node| node.writer).count() {
            0 => "write".to_owned(),
            n => format!("write{n}"),
        };
        self.named_writer(&name, conninfo)
    }

    /// Adds a node to read. They are called `read0`, `read1`, …
    pub fn reader(self, conninfo: &str) -> Self {
        let name = format!("read{}", self.nodes.iter().filter(|node| node.reader).count());
        self.named_reader(&name, conninfo)
    }

    /// Adds a node to write to, with a name for errors and statistics.
    pub fn named_writer(self, name: &str, conninfo: &str) -> Self {
        self.add(name, conninfo, true, false)
    }

    /// Adds a node to read, with a name for errors and statistics.
    pub fn named_reader(self, name: &str, conninfo: &str) -> Self {
        self.add(name, conninfo, false, true)
    }

    /// Adds a node whose role is to be discovered: a watcher in this process finds out who is primary, and follows
    /// every promotion. The role it logs in with (or that of [`monitor`](Self::monitor)) needs `pg_monitor`.
    pub fn node(self, name: &str, conninfo: &str) -> Self {
        self.add(name, conninfo, false, false)
    }

    /// Adds every host of a libpq connection string, as [`ReplicaSet::from_hosts`] does.
    pub fn hosts(mut self, text: &str) -> Self {
        let hosts: Hosts = match text.parse() {
            Ok(hosts) => hosts,
            Err(source) => {
                self.errors.push(BuildError::Conninfo { node: "hosts".to_owned(), source });
                return self;
            }
        };
        if hosts.balance == LoadBalanceHosts::Random {
            self.settings.balance = Balance::Random;
        }
        (self.only, self.settings.fallback) = match hosts.target {
            TargetSessionAttrs::Any => (None, self.settings.fallback),
            TargetSessionAttrs::Primary | TargetSessionAttrs::ReadWrite => {
                (Some(Want::Write), self.settings.fallback)
            }
            TargetSessionAttrs::Standby | TargetSessionAttrs::ReadOnly => {
                (Some(Want::Read), Fallback::Error)
            }
            TargetSessionAttrs::PreferStandby => (Some(Want::Read), Fallback::Writer),
        };
        for conninfo in hosts.nodes {
            let name = self.host_name(&conninfo);
            self.push(&name, conninfo, false, false);
        }
        self
    }

    /// Uses the roles that a watch finds, instead of a watcher of our own. Nodes are matched by name.
    pub fn watch(mut self, watch: Watch) -> Self {
        self.roles = Roles::Watch(watch);
        self
    }

    /// Uses the roles that a running Herdsman finds, instead of a watcher of our own. Nodes are matched by name.
    pub fn herdsman(mut self, remote: Remote) -> Self {
        self.roles = Roles::Remote(remote);
        self
    }

    /// What the watcher logs in with where it differs from the application: libpq keywords, such as
    /// `user=monitor password=…`.
    pub fn monitor(mut self, keywords: &str) -> Self {
        self.monitor = Some(keywords.to_owned());
        self
    }

    /// How the watcher looks and judges.
    pub fn watch_config(mut self, config: WatchConfig) -> Self {
        self.watch = config;
        self
    }

    /// All settings at once.
    pub fn settings(mut self, settings: RouteConfig) -> Self {
        self.settings = settings;
        self
    }

    /// Connections per node at most. Default 10.
    pub fn max_connections(mut self, max: u32) -> Self {
        self.settings.pool.max_connections = max;
        self
    }

    /// Connections per node that are kept also when idle. Default 0.
    pub fn min_connections(mut self, min: u32) -> Self {
        self.settings.pool.min_connections = min;
        self
    }

    /// How long to wait for a connection. Default 5 s.
    pub fn acquire_timeout(mut self, limit: Duration) -> Self {
        self.settings.pool.acquire_timeout = limit;
        self
    }

    /// Everything about the pools.
    pub fn pool(mut self, pool: PoolConfig) -> Self {
        self.settings.pool = pool;
        self
    }

    /// How to choose among several readers. Default: two choices.
    pub fn balance(mut self, balance: Balance) -> Self {
        self.settings.balance = balance;
        self
    }

    /// How much of the load this node gets beside others. Default 1.
    pub fn weight(mut self, node: NodeName, weight: u32) -> Self {
        self.settings.weights.insert(node, weight);
        self
    }

    /// Where this process stands: readers in the same zone are preferred.
    pub fn zone(mut self, zone: &str) -> Self {
        self.settings.zone = Some(zone.to_owned());
        self
    }

    /// Where a node stands.
    pub fn zone_of(mut self, node: NodeName, zone: &str) -> Self {
        self.settings.zones.insert(node, zone.to_owned());
        self
    }

    /// How far behind a reader may be, in bytes and in time; `None` is no bound. Default 16 MiB and 10 s.
    pub fn max_lag(mut self, bytes: Option<u64>, time: Option<Duration>) -> Self {
        self.settings.max_lag = herdsman_watch::MaxLag { bytes, time };
        self
    }

    /// Where reads go when no reader is eligible. Default: to the writer.
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        self.settings.fallback = fallback;
        self
    }

    /// How long a read waits for a reader to replay what its session wrote, before it goes to the writer. Default
    /// 100 ms.
    pub fn causal_wait(mut self, wait: Duration) -> Self {
        self.settings.causal_wait = wait;
        self
    }

    /// How long a statement waits for a node while there is none, such as during a promotion. Default 5 s.
    pub fn writer_wait(mut self, wait: Duration) -> Self {
        self.settings.writer_wait = wait;
        self
    }

    /// How often a read is tried again after its node went away. Default 2.
    pub fn retries(mut self, retries: u32) -> Self {
        self.settings.retries = retries;
        self
    }

    /// How long a node that came back takes to get its whole share of the load. Default 10 s.
    pub fn slow_start(mut self, time: Duration) -> Self {
        self.settings.slow_start = time;
        self
    }

    /// How often each node is looked at, and how long it may take to answer. Default 500 ms and 1.5 s.
    pub fn probe(mut self, interval: Duration, timeout: Duration) -> Self {
        self.settings.probe.interval = interval;
        self.settings.probe.timeout = timeout;
        self
    }

    /// Adds a named group, which [`ReplicaSet::group`] returns: some of the nodes, with pools of their own.
    pub fn group(mut self, name: &str, group: GroupConfig) -> Self {
        self.settings.groups.insert(name.to_owned(), group);
        self
    }

    fn add(mut self, name: &str, text: &str, writer: bool, reader: bool) -> Self {
        match text.parse() {
            Ok(conninfo) => self.push(name, conninfo, writer, reader),
            Err(source) => self.errors.push(BuildError::Conninfo { node: name.to_owned(), source }),
        }
        self
    }

    fn push(&mut self, name: &str, conninfo: Conninfo, writer: bool, reader: bool) {
        match NodeName::new(name) {
            Ok(name) => self.nodes.push(Node { name, conninfo, monitor: None, writer, reader }),
            Err(error) => self.errors.push(error.into()),
        }
    }

    /// A host's name where that is unique, else with its port.
    fn host_name(&self, conninfo: &Conninfo) -> String {
        let host = conninfo.host.trim_matches('/').replace('/', "-");
        let taken = self.nodes.iter().any(|node| node.name.as_str() == host);
        if taken || host.is_empty() { format!("{host}:{}", conninfo.port) } else { host }
    }
}
