//! A ledger of PostgreSQL servers, in this program.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use herdsman_ledger::engine::request::random_request;
use herdsman_ledger::engine::{Ack, Condition, Ledger, Settings};
use herdsman_ledger::log::Log;
use herdsman_ledger::log::embedded::EmbeddedLog;
use herdsman_ledger::log::kafka::{KafkaLog, KafkaLogConfig};
use herdsman_ledger::node::{Node, postgres::postgres};
use herdsman_ledger::table::{Column, Table, TableChange};
use herdsman_ledger::{Kind, Offset};
use herdsman_node::{Conninfo, Tls};
use herdsman_sandbox::{Kafka, Sandbox};
use tokio::time::Instant;

use crate::error::BenchError;
use crate::rivals::writers;
use crate::rounds::{Trip, percentiles};

/// What the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogKind {
    Kafka,
    File,
}

/// A ledger at work, and a second log of the same kind beside it.
pub(crate) struct Ours {
    pub(crate) ledger: Ledger,
    pub(crate) nodes: Vec<String>,
    beside: Arc<dyn Log>,
    // Dropped in this order: servers go last.
    _kafka: Option<Kafka>,
    pub(crate) sandbox: Sandbox,
    _folder: tempfile::TempDir,
}

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// `account (id bigint PRIMARY KEY, balance bigint NOT NULL)`.
pub(crate) fn account() -> Table {
    let column = |name: &str| Column { name: name.to_owned(), kind: Kind::Int64, nullable: false };
    Table {
        name: "account".to_owned(),
        columns: vec![column("id"), column("balance")],
        key: vec![0],
        uniques: Vec::new(),
        references: Vec::new(),
    }
}

impl Ours {
    pub(crate) async fn start(
        log: LogKind,
        pg_version: u32,
        count: usize,
        rows: u32,
    ) -> Result<Self, BenchError> {
        let sandbox = writers(pg_version, count).await?;
        let folder = tempfile::tempdir()?;
        let mut kafka = None;
        let [own, beside]: [Arc<dyn Log>; 2] = match log {
            LogKind::File => [
                Arc::new(EmbeddedLog::open(&folder.path().join("all.log"))?),
                Arc::new(EmbeddedLog::open(&folder.path().join("beside.log"))?),
            ],
            LogKind::Kafka => {
                let broker = Kafka::builder().start().await?;
                let at = broker.bootstrap();
                let own = KafkaLog::open(KafkaLogConfig::new(at.clone(), "ALL")).await?;
                let beside = KafkaLog::open(KafkaLogConfig::new(at, "BESIDE")).await?;
                kafka = Some(broker);
                [Arc::new(own), Arc::new(beside)]
            }
        };
        let names = sandbox.node_names();
        let nodes: Vec<Box<dyn Node>> =
            names.iter().map(|name| node(&sandbox, name)).collect::<Result<_, _>>()?;
        // Like the standbys of the others, every node has what was answered.
        let settings = Settings { ack: Ack::All, ..Settings::default() };
        let ledger = Ledger::start(own, nodes, settings).await?;
        let ours = Self { ledger, nodes: names, beside, _kafka: kafka, sandbox, _folder: folder };
        ours.fill(rows).await?;
        Ok(ours)
    }

    async fn fill(&self, rows: u32) -> Result<(), BenchError> {
        let begun = Instant::now();
        while self.ledger.status().iter().any(|(_, _, it)| it.condition != Condition::Following) {
            if begun.elapsed() > PATIENCE {
                return Err(BenchError::Wrong(format!("{:?}", self.ledger.status())));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let Some(first) = self.nodes.first() else { return Ok(()) };
        let create = TableChange::Create(account());
        self.ledger.define(first, random_request(), create).await?;
        let fill =
            format!("INSERT INTO account SELECT n, 0 FROM generate_series(0, {}) n", rows - 1);
        let done = self.ledger.execute(first, random_request(), &[&fill], &[]).await?;
        for node in &self.nodes {
            self.ledger.reached(node, done.at.unwrap_or(Offset::GENESIS), PATIENCE).await?;
        }
        Ok(())
    }

    /// One record after another: appended, and read by who waits for it.
    pub(crate) async fn log_round_trip(&self, lasts: Duration) -> Result<Trip, BenchError> {
        // As long as the entry of one row.
        let body = vec![7; 250];
        let mut reader = self.beside.read(self.beside.end().await?).await?;
        let (begun, mut times) = (Instant::now(), Vec::new());
        while begun.elapsed() < lasts {
            let one = Instant::now();
            let (appended, read) = tokio::join!(self.beside.append(body.clone()), reader.next());
            appended?;
            read?;
            times.push(one.elapsed().as_secs_f64() * 1e3);
        }
        let (p50, p99) = percentiles(&mut times);
        Ok(Trip { p50, p99 })
    }
}

/// A server as a node, past every proxy.
pub(crate) fn node(sandbox: &Sandbox, name: &str) -> Result<Box<dyn Node>, BenchError> {
    let mut pairs: BTreeMap<String, String> = sandbox.conninfo(name, "postgres")?;
    pairs.insert("port".to_owned(), sandbox.server_port(name)?.to_string());
    let info = Conninfo::from_pairs(pairs)?;
    let tls = Tls::new(&info)?;
    Ok(postgres(name, info, tls))
}
