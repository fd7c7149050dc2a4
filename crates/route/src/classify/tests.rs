use super::{CATALOGUE_SQL, Class, Classifier, Functions, Kind, Why, classify};

fn kind(sql: &str) -> Kind {
    classify(sql, &Functions::builtin()).kind
}

fn assert_all(expected: Kind, statements: &[&str]) {
    let functions = Functions::builtin();
    for sql in statements {
        let Class { kind, why } = classify(sql, &functions);
        assert_eq!(kind, expected, "{sql:?} {why}");
    }
}

#[test]
fn what_the_predecessor_sent_to_a_reader_goes_to_the_writer() {
    assert_all(
        Kind::Write,
        &[
            "SELECT * FROM users WHERE id = 1 FOR UPDATE",
            "SELECT * FROM jobs LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED",
            "SELECT * FROM jobs FOR SHARE OF jobs",
            "SELECT * FROM jobs FOR KEY SHARE",
            "SELECT * FROM jobs FOR /* all */ UPDATE",
            "INSERT INTO users (name) VALUES ('a') RETURNING id",
            "WITH x AS (DELETE FROM users RETURNING *) SELECT * FROM x",
            "SELECT nextval('ids')",
            "SELECT nextval /* one */ ('ids')",
            "SELECT pg_catalog.\"nextval\"('ids')",
            "SELECT my_volatile_fn()",
            "WITH found AS (SELECT id FROM t WHERE k = $1), made AS (INSERT INTO t (k) SELECT $1 WHERE NOT EXISTS \
             (SELECT FROM found) RETURNING id) SELECT id FROM found UNION ALL SELECT id FROM made",
            "EXPLAIN ANALYZE INSERT INTO t VALUES (1)",
            "EXPLAIN (COSTS off, ANALYZE) DELETE FROM t",
            "EXPLAIN (\"analyze\") SELECT nextval('ids')",
            "EXPLAIN (values json, ANALYZE) INSERT INTO t VALUES (1)",
            "COPY t FROM STDIN",
            "COPY (SELECT 1) TO STDOUT",
            "SELECT pg_advisory_xact_lock(1)",
            "SELECT pg_notify('channel', 'text')",
            "SELECT 1; DELETE FROM users",
            "SELECT 1; SELECT 2",
            "/* herdsman: writer */ SELECT 1",
            "SELECT * INTO copy FROM t",
            "CREATE TABLE t (id int)",
            "CALL p()",
            "DO $$ BEGIN END $$",
            "VACUUM",
            "",
            " -- nothing\n;",
        ],
    );
}

#[test]
fn what_belongs_to_one_session_is_known_as_such() {
    assert_all(
        Kind::Session,
        &[
            "SET search_path TO x",
            "reset all",
            "BEGIN",
            "START TRANSACTION READ ONLY",
            "COMMIT",
            "LISTEN c",
            "PREPARE p AS SELECT 1",
            "EXECUTE p",
            "EXPLAIN EXECUTE p",
            "DECLARE c CURSOR FOR SELECT 1",
            "FETCH 1 FROM c",
            "LOCK TABLE t",
            "CREATE TEMP TABLE t (id int)",
            "CREATE LOCAL TEMPORARY TABLE t AS SELECT 1",
            "SELECT 1 AS id INTO TEMP t",
            "SELECT * FROM pg_temp.t",
            "SELECT * FROM \"pg_temp_3\".t",
            "SELECT pg_advisory_lock(1)",
            "SELECT pg_try_advisory_lock(1)",
            "SELECT set_config('a.b', 'c', false)",
            "SELECT currval('ids'), lastval()",
        ],
    );
}

