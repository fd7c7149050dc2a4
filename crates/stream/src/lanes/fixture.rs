//! Changes for tests.

use std::sync::Arc;

use herdsman_node::{Lsn, SystemId, Timeline};
use herdsman_wal::decode::{Field, Old, TupleWriter};
use herdsman_wal::{
    Body, Change, ChangeRef, Column, Relation, ReplicaIdentity, Source, Transaction, TypeBook,
};

pub(crate) fn source() -> Arc<Source> {
    Arc::new(Source {
        system_id: SystemId(7),
        timeline: Timeline(1),
        database: "shop".into(),
        slot: "herdsman".into(),
    })
}

/// A transaction that commits at this position.
pub(crate) fn transaction(commit: u64) -> Arc<Transaction> {
    Arc::new(Transaction {
        xid: 9,
        begin_lsn: Lsn(commit.saturating_sub(5)),
        commit_lsn: Lsn(commit),
        ..Transaction::default()
    })
}

/// A table with a key `id`, and `value` beside it.
pub(crate) fn table(name: &str) -> Arc<Relation> {
    Arc::new(relation(
        name,
        ReplicaIdentity::Default,
        &[("id", true, true), ("value", false, false)],
    ))
}

/// A table: columns with whether each is of the replica identity, and of the primary key.
pub(crate) fn relation(
    name: &str,
    identity: ReplicaIdentity,
    columns: &[(&str, bool, bool)],
) -> Relation {
    let columns = columns.iter().map(|(name, key, primary)| Column {
        name: (*name).into(),
        data_type: TypeBook::default().get(25),
        type_modifier: -1,
        key: *key,
        primary: *primary,
    });
    let (schema, name) = ("public".into(), name.into());
    Relation { oid: 1, schema, name, identity, columns: columns.collect() }
}

pub(crate) fn row(values: &[Option<&str>]) -> TupleWriter {
    let mut writer = TupleWriter::default();
    for value in values {
        writer.push(value.map_or(Field::Null, |value| Field::Text(value.as_bytes())));
    }
    writer
}

/// The change number `ordinal` of a transaction.
pub(crate) fn change(transaction: &Arc<Transaction>, ordinal: u64, body: Body<'_>) -> Arc<Change> {
    let source = source();
    let lsn = Lsn(transaction.begin_lsn.0 + ordinal);
    Arc::new(Change::from(ChangeRef { source: &source, transaction, ordinal, lsn, body }))
}

pub(crate) fn insert(
    tx: &Arc<Transaction>,
    ordinal: u64,
    table: &Arc<Relation>,
    id: &str,
) -> Arc<Change> {
    let new = row(&[Some(id), Some("new")]);
    change(tx, ordinal, Body::Insert { table, new: new.tuple() })
}

/// An update; with `from`, of a row that had this key before.
pub(crate) fn update(
    tx: &Arc<Transaction>,
    ordinal: u64,
    table: &Arc<Relation>,
    from: Option<&str>,
    to: &str,
) -> Arc<Change> {
    let new = row(&[Some(to), Some("other")]);
    let before = row(&[from, None]);
    let old = from.map(|_| Old::Key(before.tuple()));
    change(tx, ordinal, Body::Update { table, old, new: new.tuple() })
}

pub(crate) fn delete(
    tx: &Arc<Transaction>,
    ordinal: u64,
    table: &Arc<Relation>,
    id: &str,
) -> Arc<Change> {
    let old = row(&[Some(id), None]);
    change(tx, ordinal, Body::Delete { table, old: Old::Key(old.tuple()) })
}

pub(crate) fn truncate(
    tx: &Arc<Transaction>,
    ordinal: u64,
    tables: &[Arc<Relation>],
) -> Arc<Change> {
    change(tx, ordinal, Body::Truncate { tables, cascade: false, restart_identity: false })
}

pub(crate) fn message(tx: &Arc<Transaction>, ordinal: u64, prefix: &str) -> Arc<Change> {
    change(tx, ordinal, Body::Message { prefix, content: b"{}" })
}

/// An update of a row whose key was not sent, because it is large.
pub(crate) fn update_of_unknown(
    tx: &Arc<Transaction>,
    ordinal: u64,
    table: &Arc<Relation>,
) -> Arc<Change> {
    let mut new = TupleWriter::default();
    new.push(Field::Unchanged);
    new.push(Field::Text(b"other"));
    change(tx, ordinal, Body::Update { table, old: None, new: new.tuple() })
}

/// The first column of what a change is about, or what kind it is.
pub(crate) fn label(change: &Change) -> String {
    let row = change.view().key_row();
    let first: Option<(_, Field<'_>)> = row.and_then(|row| row.iter().next());
    first
        .and_then(|(_, field)| field.text().map(str::to_owned))
        .unwrap_or_else(|| change.kind().name().to_owned())
}
