//! What the `ledger:` section must have in common with the rest of the file, and with itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use herdsman_config::{Depth, Host, Reading, Secret, quoted};
use herdsman_node::{Conninfo, NodeName};

use super::{
    KafkaConfig, LedgerConfig, LogConfig, MariaDbNode, MariaDbTls, NodeConfig, RequestsConfig,
};

/// Most nodes: each is a task and a connection that applies.
const MOST_NODES: usize = 32;
/// Longest name, of a node and of the ledger.
const LONGEST_NAME: usize = 63;
const MOST_ATTEMPTS: u32 = 1000;
/// More copies than any cluster of brokers has.
const MOST_COPIES: u32 = 32;
/// More than a ledger has programs.
const MOST_PARTITIONS: u32 = 1000;
const LONGEST_GROUP: usize = 200;
/// What the ledger's promises hang on, which it sets itself; and what would run somebody's code.
const RESERVED: [&str; 9] = [
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.idempotence",
    "isolation.level",
    "metadata.broker.list",
    "plugin.library.paths",
    "transactional.id",
];

impl LedgerConfig {
    /// Takes the section out of a file. What is wrong is noted in `reading`, with its place in the file. Without the
    /// section there is no ledger.
    pub fn read(reading: &mut Reading<'_>, hosts: &BTreeMap<NodeName, Host>) -> Self {
        let Some(mut config) = reading.section::<Self>("ledger") else { return Self::default() };
        if config.nodes.is_empty() {
            let message = "`ledger.nodes` names no node, expected at least one, such as `lite: {sqlite: {path: lite.db}}`";
            reading.problem_at(&["ledger", "nodes"], message);
        } else if config.nodes.len() > MOST_NODES {
            let many = config.nodes.len();
            let message =
                format!("`ledger.nodes` names {many} nodes, expected at most {MOST_NODES}");
            reading.problem_at(&["ledger", "nodes"], message);
        }
        check_name(reading, &["ledger", "name"], &config.name);
        for (name, node) in &mut config.nodes {
            let path = ["ledger", "nodes", name.as_str()];
            check_name(reading, &path, name);
            match node {
                NodeConfig::Postgres(node) => {
                    let path = [path.as_slice(), &["postgres"]].concat();
                    reading.expect_host(&[path.as_slice(), &["host"]].concat(), node.host.as_str());
                    node.login.resolve(reading, &[path.as_slice(), &["login"]].concat(), hosts);
                }
                NodeConfig::MariaDb(node) => {
                    node.check(reading, &[path.as_slice(), &["mariadb"]].concat());
                }
                NodeConfig::Sqlite(node) => {
                    check_folder(
                        reading,
                        &[path.as_slice(), &["sqlite", "path"]].concat(),
                        &node.path,
                    );
                }
            }
        }
        config.check_apart(reading, hosts);
        config.check_log(reading);
        if !(1..=MOST_ATTEMPTS).contains(&config.attempts) {
            let message = format!(
                "`ledger.attempts` is `{}`, expected 1 to {MOST_ATTEMPTS}",
                config.attempts
            );
            reading.problem_at(&["ledger", "attempts"], message);
        }
        if config.most_behind == 0 {
            let message = "`ledger.most_behind` is `0`, expected at least 1".to_owned();
            reading.problem_at(&["ledger", "most_behind"], message);
        }
        config
    }

    fn check_log(&self, reading: &mut Reading<'_>) {
        match &self.log {
            None => {
                let message = "`ledger.log` is missing, expected `embedded: {path: …}` or `kafka: {brokers: […]}` below it";
                reading.problem_at(&["ledger", "log"], message);
            }
            Some(LogConfig::Embedded(embedded)) => {
                check_folder(reading, &["ledger", "log", "embedded", "path"], &embedded.path);
            }
            Some(LogConfig::Kafka(kafka)) => {
                kafka.check(reading);
                if self.socket.is_none() {
                    let message = "`ledger.socket` is missing, expected the path of a socket that `ledger run` makes, such as \
                                   /run/herdsman/ledger.socket";
                    reading.problem_at(&["ledger", "socket"], message);
                }
            }
        }
        if let Some(socket) = &self.socket {
            check_folder(reading, &["ledger", "socket"], socket);
        }
    }

    /// Two nodes in one database, or in the log's file, would undo each other.
    fn check_apart(&self, reading: &mut Reading<'_>, hosts: &BTreeMap<NodeName, Host>) {
        let mut seen = BTreeSet::new();
        if let Some(LogConfig::Embedded(embedded)) = &self.log {
            seen.insert(embedded.path.display().to_string());
        }
        for (name, node) in &self.nodes {
            let database = |info: &Conninfo| format!("{} {}", info.endpoint(), info.dbname);
            let place = match node {
                NodeConfig::Postgres(node) => match hosts.get(&node.host) {
                    Some(host) => database(&node.login.apply(&host.conninfo)),
                    None => continue,
                },
                NodeConfig::MariaDb(node) => {
                    format!("{}:{} {}", node.host, node.port, node.database)
                }
                NodeConfig::Sqlite(node) => node.path.display().to_string(),
            };
            if !seen.insert(place) {
                let message = format!(
                    "`ledger.nodes.{name}` is where another node or the log is, expected a database of its own"
                );
                reading.problem_at(&["ledger", "nodes", name], message);
            }
        }
    }
}

