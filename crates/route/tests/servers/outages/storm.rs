//! Everything at once: outages of every kind, in a random order, under 32 tasks that do all that can be done.
//!
//! `HERDSMAN_SOAK=1` lets it blow for a minute, `HERDSMAN_SEED` repeats the order of events of a run, and
//! `HERDSMAN_SOAK_REPORT` is a file that the summary is appended to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::time::Duration;

use futures_util::TryStreamExt;
use herdsman::{Error, ReplicaSet};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use crate::herd::{Herd, PATIENCE, on_each_version, until, until_online};

const TASKS: usize = 32;
const MAX_CONNECTIONS: u32 = 8;
/// No statement may take longer: silence is noticed within 4 s, a node is waited for 5 s, and each of a few tries may
/// meet another outage.
const DEADLINE: Duration = Duration::from_secs(45);

/// What became of one write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Acknowledged,
    Unknown,
    Nothing,
}

#[derive(Default)]
struct Log {
    operations: u64,
    errors: BTreeMap<String, u64>,
    writes: Vec<(i64, Fate)>,
}

impl Log {
    fn failed(&mut self, kind: &str, error: &sqlx::Error) {
        *self.errors.entry(format!("{kind}: {}", name(error))).or_default() += 1;
    }
}

/// A name for every error that is to be expected; anything else is a failure of the test.
fn name(error: &sqlx::Error) -> String {
    match (Error::of(error), error) {
        (Some(Error::NoWriter { .. }), _) => "NoWriter".to_owned(),
        (Some(Error::NoReader { .. }), _) => "NoReader".to_owned(),
        (Some(Error::Lost { .. }), _) => "Lost".to_owned(),
        (Some(Error::OutcomeUnknown { .. }), _) => "OutcomeUnknown".to_owned(),
        (Some(Error::Busy { .. }), _) => "Busy".to_owned(),
        (Some(other), _) => panic!("unexpected: {other}"),
        (None, sqlx::Error::Io(_)) => "Io".to_owned(),
        (None, sqlx::Error::Database(error)) => match error.code().unwrap_or_default().into_owned()
        {
            // Shutdown, crash of another process, and a standby's conflict with replay.
            code if ["57P01", "57P02", "40001", "40P01"].contains(&code.as_str()) => code,
            code => panic!("unexpected: {code} {error}"),
        },
        (None, other) => panic!("not one of ours, nor the server's: {other:?}"),
    }
}

/// The errors of statements through the set are ours; within a transaction they are sqlx's own.
fn fate(error: &sqlx::Error) -> Fate {
    match Error::of(error) {
        Some(ours) if ours.nothing_happened() => Fate::Nothing,
        Some(_) => Fate::Unknown,
        None => panic!("not typed: {error:?}"),
    }
}

struct Ids(AtomicI64);

impl Ids {
    fn next(&self) -> i64 {
        self.0.fetch_add(1, SeqCst)
    }
}

async fn one(db: &ReplicaSet, random: &mut fastrand::Rng, ids: &Ids, log: &mut Log) {
    match random.u32(..10) {
        0..4 => {
            let read = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM storm WHERE id < $1")
                .bind(100i64);
            if let Err(error) = read.fetch_one(db).await {
                assert!(
                    Error::of(&error).is_some() || matches!(error, sqlx::Error::Database(_)),
                    "{error:?}"
                );
                log.failed("read", &error);
            }
        }
        4..7 => {
            let id = ids.next();
            let done = sqlx::query("INSERT INTO storm VALUES ($1)").bind(id).execute(db).await;
            let fate = done.as_ref().map_or_else(fate, |_| Fate::Acknowledged);
            log.writes.push((id, fate));
            if let Err(error) = done {
                log.failed("write", &error);
            }
        }
        7 => {
            let id = ids.next();
            let (fate, error) = transaction(db, id, random.bool()).await;
            log.writes.push((id, fate));
            if let Some(error) = error {
                log.failed("transaction", &error);
            }
        }
        8 => {
            let take = random.usize(1..400);
            let mut rows = sqlx::query("SELECT generate_series(1, 300)").fetch(db);
            for _ in 0..take {
                match rows.try_next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        log.failed("stream", &error);
                        break;
                    }
                }
            }
        }
        _ => {
            let read = async {
                let mut transaction = db.begin_read_only().await?;
                sqlx::query("SELECT 1").fetch_one(&mut *transaction).await?;
                transaction.commit().await
            };
            if let Err(error) = read.await {
                log.failed("read-only transaction", &error);
            }
        }
    }
}

/// Only a commit that was sent may have an unknown end.
async fn transaction(db: &ReplicaSet, id: i64, commit: bool) -> (Fate, Option<sqlx::Error>) {
    let mut transaction = match db.begin().await {
        Ok(transaction) => transaction,
        Err(error) => return (fate(&error), Some(error)),
    };
    if let Err(error) =
        sqlx::query("INSERT INTO storm VALUES ($1)").bind(id).execute(&mut *transaction).await
    {
        return (Fate::Nothing, Some(error));
    }
    if !commit {
        return (Fate::Nothing, None);
    }
    match transaction.commit().await {
        Ok(()) => (Fate::Acknowledged, None),
        Err(error) => (Fate::Unknown, Some(error)),
    }
}

