//! sqlx: a pool of its own in front of ours, which asks for a sign of life each time; statements `sqlx_s_1`, …

use std::time::Duration;

use futures_util::TryStreamExt as _;
use futures_util::future::join_all;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use tokio::time::timeout;

const CLIENTS: i32 = 6;
const REPEAT: i32 = 100;
const BIG: usize = 10 * 1024 * 1024;
const MANY: i32 = 100_000;
const COPIED: i32 = 40_000;
const WITHIN: Duration = Duration::from_secs(30);

/// Everything, one after the other.
pub(crate) async fn checks(url: &str) {
    let pool = PgPoolOptions::new().max_connections(6).connect(url).await.unwrap();
    tables(&pool).await;
    parameters(url).await;
    prepared(&pool).await;
    one_name_many_texts(url).await;
    transactions(&pool).await;
    copies(&pool).await;
    abandoned(&pool).await;
    notifications(&pool).await;
    mistakes(&pool).await;
    sizes(&pool).await;
    small_caches(url).await;
    several_in_one(&pool).await;
    pool.close().await;
}

#[track_caller]
fn refused<T>(result: Result<T, sqlx::Error>, state: &str) {
    let error = result.err().expect("is refused");
    let code = error.as_database_error().and_then(|error| error.code());
    assert_eq!(code.as_deref(), Some(state), "{error:?}");
}

async fn tables(pool: &PgPool) {
    for sql in [
        "DROP TABLE IF EXISTS sqlx_t, sqlx_copy",
        "CREATE TABLE sqlx_t (id int PRIMARY KEY, v text)",
        "CREATE TABLE sqlx_copy (id int PRIMARY KEY, v text)",
        "SELECT settle()",
    ] {
        pool.execute(sql).await.unwrap();
    }
}

async fn parameters(url: &str) {
    let options: PgConnectOptions = url.parse().unwrap();
    let mut all = Vec::new();
    for n in 0..CLIENTS {
        let named = options.clone().application_name(&format!("sqlx {n}"));
        let named = named.options([("work_mem", format!("{}kB", 1000 + n))]);
        let mut connection = PgConnection::connect_with(&named).await.unwrap();
        let zone = format!("SET TimeZone TO 'Etc/GMT+{n}'");
        connection.execute(AssertSqlSafe(zone)).await.unwrap();
        all.push(connection);
    }
    for _ in 0..5 {
        for (n, connection) in all.iter_mut().enumerate() {
            let sql = "SELECT current_setting('TimeZone'), current_setting('work_mem'),
                              current_setting('application_name')";
            let found: (String, String, String) =
                sqlx::query_as(sql).fetch_one(connection).await.unwrap();
            let expected = (format!("Etc/GMT+{n}"), format!("{}kB", 1000 + n), format!("sqlx {n}"));
            assert_eq!(found, expected);
        }
    }
}

async fn prepared(pool: &PgPool) {
    let work = |m: i32| async move {
        for n in 0..REPEAT {
            let sum = sqlx::query_scalar("SELECT $1 * 1000 + $2").bind(n).bind(m);
            let found: i32 = sum.fetch_one(pool).await.unwrap();
            assert_eq!(found, n * 1000 + m);
            let mut transaction = pool.begin().await.unwrap();
            let text = sqlx::query_scalar("SELECT $1 || 'x'").bind(n.to_string());
            let found: String = text.fetch_one(&mut *transaction).await.unwrap();
            assert_eq!(found, format!("{n}x"));
            transaction.commit().await.unwrap();
        }
    };
    let all = join_all((0..2 * CLIENTS).map(work));
    timeout(2 * WITHIN, all).await.expect("nobody waits for ever");
}

async fn one_name_many_texts(url: &str) {
    let mut all = Vec::new();
    for _ in 0..CLIENTS {
        all.push(PgConnection::connect(url).await.unwrap());
    }
    for n in 0..REPEAT {
        for (m, connection) in all.iter_mut().enumerate() {
            let sql = AssertSqlSafe(format!("SELECT 'client {m} ' || $1"));
            let found: String =
                sqlx::query_scalar(sql).bind(n.to_string()).fetch_one(connection).await.unwrap();
            assert_eq!(found, format!("client {m} {n}"));
        }
    }
}

async fn insert(connection: &mut PgConnection, id: i32, v: &str) -> Result<(), sqlx::Error> {
    let query = sqlx::query("INSERT INTO sqlx_t VALUES ($1, $2)").bind(id).bind(v);
    query.execute(connection).await.map(|_| ())
}

async fn transactions(pool: &PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    insert(&mut transaction, 1, "committed").await.unwrap();
    transaction.commit().await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    insert(&mut transaction, 2, "rolled back").await.unwrap();
    // Dropped is rolled back.
    drop(transaction);
    let mut transaction = connection.begin().await.unwrap();
    insert(&mut transaction, 3, "kept").await.unwrap();
    let mut savepoint = transaction.begin().await.unwrap();
    refused(insert(&mut savepoint, 1, "again").await, "23505");
    refused(savepoint.execute("SELECT 1").await, "25P02");
    savepoint.rollback().await.unwrap();
    insert(&mut transaction, 4, "kept too").await.unwrap();
    transaction.commit().await.unwrap();
    let ids: Vec<i32> = sqlx::query_scalar("SELECT array_agg(id ORDER BY id) FROM sqlx_t")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(ids, [1, 3, 4]);
    let mut transaction = connection.begin_with("BEGIN READ ONLY").await.unwrap();
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlx_t")
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    assert_eq!(count, 3);
    refused(insert(&mut transaction, 5, "no").await, "25006");
    transaction.rollback().await.unwrap();
}

