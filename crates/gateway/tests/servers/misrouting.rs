//! Every statement that a proxy is known to have sent to the wrong server, and where it runs here. The servers' own logs
//! say where: each statement carries a mark.

use std::collections::BTreeMap;
use std::path::PathBuf;

use herdsman_sandbox::{Sandbox, on_each_version};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::harness::{self, Running};

/// Where a statement has to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    /// On the primary, and nowhere else.
    Primary,
    /// On the standby, and nowhere else.
    Standby,
    /// On the primary in the end: no text can tell, and a standby that has refused it is asked only once.
    PrimaryInTheEnd,
    /// Wherever its transaction is, or without any server.
    Anywhere,
}
use On::{Anywhere, Primary, PrimaryInTheEnd, Standby};

/// What one client does, statement by statement; the text is what the first column of the first row must be.
type Case = (&'static str, &'static [(On, &'static str, Option<&'static str>)]);

const SCHEMA: &str = "
    CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);
    INSERT INTO t SELECT generate_series(1, 100);
    CREATE TABLE log (id serial, what text);
    CREATE SEQUENCE s;
    CREATE FUNCTION writes() RETURNS int LANGUAGE plpgsql AS
        'BEGIN INSERT INTO log (what) VALUES (''written''); RETURN 1; END';
    CREATE FUNCTION \"Writes too\"(int) RETURNS int LANGUAGE sql AS
        'INSERT INTO log (what) VALUES (''written'') RETURNING $1';
    CREATE FUNCTION reads(int) RETURNS int STABLE LANGUAGE sql AS 'SELECT n FROM t WHERE id = $1';
    CREATE FUNCTION lists() RETURNS SETOF int LANGUAGE plpgsql AS
        'BEGIN INSERT INTO log (what) VALUES (''listed''); RETURN NEXT 1; END';
    CREATE VIEW writing_view AS SELECT writes() AS a;
    CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM t;
    CREATE PROCEDURE proceeds() LANGUAGE plpgsql AS 'BEGIN INSERT INTO log (what) VALUES (''called''); END';
    CREATE OPERATOR ### (FUNCTION = \"Writes too\", RIGHTARG = int);
";