#[test]
fn plain_reads_may_go_to_a_reader() {
    assert_all(
        Kind::Read,
        &[
            "SELECT abalance FROM pgbench_accounts WHERE aid = 12345",
            "select 1;",
            "  /* why */ SELECT 1 -- end\n ; ; -- done",
            "SHOW server_version",
            "TABLE t",
            "VALUES (1, 'a'), (2, 'b')",
            "((SELECT 1) UNION (SELECT 2)) ORDER BY 1",
            "EXPLAIN SELECT nextval('ids')",
            "EXPLAIN (VERBOSE, COSTS off) UPDATE t SET a = 1",
            "EXPLAIN (SELECT 1)",
            "EXPLAIN ANALYZE VERBOSE SELECT count(*) FROM t",
            r#"SELECT "u"."id", COUNT(*) FROM "users" AS "u" WHERE "u"."id" IN ($1, $2) GROUP BY "u"."id" LIMIT $3"#,
            "SELECT coalesce(a, b), CAST(c AS numeric(10, 2)), d::varchar(10), EXTRACT(epoch FROM e) FROM t",
            "SELECT e::character varying(8), f::timestamp(3) with time zone, v::public.vector(3) FROM t",
            "SELECT substring(a FROM 1 FOR 2), trim(BOTH ' ' FROM b), position('x' IN c) FROM t",
            "SELECT now(), random(), gen_random_uuid(), clock_timestamp()",
            "SELECT rank() OVER (PARTITION BY (a) ORDER BY (b)), count(*) FILTER (WHERE c) FROM t",
            "SELECT a, sum(b) FROM t GROUP BY GROUPING SETS ((a), ()) HAVING sum(b) > ANY (ARRAY[1, 2])",
            "SELECT a FROM t GROUP BY ROLLUP (a)",
            "SELECT a FROM t TABLESAMPLE system (1) JOIN u TABLESAMPLE bernoulli (1) REPEATABLE (2) ON true",
            "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 9), m(j) AS NOT MATERIALIZED \
             (SELECT i FROM n) SELECT * FROM m",
            "SELECT * FROM (VALUES (1, 2)) v(a, b) JOIN LATERAL generate_series(1, v.a) g(x) ON true",
            "SELECT * FROM jsonb_to_recordset($1) AS r(a int, b text) LEFT JOIN (SELECT 1) s ON true",
            "SELECT a AT TIME ZONE ('UTC') FROM t FETCH FIRST (1) ROWS ONLY",
            "SELECT x'1f', B'01', N'a', U&'d\\0061t', E'it\\'s', $$a ; b$$, $a$ DELETE $$ $a$",
            "SELECT 'DELETE FROM t; --', \"update\", \"into\" FROM t /* INSERT /* nested */ INTO */ -- FOR UPDATE",
            "SELECT 1.5e-3, .5, 0xff, 1_000, a[1:2], b->>'c' FROM t WHERE d ~ '^/\\*'",
            CATALOGUE_SQL,
        ],
    );
}

#[test]
fn tricky_text_is_not_mistaken_for_a_read() {
    assert_all(
        Kind::Write,
        &[
            // The extent of strings and comments.
            r"SELECT 'a\'; DELETE FROM t; --'",
            r"SELECT E'a\\'; DELETE FROM t; --'",
            r"SELECT E'a' 'b\'; DELETE FROM t; --'",
            "SELECT 'a''b'; DELETE FROM t",
            "SELECT $a$ $b$ $a$; DELETE FROM t; --$b$",
            "SELECT a$b$ FROM t; DELETE FROM t; -- $b$",
            "SELECT 1 -- it ends here:\rINTO t",
            "SELECT 1 /* /* */ ; */ ; DELETE FROM t",
            "SELECT 1 /* never closed",
            "SELECT 'never closed",
            "SELECT $x$ never closed",
            "SELECT \"never closed",
            "SELECT 1 \0",
            "SELECT '\0'",
            "SELECT 1INTO t",
            "SELECT (1",
            "SELECT 1)",
            "SELECT U&\"\\0070g_temp\".f FROM t",
            // Calls.
            "SELECT \"coalesce\"(1)",
            "SELECT \"LOWER\"('a')",
            "SELECT farm.lower('a')",
            "SELECT farm.in(1)",
            "SELECT f\n--\n(1)",
            "SELECT system('ls')",
            "SELECT DISTINCT ON (a) f(b) FROM t",
            "SELECT a OPERATOR(pg_catalog.+) f(b) FROM t",
            "SELECT a::timestamp with time zone, f(b) FROM t",
            "WITH t(a) AS (SELECT 1) SELECT 1, f(2) FROM t",
            "WITH t AS (SELECT 1) (SELECT 1) ORDER BY 1, f(2)",
            "WITH t AS (SELECT 1 AS a) CYCLE a SET b USING c (SELECT 1) ORDER BY 1, f(2)",
            "SELECT * FROM t ORDER BY cube(a), by(b)",
            "SELECT f((SELECT 1))",
            "SELECT f(values) FROM t",
            "SELECT txid_current()",
            "/* herdsman: reader */ SELECT nextval('ids')",
            "/* herdsman: reader */ DELETE FROM t",
            "/* herdsman: reader */ SELECT f() FOR UPDATE",
            "/* herdsman: readers */ SELECT f()",
            "/* /* herdsman: reader */ */ SELECT f()",
            "SELECT f(), '/* herdsman: reader */'",
        ],
    );
}

#[test]
fn hints_overrule_in_any_case_and_place() {
    assert_eq!(kind("/*HERDSMAN:Writer*/ SELECT 1"), Kind::Write);
    assert_eq!(kind("SELECT 1 /* herdsman : writer */"), Kind::Write);
    assert_eq!(kind("SELECT /* Herdsman: READER */ f()"), Kind::Read);
    assert_eq!(kind("SELECT f() /* herdsman: reader */ /* herdsman: writer */"), Kind::Write);
    assert_eq!(kind("SET a = 1 /* herdsman: reader */"), Kind::Session);
}

