//! The sections that this program itself understands, and what the sections must have in common.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use herdsman_api::{Groups, Listen, Ssl, SslError};
use herdsman_node::{NodeName, Tls, TlsError};
use herdsman_watch::WatchConfig;
use tracing::Level;

use super::hosts::{self, Host, HostEntry};
use super::problem::quoted;
use super::{Depth, LogConfig, Reading, groups, yaml};

/// Every key at the top level.
const KEYS: [&str; 11] = [
    "hosts",
    "groups",
    "host_groups",
    "bind",
    "port",
    "ssl",
    "loglevel",
    "logfile",
    "watch",
    "availability",
    "api",
];

impl Reading<'_> {
    pub(super) fn unknown_keys(&mut self) {
        for place in self.places.below(&[]) {
            let key = place.path.first().map_or("", String::as_str);
            if !KEYS.contains(&key) {
                let message =
                    format!("unknown key {}, expected {}", quoted(key), yaml::any_of(&KEYS));
                self.problems.push(self.page.problem(place.key, message));
            }
        }
    }

    pub(super) fn hosts(&mut self) -> BTreeMap<NodeName, Host> {
        let misshapen = hosts::misshapen(&self.places, &self.page);
        if !misshapen.is_empty() {
            self.problems.extend(misshapen);
            return BTreeMap::new();
        }
        let problems_before = self.problems.len();
        let entries = self.section::<BTreeMap<String, HostEntry>>("hosts").unwrap_or_default();
        if entries.is_empty() {
            if self.problems.len() == problems_before {
                let at = "`hosts` lists no node, expected at least one";
                let missing = "`hosts` is missing, expected at least one node below it";
                let there = self.places.find(&["hosts"]).is_some();
                self.problem_at(&["hosts"], if there { at } else { missing });
            }
            return BTreeMap::new();
        }
        let (hosts, problems) = hosts::build(entries, &self.places, &self.page, self.depth);
        self.problems.extend(problems);
        if self.depth == Depth::Full {
            self.host_certificates(&hosts);
        }
        hosts
    }

    /// Reads every node's certificates once, so that a missing file is found before anything is started.
    fn host_certificates(&mut self, hosts: &BTreeMap<NodeName, Host>) {
        for (name, host) in hosts {
            let Err(error) = Tls::new(&host.conninfo) else { continue };
            let key = match &error {
                TlsError::File { what, .. } => what,
                TlsError::NoRoots { .. } => "sslmode",
                TlsError::Unusable(_) => "sslcert",
            };
            let path = ["hosts", name.as_str(), key];
            let path = if self.places.find(&path).is_some() { &path[..] } else { &path[..2] };
            self.problem_at(path, format!("`{}`: {error}", path.join(".")));
        }
    }

    pub(super) fn groups(&mut self) -> Groups {
        let (groups, problems) = groups::build(&self.places, &self.page, self.text);
        self.problems.extend(problems);
        groups
    }

    pub(super) fn ssl(&mut self) -> Option<Ssl> {
        // pgroute66 takes an empty section for plain HTTP.
        let ssl = self.section::<Ssl>("ssl").filter(|ssl| !ssl.is_empty())?;
        if self.depth == Depth::Full
            && let Err(error) = ssl.load()
        {
            let field = match &error {
                SslError::Half { given: field, .. }
                | SslError::Both { other: field, .. }
                | SslError::File { field, .. }
                | SslError::NoPem { field, .. } => Some(*field),
                SslError::Empty | SslError::Unusable(_) => None,
            };
            self.problem_at(&["ssl", field.unwrap_or("key")], error.to_string());
        }
        Some(ssl)
    }

    pub(super) fn listen(&mut self, tls: bool) -> Option<Listen> {
        let bind = self.section::<String>("bind").unwrap_or_else(|| "localhost".to_owned());
        let port = self.section::<u16>("port").unwrap_or(if tls { 8443 } else { 8080 });
        let bare = bind.trim_start_matches('[').trim_end_matches(']');
        let is_v6 = bare.parse::<Ipv6Addr>().is_ok();
        if bind.contains(char::is_whitespace) || (bind.contains(':') && !is_v6) {
            let message = format!(
                "`bind` is {}, expected a host name or an IP address without a port",
                quoted(&bind)
            );
            self.problem_at(&["bind"], message);
            return None;
        }
        Some(Listen { bind: if is_v6 { bare.to_owned() } else { bind }, port })
    }

    pub(super) fn log(&mut self) -> Option<LogConfig> {
        let word = self.section::<String>("loglevel").unwrap_or_else(|| "info".to_owned());
        let level = match word.to_ascii_lowercase().as_str() {
            "trace" => Level::TRACE,
            "debug" => Level::DEBUG,
            "info" => Level::INFO,
            "warn" | "warning" => Level::WARN,
            "error" => Level::ERROR,
            _ => {
                let message = format!(
                    "`loglevel` is {}, expected trace, debug, info, warn or error",
                    quoted(&word)
                );
                self.problem_at(&["loglevel"], message);
                return None;
            }
        };
        let file = self.section::<String>("logfile").filter(|file| !file.is_empty());
        let file = file.map(PathBuf::from);
        if let (Some(file), Depth::Full) = (&file, self.depth) {
            self.log_folder(file);
        }
        Some(LogConfig { level, file })
    }

    /// Opening the file would create it, which a check must not; most mistakes show without.
    fn log_folder(&mut self, file: &Path) {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let message = format!(
                "`logfile`: {} is not a directory, expected a file in one that exists",
                quoted(&folder.display().to_string())
            );
            self.problem_at(&["logfile"], message);
        } else if file.is_dir() {
            self.problem_at(&["logfile"], "`logfile` is a directory, expected a file");
        }
    }

    pub(super) fn watch(&mut self) -> WatchConfig {
        let watch = self.section::<WatchConfig>("watch").unwrap_or_default();
        if let Some(pin) = &watch.pin {
            self.expect_host(&["watch", "pin", "node"], pin.node.as_str());
        }
        for (node, addresses) in &watch.replication_addresses {
            let path = ["watch", "replication_addresses", node.as_str()];
            self.expect_host(&path, node.as_str());
            for (number, address) in (1..).zip(addresses) {
                let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
                if !matches!(port, Some(Ok(1..))) {
                    let number = number.to_string();
                    let message =
                        format!("`{}` has {}, expected HOST:PORT", path.join("."), quoted(address));
                    self.problem_at(&[path[0], path[1], path[2], &number], message);
                }
            }
        }
        if watch.backoff_min > watch.backoff_max {
            let message = format!(
                "`watch.backoff_min` is {:?}, expected at most `watch.backoff_max`, which is {:?}",
                watch.backoff_min, watch.backoff_max
            );
            self.problem_at(&["watch", "backoff_min"], message);
        }
        if watch.authority.as_ref().is_some_and(|authority| authority.command.is_empty()) {
            let message =
                "`watch.authority.command` is empty, expected a program and its arguments";
            self.problem_at(&["watch", "authority", "command"], message);
        }
        watch
    }

    fn expect_host(&mut self, path: &[&str], node: &str) {
        if self.places.find(&["hosts", node]).is_none() {
            let message = format!(
                "`{}` names {}, expected a node of `hosts`: {}",
                path.join("."),
                quoted(node),
                groups::known(&self.places)
            );
            // The value names the node in a pin, the key does in a map.
            let at = self.places.find(path).map(|place| {
                if place.path.last().is_some_and(|last| last == node) {
                    place.key
                } else {
                    place.value
                }
            });
            if let Some(at) = at {
                self.problems.push(self.page.problem(at, message));
            }
        }
    }
}
