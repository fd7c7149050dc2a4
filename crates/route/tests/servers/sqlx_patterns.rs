//! What programs do with a `&PgPool` works with a `&ReplicaSet`, and on the right node.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use herdsman::{Balance, ReplicaSet};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgListener, PgPoolCopyExt, PgRow};
use sqlx::{Acquire, Either, Executor, PgExecutor, Postgres, QueryBuilder, Row, Statement};
use tokio::time::timeout;

use crate::herd::{Herd, PATIENCE, on_newest_version, sent, until};

/// Fails to compile if a handle may not be shared among threads, kept in statics, or copied.
const fn is_a_handle<T: Send + Sync + Clone + Unpin + 'static>() {}
const _: () = is_a_handle::<ReplicaSet>();

/// Readers take turns, so that a handful of statements meets both.
pub(crate) async fn shepherd(herd: &Herd) -> ReplicaSet {
    herd.notes().await;
    herd.given().balance(Balance::RoundRobin).build().unwrap()
}

/// How many statements went to the writer and to the readers while `work` was done.
async fn counted<T>(db: &ReplicaSet, work: impl AsyncFnOnce(&ReplicaSet) -> T) -> (T, [u64; 2]) {
    let count = || [sent(db, "write"), sent(db, "read0") + sent(db, "read1")];
    let before = count();
    let result = work(db).await;
    let after = count();
    (result, [after[0] - before[0], after[1] - before[1]])
}

/// Whether what runs here runs on a standby.
pub(crate) async fn on_a_standby(executor: impl PgExecutor<'_>) -> bool {
    let node: String = sqlx::query_scalar("SELECT current_setting('cluster_name')")
        .fetch_one(executor)
        .await
        .unwrap();
    node != "n1"
}

#[derive(Debug, PartialEq, sqlx::FromRow)]
struct Note {
    id: i64,
    text: Option<String>,
}

/// As in many a program: whatever can execute.
pub(crate) async fn add(executor: impl PgExecutor<'_>, text: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("INSERT INTO notes (text) VALUES ($1) RETURNING id")
        .bind(text)
        .fetch_one(executor)
        .await
}

/// And whatever can be taken a connection from.
async fn add_two<'a>(db: impl Acquire<'a, Database = Postgres>) -> Result<(i64, i64), sqlx::Error> {
    let mut transaction = db.begin().await?;
    let one = add(&mut *transaction, "one of two").await?;
    let two = add(&mut *transaction, "two of two").await?;
    transaction.commit().await?;
    Ok((one, two))
}

/// And behind a trait of its own.
trait Repository: Send + Sync {
    fn count(
        &self,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<i64, sqlx::Error>> + Send + '_>>;
}

impl Repository for ReplicaSet {
    fn count(
        &self,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<i64, sqlx::Error>> + Send + '_>> {
        Box::pin(sqlx::query_scalar("SELECT count(*) FROM notes").fetch_one(self))
    }
}

/// Something that PostgreSQL cannot be given.
struct Unspeakable;

impl sqlx::Type<Postgres> for Unspeakable {
    fn type_info() -> sqlx::postgres::PgTypeInfo {
        <String as sqlx::Type<Postgres>>::type_info()
    }
}

impl sqlx::Encode<'_, Postgres> for Unspeakable {
    fn encode_by_ref(
        &self,
        _: &mut sqlx::postgres::PgArgumentBuffer,
    ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        Err("there are no words for it".into())
    }
}

