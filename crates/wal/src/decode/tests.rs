mod wire;

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::{Decoder, Field, Malformed, Message, Old, Tuple};
use wire::{Sample, Value};

/// A decoder that stands within a streamed block, or not.
fn decoder(within: bool) -> Decoder {
    let mut decoder = Decoder::default();
    if within {
        decoder.decode(b"S\0\0\0\x01\x01").unwrap();
    }
    decoder
}

fn decoded(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    Decoder::default().decode(bytes).map(|(_, message)| message)
}

fn problem(bytes: &[u8]) -> &'static str {
    decoded(bytes).unwrap_err().problem
}

fn values(tuple: Tuple<'_>) -> Vec<Value> {
    let value = |field| match field {
        Field::Null => Value::Null,
        Field::Unchanged => Value::Unchanged,
        Field::Text(text) => Value::Text(text.to_vec()),
        Field::Binary(bytes) => Value::Binary(bytes.to_vec()),
    };
    tuple.iter().map(value).collect()
}

fn old_values(old: Old<'_>) -> (bool, Vec<Value>) {
    (matches!(old, Old::Full(_)), values(old.tuple()))
}

/// What a message says, in the words of the encoder. What the decoder leaves out is taken from `like`.
fn said(message: Message<'_>, like: &Sample) -> Sample {
    match message {
        Message::Begin { commit_lsn, commit_time, xid } => {
            Sample::Begin { lsn: commit_lsn.0, time: commit_time, xid }
        }
        Message::Commit { commit_lsn, end_lsn, commit_time } => {
            Sample::Commit { lsn: commit_lsn.0, end: end_lsn.0, time: commit_time }
        }
        Message::Origin { lsn, name } => Sample::Origin { lsn: lsn.0, name: name.into() },
        Message::Relation(body) => Sample::Relation {
            oid: body.oid,
            schema: body.schema.into(),
            name: body.name.into(),
            identity: body.identity,
            columns: body.columns().unwrap().into_iter().map(column).collect(),
        },
        Message::Type { oid, schema, name } => {
            Sample::Type { oid, schema: schema.into(), name: name.into() }
        }
        Message::Insert { relation, new } => Sample::Insert { oid: relation, new: values(new) },
        Message::Update { relation, old, new } => {
            Sample::Update { oid: relation, old: old.map(old_values), new: values(new) }
        }
        Message::Delete { relation, old } => {
            let (full, old) = old_values(old);
            Sample::Delete { oid: relation, full, old }
        }
        Message::Truncate(body) => Sample::Truncate {
            oids: body.relations().collect(),
            options: u8::from(body.cascade) | u8::from(body.restart_identity) << 1,
        },
        Message::Logical { transactional, lsn, prefix, content } => Sample::Logical {
            transactional,
            lsn: lsn.0,
            prefix: prefix.into(),
            content: content.into(),
        },
        Message::StreamStart { xid, first } => Sample::StreamStart { xid, first },
        Message::StreamCommit { xid, commit_lsn, end_lsn, commit_time } => {
            Sample::StreamCommit { xid, lsn: commit_lsn.0, end: end_lsn.0, time: commit_time }
        }
        Message::StreamAbort { xid, subxid } => {
            let Sample::StreamAbort { place, .. } = like else { panic!("not an abort: {like:?}") };
            Sample::StreamAbort { xid, subxid, place: *place }
        }
        _ => two_phase(message, like),
    }
}

fn column(column: super::RelationColumn<'_>) -> wire::Column {
    wire::Column {
        key: column.key,
        name: column.name.into(),
        oid: column.type_oid,
        modifier: column.type_modifier,
    }
}

