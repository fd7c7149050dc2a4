//! What stops a stream.

use herdsman_wal::WalError;

use crate::checkpoint::CheckpointError;
use crate::filter::FilterError;
use crate::sink::Position;

/// The stream stopped. What one sink cannot do does not stop it: that is tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The server, or the way to it.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The state folder.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A rule of the configuration cannot be applied to what a table has become.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A sink lost what it had taken, and PostgreSQL may have forgotten it already.
    #[error(
        "sink `{sink}` says that it stands at {} (change {}), but it had taken everything up to {} (change {}); it was restored from an older copy: take a snapshot of what it misses, then start again",
        .found.commit_lsn, .found.changes, .expected.commit_lsn, .expected.changes
    )]
    SinkWentBack {
        /// The sink.
        sink: String,
        /// Where it says it is.
        found: Position,
        /// Where it was.
        expected: Position,
    },
    /// Whoever read what a sink writes is gone, as with `herdsman stream run | head`.
    #[error("nobody reads what sink `{sink}` writes any more")]
    ReaderLeft {
        /// The sink.
        sink: String,
    },
    /// The slot decodes prepared transactions on their own, which sinks have no use for.
    #[error(
        "the slot has two-phase decoding on, and prepared transactions cannot be delivered before they are committed; create the slot without it"
    )]
    TwoPhase,
    /// Events came in an order that has no meaning.
    #[error("the stream is out of order: {problem}; please report it")]
    OutOfOrder {
        /// What came when.
        problem: &'static str,
    },
}

impl StreamError {
    /// Whether the same may well succeed a little later, with nobody doing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Wal(error) if error.is_transient())
    }
}
