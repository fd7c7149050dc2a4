//! The `ledger:` section of the configuration.

mod build;
mod check;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use build::NotReady;
pub use herdsman_config::LoginConfig;
use herdsman_config::Secret;
use herdsman_node::{NodeName, units};
use serde::{Deserialize, Deserializer};

use crate::engine::{Ack, Settings};

/// The `ledger:` section: which databases follow which log.
///
/// ```
/// let text = r#"{"nodes": {"lite": {"sqlite": {"path": "lite.db"}}}, "log": {"embedded": {"path": "all.log"}}}"#;
/// let section: herdsman_ledger::config::LedgerConfig = serde_json::from_str(text)?;
/// assert_eq!(section.nodes["lite"].engine().to_string(), "SQLite");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LedgerConfig {
    /// What logs call it.
    pub name: String,
    /// The databases that follow the log, by name: of each its kind, with its settings below. No ledger when empty.
    pub nodes: BTreeMap<String, NodeConfig>,
    /// The log that they follow. Has to be there.
    pub log: Option<LogConfig>,
    /// How many nodes have a transaction in their data before whoever sent it is told that it committed.
    pub ack: Ack,
    /// Until when a transaction is to have committed, or to have failed.
    #[serde(deserialize_with = "deadline")]
    pub deadline: Duration,
    /// How long an entry that the log did not confirm may take to be read back before it is called off.
    #[serde(deserialize_with = "cancel_after")]
    pub cancel_after: Duration,
    /// How often a transaction is run that others keep beating; 1 to 1000.
    pub attempts: u32,
    /// How long a node may be behind the log before reads and drivers are sent to others, until it has caught up.
    #[serde(deserialize_with = "late_after")]
    pub late_after: Duration,
    /// How many entries the nodes that `ack` waits for may be behind before what is written waits for them; at least 1. Fenced
    /// nodes are not waited for.
    pub most_behind: u64,
    /// Unix socket at which commands such as `ledger sql` ask the running program. Default: beside the embedded log, with
    /// `.socket` behind its name; has to be there with Kafka.
    pub socket: Option<PathBuf>,
    /// Address, `host:port`, at which drivers of PostgreSQL find the ledger as the database `name`. Who may log in, and how,
    /// is what `gateway` says: `users`, `auth`, `tls`. Default: none.
    pub serve: Option<String>,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            name: "ledger".to_owned(),
            nodes: BTreeMap::new(),
            log: None,
            ack: Ack::Local,
            deadline: Duration::from_secs(30),
            cancel_after: Duration::from_secs(2),
            attempts: 10,
            late_after: Duration::from_secs(5),
            most_behind: 10_000,
            socket: None,
            serve: None,
        }
    }
}

fn deadline<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, Duration::from_millis(100)..=Duration::from_secs(3600))
}

fn late_after<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, Duration::from_secs(2)..=Duration::from_secs(86_400))
}

fn cancel_after<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, Duration::from_millis(10)..=Duration::from_secs(3600))
}

/// One entry of `ledger.nodes`: its kind as the key, its settings below it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum NodeConfig {
    /// A PostgreSQL server, 15 or later.
    Postgres(PostgresNode),
    /// A MariaDB server, 10.11.8 or later.
    MariaDb(MariaDbNode),
    /// An SQLite file on this machine.
    Sqlite(SqliteNode),
}

/// A PostgreSQL server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresNode {
    /// Its name in `hosts`.
    pub host: NodeName,
    /// What the ledger logs in with, where that is not what `hosts` says. The role owns the tables and may set
    /// `session_replication_role`.
    #[serde(default)]
    pub login: LoginConfig,
}

/// A MariaDB server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MariaDbNode {
    /// Its address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The account, which may do everything with its database. Has to be there.
    pub user: String,
    /// The database. Has to be there.
    pub database: String,
    /// The password.
    pub password: Option<Secret>,
    /// The password in base64, instead of `password`.
    pub b64password: Option<Secret>,
    /// File whose first line is the password, instead of `password`.
    pub password_file: Option<PathBuf>,
    /// Variable that holds the password, instead of `password`.
    pub password_env: Option<String>,
    /// Program and arguments that print the password, instead of `password`.
    pub password_command: Option<String>,
    /// `plain` or `base64`: how the password is written, wherever it comes from.
    pub password_encoding: Option<String>,
    /// Whether the connection is encrypted, and whether the server must prove who it is.
    pub tls: MariaDbTls,
    /// Certificates to trust for `verify_ca` and `verify_full`.
    pub ca: Option<PathBuf>,
}

