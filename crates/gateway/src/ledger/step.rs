//! What a client has prepared, and the messages of its that go to the server.

use super::said::Said;
use crate::wire::backend;

/// Something that is answered here, and its text.
#[derive(Clone, Debug)]
pub(super) struct Ours {
    pub(super) said: Said,
    pub(super) sql: String,
}

/// A prepared statement.
#[derive(Clone, Debug)]
pub(super) enum Prepared {
    Here(Ours),
    /// The server has it; the client's message and its text.
    There {
        message: Vec<u8>,
        sql: String,
    },
}

impl Prepared {
    /// What it takes, about.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Here(ours) => ours.sql.len(),
            Self::There { message, sql } => message.len().saturating_add(sql.len()),
        }
    }
}

/// What the messages of some steps take.
pub(super) fn bytes(steps: &[Step]) -> usize {
    steps.iter().map(|step| step.message().len()).sum()
}

/// Something for the server; each with the whole message.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Query { message: Vec<u8>, checked: Option<String> },
    Parse { name: Vec<u8>, message: Vec<u8>, sql: String },
    Bind { message: Vec<u8>, checked: Option<String>, unnamed: Option<Vec<u8>> },
    Describe { message: Vec<u8>, unnamed: Option<Vec<u8>> },
    Execute { message: Vec<u8> },
    Close { message: Vec<u8>, statement: Option<Vec<u8>> },
}

impl Step {
    pub(super) fn message(&self) -> &[u8] {
        match self {
            Self::Query { message, .. }
            | Self::Parse { message, .. }
            | Self::Bind { message, .. }
            | Self::Describe { message, .. }
            | Self::Execute { message }
            | Self::Close { message, .. } => message,
        }
    }

    /// The `Parse` that has to come before it: a statement without a name is lost with the first word of ours to the
    /// server, such as the `BEGIN` around what stands alone.
    pub(super) fn unnamed(&self) -> Option<&[u8]> {
        match self {
            Self::Bind { unnamed, .. } | Self::Describe { unnamed, .. } => unnamed.as_deref(),
            _ => None,
        }
    }

    /// The text that has to be found good before it is run.
    pub(super) fn checked(&self) -> Option<&str> {
        match self {
            Self::Query { checked, .. } | Self::Bind { checked, .. } => checked.as_deref(),
            _ => None,
        }
    }

    /// The name it prepares, if it has one.
    pub(super) fn named(&self) -> Option<&[u8]> {
        match self {
            Self::Parse { name, .. } if !name.is_empty() => Some(name),
            _ => None,
        }
    }

    /// Whether it is something that needs a transaction.
    pub(super) fn runs(&self) -> bool {
        matches!(self, Self::Query { .. } | Self::Bind { .. } | Self::Execute { .. })
    }

    pub(super) fn is_query(&self) -> bool {
        matches!(self, Self::Query { .. })
    }

    pub(super) fn is_answered_by(&self, tag: u8) -> bool {
        match self {
            Self::Query { .. } => false,
            Self::Parse { .. } => tag == backend::PARSE_COMPLETE,
            Self::Bind { .. } => tag == backend::BIND_COMPLETE,
            Self::Describe { .. } => [backend::ROW_DESCRIPTION, backend::NO_DATA].contains(&tag),
            Self::Execute { .. } => {
                [backend::COMPLETE, backend::EMPTY_QUERY, backend::SUSPENDED].contains(&tag)
            }
            Self::Close { .. } => tag == backend::CLOSE_COMPLETE,
        }
    }
}
