//! Our shape.

use crate::decode::Field;
use crate::json::bytes::{self, Clock};
use crate::json::value::Style;
use crate::{Body, ChangeRef, Column, Relation, Row};

pub(super) fn write(change: &ChangeRef<'_>, typed: bool, out: &mut Vec<u8>) {
    let (commit_lsn, ordinal) = change.id();
    out.extend_from_slice(b"{\"id\":\"");
    bytes::lsn(commit_lsn, out);
    out.push(b'/');
    bytes::number(ordinal, out);
    out.extend_from_slice(b"\",\"kind\":\"");
    out.extend_from_slice(change.kind().name().as_bytes());
    out.push(b'"');
    if let Some(table) = change.table() {
        out.extend_from_slice(b",\"schema\":");
        bytes::string(table.schema.as_bytes(), out);
        out.extend_from_slice(b",\"table\":");
        bytes::string(table.name.as_bytes(), out);
    }
    body(change, out);
    envelope(change, out);
    if typed && let Some(table) = change.table() {
        types(table, out);
    }
    out.push(b'}');
}

fn body(change: &ChangeRef<'_>, out: &mut Vec<u8>) {
    match change.body {
        Body::Truncate { tables, cascade, restart_identity } => {
            out.extend_from_slice(b",\"tables\":");
            super::tables(tables, out);
            flag(b",\"cascade\":", cascade, out);
            flag(b",\"restart_identity\":", restart_identity, out);
        }
        Body::Schema { table, previous } => {
            out.extend_from_slice(b",\"columns\":");
            columns(table, out);
            out.extend_from_slice(b",\"previous\":");
            columns(previous, out);
        }
        Body::Message { prefix, content } => {
            out.extend_from_slice(b",\"prefix\":");
            bytes::string(prefix.as_bytes(), out);
            if std::str::from_utf8(content).is_ok() {
                out.extend_from_slice(b",\"content\":");
                bytes::string(content, out);
            } else {
                out.extend_from_slice(b",\"content_hex\":\"");
                bytes::hex(content, out);
                out.push(b'"');
            }
        }
        _ => rows(change, out),
    }
}

fn rows(change: &ChangeRef<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"key\":");
    if !change.key_row().is_some_and(|row| super::key(&row, out)) {
        out.extend_from_slice(b"null");
    }
    let new = change.new_row();
    row(b",\"old\":", change.old_row(), out);
    row(b",\"new\":", new, out);
    let mut unchanged = new.into_iter().flat_map(|new| new.iter());
    let mut unchanged = unchanged.by_ref().filter(|(_, field)| *field == Field::Unchanged);
    let Some((column, _)) = unchanged.next() else { return };
    out.extend_from_slice(b",\"unchanged\":[");
    bytes::string(column.name.as_bytes(), out);
    for (column, _) in unchanged {
        out.push(b',');
        bytes::string(column.name.as_bytes(), out);
    }
    out.push(b']');
}

fn row(name: &[u8], row: Option<Row<'_>>, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    match row {
        Some(row) => super::object(row.iter(), Style::HERDSMAN, out),
        None => out.extend_from_slice(b"null"),
    }
}

fn flag(name: &[u8], value: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Where the change comes from.
fn envelope(change: &ChangeRef<'_>, out: &mut Vec<u8>) {
    let (source, transaction) = (change.source, change.transaction);
    out.extend_from_slice(b",\"xid\":");
    bytes::number(transaction.xid.into(), out);
    out.extend_from_slice(b",\"commit_lsn\":\"");
    bytes::lsn(transaction.commit_lsn, out);
    out.extend_from_slice(b"\",\"lsn\":\"");
    bytes::lsn(change.lsn, out);
    out.extend_from_slice(b"\",\"ordinal\":");
    bytes::number(change.ordinal, out);
    out.extend_from_slice(b",\"commit_time\":\"");
    bytes::moment(transaction.commit_time, Clock::Rfc3339, out);
    out.extend_from_slice(b"\",\"origin\":");
    match &transaction.origin {
        Some(origin) => bytes::string(origin.as_bytes(), out),
        None => out.extend_from_slice(b"null"),
    }
    // A string: many readers of JSON keep no 64 bits.
    out.extend_from_slice(b",\"system_id\":\"");
    bytes::number(source.system_id.0, out);
    out.extend_from_slice(b"\",\"timeline\":");
    bytes::number(source.timeline.0.into(), out);
    out.extend_from_slice(b",\"slot\":");
    bytes::string(source.slot.as_bytes(), out);
}

fn types(table: &Relation, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"types\":{");
    let mut first = true;
    for column in &table.columns {
        bytes::comma(&mut first, out);
        bytes::name(&column.name, out);
        bytes::string(column.data_type.name.as_bytes(), out);
    }
    out.push(b'}');
}

/// What a table looks like.
pub(super) fn columns(table: &Relation, out: &mut Vec<u8>) {
    out.push(b'[');
    let mut first = true;
    for column in &table.columns {
        bytes::comma(&mut first, out);
        described(column, out);
    }
    out.push(b']');
}

fn described(column: &Column, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"name\":");
    bytes::string(column.name.as_bytes(), out);
    out.extend_from_slice(b",\"type\":");
    bytes::string(column.data_type.name.as_bytes(), out);
    out.extend_from_slice(b",\"type_modifier\":");
    bytes::signed(column.type_modifier.into(), out);
    flag(b",\"key\":", column.key, out);
    flag(b",\"primary\":", column.primary, out);
    out.push(b'}');
}