fn two_phase(message: Message<'_>, like: &Sample) -> Sample {
    let Sample::TwoPhase { times, .. } = like else { panic!("{message:?} for {like:?}") };
    let (tag, first, end, time, xid, gid) = match message {
        Message::BeginPrepare { prepare_lsn, end_lsn, prepare_time, xid, gid } => {
            (b'b', prepare_lsn, end_lsn, prepare_time, xid, gid)
        }
        Message::Prepare { prepare_lsn, end_lsn, prepare_time, xid, gid } => {
            (b'P', prepare_lsn, end_lsn, prepare_time, xid, gid)
        }
        Message::StreamPrepare { prepare_lsn, end_lsn, prepare_time, xid, gid } => {
            (b'p', prepare_lsn, end_lsn, prepare_time, xid, gid)
        }
        Message::CommitPrepared { commit_lsn, end_lsn, commit_time, xid, gid } => {
            (b'K', commit_lsn, end_lsn, commit_time, xid, gid)
        }
        Message::RollbackPrepared { prepare_end_lsn, end_lsn, rollback_time, xid, gid } => {
            (b'r', prepare_end_lsn, end_lsn, rollback_time, xid, gid)
        }
        other => panic!("{other:?} for {like:?}"),
    };
    // Of a rollback's two times the second is told.
    let times = if tag == b'r' { (times.0, time) } else { (time, times.1) };
    Sample::TwoPhase { tag, first: first.0, end: end.0, times, xid, gid: gid.into() }
}

/// Bytes as the manual lists them, by hand and not by the encoder.
#[test]
fn messages_are_read_as_the_manual_describes_them() {
    let begin = b"B\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\x05\0\0\x02\xE9";
    let message = decoded(begin).unwrap();
    assert_eq!(
        message,
        Message::Begin { commit_lsn: herdsman_node::Lsn(256), commit_time: 5, xid: 745 }
    );
    let insert = b"I\0\0\x40\x01N\0\x04nut\0\0\0\x021\x32b\0\0\0\x01\xFF";
    let Message::Insert { relation: 0x4001, new } = decoded(insert).unwrap() else { panic!() };
    let fields: Vec<_> = new.iter().collect();
    let (text, binary) = (Field::Text(b"12"), Field::Binary(b"\xFF"));
    assert_eq!(fields, [Field::Null, Field::Unchanged, text, binary]);
    assert_eq!((new.get(2), new.get(4), new.len()), (Some(text), None, 4));
    let relation = b"R\0\0\x40\x01\0t\0d\0\x01\x01id\0\0\0\0\x17\xFF\xFF\xFF\xFF";
    let Message::Relation(body) = decoded(relation).unwrap() else { panic!() };
    assert_eq!((body.schema, body.name, body.identity), ("pg_catalog", "t", b'd'));
    let columns = body.columns().unwrap();
    assert_eq!((columns[0].name, columns[0].type_oid, columns[0].key), ("id", 23, true));
    assert_eq!(columns[0].type_modifier, -1);
}

#[test]
fn negative_and_excessive_lengths_are_refused() {
    assert_eq!(problem(b"I\0\0\0\x01N\0\x01t\xFF\xFF\xFF\xFF"), "a length is negative");
    assert_eq!(
        problem(b"I\0\0\0\x01N\0\x01t\x7F\xFF\xFF\xFFa"),
        "it ends in the middle of a field"
    );
    assert_eq!(problem(b"T\xFF\xFF\xFF\xFF\0"), "a length is negative");
    assert_eq!(problem(b"T\x7F\xFF\xFF\xFF\0"), "it ends in the middle of a field");
    assert_eq!(problem(b"M\0\0\0\0\0\0\0\0\0p\0\x80\0\0\0"), "a length is negative");
    // A negative count of columns is a great one.
    assert_eq!(problem(b"I\0\0\0\x01N\xFF\xFFn"), "it ends in the middle of a number");
    assert_eq!(problem(b"R\0\0\0\x01\0\0d\xFF\xFF"), "it ends in the middle of a number");
}

#[test]
fn what_no_version_has_is_refused() {
    assert_eq!(problem(b""), "it is empty");
    assert_eq!(problem(b"?"), "no version of the protocol has such a message");
    assert_eq!(problem(b"E"), "a block ends that has not begun");
    assert_eq!(problem(b"I\0\0\0\x01O\0\0"), "it does not hold a new row");
    assert_eq!(problem(b"U\0\0\0\x01?\0\0"), "it does not hold a new row");
    assert_eq!(problem(b"U\0\0\0\x01K\0\0K\0\0"), "it does not hold a new row");
    assert_eq!(problem(b"D\0\0\0\x01N\0\0"), "it does not hold an old row");
    assert_eq!(problem(b"I\0\0\0\x01N\0\x01x"), "a column is of no known kind");
    assert_eq!(problem(b"Y\0\0\0\x01\xFF\0a\0"), "a name is not UTF-8");
    assert_eq!(problem(b"Y\0\0\0\x01a"), "a name does not end");
    let nested = decoder(true).decode(b"S\0\0\0\x02\x01").unwrap_err();
    assert_eq!(nested.problem, "a block begins within a block");
}

