//! Which node each kind of statement runs on: first of all those the predecessor sent astray.

use futures_util::future::join_all;
use herdsman::{ReplicaSet, session};
use sqlx::{AssertSqlSafe, Row};

use crate::herd::{Herd, on_each_version, sent, until};

const READERS: [&str; 2] = ["read0", "read1"];

/// Statements that any reader may answer.
const READS: &[&str] = &[
    "SELECT count(*) FROM notes",
    "select id, text from notes where id = any (array[1, 2]) order by id limit 10",
    "WITH recent AS (SELECT * FROM notes ORDER BY id DESC LIMIT 5) SELECT * FROM recent",
    "VALUES (1), (2)",
    "TABLE notes",
    "SHOW server_version",
    "EXPLAIN SELECT * FROM notes",
    "EXPLAIN INSERT INTO notes (text) VALUES ('only explained')",
    "SELECT 'INSERT INTO notes' AS text -- DELETE FROM notes",
    "SELECT my_stable_fn()",
    "SELECT my_immutable_fn(1), upper('x'), now()",
    "SELECT my_volatile_fn() /* herdsman: reader */ WHERE false",
];

/// Statements that are the writer's.
const WRITES: &[&str] = &[
    "SELECT * FROM notes FOR UPDATE",
    "SELECT * FROM notes ORDER BY id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED",
    "SELECT * FROM notes FOR SHARE",
    "INSERT INTO notes (text) VALUES ('fetched') RETURNING id",
    "UPDATE notes SET text = text || '!' WHERE text = 'fetched' RETURNING id",
    "WITH gone AS (DELETE FROM notes WHERE text = 'fetched!' RETURNING id) SELECT id FROM gone",
    "SELECT nextval('notes_id_seq')",
    "SELECT setval('notes_id_seq', 1000)",
    "SELECT my_volatile_fn()",
    "SELECT public.my_volatile_fn()",
    "EXPLAIN ANALYZE INSERT INTO notes (text) VALUES ('explained')",
    "EXPLAIN (COSTS off, ANALYZE) DELETE FROM notes WHERE text = 'explained'",
    "SET application_name = 'herded'",
    "SELECT set_config('application_name', 'herded', false)",
    "RESET application_name",
    "SELECT pg_advisory_xact_lock(7)",
    "SELECT pg_try_advisory_lock(8)",
    "SELECT pg_advisory_unlock_all()",
    "CREATE TEMP TABLE scratch (id int)",
    "DROP TABLE IF EXISTS pg_temp.scratch",
    "SELECT count(*) FROM pg_temp.scratch_of_nobody",
    "SELECT pg_notify('sheep', 'shorn')",
    "NOTIFY sheep, 'shorn'",
    "SELECT 1; DELETE FROM notes WHERE false",
    "SELECT 1; SELECT 2",
    "SELECT * INTO notes_copied FROM notes",
    "DROP TABLE notes_copied",
    "CREATE TABLE IF NOT EXISTS made (id int)",
    "TRUNCATE made",
    "DO $$ BEGIN DELETE FROM made; END $$",
    "CALL my_procedure()",
    "SELECT count(*) FROM notes /* herdsman: writer */",
    "/* herdsman: writer */ SELECT 1",
    "/* herdsman: reader */ INSERT INTO notes (text) VALUES ('whatever the hint says')",
    "LOCK TABLE notes",
    "COPY notes FROM STDIN",
];

/// Creates what the statements use, then a set that has learnt of it.
async fn shepherd(herd: &Herd) -> ReplicaSet {
    herd.notes().await;
    let admin = herd.sandbox.sql("n1", "postgres").await.unwrap();
    let sql = "CREATE TABLE written (at int); GRANT ALL ON written TO app; \
         CREATE FUNCTION my_stable_fn() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1'; \
         CREATE FUNCTION my_immutable_fn(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'; \
         CREATE FUNCTION my_volatile_fn() RETURNS int LANGUAGE plpgsql AS \
             'BEGIN INSERT INTO written VALUES (1); RETURN 1; END'; \
         CREATE PROCEDURE my_procedure() LANGUAGE plpgsql AS 'BEGIN DELETE FROM written WHERE false; END'; \
         CREATE VIEW sly AS SELECT my_volatile_fn() AS one; GRANT ALL ON sly TO app";
    admin.batch_execute(sql).await.unwrap();
    herd.sandbox.wait_replayed().await.unwrap();
    let db = herd.given().build().unwrap();
    until("the catalogue of functions is learnt", async || {
        where_it_goes(&db, "SELECT my_stable_fn()").await.0 == Node::Reader
    })
    .await;
    db
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Reader,
    Writer,
}

fn counts(db: &ReplicaSet) -> (u64, u64) {
    (sent(db, "write"), READERS.iter().map(|reader| sent(db, reader)).sum())
}

/// Runs a statement as something that is fetched. Where it went, and what came of it.
async fn where_it_goes(db: &ReplicaSet, sql: &'static str) -> (Node, Result<usize, sqlx::Error>) {
    let before = counts(db);
    // Unprepared: the server refuses to prepare several statements in one text, wherever they go.
    let result = sqlx::raw_sql(sql).fetch_all(db).await;
    let after = counts(db);
    let node = match (after.0 - before.0, after.1 - before.1) {
        (1, 0) => Node::Writer,
        (0, 1) => Node::Reader,
        both => panic!("{sql}: sent to the writer and to readers {both:?} times"),
    };
    (node, result.map(|rows| rows.len()))
}

async fn written(herd: &Herd) -> i64 {
    let admin = herd.sandbox.sql("n1", "postgres").await.unwrap();
    admin.query_one("SELECT count(*) FROM written", &[]).await.unwrap().get(0)
}

