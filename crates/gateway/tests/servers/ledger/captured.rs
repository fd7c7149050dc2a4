//! What a transaction has changed comes into the log as it is, whatever the client has set, taken back, or how much it is.

use super::{Served, one};

pub(super) async fn check(served: &Served) {
    let client = served.client().await;
    client
        .batch_execute("CREATE TABLE kinds (id bigint PRIMARY KEY, f double precision, t timestamptz, d date, b bytea, n numeric(10,3), j jsonb)")
        .await
        .unwrap();
    client
        .batch_execute("SET timezone = 'America/St_Johns'; SET datestyle = 'German'; SET extra_float_digits = -15; SET bytea_output = escape")
        .await
        .unwrap();
    client
        .batch_execute(
            r#"INSERT INTO kinds VALUES (1, 0.1::float8 + 0.2::float8, '2024-03-31T02:30:00.25+01', '2024-02-29', '\x00ff'::bytea, 1.5, '{"a": "line\nand \"quote\""}')"#,
        )
        .await
        .unwrap();
    let kinds = "SELECT f, t, d, b, n FROM kinds WHERE id = 1";
    let lite = served.at("lite", kinds).await;
    let floats = lite[0][0].as_deref().map(str::parse::<f64>);
    assert_eq!(floats, Some(Ok(0.1 + 0.2)), "{lite:?}");
    assert_eq!(lite[0][1].as_deref(), Some("2024-03-31 01:30:00.250000"), "{lite:?}");
    assert_eq!(lite[0][2].as_deref(), Some("2024-02-29"), "{lite:?}");
    for node in ["pg", "maria", "lite"] {
        let sql = match node {
            "pg" => "SELECT j ->> 'a' FROM kinds",
            "maria" => "SELECT json_value(j, '$.a') FROM kinds",
            _ => "SELECT json_extract(j, '$.a') FROM kinds",
        };
        let rows = served.at(node, sql).await;
        assert_eq!(rows[0][0].as_deref(), Some("line\nand \"quote\""), "{node}");
    }
    // More than one setting of the session holds, in and around what is taken back.
    let insert = |from: u32| {
        format!(
            "INSERT INTO kinds (id, b) SELECT n, decode(repeat('ab', 40), 'hex') FROM generate_series({from}, {}) n",
            from + 999
        )
    };
    let script = format!(
        "BEGIN; {}; SAVEPOINT a; {}; UPDATE kinds SET f = 1; ROLLBACK TO a; {}; UPDATE kinds SET f = 2 WHERE id % 2 = 0; DELETE FROM kinds WHERE id % 5 = 0; COMMIT",
        insert(1000),
        insert(2000),
        insert(3000)
    );
    client.batch_execute(&script).await.unwrap();
    let counts = "SELECT count(*), count(f), min(id), max(id) FROM kinds WHERE id > 1";
    let rows: Vec<_> =
        ["pg", "maria", "lite"].map(|node| async move { served.at(node, counts).await }).into();
    let rows = futures_util::future::join_all(rows).await;
    let expected = ["1600", "800", "1001", "3999"].map(|it| Some(it.to_owned()));
    assert!(rows.iter().all(|it| it[0] == expected), "{rows:?}");
    // Nothing of one transaction is left for the next.
    assert_eq!(one(&client, "DELETE FROM kinds WHERE id = 1 RETURNING id").await, "1");
    let rows = served.at("lite", "SELECT count(*) FROM kinds").await;
    assert_eq!(rows[0][0].as_deref(), Some("1600"));
}
