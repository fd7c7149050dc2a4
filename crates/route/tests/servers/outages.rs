//! Nodes that die, hang and come back while statements are under way.

mod storm;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use herdsman::{Error, Fallback, ReplicaSet};
use herdsman_sandbox::Fault;
use tokio::time::{sleep, timeout};

use crate::herd::{Herd, PATIENCE, on_each_version, sent, until, until_online};

/// Reads `total` times under 32 tasks and calls `midway` when half of them are done; returns the errors. What is under
/// way when `midway` ends has to end, too.
async fn reads(db: &ReplicaSet, total: usize, midway: impl AsyncFnOnce()) -> Vec<String> {
    let done = Arc::new(AtomicUsize::new(0));
    let tasks = (0..32).map(|_| {
        let (db, done) = (db.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut errors = Vec::new();
            while done.fetch_add(1, Ordering::Relaxed) < total {
                if let Err(error) = sqlx::query("SELECT 1 AS one").fetch_one(&db).await {
                    errors.push(error.to_string());
                }
            }
            errors
        })
    });
    let tasks: Vec<_> = tasks.collect();
    until("half of the reads are done", async || done.load(Ordering::Relaxed) >= total / 2).await;
    midway().await;
    let ends = timeout(PATIENCE * 2, join_all(tasks)).await.expect("a read hangs");
    ends.into_iter().flat_map(Result::unwrap).collect()
}

