use proptest::prelude::*;

use super::*;
use crate::{
    Value,
    table::tests::account,
    value::tests::{any_kind, any_value},
    writes::{KeyHash, Mode},
};

const LOG: LogId = LogId([7; 16]);

fn any_row() -> impl Strategy<Value = Vec<Value>> {
    let value = any_kind().prop_flat_map(any_value);
    proptest::collection::vec(prop_oneof![value, Just(Value::Null)], 1..4)
}

fn any_change() -> impl Strategy<Value = RowChange> {
    let rows = prop_oneof![
        any_row().prop_map(|after| (None, Some(after))),
        any_row().prop_map(|before| (Some(before), None)),
        (any_row(), any_row()).prop_map(|(before, after)| (Some(before), Some(after))),
    ];
    ("[a-z]{1,5}", rows).prop_map(|(table, (before, after))| RowChange { table, before, after })
}

fn any_attempt() -> impl Strategy<Value = Attempt> {
    (any::<[u8; 16]>(), any::<u32>())
        .prop_map(|(request, number)| Attempt { request: RequestId(request), number })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let mode = prop_oneof![Just(Mode::Write), Just(Mode::Read), Just(Mode::Touch)];
    let claim = (mode, any::<[u8; 16]>()).prop_map(|(mode, key)| Claim { mode, key: KeyHash(key) });
    let write = (
        any_attempt(),
        any::<u64>(),
        proptest::collection::vec(claim, 0..4),
        proptest::collection::vec(any_change(), 0..4),
    );
    prop_oneof![
        (any::<u64>(), any::<u64>()).prop_map(|(window, keys)| Entry::Genesis(Genesis {
            log: LOG,
            window,
            keys
        })),
        write.prop_map(|(attempt, base, claims, rows)| Entry::Write {
            attempt,
            base: Offset(base),
            claims,
            rows
        }),
        (any_attempt(), ".{0,9}").prop_map(|(attempt, sql)| Entry::Statement { attempt, sql }),
        (any_attempt(), any::<u64>()).prop_map(|(attempt, base)| Entry::Define {
            attempt,
            base: Offset(base),
            change: TableChange::Create(account()),
        }),
        any_attempt().prop_map(|attempt| Entry::Barrier { attempt }),
        any::<[u8; 16]>().prop_map(|request| Entry::Cancel { request: RequestId(request) }),
        any::<u64>().prop_map(|target| Entry::Skip { target: Offset(target) }),
        any::<u64>().prop_map(|below| Entry::Trim { below: Offset(below) }),
        (".{0,9}", any::<bool>()).prop_map(|(node, joined)| Entry::Member { node, joined }),
    ]
}

proptest! {
    #[test]
    fn an_entry_comes_back_from_its_bytes(entry in any_entry()) {
        let bytes = entry.encode(LOG).unwrap();
        prop_assert_eq!(Entry::decode(&bytes, LOG), Ok(entry));
    }

    #[test]
    fn a_changed_bit_is_noticed(entry in any_entry(), at: prop::sample::Index, bit in 0_u8..8) {
        let mut bytes = entry.encode(LOG).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        // In the magic it is nobody's entry; anywhere else a damaged one.
        let found = Entry::decode(&bytes, LOG);
        let noticed = if at < 2 { found == Err(NotAnEntry::Foreign) } else { matches!(found, Err(NotAnEntry::Damaged(_))) };
        prop_assert!(noticed, "{:?}", found);
    }

    #[test]
    fn bytes_that_end_early_are_noticed(entry in any_entry(), kept: prop::sample::Index) {
        let bytes = entry.encode(LOG).unwrap();
        let kept = kept.index(bytes.len());
        prop_assert!(Entry::decode(&bytes[..kept], LOG).is_err());
    }

    /// Bytes with a right checksum, as a defect of ours could write them.
    #[test]
    fn no_bytes_make_it_panic(format in 1..=FORMAT, kind in 0_u8..12, body in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut bytes = [MAGIC.as_slice(), &[format, kind], &LOG.0, &body].concat();
        bytes.extend_from_slice(&checksum(&bytes));
        if let Ok(entry) = Entry::decode(&bytes, LOG) {
            prop_assert_eq!(entry.encode(LOG).unwrap(), bytes, "an entry has one encoding");
        }
    }
}

#[test]
fn entries_of_others_are_told_from_damaged_and_newer_ones() {
    let entry = Entry::Skip { target: Offset(1) };
    let bytes = entry.encode(LOG).unwrap();
    assert_eq!(Entry::decode(&bytes, LogId([8; 16])), Err(NotAnEntry::Foreign));
    assert_eq!(Entry::decode(b"{\"sql\": \"SELECT 1\"}", LOG), Err(NotAnEntry::Foreign));
    assert_eq!(Entry::decode(b"", LOG), Err(NotAnEntry::Foreign));
    let mut newer = [MAGIC.as_slice(), &[FORMAT + 1], b"whatever it says"].concat();
    newer.extend_from_slice(&checksum(&newer));
    assert_eq!(Entry::decode(&newer, LOG), Err(NotAnEntry::Newer(FORMAT + 1)));
}

#[test]
fn an_entry_is_written_in_the_oldest_format_that_has_words_for_it() {
    use crate::table::{OnDelete, Reference};
    let create = |table| Entry::Define {
        attempt: Attempt { request: RequestId([0; 16]), number: 1 },
        base: Offset(1),
        change: TableChange::Create(table),
    };
    let plain = create(account()).encode(LOG).unwrap();
    assert_eq!(plain[2], 1);
    let mut table = account();
    table.references.push(Reference {
        columns: vec![0],
        parent: "other".to_owned(),
        key: vec!["id".to_owned()],
        on_delete: OnDelete::Cascade,
    });
    let referring = create(table).encode(LOG).unwrap();
    assert_eq!(referring[2], 2);
    assert_eq!(Entry::decode(&referring, LOG).unwrap().encode(LOG).unwrap(), referring);
    let mut newer = plain;
    newer[2] = 2;
    let whole = newer.len() - CHECKSUM;
    let sum = checksum(&newer[..whole]);
    newer[whole..].copy_from_slice(&sum);
    assert!(matches!(Entry::decode(&newer, LOG), Err(NotAnEntry::Damaged(_))));
}

#[test]
fn an_entry_that_no_log_takes_is_refused_when_it_is_written() {
    let attempt = Attempt { request: RequestId([0; 16]), number: 1 };
    let sql = "x".repeat(ENTRY_BYTES_MOST);
    assert!(Entry::Statement { attempt, sql }.encode(LOG).is_err());
}

#[test]
fn only_a_genesis_entry_begins_a_log() {
    let genesis = Genesis::new(LOG);
    let bytes = Entry::Genesis(genesis).encode(LOG).unwrap();
    assert_eq!(Entry::decode_genesis(&bytes), Ok(genesis));
    let other = Entry::Trim { below: Offset(1) }.encode(LOG).unwrap();
    assert_eq!(Entry::decode_genesis(&other), Err(NotAnEntry::Foreign));
}
