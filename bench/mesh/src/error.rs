//! What can stop the bench.

use herdsman_mesh::MeshError;
use herdsman_node::{ConninfoError, InvalidName};
use herdsman_sandbox::SandboxError;

/// The bench cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Mesh(Box<MeshError>),
    #[error(transparent)]
    Conninfo(#[from] ConninfoError),
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error("SQL failed: {}", herdsman_node::describe(.0))]
    Sql(#[from] tokio_postgres::Error),
    #[error("failed to print: {0}")]
    Io(#[from] std::io::Error),
    #[error("failed to print: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Wrong(String),
}

impl From<MeshError> for BenchError {
    fn from(error: MeshError) -> Self {
        Self::Mesh(Box::new(error))
    }
}