async fn copies(pool: &PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let filler = "copied ".repeat(13);
    let rows: String = (0..COPIED).map(|n| format!("{n}\t{filler}\n")).collect();
    let mut copy = connection.copy_in_raw("COPY sqlx_copy FROM STDIN").await.unwrap();
    copy.send(rows.as_bytes()).await.unwrap();
    assert_eq!(copy.finish().await.unwrap(), u64::try_from(COPIED).unwrap());
    let out = "COPY (SELECT * FROM sqlx_copy ORDER BY id) TO STDOUT";
    let chunks: Vec<_> = connection.copy_out_raw(out).await.unwrap().try_collect().await.unwrap();
    assert!(chunks.concat() == rows.as_bytes());
    let mut copy = connection.copy_in_raw("COPY sqlx_copy FROM STDIN").await.unwrap();
    copy.send(b"700000\tfine\n".as_slice()).await.unwrap();
    copy.abort("the client gives up").await.unwrap();
    let mut copy = connection.copy_in_raw("COPY sqlx_copy FROM STDIN").await.unwrap();
    copy.send(b"700000\tfine\nnot a number\t\n".as_slice()).await.unwrap();
    refused(copy.finish().await, "22P02");
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlx_copy")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(count, i64::from(COPIED));
}

/// A query whose caller does not wait for the rest: its connection goes back to sqlx's pool all the same.
async fn abandoned(pool: &PgPool) {
    for n in 0..20 {
        let sql = "SELECT n, repeat('x', 1000) FROM generate_series(1, 2000) n";
        let mut rows = sqlx::query(sql).fetch(pool);
        let first = rows.try_next().await.unwrap().unwrap();
        assert_eq!(first.get::<i32, _>(0), 1);
        drop(rows);
        let next = sqlx::query_scalar("SELECT $1").bind(n);
        let found: i32 = next.fetch_one(pool).await.unwrap();
        assert_eq!(found, n);
    }
}

async fn notifications(pool: &PgPool) {
    let mut listener = PgListener::connect_with(pool).await.unwrap();
    listener.listen("sqlx_channel").await.unwrap();
    for n in 0..20 {
        let notify =
            sqlx::query("SELECT pg_notify('sqlx_channel', $1)").bind(format!("number {n}"));
        notify.execute(pool).await.unwrap();
    }
    for n in 0..20 {
        let notification = timeout(WITHIN, listener.recv()).await.expect("is notified").unwrap();
        assert_eq!(notification.payload(), format!("number {n}"));
    }
}

async fn mistakes(pool: &PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    for _ in 0..5 {
        for (sql, state) in [
            ("SELEC 1", "42601"),
            ("INSERT INTO sqlx_t VALUES (1, 'again')", "23505"),
            ("SELECT 1 / 0", "22012"),
            ("EXECUTE nobody_prepared_this", "26000"),
            ("SELECT * FROM no_such_table", "42P01"),
        ] {
            refused(sqlx::query(sql).execute(&mut *connection).await, state);
            refused(sqlx::raw_sql(sql).execute(&mut *connection).await, state);
            let works: String =
                sqlx::query_scalar("SELECT 'works'").fetch_one(&mut *connection).await.unwrap();
            assert_eq!(works, "works");
        }
    }
}

async fn sizes(pool: &PgPool) {
    let big = "x".repeat(BIG);
    let sql = "SELECT $1, NULL::text, ''";
    let found: (String, Option<String>, String) =
        sqlx::query_as(sql).bind(&big).fetch_one(pool).await.unwrap();
    assert!(found == (big, None, String::new()));
    let sql = "SELECT n FROM generate_series(1, $1) n";
    let rows: Vec<i32> = sqlx::query_scalar(sql).bind(MANY).fetch_all(pool).await.unwrap();
    assert!(rows.iter().copied().eq(1..=MANY));
    let none: Option<i32> =
        sqlx::query_scalar("SELECT 1 WHERE $1").bind(false).fetch_optional(pool).await.unwrap();
    assert_eq!(none, None);
}

/// Statements that the client closes to make room.
async fn small_caches(url: &str) {
    let options: PgConnectOptions = url.parse().unwrap();
    let options = options.statement_cache_capacity(5);
    let mut all = Vec::new();
    for _ in 0..CLIENTS {
        all.push(PgConnection::connect_with(&options).await.unwrap());
    }
    for n in 0..50_i32 {
        for connection in &mut all {
            let sql = AssertSqlSafe(format!("SELECT {} + $1", n % 10));
            let found: i32 =
                sqlx::query_scalar(sql).bind(n).fetch_one(&mut *connection).await.unwrap();
            assert_eq!(found, n % 10 + n);
        }
    }
    for connection in &mut all {
        connection.clear_cached_statements().await.unwrap();
        let found: i32 =
            sqlx::query_scalar("SELECT $1").bind(1).fetch_one(connection).await.unwrap();
        assert_eq!(found, 1);
    }
}

async fn several_in_one(pool: &PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let three = "SELECT 1; INSERT INTO sqlx_t VALUES (61, ''); SELECT 3";
    sqlx::raw_sql(three).execute(&mut *connection).await.unwrap();
    let twice = "INSERT INTO sqlx_t VALUES (60, ''); INSERT INTO sqlx_t VALUES (61, '')";
    refused(sqlx::raw_sql(twice).execute(&mut *connection).await, "23505");
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlx_t WHERE id = 60")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(count, 0);
}
