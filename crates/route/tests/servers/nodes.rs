//! What is held against a node and what is not, and what is said about it.

use std::future::Future as _;
use std::time::Duration;

use futures_util::future::join_all;
use herdsman::{Error, NodeRole, ReplicaSet};
use sqlx::AssertSqlSafe;
use tokio::time::{sleep, timeout};

use crate::herd::{Herd, PATIENCE, on_each_version, sent, until, until_online};

pub(crate) async fn execute(db: &ReplicaSet, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(sql)).execute(db).await.map(drop)
}

pub(crate) async fn read(db: &ReplicaSet) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT 1").fetch_one(db).await
}

on_each_version! {
    async fn a_statements_own_errors_are_not_held_against_its_node(version: u32) {
        let herd = Herd::start(version, 1).await;
        herd.notes().await;
        let db = herd.given().build().unwrap();
        execute(&db, "INSERT INTO notes (id) VALUES (1)").await.unwrap();
        herd.sandbox.wait_replayed().await.unwrap();
        for (sql, node, code) in [
            ("SELEKT 1", "write", "42601"),
            ("SELECT 1/0", "read0", "22012"),
            ("SELECT nothing FROM notes", "read0", "42703"),
            ("INSERT INTO notes (id) VALUES (1)", "write", "23505"),
            ("SET LOCAL statement_timeout = 10; SELECT pg_sleep(10)", "write", "57014"),
        ] {
            let before = db.statistics().nodes[node].statement_error_count;
            let error = sqlx::raw_sql(sql).execute(&db).await.unwrap_err();
            assert!(Error::of(&error).is_none(), "{sql}: {error}");
            assert_eq!(error.as_database_error().unwrap().code().unwrap(), code, "{sql}");
            assert_eq!(db.statistics().nodes[node].statement_error_count, before + 1, "{sql}");
        }
        let none = sqlx::query("SELECT 1 WHERE false").fetch_one(&db).await.unwrap_err();
        assert!(matches!(none, sqlx::Error::RowNotFound));
        let wrong = sqlx::query_scalar::<_, String>("SELECT 1").fetch_one(&db).await.unwrap_err();
        assert!(matches!(wrong, sqlx::Error::ColumnDecode { .. }), "{wrong}");
        until_online(&db, "write", true).await;
        until_online(&db, "read0", true).await;
        for (name, node) in db.statistics().nodes {
            let errors = (node.error_count, node.connection_error_count, node.state_changes);
            assert_eq!(errors, (0, 0, 0), "{name}: {node:?}");
            assert!(node.last_error.is_none(), "{name}: {node:?}");
        }
    }

    async fn a_reader_that_lets_us_not_in_is_offline_and_says_why(version: u32) {
        let herd = Herd::start(version, 2).await;
        let keys = |node: &str, more: &str| format!("{} {more}", herd.conninfo(node, "app"));
        let (host, port) = herd.sandbox.endpoint("n2").unwrap();
        let wrong = format!("host={host} port={port} user=app password=wrong dbname=postgres sslmode=disable");
        let db = ReplicaSet::builder()
            .writer(&keys("n1", ""))
            .reader(&wrong)
            .reader(&keys("n3", ""))
            .build()
            .unwrap();
        let reads = join_all((0..50).map(|_| read(&db))).await;
        assert!(reads.iter().all(Result::is_ok), "{reads:?}");
        until_online(&db, "read0", false).await;
        let errors = db.connect_readers().await.unwrap_err();
        let text = errors.to_string();
        assert!(errors.0.len() == 1 && errors.0[0].0.as_str() == "read0", "{text}");
        assert!(text.contains("password authentication failed") && !text.contains("wrong"), "{text}");
        assert_eq!(sent(&db, "read0"), 0);
        assert_eq!(db.statistics().nodes["read0"].role, NodeRole::None);
    }

    async fn a_standby_given_as_the_writer_is_refused_with_a_reason(version: u32) {
        let herd = Herd::start(version, 1).await;
        herd.notes().await;
        let wait = Duration::from_millis(300);
        let db = ReplicaSet::builder()
            .writer(&herd.conninfo("n2", "app"))
            .reader(&herd.conninfo("n2", "app"))
            .writer_wait(wait)
            .build();
        // One node in two parts has two names.
        let db = db.unwrap();
        let error = execute(&db, "INSERT INTO notes (text) VALUES ('x')").await.unwrap_err();
        let ours = Error::of(&error).unwrap();
        assert!(matches!(ours, Error::ReadOnly { .. } | Error::NoWriter { .. }), "{error}");
        until("its pulse has told", async || db.statistics().nodes["write"].role == NodeRole::None).await;
        let error = db.connect_writer().await.unwrap_err();
        assert!(error.to_string().contains("write is given as a writer, but is a standby"), "{error}");
        assert_eq!(read(&db).await.unwrap(), 1);
    }

    async fn a_pool_that_is_used_up_is_busy_and_its_node_well(version: u32) {
        let herd = Herd::start(version, 0).await;
        let limit = Duration::from_secs(3);
        let db = herd.given().max_connections(2).acquire_timeout(limit).build().unwrap();
        let held = join_all((0..2).map(|_| db.acquire())).await;
        assert!(held.iter().all(Result::is_ok), "{held:?}");
        for error in [read(&db).await.unwrap_err(), db.begin().await.unwrap_err()] {
            let ours = Error::of(&error).unwrap();
            assert!(matches!(ours, Error::Busy { node, .. } if node.as_str() == "write"), "{error}");
            assert!(ours.nothing_happened() && error.to_string().contains("max_connections"), "{error}");
        }
        until_online(&db, "write", true).await;
        let node = db.statistics().nodes["write"].clone();
        assert_eq!((node.pool_size, node.connection_error_count, node.state_changes), (2, 0, 0), "{node:?}");
        drop(held);
        timeout(PATIENCE, async { while read(&db).await.is_err() {} }).await.unwrap();
    }

    async fn what_a_reader_refuses_to_write_is_the_writers_from_then_on(version: u32) {
        let herd = Herd::start(version, 2).await;
        let admin = herd.sandbox.sql("n1", "postgres").await.unwrap();
        admin
            .batch_execute(
                "CREATE SEQUENCE ticket; CREATE VIEW draw AS SELECT nextval('ticket') AS number; \
                 GRANT ALL ON ticket, draw TO app",
            )
            .await
            .unwrap();
        herd.sandbox.wait_replayed().await.unwrap();
        let db = herd.given().build().unwrap();
        let draw = async || sqlx::query_scalar::<_, i64>("SELECT * FROM draw").fetch_one(&db).await.unwrap();
        assert_eq!(draw().await, 1);
        let readers = || sent(&db, "read0") + sent(&db, "read1");
        assert_eq!((sent(&db, "write"), readers()), (1, 1));
        for number in 2..10 {
            assert_eq!(draw().await, number);
        }
        assert_eq!((sent(&db, "write"), readers()), (9, 1), "it was learnt");
    }
}

