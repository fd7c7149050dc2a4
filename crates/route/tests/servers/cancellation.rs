//! Statements given up midway: no connection and no place in a pool is lost by it.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt};
use herdsman::ReplicaSet;
use herdsman_sandbox::Fault;
use tokio::time::{sleep, timeout};

use crate::herd::{Herd, PATIENCE, on_each_version, until, until_online};

/// Far longer than an abandoned statement may hold its connection, and shorter than a silent node takes to be given up.
const SOON: Duration = Duration::from_secs(15);

async fn read(db: &ReplicaSet) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT 1").fetch_one(db).await
}

/// All `count` connections of the writer's pool can be held at the same time.
async fn all_can_be_held(db: &ReplicaSet, count: usize) {
    let all = join_all((0..count).map(|_| db.acquire()));
    let held = timeout(PATIENCE, all).await.expect("a place in the pool is lost");
    for connection in held {
        sqlx::query("SELECT 1").execute(&mut *connection.unwrap()).await.unwrap();
    }
}

on_each_version! {
    async fn a_read_given_up_in_a_black_hole_keeps_nobody_from_reading(version: u32) {
        let herd = Herd::start(version, 2).await;
        let db = herd.given().max_connections(1).build().unwrap();
        db.connect_readers().await.unwrap();
        until_online(&db, "read0", true).await;
        herd.sandbox.client_proxy("n2").unwrap().set(Fault::Stall);
        // Some of four go into the black hole, the others do not wait for them.
        until("a read is lost in the black hole", async || {
            let tries = (0..4).map(|_| timeout(Duration::from_millis(300), read(&db)));
            let tries = join_all(tries).await;
            assert!(tries.iter().any(Result::is_ok), "all went to one reader");
            tries.iter().any(Result::is_err)
        })
        .await;
        for _ in 0..20 {
            timeout(SOON, read(&db)).await.unwrap().unwrap();
        }
        herd.sandbox.heal();
        until_online(&db, "read0", true).await;
        until("read0 is read again", async || {
            let before = db.statistics().nodes["read0"].query_count;
            join_all((0..4).map(|_| read(&db))).await.into_iter().for_each(|one| assert_eq!(one.unwrap(), 1));
            db.statistics().nodes["read0"].query_count > before
        })
        .await;
    }

    async fn the_only_connection_of_the_only_node_comes_back_from_a_black_hole(version: u32) {
        let herd = Herd::start(version, 0).await;
        let db = herd.given().max_connections(1).writer_wait(PATIENCE).build().unwrap();
        db.connect_writer().await.unwrap();
        for hole in [Duration::from_millis(500), Duration::from_secs(6)] {
            herd.sandbox.client_proxy("n1").unwrap().set(Fault::Stall);
            timeout(Duration::from_millis(200), read(&db)).await.unwrap_err();
            sleep(hole).await;
            herd.sandbox.heal();
            assert_eq!(timeout(PATIENCE, read(&db)).await.unwrap().unwrap(), 1);
        }
        all_can_be_held(&db, 1).await;
    }

    async fn a_huge_result_dropped_early_frees_its_connection_within_the_bound(version: u32) {
        let herd = Herd::start(version, 0).await;
        let db = herd.given().max_connections(1).build().unwrap();
        for rows in [10, 10_000_000] {
            let sql = "SELECT generate_series(1, $1)";
            let mut stream = sqlx::query(sql).bind(rows).fetch(&db);
            stream.next().await.unwrap().unwrap();
            drop(stream);
            // A wait for a connection ends after 5 s: this would fail if the rest of the result were read to its end.
            assert_eq!(timeout(SOON, read(&db)).await.unwrap().unwrap(), 1);
            let whole: Vec<_> = sqlx::query(sql).bind(3).fetch(&db).try_collect().await.unwrap();
            assert_eq!(whole.len(), 3);
        }
        all_can_be_held(&db, 1).await;
    }

    async fn a_transaction_that_is_dropped_is_rolled_back(version: u32) {
        let herd = Herd::start(version, 0).await;
        herd.notes().await;
        let db = herd.given().max_connections(1).build().unwrap();
        let mut transaction = db.begin().await.unwrap();
        sqlx::query("INSERT INTO notes (text) VALUES ('never')").execute(&mut *transaction).await.unwrap();
        drop(transaction);
        drop(db.begin());
        let lost = timeout(Duration::from_micros(100), db.begin()).await;
        drop(lost);
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM notes").fetch_one(&db).await.unwrap();
        assert_eq!(count, 0);
        let idle = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state LIKE 'idle in transaction%'";
        let admin = herd.sandbox.sql("n1", "postgres").await.unwrap();
        until("no transaction is left open", async || {
            admin.query_one(idle, &[]).await.unwrap().get::<_, i64>(0) == 0
        })
        .await;
    }

    async fn a_storm_of_cancellations_costs_no_place_in_the_pool(version: u32) {
        const MAX: u32 = 8;
        let herd = Herd::start(version, 1).await;
        herd.notes().await;
        let db = herd.given().max_connections(MAX).build().unwrap();
        let tasks = (0..50u64).map(|task| {
            let db = db.clone();
            tokio::spawn(async move {
                let mut random = fastrand::Rng::with_seed(task);
                for _ in 0..100 {
                    let limit = Duration::from_micros(random.u64(..5_000));
                    match random.u32(..4) {
                        0 => drop(timeout(limit, read(&db)).await),
                        1 => drop(timeout(limit, sqlx::query("SELECT 1, pg_sleep(0.002)").fetch_one(&db.writer())).await),
                        2 => {
                            let insert = sqlx::query("INSERT INTO notes (text) VALUES ('x')");
                            drop(timeout(limit, insert.execute(&db)).await);
                        }
                        _ => {
                            let mut rows = sqlx::query("SELECT generate_series(1, 1000)").fetch(&db);
                            drop(timeout(limit, rows.next()).await);
                        }
                    }
                }
            })
        });
        for task in join_all(tasks).await {
            task.unwrap();
        }
        all_can_be_held(&db, MAX as usize).await;
        all_can_be_held(&db.reader(), MAX as usize).await;
        for (name, node) in db.statistics().nodes {
            assert!(node.pool_size <= MAX && node.online && node.connection_error_count == 0, "{name}: {node:?}");
        }
        until("no statement is counted as under way", async || {
            db.statistics().nodes.values().all(|node| node.in_flight == 0)
        })
        .await;
    }
}
