//! Changes as the engine hands them over.

use std::sync::Arc;

use herdsman_node::{Lsn, SystemId, Timeline};
use herdsman_stream::Batch;
use herdsman_wal::decode::{Field, Old, TupleWriter};
use herdsman_wal::{
    Body, Change, ChangeRef, Column, Relation, ReplicaIdentity, Source, Transaction, TypeBook,
};

const INT8: u32 = 20;
const TEXT: u32 = 25;

pub(super) fn table(name: &str) -> Arc<Relation> {
    let column = |name: &str, oid, key| Column {
        name: name.into(),
        data_type: TypeBook::default().get(oid),
        type_modifier: -1,
        key,
        primary: key,
    };
    Arc::new(Relation {
        oid: 1,
        schema: "public".into(),
        name: name.into(),
        identity: ReplicaIdentity::Default,
        columns: vec![column("id", INT8, true), column("word", TEXT, false)],
    })
}

/// What a change does to the row of this id.
pub(super) enum Does<'a> {
    Put(i64, &'a str),
    Move { from: i64, to: i64 },
    Delete(i64),
    Truncate,
    Say(&'a str),
}

pub(super) fn change(table: &Arc<Relation>, ordinal: u64, does: &Does<'_>) -> Arc<Change> {
    let source = Arc::new(Source {
        system_id: SystemId(7),
        timeline: Timeline(1),
        database: "test".into(),
        slot: "herdsman".into(),
    });
    let transaction =
        Arc::new(Transaction { xid: 9, commit_lsn: Lsn(0x2A), ..Transaction::default() });
    let (mut old, mut new) = (TupleWriter::default(), TupleWriter::default());
    let put = |writer: &mut TupleWriter, id: i64, word: Field<'_>| {
        writer.push(Field::Text(id.to_string().as_bytes()));
        writer.push(word);
    };
    match does {
        Does::Put(id, word) => put(&mut new, *id, Field::Text(word.as_bytes())),
        Does::Delete(id) => put(&mut old, *id, Field::Null),
        Does::Move { from, to } => {
            put(&mut old, *from, Field::Null);
            put(&mut new, *to, Field::Text(b"moved"));
        }
        _ => {}
    }
    let body = match does {
        Does::Put(..) => Body::Insert { table, new: new.tuple() },
        Does::Delete(_) => Body::Delete { table, old: Old::Key(old.tuple()) },
        Does::Move { .. } => {
            Body::Update { table, old: Some(Old::Key(old.tuple())), new: new.tuple() }
        }
        Does::Truncate => Body::Truncate {
            tables: std::slice::from_ref(table),
            cascade: false,
            restart_identity: false,
        },
        Does::Say(word) => Body::Message { prefix: "test", content: word.as_bytes() },
    };
    let view =
        ChangeRef { source: &source, transaction: &transaction, ordinal, lsn: Lsn(0x20), body };
    Arc::new(Change::from(view))
}

/// Changes of `keys` rows, one after the other and round and round, numbered from `first`.
pub(super) fn words(table: &Arc<Relation>, first: u64, count: u64, keys: u64) -> Batch {
    let changes = (first..first + count).map(|ordinal| {
        let id = i64::try_from(ordinal % keys).unwrap();
        change(table, ordinal, &Does::Put(id, &format!("word {ordinal}")))
    });
    Batch { changes: changes.collect(), position: None }
}
