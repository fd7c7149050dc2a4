//! The settings of each kind of hook.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use herdsman_config::Secret;
use herdsman_node::{NodeName, units};
use herdsman_stream::sinks::webhook::Url;
use serde::{Deserialize, Deserializer};

/// A command. It gets the event as JSON on its standard input, and as variables `HERDSMAN_…`; it did well when it ends
/// with 0.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecConfig {
    /// The program and its arguments. No shell looks at them.
    pub command: Vec<String>,
    /// Variables added to the environment that we were started with. Their values are never shown.
    #[serde(default)]
    pub env: BTreeMap<String, Secret>,
    /// The folder it works in; ours when left out.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// How long it gets to end after SIGTERM, before SIGKILL. Default 2 s.
    #[serde(default = "default_grace", deserialize_with = "grace")]
    pub grace: Duration,
}

/// HTTP posts to a receiver of yours, signed as the stream's are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where to post, `http://` or `https://`. Only its host is ever shown.
    pub url: Url,
    /// Headers added to each request. Their values are never shown.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// What requests are signed with.
    ///
    /// Once the section is read, also where it came from one of the next three.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// The variable that holds it.
    #[serde(default)]
    pub secret_env: Option<String>,
    /// The file whose first line it is.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// The program, with its arguments, that prints it.
    #[serde(default)]
    pub secret_command: Option<String>,
    /// What goes into `authorization: Bearer …`.
    ///
    /// Once the section is read, also where it came from one of the next three.
    #[serde(default)]
    pub token: Option<Secret>,
    /// The variable that holds it.
    #[serde(default)]
    pub token_env: Option<String>,
    /// The file whose first line it is.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// The program, with its arguments, that prints it.
    #[serde(default)]
    pub token_command: Option<String>,
    /// A PEM file with what the receiver is known by; what this machine trusts when left out.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// Slack's incoming webhook, or whatever takes the same: `{"text": "…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackConfig {
    /// Where to post: who knows it may post.
    ///
    /// Once the section is read, also where it came from one of the next three.
    #[serde(default)]
    pub url: Option<Secret>,
    /// The variable that holds it.
    #[serde(default)]
    pub url_env: Option<String>,
    /// The file whose first line it is.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// The program, with its arguments, that prints it.
    #[serde(default)]
    pub url_command: Option<String>,
    /// What each sentence begins with, to tell several herds apart.
    #[serde(default)]
    pub title: Option<String>,
    /// A PEM file with what the receiver is known by; what this machine trusts when left out.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// `host` and `port` of databases in a PgBouncer's configuration, then RELOAD.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PgBouncerConfig {
    /// The file that is rewritten: `pgbouncer.ini`, or one that it includes.
    pub file: PathBuf,
    /// The file that is read for it; `file` itself when left out.
    #[serde(default)]
    pub template: Option<PathBuf>,
    /// Which databases of its section `[databases]` go where.
    pub databases: BTreeMap<String, DatabaseTarget>,
    /// How the console is reached, with libpq's keys. Default: port 6432, database `pgbouncer`.
    pub console: BTreeMap<String, Secret>,
    /// What becomes of connections to the server that was the writer. Default `reconnect`.
    #[serde(default)]
    pub old_connections: OldConnections,
}

/// Where a database goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseTarget {
    /// To the proven primary.
    Writer,
    /// To a standby that may be read, or to all of them where they have the same port; to the writer where there is none.
    Reader,
}

/// What becomes of connections to a server that a database does not go to any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OldConnections {
    /// Closed once their client lets go of them: at the end of its transaction, or session. Default.
    #[default]
    Reconnect,
    /// Closed at once, with the clients of the database, who have to connect again.
    Kill,
}

/// Servers of an HAProxy, by its runtime API.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HaProxyConfig {
    /// Its `stats socket` with `level admin`: a path, or `host:port`.
    pub socket: String,
    /// Backends whose servers are written to.
    #[serde(default)]
    pub writers: Vec<String>,
    /// Backends whose servers are read.
    #[serde(default)]
    pub readers: Vec<String>,
    /// What HAProxy calls a node, where that is not its name here.
    #[serde(default)]
    pub servers: BTreeMap<NodeName, String>,
    /// How often all is set again, as an HAProxy that was restarted has forgotten it; `never` for once. Default 10 s.
    #[serde(default = "default_refresh", deserialize_with = "refresh")]
    pub refresh: Option<Duration>,
}

/// A file of addresses and names, as `/etc/hosts` has them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostsConfig {
    /// The file. It is all ours: one that we did not write is not replaced.
    pub file: PathBuf,
    /// The name of the proven primary.
    #[serde(default)]
    pub writer: Option<String>,
    /// The name of the standbys that may be read; of the writer where there is none.
    #[serde(default)]
    pub readers: Option<String>,
}

fn default_grace() -> Duration {
    Duration::from_secs(2)
}

fn default_refresh() -> Option<Duration> {
    Some(Duration::from_secs(10))
}

fn grace<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, Duration::from_millis(10)..=Duration::from_secs(60))
}

fn refresh<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    units::duration_or_never(deserializer, Duration::from_millis(100)..=Duration::from_secs(3600))
}
