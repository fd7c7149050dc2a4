//! Every type, from the server to our text, our Rust types and our JSON, with nothing lost.

use herdsman_node::{Lsn, Tls};
use herdsman_sandbox::on_each_version;
use herdsman_wal::decode::Field;
use herdsman_wal::json::{self, Shape};
use herdsman_wal::{
    Body, Catalogue, Event, Kind, Numeric, Row, Stream, StreamOptions, Timestamp, TypeBook,
    TypeKind,
};
use serde_json::Value;

use crate::common::{LIMIT, STOP, conninfo, make_slot, sandbox, sql, stream};

/// Types that a schema brings, each of which the stream itself tells no more of than a name or nothing at all.
const TYPES: &str = r#"
    CREATE SCHEMA "Odd.Schema";
    CREATE TYPE mood AS ENUM ('sad', 'it''s "fine"', 'happy');
    CREATE TYPE "Odd.Schema"."Point 3" AS (x float8, y float8, label text);
    CREATE DOMAIN positive AS numeric CHECK (VALUE > 0);
    CREATE DOMAIN small_positive AS positive CHECK (VALUE < 100);
    CREATE DOMAIN tags AS text[];
    CREATE TYPE text_range AS RANGE (subtype = text, multirange_type_name = text_ranges);
    -- As an extension brings one: a base type that no client has ever heard of.
    CREATE TYPE shape;
    CREATE FUNCTION shape_in(cstring) RETURNS shape AS 'textin' LANGUAGE internal IMMUTABLE STRICT;
    CREATE FUNCTION shape_out(shape) RETURNS cstring AS 'textout' LANGUAGE internal IMMUTABLE STRICT;
    CREATE TYPE shape (INPUT = shape_in, OUTPUT = shape_out, LIKE = text);
"#;

