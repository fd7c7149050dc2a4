//! Why there is no connection.

use std::sync::Arc;
use std::time::Duration;

use herdsman_node::raw::ServerMessage;
use herdsman_node::{ConnectError, ConnectErrorKind};

use crate::wire::Problem;
use crate::wire::error::code;

/// A pool has no connection to give.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum PoolError {
    /// As many wait as may.
    #[error("{waiting} clients already wait for a connection to node `{node}`")]
    QueueFull {
        /// Which node.
        node: Arc<str>,
        /// How many.
        waiting: usize,
    },
    /// None came free in time.
    #[error("no connection to node `{node}` came free within {waited:?}")]
    TimedOut {
        /// Which node.
        node: Arc<str>,
        /// How long it was waited for.
        waited: Duration,
        /// Why no further one was opened, where that was tried.
        failure: Option<Arc<ConnectError>>,
    },
    /// None can be made.
    #[error("node `{node}`: {error}")]
    Connect {
        /// Which node.
        node: Arc<str>,
        /// Why.
        error: Arc<ConnectError>,
    },
    /// Every connection to the node was given up while this one waited: choose again.
    #[error("the connections to node `{node}` were given up")]
    Severed {
        /// Which node.
        node: Arc<str>,
    },
    /// The configuration has the database no more.
    #[error("database `{database}` is no longer in the configuration")]
    Gone {
        /// Which database.
        database: Arc<str>,
    },
}

impl From<PoolError> for Problem {
    fn from(error: PoolError) -> Self {
        let said = error.to_string();
        match &error {
            PoolError::QueueFull { .. } => Self::new(code::TOO_MANY, said)
                .hint("Raise `queue` or `size` of the pool, or have clients retry later."),
            PoolError::TimedOut { failure: None, .. } => Self::new(code::TOO_MANY, said)
                .hint("Raise `size` or `queue_timeout` of the pool, or shorten transactions."),
            PoolError::TimedOut { failure: Some(failure), .. } => {
                Self::new(code_of(failure.kind), said).detail(failure.to_string())
            }
            PoolError::Connect { error, .. } => Self::new(code_of(error.kind), said),
            PoolError::Severed { .. } => Self::new(code::CANNOT_CONNECT_NOW, said)
                .hint("Try again: another node may have taken over."),
            PoolError::Gone { .. } => Self::new(code::NO_DATABASE, said),
        }
    }
}

fn code_of(kind: ConnectErrorKind) -> &'static str {
    match kind {
        ConnectErrorKind::NotReady => code::CANNOT_CONNECT_NOW,
        ConnectErrorKind::TooManyConnections => code::TOO_MANY,
        _ => code::CONNECTION_FAILURE,
    }
}

/// A short conversation with a server failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TalkError {
    /// The server refused; the connection is as it was before.
    #[error("{} (SQLSTATE {})", .0.message.message, .0.message.code)]
    Refused(Box<Refusal>),
    /// The connection is of no further use.
    #[error("the connection to the server failed: {0}")]
    Broken(#[from] std::io::Error),
}

/// What a server said when it refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Read.
    pub(crate) message: ServerMessage,
    /// The body of its `ErrorResponse` as it came, to be passed on.
    pub(crate) body: Box<[u8]>,
}