on_each_version! {
    async fn a_closed_set_says_so_and_its_statements_under_way_end_well(version: u32) {
        let herd = Herd::start(version, 1).await;
        let db = herd.given().min_connections(1).build().unwrap();
        let admin = herd.sandbox.sql("n1", "postgres").await.unwrap();
        let writer = db.writer();
        let slow = sqlx::query("SELECT pg_sleep(2)").execute(&writer);
        let close = async {
            let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            until("it is under way", async || {
                admin.query_one(sleeping, &[]).await.unwrap().get::<_, i64>(0) == 1
            })
            .await;
            db.clone().close().await;
        };
        let (slow, ()) = tokio::join!(slow, close);
        slow.unwrap();
        assert!(db.is_closed());
        for error in [
            timeout(PATIENCE, read(&db)).await.unwrap().unwrap_err(),
            timeout(PATIENCE, db.begin()).await.unwrap().unwrap_err(),
            timeout(PATIENCE, db.acquire()).await.unwrap().unwrap_err(),
            db.connect_writer().await.unwrap_err().into(),
        ] {
            assert!(matches!(Error::of(&error), Some(Error::Closed)), "{error}");
        }
        drop((db, writer));
        until("no connection is left", async || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'";
            admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
        })
        .await;
    }

    async fn who_waits_for_a_writer_is_told_of_the_closing(version: u32) {
        let herd = Herd::start(version, 0).await;
        let db = herd.given().writer_wait(PATIENCE * 10).build().unwrap();
        herd.sandbox.kill("n1").await.unwrap();
        let waiting = {
            let db = db.clone();
            tokio::spawn(async move { read(&db).await })
        };
        until_online(&db, "write", false).await;
        sleep(Duration::from_millis(100)).await;
        db.close().await;
        let error = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap_err();
        assert!(matches!(Error::of(&error), Some(Error::Closed)), "{error}");
    }

    async fn statistics_print_as_the_predecessors_do_and_tell_more(version: u32) {
        let herd = Herd::start(version, 1).await;
        let db = herd.given().build().unwrap();
        assert_eq!(db.statistics().to_string(), "map[read0:{false 0 0 0} write:{false 0 0 0}]");
        read(&db).await.unwrap();
        until_online(&db, "write", true).await;
        until_online(&db, "read0", true).await;
        assert_eq!(db.statistics().to_string(), "map[read0:{true 1 0 0} write:{true 0 0 0}]");
        let node = db.statistics().nodes["read0"].clone();
        assert!(node.latency_p50.is_some() && node.position.is_some(), "{node:?}");
        assert_eq!((node.role, node.state_changes), (NodeRole::Reader, 0));
        for changes in [2, 4] {
            herd.sandbox.kill("n2").await.unwrap();
            until_online(&db, "read0", false).await;
            assert_eq!(db.statistics().nodes["read0"].role, NodeRole::None);
            herd.sandbox.start("n2").await.unwrap();
            until("its coming back is counted", async || db.statistics().nodes["read0"].state_changes == changes)
                .await;
        }
        assert!(db.statistics().nodes["read0"].last_error.is_some());
    }
}