/// One outage: some nodes, one way to go and to come back.
async fn outage(herd: &Herd, random: &mut fastrand::Rng) -> String {
    let (sandbox, nodes) =
        (&herd.sandbox, [["n1"].as_slice(), &["n2"], &["n3"], &["n2", "n3"], &["n1", "n2", "n3"]]);
    let nodes = nodes[random.usize(..nodes.len())];
    let pause = Duration::from_millis(random.u64(100..2500));
    let way = ["stop", "kill", "freeze", "restart"][random.usize(..4)];
    for node in nodes {
        match way {
            "freeze" => sandbox.freeze(node).await.unwrap(),
            "kill" => sandbox.kill(node).await.unwrap(),
            _ => sandbox.stop(node).await.unwrap(),
        }
    }
    if way != "restart" {
        sleep(if way == "freeze" { pause * 2 } else { pause }).await;
    }
    for node in nodes {
        match way {
            "freeze" => sandbox.thaw(node).await.unwrap(),
            _ => sandbox.start(node).await.unwrap(),
        }
    }
    sleep(Duration::from_millis(random.u64(..1000))).await;
    format!("{way} {}", nodes.join("+"))
}

/// How many connections the application has on this node.
async fn connections(herd: &Herd, node: &str) -> i64 {
    let admin = herd.sandbox.sql(node, "postgres").await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'";
    admin.query_one(sql, &[]).await.unwrap().get(0)
}

/// Nothing written that was acknowledged is missing, nothing is there twice, and nothing is there of which it was said
/// that nothing had happened.
async fn check(herd: &Herd, writes: &[(i64, Fate)]) -> BTreeMap<&'static str, usize> {
    let admin = herd.sandbox.sql("n1", "postgres").await.unwrap();
    let rows = admin.query("SELECT id, count(*) FROM storm GROUP BY id", &[]).await.unwrap();
    let found: BTreeMap<i64, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut counts = BTreeMap::new();
    for (id, fate) in writes {
        let times = found.get(id).copied().unwrap_or(0);
        let what = match (fate, times) {
            (Fate::Acknowledged, 1) => "acknowledged",
            (Fate::Unknown, 0) => "unknown and absent",
            (Fate::Unknown, 1) => "unknown and found",
            (Fate::Nothing, 0) => "nothing happened",
            _ => panic!("write {id}, {fate:?}, is there {times} times"),
        };
        *counts.entry(what).or_default() += 1;
    }
    assert!(
        found.keys().all(|id| writes.iter().any(|(known, _)| known == id)),
        "a write of nobody"
    );
    counts
}

on_each_version! {
    async fn nothing_is_lost_repeated_or_leaked_in_a_storm_of_outages(version: u32) {
        let soak = std::env::var_os("HERDSMAN_SOAK").is_some();
        let length = Duration::from_secs(if soak { 60 } else { 12 });
        let seed = std::env::var("HERDSMAN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(fastrand::u64(..));
        let herd = Herd::start(version, 2).await;
        let admin = herd.sandbox.sql("n1", "postgres").await.unwrap();
        admin.batch_execute("CREATE TABLE storm (id bigint NOT NULL); GRANT ALL ON storm TO app").await.unwrap();
        drop(admin);
        herd.sandbox.wait_replayed().await.unwrap();
        sleep(Duration::from_millis(500)).await;
        let tasks_before = Handle::current().metrics().num_alive_tasks();
        let db = herd.given().max_connections(MAX_CONNECTIONS).min_connections(2).build().unwrap();

        let (stop, ids) = (Arc::new(AtomicBool::new(false)), Arc::new(Ids(AtomicI64::new(1000))));
        let workers: Vec<_> = (0..TASKS as u64)
            .map(|task| {
                let (db, stop, ids) = (db.clone(), Arc::clone(&stop), Arc::clone(&ids));
                tokio::spawn(async move {
                    let mut random = fastrand::Rng::with_seed(seed ^ (task << 32));
                    let mut log = Log::default();
                    while !stop.load(SeqCst) {
                        let done = timeout(DEADLINE, one(&db, &mut random, &ids, &mut log)).await;
                        done.unwrap_or_else(|_| panic!("an operation hangs; seed {seed}; {}", db.statistics()));
                        log.operations += 1;
                        for node in db.statistics().nodes.values() {
                            assert!(node.pool_size <= MAX_CONNECTIONS, "{node:?}");
                        }
                    }
                    log
                })
            })
            .collect();

        let mut random = fastrand::Rng::with_seed(seed);
        let (begun, mut outages) = (Instant::now(), BTreeMap::<String, u32>::new());
        while begun.elapsed() < length {
            *outages.entry(outage(&herd, &mut random).await).or_default() += 1;
        }
        stop.store(true, SeqCst);
        let mut all = Log::default();
        for worker in workers {
            let log = timeout(DEADLINE + PATIENCE, worker).await.expect("a task hangs").unwrap();
            all.operations += log.operations;
            all.writes.extend(log.writes);
            for (kind, count) in log.errors {
                *all.errors.entry(kind).or_default() += count;
            }
        }

        for node in ["write", "read0", "read1"] {
            until_online(&db, node, true).await;
        }
        for _ in 0..100 {
            sqlx::query("SELECT 1").fetch_one(&db).await.unwrap();
        }
        let counts = check(&herd, &all.writes).await;
        let last = db.statistics();
        drop(db);
        for node in ["n1", "n2", "n3"] {
            until(&format!("no connection to {node} is left; seed {seed}"), async || {
                connections(&herd, node).await == 0
            })
            .await;
        }
        until(&format!("no task is left; seed {seed}"), async || {
            Handle::current().metrics().num_alive_tasks() <= tasks_before
        })
        .await;
        if let Ok(path) = std::env::var("HERDSMAN_SOAK_REPORT") {
            use std::io::Write;
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
            let errors = &all.errors;
            writeln!(file, "PostgreSQL {version}, seed {seed}: {} operations in {length:?}", all.operations).unwrap();
            writeln!(file, "  outages {outages:?}\n  writes {counts:?}\n  errors {errors:?}\n  {last}").unwrap();
        }
    }
}
