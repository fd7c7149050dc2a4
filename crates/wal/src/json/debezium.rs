//! Debezium's envelope.

use crate::json::bytes;
use crate::json::herdsman;
use crate::json::value::Style;
use crate::{Body, ChangeRef, Kind, Row};

pub(super) fn write(change: &ChangeRef<'_>, out: &mut Vec<u8>) {
    let (op, rest): (u8, _) = match change.body {
        Body::Insert { .. } => (b'c', true),
        Body::Update { .. } => (b'u', true),
        Body::Delete { .. } => (b'd', true),
        Body::Read { .. } => (b'r', true),
        Body::Truncate { .. } => (b't', true),
        Body::Schema { .. } => (b's', true),
        Body::Message { .. } => (b'm', false),
    };
    out.push(b'{');
    if rest {
        row(b"\"before\":", change.old_row(), out);
        row(b",\"after\":", change.new_row(), out);
        out.push(b',');
    }
    source(change, out);
    out.extend_from_slice(b",\"op\":\"");
    out.push(op);
    out.extend_from_slice(b"\",\"ts_ms\":");
    bytes::signed(change.transaction.commit_time.unix_micros().div_euclid(1000), out);
    out.extend_from_slice(b",\"transaction\":null");
    match change.body {
        Body::Message { prefix, content } => {
            out.extend_from_slice(b",\"message\":{\"prefix\":");
            bytes::string(prefix.as_bytes(), out);
            out.extend_from_slice(b",\"content\":\"");
            bytes::base64(content, out);
            out.extend_from_slice(b"\"}");
        }
        Body::Schema { table, .. } => {
            out.extend_from_slice(b",\"columns\":");
            herdsman::columns(table, out);
        }
        _ => {}
    }
    out.push(b'}');
}

fn row(name: &[u8], row: Option<Row<'_>>, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    match row {
        Some(row) => super::object(row.iter(), Style::DEBEZIUM, out),
        None => out.extend_from_slice(b"null"),
    }
}

fn source(change: &ChangeRef<'_>, out: &mut Vec<u8>) {
    let (source, transaction) = (change.source, change.transaction);
    out.extend_from_slice(
        concat!(
            "\"source\":{\"version\":\"herdsman-",
            env!("CARGO_PKG_VERSION"),
            "\",\"connector\":\"postgresql\",\"name\":"
        )
        .as_bytes(),
    );
    bytes::string(source.slot.as_bytes(), out);
    out.extend_from_slice(b",\"ts_ms\":");
    bytes::signed(transaction.commit_time.unix_micros().div_euclid(1000), out);
    let snapshot = change.kind() == Kind::Read;
    out.extend_from_slice(b",\"snapshot\":\"");
    out.extend_from_slice(if snapshot { b"true" } else { b"false" });
    out.extend_from_slice(b"\",\"db\":");
    bytes::string(source.database.as_bytes(), out);
    // Where the transaction before ended is not told: the commit's own position tells transactions apart as well.
    out.extend_from_slice(b",\"sequence\":\"[\\\"");
    bytes::number(transaction.commit_lsn.0, out);
    out.extend_from_slice(b"\\\",\\\"");
    bytes::number(change.lsn.0, out);
    out.extend_from_slice(b"\\\"]\"");
    let table = change.table();
    for (name, text) in [
        (&b",\"schema\":"[..], table.map(|table| &table.schema)),
        (b",\"table\":", table.map(|table| &table.name)),
    ] {
        out.extend_from_slice(name);
        match text {
            Some(text) => bytes::string(text.as_bytes(), out),
            None => out.extend_from_slice(b"null"),
        }
    }
    if let Body::Truncate { tables, .. } = change.body
        && tables.len() != 1
    {
        out.extend_from_slice(b",\"tables\":");
        super::tables(tables, out);
    }
    out.extend_from_slice(b",\"txId\":");
    bytes::number(transaction.xid.into(), out);
    out.extend_from_slice(b",\"lsn\":");
    bytes::number(change.lsn.0, out);
    out.extend_from_slice(b",\"xmin\":null}");
}
