use std::collections::BTreeMap;

use herdsman_node::{SystemId, Timeline};
use herdsman_wal::decode::{Field, TupleWriter};
use herdsman_wal::{Column, Source, Transaction, TypeBook};
use proptest::prelude::*;

use super::*;
use crate::resolve::Version;

const INT4: u32 = 23;
const INT8: u32 = 20;
const INT2: u32 = 21;
const TEXT: u32 = 25;
const NUMERIC: u32 = 1700;

/// A relation of these columns; those with `true` are the key.
fn relation(schema: &str, name: &str, columns: &[(&str, u32, bool)]) -> Arc<Relation> {
    let columns = columns.iter().map(|(name, oid, primary)| Column {
        name: (*name).into(),
        data_type: TypeBook::default().get(*oid),
        type_modifier: -1,
        key: true,
        primary: *primary,
    });
    Arc::new(Relation {
        oid: u32::try_from(schema.len() * 100 + name.len()).unwrap(),
        schema: schema.into(),
        name: name.into(),
        identity: ReplicaIdentity::Full,
        columns: columns.collect(),
    })
}

fn rows_of(key: u32) -> Arc<Relation> {
    relation(
        "public",
        "t",
        &[
            ("id", key, true),
            ("v", TEXT, false),
            (names::STAMP, INT8, false),
            (names::NODE, INT2, false),
        ],
    )
}

fn gone_of(key: u32) -> Arc<Relation> {
    relation(
        names::GONE,
        "public.t",
        &[
            ("id", key, true),
            (names::STAMP, INT8, false),
            (names::NODE, INT2, false),
            (names::SEEN, INT8, false),
            (names::SEEN_NODE, INT2, false),
        ],
    )
}

/// A field from a text; `!` is a value that was not sent.
fn field<'a>(text: &Option<&'a str>) -> Field<'a> {
    match text {
        None => Field::Null,
        Some("!") => Field::Unchanged,
        Some(text) => Field::Text(text.as_bytes()),
    }
}

fn push(
    group: &mut Group,
    table: &Arc<Relation>,
    new: &[Option<&str>],
    old: Option<&[Option<&str>]>,
) -> Result<(), GroupError> {
    let source = Arc::new(Source {
        system_id: SystemId(1),
        timeline: Timeline(1),
        database: "d".into(),
        slot: "s".into(),
    });
    let transaction = Arc::new(Transaction::default());
    let write = |fields: &[Option<&str>]| {
        let mut writer = TupleWriter::default();
        fields.iter().for_each(|text| writer.push(field(text)));
        writer
    };
    let (new, old) = (write(new), old.map(write));
    let body = match &old {
        None => Body::Insert { table, new: new.tuple() },
        Some(old) => Body::Update { table, old: Some(Old::Full(old.tuple())), new: new.tuple() },
    };
    group.push(&ChangeRef {
        source: &source,
        transaction: &transaction,
        ordinal: 0,
        lsn: Lsn(0),
        body,
    })
}