/// One statement each that has to reach the primary.
const WRITES: &[&str] = &[
    // What PgCat, PgDog and Pgpool-II were seen to send to a standby.
    "SELECT writes()",
    "SELECT \"Writes too\"(1)",
    "SELECT * FROM lists()",
    "WITH a AS (INSERT INTO log (what) VALUES ('a') RETURNING id) SELECT id FROM a",
    "WITH a AS (UPDATE t SET n = n + 1 WHERE id = 1 RETURNING n) SELECT n FROM a",
    "WITH a AS (DELETE FROM log WHERE id = 0 RETURNING id) SELECT count(*) FROM a",
    "WITH a AS (SELECT nextval('s')) SELECT * FROM a",
    "SELECT nextval('s')",
    "SELECT setval('s', 10)",
    "SELECT 1 AS a INTO made_{n}",
    "SELECT 1 AS a INTO UNLOGGED made_u_{n}",
    "DO $$ BEGIN INSERT INTO log (what) VALUES ('done'); END $$",
    "COPY log (what) FROM '/dev/null'",
    "COPY (INSERT INTO log (what) VALUES ('copied') RETURNING id) TO '/dev/null'",
    "COPY (SELECT writes()) TO '/dev/null'",
    "SELECT txid_current()",
    "SELECT pg_current_xact_id()",
    "SELECT lo_creat(-1)",
    "SELECT lo_unlink(lo_create(0))",
    "SELECT pg_notify('channel', 'text')",
    "NOTIFY channel, 'text'",
    "EXPLAIN ANALYZE SELECT writes()",
    "EXPLAIN (ANALYZE, COSTS off) INSERT INTO log (what) VALUES ('explained')",
    "EXPLAIN (ANALYZE) SELECT nextval('s')",
    "SELECT n FROM t WHERE id = 1 FOR UPDATE",
    "SELECT n FROM t WHERE id = 1 FOR NO KEY UPDATE",
    "SELECT n FROM t WHERE id = 1 FOR SHARE",
    "SELECT n FROM t WHERE id = 1 FOR KEY SHARE",
    "SELECT n FROM t ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED",
    "SELECT n FROM t LIMIT 1 FOR NO KEY UPDATE NOWAIT",
    "SELECT * FROM (SELECT n FROM t LIMIT 1 FOR UPDATE) a",
    "SELECT (SELECT nextval('s')) + 1 FROM t LIMIT 1",
    "SELECT n FROM t WHERE id = writes()",
    "SELECT CASE WHEN n >= 0 THEN writes() END FROM t LIMIT 1",
    "SELECT 1 UNION ALL SELECT writes()",
    "VALUES (nextval('s'))",
    "TABLE t; SELECT writes()",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT pg_logical_emit_message(true, 'a', 'b')",
    "SELECT 'a;b', writes()",
    "SELECT /* INSERT */ writes()",
    "/* SELECT */ INSERT INTO log (what) VALUES ('commented')",
    "(SELECT writes())",
    // Several statements.
    "SELECT 1; INSERT INTO log (what) VALUES ('second')",
    "SELECT 1; SELECT writes()",
    "SET LOCAL work_mem TO '5MB'; INSERT INTO log (what) VALUES ('set')",
    "BEGIN; INSERT INTO log (what) VALUES ('begun'); COMMIT",
    ";; SELECT 1; DELETE FROM log WHERE id = 0;",
    // What everybody gets right, and has to.
    "INSERT INTO log (what) VALUES ('plain')",
    "INSERT INTO log (what) VALUES ('plain') RETURNING id",
    "UPDATE t SET n = n + 1 WHERE id = 1",
    "DELETE FROM log WHERE id = 0",
    "MERGE INTO t USING (SELECT 1 AS id) u ON t.id = u.id WHEN MATCHED THEN UPDATE SET n = 1",
    "CREATE TABLE created_{n} (a int)",
    "CREATE TABLE created_as_{n} AS SELECT 1 AS a",
    "TRUNCATE log",
    "CALL proceeds()",
    "REFRESH MATERIALIZED VIEW counted",
    "ANALYZE t",
    "COMMENT ON TABLE t IS 'sheep'",
];

/// One statement each that a standby answers as well.
const READS: &[&str] = &[
    "SELECT 1",
    "SELECT n FROM t WHERE id = 1",
    "/* a comment in front */ SELECT count(*) FROM t",
    "-- another\nSELECT count(*) FROM t",
    "VALUES (1), (2)",
    "TABLE t",
    "(SELECT 1)",
    "WITH a AS (SELECT n FROM t) SELECT count(*) FROM a",
    "SELECT lower('A'), now(), random()",
    "SELECT reads(1)",
    "SELECT 'INSERT INTO t; DELETE', $$UPDATE t$$, 'it''s'",
    "SELECT n AS \"update\" FROM t ORDER BY id LIMIT 1",
    "EXPLAIN SELECT writes()",
    "EXPLAIN ANALYZE SELECT count(*) FROM t",
    "SELECT count(*) FROM t;",
];