/// A column's type, and the values to put into it.
const COLUMNS: &[(&str, &[&str])] = &[
    ("bool", &["true", "false"]),
    ("int2", &["-32768", "32767"]),
    ("int4", &["-2147483648"]),
    ("int8", &["-9223372036854775808", "9223372036854775807", "9007199254740993"]),
    ("oid", &["4294967295"]),
    (
        "numeric",
        &[
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "0.00000000000000000000000001",
            "-12345678901234567890123456789012345678901234567890.1234567890000",
            "1e100",
            "0.00",
        ],
    ),
    ("numeric(20, 5)", &["123456789012345.12345"]),
    ("float4", &["0.1", "'NaN'", "1e-40", "3.4028235e38", "'-0'"]),
    ("float8", &["0.1", "'-Infinity'", "5e-324", "1.7976931348623157e308", "0.30000000000000004"]),
    ("money", &["1234.56"]),
    ("text", &["''", r#"E'a"b\\c\n\t\r\u0001\u2028'"#, "'🐑'", "repeat('x', 100000)"]),
    ("varchar(10)", &["'abc'"]),
    ("char(5)", &["'ab'"]),
    (r#""char""#, &["'x'"]),
    ("name", &["'Some Name'"]),
    ("bytea", &[r"'\x'", r"'\x00ff5c27'"]),
    ("date", &["'infinity'", "'0044-03-15 BC'", "'2024-02-29'"]),
    ("time", &["'23:59:59.999999'", "'24:00'"]),
    ("timetz", &["'12:00:00.5+05:30'"]),
    ("timestamp", &["'2024-02-29 12:34:56.789012'", "'infinity'"]),
    (
        "timestamptz",
        &[
            "'2024-02-29 12:34:56.789+05:30'",
            "'infinity'",
            "'-infinity'",
            "'4714-11-24 00:00:00+00 BC'",
            "'294276-12-31 23:59:59.999999+00'",
            "'0001-01-01 00:00+00'",
        ],
    ),
    ("interval", &["'1 year -2 mons 3 days -04:05:06.789'", "'0'"]),
    ("uuid", &["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]),
    (
        "json",
        &[
            "E'{\"a\": 1,\r\n  \"a\" : [1.10, 1e400, \"x\\\\ny\"]}'",
            "'null'",
            "'12345678901234567890.10'",
        ],
    ),
    (
        "jsonb",
        &[r#"'{"b": [1.10, null, "é\u0001"], "a": 12345678901234567890.10}'"#, "'\"x\"'", "'[]'"],
    ),
    ("xml", &["'<a>\"&amp;</a>'"]),
    ("inet", &["'::1/64'"]),
    ("cidr", &["'10.0.0.0/8'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("bit(5)", &["B'10101'"]),
    ("varbit", &["B'101'"]),
    ("point", &["'(1.5,-2)'"]),
    ("box", &["'(1,1),(0,0)'"]),
    ("polygon", &["'((0,0),(1,1),(2,0))'"]),
    ("tsvector", &["'fat:1A cat:2'"]),
    ("tsquery", &["'fat & !cat'"]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("int4range", &["'[1,5)'", "'empty'", "'(,)'"]),
    ("tstzrange", &["'[2024-01-01,infinity]'"]),
    ("int4multirange", &["'{[1,2),[4,6)}'"]),
    ("int4[]", &["'{1,NULL,3}'", "'{}'", "'[0:1]={7,8}'", "'{{1,2},{3,4}}'"]),
    ("text[]", &[r#"ARRAY['a', NULL, 'NULL', 'b,"c\d{}', '', '🐑']"#]),
    ("numeric[]", &["ARRAY['NaN', 1.100]::numeric[]"]),
    ("timestamptz[]", &["ARRAY['infinity', '2024-01-01']::timestamptz[]"]),
    ("jsonb[]", &[r#"ARRAY['{"a": "b"}']::jsonb[]"#]),
    ("box[]", &["ARRAY['(1,1),(0,0)', '(2,2),(1,1)']::box[]"]),
    ("int2vector", &["'1 2 3'"]),
    ("mood", &["'happy'", "'it''s \"fine\"'"]),
    ("mood[]", &["'{sad,happy}'"]),
    (r#""Odd.Schema"."Point 3""#, &[r#"ROW(1.5, NULL, 'a "b", c')"#]),
    (
        r#""Odd.Schema"."Point 3"[]"#,
        &[r#"ARRAY[ROW(1.5, NULL, 'a "b"')]::"Odd.Schema"."Point 3"[]"#],
    ),
    ("positive", &["1.10"]),
    ("small_positive", &["99.90"]),
    ("tags", &["'{a,b}'"]),
    ("text_range", &["'[a,b)'"]),
    ("text_ranges", &["'{[a,b),[c,d)}'"]),
    ("shape", &["'ring 7'::text::shape"]),
    ("shape[]", &["ARRAY['ring 7']::text[]::shape[]"]),
];

/// A table of one row for each value, and what the server itself says each of them is.
async fn prepare(sandbox: &herdsman_sandbox::Sandbox) -> Vec<(String, Option<String>)> {
    sql(sandbox, TYPES).await;
    let columns: Vec<_> =
        COLUMNS.iter().enumerate().map(|(at, (name, _))| format!("c{at} {name}")).collect();
    let create = format!(
        "CREATE CAST (text AS shape) WITHOUT FUNCTION; \
         CREATE TABLE t (id int PRIMARY KEY, {}); CREATE PUBLICATION p FOR TABLE t",
        columns.join(", ")
    );
    sql(sandbox, &create).await;
    make_slot(sandbox).await;
    let client = sandbox.sql("n1", "postgres").await.unwrap();
    // What the session of an application may have set has no part in what the stream shows.
    client
        .batch_execute("SET DateStyle = 'German'; SET TimeZone = 'Asia/Kathmandu'; SET extra_float_digits = 0; \
            SET bytea_output = 'escape'; SET IntervalStyle = 'iso_8601'")
        .await
        .unwrap();
    let mut id = 0;
    for (at, (_, values)) in COLUMNS.iter().enumerate() {
        for value in values.iter().chain(&["NULL"]) {
            id += 1;
            let insert = format!("INSERT INTO t (id, c{at}) VALUES ({id}, {value})");
            client.batch_execute(&insert).await.unwrap_or_else(|e| panic!("{insert}: {e}"));
        }
    }
    client.batch_execute(STOP).await.unwrap();
    let pinned = sandbox.sql("n1", "postgres").await.unwrap();
    pinned
        .batch_execute(
            "SET DateStyle = 'ISO'; SET TimeZone = 'UTC'; SET extra_float_digits = 3; \
            SET bytea_output = 'hex'; SET IntervalStyle = 'postgres'",
        )
        .await
        .unwrap();
    let mut expected = Vec::new();
    id = 0;
    for (at, (_, values)) in COLUMNS.iter().enumerate() {
        for _ in 0..=values.len() {
            id += 1;
            // As the type's own output function says it: a cast to text is not always that (`char(5)`, `"char"`).
            let select =
                format!("SELECT format('%s', c{at}), c{at} IS NULL FROM t WHERE id = {id}");
            let row =
                pinned.query_one(&select, &[]).await.unwrap_or_else(|e| panic!("{select}: {e}"));
            let text = (!row.get::<_, bool>(1)).then(|| row.get::<_, String>(0));
            expected.push((format!("c{at}"), text));
        }
    }
    expected
}

/// Calls `look` for each change up to the message that ends all, with its number.
async fn each(stream: &mut Stream, mut look: impl FnMut(usize, &herdsman_wal::ChangeRef<'_>)) {
    let mut number = 0;
    loop {
        match tokio::time::timeout(LIMIT, stream.next()).await.unwrap().unwrap() {
            Event::Change(change) if change.kind() == Kind::Message => return,
            Event::Change(change) => {
                look(number, &change);
                number += 1;
            }
            _ => {}
        }
    }
}

/// What our JSON has to hold for a value, as text: the digits, `t` for true, the document, the string.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(if *value { "t" } else { "f" }.to_owned()),
        other => Some(other.to_string()),
    }
}

/// Where a JSON reader makes another text of the same value.
fn read_by_json(data_type: &str) -> bool {
    ["json", "float", "numeric", "positive"].iter().any(|name| data_type.contains(name))
        && !data_type.contains('[')
}

fn check_json(
    change: &herdsman_wal::ChangeRef<'_>,
    column: &str,
    data_type: &str,
    text: Option<&str>,
) {
    for shape in [Shape::Herdsman, Shape::HerdsmanTyped, Shape::Debezium, Shape::Wal2json] {
        let mut out = Vec::new();
        json::write(shape, change, &mut out);
        let line = std::str::from_utf8(&out).unwrap();
        assert!(!line.contains(['\n', '\r']), "{line}");
        let value: Value = match serde_json::from_str(line) {
            Ok(value) => value,
            // A number that JSON allows and an f64 does not reach.
            Err(problem) if problem.to_string().contains("out of range") => continue,
            Err(problem) => panic!("{data_type} as {shape:?}: {problem}: {line}"),
        };
        let row = match shape {
            Shape::Debezium => &value["after"],
            Shape::Wal2json => {
                let columns = value["columns"].as_array().unwrap();
                &columns.iter().find(|c| c["name"] == column).unwrap()["value"]
            }
            _ => &value["new"],
        };
        let value = if shape == Shape::Wal2json { row } else { &row[column] };
        // `null` the document is not NULL, and looks like it inline.
        if text.is_none() || (text == Some("null") && value.is_null()) {
            assert_eq!(*value, Value::Null, "{data_type} as {shape:?}");
        } else if !(read_by_json(data_type) || shape == Shape::Wal2json && data_type == "bytea") {
            assert_eq!(shown(value).as_deref(), text, "{data_type} as {shape:?}");
        }
        // Digits are on the line as the server has them, whatever a reader makes of them.
        if data_type.contains("numeric") || data_type.contains("positive") {
            assert!(line.contains(text.unwrap_or("null")), "{line}");
        }
    }
}

/// Read as the Rust types that fit.
fn check_typed(row: &Row<'_>, column: &str, data_type: &str, text: Option<&str>) {
    assert_eq!(row.get::<Option<String>>(column).unwrap().as_deref(), text, "{data_type}");
    let Some(text) = text else { return };
    match data_type {
        "numeric" | "positive" | "small_positive" => {
            assert_eq!(row.get::<Numeric>(column).unwrap().as_str(), text);
        }
        "int8" => assert_eq!(row.get::<i64>(column).unwrap().to_string(), text),
        "float8" => {
            let number = row.get::<f64>(column).unwrap();
            assert_eq!(number.to_bits(), text.parse::<f64>().unwrap().to_bits());
        }
        "timestamptz" => {
            let moment = row.get::<Timestamp>(column).unwrap();
            assert_eq!(moment.is_finite(), !text.ends_with("infinity"), "{text}");
        }
        "text[]" | "tags" => {
            assert!(row.get::<Vec<Option<String>>>(column).unwrap().len() > 1);
        }
        "mood[]" | "shape[]" | "box[]" => {
            row.get::<Vec<String>>(column).unwrap();
        }
        _ => {}
    }
}

on_each_version! {
    async fn every_type_round_trips_with_nothing_lost(version: u32) {
        let sandbox = sandbox(version).await;
        let expected = prepare(&sandbox).await;
        let info = conninfo(&sandbox);
        let catalogue = Catalogue::new(info.clone(), Tls::new(&info).unwrap(), LIMIT);
        let mut stream = stream(&sandbox, Lsn(0), StreamOptions::default()).await.with_catalogue(catalogue);
        let mut seen = 0;
        each(&mut stream, |number, change| {
            let (column, text) = &expected[number];
            let (column, text) = (column.as_str(), text.as_deref());
            let data_type = COLUMNS[column.trim_start_matches('c').parse::<usize>().unwrap()].0;
            let row = change.new_row().unwrap();
            assert_eq!(row.field(column).unwrap().text(), text, "{data_type}");
            check_typed(&row, column, data_type, text);
            check_json(change, column, data_type, text);
            seen += 1;
        })
        .await;
        assert_eq!(seen, expected.len());
    }

    async fn a_large_key_that_has_not_changed_is_still_the_key(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE t (id text PRIMARY KEY, n int); \
            ALTER TABLE t ALTER id SET STORAGE EXTERNAL; CREATE PUBLICATION p FOR TABLE t; \
            INSERT INTO t VALUES (repeat('k', 2500), 1)").await;
        make_slot(&sandbox).await;
        sql(&sandbox, "UPDATE t SET n = 2").await;
        sql(&sandbox, STOP).await;
        let mut stream = stream(&sandbox, Lsn(0), StreamOptions::default()).await;
        let mut keys = Vec::new();
        each(&mut stream, |_, change| {
            let Body::Update { new, .. } = change.body else { panic!("{change:?}") };
            assert_eq!(new.get(0), Some(Field::Unchanged), "the server sends it, and this test nothing");
            let mut key = Vec::new();
            assert!(json::key(&change.key_row().unwrap(), &mut key));
            keys.push((String::from_utf8(key).unwrap(), change.new_row().unwrap().get::<i32>("n").unwrap()));
        })
        .await;
        assert_eq!(keys, [(format!("{{\"id\":\"{}\"}}", "k".repeat(2500)), 2)]);
    }

    async fn without_a_catalogue_types_of_the_database_are_still_text(version: u32) {
        let sandbox = sandbox(version).await;
        let expected = prepare(&sandbox).await;
        let mut stream = stream(&sandbox, Lsn(0), StreamOptions::default()).await;
        let mut seen = 0;
        each(&mut stream, |number, change| {
            let (column, text) = &expected[number];
            let row = change.new_row().unwrap();
            assert_eq!(row.get::<Option<String>>(column).unwrap(), *text, "{column}");
            seen += 1;
        })
        .await;
        assert_eq!(seen, expected.len());
    }

    async fn the_catalogue_tells_what_types_are_made_of_and_which_key_a_table_has(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, TYPES).await;
        sql(&sandbox, "CREATE TABLE k (b int, a int, \"C c\" int, v int, PRIMARY KEY (\"C c\", a) INCLUDE (v)); \
            CREATE TABLE none (id int UNIQUE)").await;
        let client = sandbox.sql("n1", "postgres").await.unwrap();
        let oid = async |name: &str, kind: &str| -> u32 {
            let sql = format!("SELECT '{name}'::{kind}::oid");
            client.query_one(&sql, &[]).await.unwrap().get(0)
        };
        let info = conninfo(&sandbox);
        let mut catalogue = Catalogue::new(info.clone(), Tls::new(&info).unwrap(), LIMIT);
        assert_eq!(catalogue.primary_key(oid("k", "regclass").await).await, ["C c", "a"]);
        assert!(catalogue.primary_key(oid("none", "regclass").await).await.is_empty());

        let mut book = TypeBook::default();
        let mut types = Vec::new();
        for name in ["mood", "_mood", "\"Odd.Schema\".\"Point 3\"", "small_positive", "tags", "text_range", "text_ranges", "shape"] {
            types.push(oid(name, "regtype").await);
        }
        catalogue.learn(&mut book, &types).await;
        let told = |at: usize| book.get(types[at]);
        assert_eq!((&*told(0).name, &told(0).kind), ("mood", &TypeKind::Enum));
        assert_eq!(told(1).kind, TypeKind::Array(told(0)));
        assert_eq!((&*told(2).schema, &*told(2).name), ("Odd.Schema", "Point 3"));
        assert_eq!(told(2).kind, TypeKind::Composite);
        assert_eq!(&*told(3).underlying().name, "numeric");
        assert!(matches!(told(4).underlying().kind, TypeKind::Array(_)));
        assert_eq!((&told(5).kind, &told(6).kind), (&TypeKind::Range, &TypeKind::Multirange));
        assert_eq!((&told(7).kind, &*told(7).name), (&TypeKind::Base, "shape"));
    }

    async fn a_catalogue_that_cannot_be_reached_leaves_the_stream_as_it_is(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t (id int PRIMARY KEY, m mood); \
            CREATE PUBLICATION p FOR TABLE t").await;
        make_slot(&sandbox).await;
        sql(&sandbox, "INSERT INTO t VALUES (1, 'sad')").await;
        sql(&sandbox, STOP).await;
        let mut info = conninfo(&sandbox);
        info.dbname = "no such database".into();
        let catalogue = Catalogue::new(info.clone(), Tls::new(&info).unwrap(), LIMIT);
        let mut stream = stream(&sandbox, Lsn(0), StreamOptions::default()).await.with_catalogue(catalogue);
        let mut moods = Vec::new();
        each(&mut stream, |_, change| moods.push(change.new_row().unwrap().get::<String>("m").unwrap())).await;
        assert_eq!(moods, ["sad"]);
    }
}