/// A block that is cut off by the loss of the connection must not be taken to go on in the next.
#[test]
fn each_decoder_begins_outside_of_a_block() {
    let insert = b"I\0\0\0\x01N\0\0";
    assert!(decoder(true).decode(insert).is_err(), "within a block the transaction comes first");
    assert!(decoder(false).decode(insert).is_ok());
}

proptest! {
    #[test]
    fn what_is_written_is_read((within, sample) in wire::message()) {
        let bytes = sample.encode(within);
        let (found, message) = decoder(within.is_some()).decode(&bytes).unwrap();
        prop_assert_eq!(found, within);
        prop_assert_eq!(&said(message, &sample), &sample);
    }

    #[test]
    fn a_message_cut_anywhere_is_refused((within, sample) in wire::message()) {
        let bytes = sample.encode(within);
        for end in 0..bytes.len() {
            // The one message with an optional end.
            if end == 9 && sample.tag() == b'A' {
                continue;
            }
            let cut = bytes.get(..end).unwrap();
            prop_assert!(decoder(within.is_some()).decode(cut).is_err(), "{:?}", cut);
        }
        prop_assert!(decoder(within.is_some()).decode(&[&bytes[..], b"\0"].concat()).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, within: bool) {
        walk(&bytes, within);
    }
}

/// Decodes and looks at all there is. Whatever is borrowed must be within the message.
fn walk(bytes: &[u8], within: bool) {
    let mut decoder = decoder(within);
    let Ok((_, message)) = decoder.decode(bytes) else { return };
    let whole = bytes.as_ptr_range();
    let inside = |part: &[u8]| part.is_empty() || whole.contains(&part.as_ptr());
    let row = |tuple: Tuple<'_>| {
        assert_eq!(tuple.iter().count(), tuple.len(), "columns vanish between check and walk");
        assert!(tuple.iter().filter_map(Field::bytes).all(inside));
        assert_eq!(Tuple::from_bytes(tuple.count(), tuple.bytes()), Ok(tuple));
    };
    match message {
        Message::Insert { new, .. } => row(new),
        Message::Update { old, new, .. } => {
            row(new);
            old.into_iter().for_each(|old| row(old.tuple()));
        }
        Message::Delete { old, .. } => row(old.tuple()),
        Message::Relation(body) => _ = body.columns().unwrap(),
        Message::Truncate(body) => assert!(body.relations().count() <= bytes.len() / 4),
        Message::Logical { content, .. } => assert!(inside(content)),
        _ => {}
    }
}

/// Valid messages with a few bytes turned, doubled or lost: nearer to what the decoder expects than random bytes, and
/// therefore deeper in it. `HERDSMAN_SOAK` makes it millions.
#[test]
fn mutated_messages_are_read_or_refused() {
    let rounds = if std::env::var_os("HERDSMAN_SOAK").is_some() { 5_000_000 } else { 50_000 };
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seeds = Vec::new();
    for _ in 0..500 {
        let (within, sample) = wire::message().new_tree(&mut runner).unwrap().current();
        seeds.push((within.is_some(), sample.encode(within)));
    }
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 11).unwrap() % below.max(1)
    };
    for _ in 0..rounds {
        let (within, mut bytes) = seeds[random(seeds.len())].clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match (random(4), bytes.get_mut(at)) {
                (0, Some(byte)) => *byte ^= 1 << random(8),
                (1, Some(byte)) => *byte = [0, 1, 0x7F, 0x80, 0xFF, b't', b'N'][random(7)],
                (2, Some(_)) => _ = bytes.remove(at),
                _ => bytes.insert(at, u8::try_from(random(256)).unwrap()),
            }
        }
        walk(&bytes, within);
    }
}
