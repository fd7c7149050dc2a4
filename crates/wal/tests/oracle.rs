//! The decoder against another one, by other people: what they read from the same bytes must be the same.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

#[path = "../src/decode/tests/wire.rs"]
mod wire;

use herdsman_wal::decode::{Decoder, Field, Message, Old, Tuple};
use pg_walstream::protocol::{
    LogicalReplicationMessage as Theirs, LogicalReplicationParser, TupleData,
};
use proptest::prelude::*;
use wire::Sample;

const BLOCK: &[u8] = b"S\0\0\0\x01\x01";

/// A row as kinds and bytes.
type Plain = Vec<(u8, Vec<u8>)>;

fn our_row(tuple: Tuple<'_>) -> Plain {
    let plain = |field: Field<'_>| match field {
        Field::Null => (b'n', Vec::new()),
        Field::Unchanged => (b'u', Vec::new()),
        Field::Text(bytes) => (b't', bytes.to_vec()),
        Field::Binary(bytes) => (b'b', bytes.to_vec()),
    };
    tuple.iter().map(plain).collect()
}

fn their_row(tuple: &TupleData) -> Plain {
    tuple.columns.iter().map(|column| (column.data_type, column.as_bytes().to_vec())).collect()
}

fn our_old(old: Old<'_>) -> (char, Plain) {
    (if matches!(old, Old::Full(_)) { 'O' } else { 'K' }, our_row(old.tuple()))
}

/// Both as one text: names and numbers in the order of the wire.
fn ours(message: &Message<'_>) -> String {
    match *message {
        Message::Begin { commit_lsn, commit_time, xid } => {
            format!("begin {} {commit_time} {xid}", commit_lsn.0)
        }
        Message::Commit { commit_lsn, end_lsn, commit_time } => {
            format!("commit {} {} {commit_time}", commit_lsn.0, end_lsn.0)
        }
        Message::Origin { lsn, name } => format!("origin {} {name}", lsn.0),
        Message::Relation(body) => {
            let columns = body.columns().unwrap().into_iter();
            let columns: Vec<_> =
                columns.map(|c| (c.key, c.name.to_owned(), c.type_oid, c.type_modifier)).collect();
            format!(
                "relation {} {} {} {} {columns:?}",
                body.oid, body.schema, body.name, body.identity
            )
        }
        Message::Type { oid, schema, name } => format!("type {oid} {schema} {name}"),
        Message::Insert { relation, new } => format!("insert {relation} {:?}", our_row(new)),
        Message::Update { relation, old, new } => {
            format!("update {relation} {:?} {:?}", old.map(our_old), our_row(new))
        }
        Message::Delete { relation, old } => format!("delete {relation} {:?}", our_old(old)),
        Message::Truncate(body) => {
            let flags = u8::from(body.cascade) | u8::from(body.restart_identity) << 1;
            format!("truncate {:?} {flags}", body.relations().collect::<Vec<_>>())
        }
        Message::Logical { transactional, lsn, prefix, content } => {
            format!("message {} {} {prefix} {content:?}", u8::from(transactional), lsn.0)
        }
        Message::StreamStart { xid, first } => format!("start {xid} {first}"),
        Message::StreamStop => "stop".to_owned(),
        Message::StreamCommit { xid, commit_lsn, end_lsn, commit_time } => {
            format!("stream commit {xid} {} {} {commit_time}", commit_lsn.0, end_lsn.0)
        }
        Message::StreamAbort { xid, subxid } => format!("abort {xid} {subxid}"),
        _ => our_two_phase(message),
    }
}

fn our_two_phase(message: &Message<'_>) -> String {
    let (what, first, end, time, xid, gid) = match *message {
        Message::BeginPrepare { prepare_lsn, end_lsn, prepare_time, xid, gid } => {
            ("begin prepare", prepare_lsn, end_lsn, prepare_time, xid, gid)
        }
        Message::Prepare { prepare_lsn, end_lsn, prepare_time, xid, gid } => {
            ("prepare", prepare_lsn, end_lsn, prepare_time, xid, gid)
        }
        Message::StreamPrepare { prepare_lsn, end_lsn, prepare_time, xid, gid } => {
            ("stream prepare", prepare_lsn, end_lsn, prepare_time, xid, gid)
        }
        Message::CommitPrepared { commit_lsn, end_lsn, commit_time, xid, gid } => {
            ("commit prepared", commit_lsn, end_lsn, commit_time, xid, gid)
        }
        Message::RollbackPrepared { prepare_end_lsn, end_lsn, rollback_time, xid, gid } => {
            ("rollback prepared", prepare_end_lsn, end_lsn, rollback_time, xid, gid)
        }
        ref other => panic!("a message that the oracle does not compare: {other:?}"),
    };
    format!("{what} {} {} {time} {xid} {gid}", first.0, end.0)
}

