//! What the `hooks:` section must have in common with the rest of the file, and with itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use herdsman_config::{Depth, Host, Reading, SecretSources, any_of, quoted};
use herdsman_node::{Conninfo, NodeName, Tls};

use super::{
    HaProxyConfig, HookConfig, HooksConfig, HostsConfig, OldConnections, PgBouncerConfig,
    SlackConfig, WebhookConfig,
};
use crate::{haproxy, pgbouncer, post};

const KINDS: [&str; 6] = ["exec", "webhook", "slack", "pgbouncer", "haproxy", "hosts"];

impl HooksConfig {
    /// Takes the section out of a file, and secrets from where they are. What is wrong is noted in `reading`, with its place
    /// in the file.
    pub fn read(reading: &mut Reading<'_>, hosts: &BTreeMap<NodeName, Host>) -> Self {
        let mut hooks = reading.section::<Vec<HookConfig>>("hooks").unwrap_or_default();
        let mut names = BTreeSet::new();
        for (number, hook) in (1_usize..).zip(&mut hooks) {
            let number = number.to_string();
            let mut at = Spot { reading, number: &number };
            at.name(&hook.name, &mut names);
            at.shape(hook);
            at.kind(hook, hosts);
        }
        Self(hooks)
    }
}

/// One hook's place in the file.
struct Spot<'r, 'a> {
    reading: &'r mut Reading<'a>,
    number: &'r str,
}

impl Spot<'_, '_> {
    fn wrong(&mut self, below: &[&str], message: &str) {
        let path = [&["hooks", self.number], below].concat();
        self.reading.problem_at(&path, format!("`{}`: {message}", path.join(".")));
    }

    fn full(&self) -> bool {
        self.reading.depth() == Depth::Full
    }

