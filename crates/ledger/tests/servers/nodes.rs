//! Every engine as a node: the same log, the same rows.

use std::collections::BTreeMap;

use herdsman_ledger::{
    ChainHash, Decimal, Kind, LogId, Offset, RequestId, Value,
    entry::{Attempt, Entry, Genesis},
    node::{Node, NodeError, SqlError},
    replica::{Replica, Step},
    table::{Catalogue, Table, TableChange},
    writes::{RowChange, claims},
};

use crate::herd::{Herd, column};

const LOG: LogId = LogId([5; 16]);

/// A table with a column of every kind.
fn kinds() -> Table {
    let all = [
        ("id", Kind::Int64),
        ("b", Kind::Bool),
        ("i", Kind::Int32),
        ("n", Kind::Decimal { precision: 30, scale: 10 }),
        ("f", Kind::Float),
        ("t", Kind::Text { max: None }),
        ("v", Kind::Text { max: Some(20) }),
        ("raw", Kind::Bytes { max: Some(50) }),
        ("day", Kind::Date),
        ("moment", Kind::Timestamp),
        ("u", Kind::Uuid),
        ("j", Kind::Json),
    ];
    Table {
        name: "kinds".to_owned(),
        columns: all.map(|(name, kind)| column(name, kind, name != "id")).into(),
        key: vec![0],
        uniques: vec![vec![6], vec![7]],
        references: Vec::new(),
    }
}

