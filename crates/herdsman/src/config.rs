//! The one configuration file: finding it, reading it, and saying everything that is wrong with it.
//!
//! An unmodified `pgroute66.yml` is a valid file. These are the keys at the top level; all but `hosts` may be left out:
//!
//! | key | value | default |
//! |---|---|---|
//! | `hosts` | map from node to libpq's keys, a keyword string or a `postgres://` URI | |
//! | `groups`, `host_groups` | map from group to a list of nodes; `all` is every node | |
//! | `bind` | address the API listens on | `localhost` |
//! | `port` | its port; 0 lets the system choose | 8443 with TLS, else 8080 |
//! | `ssl` | certificate and key of the API: `cert` and `key`, or `b64cert` and `b64key` | plain HTTP |
//! | `loglevel` | trace, debug, info, warn or error | `info` |
//! | `logfile` | file that the log is appended to, besides standard error | |
//! | `watch` | see [`herdsman_watch::WatchConfig`] | |
//! | `availability` | see [`herdsman_watch::AvailabilityConfig`] | |
//! | `api` | see [`herdsman_api::ApiConfig`] | |
//!
//! Besides libpq's keys a host takes, instead of `password`: `b64password` (base64), `password_file` (the first line of
//! a file) or `password_env` (the name of a variable); and `password_encoding: base64`, which says that the password is
//! base64 wherever it comes from. The `pool_*` keys of pgroute66 are accepted and have no effect.

mod groups;
mod hosts;
mod locate;
mod places;
mod problem;
mod sections;
mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use herdsman_api::{ApiConfig, Groups, Listen, Ssl};
use herdsman_node::{Conninfo, NodeName};
use herdsman_watch::{AvailabilityConfig, Setup, WatchConfig};
use serde::de::Deserialize;
use tracing::Level;

use self::places::{At, Kind, Place, Places, Tree};
use self::problem::Page;

pub(crate) use self::locate::{SEARCHED, VARIABLES};
pub(crate) use self::problem::Problem;

/// A configuration without a problem in it.
#[derive(Debug)]
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
    /// What the user should know though nothing is wrong: ignored keys, a file with passwords that everybody reads.
    pub(crate) notes: Vec<String>,
}

/// The keys about logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogConfig {
    pub(crate) level: Level,
    pub(crate) file: Option<PathBuf>,
}

/// How much of what a configuration refers to is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Everything: the files with passwords and certificates are read, the variables too.
    Full,
    /// The configuration file only, for commands that ask a running Herdsman and may not read its secrets.
    Outline,
}

/// There is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// No file was named and none is in the usual places.
    #[error("no configuration file was found; looked at {}; name one with `-c FILE`", looked())]
    NotFound,
    /// The file has problems; each says where and what.
    #[error("{}", list(.0))]
    Problems(Vec<Problem>),
}

impl Config {
    /// Finds the file (`named`, or see [`SEARCHED`]) and reads it.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem that could be found in one go.
    pub(crate) fn load(named: Option<&Path>, depth: Depth) -> Result<Self, ConfigError> {
        let path = locate::locate(named, |name| std::env::var_os(name), Path::exists)?;
        let (text, everybody) =
            locate::read(&path).map_err(|problem| ConfigError::Problems(vec![problem]))?;
        Self::parse(&path, &text, depth, everybody).map_err(ConfigError::Problems)
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
        let mut page = Page::new(path, text);
        let outline = match yaml::tree(text) {
            Ok(tree) => tree.value,
            Err(error) => return Err(vec![yaml::problem(&error, &page, &Places::default())]),
        };
        let places = Places::new(&outline, text);
        page.learn_secrets(&places);
        match outline {
            Tree::Map(_) => {}
            Tree::Empty => {
                return Err(vec![page.of_file("the file is empty, expected at least `hosts`")]);
            }
            Tree::Scalar | Tree::List(_) => {
                let message = "the file is not a map of keys and values, expected at least `hosts`";
                return Err(vec![page.problem(At { line: 1, column: 1 }, message)]);
            }
        }
        let mut reading = Reading { text, page, places, depth, problems: Vec::new() };
        let config = reading.config(path, everybody);
        let mut problems = reading.problems;
        if let (Some(config), true) = (config, problems.is_empty()) {
            return Ok(config);
        }
        problems.sort_by_key(Problem::position);
        problems.dedup();
        Err(problems)
    }
}

/// A file on its way to a configuration, collecting what is wrong.
struct Reading<'a> {
    text: &'a str,
    page: Page<'a>,
    places: Places,
    depth: Depth,
    problems: Vec<Problem>,
}

impl Reading<'_> {
    /// Reads every section. `None` where a problem left no value to go on with.
    fn config(&mut self, path: &Path, everybody: bool) -> Option<Config> {
        self.unknown_keys();
        let hosts = self.hosts();
        let groups = self.groups();
        let ssl = self.ssl();
        let listen = self.listen(ssl.is_some());
        let log = self.log();
        let watch = self.watch();
        let availability = self.section::<AvailabilityConfig>("availability").unwrap_or_default();
        let api = self.section::<ApiConfig>("api").unwrap_or_default();

        let inline = ssl_inline(&self.places) || hosts.values().any(|host| host.inline_password);
        let nodes: BTreeMap<_, _> =
            hosts.into_iter().map(|(name, host)| (name, host.conninfo)).collect();
        let mut notes = notes(&nodes);
        if everybody && inline {
            notes.push(format!(
                "{} holds secrets and every user of this machine may read it; run `chmod 640` on it",
                path.display()
            ));
        }
        let path = path.to_owned();
        Some(Config {
            path,
            nodes,
            groups,
            listen: listen?,
            ssl,
            log: log?,
            watch,
            availability,
            api,
            notes,
        })
    }

    /// One section as its type reads it.
    fn section<T: for<'de> Deserialize<'de>>(&mut self, name: &str) -> Option<T> {
        match yaml::section(self.text, name) {
            Ok(found) => found,
            Err(error) => {
                self.problems.push(yaml::problem(&error, &self.page, &self.places));
                None
            }
        }
    }

    fn problem_at(&mut self, path: &[&str], message: impl Into<String>) {
        let at = self.places.find(path).map_or(At { line: 1, column: 1 }, Place::spot);
        self.problems.push(self.page.problem(at, message));
    }
}

fn ssl_inline(places: &Places) -> bool {
    places.find(&["ssl", "b64key"]).is_some_and(|place| place.kind == Kind::Scalar)
}

fn notes(nodes: &BTreeMap<NodeName, Conninfo>) -> Vec<String> {
    let ignored = nodes.iter().filter(|(_, info)| !info.ignored.is_empty());
    ignored
        .map(|(name, info)| {
            let keys: Vec<_> = info.ignored.iter().map(|key| format!("`{key}`")).collect();
            format!("hosts.{name}: {} accepted, without effect here", yaml::and(&keys))
        })
        .collect()
}

fn looked() -> String {
    let variables = VARIABLES.iter().map(|name| format!("${name}"));
    yaml::and(&variables.chain(SEARCHED.iter().map(|&path| path.to_owned())).collect::<Vec<_>>())
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
