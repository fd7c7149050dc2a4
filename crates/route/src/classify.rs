//! SQL → read, write or session-bound, without a parser.
//!
//! A single pass over the text, no allocation, no I/O. It errs one way only: a statement is [`Kind::Read`] when that is
//! proven from its words and from what is known of the functions it calls, and everything else belongs to the writer.
//! PostgreSQL's own grammar is the judge of this in the tests (`crates/route/oracle`).
//!
//! ```
//! use herdsman::classify::{Functions, Kind, classify};
//!
//! let functions = Functions::builtin();
//! assert_eq!(classify("SELECT name FROM sheep WHERE id = $1", &functions).kind, Kind::Read);
//! assert_eq!(classify("SELECT name FROM sheep FOR UPDATE", &functions).kind, Kind::Write);
//! assert_eq!(classify("SET search_path TO farm", &functions).kind, Kind::Session);
//! ```
//!
//! # Hints
//!
//! A comment `/* herdsman: writer */` or `/* herdsman: reader */` (any case, blanks as you like, anywhere outside strings)
//! overrules the classifier. `writer` sends any statement to the writer and wins over `reader`. `reader` vouches for the
//! functions a statement calls: it lifts [`Why::UnknownFunction`] and [`Why::VolatileFunction`] and nothing else, so a
//! statement with `INSERT`, `FOR UPDATE` or `nextval` stays with the writer. `/* herdsman: target=NAME */` names a node to
//! whoever asks with [`hint`], as the gateway does; `target=writer` and `target=reader` are also heard as above.
//!
//! # What no text can tell
//!
//! A view, an operator, a row-level policy or `row.function` notation may call a volatile function that the text does not
//! name. On a standby such a statement fails with `25006` (read-only transaction) and changes nothing; tell
//! [`Classifier::learn_write`] and run it on the writer.

mod classifier;
mod functions;
mod scan;
mod shape;
mod statement;
mod tokens;

use std::fmt;

pub use classifier::Classifier;
pub use functions::{CATALOGUE_SQL, Functions};
pub use tokens::{Hint, Token, TokenKind, Tokens, hint};

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

/// Where a statement may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Changes nothing: any node that is fresh enough will do.
    Read,
    /// May change data, or was not proven not to: the writer.
    Write,
    /// Makes or uses state of one server session (`SET`, `LISTEN`, cursors, temporary tables, session advisory locks):
    /// the writer, and it only makes sense on a connection that the caller holds on to.
    Session,
}

/// What a statement is, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Class {
    /// Where it may run.
    pub kind: Kind,
    /// The first reason found.
    pub why: Why,
}

impl Class {
    /// Whether a reader may run it.
    #[must_use]
    pub fn is_read(self) -> bool {
        self.kind == Kind::Read
    }

    fn read(why: Why) -> Self {
        Self { kind: Kind::Read, why }
    }

    fn write(why: Why) -> Self {
        Self { kind: Kind::Write, why }
    }

    fn session(why: Why) -> Self {
        Self { kind: Kind::Session, why }
    }
}

/// Why a statement was classified as it was; `Display` gives a short reason for logs and traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Why {
    /// One statement that only reads.
    PlainRead,
    /// `EXPLAIN` without `ANALYZE`: nothing is executed.
    OnlyExplained,
    /// The statement says `/* herdsman: reader */` and nothing contradicts it.
    ReaderHint,
    /// The statement says `/* herdsman: writer */`.
    WriterHint,
    /// There is no statement in the text.
    Empty,
    /// More than one statement in one text.
    SeveralStatements,
    /// The text cannot be read with certainty: unterminated, unbalanced, or dependent on server settings.
    Unclear,
    /// A data-changing word: `INSERT`, `UPDATE`, `DELETE` or `MERGE`.
    Changes(&'static str),
    /// `INTO`: the result becomes a table.
    Into,
    /// `FOR UPDATE`, `FOR SHARE` and their weaker forms.
    LocksRows,
    /// A statement that is neither a query, `SHOW` nor `EXPLAIN`: DDL, `COPY`, `CALL`, `DO` …
    OtherStatement,
    /// A statement about the session itself: `SET`, `BEGIN`, `LISTEN`, `PREPARE`, `DECLARE` …
    SessionStatement,
    /// A temporary table or schema, which only one session can see.
    Temporary,
    /// Calls a built-in function with a lasting effect, or one whose answer belongs to one session or to the primary.
    Calls(&'static str),
    /// Calls a function that the catalogue says is volatile.
    VolatileFunction,
    /// Calls a function of which nothing is known.
    UnknownFunction,
    /// A reader refused this text in a read-only transaction before.
    RefusedBefore,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PlainRead => "only reads",
            Self::OnlyExplained => "is explained, not executed",
            Self::ReaderHint => "is marked for a reader",
            Self::WriterHint => "is marked for the writer",
            Self::Empty => "is empty",
            Self::SeveralStatements => "is more than one statement",
            Self::Unclear => "cannot be read with certainty",
            Self::Changes(word) => return write!(f, "contains {word}"),
            Self::Into => "contains INTO",
            Self::LocksRows => "locks rows",
            Self::OtherStatement => "is not a query",
            Self::SessionStatement => "is about the session itself",
            Self::Temporary => "uses a temporary table or schema",
            Self::Calls(name) => {
                return write!(f, "calls {name}, which belongs to the writer or the session");
            }
            Self::VolatileFunction => "calls a volatile function",
            Self::UnknownFunction => "calls a function of which nothing is known",
            Self::RefusedBefore => "was refused by a reader before",
        })
    }
}

/// Classifies one text, with what is known of `functions`. Pure; see the [module](self) for the rules.
#[must_use]
pub fn classify(sql: &str, functions: &Functions) -> Class {
    statement::judge(sql, functions)
}
