//! A stream of messages: any bytes are read or refused.
#![no_main]

use herdsman_wal::decode::{Decoder, Field, Message, Tuple};
use libfuzzer_sys::fuzz_target;

fn walk(tuple: Tuple<'_>) {
    assert_eq!(tuple.iter().count(), tuple.len());
    assert_eq!(Tuple::from_bytes(tuple.count(), tuple.bytes()), Ok(tuple));
    let _ = tuple.iter().filter_map(Field::text).count();
}

fuzz_target!(|data: &[u8]| {
    let mut decoder = Decoder::default();
    let mut rest = data;
    // Each message after its length, as one session sends one after the other.
    while let Some((length, behind)) = rest.split_first() {
        let (bytes, behind) = behind.split_at(usize::from(*length).min(behind.len()));
        rest = behind;
        match decoder.decode(bytes) {
            Ok((_, Message::Insert { new, .. })) => walk(new),
            Ok((_, Message::Update { old, new, .. })) => {
                walk(new);
                old.into_iter().for_each(|old| walk(old.tuple()));
            }
            Ok((_, Message::Delete { old, .. })) => walk(old.tuple()),
            Ok((_, Message::Relation(body))) => drop(body.columns().expect("checked before")),
            Ok((_, Message::Truncate(body))) => assert!(body.relations().count() <= data.len() / 4),
            Ok(_) | Err(_) => {}
        }
    }
});
