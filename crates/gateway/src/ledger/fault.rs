//! What goes wrong, and what a client is told of it.

use std::io;

use bytes::BytesMut;
use herdsman_ledger::engine::RequestError;
use herdsman_ledger::node::SqlError;

use crate::wire::{HEADER, Problem, backend, message};

/// Nothing was done, and it may be tried again.
pub(super) const CONFLICT: &str = "40001";
/// Another transaction holds a row.
const LOCKED: &[u8] = b"55P03";

/// An error for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) state: String,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(state: &str, message: impl Into<String>) -> Self {
        Self { state: state.to_owned(), message: message.into() }
    }
}

impl From<SqlError> for Fault {
    fn from(error: SqlError) -> Self {
        let message = match &error {
            SqlError::Refused { message, .. } => message.clone(),
            error => error.to_string(),
        };
        Self::new(error.sqlstate(), message)
    }
}

impl From<RequestError> for Fault {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Sql(error) => error.into(),
            error => Self::new(error.sqlstate(), error.to_string()),
        }
    }
}

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Trouble {
    /// In our words.
    Ours(Fault),
    /// In the server's: the whole message.
    Server(BytesMut),
    /// The connection to the server has ended, and with it what was not committed: everything.
    Lost(String),
    /// The client leaves, or is to.
    Leave(Option<Problem>),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Ours(fault)
    }
}

impl From<SqlError> for Trouble {
    fn from(error: SqlError) -> Self {
        Self::Ours(error.into())
    }
}

impl From<RequestError> for Trouble {
    fn from(error: RequestError) -> Self {
        Self::Ours(error.into())
    }
}

impl From<io::Error> for Trouble {
    fn from(_client: io::Error) -> Self {
        Self::Leave(None)
    }
}

impl Trouble {
    /// Whether another try may help: nothing of it is in the data.
    pub(super) fn may_be_tried_again(&self) -> bool {
        match self {
            Self::Ours(fault) => fault.state == CONFLICT,
            Self::Server(message) => {
                let state = state_of(message);
                state.starts_with(b"40") || state == LOCKED
            }
            Self::Lost(_) => true,
            Self::Leave(_) => false,
        }
    }

    /// Tells the client.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ours(fault) => put(out, "ERROR", fault),
            Self::Server(said) if state_of(said) == LOCKED => put(
                out,
                "ERROR",
                &Fault::new(CONFLICT, "another transaction holds a row that this one changes"),
            ),
            Self::Server(said) => out.extend_from_slice(said),
            Self::Lost(why) => put(out, "ERROR", &Fault::new(CONFLICT, why.clone())),
            Self::Leave(problem) => {
                if let Some(problem) = problem {
                    problem.put_fatal(out);
                }
            }
        }
    }
}

fn state_of(said: &[u8]) -> &[u8] {
    backend::field(said.get(HEADER..).unwrap_or_default(), b'C').unwrap_or_default()
}

/// Something that the client should know, though nothing failed.
pub(super) fn put_warning(out: &mut Vec<u8>, state: &str, text: &str) {
    put_as(out, backend::NOTICE, "WARNING", &Fault::new(state, text));
}

fn put(out: &mut Vec<u8>, severity: &str, fault: &Fault) {
    put_as(out, backend::ERROR, severity, fault);
}

fn put_as(out: &mut Vec<u8>, tag: u8, severity: &str, fault: &Fault) {
    message(out, tag, |out| {
        let fields =
            [(b'S', severity), (b'V', severity), (b'C', &fault.state), (b'M', &fault.message)];
        for (letter, text) in fields {
            out.push(letter);
            // A zero byte would end the field early.
            out.extend(text.bytes().filter(|&byte| byte != 0));
            out.push(0);
        }
        out.push(0);
    });
}
