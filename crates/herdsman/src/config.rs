//! What this program takes out of the one configuration file, and says everything that is wrong with it.
//!
//! An unmodified `pgroute66.yml` is a valid file. These are the keys at the top level; all but `hosts` may be left out:
//!
//! | key | value | default |
//! |---|---|---|
//! | `hosts` | map from node to libpq's keys, a keyword string or a `postgres://` URI | |
//! | `groups`, `host_groups` | map from group to a list of nodes; `all` is every node | |
//! | `bind` | address the API listens on | `localhost` |
//! | `port` | its port; 0 lets the system choose | 8443 with TLS, else 8080 |
//! | `ssl` | certificate and key of the API, and whose certificates its clients may show: [`herdsman_api::Ssl`] | plain HTTP |
//! | `loglevel` | trace, debug, info, warn or error | `info` |
//! | `logfile` | file that the log is appended to, besides standard error | |
//! | `watch` | see [`herdsman_watch::WatchConfig`] | |
//! | `availability` | see [`herdsman_watch::AvailabilityConfig`] | |
//! | `api` | see [`herdsman_api::ApiConfig`] | |
//! | `route` | see [`herdsman::RouteConfig`]; for programs that use the library | |
//! | `stream` | see [`herdsman_stream::StreamConfig`] | |
//! | `gateway` | see [`herdsman_gateway::GatewayConfig`] | no gateway |
//! | `mesh` | see [`herdsman_mesh::MeshConfig`] | no mesh |
//! | `ledger` | see [`herdsman_ledger::config::LedgerConfig`] | no ledger |
//! | `hooks` | list of [`herdsman_hooks::HookConfig`] | none |
//!
//! Besides libpq's keys a host takes, instead of `password`: `b64password` (base64), `password_file` (the first line of
//! a file), `password_env` (the name of a variable) or `password_command` (a program that prints it); and
//! `password_encoding: base64`, which says that the password is
//! base64 wherever it comes from. The `pool_*` keys of pgroute66 are accepted and have no effect.

mod sections;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use herdsman_api::{ApiConfig, Groups, Listen, Ssl};
use herdsman_config::{File, Reading};
use herdsman_gateway::GatewayConfig;
use herdsman_hooks::HooksConfig;
use herdsman_ledger::config::LedgerConfig;
use herdsman_mesh::MeshConfig;
use herdsman_node::{Conninfo, NodeName};
use herdsman_stream::StreamConfig;
use herdsman_stream::config::Koyo;
use herdsman_watch::{AvailabilityConfig, Setup, WatchConfig};
use tracing::Level;

pub(crate) use herdsman_config::{ConfigError, Depth, Problem, SEARCHED, VARIABLES};

/// A configuration without a problem in it.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The file it was read from.
    pub(crate) path: PathBuf,
    pub(crate) nodes: BTreeMap<NodeName, Conninfo>,
    pub(crate) groups: Groups,
    pub(crate) listen: Listen,
    pub(crate) ssl: Option<Ssl>,
    pub(crate) log: LogConfig,
    pub(crate) watch: WatchConfig,
    pub(crate) availability: AvailabilityConfig,
    pub(crate) api: ApiConfig,
    pub(crate) gateway: GatewayConfig,
    pub(crate) stream: StreamConfig,
    /// The same for the same text of that section: what it means cannot be compared.
    pub(crate) stream_print: u64,
    pub(crate) mesh: MeshConfig,
    pub(crate) ledger: LedgerConfig,
    pub(crate) hooks: HooksConfig,
    /// The same for the same text of `hosts`.
    pub(crate) hosts_print: u64,
    /// What koyo-postgres-replication's variables say.
    pub(crate) koyo: Koyo,
    /// What the user should know though nothing is wrong: ignored keys, a file with passwords that everybody reads.
    pub(crate) notes: Vec<String>,
}

/// The keys about logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogConfig {
    pub(crate) level: Level,
    pub(crate) file: Option<PathBuf>,
}

impl Config {
    /// Finds the file (`named`, or see [`SEARCHED`]) and reads it.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem that could be found in one go.
    pub(crate) fn load(named: Option<&Path>, depth: Depth) -> Result<Self, ConfigError> {
        let file = File::load(named)?;
        Self::parse(&file.path, &file.text, depth, file.everybody).map_err(ConfigError::Problems)
    }