/// Clients that do one thing after the other; between two of them others use the connections.
const CASES: &[Case] = &[
    (
        "a view over a function that writes",
        &[
            (PrimaryInTheEnd, "SELECT a FROM writing_view", Some("1")),
            (PrimaryInTheEnd, "SELECT a FROM writing_view", Some("1")),
        ],
    ),
    ("an operator that writes", &[(PrimaryInTheEnd, "SELECT ### 5", Some("5"))]),
    (
        "a temporary table",
        &[
            (Primary, "CREATE TEMP TABLE own (a int)", None),
            (Primary, "INSERT INTO own VALUES (7)", None),
            (Primary, "SELECT a FROM own", Some("7")),
        ],
    ),
    (
        "SELECT INTO a temporary table",
        &[
            (Primary, "SELECT 8 AS a INTO TEMP own", None),
            (Primary, "SELECT a FROM own", Some("8")),
        ],
    ),
    (
        "PREPARE and EXECUTE",
        &[
            (Primary, "PREPARE p (int) AS SELECT $1 + 1", None),
            (Primary, "EXECUTE p (1)", Some("2")),
            (Anywhere, "DEALLOCATE p", None),
        ],
    ),
    (
        "PREPARE and EXECUTE of a write",
        &[
            (Primary, "PREPARE p AS INSERT INTO log (what) VALUES ('prepared') RETURNING 3", None),
            (Primary, "EXECUTE p", Some("3")),
        ],
    ),
    (
        "SET, then use",
        &[
            (Anywhere, "SET work_mem TO '7777kB'", None),
            (Anywhere, "SHOW work_mem", Some("7777kB")),
            (Standby, "SELECT current_setting('work_mem')", Some("7777kB")),
            (
                Primary,
                "INSERT INTO log (what) SELECT current_setting('work_mem') RETURNING what",
                Some("7777kB"),
            ),
            (Anywhere, "RESET work_mem", None),
            (Anywhere, "SHOW work_mem", Some("4MB")),
        ],
    ),
    (
        "a setting of one's own",
        &[
            (Anywhere, "SET app.\"user\" = 'it''s; me'", None),
            (Standby, "SELECT current_setting('app.user')", Some("it's; me")),
            (Anywhere, "SELECT set_config('app.user', 'another', false)", Some("another")),
            (Standby, "SELECT current_setting('app.user')", Some("another")),
        ],
    ),
    (
        "set_config for the transaction",
        &[
            (Anywhere, "BEGIN", None),
            (Primary, "SELECT set_config('app.local', 'here', true)", Some("here")),
            (Primary, "SELECT current_setting('app.local')", Some("here")),
            (Anywhere, "COMMIT", None),
            (Anywhere, "SELECT coalesce(current_setting('app.local', true), '')", Some("")),
        ],
    ),
    (
        "SET that is undone",
        &[
            (Anywhere, "BEGIN", None),
            (Primary, "SET work_mem TO '5555kB'", None),
            (Primary, "SELECT current_setting('work_mem')", Some("5555kB")),
            (Anywhere, "ROLLBACK", None),
            (Anywhere, "SELECT current_setting('work_mem')", Some("4MB")),
        ],
    ),
    (
        "search_path and time zone",
        &[
            (Anywhere, "SET search_path TO pg_catalog, \"$user\", public", None),
            (
                Standby,
                "SELECT current_setting('search_path')",
                Some("pg_catalog, \"$user\", public"),
            ),
            (Anywhere, "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", None),
            (Standby, "SELECT extract(timezone FROM now())::int", Some("-28800")),
            (Anywhere, "SET TIME ZONE LOCAL", None),
            (
                Anywhere,
                "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                None,
            ),
            (Standby, "SELECT current_setting('transaction_isolation')", Some("repeatable read")),
        ],
    ),
    (
        "roles",
        &[
            (Anywhere, "SET ROLE app", None),
            (Standby, "SELECT current_user", Some("app")),
            (Anywhere, "RESET ROLE", None),
            (Standby, "SELECT current_user", Some("postgres")),
            (Anywhere, "SET SESSION AUTHORIZATION app", None),
            (Standby, "SELECT session_user", Some("app")),
            (Anywhere, "SET SESSION AUTHORIZATION DEFAULT", None),
            (Standby, "SELECT session_user", Some("postgres")),
        ],
    ),
    (
        "SET and a write in one text",
        &[
            (Primary, "SET work_mem TO '6666kB'; INSERT INTO log (what) VALUES ('both')", None),
            (Primary, "SELECT current_setting('work_mem'), writes()", Some("6666kB")),
        ],
    ),
    (
        "a session advisory lock",
        &[
            (Primary, "SELECT pg_advisory_lock(42)", None),
            (Primary, "SELECT pg_advisory_unlock(42)", Some("t")),
        ],
    ),
    (
        "an explicit transaction",
        &[
            (Anywhere, "BEGIN", None),
            (Primary, "SELECT n FROM t WHERE id = 2", None),
            (Primary, "UPDATE t SET n = 5 WHERE id = 2", None),
            (Primary, "SELECT n FROM t WHERE id = 2", Some("5")),
            (Anywhere, "COMMIT", None),
        ],
    ),
    (
        "a transaction that only reads",
        &[
            (Anywhere, "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", None),
            (Standby, "SELECT count(*) FROM t", Some("100")),
            (Standby, "SELECT count(*) FROM t", Some("100")),
            (Anywhere, "COMMIT", None),
        ],
    ),
    (
        "a serializable transaction that only reads",
        &[
            (Anywhere, "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", None),
            (Primary, "SELECT count(*) FROM t", Some("100")),
            (Anywhere, "COMMIT", None),
        ],
    ),
    (
        "savepoints",
        &[
            (Anywhere, "BEGIN", None),
            (Primary, "SAVEPOINT a", None),
            (Primary, "SET work_mem TO '5555kB'", None),
            (Primary, "ROLLBACK TO a", None),
            (Primary, "SELECT current_setting('work_mem')", Some("4MB")),
            (Anywhere, "COMMIT", None),
            (Anywhere, "SHOW work_mem", Some("4MB")),
        ],
    ),
    (
        "cursors",
        &[
            (Anywhere, "BEGIN", None),
            (Primary, "DECLARE c CURSOR FOR SELECT id FROM t ORDER BY id", None),
            (Primary, "FETCH 1 FROM c", Some("1")),
            (Primary, "DECLARE kept CURSOR WITH HOLD FOR SELECT id FROM t ORDER BY id", None),
            (Anywhere, "COMMIT", None),
            (Primary, "FETCH 1 FROM kept", Some("1")),
        ],
    ),
    (
        "currval in the transaction of its nextval",
        &[
            (Anywhere, "BEGIN", None),
            (Primary, "SELECT setval('s', 77)", Some("77")),
            (Primary, "SELECT currval('s')", Some("77")),
            (Anywhere, "COMMIT", None),
        ],
    ),
    (
        "hints",
        &[
            (Primary, "SELECT 1 /* herdsman: writer */", Some("1")),
            (Primary, "SELECT 1 /* herdsman: target=n1 */", Some("1")),
            (Standby, "SELECT 1 /* herdsman: target=n2 */", Some("1")),
            (Primary, "INSERT INTO log (what) VALUES ('a') /* herdsman: reader */", None),
        ],
    ),
    (
        "one's own writes",
        &[
            (Primary, "UPDATE t SET n = 11 WHERE id = 3", None),
            (Anywhere, "SELECT n FROM t WHERE id = 3", Some("11")),
            (Primary, "UPDATE t SET n = 12 WHERE id = 3", None),
            (Anywhere, "SELECT n FROM t WHERE id = 3", Some("12")),
        ],
    ),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Simple,
    Extended,
}

