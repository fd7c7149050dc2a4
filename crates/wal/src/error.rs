//! What can go wrong with replication, and what to do about it.

use herdsman_node::{ConnectError, Lsn};

use crate::decode::Malformed;

/// Replication failed. Says what failed, on which server, and what to do; never shows a secret or a row's content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection is gone.
    #[error("lost the replication connection to {endpoint}: {problem}; it will be made again")]
    Lost {
        /// `host:port`.
        endpoint: String,
        /// What the system said.
        problem: String,
    },
    /// The server did not answer in time.
    #[error("{endpoint} did not {what} within {seconds} s{advice}")]
    TimedOut {
        /// `host:port`.
        endpoint: String,
        /// What it was to do.
        what: &'static str,
        /// How long it had.
        seconds: u64,
        /// What to do about it, with a separator before it; may name the session that is in the way.
        advice: String,
    },
    /// The server refused a command.
    #[error("{endpoint} refused to {what}: {message} (SQLSTATE {sqlstate}){advice}")]
    Server {
        /// `host:port`.
        endpoint: String,
        /// What was asked of it.
        what: String,
        /// What it said.
        message: String,
        /// Its code for that.
        sqlstate: String,
        /// What to do about it, with a separator before it; empty where the message says it all.
        advice: String,
    },
    /// A message that no version of the protocol has.
    #[error(
        "cannot decode what {endpoint} sent at {lsn}: {source}; please report it with the server's version"
    )]
    Malformed {
        /// `host:port`.
        endpoint: String,
        /// Where in its log.
        lsn: Lsn,
        /// What is wrong.
        source: Malformed,
    },
    /// The protocol was not followed.
    #[error("{endpoint} does not follow the replication protocol: {problem}")]
    Protocol {
        /// `host:port`.
        endpoint: String,
        /// What is wrong.
        problem: String,
    },
    /// There is no such slot.
    #[error(
        "there is no replication slot `{slot}` on {endpoint}; create it with `herdsman stream slots create`, and take a snapshot of what was missed"
    )]
    SlotMissing {
        /// `host:port`.
        endpoint: String,
        /// The slot.
        slot: String,
    },
    /// Somebody else reads the slot.
    #[error(
        "replication slot `{slot}` on {endpoint} is read by another process (PID {pid}); stop that reader, or wait until the server notices that it is gone (wal_sender_timeout)"
    )]
    SlotActive {
        /// `host:port`.
        endpoint: String,
        /// The slot.
        slot: String,
        /// The server process that holds it.
        pid: u32,
    },
    /// The server has thrown away what the slot needs.
    #[error(
        "replication slot `{slot}` on {endpoint} is lost ({reason}): changes after {confirmed} cannot be had any more; recreate the slot and take a snapshot (`on_lost_slot: resnapshot` does both)"
    )]
    SlotLost {
        /// `host:port`.
        endpoint: String,
        /// The slot.
        slot: String,
        /// Why, as the server says.
        reason: String,
        /// Up to where changes had been confirmed.
        confirmed: Lsn,
    },
    /// The slot has moved past what we know to be handled.
    #[error(
        "replication slot `{slot}` on {endpoint} stands at {slot_at}, ahead of {handled}, the last position known to be handled: the changes between are gone from it; take a snapshot, or say that they may be skipped"
    )]
    SlotAhead {
        /// `host:port`.
        endpoint: String,
        /// The slot.
        slot: String,
        /// Where the slot stands.
        slot_at: Lsn,
        /// What is known to be handled.
        handled: Lsn,
    },
    /// Another cluster than before answers.
    #[error(
        "{endpoint} belongs to another cluster than before ({found} instead of {expected}); point the stream at the right server, or give it a new state folder"
    )]
    OtherCluster {
        /// `host:port`.
        endpoint: String,
        /// System identifier found.
        found: String,
        /// System identifier expected.
        expected: String,
    },
    /// Room for a large transaction could not be had.
    #[error(
        "failed to {what} the spill file for transaction {xid} in {folder}: {problem}; make room there or name another folder"
    )]
    Spill {
        /// What was tried.
        what: &'static str,
        /// The transaction.
        xid: u32,
        /// The folder.
        folder: String,
        /// What the system said.
        problem: String,
    },
    /// Something was asked for that this server's version does not have.
    #[error("{endpoint} runs PostgreSQL {version}, and {what} needs {needed} or later")]
    TooOld {
        /// `host:port`.
        endpoint: String,
        /// Its version.
        version: String,
        /// What was asked for.
        what: &'static str,
        /// The first version that has it.
        needed: u32,
    },
}

impl WalError {
    /// Whether the same may well succeed a little later, with nobody doing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(_)
            | Self::Lost { .. }
            | Self::TimedOut { .. }
            | Self::SlotActive { .. } => true,
            Self::Server { sqlstate, .. } => {
                sqlstate.starts_with("57P") || sqlstate.starts_with("53") || sqlstate == "55006"
            }
            _ => false,
        }
    }
}
