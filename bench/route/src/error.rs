use std::io;

use herdsman::BuildError;
use herdsman_sandbox::SandboxError;

/// The bench could not measure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error("failed to {what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("failed to prepare the servers: {0}")]
    Prepare(#[from] tokio_postgres::Error),
    #[error("{client} failed at {workload}: {source}")]
    Query { client: &'static str, workload: &'static str, source: sqlx::Error },
    #[error("failed to connect {client}: {source}")]
    Connect { client: &'static str, source: sqlx::Error },
    #[error("a task of the bench broke: {0}")]
    Task(#[from] tokio::task::JoinError),
    #[error("told to stop before the figures were complete")]
    Interrupted,
}

impl BenchError {
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