/// Statements under marks, and what is to be found in the logs.
struct Herd {
    cluster: Sandbox,
    running: Running,
    marks: BTreeMap<String, (On, String)>,
    /// Who else uses the pool.
    other: Client,
    wrong: Vec<String>,
}

impl Herd {
    async fn run(
        &mut self,
        client: &Client,
        protocol: Protocol,
        on: On,
        sql: &str,
        expected: Option<&str>,
    ) {
        let mark = format!("mark-{}-", self.marks.len());
        let text = sql.replace("{n}", &self.marks.len().to_string());
        let marked = match text.rfind(';') {
            // Within the last statement: a log shows them one by one.
            Some(at) if text.ends_with(';') => format!("{} /* {mark} */;", text.get(..at).unwrap()),
            _ => format!("{text} /* {mark} */"),
        };
        let answer = match protocol {
            Protocol::Simple => simple(client, &marked).await,
            Protocol::Extended => extended(client, &marked).await,
        };
        match answer {
            Err(error) => {
                let why =
                    error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string);
                self.wrong.push(format!("{protocol:?} {text}: {why}"));
            }
            Ok(found) if expected.is_some_and(|expected| found.as_deref() != Some(expected)) => {
                self.wrong.push(format!("{protocol:?} {text}: {found:?} in place of {expected:?}"));
            }
            Ok(_) => {}
        }
        self.marks.insert(mark, (on, format!("{protocol:?} {text}")));
        // Connections that go back are used by others, with other settings.
        let size = format!("SET work_mem TO '{}kB'", 1000 + self.marks.len() % 3);
        for sql in [&size, "SELECT txid_current()", "SELECT 1"] {
            self.other.simple_query(sql).await.unwrap();
        }
    }

    async fn case(&mut self, protocol: Protocol, (_, steps): &Case) {
        let client = self.running.connect("postgres", "postgres").await;
        for (on, sql, expected) in *steps {
            self.run(&client, protocol, *on, sql, *expected).await;
        }
    }

    /// Which statements ran where they should not have.
    fn compare(&mut self) -> usize {
        let logs: Vec<_> = ["n1", "n2"].map(|node| log(&self.cluster, node)).into();
        let mut found = 0;
        for (mark, (on, sql)) in &self.marks {
            let [primary, standby] =
                [0, 1].map(|node| logs.get(node).is_some_and(|log: &String| log.contains(mark)));
            found += usize::from(primary || standby);
            let right = match on {
                Primary => primary && !standby,
                Standby => standby && !primary,
                PrimaryInTheEnd => primary,
                Anywhere => true,
            };
            if !right {
                self.wrong.push(format!(
                    "{sql}: on the primary {primary}, on the standby {standby}, should be {on:?}"
                ));
            }
        }
        found
    }
}

