//! What is taken out of a `herdsman.yml`.

use std::collections::BTreeMap;
use std::path::Path;

use herdsman_config::{ConfigError, Depth, File, Groups, Host, LoginConfig, Problem, Reading};
use herdsman_node::{Conninfo, NodeName};
use herdsman_watch::WatchConfig;

use super::{Application, Mode, RouteConfig, Secret};

/// What a `herdsman.yml` says to a program that uses this library: where the nodes are, how they are watched, and how
/// statements are routed. The sections of the other doors are left alone.
///
/// ```
/// let text = "hosts:\n  pg1: postgres://monitor@10.0.0.1/shop\nroute:\n  application: {user: app}\n";
/// let settings = herdsman::Settings::parse("herdsman.yml".as_ref(), text).unwrap();
/// let monitor = &settings.nodes["pg1"];
/// assert_eq!(monitor.user, "monitor");
/// assert_eq!(settings.route.application.login(monitor).user, "app");
/// ```
#[derive(Clone, Debug)]
pub struct Settings {
    /// How each node is reached, as the monitoring user.
    pub nodes: BTreeMap<NodeName, Conninfo>,
    /// Named subsets of the nodes.
    pub groups: Groups,
    /// How the nodes are watched, where their roles are discovered.
    pub watch: WatchConfig,
    /// How statements are routed.
    pub route: RouteConfig,
}

impl Settings {
    /// Reads the file `named`, else the one the program `herdsman` would find: by `HERDSMAN_CONFIG` or
    /// `PGROUTE66CONFIG`, else in the usual places.
    ///
    /// # Errors
    /// [`ConfigError`] when there is no file, or with everything that is wrong in it.
    pub fn load(named: Option<&Path>) -> Result<Self, ConfigError> {
        let file = File::load(named)?;
        Self::parse(&file.path, &file.text).map_err(ConfigError::Problems)
    }

    /// Reads `text`, which was found at `path`.
    ///
    /// # Errors
    /// Everything that is wrong in it, in the order of the file.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Vec<Problem>> {
        let mut reading = Reading::new(path, text, Depth::Full)?;
        let hosts = reading.hosts();
        let groups = reading.groups();
        let watch = reading.watch();
        let route = RouteConfig::read(&mut reading, &hosts);
        let nodes = hosts.into_iter().map(|(name, host)| (name, host.conninfo)).collect();
        reading.finish(Some(Self { nodes, groups, watch, route }))
    }
}

impl RouteConfig {
    /// Takes the `route:` section out of a file and checks it against `hosts`. Where there is a problem, `reading` has
    /// it and the rest is a default.
    pub fn read(reading: &mut Reading<'_>, hosts: &BTreeMap<NodeName, Host>) -> Self {
        let mut config = reading.section::<Self>("route").unwrap_or_default();
        config.application.resolve(reading, hosts);
        config.check_roles(reading);
        for node in config.weights.keys() {
            reading.expect_host(&["route", "weights", node.as_str()], node.as_str());
        }
        for node in config.zones.keys() {
            reading.expect_host(&["route", "zones", node.as_str()], node.as_str());
        }
        for (name, group) in &config.groups {
            let path = ["route", "groups", name, "nodes"];
            if group.nodes.is_empty() {
                let message = format!("`{}` is empty, expected at least one node", path.join("."));
                reading.problem_at(&path, message);
            }
            reading.expect_hosts(&path, &group.nodes);
        }
        if config.pool.min_connections > config.pool.max_connections {
            let message = format!(
                "`route.pool.min_connections` is {}, expected at most `route.pool.max_connections`, which is {}",
                config.pool.min_connections, config.pool.max_connections
            );
            reading.problem_at(&["route", "pool", "min_connections"], message);
        }
        config
    }

    fn check_roles(&self, reading: &mut Reading<'_>) {
        for (key, nodes) in [("writers", &self.writers), ("readers", &self.readers)] {
            reading.expect_hosts(&["route", key], nodes);
            if self.mode == Some(Mode::Discovered) && !nodes.is_empty() {
                let message = format!(
                    "`route.{key}` gives a role, but `route.mode` is `discovered`, expected one of the two"
                );
                reading.problem_at(&["route", key], message);
            }
        }
        if self.mode() == Mode::Given && self.writers.is_empty() && self.readers.is_empty() {
            let message =
                "`route.mode` is `given`, expected `writers` or `readers` beside it, to list nodes";
            reading.problem_at(&["route", "mode"], message);
        }
    }
}

impl Application {
    /// Looks up where the password is, so that `password` holds it afterwards, and tries the certificate.
    fn resolve(&mut self, reading: &mut Reading<'_>, hosts: &BTreeMap<NodeName, Host>) {
        let given = |secret: Option<Secret>| {
            secret.map(|secret| herdsman_config::Secret::from(secret.expose().to_owned()))
        };
        let mut login = LoginConfig {
            user: self.user.clone(),
            dbname: self.dbname.clone(),
            sslcert: self.sslcert.clone(),
            sslkey: self.sslkey.clone(),
            password: given(self.password.take()),
            b64password: given(self.b64password.take()),
            password_file: self.password_file.take(),
            password_env: self.password_env.take(),
            password_command: self.password_command.take(),
            password_encoding: self.password_encoding.take(),
        };
        login.resolve(reading, &["route", "application"], hosts);
        self.password = login.password.map(|secret| Secret::from(secret.expose().to_owned()));
    }
}

#[cfg(test)]
mod tests;
