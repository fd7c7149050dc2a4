//! What can go wrong in the sandbox.

use std::{io, path::PathBuf, time::Duration};

use thiserror::Error;

/// A sandbox could not be set up or could not do what was asked of it. Never carries a password.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// No usable PostgreSQL server binaries on this machine.
    #[error(
        "no PostgreSQL {wanted}server binaries (initdb and postgres) found; searched: {}; {advice}",
        searched.join(", ")
    )]
    NoBinaries {
        /// `"18 "` when one major was asked for, else empty.
        wanted: String,
        /// Every folder that was looked into, and what it held instead.
        searched: Vec<String>,
        /// What the reader can do about it.
        advice: String,
    },
    /// A server binary is there but does not run.
    #[error("{}: does not run: {reason}", path.display())]
    BinaryBroken {
        /// The binary.
        path: PathBuf,
        /// Its own words, or the system's.
        reason: String,
    },
    /// A file or folder could not be read, written or removed.
    #[error("cannot {what} {}", path.display())]
    File {
        /// Verb: "create", "read", …
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A socket or process call of the system failed.
    #[error("cannot {what}")]
    System {
        /// What was tried, with the node or port it was for.
        what: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A tool of a server (`initdb`, `pg_basebackup`, `pg_rewind`, Kafka's storage tool) ended with an error.
    #[error("{node}: {tool} failed: {output}")]
    Tool {
        /// The node it ran for.
        node: String,
        /// The tool's name.
        tool: &'static str,
        /// The end of what it said.
        output: String,
    },
    /// A server did not come up.
    #[error("{node}: the server ended while starting; its log ends with: {log}")]
    DidNotStart {
        /// The node.
        node: String,
        /// The last lines of its log.
        log: String,
    },
    /// A statement of the sandbox's own failed.
    #[error("{node}: {what}: {}", sql_reason(source))]
    Sql {
        /// The node.
        node: String,
        /// What the statement was for.
        what: String,
        /// The server's or the driver's reason.
        #[source]
        source: Box<tokio_postgres::Error>,
    },
    /// Something did not happen in time.
    #[error("{node}: {what} did not happen within {} s{}", within.as_secs_f32(), detail_suffix(detail))]
    Deadline {
        /// The node.
        node: String,
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
        /// What was seen last; may be empty.
        detail: String,
    },
    /// There is no node of that name.
    #[error("there is no node {name:?}; this sandbox has {}", known.join(", "))]
    UnknownNode {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// There is no role of that name.
    #[error("there is no role {name:?}; a sandbox has {}", crate::credentials::ROLES.join(", "))]
    UnknownRole {
        /// The name asked for.
        name: String,
    },
    /// The node is not in the state the operation needs.
    #[error("{node}: {reason}")]
    NotNow {
        /// The node, or the folder of the sandbox.
        node: String,
        /// What is in the way and what to do.
        reason: String,
    },
    /// TLS material could not be made.
    #[error("cannot make the sandbox's certificates")]
    Certificates(#[source] rcgen::Error),
    /// The supervisor of a command line sandbox refused or failed.
    #[error("{0}")]
    Supervisor(String),
}

impl SandboxError {
    pub(crate) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }

    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    pub(crate) fn not_now(node: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::NotNow { node: node.into(), reason: reason.into() }
    }

    /// The whole chain of causes on one line, for a terminal or a protocol that carries text.
    #[must_use]
    pub fn one_line(&self) -> String {
        // The reason of a failed statement is already part of its message.
        let skip_source = matches!(self, Self::Sql { .. });
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self).filter(|_| !skip_source);
        while let Some(next) = cause {
            line.push_str(": ");
            line.push_str(&next.to_string());
            cause = next.source();
        }
        line.replace('\n', " | ")
    }
}

fn detail_suffix(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(" ({detail})") }
}

fn sql_reason(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} ({})", db.message(), db.code().code());
    }
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        reason = format!("{reason}: {next}");
        cause = next.source();
    }
    reason
}
