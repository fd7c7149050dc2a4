//! What can stop the bench.

use herdsman_node::{ConnectError, ConninfoError, InvalidName, TlsError};
use herdsman_sandbox::SandboxError;
use herdsman_stream::SinkError;
use herdsman_stream::service::ServiceError;
use herdsman_wal::{InvalidObjectName, WalError};

/// The bench cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Conninfo(#[from] ConninfoError),
    #[error(transparent)]
    Name(#[from] InvalidObjectName),
    #[error(transparent)]
    NodeName(#[from] InvalidName),
    #[error(transparent)]
    Service(Box<ServiceError>),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("SQL failed: {0}")]
    Sql(#[from] tokio_postgres::Error),
    #[error("failed to run a client or to read its answer: {0}")]
    Io(#[from] std::io::Error),
    #[error("a client answered with something else than JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("pg_walstream failed: {0}")]
    Peer(String),
    #[error("{0}")]
    Wrong(String),
}

impl From<ServiceError> for BenchError {
    fn from(error: ServiceError) -> Self {
        Self::Service(Box::new(error))
    }
}
