//! Errors on their way between sqlx, SeaORM and us.

use std::sync::Arc;

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};

use crate::Error;

impl Error {
    /// The error of ours inside a SeaORM error, if it is one.
    ///
    /// What was not the statement's own fault and had no effect is [`DbErr::Conn`]; [`Error::OutcomeUnknown`] and
    /// [`Error::ReadOnly`] are [`DbErr::Exec`] or [`DbErr::Query`], as are the statement's own errors, in which
    /// [`DbErr::sql_err`] finds violated constraints.
    ///
    /// ```
    /// # fn example(error: &sea_orm::DbErr) {
    /// match herdsman::Error::of_db_err(error) {
    ///     Some(ours) if ours.nothing_happened() => eprintln!("try again later: {ours}"),
    ///     Some(ours) => eprintln!("look before you repeat: {ours}"),
    ///     None => eprintln!("the statement's own error: {error}"),
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn of_db_err(error: &DbErr) -> Option<&Self> {
        match error {
            DbErr::Conn(RuntimeErr::SqlxError(error))
            | DbErr::Exec(RuntimeErr::SqlxError(error))
            | DbErr::Query(RuntimeErr::SqlxError(error)) => Self::of(error),
            _ => None,
        }
    }
}

/// What SeaORM makes of an error of a statement that was executed.
pub(super) fn executing(error: sqlx::Error) -> DbErr {
    told(error, DbErr::Exec)
}

/// What SeaORM makes of an error of a statement whose rows were asked for.
pub(super) fn querying(error: sqlx::Error) -> DbErr {
    told(error, DbErr::Query)
}

fn told(error: sqlx::Error, statement: fn(RuntimeErr) -> DbErr) -> DbErr {
    let kind = match Error::of(&error) {
        None | Some(Error::OutcomeUnknown { .. } | Error::ReadOnly { .. }) => statement,
        Some(_) => DbErr::Conn,
    };
    kind(RuntimeErr::SqlxError(Arc::new(error)))
}

/// The driver's error that SeaORM has just wrapped.
///
/// # Errors
/// The error itself, if it is SeaORM's own or somebody else holds it, too.
pub(super) fn unwrapped(error: DbErr) -> Result<sqlx::Error, DbErr> {
    match error {
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => Ok(sqlx::Error::PoolTimedOut),
        DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed) => Ok(sqlx::Error::PoolClosed),
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => {
            Arc::try_unwrap(error).map_err(|shared| DbErr::Query(RuntimeErr::SqlxError(shared)))
        }
        other => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use herdsman_node::NodeName;

    fn unknown() -> Error {
        let node = NodeName::new("pg1").unwrap();
        Error::OutcomeUnknown { node, source: Box::new(sqlx::Error::WorkerCrashed) }
    }

    #[test]
    fn ours_survives_the_journey_through_sea_orm() {
        let error = executing(unknown().into());
        assert!(matches!(error, DbErr::Exec(_)), "{error:?}");
        assert!(!Error::of_db_err(&error).unwrap().nothing_happened());

        let error = querying(Error::Closed.into());
        assert!(matches!(error, DbErr::Conn(_)), "{error:?}");
        assert!(matches!(Error::of_db_err(&error), Some(Error::Closed)));
    }

    #[test]
    fn the_statements_own_errors_are_not_ours() {
        for error in [executing(sqlx::Error::RowNotFound), DbErr::RecordNotInserted] {
            assert!(Error::of_db_err(&error).is_none(), "{error:?}");
        }
    }

    #[test]
    fn what_sea_orm_wraps_can_be_had_back() {
        let timeout = DbErr::ConnectionAcquire(ConnAcquireErr::Timeout);
        assert!(matches!(unwrapped(timeout), Ok(sqlx::Error::PoolTimedOut)));
        assert!(matches!(unwrapped(querying(unknown().into())), Ok(sqlx::Error::Io(_))));
        let shared = querying(sqlx::Error::RowNotFound);
        let _other = shared.clone();
        assert!(matches!(unwrapped(shared), Err(DbErr::Query(_))));
        assert!(matches!(unwrapped(DbErr::RecordNotUpdated), Err(DbErr::RecordNotUpdated)));
    }
}
