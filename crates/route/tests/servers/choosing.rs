//! Which of several nodes is chosen: by what they are given, how they are, and what the application says.

use std::time::Duration;

use futures_util::future::join_all;
use herdsman::{Balance, Error, Fallback, GroupConfig, NodeName, NodeRole, ReplicaSet};
use tokio::time::{sleep, timeout};

use crate::herd::{Herd, PATIENCE, sent, until, until_online};
use crate::nodes::{execute, read};

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

/// How many of a hundred reads each node was sent.
async fn spread<const N: usize>(db: &ReplicaSet, nodes: [&str; N]) -> [u64; N] {
    let before = nodes.map(|node| sent(db, node));
    for _ in 0..100 {
        read(db).await.unwrap();
    }
    std::array::from_fn(|index| sent(db, nodes[index]) - before[index])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_came_back_gets_its_share_by_and_by() {
    let herd = Herd::start(15, 2).await;
    let start = Duration::from_secs(3);
    let db = herd.given().balance(Balance::Random).slow_start(start).build().unwrap();
    db.connect_readers().await.unwrap();
    herd.sandbox.kill("n2").await.unwrap();
    until_online(&db, "read0", false).await;
    herd.sandbox.start("n2").await.unwrap();
    until_online(&db, "read0", true).await;
    // Its share is between a tenth and a half in the first half of the slow start.
    let [early, other] = spread(&db, ["read0", "read1"]).await;
    assert!(early < 40 && other > 60, "{early} {other}");
    sleep(start + Duration::from_secs(1)).await;
    let [late, other] = spread(&db, ["read0", "read1"]).await;
    assert!(late > 25 && other > 25, "{late} {other}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_too_far_behind_is_not_read_until_it_has_caught_up() {
    let herd = Herd::start(15, 2).await;
    herd.notes().await;
    let db = herd.given().max_lag(Some(1024 * 1024), None).build().unwrap();
    let replay = herd.sandbox.sql("n2", "postgres").await.unwrap();
    replay.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    execute(&db, "INSERT INTO notes (text) SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
        .await
        .unwrap();
    until("the late one is out", async || db.statistics().nodes["read0"].role == NodeRole::None)
        .await;
    assert!(db.statistics().nodes["read0"].online);
    // The other one is late for as long as its pulse has not seen that it has caught up.
    until("the other is read alone", async || {
        let [late, other, writer] = spread(&db, ["read0", "read1", "write"]).await;
        assert_eq!(late, 0, "{other} {writer}");
        other == 100
    })
    .await;
    replay.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    until("it is back", async || db.statistics().nodes["read0"].role == NodeRole::Reader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_reader_the_fallback_says_what_becomes_of_reads() {
    let herd = Herd::start(15, 1).await;
    let with = |fallback| {
        herd.given().fallback(fallback).writer_wait(Duration::from_millis(300)).build().unwrap()
    };
    let [writer, error, wait] = [Fallback::Writer, Fallback::Error, Fallback::Wait].map(with);
    for db in [&writer, &error, &wait] {
        db.connect_readers().await.unwrap();
    }
    herd.sandbox.kill("n2").await.unwrap();
    for db in [&writer, &error, &wait] {
        until_online(db, "read0", false).await;
    }
    read(&writer).await.unwrap();
    assert_eq!(sent(&writer, "write"), 1);
    for db in [&error, &wait] {
        let error = read(db).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(Error::of(&error), Some(Error::NoReader { .. })), "{text}");
        assert!(
            text.contains("read0 is offline: ") && text.contains("write is no reader"),
            "{text}"
        );
        assert_eq!(sent(db, "write"), 0);
    }
    let patient = herd.given().fallback(Fallback::Wait).writer_wait(PATIENCE).build().unwrap();
    let (read, started) = tokio::join!(read(&patient), async {
        until_online(&patient, "read0", false).await;
        herd.sandbox.start("n2").await
    });
    started.unwrap();
    assert_eq!(read.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_lost_one_connection_is_asked_again_where_there_is_no_fallback() {
    let herd = Herd::start(15, 1).await;
    for fallback in [Fallback::Error, Fallback::Wait] {
        let db = herd.given().fallback(fallback).build().unwrap();
        read(&db).await.unwrap();
        let admin = herd.sandbox.sql("n2", "postgres").await.unwrap();
        let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'";
        admin.batch_execute(all).await.unwrap();
        read(&db).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_and_zones_decide_who_is_read() {
    let herd = Herd::start(15, 2).await;
    let heavy = herd.given().balance(Balance::Random).weight(name("read0"), 4).build().unwrap();
    let [more, less] = spread(&heavy, ["read0", "read1"]).await;
    assert!(more > 60 && less > 0, "{more} {less}");
    let spare = herd.given().weight(name("read0"), 0).build().unwrap();
    assert_eq!(spread(&spare, ["read0", "read1"]).await, [0, 100]);
    let zoned =
        herd.given().zone("east").zone_of(name("read1"), "east").zone_of(name("read0"), "west");
    let zoned = zoned.build().unwrap();
    assert_eq!(spread(&zoned, ["read0", "read1"]).await, [0, 100]);
    herd.sandbox.kill("n3").await.unwrap();
    for db in [&spare, &zoned] {
        until_online(db, "read1", false).await;
        assert_eq!(spread(db, ["read0", "read1", "write"]).await, [100, 0, 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_one_key_stay_on_one_of_several_writers() {
    let (one, other) = tokio::join!(Herd::start(15, 0), Herd::start(15, 0));
    let db = ReplicaSet::builder()
        .writer(&one.conninfo("n1", "app"))
        .writer(&other.conninfo("n1", "app"))
        .build()
        .unwrap();
    for herd in [&one, &other] {
        herd.notes().await;
    }
    let insert =
        async |db: &ReplicaSet| execute(db, "INSERT INTO notes (text) VALUES ('x')").await.unwrap();
    for _ in 0..40 {
        insert(&db).await;
    }
    assert!(sent(&db, "write") > 0 && sent(&db, "write1") > 0, "{}", db.statistics());
    let mut owners = std::collections::BTreeSet::new();
    for key in 0..16 {
        let sticky = db.sticky(&key);
        let before = [sent(&db, "write"), sent(&db, "write1")];
        for _ in 0..5 {
            insert(&sticky).await;
        }
        let grown = [sent(&db, "write") - before[0], sent(&db, "write1") - before[1]];
        assert!(grown == [5, 0] || grown == [0, 5], "{grown:?}");
        owners.insert(grown);
    }
    assert_eq!(owners.len(), 2, "all keys on one writer");
    one.sandbox.kill("n1").await.unwrap();
    until_online(&db, "write", false).await;
    for key in 0..16 {
        insert(&db.sticky(&key)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_have_pools_of_their_own_and_units_of_work() {
    let herd = Herd::start(15, 1).await;
    herd.notes().await;
    let limit = Duration::from_secs(3);
    let db = herd
        .given()
        .max_connections(4)
        .acquire_timeout(limit)
        .group(
            "jobs",
            GroupConfig {
                nodes: vec![name("write")],
                max_connections: Some(1),
                autocommit: false,
                ..Default::default()
            },
        )
        .group("log", GroupConfig { nodes: vec![name("write")], ..Default::default() })
        .build()
        .unwrap();
    let (jobs, log) = (db.group("jobs").unwrap(), db.group("log").unwrap());
    assert!(db.group("nothing").is_none());
    let held = jobs.acquire().await.unwrap();
    let error = jobs.acquire().await.unwrap_err();
    assert!(matches!(Error::of(&error), Some(Error::Busy { .. })), "{error}");
    let other = join_all((0..4).map(|_| db.acquire())).await;
    assert!(other.iter().all(Result::is_ok));
    drop((held, other));

    let insert = async |db: &ReplicaSet, text: &str, fail: bool| {
        db.unit_of_work(async |connection| {
            sqlx::query("INSERT INTO notes (text) VALUES ($1)")
                .bind(text)
                .execute(&mut *connection)
                .await?;
            if fail { Err(sqlx::Error::RowNotFound) } else { Ok(()) }
        })
        .await
    };
    insert(&jobs, "job", false).await.unwrap();
    insert(&jobs, "failed job", true).await.unwrap_err();
    insert(&log, "line", false).await.unwrap();
    insert(&log, "line of a failure", true).await.unwrap_err();
    let given_up = insert(&jobs, "given up", false);
    drop(timeout(Duration::from_micros(1), given_up).await);
    let all = sqlx::query_scalar::<_, String>("SELECT text FROM notes ORDER BY id")
        .fetch_all(&db.writer())
        .await;
    let all: Vec<String> = all.unwrap().into_iter().filter(|text| text != "given up").collect();
    assert_eq!(all, ["job", "line", "line of a failure"]);
}
