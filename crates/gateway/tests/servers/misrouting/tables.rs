//! The statements.

use super::On::{self, Anywhere, Primary, PrimaryInTheEnd, Standby};

/// One statement, where it belongs, and what the first column of the first row must be.
pub(super) type Step = (On, &'static str, Option<&'static str>);
/// What one client does, statement by statement.
pub(super) type Case = (&'static str, &'static [Step]);

pub(super) const SCHEMA: &str = "
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
pub(super) const WRITES: &[&str] = &[
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
pub(super) const READS: &[&str] = &[
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

/// Clients that do one thing after the other, on both servers; between two of them others use the connections.
pub(super) const CASES: &[Case] = &[
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
            (
                Standby,
                "SELECT current_setting('work_mem') /* herdsman: target=n2 */",
                Some("7777kB"),
            ),
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
            (
                Standby,
                "SELECT current_setting('app.user') /* herdsman: target=n2 */",
                Some("it's; me"),
            ),
            (Anywhere, "SELECT set_config('app.user', 'another', false)", Some("another")),
            (
                Standby,
                "SELECT current_setting('app.user') /* herdsman: target=n2 */",
                Some("another"),
            ),
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
                "SELECT current_setting('search_path') /* herdsman: target=n2 */",
                Some("pg_catalog, \"$user\", public"),
            ),
            (Anywhere, "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", None),
            (
                Standby,
                "SELECT extract(timezone FROM now())::int /* herdsman: target=n2 */",
                Some("-28800"),
            ),
            (Anywhere, "SET TIME ZONE LOCAL", None),
            (
                Anywhere,
                "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                None,
            ),
            (
                Standby,
                "SELECT current_setting('transaction_isolation') /* herdsman: target=n2 */",
                Some("repeatable read"),
            ),
        ],
    ),
    (
        "roles",
        &[
            (Anywhere, "SET ROLE app", None),
            (Standby, "SELECT current_user /* herdsman: target=n2 */", Some("app")),
            (Anywhere, "RESET ROLE", None),
            (Standby, "SELECT current_user /* herdsman: target=n2 */", Some("postgres")),
            (Anywhere, "SET SESSION AUTHORIZATION app", None),
            (Standby, "SELECT session_user /* herdsman: target=n2 */", Some("app")),
            (Anywhere, "SET SESSION AUTHORIZATION DEFAULT", None),
            (Standby, "SELECT session_user /* herdsman: target=n2 */", Some("postgres")),
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
