//! What can go wrong with a mesh.

use herdsman_node::{ConnectError, NodeName, TlsError};
use herdsman_wal::{InvalidObjectName, WalError};

use crate::group::GroupError;

/// What can go wrong with a mesh.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeshError {
    /// A node cannot be reached.
    #[error("node `{node}`: {source}")]
    Connect {
        /// The node.
        node: NodeName,
        /// Why.
        source: ConnectError,
    },
    /// A node's TLS settings make no sense.
    #[error("node `{node}`: {source}")]
    Tls {
        /// The node.
        node: NodeName,
        /// Why.
        source: TlsError,
    },
    /// A statement failed.
    #[error("node `{node}`: failed to {what}: {}", herdsman_node::describe(.source))]
    Sql {
        /// The node.
        node: NodeName,
        /// What was being done.
        what: String,
        /// Why it failed.
        source: tokio_postgres::Error,
    },
    /// Reading a node's changes failed.
    #[error("node `{node}`: {source}")]
    Wal {
        /// The node.
        node: NodeName,
        /// Why.
        source: Box<WalError>,
    },
    /// What a node published cannot be applied anywhere.
    #[error("node `{node}`: {source}")]
    Group {
        /// The node.
        node: NodeName,
        /// Why.
        source: GroupError,
    },
    /// Another process applies there. One is enough; this one waits.
    #[error("node `{node}`: {holder} applies changes here; this process waits")]
    LeaseHeld {
        /// The node.
        node: NodeName,
        /// Who has the lease, as far as that is known.
        holder: String,
    },
    /// A stream broke within a transaction of which a part is applied.
    #[error(
        "node `{node}`: the stream from `{from}` broke within a large transaction; it is applied again from its beginning"
    )]
    BrokenWithin {
        /// Where it was applied.
        node: NodeName,
        /// Where it comes from.
        from: NodeName,
    },
    /// A name makes no name for an object of a server.
    #[error(transparent)]
    Name(#[from] InvalidObjectName),
    /// A step did not end in time.
    #[error("node `{node}`: {what} did not end within {seconds} s; it is tried again")]
    TimedOut {
        /// The node.
        node: NodeName,
        /// What was being done.
        what: String,
        /// The bound.
        seconds: u64,
    },
    /// What was asked cannot be done with things as they are.
    #[error("{problem}; {advice}")]
    Refused {
        /// What stands in the way, and on which node.
        problem: String,
        /// What to do.
        advice: String,
    },
}

impl MeshError {
    /// Something cannot be done with things as they are.
    pub fn refused(problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Refused { problem: problem.into(), advice: advice.into() }
    }

    /// Whether the same may well succeed a little later, with nobody doing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::TimedOut { .. }
            | Self::LeaseHeld { .. }
            | Self::BrokenWithin { .. } => true,
            Self::Wal { source, .. } => source.is_transient(),
            Self::Sql { source, .. } => match source.code() {
                // Lost connections, shutdowns, exhausted resources, deadlocks and serialization failures; somebody
                // holds a lock or the replication origin, or waited too long for us.
                Some(state) => {
                    let code = state.code();
                    ["08", "53", "57", "40"].iter().any(|class| code.starts_with(class))
                        || ["55P03", "55006", "25P03"].contains(&code)
                }
                None => source.is_closed() || is_of_the_system(source),
            },
            Self::Tls { .. } | Self::Name(_) | Self::Group { .. } | Self::Refused { .. } => false,
        }
    }
}

/// Whether the connection failed, and not what was sent over it.
fn is_of_the_system(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.is::<std::io::Error>())
}
