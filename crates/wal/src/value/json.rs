//! `json` and `jsonb` as values.

use serde_json::Value;

use super::exact;
use crate::{Column, FromField};

/// [`Value`] keeps integers of 64 bits and floating-point numbers of 17 digits; a document that holds a longer one is
/// refused rather than rounded.
impl FromField for Value {
    const NAME: &'static str = "serde_json::Value";

    fn from_text(text: &str, column: &Column) -> Result<Self, String> {
        super::only(column, &["json", "jsonb"], "read it as String")?;
        let long =
            || "a number in it has more digits than Value holds; read it as String".to_owned();
        let value = serde_json::from_str(text).map_err(|problem| match problem.classify() {
            // A number too large even for the exponent.
            _ if problem.to_string().contains("out of range") => long(),
            // Line and column, not the content.
            _ => format!("line {} column {} is no JSON", problem.line(), problem.column()),
        })?;
        if numbers(text).all(kept) { Ok(value) } else { Err(long()) }
    }
}

/// Whether a number survives being parsed.
fn kept(number: &str) -> bool {
    // Fifteen digits always do, as long as the exponent does; and so do 64-bit integers.
    let small = number.len() <= 15 && !number.contains(['e', 'E']);
    small
        || number.parse::<i64>().is_ok()
        || number.parse::<u64>().is_ok()
        || number.parse().is_ok_and(|close| exact(number, close))
}

/// The numbers in a valid document.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let start = rest
                .find(|letter: char| letter == '"' || letter == '-' || letter.is_ascii_digit())?;
            let found = rest.get(start..)?;
            if let Some(inner) = found.strip_prefix('"') {
                rest = inner.get(string_end(inner.as_bytes())..)?;
                continue;
            }
            let end = found
                .find(|letter: char| !matches!(letter, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'));
            let (number, behind) = found.split_at_checked(end.unwrap_or(found.len()))?;
            rest = behind;
            return Some(number);
        }
    })
}

/// Bytes of a string up to and with its closing quote.
fn string_end(text: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().position(|&byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 1)
}
