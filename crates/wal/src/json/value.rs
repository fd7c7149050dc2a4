//! One value.

use crate::Column;
use crate::decode::Field;
use crate::json::bytes;

/// What the shapes do differently.
#[derive(Clone, Copy)]
pub(super) struct Style {
    /// `numeric` as a number, not a string.
    pub(super) decimals: bool,
    /// `json` and `jsonb` inline, not as a string.
    pub(super) json: bool,
    /// `bytea` with its `\x`.
    pub(super) bytea_prefix: bool,
    /// What stands for a value that was not sent; empty where it is left out.
    pub(super) unavailable: &'static str,
}

impl Style {
    pub(super) const HERDSMAN: Self =
        Self { decimals: true, json: true, bytea_prefix: true, unavailable: "" };
    pub(super) const DEBEZIUM: Self = Self {
        decimals: false,
        json: false,
        bytea_prefix: true,
        unavailable: "__debezium_unavailable_value",
    };
    pub(super) const WAL2JSON: Self =
        Self { decimals: true, json: false, bytea_prefix: false, unavailable: "" };
}

/// Numbers of the built-in types that are more than a string in JSON (`pg_type.dat`).
mod oid {
    pub(super) const BOOL: u32 = 16;
    pub(super) const BYTEA: u32 = 17;
    pub(super) const INT8: u32 = 20;
    pub(super) const INT2: u32 = 21;
    pub(super) const INT4: u32 = 23;
    pub(super) const OID: u32 = 26;
    pub(super) const JSON: u32 = 114;
    pub(super) const FLOAT4: u32 = 700;
    pub(super) const FLOAT8: u32 = 701;
    pub(super) const NUMERIC: u32 = 1700;
    pub(super) const JSONB: u32 = 3802;
}

pub(super) fn write(column: &Column, field: Field<'_>, style: Style, out: &mut Vec<u8>) {
    let text = match field {
        Field::Null => return out.extend_from_slice(b"null"),
        Field::Unchanged => return bytes::string(style.unavailable.as_bytes(), out),
        Field::Binary(value) => {
            out.push(b'"');
            if style.bytea_prefix {
                out.extend_from_slice(b"\\\\x");
            }
            bytes::hex(value, out);
            return out.push(b'"');
        }
        Field::Text(text) => text,
    };
    match column.data_type.underlying().oid {
        oid::INT2 | oid::INT4 | oid::INT8 | oid::OID | oid::FLOAT4 | oid::FLOAT8
            if is_number(text) =>
        {
            out.extend_from_slice(text);
        }
        oid::NUMERIC if style.decimals && is_number(text) => out.extend_from_slice(text),
        oid::BOOL if text == b"t" => out.extend_from_slice(b"true"),
        oid::BOOL if text == b"f" => out.extend_from_slice(b"false"),
        oid::JSON | oid::JSONB if style.json && looks_like_json(text) => inline(text, out),
        oid::BYTEA if !style.bytea_prefix => {
            bytes::string(text.strip_prefix(b"\\x").unwrap_or(text), out);
        }
        _ => bytes::string(text, out),
    }
}

/// Whether this is a number by JSON's grammar: no NaN, no leading zeros, digits on both sides of the point.
fn is_number(text: &[u8]) -> bool {
    fn digits(text: &[u8]) -> (&[u8], &[u8]) {
        let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
        text.split_at_checked(end).unwrap_or_default()
    }
    let (whole, rest) = digits(text.strip_prefix(b"-").unwrap_or(text));
    if whole.is_empty() || (whole.len() > 1 && whole.starts_with(b"0")) {
        return false;
    }
    let rest = match rest {
        [b'.', rest @ ..] => match digits(rest) {
            ([], _) => return false,
            (_, rest) => rest,
        },
        _ => rest,
    };
    match rest {
        [] => true,
        [b'e' | b'E', b'+' | b'-', rest @ ..] | [b'e' | b'E', rest @ ..] => {
            let (exponent, rest) = digits(rest);
            !exponent.is_empty() && rest.is_empty()
        }
        _ => false,
    }
}

/// The server has checked its JSON; this keeps out what a mask has put in its place.
fn looks_like_json(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    match (text.first(), text.last()) {
        (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')) => true,
        (Some(b'"'), Some(b'"')) => text.len() > 1,
        _ => matches!(text, b"true" | b"false" | b"null") || is_number(text),
    }
}

/// As it is, but on one line: between values, where `json` keeps them, line breaks mean nothing, and within strings they
/// are always escaped.
fn inline(text: &[u8], out: &mut Vec<u8>) {
    if std::str::from_utf8(text).is_err() {
        return bytes::string(text, out);
    }
    let from = out.len();
    out.extend_from_slice(text);
    if let Some(written) = out.get_mut(from..) {
        written.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|b| *b = b' ');
    }
}
