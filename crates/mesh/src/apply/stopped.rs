//! Why a transaction was not applied, and whether it may be the next time.

use super::Applier;
use crate::error::MeshError;
use crate::install::{CLOCK, MEMORY, ORDER};

impl Applier {
    /// What went wrong, by what helps. `what` completes "failed to …".
    pub(super) fn stopped(&self, what: &str, error: tokio_postgres::Error) -> Stopped {
        let code = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
        let index = error.as_db_error().and_then(|error| error.constraint());
        let secondary = index.is_some_and(|index| self.tables.is_secondary(index));
        let error = self.session.failed(what, error);
        match code.as_str() {
            // Serialization, deadlock, a lock that was not to be had, two rows of one key in a batch (equal and spelt
            // differently), a key that came meanwhile.
            "40001" | "40P01" | "55P03" | "21000" => Stopped::Again(error),
            // Its clock is not past the commit time; what it has forgotten has become more; or one before it failed.
            CLOCK | MEMORY | ORDER => Stopped::Again(error),
            "23505" if !secondary => Stopped::Again(error),
            "23505" | "23P01" => Stopped::Unique(error),
            _ => Stopped::Failed(error),
        }
    }
}

/// Why a transaction was not applied.
#[derive(Debug)]
pub(super) enum Stopped {
    /// It may well be the next time.
    Again(MeshError),
    /// A row claims a value of another unique constraint that another row has.
    Unique(MeshError),
    /// What comes before it was not applied.
    NotYet(MeshError),
    /// For good.
    Failed(MeshError),
}

impl Stopped {
    pub(super) fn into_error(self) -> MeshError {
        match self {
            Self::Again(error)
            | Self::Unique(error)
            | Self::NotYet(error)
            | Self::Failed(error) => error,
        }
    }
}

impl From<MeshError> for Stopped {
    fn from(error: MeshError) -> Self {
        Self::Failed(error)
    }
}
