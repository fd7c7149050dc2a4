use std::sync::Arc;

use herdsman_node::{Lsn, SystemId, Timeline};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Shape, idempotency_key, key, write};
use crate::decode::{Field, Old, Tuple, TupleWriter};
use crate::{
    Body, Change, ChangeRef, Column, Relation, ReplicaIdentity, Source, Timestamp, Transaction,
    TypeBook,
};

const SHAPES: [Shape; 4] =
    [Shape::Herdsman, Shape::HerdsmanTyped, Shape::Debezium, Shape::Wal2json];

/// A table whose first column is its primary key.
fn table(columns: &[(&str, u32)]) -> Arc<Relation> {
    let columns = columns.iter().enumerate().map(|(index, (name, oid))| Column {
        name: (*name).into(),
        data_type: TypeBook::default().get(*oid),
        type_modifier: -1,
        key: index == 0,
        primary: index == 0,
    });
    Arc::new(Relation {
        oid: 16_400,
        schema: "public".into(),
        name: "a \"table\"".into(),
        identity: ReplicaIdentity::Default,
        columns: columns.collect(),
    })
}

fn row(fields: &[Field<'_>]) -> TupleWriter {
    let mut row = TupleWriter::default();
    fields.iter().for_each(|field| row.push(*field));
    row
}

fn text(text: &str) -> Field<'_> {
    Field::Text(text.as_bytes())
}

/// The change with an envelope that is always the same.
fn change(body: Body<'_>) -> Change {
    let source = Arc::new(Source {
        system_id: SystemId(7_431_982_345_678_901_234),
        timeline: Timeline(2),
        database: "shop".into(),
        slot: "herdsman".into(),
    });
    let transaction = Arc::new(Transaction {
        xid: 745,
        begin_lsn: Lsn(0x100),
        commit_lsn: Lsn(0x1_0000_0200),
        commit_time: Timestamp::from_unix_micros(1_767_323_045_678_901),
        origin: None,
        gid: None,
    });
    let change =
        ChangeRef { source: &source, transaction: &transaction, ordinal: 3, lsn: Lsn(0x150), body };
    Change::from(change)
}

fn written(shape: Shape, body: Body<'_>) -> String {
    let mut out = Vec::new();
    write(shape, &change(body).view(), &mut out);
    String::from_utf8(out).unwrap()
}

fn parsed(shape: Shape, body: Body<'_>) -> Value {
    let text = written(shape, body);
    assert!(!text.contains(['\n', '\r']), "breaks a line: {text}");
    serde_json::from_str(&text).unwrap_or_else(|problem| panic!("{problem}: {text}"))
}

#[test]
fn our_shape_is_what_the_documentation_shows() {
    let table = table(&[("id", 23), ("name", 25), ("portrait", 17)]);
    let old = row(&[text("7"), text("Ada"), Field::Unchanged]);
    let new = row(&[text("7"), text("Grace"), Field::Unchanged]);
    let old = Some(Old::Full(old.tuple()));
    let body = Body::Update { table: &table, old, new: new.tuple() };
    assert_eq!(
        written(Shape::HerdsmanTyped, body),
        concat!(
            r#"{"id":"1/200/3","kind":"update","schema":"public","table":"a \"table\"","#,
            r#""key":{"id":7},"old":{"id":7,"name":"Ada"},"new":{"id":7,"name":"Grace"},"#,
            r#""unchanged":["portrait"],"xid":745,"commit_lsn":"1/200","lsn":"0/150","#,
            r#""ordinal":3,"commit_time":"2026-01-02T03:04:05.678901Z","origin":null,"#,
            r#""system_id":"7431982345678901234","timeline":2,"slot":"herdsman","#,
            r#""types":{"id":"int4","name":"text","portrait":"bytea"}}"#
        )
    );
    let kept = change(body);
    assert_eq!(idempotency_key(&kept.view()), "7431982345678901234-1/200-3");
    let embedded = serde_json::to_string(&kept).unwrap();
    assert_eq!(embedded, written(Shape::Herdsman, body));
}

