//! A value in text: how it is handed to engines and read from them.

use super::{Decimal, Kind, Unfit, Value, calendar};
use crate::identity::{hex_of, unhex};

impl Value {
    /// In the form that every engine reads: PostgreSQL's, with bytes in hexadecimal digits and moments in UTC. `None` for
    /// null.
    #[must_use]
    pub fn to_text(&self) -> Option<String> {
        Some(match self {
            Self::Null => return None,
            Self::Bool(value) => value.to_string(),
            Self::Int(number) => number.to_string(),
            Self::Decimal(number) => number.to_string(),
            // The shortest that is read back as the same number.
            Self::Float(bits) => f64::from_bits(*bits).to_string(),
            Self::Text(text) | Self::Json(text) => text.clone(),
            Self::Bytes(bytes) => hex_of(bytes),
            Self::Date(days) => calendar::day_text(*days),
            Self::Timestamp(at) => calendar::moment_text(*at),
            Self::Uuid(bytes) => uuid_text(bytes),
        })
    }

    /// Reads what an engine gave as a column's text, in the forms of [`Value::to_text`].
    ///
    /// # Errors
    /// It is no value of the kind, or one that other engines cannot hold.
    pub fn of_text(kind: Kind, text: &str) -> Result<Self, Unfit> {
        let bad = || Unfit::new(format!("{text:?} is no {kind} that every engine can hold"));
        let value = match kind {
            Kind::Bool => match text {
                "true" | "t" | "1" => Self::Bool(true),
                "false" | "f" | "0" => Self::Bool(false),
                _ => return Err(bad()),
            },
            Kind::Int32 | Kind::Int64 => Self::Int(text.parse().map_err(|_| bad())?),
            Kind::Decimal { scale, .. } => Self::Decimal(Decimal::parse(text, scale)?),
            Kind::Float => Self::float(text.parse().map_err(|_| bad())?)?,
            Kind::Text { .. } => Self::text(text)?,
            Kind::Bytes { .. } => Self::Bytes(unhex(text).ok_or_else(bad)?),
            Kind::Date => Self::Date(calendar::parse_day(text).ok_or_else(bad)?),
            Kind::Timestamp => Self::Timestamp(calendar::parse_moment(text).ok_or_else(bad)?),
            Kind::Uuid => Self::Uuid(parse_uuid(text).ok_or_else(bad)?),
            Kind::Json => Self::json(text)?,
        };
        value.fits(kind).map(|()| value)
    }
}

fn uuid_text(bytes: &[u8; 16]) -> String {
    let digits = hex_of(bytes);
    let mut text = String::with_capacity(36);
    for (i, digit) in digits.chars().enumerate() {
        if matches!(i, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|digit| *digit != '-').collect();
    unhex(&digits)?.try_into().ok()
}