on_newest_version! {
    async fn every_way_to_ask_takes_a_set(version: u32) {
        let herd = Herd::start(version, 2).await;
        let db = shepherd(&herd).await;

        let ((), count) = counted(&db, async |db| {
            let done = sqlx::query("INSERT INTO notes (text) VALUES ($1), ($2)").bind("a").bind("b").execute(db).await;
            assert_eq!(done.unwrap().rows_affected(), 2);
            let id: i64 = sqlx::query_scalar("INSERT INTO notes (text) VALUES ('c') RETURNING id")
                .fetch_one(db).await.unwrap();
            assert_eq!(id, 3);
            let mut builder = QueryBuilder::<Postgres>::new("INSERT INTO notes (text) ");
            builder.push_values(["d", "e", "f"], |mut row, text| { row.push_bind(text); });
            assert_eq!(builder.build().execute(db).await.unwrap().rows_affected(), 3);
            let text = "UPDATE notes SET text = upper(text); DELETE FROM notes WHERE id = 6";
            assert_eq!(sqlx::raw_sql(text).execute(db).await.unwrap().rows_affected(), 7);
            assert_eq!(db.execute("DELETE FROM notes WHERE id = 5").await.unwrap().rows_affected(), 1);
        }).await;
        assert_eq!(count, [5, 0]);
        herd.sandbox.wait_replayed().await.unwrap();

        let ((), count) = counted(&db, async |db| {
            let rows = sqlx::query("SELECT * FROM notes ORDER BY id").fetch_all(db).await.unwrap();
            assert_eq!(rows.len(), 4);
            let note: Note = sqlx::query_as("SELECT * FROM notes WHERE id = $1").bind(1_i64).fetch_one(db).await.unwrap();
            assert_eq!(note, Note { id: 1, text: Some("A".to_owned()) });
            let pair: Option<(i64, String)> =
                sqlx::query_as("SELECT id, text FROM notes WHERE id = 99").fetch_optional(db).await.unwrap();
            assert_eq!(pair, None);
            let mut builder = QueryBuilder::<Postgres>::new("SELECT count(*) FROM notes WHERE id IN (");
            let mut list = builder.separated(", ");
            for id in [1_i64, 2, 3] {
                list.push_bind(id);
            }
            list.push_unseparated(")");
            let count: i64 = builder.build_query_scalar().fetch_one(db).await.unwrap();
            assert_eq!(count, 3);
            let rows = sqlx::raw_sql("SELECT id FROM notes").fetch_all(db).await.unwrap();
            assert_eq!(rows.len(), 4);
            let mapped: Vec<String> = sqlx::query("SELECT text FROM notes ORDER BY id")
                .map(|row: PgRow| row.get(0)).fetch_all(db).await.unwrap();
            assert_eq!(mapped, ["A", "B", "C", "D"]);
            let row = db.fetch_one("SELECT 1 AS one").await.unwrap();
            assert_eq!(row.get::<i32, _>("one"), 1);
        }).await;
        assert_eq!(count, [0, 7]);
    }

    async fn rows_and_results_come_as_streams(version: u32) {
        let herd = Herd::start(version, 2).await;
        let db = shepherd(&herd).await;
        sqlx::query("INSERT INTO notes (text) SELECT repeat('x', 100) FROM generate_series(1, 10000)")
            .execute(&db).await.unwrap();
        herd.sandbox.wait_replayed().await.unwrap();

        let ((), count) = counted(&db, async |db| {
            let mut rows = sqlx::query("SELECT id FROM notes ORDER BY id").fetch(db);
            let mut last = 0_i64;
            while let Some(row) = rows.try_next().await.unwrap() {
                let id: i64 = row.get(0);
                assert_eq!(id, last + 1);
                last = id;
            }
            assert_eq!(last, 10_000);
            // One that is left half-way takes nothing from those after it, even if there are more of them than connections.
            for _ in 0..50 {
                let mut rows = sqlx::query_as::<_, Note>("SELECT * FROM notes ORDER BY id").fetch(db);
                assert_eq!(rows.next().await.unwrap().unwrap().id, 1);
            }
            let mut rows = sqlx::query_scalar::<_, i64>("SELECT id FROM notes ORDER BY id LIMIT 3").fetch(db);
            let mut all = Vec::new();
            while let Some(id) = rows.try_next().await.unwrap() {
                all.push(id);
            }
            assert_eq!(all, [1, 2, 3]);
        }).await;
        assert_eq!(count, [0, 52]);

        let (results, count) = counted(&db, async |db| {
            db.fetch_many("SELECT 1; UPDATE notes SET text = '' WHERE id < 4; SELECT id FROM notes WHERE id < 3")
                .try_collect::<Vec<_>>().await.unwrap()
        }).await;
        let rows = results.iter().filter(|result| matches!(result, Either::Right(_))).count();
        let affected = results.iter().filter_map(|result| result.as_ref().left().map(|done| done.rows_affected()));
        assert_eq!((rows, affected.collect::<Vec<_>>()), (3, vec![1, 3, 2]));
        assert_eq!(count, [1, 0]);
        let affected: Vec<_> = db.execute_many("SELECT 1; SELECT 2; SELECT 3").try_collect().await.unwrap();
        assert_eq!(affected.len(), 3);
    }

    async fn a_prepared_statement_is_good_on_every_node(version: u32) {
        let herd = Herd::start(version, 2).await;
        let db = shepherd(&herd).await;
        let read = db.prepare(sqlx::SqlSafeStr::into_sql_str("SELECT $1::int + 1")).await.unwrap();
        assert_eq!(read.columns().len(), 1);
        let ((), count) = counted(&db, async |db| {
            // Prepared on one reader, run on both.
            for number in 0..20 {
                let sum: i32 = read.query_scalar().bind(number).fetch_one(db).await.unwrap();
                assert_eq!(sum, number + 1);
            }
        }).await;
        assert_eq!(count, [0, 20]);
        assert!(sent(&db, "read0") > 0 && sent(&db, "read1") > 0);
        let write = db.prepare(sqlx::SqlSafeStr::into_sql_str("INSERT INTO notes (text) VALUES ($1)")).await.unwrap();
        let ((), count) = counted(&db, async |db| {
            assert_eq!(write.query().bind("prepared").execute(db).await.unwrap().rows_affected(), 1);
        }).await;
        assert_eq!(count, [1, 0]);
        for _ in 0..20 {
            let one: i32 = sqlx::query_scalar("SELECT 1").persistent(false).fetch_one(&db).await.unwrap();
            assert_eq!(one, 1);
        }
    }

    async fn migrations_run_on_the_writer_once(version: u32) {
        let herd = Herd::start(version, 2).await;
        let db = herd.given().build().unwrap();
        let folder = herd.sandbox.dir().join("migrations");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("1_sheep.up.sql"), "CREATE TABLE sheep (id bigserial PRIMARY KEY, name text);").unwrap();
        std::fs::write(folder.join("1_sheep.down.sql"), "DROP TABLE sheep;").unwrap();
        std::fs::write(folder.join("2_wool.up.sql"), "ALTER TABLE sheep ADD COLUMN wool int; CREATE INDEX ON sheep (wool);").unwrap();
        std::fs::write(folder.join("2_wool.down.sql"), "ALTER TABLE sheep DROP COLUMN wool;").unwrap();
        let migrator = Migrator::new(folder.as_path()).await.unwrap();
        migrator.run(&db).await.unwrap();
        migrator.run(&db).await.unwrap();
        sqlx::query("INSERT INTO sheep (name, wool) VALUES ('Dolly', 3)").execute(&db).await.unwrap();
        herd.sandbox.wait_replayed().await.unwrap();
        let wool: i32 = sqlx::query_scalar("SELECT wool FROM sheep WHERE name = 'Dolly'").fetch_one(&db).await.unwrap();
        assert_eq!(wool, 3);
        assert_eq!(sent(&db, "read0") + sent(&db, "read1"), 1);
        migrator.undo(&db, 1).await.unwrap();
        let gone = sqlx::query("SELECT wool FROM sheep").execute(&db.writer()).await.unwrap_err();
        assert_eq!(gone.as_database_error().unwrap().code().unwrap(), "42703");
        // A migration that was changed after it was applied is found out.
        std::fs::write(folder.join("1_sheep.up.sql"), "CREATE TABLE goats (id bigserial PRIMARY KEY);").unwrap();
        let changed = Migrator::new(folder.as_path()).await.unwrap().run(&db).await.unwrap_err();
        assert!(matches!(changed, MigrateError::VersionMismatch(1)), "{changed}");
    }

    async fn functions_over_executors_and_connections_take_a_set(version: u32) {
        let herd = Herd::start(version, 2).await;
        let db = shepherd(&herd).await;
        assert_eq!(add(&db, "alone").await.unwrap(), 1);
        assert_eq!(add_two(&db).await.unwrap(), (2, 3));
        assert!(on_a_standby(&db).await);
        assert!(!on_a_standby(&db.writer()).await);
        assert!(on_a_standby(&db.reader()).await);
        let mut connection = db.acquire().await.unwrap();
        assert_eq!(add_two(&mut *connection).await.unwrap(), (4, 5));
        assert!(!on_a_standby(&mut *connection).await);
        drop(connection);
        let mut connection = db.reader().acquire().await.unwrap();
        assert!(on_a_standby(&mut *connection).await);
        drop(connection);
        herd.sandbox.wait_replayed().await.unwrap();

        // In other tasks, by clone and by reference; behind a trait; shared.
        let handle = tokio::spawn({ let db = db.clone(); async move { add(&db, "spawned").await } });
        assert_eq!(handle.await.unwrap().unwrap(), 6);
        herd.sandbox.wait_replayed().await.unwrap();
        let repository: Arc<dyn Repository> = Arc::new(db.clone());
        let handle = tokio::spawn(async move { repository.count().await });
        assert_eq!(handle.await.unwrap().unwrap(), 6);
        let shared: &'static ReplicaSet = Box::leak(Box::new(db.clone()));
        let handle = tokio::spawn(async move {
            sqlx::query("SELECT id FROM notes").fetch(shared).try_collect::<Vec<_>>().await.map(|rows| rows.len())
        });
        assert_eq!(handle.await.unwrap().unwrap(), 6);
        db.close().await;
        assert!(shared.is_closed() && add(shared, "closed").await.is_err());
    }

    async fn what_wants_a_pool_gets_one(version: u32) {
        let herd = Herd::start(version, 2).await;
        let db = shepherd(&herd).await;
        let pool = db.writer().pool().await.unwrap();
        let mut listener = PgListener::connect_with(&pool).await.unwrap();
        listener.listen("sheep").await.unwrap();
        sqlx::query("SELECT pg_notify('sheep', $1)").bind("shorn").execute(&db).await.unwrap();
        let news = timeout(PATIENCE, listener.recv()).await.unwrap().unwrap();
        assert_eq!((news.channel(), news.payload()), ("sheep", "shorn"));

        let mut copy = pool.copy_in_raw("COPY notes (text) FROM STDIN").await.unwrap();
        copy.send("copied\nin\n".as_bytes()).await.unwrap();
        assert_eq!(copy.finish().await.unwrap(), 2);
        let mut connection = db.acquire().await.unwrap();
        let mut copy = connection.copy_in_raw("COPY notes (text) FROM STDIN").await.unwrap();
        copy.send("again\n".as_bytes()).await.unwrap();
        assert_eq!(copy.finish().await.unwrap(), 1);
        drop(connection);
        herd.sandbox.wait_replayed().await.unwrap();
        let readers = db.reader().pool().await.unwrap();
        let out = readers.copy_out_raw("COPY (SELECT text FROM notes ORDER BY id) TO STDOUT").await.unwrap();
        let parts: Vec<_> = out.try_collect().await.unwrap();
        assert_eq!(parts.concat(), b"copied\nin\nagain\n");
        assert!(on_a_standby(&readers).await);
    }

    async fn arrays_nulls_bytes_and_own_types_travel(version: u32) {
        #[derive(Clone, Copy, Debug, PartialEq, sqlx::Type)]
        #[sqlx(type_name = "mood", rename_all = "lowercase")]
        enum Mood { Calm, Wild }

        let herd = Herd::start(version, 2).await;
        let db = shepherd(&herd).await;
        sqlx::raw_sql("CREATE TYPE mood AS ENUM ('calm', 'wild'); CREATE TABLE flock (id int, moods mood[], wool bytea, facts jsonb)")
            .execute(&db).await.unwrap();
        let ids = [1, 2, 3];
        sqlx::query("INSERT INTO flock SELECT id, $2, $3, $4::text::jsonb FROM unnest($1::int[]) AS id")
            .bind(&ids[..])
            .bind([Mood::Calm, Mood::Wild].as_slice())
            .bind(&b"\x00\xff"[..])
            .bind(r#"{"name": "Dolly"}"#)
            .execute(&db).await.unwrap();
        herd.sandbox.wait_replayed().await.unwrap();
        for _ in 0..10 {
            let (moods, wool, name, none): (Vec<Mood>, Vec<u8>, String, Option<i32>) =
                sqlx::query_as("SELECT moods, wool, facts->>'name', NULL::int FROM flock WHERE id = ANY($1) LIMIT 1")
                    .bind(vec![2, 3]).fetch_one(&db).await.unwrap();
            assert_eq!((moods, wool, name.as_str(), none), (vec![Mood::Calm, Mood::Wild], vec![0, 255], "Dolly", None));
        }
        assert!(sent(&db, "read0") > 0 && sent(&db, "read1") > 0);
    }

    async fn the_callers_errors_are_sqlxs_own(version: u32) {
        let herd = Herd::start(version, 2).await;
        let db = shepherd(&herd).await;
        add(&db, "one").await.unwrap();
        herd.sandbox.wait_replayed().await.unwrap();
        let code = |error: sqlx::Error| error.as_database_error().and_then(|error| error.code().map(Into::<String>::into));

        let none = sqlx::query("SELECT * FROM notes WHERE id = 99").fetch_one(&db).await.unwrap_err();
        assert!(matches!(none, sqlx::Error::RowNotFound), "{none}");
        let none = sqlx::query("UPDATE notes SET text = '' WHERE id = 99 RETURNING id").fetch_one(&db).await.unwrap_err();
        assert!(matches!(none, sqlx::Error::RowNotFound), "{none}");
        let twice = sqlx::query("INSERT INTO notes (id) VALUES (1)").execute(&db).await.unwrap_err();
        assert!(twice.as_database_error().unwrap().is_unique_violation());
        let syntax = sqlx::query("SELEKT 1").execute(&db).await.unwrap_err();
        assert_eq!(code(syntax).unwrap(), "42601");
        let zero = sqlx::query("SELECT 1 / $1").bind(0).fetch_all(&db).await.unwrap_err();
        assert_eq!(code(zero).unwrap(), "22012");
        let zero = sqlx::query("SELECT 1 / (5 - i) FROM generate_series(1, 9) AS i").fetch(&db)
            .try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(code(zero).unwrap(), "22012");
        let wrong: Result<i32, _> = sqlx::query_scalar("SELECT 'text'").fetch_one(&db).await;
        assert!(matches!(wrong, Err(sqlx::Error::ColumnDecode { .. })), "{wrong:?}");
        for error in [
            sqlx::query("SELECT $1").bind(Unspeakable).execute(&db).await.unwrap_err(),
            sqlx::query("SELECT $1").bind(Unspeakable).fetch_all(&db).await.unwrap_err(),
            sqlx::query("SELECT $1").bind(Unspeakable).fetch(&db).try_next().await.unwrap_err(),
        ] {
            assert!(matches!(error, sqlx::Error::Encode(_)), "{error}");
        }
        let missing = sqlx::query("SELECT $1::int").execute(&db).await;
        assert!(missing.is_err());

        // None of it is held against a node.
        let statistics = db.statistics();
        let blamed: BTreeMap<_, _> = statistics.nodes.iter().filter(|(_, node)| node.error_count > 0).collect();
        assert!(blamed.is_empty() && statistics.nodes.values().all(|node| node.online), "{blamed:?}");
        let errors: u64 = statistics.nodes.values().map(|node| node.statement_error_count).sum();
        assert!(errors >= 4, "{statistics:?}");
    }

    async fn a_set_outside_a_pool_of_tasks_ends_with_its_last_handle(version: u32) {
        let herd = Herd::start(version, 2).await;
        let db = shepherd(&herd).await;
        for _ in 0..20 {
            add(&db, "one").await.unwrap();
            db.fetch_one("SELECT 1").await.unwrap();
        }
        let other = db.clone();
        drop(db);
        add(&other, "by the other handle").await.unwrap();
        drop(other);
        // Every connection of the application's is closed, on every node.
        for node in ["n1", "n2", "n3"] {
            let admin = herd.sandbox.sql(node, "postgres").await.unwrap();
            until(&format!("{node} has no connection of ours"), async || {
                let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'";
                admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
            }).await;
        }
    }
}