    /// Reads one that is in no file; problems name `place`.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem that could be found in one go.
    pub(crate) fn from_text(place: &Path, text: &str) -> Result<Self, ConfigError> {
        Self::parse(place, text, Depth::Full, false).map_err(ConfigError::Problems)
    }

    /// What the watcher needs of it.
    pub(crate) fn setup(&self) -> Setup {
        Setup {
            nodes: self.nodes.clone(),
            watch: self.watch.clone(),
            availability: self.availability.clone(),
        }
    }

    fn parse(path: &Path, text: &str, depth: Depth, everybody: bool) -> Result<Self, Vec<Problem>> {
        let mut reading = Reading::new(path, text, depth)?;
        let config = Self::compose(&mut reading, path, everybody);
        reading.finish(config)
    }

    /// Reads every section. `None` where a problem left no value to go on with.
    fn compose(reading: &mut Reading<'_>, path: &Path, everybody: bool) -> Option<Self> {
        let hosts = reading.hosts();
        let groups = reading.groups();
        let ssl = sections::ssl(reading);
        let listen = sections::listen(reading, ssl.is_some());
        let log = sections::log(reading);
        let watch = reading.watch();
        let availability =
            reading.section::<AvailabilityConfig>("availability").unwrap_or_default();
        let api = ApiConfig::read(reading);
        sections::certificates(reading, ssl.as_ref(), &api);
        // Only looked at: it is for the programs that use the library.
        let _checked = herdsman::RouteConfig::read(reading, &hosts);
        let gateway = GatewayConfig::read(reading, &hosts, &groups);
        if let Some(listen) = &listen {
            gateway.expect_no_clash(reading, "the API", &listen.bind, listen.port);
        }
        let koyo = Koyo::from_env();
        let stream = StreamConfig::read(reading, &hosts, &koyo);
        let stream_print = print(&reading.section::<serde_json::Value>("stream"));

        let mesh = MeshConfig::read(reading, &hosts);
        let ledger = LedgerConfig::read(reading, &hosts);
        if let Some(address) = &ledger.serve {
            gateway.check_ledger(reading, address);
        }
        let hooks = HooksConfig::read(reading, &hosts);
        let hosts_print = print(&reading.section::<serde_json::Value>("hosts"));

        let secrets = [
            &["ssl", "b64key"][..],
            &["route", "application", "password"],
            &["route", "application", "b64password"],
        ];
        let inline = secrets.iter().any(|path| reading.has_value(path))
            || reading.has_secret_below(&["stream"])
            || reading.has_secret_below(&["gateway"])
            || reading.has_secret_below(&["mesh"])
            || reading.has_secret_below(&["ledger"])
            || reading.has_secret_below(&["api", "tokens"])
            || reading.has_secret_below(&["hooks"])
            || hosts.values().any(|host| host.inline_password);
        let nodes: BTreeMap<_, _> =
            hosts.into_iter().map(|(name, host)| (name, host.conninfo)).collect();
        let mut notes = notes(&nodes);
        notes
            .extend(koyo.ignored.iter().map(|(name, why)| format!("${name} has no effect: {why}")));
        if everybody && inline {
            notes.push(format!(
                "{} holds secrets and every user of this machine may read it; run `chmod 640` on it",
                path.display()
            ));
        }
        Some(Self {
            path: path.to_owned(),
            nodes,
            groups,
            listen: listen?,
            ssl,
            log: log?,
            watch,
            availability,
            api,
            gateway,
            stream,
            stream_print,
            mesh,
            ledger,
            hooks,
            hosts_print,
            koyo,
            notes,
        })
    }
}

fn print(section: &Option<serde_json::Value>) -> u64 {
    let mut hasher = DefaultHasher::new();
    section.as_ref().map(ToString::to_string).hash(&mut hasher);
    hasher.finish()
}

fn notes(nodes: &BTreeMap<NodeName, Conninfo>) -> Vec<String> {
    let ignored = nodes.iter().filter(|(_, info)| !info.ignored.is_empty());
    ignored
        .map(|(name, info)| {
            let keys: Vec<_> = info.ignored.iter().map(|key| format!("`{key}`")).collect();
            format!("hosts.{name}: {} accepted, without effect here", herdsman_config::and(&keys))
        })
        .collect()
}

#[cfg(test)]
fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
