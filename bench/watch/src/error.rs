use std::io;

use herdsman_node::{ConninfoError, InvalidName};
use herdsman_sandbox::SandboxError;
use herdsman_watch::StartError;

/// The bench could not measure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Watcher(#[from] StartError),
    #[error(transparent)]
    Conninfo(#[from] ConninfoError),
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error("failed to {what}: {source}")]
    System { what: String, source: io::Error },
    #[error("failed to ask server {node}: {source}")]
    Sql { node: String, source: tokio_postgres::Error },
    #[error("no program `{path}`; {advice}")]
    NoProgram { path: String, advice: &'static str },
    #[error("{program} {problem}; its log ends with: {log}")]
    Program { program: String, problem: String, log: String },
    #[error("{what} was not seen within {within} s; last: {last}")]
    NotSeen { what: String, within: u64, last: String },
    #[error("told to stop before the figures were complete")]
    Interrupted,
}

impl BenchError {
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what: what.into(), source }
    }
}
