//! Which Rust types a column's value can be read as. Lossless is the rule: a value that the type asked for cannot hold
//! exactly is an error, and no error shows the value.
//!
//! | PostgreSQL | Rust |
//! |---|---|
//! | `bool` | `bool` |
//! | `int2`, `int4`, `int8`, `oid`, `xid`, whole `numeric` | `i16` `i32` `i64` `i128` `u32` `u64` |
//! | `float4`, `float8`, small integers | `f32` `f64`, with NaN and infinity |
//! | `numeric` | [`Numeric`]: all digits |
//! | `timestamptz`, `timestamp` (as UTC) | [`Timestamp`](crate::Timestamp), `SystemTime` |
//! | `bytea` | `Vec<u8>` |
//! | `json`, `jsonb` | [`serde_json::Value`] |
//! | arrays of these | `Vec<T>`, `Vec<Vec<T>>`; `Vec<Option<T>>` where an element may be NULL |
//! | anything | `String`: PostgreSQL's text form |
//!
//! Domains are read as what they are made of. A type that is not built in is read as whatever its text can be read as.

mod array;
mod json;
mod numeric;
mod timestamp;

pub use numeric::{InvalidNumeric, Numeric};

use std::fmt::Write as _;

use crate::{Column, FromField};

pub(crate) use numeric::exact;
pub(crate) use timestamp::Moment;

/// Refuses a built-in type that is not among these; others are tried.
fn only(column: &Column, accepted: &[&str], advice: &str) -> Result<(), String> {
    let found = column.data_type.underlying();
    if &*found.schema != "pg_catalog" || accepted.contains(&&*found.name) {
        return Ok(());
    }
    let mut problem = format!("only {} can", accepted.join(", "));
    if !advice.is_empty() {
        // Writing to a string does not fail.
        _ = write!(problem, "; {advice}");
    }
    Err(problem)
}

impl FromField for bool {
    const NAME: &'static str = "bool";

    fn from_text(text: &str, column: &Column) -> Result<Self, String> {
        only(column, &["bool"], "")?;
        match text {
            "t" => Ok(true),
            "f" => Ok(false),
            _ => Err("it is neither `t` nor `f`".to_owned()),
        }
    }
}

const WHOLE: [&str; 7] = ["int2", "int4", "int8", "oid", "xid", "xid8", "numeric"];

/// The digits of a whole number; a `numeric`'s fraction may be all zeros.
fn whole(text: &str) -> Result<&str, String> {
    match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => Ok(whole),
        Some(_) => Err("it has a fraction; read it as Numeric".to_owned()),
        None => Ok(text),
    }
}

macro_rules! integers {
    ($($name:ident),*) => {$(
        impl FromField for $name {
            const NAME: &'static str = stringify!($name);

            fn from_text(text: &str, column: &Column) -> Result<Self, String> {
                use std::num::IntErrorKind::{NegOverflow, PosOverflow};
                only(column, &WHOLE, "")?;
                whole(text)?.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
                    PosOverflow | NegOverflow => {
                        format!("it is outside {}..={}", Self::MIN, Self::MAX)
                    }
                    _ if Self::MIN == 0 && text.starts_with('-') => "it is negative".to_owned(),
                    _ => "it is not a whole number".to_owned(),
                })
            }
        }
    )*};
}

integers!(i16, i32, i64, i128, u32, u64);

impl FromField for f32 {
    const NAME: &'static str = "f32";

    fn from_text(text: &str, column: &Column) -> Result<Self, String> {
        only(column, &["float4", "int2"], "read it as f64, or as Numeric")?;
        text.parse().map_err(|_| "it is not a number".to_owned())
    }
}

impl FromField for f64 {
    const NAME: &'static str = "f64";

    fn from_text(text: &str, column: &Column) -> Result<Self, String> {
        only(column, &["float4", "float8", "int2", "int4"], "read it as Numeric")?;
        let wrong = |_| "it is not a number".to_owned();
        if &*column.data_type.underlying().name == "float4" {
            // The shortest text that tells a float4 from its neighbours names another float8.
            return text.parse::<f32>().map(Self::from).map_err(wrong);
        }
        text.parse().map_err(wrong)
    }
}

impl FromField for String {
    const NAME: &'static str = "String";

    fn from_text(text: &str, _: &Column) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl FromField for Vec<u8> {
    const NAME: &'static str = "Vec<u8>";

    fn from_text(text: &str, column: &Column) -> Result<Self, String> {
        only(column, &["bytea"], "read it as String")?;
        match text.strip_prefix("\\x") {
            Some(digits) => from_hex(digits.as_bytes()),
            None => from_escapes(text.as_bytes()),
        }
    }
}

fn from_hex(digits: &[u8]) -> Result<Vec<u8>, String> {
    let digit = |letter: u8| {
        let value = char::from(letter).to_digit(16).and_then(|value| u8::try_from(value).ok());
        value.ok_or_else(|| "it holds what is no hexadecimal digit".to_owned())
    };
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("it has an odd number of hexadecimal digits".to_owned());
    }
    pairs.iter().map(|[high, low]| Ok(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// The form under `bytea_output = escape`: `\\` for a backslash and `\ooo` for what cannot be printed.
fn from_escapes(mut text: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    while let [first, rest @ ..] = text {
        text = match (first, rest) {
            (b'\\', [b'\\', rest @ ..]) => {
                bytes.push(b'\\');
                rest
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest
            }
            (b'\\', _) => return Err("it holds an escape that bytea does not have".to_owned()),
            (plain, rest) => {
                bytes.push(*plain);
                rest
            }
        };
    }
    Ok(bytes)
}

impl<T: FromField> FromField for Option<T> {
    const NAME: &'static str = T::NAME;
    const LIST: bool = T::LIST;

    fn from_text(text: &str, column: &Column) -> Result<Self, String> {
        T::from_text(text, column).map(Some)
    }

    fn from_null() -> Option<Self> {
        Some(None)
    }
}

#[cfg(test)]
mod tests;