#[test]
fn outside_of_a_runtime_it_says_so_and_does_no_harm() {
    let db =
        ReplicaSet::builder().writer("host=localhost user=app").min_connections(1).build().unwrap();
    let mut asked = std::pin::pin!(read(&db));
    let waker = std::task::Waker::noop();
    match asked.as_mut().poll(&mut std::task::Context::from_waker(waker)) {
        std::task::Poll::Ready(Err(error)) => {
            assert!(matches!(Error::of(&error), Some(Error::NoRuntime)), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_may_be_dropped_outside_of_a_runtime() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (herd, db) = runtime.block_on(async {
        let herd = Herd::start(15, 1).await;
        let db = herd.given().min_connections(3).build().unwrap();
        join_all((0..20).map(|_| read(&db)))
            .await
            .into_iter()
            .for_each(|one| assert_eq!(one.unwrap(), 1));
        until("min_connections are open", async || {
            db.statistics().nodes.values().all(|node| node.pool_size >= 3)
        })
        .await;
        (herd, db)
    });
    let abandoned = db.clone();
    let stream = sqlx::query("SELECT 1").fetch(&abandoned);
    drop((stream, db));
    drop(abandoned);
    runtime.block_on(async {
        let admin = herd.sandbox.sql("n2", "postgres").await.unwrap();
        until("no connection is left", async || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'";
            admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
        })
        .await;
    });
    let late = runtime.block_on(async {
        let db = herd.given().min_connections(1).build().unwrap();
        assert_eq!(read(&db).await.unwrap(), 1);
        db
    });
    runtime.block_on(async move { drop(herd) });
    drop(runtime);
    drop(late);
}
