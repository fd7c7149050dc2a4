use herdsman_node::{Lsn, SystemId, Timeline};
use herdsman_wal::decode::{Field, Tuple};
use herdsman_wal::json::{self, Shape};
use herdsman_wal::{Column, ReplicaIdentity, Source, Transaction, TypeBook};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn table(name: &str, identity: ReplicaIdentity, columns: &[&str]) -> Arc<Relation> {
    let types = TypeBook::default();
    let column = |(n, name): (usize, &&str)| Column {
        name: (**name).into(),
        data_type: types.get(if n == 0 { 20 } else { 1043 }),
        type_modifier: -1,
        key: n == 0 || identity == ReplicaIdentity::Full,
        primary: n == 0 && identity != ReplicaIdentity::Full,
    };
    let columns = columns.iter().enumerate().map(column).collect();
    Arc::new(Relation { oid: 5, schema: "public".into(), name: name.into(), identity, columns })
}

fn users() -> Arc<Relation> {
    table("users", ReplicaIdentity::Default, &["id", "email", "name"])
}

fn filter(settings: &Value) -> Result<Filter, FilterError> {
    Filter::new(&serde_json::from_value(settings.clone()).unwrap(), MaskKey::from_bytes(b"key"))
}

fn transform(rule: &Value) -> Filter {
    filter(&json!({"transform": {"public.users": rule}})).unwrap()
}

/// A change of this body, from another server where `origin` says so.
fn change(body: Body<'_>, origin: Option<&str>) -> Change {
    let source = Arc::new(Source {
        system_id: SystemId(1),
        timeline: Timeline(1),
        database: "d".into(),
        slot: "s".into(),
    });
    let transaction =
        Arc::new(Transaction { origin: origin.map(Into::into), ..Transaction::default() });
    let (source, transaction) = (&source, &transaction);
    ChangeRef { source, transaction, ordinal: 0, lsn: Lsn(1), body }.into()
}

fn row(cells: &[Field<'_>]) -> TupleWriter {
    let mut writer = TupleWriter::default();
    cells.iter().for_each(|cell| writer.push(*cell));
    writer
}

fn text(text: &str) -> Field<'_> {
    Field::Text(text.as_bytes())
}