#[test]
fn the_catalogue_says_which_functions_only_read() {
    let rows = [
        ("sum_of", true),
        ("book", false),
        ("lower", false),
        ("nextval", true),
        ("f", true),
        ("f", false),
        ("json_value", false),
    ];
    let functions = Functions::from_catalogue(rows.map(|(name, safe)| (name.to_owned(), safe)));
    let why = |sql| classify(sql, &functions).why;
    assert_eq!(why("SELECT sum_of(1), farm.Sum_Of(2), \"sum_of\"(3)"), Why::PlainRead);
    assert_eq!(why("SELECT book(1)"), Why::VolatileFunction);
    assert_eq!(why("SELECT lower('a')"), Why::VolatileFunction);
    assert_eq!(why("SELECT \"Sum_Of\"(1)"), Why::UnknownFunction);
    assert_eq!(why("SELECT f(1)"), Why::VolatileFunction);
    assert_eq!(why("SELECT nextval('ids')"), Why::Calls("nextval"));
    // Syntax since PostgreSQL 17, the name of a function before.
    assert_eq!(why("SELECT json_query(a, '$')"), Why::PlainRead);
    assert_eq!(why("SELECT farm.json_query(a, '$')"), Why::UnknownFunction);
    assert_eq!(why("SELECT json_value(a, '$')"), Why::VolatileFunction);
    assert_eq!(why("SELECT count(DISTINCT (a)) FROM t WHERE b IN (1)"), Why::UnknownFunction);
}

#[test]
fn a_refused_text_is_a_write_from_then_on() {
    let classifier = Classifier::new();
    let sql = "SELECT * FROM view_that_counts";
    assert_eq!(classifier.classify(sql).kind, Kind::Read);
    classifier.learn_write(sql);
    assert_eq!(classifier.classify(sql), Class { kind: Kind::Write, why: Why::RefusedBefore });
    assert_eq!(classifier.classify("SELECT * FROM view").kind, Kind::Read);
    classifier.learn(Functions::builtin());
    assert_eq!(classifier.classify(sql).kind, Kind::Write);
}

#[test]
fn only_the_oldest_refusals_are_forgotten() {
    let classifier = Classifier::new();
    let text = |n: usize| format!("SELECT 1 FROM v{n}");
    (0..4097).for_each(|n| classifier.learn_write(&text(n)));
    assert_eq!(classifier.classify(&text(0)).kind, Kind::Read);
    assert!((1..4097).all(|n| classifier.classify(&text(n)).why == Why::RefusedBefore));
}

#[test]
fn what_differs_from_a_refused_text_in_numbers_only_is_a_write_too() {
    let classifier = Classifier::new();
    classifier.learn_write("SELECT * FROM v1 WHERE id = 40");
    let kind = |sql| classifier.classify(sql).kind;
    assert_eq!(kind("SELECT * FROM v1 WHERE id = 73"), Kind::Write);
    assert_eq!(kind("SELECT * FROM v2 WHERE id = 40"), Kind::Read);
    classifier.learn_write("SELECT * FROM v2 WHERE name = 'f1'");
    assert_eq!(kind("SELECT * FROM v2 WHERE name = 'f1'"), Kind::Write);
    assert_eq!(kind("SELECT * FROM v2 WHERE name = 'f2'"), Kind::Read);
}

#[test]
fn remembered_answers_change_with_what_is_learnt_and_never_mix() {
    let (one, other) = (Classifier::new(), Classifier::new());
    let sql = "SELECT f()";
    assert_eq!(one.classify(sql).kind, Kind::Write);
    one.learn(Functions::from_catalogue([("f".to_owned(), true)]));
    assert_eq!(one.classify(sql).kind, Kind::Read);
    assert_eq!(other.classify(sql).kind, Kind::Write);
    assert_eq!(one.classify(sql).kind, Kind::Read);
}

#[test]
fn remembered_and_fresh_answers_agree_on_many_texts_of_all_lengths() {
    let (classifier, functions) = (Classifier::new(), Functions::builtin());
    for round in 0..2 {
        for n in 0..3000 {
            let sql = format!(
                "SELECT {}{n}{}",
                "a, ".repeat(n),
                if n % 3 == 0 { " FOR UPDATE" } else { "" }
            );
            assert_eq!(classifier.classify(&sql), classify(&sql, &functions), "{round}");
        }
    }
}

#[test]
fn a_reason_is_a_short_phrase() {
    assert_eq!(
        classify("SELECT nextval('a')", &Functions::builtin()).why.to_string(),
        "calls nextval, which belongs to the writer or the session"
    );
    assert_eq!(classify("SELECT 1", &Functions::builtin()).why.to_string(), "only reads");
}
