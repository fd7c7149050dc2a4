//! Values beside the text of statements, and reads that would give more than an answer holds.

use std::time::Duration;

use herdsman_node::Tls;
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, Row as _};

use super::client::Client;
use crate::herd::{Herd, NODES, PATIENCE};

const INSERT: &str = "INSERT INTO thing (id, flag, small, price, part, name, note, raw, day, at, code, doc) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
/// A text that would do harm if it were part of a statement.
const NOTE: &str = "'); DELETE FROM thing; -- \\ $1 ? é";

/// What every type takes, written at each engine and read at each.
pub(super) async fn values_are_bound_at_every_engine(client: &mut Client) {
    let row = |id: usize| {
        json!([
            id, true, 7, "12.50", 0.5, "O'Hara", NOTE, {"bytea": "00ff"}, "2026-02-03", "2026-02-03 04:05:06.000007",
            "00112233-4455-6677-8899-aabbccddeeff", "{\"a\": 1}"
        ])
    };
    let nulls =
        |id: usize| json!([id, null, null, null, null, null, null, null, null, null, null, null]);
    let mut offset = 0;
    for (number, node) in NODES.into_iter().enumerate() {
        let id = 100 + number;
        let both =
            [row(id), nulls(id + 100)].map(|params| json!({"sql": INSERT, "params": params}));
        let told =
            client.all(&format!("bind {node}"), json!({"statements": both, "node": node})).await;
        assert_eq!(
            (&told["resultCode"], &told["rowsChanged"]),
            (&json!("OK"), &json!(2)),
            "{told}"
        );
        let sql = "INSERT INTO thing (note, id) VALUES ($2, $1) RETURNING note, id";
        let ask = json!({"sqlString": sql, "params": [id + 200, NOTE], "node": node});
        let told = client.all(&format!("return {node}"), ask).await;
        assert_eq!(told["rows"], json!([[NOTE, id + 200]]), "{told}");
        offset = told["offset"].as_u64().unwrap();
    }
    for node in NODES {
        let sql = "SELECT id, flag, small, price, part, name, note, raw, code FROM thing \
                   WHERE id >= $2 AND id <= $3 AND name = $1 AND flag = $4 ORDER BY id";
        let ask = json!({"sqlString": sql, "params": ["O'Hara", 100, "102", true], "node": node, "after": offset});
        let told = client.one(&format!("bound read {node}"), ask).await;
        let flag = if node == "lite" { json!(1) } else { json!(true) };
        let rows: Vec<Value> = (100..103)
            .map(|id| {
                json!([
                    id,
                    flag,
                    7,
                    "12.50",
                    0.5,
                    "O'Hara",
                    NOTE,
                    "00ff",
                    "00112233-4455-6677-8899-aabbccddeeff"
                ])
            })
            .collect();
        assert_eq!(told["rows"], json!(rows), "{node}: {told}");
        let sql = "SELECT count(*) FROM thing WHERE id BETWEEN $1 AND $1 + 2 AND note IS NULL";
        let ask = json!({"statements": [{"sql": sql, "params": [200]}, "SELECT 1"], "node": node, "after": offset});
        let told = client.one(&format!("nulls {node}"), ask).await;
        assert_eq!(told["results"][0]["rows"], json!([[3]]), "{node}: {told}");
    }
    let sql = "SELECT $1::int + 1, $2::boolean, $3, $4::bytea, $5::date - 1, $6::int IS NULL";
    let ask = json!({"sqlString": sql, "params": [7, false, "", {"bytea": "00ff"}, "2026-03-01", null], "node": "pg"});
    let told = client.one("types", ask).await;
    assert_eq!(told["rows"], json!([[8, false, "", "00ff", "2026-02-28", true]]), "{told}");
    values_that_do_not_fit_change_nothing(client).await;
}