/// Rows at the edges of what every engine can hold.
fn rows() -> Vec<Vec<Value>> {
    let number = |unscaled| Value::Decimal(Decimal { scale: 10, unscaled });
    let text = |text: &str| Value::Text(text.to_owned());
    let of = |kind, value: &str| Value::of_text(kind, value).unwrap();
    let full = vec![
        Value::Int(i64::MIN),
        Value::Bool(true),
        Value::Int(i64::from(i32::MIN)),
        number(-123_456_789_012_345_678_901_234_567_891),
        Value::float(0.1 + 0.2).unwrap(),
        text("é 🐑 'quoted' \"twice\" \\n\n\t end "),
        text("ABC"),
        Value::Bytes(vec![0, 255, 39, 92]),
        of(Kind::Date, "1000-01-01"),
        of(Kind::Timestamp, "1000-01-01 00:00:00.000001"),
        of(Kind::Uuid, "00112233-4455-6677-8899-aabbccddeeff"),
        Value::json(r#"{"b": [1, 2.5, 1e300, "é\n"], "a": null, "big": 18446744073709551615}"#)
            .unwrap(),
    ];
    let mut other = full.clone();
    other[0] = Value::Int(i64::MAX);
    other[1] = Value::Bool(false);
    other[3] = number(1);
    other[4] = Value::float(-1.797_693_134_862_315_7e308).unwrap();
    other[5] = text("");
    // Neither case nor a blank at the end makes two values one.
    other[6] = text("abc");
    other[7] = Value::Bytes(Vec::new());
    other[8] = of(Kind::Date, "9999-12-31");
    other[9] = of(Kind::Timestamp, "9999-12-31 23:59:59.999999");
    other[11] = Value::json("[]").unwrap();
    let mut third = other.clone();
    third[0] = Value::Int(0);
    third[4] = Value::float(5e-324).unwrap();
    third[6] = text("abc ");
    third[7] = Value::Bytes(vec![0]);
    let mut nothing = vec![Value::Null; full.len()];
    nothing[0] = Value::Int(7);
    let mut nothing_again = nothing.clone();
    nothing_again[0] = Value::Int(8);
    vec![full, other, third, nothing, nothing_again]
}

/// A row before and after.
type Change = (Option<Vec<Value>>, Option<Vec<Value>>);

/// What a log of these entries means, and the genesis it begins with.
struct Script {
    genesis: Genesis,
    first: ChainHash,
    replica: Replica,
    number: u32,
}

impl Script {
    fn new() -> Self {
        let genesis = Genesis { log: LOG, window: 4, keys: 1000 };
        let body = Entry::Genesis(genesis).encode(LOG).unwrap();
        let replica = Replica::new(genesis, &body);
        Self { genesis, first: replica.hash(), replica, number: 0 }
    }

    fn attempt(&mut self) -> Attempt {
        self.number += 1;
        let [a, b, c, d] = self.number.to_be_bytes();
        Attempt { request: RequestId([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), number: 1 }
    }

    fn step(&mut self, entry: &Entry) -> Step {
        let at = self.replica.applied().next();
        self.replica.take(at, &entry.encode(LOG).unwrap()).unwrap()
    }

    fn define(&mut self, change: TableChange) -> Step {
        let (attempt, base) = (self.attempt(), self.replica.applied());
        self.step(&Entry::Define { attempt, base, change })
    }

    fn write(&mut self, changes: Vec<Change>) -> Step {
        let rows: Vec<RowChange> = changes
            .into_iter()
            .map(|(before, after)| RowChange { table: "kinds".to_owned(), before, after })
            .collect();
        let catalogue = Catalogue(BTreeMap::from([("kinds".to_owned(), kinds())]));
        let claims = claims(&rows, &[], &catalogue).unwrap();
        let (attempt, base) = (self.attempt(), self.replica.applied());
        self.step(&Entry::Write { attempt, base, claims, rows })
    }
}

/// What each engine's SQL calls the same thing.
struct Sql {
    insert: &'static str,
    bytes: &'static str,
}

fn sql_of(node: &dyn Node) -> Sql {
    use herdsman_ledger::node::Engine;
    let (insert, bytes) = match node.engine() {
        Engine::Postgres => ("'2026-07-03 12:00:00.5+02'", "'\\x00ff'"),
        Engine::MariaDb => ("'2026-07-03 10:00:00.5'", "x'00ff'"),
        Engine::Sqlite => ("'2026-07-03 10:00:00.500000'", "x'00ff'"),
    };
    Sql { insert, bytes }
}

async fn a_node_holds_what_the_log_says(node: &dyn Node) -> herdsman_ledger::node::Checksums {
    let mut script = Script::new();
    node.install(&script.genesis, script.first).await.unwrap();
    node.install(&script.genesis, script.first).await.unwrap();
    let create = script.define(TableChange::Create(kinds()));
    node.apply(std::slice::from_ref(&create)).await.unwrap();
    // What was done is not done twice.
    node.apply(std::slice::from_ref(&create)).await.unwrap();

    let rows = rows();
    let inserted = script.write(rows.iter().map(|row| (None, Some(row.clone()))).collect());
    node.apply(std::slice::from_ref(&inserted)).await.unwrap();
    let all = node.checksums().await.unwrap();
    assert_eq!((all.at, all.tables["kinds"].rows), (Offset(2), 5));

    // Two rows change their unique values with each other; one changes another column; one goes.
    let mut swapped = (rows[0].clone(), rows[1].clone());
    std::mem::swap(&mut swapped.0[6], &mut swapped.1[6]);
    std::mem::swap(&mut swapped.0[7], &mut swapped.1[7]);
    let mut plain = rows[2].clone();
    plain[5] = Value::Null;
    let changed = script.write(vec![
        (Some(rows[0].clone()), Some(swapped.0.clone())),
        (Some(rows[1].clone()), Some(swapped.1)),
        (Some(rows[2].clone()), Some(plain)),
        (Some(rows[3].clone()), None),
    ]);
    let added = script.define(TableChange::AddColumn {
        table: "kinds".to_owned(),
        column: column("later", Kind::Text { max: Some(9) }, true),
    });
    // In one call; where DDL ends a transaction, in two.
    node.apply(&[changed, added]).await.unwrap();

    // A row that is not as the log has it fences; what comes before it in one call is there, also when asked again.
    let fresh = |id| [vec![Value::Int(id)], vec![Value::Null; 12]].concat();
    let fits = [script.write(vec![(None, Some(fresh(500)))])];
    let fits_too = [script.write(vec![(None, Some(fresh(501)))])];
    let wide = [rows[0].clone(), vec![Value::Null]].concat();
    let stale = [script.write(vec![(Some(wide), None)])];
    let steps = [fits, fits_too, stale].concat();
    for _ in 0..2 {
        let found = node.apply(&steps).await;
        let named =
            matches!(&found, Err(NodeError::Diverged(why)) if why.contains("entry 7: table kinds"));
        assert!(named, "{found:?}");
    }
    // And nothing of that step is left: the node is where it was, and says so.
    let durable = node.durable().await.unwrap();
    assert_eq!(durable.applied, Offset(6));
    assert_eq!(durable.catalogue, {
        let mut with = kinds();
        with.columns.push(column("later", Kind::Text { max: Some(9) }, true));
        Catalogue(BTreeMap::from([("kinds".to_owned(), with)]))
    });
    assert_eq!(durable.settled.first().unwrap().at, Offset(0));
    node.checksums().await.unwrap()
}

async fn a_transaction_is_captured_and_rolled_back(node: &dyn Node) -> Vec<RowChange> {
    let before = node.checksums().await.unwrap();
    let sql = sql_of(node);
    let mut transaction = node.begin().await.unwrap();
    assert_eq!(transaction.base(), before.at);
    let insert = format!(
        "INSERT INTO kinds (id, b, i, n, f, t, v, raw, day, moment, u, j) VALUES (100, true, 5, 1.5, 0.25, 'text', 'v', {}, \
         '2026-02-28', {}, '00112233-4455-6677-8899-aabbccddee00', '{{\"b\": 1, \"a\": 2}}')",
        sql.bytes, sql.insert
    );
    assert_eq!(transaction.run(&insert).await.unwrap().affected, 1);
    let update = "UPDATE kinds SET i = 6 WHERE id IN (100, 0)";
    assert_eq!(transaction.run(update).await.unwrap().affected, 2);
    assert_eq!(transaction.run("DELETE FROM kinds WHERE id = 8").await.unwrap().affected, 1);
    let seen = transaction.run("SELECT i FROM kinds WHERE id = 100").await.unwrap();
    assert_eq!(seen.rows, [[Some("6".to_owned())]], "it sees its own changes");
    let captured = transaction.capture().await.unwrap();
    assert_eq!(captured.base, before.at);
    assert_eq!(captured.rows.len(), 3);
    assert_eq!(node.checksums().await.unwrap(), before, "nothing of it is left");

    let mut failing = node.begin().await.unwrap();
    let twice = failing.run("INSERT INTO kinds (id, v) VALUES (101, 'same'), (102, 'same')").await;
    assert!(
        matches!(&twice, Err(SqlError::Refused { state, .. }) if state.starts_with("23")),
        "{twice:?}"
    );
    let after = failing.run("SELECT 1").await;
    assert!(
        matches!(&after, Err(SqlError::Refused { state, .. }) if state == "25P02"),
        "{after:?}"
    );
    drop(failing);
    for refused in [
        "COMMIT",
        "DROP TABLE kinds",
        "CREATE TABLE x (a int)",
        "SELECT 1; SELECT 2",
        "/* */ COMMIT",
    ] {
        let mut transaction = node.begin().await.unwrap();
        let found = transaction.run(refused).await;
        assert!(matches!(found, Err(SqlError::Refused { .. })), "{refused}: {found:?}");
    }
    let mut dropped = node.begin().await.unwrap();
    dropped.run("DELETE FROM kinds WHERE id = 0").await.unwrap();
    drop(dropped);
    let mut elsewhere = node.begin().await.unwrap();
    let found = elsewhere.run("UPDATE _ledger_state SET applied = 99 WHERE one = 1").await;
    assert!(
        matches!(&found, Err(SqlError::Refused { state, .. }) if state == "0A000"),
        "what is not in the log cannot be changed through it: {found:?}"
    );
    assert!(elsewhere.capture().await.is_err());
    assert_eq!(node.checksums().await.unwrap(), before);
    captured.rows
}

herdsman_sandbox::on_each_version! {
    async fn every_engine_holds_the_same_rows_and_captures_the_same_changes(version: u32) {
        let herd = Herd::start(version).await;
        let mut held = Vec::new();
        let mut captured = Vec::new();
        for node in herd.nodes() {
            held.push((node.engine(), Box::pin(a_node_holds_what_the_log_says(&*node)).await));
            captured.push((node.engine(), Box::pin(a_transaction_is_captured_and_rolled_back(&*node)).await));
        }
        for pair in held.windows(2) {
            assert_eq!(pair[0].1, pair[1].1, "{} and {}", pair[0].0, pair[1].0);
        }
        for pair in captured.windows(2) {
            assert_eq!(pair[0].1, pair[1].1, "{} and {}", pair[0].0, pair[1].0);
        }
        strangers_are_turned_away(&herd).await;
        a_fenced_node_serves_nobody(&herd).await;
    }
}

/// Nobody changes a table past Herdsman.
async fn strangers_are_turned_away(herd: &Herd) {
    use sqlx::{ConnectOptions as _, Executor as _};
    let lite = rusqlite::Connection::open(herd.sqlite_file()).unwrap();
    let error = lite.execute("DELETE FROM kinds", []).unwrap_err();
    assert!(error.to_string().contains("belongs_to_a_ledger"), "{error}");
    let mut maria = herd.mysql().connect().await.unwrap();
    let error = maria.execute("DELETE FROM kinds").await.unwrap_err();
    assert!(error.to_string().contains("belongs to a ledger"), "{error}");
    let info = herd.conninfo();
    let tls = herdsman_node::Tls::new(&info).unwrap();
    let connection = herdsman_node::connect(&info, &tls, crate::herd::PATIENCE).await.unwrap();
    let (client, driver) = connection.split(|_| {});
    tokio::spawn(driver);
    let error = client.execute("DELETE FROM kinds", &[]).await.unwrap_err();
    let said = error.as_db_error().unwrap().message().to_owned();
    assert!(said.contains("belongs to a ledger"), "{said}");
}

async fn a_fenced_node_serves_nobody(herd: &Herd) {
    for node in herd.nodes() {
        node.fence("a test's doing").await.unwrap();
        node.fence("a second reason").await.unwrap();
        assert_eq!(node.durable().await.unwrap().fenced.as_deref(), Some("a test's doing"));
        assert!(node.begin().await.is_err());
        let step = Script::new().define(TableChange::Create(kinds()));
        assert!(matches!(node.apply(&[step]).await, Err(NodeError::Diverged(_))));
    }
}
