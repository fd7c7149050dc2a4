//! What an error of the target means for the batch.

use herdsman_node::describe;
use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use crate::sink::SinkError;

/// What an error of the target means.
#[derive(Debug)]
pub(super) enum Fault {
    /// A row will never be taken as it is. The text shows nothing of it.
    Data(String),
    /// A table may look another way than it did when the statement was made.
    Structure(String),
    /// The target cannot take anything now.
    Unavailable {
        /// What it said.
        problem: String,
        /// What to do.
        advice: &'static str,
        /// Whether the connection is of no more use.
        reopen: bool,
    },
}

impl Fault {
    /// Sorts an error by what the server calls it.
    pub(super) fn of(error: &Error) -> Self {
        let Some(db) = error.as_db_error() else {
            // The driver refused to encode a parameter: nothing was sent.
            if !error.is_closed() && error.to_string().starts_with("error serializing parameter") {
                return Self::Data("a value cannot be sent as a parameter".to_owned());
            }
            return Self::lost(describe(error));
        };
        let code = db.code().code();
        match code {
            "42501" => Self::Unavailable {
                problem: describe(error),
                advice: "grant the sink's role what it lacks there",
                reopen: true,
            },
            "25006" => Self::Unavailable {
                problem: describe(error),
                advice: "point the sink at the primary: this server takes no writes",
                reopen: true,
            },
            "57014" => Self::Unavailable {
                problem: describe(error),
                advice: "look for who holds a lock there, or raise the sink's `statement_timeout`",
                reopen: true,
            },
            _ => match code.get(..2).unwrap_or_default() {
                "42" => Self::Structure(without_values(db)),
                // Not supported, cardinality, data, integrity, check option, limits of the program, raised by a trigger.
                "0A" | "21" | "22" | "23" | "44" | "54" | "P0" => Self::Data(without_values(db)),
                _ => Self::lost(describe(error)),
            },
        }
    }

    /// The connection, or the server's patience, is gone.
    pub(super) fn lost(problem: String) -> Self {
        Self::Unavailable { problem, advice: "it will be tried again", reopen: true }
    }

    /// The server broke the transaction off because of an earlier statement: not the reason itself.
    pub(super) fn is_aftermath(error: &Error) -> bool {
        error.code().is_some_and(|code| code.code() == "25P02")
    }

    /// As an error of the sink.
    pub(super) fn into_sink_error(self, target: &str) -> SinkError {
        match self {
            Self::Data(problem) | Self::Structure(problem) => sink_error(
                target,
                "deliver to",
                problem,
                "compare the table there with the source's",
                true,
            ),
            Self::Unavailable { problem, advice, reopen } => {
                sink_error(target, "deliver to", problem, advice, reopen)
            }
        }
    }
}

/// An error of the sink at `target`.
pub(super) fn sink_error(
    target: &str,
    what: &'static str,
    problem: String,
    advice: &'static str,
    reopen: bool,
) -> SinkError {
    SinkError { what, target: target.to_owned(), problem, advice, reopen }
}

/// What the server said, without the values that its message may quote: names and the kind of error only.
fn without_values(db: &DbError) -> String {
    let code = db.code().code();
    let words = match code {
        "22001" => "a value is too long for its column",
        "22003" => "a number is out of its column's range",
        "22007" | "22008" => "a date or time is not valid there",
        "22021" | "22P05" => "a value cannot be written in the target's encoding",
        "22P02" => "a value is not valid for its column's type",
        "23502" => "a column must not be NULL",
        "23503" => "a row that it refers to is missing",
        "23505" => "another row has the same unique value",
        "23514" => "a check constraint does not hold",
        "P0001" => "a trigger raised an error",
        // Messages of this class name tables, columns and types, not values.
        _ if code.starts_with("42") || code.starts_with("0A") => db.message(),
        _ if code.starts_with("22") => "a value is not valid there",
        _ if code.starts_with("23") => "a constraint does not hold",
        _ => "the server does not take the row",
    };
    let mut text = words.to_owned();
    for (what, name) in
        [("table", db.table()), ("column", db.column()), ("constraint", db.constraint())]
    {
        if let Some(name) = name {
            text.push_str(&format!(", {what} `{name}`"));
        }
    }
    format!("{text} (SQLSTATE {code})")
}
