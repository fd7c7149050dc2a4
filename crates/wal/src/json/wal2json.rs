//! The shape of wal2json, format version 2.

use crate::decode::Field;
use crate::json::bytes::{self, Clock};
use crate::json::type_name;
use crate::json::value::{self, Style};
use crate::{Body, ChangeRef, Column};

pub(super) fn write(change: &ChangeRef<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"action\":\"");
    out.push(match change.body {
        Body::Insert { .. } | Body::Read { .. } => b'I',
        Body::Update { .. } => b'U',
        Body::Delete { .. } => b'D',
        Body::Truncate { .. } => b'T',
        Body::Schema { .. } => b'S',
        Body::Message { .. } => b'M',
    });
    out.extend_from_slice(b"\",\"xid\":");
    bytes::number(change.transaction.xid.into(), out);
    out.extend_from_slice(b",\"timestamp\":\"");
    bytes::moment(change.transaction.commit_time, Clock::Postgres, out);
    out.extend_from_slice(b"\",\"lsn\":\"");
    bytes::lsn(change.lsn, out);
    out.push(b'"');
    if let Some(table) = change.table() {
        out.extend_from_slice(b",\"schema\":");
        bytes::string(table.schema.as_bytes(), out);
        out.extend_from_slice(b",\"table\":");
        bytes::string(table.name.as_bytes(), out);
    }
    match change.body {
        Body::Truncate { tables, .. } if tables.len() != 1 => {
            out.extend_from_slice(b",\"tables\":");
            super::tables(tables, out);
        }
        Body::Schema { table, .. } => {
            let columns = table.columns.iter().map(|column| (column, None));
            list(b",\"columns\":", columns, out);
        }
        Body::Message { prefix, content } => {
            out.extend_from_slice(b",\"transactional\":true,\"prefix\":");
            bytes::string(prefix.as_bytes(), out);
            out.extend_from_slice(b",\"content\":");
            bytes::string(content, out);
        }
        _ => rows(change, out),
    }
    out.push(b'}');
}

fn rows(change: &ChangeRef<'_>, out: &mut Vec<u8>) {
    let told = |(column, field)| (field != Field::Unchanged).then_some((column, Some(field)));
    if let Some(new) = change.new_row() {
        list(b",\"columns\":", new.iter().filter_map(told), out);
    }
    let name = b",\"identity\":";
    match (change.body, change.old_row()) {
        (_, Some(old)) => list(name, old.iter().filter_map(told), out),
        // The key has not changed, and is what it was.
        (Body::Update { .. }, None) => {
            let key = change.key_row();
            list(name, key.iter().flat_map(crate::Row::key).filter_map(told), out);
        }
        _ => {}
    }
}

fn list<'a>(
    name: &[u8],
    columns: impl Iterator<Item = (&'a Column, Option<Field<'a>>)>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(name);
    out.push(b'[');
    let mut first = true;
    for (column, field) in columns {
        bytes::comma(&mut first, out);
        out.extend_from_slice(b"{\"name\":");
        bytes::string(column.name.as_bytes(), out);
        out.extend_from_slice(b",\"type\":\"");
        type_name::write(&column.data_type, column.type_modifier, out);
        out.push(b'"');
        if let Some(field) = field {
            out.extend_from_slice(b",\"value\":");
            value::write(column, field, Style::WAL2JSON, out);
        }
        out.push(b'}');
    }
    out.push(b']');
}
