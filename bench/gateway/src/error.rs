use std::io;

use herdsman_sandbox::SandboxError;

/// The bench could not measure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("failed to {what}: {source}")]
    System { what: String, source: io::Error },
    #[error("failed to ask {whom}: {source}")]
    Sql { whom: String, source: tokio_postgres::Error },
    #[error("{name} cannot be measured: `{path}` {problem}; {advice}")]
    NoProgram { name: &'static str, path: String, problem: &'static str, advice: &'static str },
    #[error("{program} {problem}; its log ends with: {log}")]
    Program { program: String, problem: String, log: String },
    #[error("failed to prepare TLS: {0}")]
    Tls(String),
    #[error("failed to write figures: {0}")]
    Json(#[from] serde_json::Error),
    #[error("told to stop before the figures were complete")]
    Interrupted,
}

impl BenchError {
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what: what.into(), source }
    }
}