    fn name(&mut self, name: &str, names: &mut BTreeSet<String>) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        // It becomes a label of metrics.
        if name.is_empty() {
            self.wrong(&[], "it has no `name`, expected one");
        } else if name.len() > 40 || !name.chars().all(plain) {
            let message = format!(
                "{} names no hook, expected 1 to 40 letters, digits, `-` and `_`",
                quoted(name)
            );
            self.wrong(&["name"], &message);
        } else if !names.insert(name.to_owned()) {
            self.wrong(&["name"], "a hook above has this name, expected another one");
        }
    }

    fn shape(&mut self, hook: &HookConfig) {
        let kinds = hook.kinds();
        let is_state = matches!(hook.kind(), Some("pgbouncer" | "haproxy" | "hosts"));
        match kinds.as_slice() {
            [] => self.wrong(&[], &format!("it does nothing, expected {}", any_of(&KINDS))),
            [_] => {}
            [_, second, ..] => {
                self.wrong(&[second], "a hook does one thing; make this one of its own");
            }
        }
        if is_state && hook.on.is_some() {
            let message =
                "this hook follows every verdict, expected `on` for exec, webhook and slack only";
            self.wrong(&["on"], message);
        }
        if hook.on.as_ref().is_some_and(Vec::is_empty) {
            self.wrong(&["on"], "it is empty, expected at least one event");
        }
        if hook.retry.pause > hook.retry.longest_pause {
            self.wrong(
                &["retry", "pause"],
                "it is longer than `longest_pause`, expected at most that",
            );
        }
    }

    fn kind(&mut self, hook: &mut HookConfig, hosts: &BTreeMap<NodeName, Host>) {
        if let Some(exec) = &hook.exec
            && exec.command.first().is_none_or(String::is_empty)
        {
            self.wrong(&["exec", "command"], "it is empty, expected a program and its arguments");
        }
        if let Some(webhook) = &mut hook.webhook {
            self.webhook(webhook);
        }
        if let Some(slack) = &mut hook.slack {
            self.slack(slack);
        }
        if let Some(pgbouncer) = &mut hook.pgbouncer {
            self.pgbouncer(pgbouncer);
        }
        if let Some(haproxy) = &hook.haproxy {
            self.haproxy(haproxy, hosts);
        }
        if let Some(file) = &hook.hosts {
            self.hosts(file, hosts);
        }
    }

    fn webhook(&mut self, config: &mut WebhookConfig) {
        let (variable, file) = (config.secret_env.take(), config.secret_file.take());
        let command = config.secret_command.take();
        config.secret = self.secret(
            "webhook",
            &SecretSources {
                key: "secret",
                value: config.secret.as_ref(),
                environment: variable.as_deref(),
                file: file.as_ref(),
                command: command.as_deref(),
            },
        );
        let (variable, file) = (config.token_env.take(), config.token_file.take());
        let command = config.token_command.take();
        config.token = self.secret(
            "webhook",
            &SecretSources {
                key: "token",
                value: config.token.as_ref(),
                environment: variable.as_deref(),
                file: file.as_ref(),
                command: command.as_deref(),
            },
        );
        if config.token.is_some()
            && config.headers.keys().any(|name| name.eq_ignore_ascii_case("authorization"))
        {
            self.wrong(
                &["webhook", "headers"],
                "`token` sets `authorization`, expected one of both",
            );
        } else if self.full()
            && let Err(error) = post::webhook(config, std::time::Duration::ZERO)
        {
            self.wrong(&["webhook"], &error);
        }
    }

    fn slack(&mut self, config: &mut SlackConfig) {
        let (variable, file) = (config.url_env.take(), config.url_file.take());
        let command = config.url_command.take();
        config.url = self.secret(
            "slack",
            &SecretSources {
                key: "url",
                value: config.url.as_ref(),
                environment: variable.as_deref(),
                file: file.as_ref(),
                command: command.as_deref(),
            },
        );
        let given = variable.is_some() || file.is_some() || command.is_some();
        if config.url.is_none() && !given {
            self.wrong(
                &["slack"],
                "it has no `url`, expected one of `url`, `url_env`, `url_file` and `url_command`",
            );
        } else if self.full()
            && config.url.is_some()
            && let Err(error) = post::slack(config, std::time::Duration::ZERO)
        {
            self.wrong(&["slack"], &error);
        }
    }

    /// The secret that its sources give; what is wrong with them is noted.
    fn secret(
        &mut self,
        kind: &str,
        sources: &SecretSources<'_>,
    ) -> Option<herdsman_config::Secret> {
        let only_here =
            sources.environment.is_none() && sources.file.is_none() && sources.command.is_none();
        if !self.full() && !only_here {
            return None;
        }
        sources.read().unwrap_or_else(|problem| {
            let suffix = match () {
                () if sources.environment.is_some() => "_env",
                () if sources.file.is_some() => "_file",
                () if sources.command.is_some() => "_command",
                () => "",
            };
            self.wrong(&[kind, &format!("{}{suffix}", sources.key)], &problem);
            None
        })
    }

    fn pgbouncer(&mut self, config: &mut PgBouncerConfig) {
        if config.databases.is_empty() {
            self.wrong(&["pgbouncer", "databases"], "it is empty, expected at least one database");
        }
        if config.old_connections == OldConnections::Kill && config.databases.contains_key("*") {
            let message = "PgBouncer kills one database, expected names instead of `*`, or `old_connections: reconnect`";
            self.wrong(&["pgbouncer", "old_connections"], message);
        }
        let path = ["hooks", self.number, "pgbouncer", "console"];
        let mut pairs: BTreeMap<String, String> = std::mem::take(&mut config.console)
            .into_iter()
            .map(|(key, value)| (key, value.expose().to_owned()))
            .collect();
        let password = self.reading.password(&path, &mut pairs);
        pairs.extend(password.map(|password| ("password".to_owned(), password)));
        config.console = pairs.into_iter().map(|(key, value)| (key, value.into())).collect();
        match pgbouncer::conninfo(&config.console) {
            Ok(info) if self.full() => {
                if let Err(error) = Tls::new(&info) {
                    self.wrong(&["pgbouncer", "console"], &error.to_string());
                }
            }
            Ok(_) => {}
            Err(error) => {
                let key = error.key.clone();
                self.wrong(&["pgbouncer", "console", &key], &error.problem);
            }
        }
        if !self.full() {
            return;
        }
        let source = config.template.clone().unwrap_or_else(|| config.file.clone());
        let key = if config.template.is_some() { "template" } else { "file" };
        let databases: Vec<_> = config.databases.keys().map(String::as_str).collect();
        if let Err(problem) = pgbouncer::looked_at(&source, &databases) {
            self.wrong(&["pgbouncer", key], &problem);
        }
        self.folder("pgbouncer", &config.file);
    }

    fn haproxy(&mut self, config: &HaProxyConfig, hosts: &BTreeMap<NodeName, Host>) {
        if config.writers.is_empty() && config.readers.is_empty() {
            self.wrong(&["haproxy"], "it names no backend, expected `writers` or `readers`");
        }
        for (key, backends) in [("writers", &config.writers), ("readers", &config.readers)] {
            for backend in backends.iter().filter(|backend| !haproxy::is_name(backend)) {
                let message = format!("{} names no backend of HAProxy", quoted(backend));
                self.wrong(&["haproxy", key], &message);
            }
        }
        if let Some(both) = config.writers.iter().find(|backend| config.readers.contains(backend)) {
            let message =
                format!("{} is among `writers` as well, expected one of both", quoted(both));
            self.wrong(&["haproxy", "readers"], &message);
        }
        if !config.socket.starts_with('/') && !haproxy::is_address(&config.socket) {
            let message = "this is no socket, expected a path that begins with `/`, or host:port";
            self.wrong(&["haproxy", "socket"], message);
        }
        for node in config.servers.keys() {
            let path = ["hooks", self.number, "haproxy", "servers", node.as_str()];
            self.reading.expect_host(&path, node.as_str());
        }
        for node in hosts.keys() {
            let server = config.servers.get(node).map_or(node.as_str(), String::as_str);
            if !haproxy::is_name(server) {
                let message = format!(
                    "{} names no server of HAProxy; say below `servers` what {node} is called there",
                    quoted(server)
                );
                self.wrong(&["haproxy", "servers"], &message);
            }
        }
    }

    fn hosts(&mut self, config: &HostsConfig, hosts: &BTreeMap<NodeName, Host>) {
        if config.writer.is_none() && config.readers.is_none() {
            self.wrong(&["hosts"], "it has no name to keep, expected `writer` or `readers`");
        }
        for (key, name) in [("writer", &config.writer), ("readers", &config.readers)] {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if let Some(name) = name
                && (name.is_empty() || name.len() > 253 || !name.chars().all(plain))
            {
                let message = format!("{} is no host name", quoted(name));
                self.wrong(&["hosts", key], &message);
            }
        }
        if config.writer.is_some() && config.writer == config.readers {
            self.wrong(
                &["hosts", "readers"],
                "this is the name of the writer, expected another one",
            );
        }
        let is_folder = |info: &Conninfo| info.hostaddr.is_none() && info.host.starts_with('/');
        if let Some((node, _)) = hosts.iter().find(|(_, host)| is_folder(&host.conninfo)) {
            let message = format!(
                "{node} has a unix socket and no address, expected `hostaddr` in `hosts.{node}`"
            );
            self.wrong(&["hosts"], &message);
        }
        if self.full() {
            self.folder("hosts", &config.file);
        }
    }

    /// What is put in a file's place comes from the same folder.
    fn folder(&mut self, kind: &str, file: &Path) {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let folder = quoted(&folder.display().to_string());
            let message =
                format!("{folder} is not a directory, expected a file in one that exists");
            self.wrong(&[kind, "file"], &message);
        } else if file.is_dir() {
            self.wrong(&[kind, "file"], "this is a directory, expected a file");
        }
    }
}