/// All versions in a group: key, row (`None` for a deletion), stamp and what was seen.
fn versions(group: &Group) -> Vec<(String, Version<String>)> {
    let mut all = Vec::new();
    let text = |value: Option<&[u8]>| {
        value.map_or("NULL".to_owned(), |bytes| String::from_utf8(bytes.to_vec()).unwrap())
    };
    for batch in &group.tables {
        for (rows, gone) in [(batch.rows(), false), (batch.tombstones(), true)] {
            let Some(rows) = rows else { continue };
            let live: Vec<u32> = rows.live().unwrap_or_else(|| (0..).take(rows.len()).collect());
            assert_eq!(live.len(), rows.len());
            for row in live {
                let values: Vec<String> =
                    rows.columns().map(|(_, values)| text(values.get(index(row)))).collect();
                let version = Version {
                    stamp: rows.stamp(row),
                    seen: rows.seen(row),
                    row: (!gone).then(|| values.last().unwrap().clone()),
                };
                all.push((values[0].clone(), version));
            }
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn at(micros: i64) -> Stamp {
    Stamp::new(micros, NodeId(1))
}

fn expected(key: &str, stamp: i64, seen: Stamp, row: Option<&str>) -> (String, Version<String>) {
    (key.to_owned(), Version { stamp: at(stamp), seen, row: row.map(str::to_owned) })
}

#[test]
fn of_a_key_the_last_version_is_left_with_what_the_first_replaced() {
    let (t, gone) = (rows_of(INT4), gone_of(INT4));
    let mut group = Group::new(NodeId(1));
    push(&mut group, &t, &[Some("1"), Some("a"), Some("10"), Some("1")], None).unwrap();
    let old = [Some("2"), Some("x"), Some("4"), Some("2")];
    push(&mut group, &t, &[Some("2"), Some("b"), Some("11"), Some("1")], Some(&old)).unwrap();
    let old = [Some("2"), Some("b"), Some("11"), Some("1")];
    push(&mut group, &t, &[Some("2"), Some("c"), Some("12"), Some("1")], Some(&old)).unwrap();
    push(&mut group, &gone, &[Some("1"), Some("13"), Some("1"), Some("10"), Some("1")], None)
        .unwrap();
    push(&mut group, &t, &[Some("3"), None, Some("14"), Some("1")], None).unwrap();
    let seen = Stamp::new(4, NodeId(2));
    assert_eq!(
        versions(&group),
        [
            expected("1", 13, Stamp::NONE, None),
            expected("2", 12, seen, Some("c")),
            expected("3", 14, Stamp::NONE, Some("NULL")),
        ]
    );
    assert_eq!((group.changes, group.rows(), group.newest), (5, 3, 14));
    assert!(group.end.is_none() && !group.is_empty());
}

#[test]
fn a_value_that_was_not_sent_is_taken_from_the_row_before_and_a_moved_row_has_replaced_nothing() {
    let t = rows_of(INT4);
    let mut group = Group::new(NodeId(1));
    let old = [Some("1"), Some("large"), Some("4"), Some("2")];
    push(&mut group, &t, &[Some("1"), Some("!"), Some("10"), Some("1")], Some(&old)).unwrap();
    push(&mut group, &t, &[Some("7"), Some("!"), Some("11"), Some("1")], Some(&old)).unwrap();
    let seen = Stamp::new(4, NodeId(2));
    assert_eq!(
        versions(&group),
        [expected("1", 10, seen, Some("large")), expected("7", 11, Stamp::NONE, Some("large"))]
    );
}

#[test]
fn keys_that_are_equal_and_spelt_differently_are_one() {
    let (t, gone) = (rows_of(NUMERIC), gone_of(NUMERIC));
    let mut group = Group::new(NodeId(1));
    push(&mut group, &t, &[Some("1.50"), Some("a"), Some("10"), Some("1")], None).unwrap();
    push(&mut group, &gone, &[Some("1.5"), Some("11"), Some("1"), Some("10"), Some("1")], None)
        .unwrap();
    push(&mut group, &t, &[Some("1.500"), Some("b"), Some("12"), Some("1")], None).unwrap();
    push(&mut group, &t, &[Some("100"), Some("c"), Some("13"), Some("1")], None).unwrap();
    push(&mut group, &t, &[Some("1"), Some("d"), Some("14"), Some("1")], None).unwrap();
    let keys: Vec<String> = versions(&group).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["1", "1.500", "100"]);
}

#[test]
fn a_table_without_what_the_mesh_needs_is_named() {
    let plain = relation("public", "plain", &[("id", INT4, true)]);
    let no_key =
        relation("public", "no_key", &[(names::STAMP, INT8, false), (names::NODE, INT2, false)]);
    let mut by_key = (*rows_of(INT4)).clone();
    by_key.identity = ReplicaIdentity::Default;
    let mut group = Group::new(NodeId(1));
    let fields: [&[Option<&str>]; 3] =
        [&[Some("1")], &[Some("1"), Some("1")], &[Some("1"), None, Some("1"), Some("1")]];
    for ((table, fields), problem) in [plain, no_key, Arc::new(by_key)].iter().zip(fields).zip([
        "its two columns",
        "no primary key",
        "not FULL",
    ]) {
        let error = push(&mut group, table, fields, None).unwrap_err().to_string();
        assert!(error.contains(problem) && error.contains(&table.to_string()), "{error}");
    }
}

#[test]
fn truncations_and_signs_of_life_are_kept_apart_from_rows() {
    let truncates = relation(
        names::SCHEMA,
        "truncates",
        &[
            ("rel", TEXT, true),
            (names::STAMP, INT8, false),
            (names::NODE, INT2, false),
            (names::KNEW, TEXT, false),
        ],
    );
    let heartbeats = relation(
        names::SCHEMA,
        "heartbeats",
        &[("node", INT2, true), (names::STAMP, INT8, false), ("at", TEXT, false)],
    );
    let mut group = Group::new(NodeId(1));
    for (rel, stamp, knew) in [
        ("public.t", "5", Some("{\"2\": 3}")),
        ("public.u", "6", None),
        ("public.t", "9", Some("{\"2\": 4}")),
    ] {
        push(&mut group, &truncates, &[Some(rel), Some(stamp), Some("1"), knew], None).unwrap();
    }
    for (node, stamp) in [("1", "70"), ("2", "90"), ("1", "80")] {
        push(&mut group, &heartbeats, &[Some(node), Some(stamp), None], None).unwrap();
    }
    let emptied = |rel: &str, stamp, knew: Option<&str>| Truncated {
        rel: rel.into(),
        stamp: at(stamp),
        knew: knew.map(Into::into),
    };
    // What was removed the first time was not known then.
    let both = [emptied("public.t", 9, Some("{\"2\": 3}")), emptied("public.u", 6, None)];
    assert_eq!(group.truncates, both);
    assert_eq!((group.heartbeat, group.newest, group.rows()), (Some(80), 9, 0));
}

#[test]
fn a_table_that_was_altered_on_the_way_goes_into_a_batch_of_its_own() {
    let mut altered = (*rows_of(INT4)).clone();
    altered.columns.remove(1);
    let altered = Arc::new(altered);
    let mut group = Group::new(NodeId(1));
    push(&mut group, &rows_of(INT4), &[Some("1"), Some("a"), Some("1"), Some("1")], None).unwrap();
    push(&mut group, &altered, &[Some("1"), Some("2"), Some("1")], None).unwrap();
    // The same table told again is not another one.
    let again = Arc::new((*altered).clone());
    push(&mut group, &again, &[Some("2"), Some("3"), Some("1")], None).unwrap();
    push(
        &mut group,
        &gone_of(INT4),
        &[Some("2"), Some("4"), Some("1"), Some("3"), Some("1")],
        None,
    )
    .unwrap();
    let sizes: Vec<usize> = group.tables.iter().map(TableBatch::len).collect();
    assert_eq!(sizes, [1, 2]);
}

/// What a writer does to one of a few keys; `other`: another member's version came between.
#[derive(Clone, Debug)]
struct Write {
    key: u8,
    delete: bool,
    other: bool,
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let write = (0..5_u8, prop::bool::weighted(0.3), prop::bool::weighted(0.2))
        .prop_map(|(key, delete, other)| Write { key, delete, other });
    prop::collection::vec(write, 1..60)
}

proptest! {
    #[test]
    fn a_group_holds_what_taking_one_change_after_the_other_does(writes in writes()) {
        let (t, gone) = (rows_of(INT4), gone_of(INT4));
        let mut group = Group::new(NodeId(1));
        // What the writer's node holds, and what the changes come to.
        let mut held: BTreeMap<u8, Version<String>> = BTreeMap::new();
        let mut model: BTreeMap<u8, Version<String>> = BTreeMap::new();
        for (micros, write) in (10_i64..).step_by(10).zip(writes) {
            let Write { key, delete, other } = write;
            if other {
                let stamp = Stamp::new(micros - 5, NodeId(2));
                held.insert(key, Version { stamp, seen: Stamp::NONE, row: Some("theirs".to_owned()) });
            }
            let before = held.get(&key).filter(|version| version.row.is_some()).cloned();
            let seen = before.as_ref().map_or(Stamp::NONE, |before| before.stamp);
            let (id, time) = (key.to_string(), micros.to_string());
            let (seen_micros, seen_node) = (seen.micros.to_string(), seen.node.to_string());
            let version = match (&before, delete) {
                (None, true) => continue,
                (Some(_), true) => {
                    let fields = [&*id, &*time, "1", &*seen_micros, &*seen_node].map(Some);
                    push(&mut group, &gone, &fields, None).unwrap();
                    Version { stamp: at(micros), seen, row: None }
                }
                (before, false) => {
                    let new = [&*id, &*time, &*time, "1"].map(Some);
                    let old = before.as_ref().map(|before| {
                        [&*id, before.row.as_deref().unwrap(), &*seen_micros, &*seen_node].map(Some)
                    });
                    push(&mut group, &t, &new, old.as_ref().map(|old| &old[..])).unwrap();
                    Version { stamp: at(micros), seen, row: Some(time.clone()) }
                }
            };
            held.insert(key, version.clone());
            let taken = match model.remove(&key) {
                Some(before) => before.then(version),
                None => version,
            };
            model.insert(key, taken);
        }
        let expected: Vec<_> =
            model.into_iter().map(|(key, version)| (key.to_string(), version)).collect();
        prop_assert_eq!(versions(&group), expected);
    }
}
