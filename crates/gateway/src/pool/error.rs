//! Why there is no connection.

use std::sync::Arc;
use std::time::Duration;

use herdsman_node::raw::ServerMessage;
use herdsman_node::{ConnectError, ConnectErrorKind};

use crate::wire::Problem;
use crate::wire::error::code;

/// SQLSTATE of `insufficient_privilege`: a database that the user may not connect to.
const NO_PRIVILEGE: &str = "42501";

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
                .hint("raise `queue` or `size` of the pool, or have clients retry later"),
            PoolError::TimedOut { failure: None, .. } => Self::new(code::TOO_MANY, said)
                .hint("raise `size` or `queue_timeout` of the pool, or shorten transactions"),
            PoolError::TimedOut { failure: Some(failure), .. } => {
                refusal(failure).unwrap_or_else(|| {
                    Self::new(code_of(failure.kind), said).detail(failure.to_string())
                })
            }
            PoolError::Connect { error, .. } => {
                refusal(error).unwrap_or_else(|| Self::new(code_of(error.kind), said))
            }
            PoolError::Severed { .. } => Self::new(code::CANNOT_CONNECT_NOW, said)
                .hint("try again: another node may have taken over"),
            PoolError::Gone { .. } => Self::new(code::NO_DATABASE, said),
        }
    }
}

/// A login that the server refuses is the client's own concern, as it would be without a gateway: it hears what the server
/// says. Where the servers are, and who logs in there, is in the log only.
fn refusal(error: &ConnectError) -> Option<Problem> {
    if error.kind != ConnectErrorKind::Rejected {
        return None;
    }
    let told = error.problem.strip_suffix(')').and_then(|said| said.rsplit_once(" (SQLSTATE "));
    let (words, state) = told.unwrap_or_default();
    let code = match state {
        code::NO_DATABASE => code::NO_DATABASE,
        code::WRONG_PASSWORD => code::WRONG_PASSWORD,
        NO_PRIVILEGE => NO_PRIVILEGE,
        _ => code::NOT_AUTHORISED,
    };
    // What is said of `pg_hba.conf` names the address we come from.
    if words.is_empty() || words.contains("pg_hba.conf") {
        let problem = Problem::new(code, "the servers do not let this user use this database");
        return Some(problem.hint("the gateway's log says why"));
    }
    Some(Problem::new(code, words.to_owned()))
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
    /// Its words.
    pub(crate) message: ServerMessage,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: ConnectErrorKind, problem: &str) -> Problem {
        let endpoint = "192.0.2.1:5432".to_owned();
        let error = Arc::new(ConnectError { kind, endpoint, problem: problem.to_owned() });
        let connect = PoolError::Connect { node: "n1".into(), error: Arc::clone(&error) };
        let waited = Duration::from_secs(1);
        let late = PoolError::TimedOut { node: "n1".into(), waited, failure: Some(error) };
        let problem = Problem::from(connect);
        assert_eq!(Problem::from(late).code, problem.code);
        problem
    }

    #[test]
    fn what_a_server_refuses_is_told_in_its_words_and_without_its_address() {
        let generic = "the servers do not let this user use this database";
        let table = [
            (
                "database \"a\" does not exist (SQLSTATE 3D000)",
                "3D000",
                "database \"a\" does not exist",
            ),
            ("role \"a\" does not exist (SQLSTATE 28000)", "28000", "role \"a\" does not exist"),
            (
                "password authentication failed for user \"a\" (SQLSTATE 28P01)",
                "28P01",
                "password authentication failed for user \"a\"",
            ),
            (
                "permission denied for database \"a\" (SQLSTATE 42501)",
                "42501",
                "permission denied for database \"a\"",
            ),
            (
                "no pg_hba.conf entry for host \"192.0.2.7\", user \"a\" (SQLSTATE 28000)",
                "28000",
                generic,
            ),
            ("the server wants a password and none is given", "28000", generic),
        ];
        for (said, code, words) in table {
            let problem = told(ConnectErrorKind::Rejected, said);
            assert_eq!((problem.code, &*problem.message), (code, words), "{said}");
        }
    }

    #[test]
    fn a_node_that_cannot_be_reached_is_named() {
        let problem = told(ConnectErrorKind::Refused, "connection refused");
        assert_eq!(problem.code, "08006");
        assert!(problem.message.starts_with("node `n1`: "), "{}", problem.message);
    }
}
