//! What an error means, and what to do after it: the rules of retrying, without I/O.

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The statement's own: syntax, a violated constraint, no row, a value that does not decode.
    Caller,
    /// The connection or the node went away.
    Connection,
    /// No connection was to be had in time; the node itself is well.
    Busy,
    /// The server refused to write, because it is a standby or the transaction is read-only.
    ReadOnly,
    /// A standby cancelled the statement because replay needed what it was reading.
    Conflict,
}

/// How far the attempt had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing had been sent.
    Acquiring,
    /// The statement had been sent, nothing of its result handed on.
    Sent,
    /// Rows had been handed to the caller.
    Yielded,
}

/// What the statement is, as far as repeating it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// A read, sent to a reader or the writer.
    Read,
    /// Anything that may write.
    Never,
    /// It may write, and the caller has said that repeating it does no harm.
    Idempotent,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try again on another node, or on this one if there is no other.
    Again,
    /// Try again on the writer: this was no read after all.
    OnWriter,
    /// Hand the error on as it is.
    Hand,
    /// Hand it on as [`Error::Lost`](crate::Error::Lost).
    Lost,
    /// Hand it on as [`Error::OutcomeUnknown`](crate::Error::OutcomeUnknown).
    Unknown,
    /// Hand it on as [`Error::Busy`](crate::Error::Busy).
    Busy,
    /// Hand it on as [`Error::ReadOnly`](crate::Error::ReadOnly).
    Refused,
}

/// Decides what to do after `fault` in `phase`; `left` is how many further attempts are allowed, `on_writer` whether
/// the attempt was made as a write.
///
/// What was not sent may always be tried again. What was refused as a whole (read-only, a recovery conflict) had no
/// effect. What was sent and not answered is repeated only if it reads, or the caller said that it may be.
pub(crate) const fn after(
    fault: Fault,
    phase: Phase,
    repeat: Repeat,
    left: u32,
    on_writer: bool,
) -> Next {
    let may_repeat = match phase {
        Phase::Acquiring => true,
        Phase::Sent => matches!(repeat, Repeat::Read | Repeat::Idempotent),
        Phase::Yielded => false,
    };
    match fault {
        Fault::Caller => Next::Hand,
        Fault::Connection | Fault::Busy if may_repeat && left > 0 => Next::Again,
        Fault::Connection => match (phase, repeat) {
            (Phase::Acquiring, _) | (_, Repeat::Read) => Next::Lost,
            _ => Next::Unknown,
        },
        Fault::Busy => match phase {
            Phase::Acquiring => Next::Busy,
            Phase::Sent | Phase::Yielded => Next::Hand,
        },
        // Refused whole, so nothing happened, whatever the statement is.
        Fault::ReadOnly => match (phase, on_writer, left) {
            (Phase::Yielded, ..) | (Phase::Acquiring, ..) => Next::Hand,
            (Phase::Sent, false, _) => Next::OnWriter,
            (Phase::Sent, true, 0) => Next::Refused,
            (Phase::Sent, true, _) => Next::Again,
        },
        Fault::Conflict => match phase {
            Phase::Sent if !on_writer && left > 0 && matches!(repeat, Repeat::Read) => Next::Again,
            Phase::Acquiring | Phase::Sent | Phase::Yielded => Next::Hand,
        },
    }
}

/// Whose fault a sqlx error is.
pub(crate) fn fault(error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Fault::Connection,
        sqlx::Error::PoolTimedOut => Fault::Busy,
        sqlx::Error::Database(error) => {
            match fault_of_code(error.code().as_deref().unwrap_or_default()) {
                // Not the connection's if it lives on: a wrong number of parameters, or a third server that was not reached.
                Fault::Connection if lives_on(&**error) => Fault::Caller,
                fault => fault,
            }
        }
        _ => Fault::Caller,
    }
}

/// Whether the connection survives an error of the server's.
fn lives_on(error: &dyn DatabaseError) -> bool {
    error
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|error| error.severity() == PgSeverity::Error)
}

/// The same by SQLSTATE. A statement's own timeout or cancellation (57014) is the caller's; a standby ends a single
/// statement with 40001 or 40P01 only when replay needed what it was reading.
fn fault_of_code(code: &str) -> Fault {
    match code {
        "57P01" | "57P02" | "57P03" | "57P05" => Fault::Connection,
        "53300" => Fault::Busy,
        "25006" => Fault::ReadOnly,
        "40001" | "40P01" => Fault::Conflict,
        _ if code.starts_with("08") => Fault::Connection,
        _ => Fault::Caller,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_was_sent_is_never_repeated_unless_the_caller_allows_it() {
        for left in 0..3 {
            assert_eq!(
                after(Fault::Connection, Phase::Sent, Repeat::Never, left, true),
                Next::Unknown
            );
        }
        assert_eq!(after(Fault::Connection, Phase::Sent, Repeat::Idempotent, 1, true), Next::Again);
        assert_eq!(
            after(Fault::Connection, Phase::Sent, Repeat::Idempotent, 0, true),
            Next::Unknown
        );
    }

    #[test]
    fn what_was_never_sent_may_be_tried_elsewhere() {
        for repeat in [Repeat::Read, Repeat::Never, Repeat::Idempotent] {
            assert_eq!(after(Fault::Connection, Phase::Acquiring, repeat, 1, true), Next::Again);
            assert_eq!(after(Fault::Connection, Phase::Acquiring, repeat, 0, true), Next::Lost);
            assert_eq!(after(Fault::Busy, Phase::Acquiring, repeat, 0, true), Next::Busy);
        }
    }

    #[test]
    fn a_read_is_repeated_until_something_was_handed_on() {
        assert_eq!(after(Fault::Connection, Phase::Sent, Repeat::Read, 1, false), Next::Again);
        assert_eq!(after(Fault::Connection, Phase::Sent, Repeat::Read, 0, false), Next::Lost);
        assert_eq!(after(Fault::Connection, Phase::Yielded, Repeat::Read, 9, false), Next::Lost);
        assert_eq!(after(Fault::Conflict, Phase::Sent, Repeat::Read, 1, false), Next::Again);
        assert_eq!(after(Fault::Conflict, Phase::Sent, Repeat::Read, 1, true), Next::Hand);
        assert_eq!(after(Fault::Conflict, Phase::Yielded, Repeat::Read, 1, false), Next::Hand);
    }

    #[test]
    fn a_supposed_read_that_a_reader_refuses_goes_to_the_writer() {
        assert_eq!(after(Fault::ReadOnly, Phase::Sent, Repeat::Read, 0, false), Next::OnWriter);
        assert_eq!(after(Fault::ReadOnly, Phase::Sent, Repeat::Never, 2, true), Next::Again);
        assert_eq!(after(Fault::ReadOnly, Phase::Sent, Repeat::Never, 0, true), Next::Refused);
        assert_eq!(after(Fault::ReadOnly, Phase::Yielded, Repeat::Read, 1, false), Next::Hand);
    }

    #[test]
    fn the_callers_own_errors_are_handed_on_at_once() {
        assert_eq!(after(Fault::Caller, Phase::Sent, Repeat::Read, 9, false), Next::Hand);
        for code in ["23505", "42601", "57014", "22012", "40002", ""] {
            assert_eq!(fault_of_code(code), Fault::Caller, "{code}");
        }
        for code in ["08006", "57P01", "57P03"] {
            assert_eq!(fault_of_code(code), Fault::Connection, "{code}");
        }
        assert_eq!(fault(&sqlx::Error::RowNotFound), Fault::Caller);
        assert_eq!(fault(&sqlx::Error::PoolTimedOut), Fault::Busy);
    }
}
