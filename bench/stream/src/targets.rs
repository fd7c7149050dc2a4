//! Where sinks write to, emptied before each run.

use std::io::{Write as _, stderr};

use herdsman_sandbox::{Kafka, Sandbox};
use serde_json::json;

use crate::error::BenchError;

/// The servers that the readers asked for need.
pub(crate) struct Targets {
    postgres: Option<Sandbox>,
    kafka: Option<Kafka>,
    runs: u32,
}

/// Kafka as it comes, instead of each record on the disk; and it forgets what earlier runs wrote.
const KAFKA: [(&str, &str); 4] = [
    ("log.flush.interval.messages", "9223372036854775807"),
    ("log.segment.bytes", "67108864"),
    ("log.retention.bytes", "134217728"),
    ("log.retention.check.interval.ms", "5000"),
];

const EMPTY: &str = "DROP TABLE IF EXISTS t; DROP SCHEMA IF EXISTS herdsman_stream CASCADE";

impl Targets {
    /// Starts what these readers need; takes those out that need what this machine does not have.
    pub(crate) async fn start(
        names: &mut Vec<String>,
        pg_version: u32,
    ) -> Result<Self, BenchError> {
        let wanted = |name: &str| names.iter().any(|other| other == name);
        let (postgres, kafka) = (wanted("service-postgres"), wanted("service-kafka"));
        let mut targets = Self { postgres: None, kafka: None, runs: 0 };
        if postgres {
            let builder = Sandbox::builder().pg_version(pg_version);
            let builder = builder.setting("shared_buffers", "256MB").setting("autovacuum", "off");
            targets.postgres = Some(builder.setting("max_wal_size", "16GB").start().await?);
        }
        if kafka {
            let mut builder = Kafka::builder();
            for (name, value) in KAFKA {
                builder = builder.setting(name, value);
            }
            match builder.start().await {
                Ok(kafka) => targets.kafka = Some(kafka),
                Err(problem) => {
                    writeln!(stderr(), "without service-kafka: {problem}")?;
                    names.retain(|name| name != "service-kafka");
                }
            }
        }
        Ok(targets)
    }

    /// The settings of the sink that this reader writes to; its target is empty.
    pub(crate) async fn sink(&mut self, name: &str) -> Result<Option<String>, BenchError> {
        self.runs += 1;
        let settings = match (name, &self.postgres, &self.kafka) {
            ("service-postgres", Some(server), _) => {
                server.sql("n1", "postgres").await?.batch_execute(EMPTY).await?;
                let mut keys = json!(server.conninfo("n1", "postgres")?);
                keys["port"] = json!(server.server_port("n1")?);
                keys["create_tables"] = json!(true);
                json!({ "postgres": keys })
            }
            ("service-kafka", _, Some(kafka)) => {
                let topic = format!("run_{}.{{table}}", self.runs);
                json!({ "kafka": { "brokers": [kafka.bootstrap()], "topic": topic } })
            }
            _ => return Ok(None),
        };
        Ok(Some(settings.to_string()))
    }
}
