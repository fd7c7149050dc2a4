//! Changes as JSON: one object each, without a line break in it, written straight into bytes.
//!
//! What all shapes have in common:
//! - NULL is `null`. A large value that was not touched and therefore not sent is never `null`: each shape says below
//!   what it is instead.
//! - Digits are copied, never calculated with. `int2`, `int4`, `int8`, `oid`, `float4` and `float8` are numbers;
//!   `bool` is `true` or `false`; NaN and the infinities, which JSON does not have, are the strings `"NaN"`,
//!   `"Infinity"` and `"-Infinity"`.
//! - What has no JSON form of its own is a string: PostgreSQL's text, with `bytea` as `\x…` and timestamps in ISO form.
//! - A value that is not what its type says, as after masking, is a string.
//! - Bytes that are not UTF-8 (only a database in `SQL_ASCII` has them) become U+FFFD: JSON has no way to hold them.
//!
//! # [`Shape::Herdsman`]
//! ```json
//! {"id":"0/1B2C3D8/0","kind":"update","schema":"public","table":"users","key":{"id":7},
//!  "old":{"id":7,"name":"Ada"},"new":{"id":7,"name":"Grace"},"unchanged":["portrait"],
//!  "xid":745,"commit_lsn":"0/1B2C3D8","lsn":"0/1B2C310","ordinal":0,
//!  "commit_time":"2026-01-02T03:04:05.678901Z","origin":null,
//!  "system_id":"7431982345678901234","timeline":1,"slot":"herdsman"}
//! ```
//! - `kind`: `insert`, `update`, `delete`, `read` (a row as a snapshot found it), `truncate`, `schema`, `message`.
//! - `id` is the same each time the change is sent; for a `read` only within one snapshot.
//! - `key`: the primary key, else the replica identity; `null` for a table with neither. `old`: what the replica
//!   identity tells, `null` where it tells nothing. `new`: `null` for a delete. `unchanged` is there where a value was
//!   not sent, and lists what `new` leaves out for that reason.
//! - `numeric` is a number with all its digits, which a reader may round; `json` and `jsonb` are inline.
//! - A `truncate` has `tables` (`[{"schema":…,"table":…}]`), `cascade` and `restart_identity`; a `schema` has `columns` and
//!   `previous`; a `message` has `prefix` and `content`, or `content_hex` where that is not UTF-8.
//! - [`Shape::HerdsmanTyped`] adds `"types":{"id":"int8",…}`.
//!
//! # [`Shape::Debezium`]
//! `{"before","after","source","op","ts_ms","transaction"}` without the schema part. `op` is `c`, `u`, `d`, `r`, `t` or
//! `m`, and `s` for a table that changed its look, which Debezium does not have. `numeric` is a string, as with
//! `decimal.handling.mode=string`; `json` is a string; an untouched large value is `"__debezium_unavailable_value"`;
//! `ts_ms` is the time of the commit; `before` holds only what the replica identity tells. A change of the key is one
//! `u`, and a truncate of several tables one `t` with `source.tables`.
//!
//! # [`Shape::Wal2json`]
//! Format version 2 with `include-xids`, `include-timestamp` and `include-lsn`:
//! `{"action","xid","timestamp","lsn","schema","table","columns":[{"name","type","value"}],"identity":[…]}`. As there,
//! `json` is a string, `bytea` is hex without `\x`, and an untouched large value is left out. Unlike there, NaN and the
//! infinities are strings rather than `null`, and a truncate of several tables is one `T` with `tables`.

mod bytes;
mod debezium;
mod herdsman;
mod type_name;
mod value;
mod wal2json;

use serde::{Deserialize, Serialize, Serializer};

use crate::decode::Field;
use crate::{Change, ChangeRef, Column, Row};
use value::Style;

/// Which shape the JSON has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Ours.
    #[default]
    Herdsman,
    /// Ours, with the types of the columns.
    HerdsmanTyped,
    /// Debezium's envelope.
    Debezium,
    /// That of wal2json, format version 2.
    Wal2json,
}

/// Appends a change as one JSON object, without a line break in or behind it. Allocates nothing but what `out` has to
/// grow.
pub fn write(shape: Shape, change: &ChangeRef<'_>, out: &mut Vec<u8>) {
    match shape {
        Shape::Herdsman => herdsman::write(change, false, out),
        Shape::HerdsmanTyped => herdsman::write(change, true, out),
        Shape::Debezium => debezium::write(change, out),
        Shape::Wal2json => wal2json::write(change, out),
    }
}

/// Appends the key of a row as a JSON object, columns in the table's order: the same bytes for the same key. Writes
/// nothing and returns `false` where the table has neither primary key nor replica identity.
pub fn key(row: &Row<'_>, out: &mut Vec<u8>) -> bool {
    let mut columns = row.key().peekable();
    if columns.peek().is_none() {
        return false;
    }
    object(columns, Style::HERDSMAN, out);
    true
}

/// A name for a change that is the same each time it is sent, and that no other change has: `<system
/// id>-<commit LSN>-<ordinal>`. What was applied under it need not be applied again. The rows of a snapshot have one
/// that is theirs only within that snapshot.
#[must_use]
pub fn idempotency_key(change: &ChangeRef<'_>) -> String {
    let (commit_lsn, ordinal) = change.id();
    format!("{}-{commit_lsn}-{ordinal}", change.source.system_id)
}

/// The columns and values as an object; what was not sent is left out.
fn object<'a>(
    fields: impl Iterator<Item = (&'a Column, Field<'a>)>,
    style: Style,
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    let mut first = true;
    for (column, field) in fields {
        if matches!(field, Field::Unchanged) && style.unavailable.is_empty() {
            continue;
        }
        bytes::comma(&mut first, out);
        bytes::name(&column.name, out);
        value::write(column, field, style, out);
    }
    out.push(b'}');
}

/// The names of several tables.
fn tables(tables: &[std::sync::Arc<crate::Relation>], out: &mut Vec<u8>) {
    out.push(b'[');
    let mut first = true;
    for table in tables {
        bytes::comma(&mut first, out);
        out.extend_from_slice(b"{\"schema\":");
        bytes::string(table.schema.as_bytes(), out);
        out.extend_from_slice(b",\"table\":");
        bytes::string(table.name.as_bytes(), out);
        out.push(b'}');
    }
    out.push(b']');
}

/// In our shape. Numbers keep their digits only in JSON: other formats get what `serde_json` makes of them.
impl Serialize for ChangeRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        let mut out = Vec::new();
        write(Shape::Herdsman, self, &mut out);
        let text = String::from_utf8(out).map_err(S::Error::custom)?;
        let raw = serde_json::value::RawValue::from_string(text).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// In our shape, as for [`ChangeRef`].
impl Serialize for Change {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.view().serialize(serializer)
    }
}

#[cfg(test)]
mod tests;
