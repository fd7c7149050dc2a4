//! Why a run of a hook came to nothing.

use crate::status::Outcome;

/// A run failed. What it says never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    /// What failed, where, and what to do.
    pub(crate) problem: String,
}

/// Kinds of failures, by what is done about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It may work the next time.
    Failed,
    /// It took too long; it may work the next time.
    Late,
    /// It never will.
    Refused,
}

impl Failure {
    pub(crate) fn failed(problem: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, problem: problem.into() }
    }

    pub(crate) fn late(problem: impl Into<String>) -> Self {
        Self { kind: Kind::Late, problem: problem.into() }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        match self.kind {
            Kind::Failed | Kind::Refused => Outcome::Failed,
            Kind::Late => Outcome::TimedOut,
        }
    }
}
