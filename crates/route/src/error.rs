//! What can go wrong between a statement and the server it was meant for.

use std::time::Duration;

use herdsman_node::NodeName;

/// A statement could not be carried out for a reason that is not the statement's own.
///
/// Errors of the statement itself (syntax, a violated constraint, no row) stay what they are in sqlx. Since sqlx's
/// traits return [`sqlx::Error`], this error travels inside it; [`Error::of`] takes it out again:
///
/// ```
/// # fn example(error: &sqlx::Error) {
/// match herdsman::Error::of(error) {
///     Some(herdsman::Error::OutcomeUnknown { node, .. }) => eprintln!("look before you repeat: {node}"),
///     Some(other) => eprintln!("{other}"),
///     None => eprintln!("the statement's own error: {error}"),
/// }
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No node may be written to, and none turned up in time. Nothing was sent.
    #[error(
        "no node may be written to ({reasons}); waited {waited:?}; nothing was sent, try again later"
    )]
    NoWriter {
        /// Why each node is out of the question.
        reasons: String,
        /// How long a writer was waited for.
        waited: Duration,
    },
    /// No node may be read, and none turned up in time. Nothing was sent.
    #[error(
        "no node may be read ({reasons}); waited {waited:?}; nothing was sent, try again later"
    )]
    NoReader {
        /// Why each node is out of the question.
        reasons: String,
        /// How long a reader was waited for.
        waited: Duration,
    },
    /// The node could not be reached, or went away while it read for us. Nothing was changed by it.
    #[error("lost node {node}: {source}; nothing was changed, try again")]
    Lost {
        /// The node.
        node: NodeName,
        /// What the driver saw.
        source: Box<sqlx::Error>,
    },
    /// The connection was lost after a statement that may write had been sent.
    #[error(
        "lost node {node} while it was carrying out a statement: {source}; \
         whether it took effect is unknown, look before you repeat it"
    )]
    OutcomeUnknown {
        /// The node.
        node: NodeName,
        /// What the driver saw.
        source: Box<sqlx::Error>,
    },
    /// Every connection of the node's pool stayed in use, or the server has none to spare.
    #[error(
        "no connection to node {node} became free: {source}; nothing was sent; \
         hold connections for shorter, or raise max_connections of the pool or the server"
    )]
    Busy {
        /// The node.
        node: NodeName,
        /// What the driver saw.
        source: Box<sqlx::Error>,
    },
    /// The node that should write is read-only: it is a standby, or set so. Nothing was changed.
    #[error(
        "node {node} refuses to write: {source}; nothing was changed; \
         it is a standby or set read-only: let Herdsman discover the roles, or correct them"
    )]
    ReadOnly {
        /// The node.
        node: NodeName,
        /// What the server said.
        source: Box<sqlx::Error>,
    },
    /// It was used outside of a tokio runtime.
    #[error("a ReplicaSet needs a tokio runtime; call it from within one")]
    NoRuntime,
    /// The set was closed with [`ReplicaSet::close`](crate::ReplicaSet::close).
    #[error("the replica set is closed")]
    Closed,
}

impl Error {
    /// The error of ours inside a sqlx error, if it is one.
    #[must_use]
    pub fn of(error: &sqlx::Error) -> Option<&Self> {
        match error {
            sqlx::Error::Io(io) => io.get_ref()?.downcast_ref(),
            _ => None,
        }
    }

    /// The node it is about, if it is about one.
    #[must_use]
    pub fn node(&self) -> Option<&NodeName> {
        match self {
            Self::NoWriter { .. } | Self::NoReader { .. } | Self::NoRuntime | Self::Closed => None,
            Self::Lost { node, .. }
            | Self::OutcomeUnknown { node, .. }
            | Self::Busy { node, .. }
            | Self::ReadOnly { node, .. } => Some(node),
        }
    }

    /// Whether it is certain that the statement had no effect, so that it may be repeated as it is.
    #[must_use]
    pub const fn nothing_happened(&self) -> bool {
        !matches!(self, Self::OutcomeUnknown { .. })
    }
}

impl From<Error> for sqlx::Error {
    fn from(error: Error) -> Self {
        use std::io::ErrorKind;
        let kind = match error {
            Error::NoWriter { .. } | Error::NoReader { .. } | Error::NoRuntime | Error::Closed => {
                ErrorKind::NotConnected
            }
            Error::Lost { .. } | Error::OutcomeUnknown { .. } => ErrorKind::ConnectionAborted,
            Error::Busy { .. } => ErrorKind::TimedOut,
            Error::ReadOnly { .. } => ErrorKind::ReadOnlyFilesystem,
        };
        Self::Io(std::io::Error::new(kind, error))
    }
}

/// Nodes that could not be connected to, with what each said.
#[derive(Debug, thiserror::Error)]
#[error("failed to connect to {}", self.list())]
pub struct ConnectErrors(pub Vec<(NodeName, Error)>);

impl ConnectErrors {
    fn list(&self) -> String {
        let each = self.0.iter().map(|(node, error)| format!("{node}: {error}"));
        each.collect::<Vec<_>>().join(" | ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_the_journey_through_sqlx() {
        let node = NodeName::new("pg1").unwrap();
        let lost = || Box::new(sqlx::Error::WorkerCrashed);
        let error: sqlx::Error = Error::OutcomeUnknown { node, source: lost() }.into();
        let ours = Error::of(&error).unwrap();
        assert!(!ours.nothing_happened());
        assert_eq!(ours.node().unwrap().as_str(), "pg1");
        assert!(Error::of(&sqlx::Error::RowNotFound).is_none());
    }
}
