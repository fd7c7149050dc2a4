//! What can stop the bench.

use herdsman_ledger::{
    engine::RequestError,
    log::{AppendError, OpenError, ReadError, Unavailable, embedded::EmbeddedError},
    node::NodeError,
};
use herdsman_node::{ConninfoError, TlsError};
use herdsman_sandbox::SandboxError;

/// The bench cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Conninfo(#[from] ConninfoError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("SQL failed: {}", herdsman_node::describe(.0))]
    Sql(#[from] tokio_postgres::Error),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("failed to print: {0}")]
    Io(#[from] std::io::Error),
    #[error("failed to print: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Wrong(String),
}
