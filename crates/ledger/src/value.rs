//! What a column holds, the same on every engine.
//!
//! Engines differ in what they can hold. A [`Value`] is what all of them hold and give back exactly: PostgreSQL's
//! `numeric` and `text`, MariaDB's `decimal` and `longtext` and SQLite's texts of digits are one value here, with one
//! encoding in bytes. What one engine holds and another does not (NaN, a NUL in a text, the year 12000) is refused at
//! the origin, before it is in the log.

mod calendar;
mod decimal;
pub(crate) mod encode;
mod json;
mod text;

use std::fmt;

use thiserror::Error;

pub use decimal::Decimal;

/// What a column holds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number, of columns of 32 and 64 bits alike.
    Int(i64),
    /// An exact number with its column's digits after the point.
    Decimal(Decimal),
    /// A finite number with 53 bits: its bits. There is no negative zero.
    Float(u64),
    /// Text without NUL, byte for byte.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Days after 1970-01-01; 1000-01-01 to 9999-12-31.
    Date(i32),
    /// Microseconds after 1970-01-01 00:00 UTC; in the same years.
    Timestamp(i64),
    /// A UUID.
    Uuid([u8; 16]),
    /// JSON in the one way of writing it.
    Json(String),
}

/// What kind of value a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `boolean`.
    Bool,
    /// `integer`: 32 bits.
    Int32,
    /// `bigint`: 64 bits.
    Int64,
    /// `numeric(precision, scale)`.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, at most `precision` and 30.
        scale: u8,
    },
    /// `double precision`.
    Float,
    /// `text`, or `varchar(max)` in characters.
    Text {
        /// The most characters.
        max: Option<u32>,
    },
    /// `bytea`.
    Bytes {
        /// The most bytes.
        max: Option<u32>,
    },
    /// `date`.
    Date,
    /// `timestamptz`, with microseconds.
    Timestamp,
    /// `uuid`.
    Uuid,
    /// `jsonb`.
    Json,
}

/// A value that not every engine can hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Unfit(pub String);

impl Unfit {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl Value {
    /// A finite number. Negative zero becomes zero: engines disagree on whether they are equal.
    ///
    /// # Errors
    /// Infinity or NaN, which MariaDB cannot hold.
    pub fn float(number: f64) -> Result<Self, Unfit> {
        if !number.is_finite() {
            return Err(Unfit::new(format!("{number} is not a number that every engine can hold")));
        }
        Ok(Self::Float(if number == 0.0 { 0 } else { number.to_bits() }))
    }

    /// A text.
    ///
    /// # Errors
    /// It has a NUL, which PostgreSQL cannot hold.
    pub fn text(text: impl Into<String>) -> Result<Self, Unfit> {
        let text = text.into();
        if text.contains('\0') {
            return Err(Unfit::new(
                "a text with a NUL character is not one that every engine can hold",
            ));
        }
        Ok(Self::Text(text))
    }

    /// JSON, brought into the one way of writing it: members in order, no blanks, numbers as short as can be.
    ///
    /// # Errors
    /// It is not JSON, has a NUL, or a number beyond 64 bits.
    pub fn json(text: &str) -> Result<Self, Unfit> {
        json::canonical(text).map(Self::Json)
    }

    /// Whether it is [`Value::Null`].
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether a column of this kind can hold it (null aside, on which the column decides).
    ///
    /// # Errors
    /// What does not fit.
    pub fn fits(&self, kind: Kind) -> Result<(), Unfit> {
        let fits = match (self, kind) {
            (Self::Null, _)
            | (Self::Bool(_), Kind::Bool)
            | (Self::Int(_), Kind::Int64)
            | (Self::Float(_), Kind::Float)
            | (Self::Uuid(_), Kind::Uuid)
            | (Self::Json(_), Kind::Json) => true,
            (Self::Int(number), Kind::Int32) => i32::try_from(*number).is_ok(),
            (Self::Decimal(number), Kind::Decimal { precision, scale }) => {
                number.scale == scale && number.digits() <= precision
            }
            (Self::Text(text), Kind::Text { max }) => max.is_none_or(|max| {
                text.chars().count() <= usize::try_from(max).unwrap_or(usize::MAX)
            }),
            (Self::Bytes(bytes), Kind::Bytes { max }) => {
                max.is_none_or(|max| bytes.len() <= usize::try_from(max).unwrap_or(usize::MAX))
            }
            (Self::Date(days), Kind::Date) => calendar::is_common_day(*days),
            (Self::Timestamp(at), Kind::Timestamp) => calendar::is_common_moment(*at),
            _ => false,
        };
        fits.then_some(()).ok_or_else(|| Unfit::new(format!("{self:?} does not fit {kind}")))
    }
}

impl fmt::Debug for Value {
    /// As one would read it, shortened.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 40;
        match self.to_text() {
            None => f.write_str("null"),
            Some(text) if text.chars().count() > MOST => {
                write!(f, "{}…", text.chars().take(MOST).collect::<String>())
            }
            Some(text) => f.write_str(&text),
        }
    }
}

impl fmt::Display for Kind {
    /// In PostgreSQL's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("boolean"),
            Self::Int32 => f.write_str("integer"),
            Self::Int64 => f.write_str("bigint"),
            Self::Decimal { precision, scale } => write!(f, "numeric({precision},{scale})"),
            Self::Float => f.write_str("double precision"),
            Self::Text { max: Some(max) } => write!(f, "varchar({max})"),
            Self::Text { max: None } => f.write_str("text"),
            Self::Bytes { max: Some(max) } => write!(f, "bytea({max})"),
            Self::Bytes { max: None } => f.write_str("bytea"),
            Self::Date => f.write_str("date"),
            Self::Timestamp => f.write_str("timestamptz"),
            Self::Uuid => f.write_str("uuid"),
            Self::Json => f.write_str("jsonb"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