on_each_version! {
    async fn each_statement_runs_where_it_belongs(version: u32) {
        let herd = Herd::start(version, 2).await;
        let db = shepherd(&herd).await;
        for sql in READS {
            let (node, result) = where_it_goes(&db, sql).await;
            assert_eq!(node, Node::Reader, "{sql}");
            result.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        // Among the reads was one that was explained as a write; nothing was written by any of them.
        assert_eq!(written(&herd).await, 0);
        for sql in WRITES {
            let (node, result) = where_it_goes(&db, sql).await;
            assert_eq!(node, Node::Writer, "{sql}");
            // These two cannot succeed: sqlx feeds a COPY by other means, and nobody has made the table.
            if !sql.starts_with("COPY") && !sql.contains("scratch_of_nobody") && !sql.starts_with("LOCK") {
                result.unwrap_or_else(|error| panic!("{sql}: {error}"));
            }
        }
        assert_eq!(written(&herd).await, 2);
        let statistics = db.statistics();
        assert!(statistics.nodes.values().all(|node| node.online), "{statistics}");
    }

    async fn a_view_that_writes_is_refused_by_the_reader_once_and_learnt(version: u32) {
        let herd = Herd::start(version, 2).await;
        let db = shepherd(&herd).await;
        let before = counts(&db);
        for round in 1..=5 {
            let one: i32 = sqlx::query_scalar("SELECT one FROM sly").fetch_one(&db).await.unwrap();
            assert_eq!(one, 1);
            let after = counts(&db);
            assert_eq!((after.0 - before.0, after.1 - before.1), (round, 1));
        }
        assert_eq!(written(&herd).await, 5);
        // Refusals are a matter between us and the reader, and no mark against it.
        let statistics = db.statistics();
        assert!(statistics.nodes.values().all(|node| node.online), "{statistics}");
    }

    async fn a_write_sent_to_a_reader_by_hand_ends_on_the_writer_once(version: u32) {
        let herd = Herd::start(version, 2).await;
        let db = shepherd(&herd).await;
        for id in 1..=10_i64 {
            let sql = "INSERT INTO notes (id, text) VALUES ($1, 'by hand') RETURNING id";
            let row: i64 = sqlx::query_scalar(sql).bind(id).fetch_one(&db.reader()).await.unwrap();
            assert_eq!(row, id);
        }
        let admin = herd.sandbox.sql("n1", "postgres").await.unwrap();
        let row = admin.query_one("SELECT count(*) FROM notes", &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 10);
    }

    async fn find_or_create_makes_one_row_however_many_ask(version: u32) {
        let herd = Herd::start(version, 2).await;
        let db = shepherd(&herd).await;
        let admin = herd.sandbox.sql("n1", "postgres").await.unwrap();
        admin.batch_execute("CREATE UNIQUE INDEX ON notes (text)").await.unwrap();
        // In one statement.
        let upsert = "WITH made AS (INSERT INTO notes (text) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id) \
             SELECT id FROM made UNION ALL SELECT id FROM notes WHERE text = $1 LIMIT 1";
        let created: i64 = sqlx::query_scalar(upsert).bind("one").fetch_one(&db).await.unwrap();
        let found: i64 = sqlx::query_scalar(upsert).bind("one").fetch_one(&db).await.unwrap();
        assert_eq!(created, found);
        // As an ORM does it: look, create, look again. The second look must find what the first did not.
        let each = (0..40).map(|task| {
            let db = db.clone();
            tokio::spawn(session(async move {
                let name = format!("found {}", task % 10);
                let find = "SELECT id FROM notes WHERE text = $1";
                if sqlx::query(find).bind(&name).fetch_optional(&db).await.unwrap().is_none() {
                    let create = "INSERT INTO notes (text) VALUES ($1) ON CONFLICT DO NOTHING";
                    sqlx::query(create).bind(&name).execute(&db).await.unwrap();
                }
                let row = sqlx::query(find).bind(&name).fetch_one(&db).await.unwrap();
                (name, row.get::<i64, _>(0))
            }))
        });
        let mut found: Vec<_> = join_all(each).await.into_iter().map(Result::unwrap).collect();
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 10, "{found:?}");
    }

    async fn what_is_new_in_the_catalogue_is_the_writers_until_it_is_learnt(version: u32) {
        let herd = Herd::start(version, 2).await;
        let db = shepherd(&herd).await;
        let admin = herd.sandbox.sql("n1", "postgres").await.unwrap();
        let sql = "CREATE FUNCTION brand_new() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1'";
        admin.batch_execute(sql).await.unwrap();
        assert_eq!(where_it_goes(&db, "SELECT brand_new()").await.0, Node::Writer);
        // Its author may vouch for it.
        herd.sandbox.wait_replayed().await.unwrap();
        let (node, result) = where_it_goes(&db, "/* herdsman: reader */ SELECT brand_new()").await;
        assert_eq!((node, result.unwrap()), (Node::Reader, 1));
    }

    async fn a_text_that_is_made_at_run_time_is_looked_at_too(version: u32) {
        let herd = Herd::start(version, 2).await;
        let db = shepherd(&herd).await;
        let before = counts(&db);
        for column in ["id", "text"] {
            let sql = AssertSqlSafe(format!("SELECT {column} FROM notes"));
            sqlx::query(sql).fetch_all(&db).await.unwrap();
            let sql = AssertSqlSafe(format!("SELECT {column} FROM notes FOR UPDATE"));
            sqlx::query(sql).fetch_all(&db).await.unwrap();
        }
        let after = counts(&db);
        assert_eq!((after.0 - before.0, after.1 - before.1), (2, 2));
    }
}