on_each_version! {
    async fn no_read_fails_when_a_reader_is_down_from_the_start(version: u32) {
        let herd = Herd::start(version, 2).await;
        herd.sandbox.kill("n2").await.unwrap();
        let db = herd.given().build().unwrap();
        let errors = reads(&db, 10_000, async || {}).await;
        assert!(errors.is_empty(), "{} failed, first: {}", errors.len(), errors[0]);
        assert_eq!((sent(&db, "read0"), sent(&db, "write")), (0, 0));
    }

    async fn no_read_fails_when_a_reader_is_killed(version: u32) {
        let herd = Herd::start(version, 2).await;
        let db = herd.given().build().unwrap();
        let errors = reads(&db, 10_000, async || herd.sandbox.kill("n2").await.unwrap()).await;
        assert!(errors.is_empty(), "{} failed, first: {}", errors.len(), errors[0]);
        assert!(sent(&db, "read0") > 0);
        until_online(&db, "read0", false).await;
        let node = db.statistics().nodes["read0"].clone();
        assert!(node.state_changes == 1 && node.last_error.is_some(), "{node:?}");
    }

    async fn no_read_fails_when_two_of_three_readers_are_killed_at_once(version: u32) {
        let herd = Herd::start(version, 3).await;
        let db = herd.given().build().unwrap();
        let errors = reads(&db, 10_000, async || {
            let (one, other) = tokio::join!(herd.sandbox.kill("n2"), herd.sandbox.kill("n3"));
            one.and(other).unwrap();
        })
        .await;
        assert!(errors.is_empty(), "{} failed, first: {}", errors.len(), errors[0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_was_not_sent_yet_asks_every_node_there_is_whatever_retries_says() {
    let herd = Herd::start(15, 3).await;
    let db = herd.given().retries(0).build().unwrap();
    for node in ["n2", "n3", "n4"] {
        herd.sandbox.client_proxy(node).unwrap().set(Fault::Cut);
    }
    let errors = reads(&db, 1_000, async || herd.sandbox.heal()).await;
    assert!(errors.is_empty(), "{} failed, first: {}", errors.len(), errors[0]);
    for node in ["read0", "read1", "read2"] {
        until_online(&db, node, true).await;
    }
}

/// Reads go on while `harm` is done to a reader until the set holds it for offline, and once it is `healed`.
async fn no_read_fails_while_a_reader_is_silent(
    herd: &Herd,
    harm: impl AsyncFnOnce(),
    heal: impl AsyncFnOnce(),
) {
    let db = herd.given().build().unwrap();
    db.connect_readers().await.unwrap();
    let errors = reads(&db, 10_000, async || {
        harm().await;
        until_online(&db, "read0", false).await;
    })
    .await;
    assert!(errors.is_empty(), "{} failed, first: {}", errors.len(), errors[0]);
    assert!(db.statistics().nodes["read0"].connection_error_count > 0, "none was under way there");
    heal().await;
    until_online(&db, "read0", true).await;
    let errors = reads(&db, 1_000, async || {}).await;
    assert!(errors.is_empty(), "{} failed, first: {}", errors.len(), errors[0]);
}

on_each_version! {
    async fn reads_of_a_frozen_reader_are_cut_and_sent_to_another(version: u32) {
        let herd = Herd::start(version, 2).await;
        let freeze = async || herd.sandbox.freeze("n2").await.unwrap();
        no_read_fails_while_a_reader_is_silent(&herd, freeze, async || herd.sandbox.thaw("n2").await.unwrap()).await;
    }

    async fn reads_of_a_reader_in_a_black_hole_are_cut_and_sent_to_another(version: u32) {
        let herd = Herd::start(version, 2).await;
        let stall = async || herd.sandbox.client_proxy("n2").unwrap().set(Fault::Stall);
        no_read_fails_while_a_reader_is_silent(&herd, stall, async || herd.sandbox.heal()).await;
    }

    async fn reads_of_the_only_node_outlive_its_restart(version: u32) {
        let herd = Herd::start(version, 0).await;
        let db = herd.given().build().unwrap();
        let errors = reads(&db, 4_000, async || {
            herd.sandbox.kill("n1").await.unwrap();
            herd.sandbox.start("n1").await.unwrap();
        })
        .await;
        assert!(errors.is_empty(), "{} failed, first: {}", errors.len(), errors[0]);
    }

    async fn a_write_cut_midway_is_of_unknown_outcome_and_is_repeated_only_if_allowed(version: u32) {
        let herd = Herd::start(version, 1).await;
        herd.notes().await;
        let db = herd.given().build().unwrap();
        let slow = "INSERT INTO notes (text) SELECT $1::text FROM pg_sleep(5)";
        let (plain, allowed) = (db.clone(), db.idempotent());
        let plain = tokio::spawn(async move { sqlx::query(slow).bind("plain").execute(&plain).await });
        let allowed = tokio::spawn(async move { sqlx::query(slow).bind("allowed").execute(&allowed).await });
        let admin = herd.sandbox.sql("n1", "postgres").await.unwrap();
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        until("both are under way", async || {
            admin.query_one(sleeping, &[]).await.unwrap().get::<_, i64>(0) == 2
        })
        .await;
        herd.sandbox.kill("n1").await.unwrap();
        let error = plain.await.unwrap().unwrap_err();
        let ours = Error::of(&error).unwrap();
        assert!(matches!(ours, Error::OutcomeUnknown { node, .. } if node.as_str() == "write"), "{error}");
        assert!(!ours.nothing_happened());
        herd.sandbox.start("n1").await.unwrap();
        timeout(PATIENCE, allowed).await.unwrap().unwrap().unwrap();
        let rows: Vec<String> =
            sqlx::query_scalar("SELECT text FROM notes ORDER BY id").fetch_all(&db.writer()).await.unwrap();
        assert_eq!(rows, ["allowed"]);
    }

    async fn a_stream_is_begun_again_only_while_nothing_was_yielded(version: u32) {
        use futures_util::TryStreamExt;
        let herd = Herd::start(version, 2).await;
        let db = herd.given().fallback(Fallback::Error).build().unwrap();
        db.connect_readers().await.unwrap();
        // One row per tenth of a second, each on the wire before the next: the server's buffer is smaller than a row.
        let slow = "SELECT repeat('x', 20000), pg_sleep(0.1) FROM generate_series(1, 300)";
        let mut begun = sqlx::query(slow).fetch(&db);
        begun.try_next().await.unwrap().unwrap();
        let victim = if sent(&db, "read0") > 0 { "n2" } else { "n3" };
        herd.sandbox.kill(victim).await.unwrap();
        let error = timeout(PATIENCE, begun.try_fold((), |(), _| async { Ok(()) })).await.unwrap().unwrap_err();
        assert!(matches!(Error::of(&error), Some(Error::Lost { .. })), "{error}");
        let (alive, gone) = if victim == "n2" { ("read1", "read0") } else { ("read0", "read1") };
        until_online(&db, gone, false).await;
        let rows = sqlx::query("SELECT generate_series(1, 3)").fetch(&db).try_collect::<Vec<_>>().await;
        assert_eq!(rows.unwrap().len(), 3);
        assert!(sent(&db, alive) > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_pulse_alone_takes_no_node_away() {
    let herd = Herd::start(15, 1).await;
    let db = herd.given().build().unwrap();
    db.connect_readers().await.unwrap();
    until_online(&db, "read0", true).await;
    let admin = herd.sandbox.sql("n2", "postgres").await.unwrap();
    let lost = async {
        for _ in 0..10 {
            admin
                .batch_execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'",
                )
                .await
                .unwrap();
            sleep(Duration::from_millis(200)).await;
        }
    };
    let read = async {
        for _ in 0..2_000 {
            sqlx::query("SELECT 1").fetch_one(&db).await.unwrap();
        }
    };
    tokio::join!(lost, read);
    until_online(&db, "read0", true).await;
    assert_eq!(db.statistics().nodes["read0"].state_changes, 0);
}
