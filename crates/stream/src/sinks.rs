//! The kinds of sinks: one file each, and one line in [`SinkConfig`].

pub mod conformance;
pub mod exec;
pub mod file;
mod json;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod postgres;
pub mod sse;
pub mod stdout;
pub mod webhook;

use std::sync::Arc;

pub use herdsman_config::Secret;
use serde::Deserialize;

use crate::config::Shape;
use crate::sink::{Sink, SinkError};

/// One entry of `stream.sinks`: the sink's kind as the key, its settings below it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum SinkConfig {
    /// JSON lines on standard output.
    Stdout(stdout::StdoutConfig),
    /// JSON lines in a file.
    File(file::FileConfig),
    /// A command that reads JSON lines and acknowledges them.
    Exec(exec::ExecConfig),
    /// HTTP requests.
    Webhook(webhook::WebhookConfig),
    /// A Kafka topic for each table.
    #[cfg(feature = "kafka")]
    Kafka(kafka::KafkaConfig),
    /// The same tables on another PostgreSQL server.
    Postgres(postgres::PostgresConfig),
    /// Server-sent events at `/v2/stream`.
    Sse(sse::SseConfig),
}

impl SinkConfig {
    /// Builds the sink called `name`, which writes JSON in this shape; nothing is opened yet.
    ///
    /// # Errors
    /// [`SinkError`] where settings do not go together or a file they name cannot be read.
    pub fn build(&self, name: &str, shape: Shape) -> Result<Arc<dyn Sink>, SinkError> {
        Ok(match self {
            Self::Stdout(config) => Arc::new(stdout::StdoutSink::new(config, shape)?),
            Self::File(config) => Arc::new(file::FileSink::new(config, shape)?),
            Self::Exec(config) => Arc::new(exec::ExecSink::new(name, config, shape)?),
            Self::Webhook(config) => Arc::new(webhook::WebhookSink::new(config, shape)?),
            #[cfg(feature = "kafka")]
            Self::Kafka(config) => Arc::new(kafka::KafkaSink::new(config, shape)?),
            Self::Postgres(config) => Arc::new(postgres::PostgresSink::new(name, config)?),
            Self::Sse(config) => Arc::new(sse::SseSink::new(config, shape)),
        })
    }

    /// What subscribers at `/v2/stream` follow, where this is the sink that feeds them. Copies of this configuration
    /// share it, and so does the sink built from any of them.
    #[must_use]
    pub fn live(&self) -> Option<&sse::Hub> {
        match self {
            Self::Sse(config) => Some(config.hub()),
            _ => None,
        }
    }
}