fn theirs(message: &Theirs) -> String {
    match message {
        Theirs::Begin { final_lsn, timestamp, xid } => {
            format!("begin {final_lsn} {timestamp} {xid}")
        }
        Theirs::Commit { commit_lsn, end_lsn, timestamp, .. } => {
            format!("commit {commit_lsn} {end_lsn} {timestamp}")
        }
        Theirs::Origin { origin_lsn, origin_name } => format!("origin {origin_lsn} {origin_name}"),
        Theirs::Relation { relation_id, namespace, relation_name, replica_identity, columns } => {
            let columns: Vec<_> = columns
                .iter()
                .map(|c| (c.is_key(), c.name.to_string(), c.type_id, c.type_modifier))
                .collect();
            format!(
                "relation {relation_id} {namespace} {relation_name} {replica_identity} {columns:?}"
            )
        }
        Theirs::Type { type_id, namespace, type_name } => {
            format!("type {type_id} {namespace} {type_name}")
        }
        Theirs::Insert { relation_id, tuple } => {
            format!("insert {relation_id} {:?}", their_row(tuple))
        }
        Theirs::Update { relation_id, old_tuple, new_tuple, key_type } => {
            let old = old_tuple.as_ref().map(|old| (key_type.unwrap(), their_row(old)));
            format!("update {relation_id} {old:?} {:?}", their_row(new_tuple))
        }
        Theirs::Delete { relation_id, old_tuple, key_type } => {
            format!("delete {relation_id} {:?}", (*key_type, their_row(old_tuple)))
        }
        Theirs::Truncate { relation_ids, flags } => format!("truncate {relation_ids:?} {flags}"),
        Theirs::Message { flags, lsn, prefix, content } => {
            format!("message {flags} {lsn} {prefix} {:?}", content.to_vec())
        }
        Theirs::StreamStart { xid, first_segment } => format!("start {xid} {first_segment}"),
        Theirs::StreamStop => "stop".to_owned(),
        Theirs::StreamCommit { xid, commit_lsn, end_lsn, timestamp, .. } => {
            format!("stream commit {xid} {commit_lsn} {end_lsn} {timestamp}")
        }
        Theirs::StreamAbort { xid, subtransaction_xid, .. } => {
            format!("abort {xid} {subtransaction_xid}")
        }
        Theirs::BeginPrepare { prepare_lsn, end_lsn, timestamp, xid, gid } => {
            format!("begin prepare {prepare_lsn} {end_lsn} {timestamp} {xid} {gid}")
        }
        Theirs::Prepare { prepare_lsn, end_lsn, timestamp, xid, gid, .. } => {
            format!("prepare {prepare_lsn} {end_lsn} {timestamp} {xid} {gid}")
        }
        Theirs::StreamPrepare { prepare_lsn, end_lsn, timestamp, xid, gid, .. } => {
            format!("stream prepare {prepare_lsn} {end_lsn} {timestamp} {xid} {gid}")
        }
        Theirs::CommitPrepared { commit_lsn, end_lsn, timestamp, xid, gid, .. } => {
            format!("commit prepared {commit_lsn} {end_lsn} {timestamp} {xid} {gid}")
        }
        Theirs::RollbackPrepared {
            prepare_end_lsn,
            rollback_end_lsn,
            rollback_timestamp,
            xid,
            gid,
            ..
        } => format!(
            "rollback prepared {prepare_end_lsn} {rollback_end_lsn} {rollback_timestamp} {xid} {gid}"
        ),
    }
}

/// What both make of the same bytes, in a block or not; `None` for what is refused.
fn both(bytes: &[u8], within: bool) -> [Option<(Option<u32>, String)>; 2] {
    let mut decoder = Decoder::default();
    let mut parser = LogicalReplicationParser::with_protocol_version(4);
    if within {
        decoder.decode(BLOCK).unwrap();
        parser.parse_wal_message(BLOCK).unwrap();
    }
    let our = decoder.decode(bytes).ok();
    let their = parser.parse_wal_message(bytes).ok();
    [
        our.map(|(xid, message)| (xid, ours(&message))),
        their.map(|parsed| (parsed.xid, theirs(&parsed.message))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn both_read_the_same((within, sample) in wire::message()) {
        let [our, their] = both(&sample.encode(within), within.is_some());
        prop_assert!(our.is_some(), "we refuse it");
        let (our, their) = (our.unwrap(), their.unwrap());
        prop_assert_eq!(our.1, their.1);
        // They tell the block's transaction, we the part of it that the message belongs to.
        prop_assert_eq!(our.0, within);
    }
}

#[test]
fn both_refuse_a_row_that_is_cut() {
    let sample = Sample::Insert { oid: 1, new: vec![wire::Value::Text(b"abc".to_vec())] };
    let bytes = sample.encode(None);
    for end in 0..bytes.len() {
        assert_eq!(both(bytes.get(..end).unwrap(), false), [None, None], "cut at {end}");
    }
}