async fn simple(client: &Client, sql: &str) -> Result<Option<String>, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(ToOwned::to_owned),
        _ => None,
    }))
}

async fn extended(client: &Client, sql: &str) -> Result<Option<String>, tokio_postgres::Error> {
    let statement = client.prepare(sql).await?;
    let rows = client.query(&statement, &[]).await?;
    let text = |row: &tokio_postgres::Row| {
        let kind = row.columns().first()?.type_().name().to_owned();
        match kind.as_str() {
            "int4" => row.get::<_, Option<i32>>(0).map(|number| number.to_string()),
            "int8" => row.get::<_, Option<i64>>(0).map(|number| number.to_string()),
            "bool" => {
                row.get::<_, Option<bool>>(0).map(|truth| if truth { "t" } else { "f" }.to_owned())
            }
            "text" | "name" | "varchar" => row.get(0),
            _ => None,
        }
    };
    Ok(rows.first().and_then(text))
}

fn log(cluster: &Sandbox, node: &str) -> String {
    let path: PathBuf = cluster.dir().join(node).join("log");
    std::fs::read(&path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether the extended protocol takes it: one statement only.
fn is_single(sql: &str) -> bool {
    !sql.trim_end_matches(';').replace("'a;b'", "").contains("; ")
}

on_each_version! {
    async fn nothing_is_sent_where_it_cannot_run(version: u32) {
        let cluster =
            Sandbox::builder().pg_version(version).standbys(1).setting("log_statement", "all").start().await.unwrap();
        cluster.sql("n1", "postgres").await.unwrap().batch_execute(SCHEMA).await.unwrap();
        cluster.wait_replayed().await.unwrap();
        let running = harness::gateway(&cluster, "pool: { size: 4 }").await;
        running.until(|topology| topology.readers().count() == 1).await;
        let other = running.connect("postgres", "postgres").await;
        let mut herd = Herd { cluster, running, marks: BTreeMap::new(), other, wrong: Vec::new() };

        for protocol in [Protocol::Simple, Protocol::Extended] {
            let fits = |sql: &str| protocol == Protocol::Simple || is_single(sql);
            let reader = herd.running.connect("postgres", "postgres").await;
            for sql in READS {
                herd.run(&reader, protocol, Standby, sql, None).await;
            }
            let writer = herd.running.connect("postgres", "postgres").await;
            for sql in WRITES.iter().filter(|sql| fits(sql)) {
                herd.run(&writer, protocol, Primary, sql, None).await;
            }
            // What a client has not written itself it may read anywhere.
            herd.cluster.wait_replayed().await.unwrap();
            for case in CASES.iter().filter(|(_, steps)| steps.iter().all(|(_, sql, _)| fits(sql))) {
                herd.case(protocol, case).await;
            }
        }
        let found = herd.compare();
        assert!(found > herd.marks.len() / 2, "the logs show only {found} of {} statements", herd.marks.len());
        assert!(herd.wrong.is_empty(), "{} wrong:\n{}", herd.wrong.len(), herd.wrong.join("\n"));
        herd.running.stop().await;
    }
}
