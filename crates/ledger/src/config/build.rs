//! From the section to what it names.

use std::collections::BTreeMap;
use std::sync::Arc;

use herdsman_node::{Conninfo, NodeName, Tls};
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use thiserror::Error;

use super::{
    KafkaConfig, LedgerConfig, LogConfig, MariaDbNode, MariaDbTls, NodeConfig, PostgresNode,
};
use crate::log::{
    Log, Unavailable,
    embedded::{EmbeddedError, EmbeddedLog},
    kafka::{KafkaLog, KafkaLogConfig},
};
use crate::node::{Engine, Node, mariadb::mariadb, postgres::postgres, sqlite::sqlite};
use crate::requests::RequestTopics;

/// What the section names cannot be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NotReady {
    /// The log does not answer; it may later.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The file is no log, or cannot be opened.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// A setting leads to nothing.
    #[error("{0}")]
    Setting(String),
}

impl NodeConfig {
    /// What it is.
    #[must_use]
    pub fn engine(&self) -> Engine {
        match self {
            Self::Postgres(_) => Engine::Postgres,
            Self::MariaDb(_) => Engine::MariaDb,
            Self::Sqlite(_) => Engine::Sqlite,
        }
    }
}

impl LedgerConfig {
    /// The nodes, by name; nothing is connected to yet. `hosts` are the nodes as the configuration has them.
    ///
    /// # Errors
    /// A node's host or its certificates are not there.
    pub fn nodes(
        &self,
        hosts: &BTreeMap<NodeName, Conninfo>,
    ) -> Result<Vec<Box<dyn Node>>, NotReady> {
        self.nodes.iter().map(|(name, node)| node.build(name, hosts)).collect()
    }

    /// The log, opened.
    ///
    /// # Errors
    /// See [`NotReady`]; what is unavailable may be tried again.
    pub async fn open_log(&self) -> Result<Arc<dyn Log>, NotReady> {
        match &self.log {
            None => Err(NotReady::Setting("`ledger.log` is missing".to_owned())),
            Some(LogConfig::Embedded(embedded)) => Ok(Arc::new(EmbeddedLog::open(&embedded.path)?)),
            Some(LogConfig::Kafka(kafka)) => {
                let log = KafkaLog::open(kafka.log().map_err(NotReady::Setting)?).await?;
                Ok(Arc::new(log))
            }
        }
    }
}

impl LedgerConfig {
    /// By which topics clients that have nothing but Kafka are answered; `None` if they are not.
    ///
    /// # Errors
    /// A file with a property of the log cannot be read.
    pub fn requests(&self) -> Result<Option<RequestTopics>, NotReady> {
        let Some(LogConfig::Kafka(kafka)) = &self.log else { return Ok(None) };
        let Some(requests) = &kafka.requests else { return Ok(None) };
        let group = || format!("herdsman-{}", kafka.topic);
        Ok(Some(RequestTopics {
            one: requests.one.clone(),
            response: requests.response.clone(),
            group: requests.group.clone().unwrap_or_else(group),
            partitions: i32::try_from(requests.partitions).unwrap_or(i32::MAX),
            kafka: kafka.log().map_err(NotReady::Setting)?,
        }))
    }
}

impl NodeConfig {
    fn build(
        &self,
        name: &str,
        hosts: &BTreeMap<NodeName, Conninfo>,
    ) -> Result<Box<dyn Node>, NotReady> {
        match self {
            Self::Postgres(PostgresNode { host, login }) => {
                let missing = || NotReady::Setting(format!("`hosts` has no node {host}"));
                let info = login.apply(hosts.get(host).ok_or_else(missing)?);
                let wrong = |error: herdsman_node::TlsError| {
                    NotReady::Setting(format!("ledger.nodes.{name}: {error}"))
                };
                let tls = Tls::new(&info).map_err(wrong)?;
                Ok(postgres(name, info, tls))
            }
            Self::MariaDb(node) => Ok(mariadb(name, node.options())),
            Self::Sqlite(node) => Ok(sqlite(name, &node.path)),
        }
    }
}

impl MariaDbNode {
    fn options(&self) -> MySqlConnectOptions {
        let options = MySqlConnectOptions::new()
            .host(&self.host)
            .port(self.port)
            .username(&self.user)
            .database(&self.database)
            .ssl_mode(match self.tls {
                MariaDbTls::Disable => MySqlSslMode::Disabled,
                MariaDbTls::Prefer => MySqlSslMode::Preferred,
                MariaDbTls::Require => MySqlSslMode::Required,
                MariaDbTls::VerifyCa => MySqlSslMode::VerifyCa,
                MariaDbTls::VerifyFull => MySqlSslMode::VerifyIdentity,
            });
        let options = match &self.password {
            Some(password) => options.password(password.expose()),
            None => options,
        };
        match &self.ca {
            Some(ca) => options.ssl_ca(ca),
            None => options,
        }
    }
}

impl KafkaConfig {
    fn log(&self) -> Result<KafkaLogConfig, String> {
        let mut properties = self.properties.clone();
        for (name, path) in &self.property_files {
            let value = std::fs::read_to_string(path).map_err(|error| {
                format!(
                    "`ledger.log.kafka.property_files.{name}`: {} cannot be read: {error}",
                    path.display()
                )
            })?;
            properties.insert(name.clone(), value.trim_end_matches(['\r', '\n']).to_owned());
        }
        Ok(KafkaLogConfig {
            replication: i32::try_from(self.replication).unwrap_or(i32::MAX),
            properties: properties.into_iter().collect(),
            ..KafkaLogConfig::new(self.brokers.join(","), &self.topic)
        })
    }
}