fn insert(filter: &mut Filter, table: &Arc<Relation>, cells: &[Field<'_>]) -> Option<Change> {
    let row = row(cells);
    filter.apply(change(Body::Insert { table, new: row.tuple() }, None).view()).unwrap()
}

/// A row in one line.
fn shown(tuple: impl IntoIterator<Item = (impl AsRef<str>, String)>) -> String {
    let cells: Vec<_> =
        tuple.into_iter().map(|(name, value)| format!("{}={value}", name.as_ref())).collect();
    cells.join(" ")
}

fn new_row(change: &Change) -> String {
    let row = change.new_row().unwrap();
    shown(row.iter().map(|(column, field)| {
        let value = match field {
            Field::Null => "NULL".to_owned(),
            Field::Unchanged => "UNCHANGED".to_owned(),
            field => field.text().unwrap_or("?").chars().take(8).collect(),
        };
        (column.name.clone(), value)
    }))
}

#[test]
fn only_the_tables_asked_for_are_delivered() {
    let settings = json!({"tables": ["public.*", "x.y"], "exclude": ["public.old_*"]});
    let mut filter = filter(&settings).unwrap();
    assert!(insert(&mut filter, &users(), &[text("1"), text("e"), text("n")]).is_some());
    let mut old = (*users()).clone();
    (old.oid, old.name) = (6, "old_users".into());
    let old = Arc::new(old);
    assert!(insert(&mut filter, &old, &[text("1"), text("e"), text("n")]).is_none());
    let truncate = |tables: &[Arc<Relation>]| {
        change(Body::Truncate { tables, cascade: false, restart_identity: false }, None)
    };
    let both = filter.apply(truncate(&[users(), Arc::clone(&old)]).view()).unwrap().unwrap();
    assert_eq!(both.table().unwrap().name.as_ref(), "users");
    assert!(filter.apply(truncate(&[old]).view()).unwrap().is_none());
}

#[test]
fn a_table_without_rules_stays_as_it_is() {
    let table = users();
    let same =
        insert(&mut filter(&json!({})).unwrap(), &table, &[text("1"), text("e"), Field::Null]);
    assert!(Arc::ptr_eq(same.unwrap().table().unwrap(), &table));
}

#[test]
fn columns_are_kept_dropped_renamed_and_masked() {
    let cells = [text("1"), text("me@example.org"), text("me")];
    for (rule, expected) in [
        (json!({"columns": ["name"]}), "id=1 name=me"),
        (json!({"drop": ["email"]}), "id=1 name=me"),
        (json!({"rename": {"email": "mail", "id": "key"}}), "key=1 mail=me@examp name=me"),
        (json!({"mask": {"email": "null", "name": "stars"}}), "id=1 email=NULL name=***"),
        (json!({"mask": {"id": "hash"}, "columns": ["id"]}), "id=6da91fb9"),
        (
            json!({"mask": {"email": "stars"}, "rename": {"email": "m"}, "drop": ["name"]}),
            "id=1 m=***",
        ),
    ] {
        let found = insert(&mut transform(&rule), &users(), &cells).unwrap();
        assert_eq!(new_row(&found), expected, "{rule}");
    }
    let absent = [text("1"), Field::Unchanged, Field::Null];
    let rule = json!({"mask": {"email": "hash", "name": "stars"}});
    let found = insert(&mut transform(&rule), &users(), &absent).unwrap();
    assert_eq!(new_row(&found), "id=1 email=UNCHANGED name=NULL", "what is absent stays so");
    assert_eq!(found.table().unwrap().columns[1].data_type.name.as_ref(), "text");
    let moved = transform(&json!({"table": "crm.people"}));
    let mut moved = moved;
    let found = insert(&mut moved, &users(), &cells).unwrap();
    assert_eq!(found.table().unwrap().to_string(), "crm.people");
}

#[test]
fn a_hashed_key_keeps_old_and_new_rows_together() {
    let table = users();
    let mut filter = transform(&json!({"mask": {"id": "hash"}}));
    let (old, new) =
        (row(&[text("1"), Field::Null, Field::Null]), row(&[text("2"), text("e"), text("n")]));
    let (old, new) = (Old::Key(old.tuple()), new.tuple());
    let moved = change(Body::Update { table: &table, old: Some(old), new }, None);
    let moved = filter.apply(moved.view()).unwrap().unwrap();
    let deleted = change(Body::Delete { table: &table, old }, None);
    let deleted = filter.apply(deleted.view()).unwrap().unwrap();
    let id = |row: herdsman_wal::Row<'_>| row.field("id").and_then(Field::text).unwrap().to_owned();
    let key = MaskKey::from_bytes(b"key");
    assert_eq!(id(moved.old_row().unwrap()), key.hash(b"1"));
    assert_eq!(id(moved.new_row().unwrap()), key.hash(b"2"));
    assert_eq!(id(deleted.old_row().unwrap()), key.hash(b"1"));
    assert!(moved.old_row().unwrap().only_key());
}

#[test]
fn rules_that_would_hide_nothing_or_break_the_key_are_refused() {
    for (settings, expected) in [
        (json!({"tables": ["users"]}), "no pattern"),
        (json!({"transform": {"public.*": {"table": "a.b"}}}), "several tables would get one name"),
        (json!({"transform": {"public.users": {"table": "b"}}}), "not `schema.table`"),
        (
            json!({"transform": {"public.users": {"drop": ["a"], "mask": {"a": "null"}}}}),
            "both masked and dropped",
        ),
    ] {
        let error = filter(&settings).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    for (rules, expected) in [
        (json!({"public.users": {"mask": {"id": "stars"}}}), "mask it by `hash`"),
        (json!({"public.users": {"mask": {"id": "null"}}}), "mask it by `hash`"),
        (json!({"public.users": {"drop": ["id"]}}), "cannot be dropped"),
        (json!({"public.users": {"mask": {"ssn": "null"}}}), "no column `ssn` to hide"),
        (json!({"public.users": {"rename": {"name": "email"}}}), "two columns"),
        (
            json!({"public.users": {"mask": {"name": "null"}}, "*.*": {"mask": {"name": "hash"}}}),
            "each in another way",
        ),
    ] {
        let mut filter = filter(&json!({"transform": rules})).unwrap();
        let (table, row) = (users(), row(&[text("1"), text("e"), text("n")]));
        let inserted = change(Body::Insert { table: &table, new: row.tuple() }, None);
        let error = filter.apply(inserted.view()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(filter.check(&table), Err(error));
    }
    // Where the whole row tells rows apart, no column does alone; a pattern need not fit every table.
    let full = table("users", ReplicaIdentity::Full, &["id", "email"]);
    transform(&json!({"mask": {"id": "null"}})).check(&full).unwrap();
    filter(&json!({"transform": {"public.*": {"mask": {"ssn": "null"}}}}))
        .unwrap()
        .check(&full)
        .unwrap();
}

#[test]
fn all_patterns_that_a_table_matches_hold() {
    let rules = json!({"*.*": {"mask": {"email": "stars"}}, "public.u*": {"drop": ["name"]}});
    let mut filter = filter(&json!({"transform": rules})).unwrap();
    let found = insert(&mut filter, &users(), &[text("1"), text("e"), text("n")]).unwrap();
    assert_eq!(new_row(&found), "id=1 email=***");
}

#[test]
fn changes_from_elsewhere_are_left_out_where_asked() {
    let table = users();
    let row = row(&[text("1"), text("e"), text("n")]);
    for (wanted, origin, expected) in
        [(true, Some("other"), true), (false, Some("other"), false), (false, None, true)]
    {
        let mut filter = filter(&json!({"foreign_origins": wanted})).unwrap();
        let inserted = change(Body::Insert { table: &table, new: row.tuple() }, origin);
        assert_eq!(filter.apply(inserted.view()).unwrap().is_some(), expected);
    }
}

#[test]
fn a_changed_table_is_told_only_where_something_visible_changed() {
    let (before, after) =
        (users(), table("users", ReplicaIdentity::Default, &["id", "email", "name", "ssn"]));
    let altered = change(Body::Schema { table: &after, previous: &before }, None);
    let mut hidden = transform(&json!({"drop": ["ssn"]}));
    assert!(hidden.apply(altered.view()).unwrap().is_none());
    let cells = [text("1"), text("e"), text("n"), text("123")];
    let found = insert(&mut hidden, &after, &cells).unwrap();
    assert_eq!(new_row(&found), "id=1 email=e name=n");
    let mut masked = transform(&json!({"mask": {"ssn": "stars"}}));
    let told = masked.apply(altered.view()).unwrap().unwrap();
    assert_eq!(told.table().unwrap().columns.len(), 4);
}

/// Every kind of change that can hold the row's values.
fn everywhere(table: &Arc<Relation>, old: Tuple<'_>, new: Tuple<'_>) -> Vec<Change> {
    let bodies = [
        Body::Insert { table, new },
        Body::Read { table, new },
        Body::Update { table, old: None, new },
        Body::Update { table, old: Some(Old::Key(old)), new },
        Body::Update { table, old: Some(Old::Full(old)), new },
        Body::Delete { table, old: Old::Key(old) },
        Body::Delete { table, old: Old::Full(old) },
    ];
    bodies.into_iter().map(|body| change(body, None)).collect()
}

proptest! {
    #[test]
    fn a_masked_value_appears_in_no_shape(
        number in 1_000_000_000_000_000_000_u64..u64::MAX / 2,
        secret in "[A-Z\"\\\\é]{3}SECRET[a-z]{8}",
        masks in prop::collection::vec(prop::sample::select(vec!["hash", "stars", "null"]), 2),
        full in any::<bool>(),
        unchanged in any::<bool>(),
        renamed in any::<bool>(),
    ) {
        let identity = if full { ReplicaIdentity::Full } else { ReplicaIdentity::Default };
        let table = table("users", identity, &["id", "email", "name"]);
        let rename = if renamed { json!({"email": "mail"}) } else { json!({}) };
        let mut filter = transform(&json!({
            "mask": {"id": "hash", "email": masks[0], "name": masks[1]}, "rename": rename
        }));
        let id = number.to_string();
        let old = row(&[text(&id), text(&secret), text(&secret)]);
        let large = if unchanged { Field::Unchanged } else { text(&secret) };
        let new = row(&[text(&id), large, text(&secret)]);
        for change in everywhere(&table, old.tuple(), new.tuple()) {
            let left = filter.apply(change.view()).unwrap().unwrap();
            let mut out = Vec::new();
            for shape in [Shape::Herdsman, Shape::Debezium, Shape::Wal2json] {
                json::write(shape, &left.view(), &mut out);
            }
            json::key(&left.view().key_row().unwrap(), &mut out);
            out.extend_from_slice(format!("{left:?}").as_bytes());
            let out = String::from_utf8_lossy(&out);
            prop_assert!(!out.contains("SECRET") && !out.contains(&id), "{}", out);
        }
    }
}