impl Default for MariaDbNode {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 3306,
            user: String::new(),
            database: String::new(),
            password: None,
            b64password: None,
            password_file: None,
            password_env: None,
            password_command: None,
            password_encoding: None,
            tls: MariaDbTls::Prefer,
            ca: None,
        }
    }
}

/// How a connection to MariaDB is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MariaDbTls {
    /// It is not.
    Disable,
    /// It is encrypted where the server can.
    #[default]
    Prefer,
    /// It is encrypted, or not made.
    Require,
    /// And somebody that is trusted says that it is a server of theirs.
    VerifyCa,
    /// And that it is this one.
    VerifyFull,
}

/// An SQLite file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqliteNode {
    /// The file; it is made when it is not there.
    pub path: PathBuf,
}

/// The log: its kind as the key, its settings below it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LogConfig {
    /// A file, for a ledger on one machine.
    Embedded(EmbeddedConfig),
    /// A topic of Kafka.
    Kafka(KafkaConfig),
}

/// A log in a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddedConfig {
    /// The file; it is made when it is not there. Two more, with `-wal` and `-shm` behind its name, belong to it.
    pub path: PathBuf,
}

/// A log in Kafka.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Brokers to ask first, as `host:port`; they tell of the others.
    pub brokers: Vec<String>,
    /// The topic, which the ledger has for itself. It has one partition, and is made when it is not there.
    #[serde(default = "topic")]
    pub topic: String,
    /// On how many brokers a topic that is made is kept; 3 survive the loss of any one, a single broker wants 1.
    #[serde(default = "replication")]
    pub replication: u32,
    /// Properties for librdkafka, as its documentation calls them. `ssl.*` and the SASL mechanisms other than `PLAIN` work
    /// only where librdkafka was built with OpenSSL, which it is not unless you do.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// Properties whose value is what a file holds: for passwords.
    #[serde(default)]
    pub property_files: BTreeMap<String, PathBuf>,
    /// Answers clients that have nothing but Kafka. Default: they are not answered.
    #[serde(default)]
    pub requests: Option<RequestsConfig>,
}

/// Requests in JSON by Kafka, and their answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RequestsConfig {
    /// The topic of requests that read. Whoever may write to it may read every row of the ledger. It is made when it is not
    /// there.
    pub one: String,
    /// The topic of all answers. It is made when it is not there.
    pub response: String,
    /// The consumer group of the ledger's programs, each of which answers some of the requests. Default: the log's topic with
    /// `herdsman-` before it.
    pub group: Option<String>,
    /// In how many partitions `one` is made: so many programs at most take requests from it. 1 to 1000.
    pub partitions: u32,
}

impl Default for RequestsConfig {
    fn default() -> Self {
        Self { one: "ONE".to_owned(), response: "RESPONSE".to_owned(), group: None, partitions: 8 }
    }
}

fn topic() -> String {
    "ALL".to_owned()
}

fn replication() -> u32 {
    3
}

impl std::fmt::Debug for KafkaConfig {
    /// Properties by name only: some are secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("topic", &self.topic)
            .field("replication", &self.replication)
            .field("properties", &self.properties.keys())
            .field("property_files", &self.property_files)
            .field("requests", &self.requests)
            .finish()
    }
}

impl LedgerConfig {
    /// How requests are treated.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            deadline: self.deadline,
            cancel_after: self.cancel_after,
            attempts: self.attempts,
            ack: self.ack,
            late_after: self.late_after,
            most_behind: self.most_behind,
        }
    }

    /// Where commands ask the running program; `None` where the section says too little.
    #[must_use]
    pub fn socket(&self) -> Option<PathBuf> {
        let beside_the_log = || match &self.log {
            Some(LogConfig::Embedded(EmbeddedConfig { path })) => {
                Some(with_behind(path, ".socket"))
            }
            _ => None,
        };
        self.socket.clone().or_else(beside_the_log)
    }
}

/// A path with something behind its name.
#[must_use]
pub fn with_behind(path: &std::path::Path, behind: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(behind);
    name.into()
}

#[cfg(test)]
mod tests;