async fn values_that_do_not_fit_change_nothing(client: &mut Client) {
    let two = "INSERT INTO thing (id, note) VALUES ($1, $2)";
    for node in NODES {
        for (number, params) in [json!([]), json!([501]), json!([501, "a", "b"])].iter().enumerate()
        {
            // The first statement alone would be done.
            let first = json!({"sql": two, "params": [500, "a"]});
            let ask = json!({"statements": [first, {"sql": two, "params": params}], "node": node});
            let told = client.all(&format!("mismatch {number} {node}"), ask).await;
            assert_eq!(told["sqlstate"], "08P01", "{node}: {told}");
            assert!(told["error"].as_str().unwrap().contains("go up to $2"), "{told}");
        }
    }
    let one = "INSERT INTO thing (id) VALUES ($1)";
    for (number, (ask, state)) in [
        (json!({"sqlString": one, "params": ["x"], "node": "pg"}), "22P02"),
        (json!({"sqlString": one, "params": [{"bytea": "00"}], "node": "pg"}), "42804"),
        (json!({"sqlString": one, "params": [[500]]}), "08P01"),
        (json!({"sqlString": "DROP TABLE thing", "params": [1]}), "08P01"),
        (json!({"sqlString": "INSERT INTO thing (id) VALUES (?)", "node": "lite"}), "42601"),
    ]
    .into_iter()
    .enumerate()
    {
        let told = client.all(&format!("unfit {number}"), ask).await;
        assert_eq!(told["sqlstate"], state, "{told}");
    }
    let ask = json!({"sqlString": "SELECT count(*) FROM thing WHERE id BETWEEN $1 AND $1 + 99", "params": [500], "read": "linearizable"});
    let told = client.one("nothing was done", ask).await;
    assert_eq!(told["rows"], json!([[0]]), "{told}");
}

/// Results of gigabytes, whose end nobody would live to see: after the rows that are read, each takes its time.
pub(super) async fn reads_beyond_an_answer_are_stopped(herd: &Herd, client: &mut Client) {
    for (number, (node, sql, most)) in [
        (
            "pg",
            "SELECT n, CASE WHEN n > 20000 THEN pg_sleep(0.01)::text END, repeat('x', 200) AS far_too_much \
             FROM (SELECT generate_series(1, 10000000) AS n) AS s",
            "more than 10000 rows",
        ),
        (
            "pg",
            "SELECT repeat('far too much', 1000) FROM (SELECT generate_series(1, 10000000)) AS s",
            "more than 3686400 bytes",
        ),
        (
            "maria",
            "SELECT seq, IF(seq > 20000, SLEEP(0.01), 0), REPEAT('x', 200) AS far_too_much FROM seq_1_to_10000000",
            "more than 10000 rows",
        ),
        (
            "lite",
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000000) SELECT i, hex(zeroblob(100)) FROM n",
            "more than 10000 rows",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let told = client.one(&format!("beyond {number}"), json!({"sqlString": sql, "node": node})).await;
        let error = told["error"].as_str().unwrap();
        assert!(told["sqlstate"] == "54000" && error.contains(most), "{told}");
        assert!(error.contains("at most 10000 rows and 921600 bytes are sent"), "{told}");
    }
    // Of a write, which is done, they are left out. A value may be as long as a request.
    let sql = "INSERT INTO thing (id, note) VALUES ($1, $2) RETURNING note || repeat('x', 4000000)";
    let ask = json!({"sqlString": sql, "params": [400, "long".repeat(100_000)], "node": "pg"});
    let told = client.all("write beyond", ask).await;
    assert_eq!((&told["resultCode"], &told["rowsChanged"]), (&json!("OK"), &json!(1)), "{told}");
    assert!(told["omitted"].as_str().unwrap().contains("more than 3686400 bytes"), "{told}");

    // The servers stop, too.
    let info = herd.conninfo();
    let tls = Tls::new(&info).unwrap();
    let (postgres, driver) =
        herdsman_node::connect(&info, &tls, PATIENCE).await.unwrap().split(|_| {});
    tokio::spawn(driver);
    let mut maria = herd.mysql().connect().await.unwrap();
    let running = async {
        loop {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%far_too_much%'";
            let there: i64 = postgres.query_one(sql, &[]).await.unwrap().get(0);
            let sql = "SELECT count(*) FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND info LIKE '%far_too_much%'";
            let row = sqlx::query(sql).fetch_one(&mut maria).await.unwrap();
            if (there, row.get::<i64, _>(0)) == (0, 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, running).await.expect("the servers stop");
}