#[test]
fn debezium_gets_its_envelope() {
    let table = table(&[("id", 23), ("price", 1700), ("doc", 3802)]);
    let new = row(&[text("7"), text("1.10"), Field::Unchanged]);
    let value =
        parsed(Shape::Debezium, Body::Update { table: &table, old: None, new: new.tuple() });
    let after = json!({"id": 7, "price": "1.10", "doc": "__debezium_unavailable_value"});
    assert_eq!(
        (&value["op"], &value["before"], &value["after"]),
        (&json!("u"), &Value::Null, &after)
    );
    assert_eq!(value["ts_ms"], 1_767_323_045_678_i64);
    let source = &value["source"];
    assert_eq!((&source["db"], &source["table"]), (&json!("shop"), &json!("a \"table\"")));
    assert_eq!((&source["lsn"], &source["txId"]), (&json!(0x150), &json!(745)));
    assert_eq!(source["sequence"], r#"["4294967808","336"]"#);
    let read = parsed(Shape::Debezium, Body::Read { table: &table, new: new.tuple() });
    assert_eq!((&read["op"], &read["source"]["snapshot"]), (&json!("r"), &json!("true")));
}

#[test]
fn wal2json_gets_its_columns() {
    let table = table(&[("id", 23), ("bytes", 17), ("doc", 3802), ("tags", 1009)]);
    let new = row(&[text("7"), text("\\x00ff"), text("[1]"), Field::Unchanged]);
    let value =
        parsed(Shape::Wal2json, Body::Update { table: &table, old: None, new: new.tuple() });
    assert_eq!(value["action"], "U");
    assert_eq!(value["timestamp"], "2026-01-02 03:04:05.678901+00");
    let columns = json!([
        {"name": "id", "type": "integer", "value": 7},
        {"name": "bytes", "type": "bytea", "value": "00ff"},
        {"name": "doc", "type": "jsonb", "value": "[1]"}
    ]);
    assert_eq!(value["columns"], columns);
    assert_eq!(value["identity"], json!([{"name": "id", "type": "integer", "value": 7}]));
    let old = row(&[text("7"), Field::Null, Field::Null, Field::Null]);
    let old = Old::Key(old.tuple());
    let delete = parsed(Shape::Wal2json, Body::Delete { table: &table, old });
    assert_eq!(delete["identity"], value["identity"]);
    assert_eq!((&delete["action"], delete.get("columns")), (&json!("D"), None));
}

#[test]
fn types_have_the_names_that_sql_has_for_them() {
    let named = |oid, modifier| {
        let mut out = Vec::new();
        super::type_name::write(&TypeBook::default().get(oid), modifier, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(named(1043, 34), "character varying(30)");
    assert_eq!(named(1015, -1), "character varying[]");
    assert_eq!(named(1700, 10 << 16 | 2 | 4), "numeric(10,2)");
    assert_eq!(named(1700, (5 << 16 | 0x7FF) + 4), "numeric(5,-1)");
    assert_eq!(named(1184, 3), "timestamp(3) with time zone");
    assert_eq!(named(1114, -1), "timestamp without time zone");
    assert_eq!(named(701, -1), "double precision");
}

#[test]
fn digits_are_never_lost_and_what_json_lacks_is_a_string() {
    let columns = [("id", 20), ("n", 1700), ("f", 701), ("b", 16), ("m", 790)];
    let table = table(&columns);
    let digits = format!("-{}.{}0", "9".repeat(40), "1".repeat(20));
    let new =
        row(&[text("9223372036854775807"), text(&digits), text("1e-05"), text("t"), text("$1")]);
    let line = written(Shape::Herdsman, Body::Insert { table: &table, new: new.tuple() });
    let wanted =
        format!(r#""new":{{"id":9223372036854775807,"n":{digits},"f":1e-05,"b":true,"m":"$1"}}"#);
    assert!(line.contains(&wanted), "{line}");
    for special in ["NaN", "Infinity", "-Infinity"] {
        let new = row(&[text("1"), text(special), text(special), Field::Null, Field::Null]);
        for shape in SHAPES {
            let value = parsed(shape, Body::Insert { table: &table, new: new.tuple() }).to_string();
            assert_eq!(value.matches(&format!("\"{special}\"")).count(), 2, "{value}");
        }
    }
}

#[test]
fn an_unchanged_value_is_never_null() {
    let table = table(&[("id", 23), ("large", 25)]);
    let new = row(&[text("1"), Field::Unchanged]);
    let body = Body::Update { table: &table, old: None, new: new.tuple() };
    let ours = parsed(Shape::Herdsman, body);
    assert_eq!((ours["new"].get("large"), &ours["unchanged"]), (None, &json!(["large"])));
    // Under FULL it is there.
    let old = row(&[text("1"), text("still")]);
    let old = Some(Old::Full(old.tuple()));
    let ours = parsed(Shape::Herdsman, Body::Update { table: &table, old, new: new.tuple() });
    assert_eq!((&ours["new"]["large"], ours.get("unchanged")), (&json!("still"), None));
}

/// The server sends such a key only with the old row.
#[test]
fn a_large_key_that_has_not_changed_is_taken_from_the_old_key() {
    let table = table(&[("id", 25), ("n", 23)]);
    let (old, new) = (row(&[text("long"), Field::Null]), row(&[Field::Unchanged, text("2")]));
    let old = Some(Old::Key(old.tuple()));
    let ours = parsed(Shape::Herdsman, Body::Update { table: &table, old, new: new.tuple() });
    assert_eq!(ours["key"], json!({"id": "long"}));
    assert_eq!(
        (&ours["new"], &ours["old"]),
        (&json!({"id": "long", "n": 2}), &json!({"id": "long"}))
    );
}

#[test]
fn json_stays_on_one_line_and_a_mask_in_it_is_a_string() {
    let table = table(&[("id", 23), ("doc", 114)]);
    let new = |doc| {
        let new = row(&[text("1"), text(doc)]);
        parsed(Shape::Herdsman, Body::Insert { table: &table, new: new.tuple() })["new"].clone()
    };
    assert_eq!(new("{\"a\":\r\n [1,\n 2]}")["doc"], json!({"a": [1, 2]}));
    for scalar in ["null", "true", "1.5", "\"x\"", " [] "] {
        assert_eq!(new(scalar)["doc"], serde_json::from_str::<Value>(scalar).unwrap());
    }
    for mask in ["***", "", "3fa9c0", "\"", "01", "nulL", "-"] {
        assert_eq!(new(mask)["doc"], json!(mask));
    }
}

#[test]
fn a_table_without_key_has_none() {
    let mut table = Arc::unwrap_or_clone(table(&[("id", 23)]));
    table.columns[0].key = false;
    table.columns[0].primary = false;
    let table = Arc::new(table);
    let new = row(&[text("1")]);
    let body = Body::Insert { table: &table, new: new.tuple() };
    assert_eq!(parsed(Shape::Herdsman, body)["key"], Value::Null);
    let mut out = Vec::new();
    assert!(!key(&change(body).new_row().unwrap(), &mut out) && out.is_empty());
}

#[test]
fn what_is_about_no_single_row_is_told_in_every_shape() {
    let (one, two) = (table(&[("id", 23)]), table(&[("id", 23), ("\n", 25)]));
    let several = [Arc::clone(&one), Arc::clone(&two)];
    let truncate = |tables| Body::Truncate { tables, cascade: true, restart_identity: false };
    let ours = parsed(Shape::Herdsman, truncate(&several));
    assert_eq!((ours["tables"].as_array().unwrap().len(), &ours["cascade"]), (2, &json!(true)));
    let (debezium, wal2json) = (
        parsed(Shape::Debezium, truncate(&several[..1])),
        parsed(Shape::Wal2json, truncate(&several)),
    );
    assert_eq!((&debezium["op"], &debezium["source"]["schema"]), (&json!("t"), &json!("public")));
    assert_eq!(
        (&wal2json["action"], wal2json["tables"].as_array().unwrap().len()),
        (&json!("T"), 2)
    );
    let schema = Body::Schema { table: &two, previous: &one };
    assert_eq!(parsed(Shape::Herdsman, schema)["columns"][1]["name"], "\n");
    assert_eq!(parsed(Shape::Debezium, schema)["op"], "s");
    assert_eq!(parsed(Shape::Wal2json, schema)["columns"][1]["type"], "text");
    let message = |content| Body::Message { prefix: "p\t", content };
    assert_eq!(parsed(Shape::Herdsman, message(b"hi"))["content"], "hi");
    assert_eq!(parsed(Shape::Herdsman, message(b"\xFF"))["content_hex"], "ff");
    assert_eq!(parsed(Shape::Debezium, message(b"hi"))["message"]["content"], "aGk=");
    assert_eq!(parsed(Shape::Wal2json, message(b"hi"))["content"], "hi");
}

proptest! {
    #[test]
    fn any_values_in_columns_of_any_type_make_valid_json(
        fields in prop::collection::vec((0..7_usize, any::<Vec<u8>>(), 0..4_u8), 0..6),
        names in prop::collection::vec(any::<String>(), 6),
        full: bool,
    ) {
        // Everything but `json`, whose content the server has checked.
        let oids = [16, 17, 23, 25, 701, 1700, 1184];
        let columns: Vec<_> =
            fields.iter().zip(&names).map(|((oid, ..), name)| (&**name, oids[*oid])).collect();
        let table = table(&columns);
        let written: Vec<_> = fields.iter().map(|(_, bytes, kind)| match kind {
            0 => Field::Null,
            1 => Field::Unchanged,
            2 => Field::Binary(bytes),
            _ => Field::Text(bytes),
        }).collect();
        let tuple = row(&written);
        let tuple: Tuple<'_> = tuple.tuple();
        let old = if full { Old::Full(tuple) } else { Old::Key(tuple) };
        for body in [
            Body::Insert { table: &table, new: tuple },
            Body::Update { table: &table, old: Some(old), new: tuple },
            Body::Delete { table: &table, old },
        ] {
            for shape in SHAPES {
                let mut out = Vec::new();
                write(shape, &change(body).view(), &mut out);
                prop_assert!(serde_json::from_slice::<Value>(&out).is_ok());
                prop_assert!(!out.contains(&b'\n') && !out.contains(&b'\r'));
            }
        }
    }
}