impl MariaDbNode {
    fn check(&mut self, reading: &mut Reading<'_>, path: &[&str]) {
        for (key, value) in
            [("user", &self.user), ("database", &self.database), ("host", &self.host)]
        {
            if value.is_empty() {
                let message = format!("`{}.{key}` is missing", path.join("."));
                reading.problem_at(&[path, &[key]].concat(), message);
            }
        }
        let verified = matches!(self.tls, MariaDbTls::VerifyCa | MariaDbTls::VerifyFull);
        if verified && self.ca.is_none() {
            let message =
                format!("`{}.ca` is missing, expected the certificates to trust", path.join("."));
            reading.problem_at(&[path, &["tls"]].concat(), message);
        }
        if let Some(ca) = &self.ca
            && reading.depth() == Depth::Full
            && let Err(error) = std::fs::metadata(ca)
        {
            let message =
                format!("`{}.ca`: {} cannot be read: {error}", path.join("."), ca.display());
            reading.problem_at(&[path, &["ca"]].concat(), message);
        }
        let keys = [
            ("password", self.password.take().map(|secret| secret.expose().to_owned())),
            ("b64password", self.b64password.take().map(|secret| secret.expose().to_owned())),
            ("password_file", self.password_file.take().map(|file| file.display().to_string())),
            ("password_env", self.password_env.take()),
            ("password_command", self.password_command.take()),
            ("password_encoding", self.password_encoding.take()),
        ];
        let given = keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        self.password = reading.password(path, &mut given.collect()).map(Secret::from);
    }
}

impl KafkaConfig {
    fn check(&self, reading: &mut Reading<'_>) {
        let path = ["ledger", "log", "kafka"];
        let mut wrong = |below: &[&str], message: String| {
            let path = [&path[..], below].concat();
            reading.problem_at(&path, format!("`{}` {message}", path.join(".")));
        };
        if self.brokers.iter().all(|broker| broker.trim().is_empty()) {
            wrong(&["brokers"], "names no broker, expected at least one as host:port".to_owned());
        }
        if !is_topic(&self.topic) {
            let found = quoted(&self.topic);
            wrong(&["topic"], format!("is {found}, expected letters, digits, `.`, `_` and `-`"));
        }
        if let Some(requests) = &self.requests {
            requests.check(&self.topic, &mut wrong);
        }
        if !(1..=MOST_COPIES).contains(&self.replication) {
            let found = self.replication;
            wrong(&["replication"], format!("is `{found}`, expected 1 to {MOST_COPIES}"));
        }
        let own = |key: &str| RESERVED.contains(&key);
        for key in self.properties.keys().filter(|key| own(key)) {
            wrong(&["properties", key], "is what the ledger sets itself".to_owned());
        }
        for (key, file) in &self.property_files {
            if own(key) {
                wrong(&["property_files", key], "is what the ledger sets itself".to_owned());
            } else if let Err(error) = std::fs::metadata(file) {
                let found = file.display();
                wrong(
                    &["property_files", key],
                    format!("names {found}, which cannot be read: {error}"),
                );
            }
        }
    }
}

impl RequestsConfig {
    fn check(&self, log: &str, wrong: &mut impl FnMut(&[&str], String)) {
        let earlier = [&[log][..], &[log, &self.one]];
        let topics = [("one", &self.one), ("response", &self.response)];
        for ((key, topic), others) in topics.into_iter().zip(earlier) {
            let found = quoted(topic);
            if !is_topic(topic) {
                let message = format!("is {found}, expected letters, digits, `.`, `_` and `-`");
                wrong(&["requests", key], message);
            } else if others.contains(&topic.as_str()) {
                wrong(&["requests", key], format!("is {found}, expected a topic of its own"));
            }
        }
        if self.group.as_ref().is_some_and(|group| group.is_empty() || group.len() > LONGEST_GROUP)
        {
            let message = format!("is expected to have 1 to {LONGEST_GROUP} characters");
            wrong(&["requests", "group"], message);
        }
        if !(1..=MOST_PARTITIONS).contains(&self.partitions) {
            let found = self.partitions;
            let message = format!("is `{found}`, expected 1 to {MOST_PARTITIONS}");
            wrong(&["requests", "partitions"], message);
        }
    }
}

fn is_topic(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || ['.', '_', '-'].contains(&c);
    (1..=249).contains(&name.len()) && name.chars().all(fits)
}

fn check_name(reading: &mut Reading<'_>, path: &[&str], name: &str) {
    let fits = |c: char| c.is_ascii_alphanumeric() || ['_', '-', '.'].contains(&c);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(fits) {
        let message = format!(
            "`{}` is {}, expected 1 to {LONGEST_NAME} letters, digits, `_`, `-` and `.`",
            path.join("."),
            quoted(name)
        );
        reading.problem_at(path, message);
    }
}

/// A file that is made when it is not there needs a folder that is.
fn check_folder(reading: &mut Reading<'_>, path: &[&str], file: &Path) {
    let name = path.join(".");
    if file.as_os_str().is_empty() {
        return reading.problem_at(path, format!("`{name}` is empty, expected a file"));
    }
    if reading.depth() == Depth::Outline {
        return;
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        let found = quoted(&folder.display().to_string());
        let message =
            format!("`{name}`: {found} is not a directory, expected a file in one that exists");
        reading.problem_at(path, message);
    } else if file.is_dir() {
        reading.problem_at(path, format!("`{name}` is a directory, expected a file"));
    }
}
