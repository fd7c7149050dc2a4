//! The check that travels with writes (`write_guard`).

use std::process::Stdio;
use std::time::Duration;

use futures_util::SinkExt;
use herdsman_sandbox::Sandbox;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use crate::harness::{self, DEADLINE, Running};
use crate::load::{Load, tell, words};

/// What a client was answered, one line for each thing it said.
#[derive(Default)]
struct Log(Vec<String>);

impl Log {
    fn note<T: std::fmt::Debug>(&mut self, what: &str, outcome: Result<T, Error>) {
        let line = match outcome {
            Ok(value) => format!("{what}: {value:?}"),
            // With the words: a check's own error must not take the place of another.
            Err(error) => format!("{what}: {}", words(&error)),
        };
        self.0.push(line);
    }

    /// Says it as a simple query.
    async fn simple(&mut self, client: &Client, sql: &str) {
        let outcome = client.simple_query(sql).await.map(|messages| {
            let lines = messages.iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).filter_map(|at| row.get(at)).collect::<Vec<_>>().join("|"))
                }
                SimpleQueryMessage::CommandComplete(rows) => Some(format!("({rows})")),
                _ => None,
            });
            lines.collect::<Vec<_>>().join(",")
        });
        self.note(sql, outcome);
    }

    /// Says it in extended messages.
    async fn extended(&mut self, client: &Client, sql: &str) {
        self.note(sql, client.execute(sql, &[]).await);
    }
}

/// How a user logs in.
struct Way<'a>(&'a (dyn Fn(&str) -> String + Sync));

impl Way<'_> {
    async fn connect(&self, user: &str) -> Client {
        harness::connect(&(self.0)(user)).await.unwrap()
    }
}

/// Says everything there is to say, and returns what was answered.
async fn everything(way: &Way<'_>) -> Vec<String> {
    let mut log = Log::default();
    let app = way.connect("app").await;
    for sql in [
        "DROP TABLE IF EXISTS part, t",
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "CREATE TABLE part (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO t VALUES (1, 'one')",
        "INSERT INTO t VALUES (2, 'two'); INSERT INTO t VALUES (3, 'three'); SELECT count(*) FROM t",
        "INSERT INTO t VALUES (4, 'four'); SELECT 1 / 0; INSERT INTO t VALUES (5, 'five')",
        "INSERT INTO t VALUES (1, 'again')",
        "INSERT INTO t VALUES (1 / 0)",
        "INSERT INTO nowhere VALUES (1)",
        "INSERT INTO t VALUES (",
        "BEGIN; INSERT INTO t VALUES (6); COMMIT",
        "BEGIN ISOLATION LEVEL SERIALIZABLE; INSERT INTO t VALUES (7); COMMIT",
        "BEGIN; INSERT INTO t VALUES (8); ROLLBACK",
        "DO $$ BEGIN INSERT INTO t VALUES (9); COMMIT; INSERT INTO t VALUES (10); END $$",
        "UPDATE t SET v = upper(v) WHERE id < 4 RETURNING v",
        "WITH gone AS (DELETE FROM t WHERE id = 10 RETURNING id) SELECT id FROM gone",
        "",
    ] {
        log.simple(&app, sql).await;
    }
    transactions(&app, &mut log).await;
    extended(&app, &mut log).await;
    copies(way, &app, &mut log).await;
    alone(way, &mut log).await;
    kept(way, &mut log).await;
    log.simple(
        &app,
        "/* herdsman: writer */ SELECT string_agg(id || coalesce(v, '-'), ',' ORDER BY id) FROM t",
    )
    .await;
    log.simple(
        &app,
        "/* herdsman: writer */ SELECT string_agg(id::text, ',' ORDER BY id) FROM part",
    )
    .await;
    log.0
}

async fn transactions(app: &Client, log: &mut Log) {
    for sql in [
        "BEGIN",
        "INSERT INTO t VALUES (20)",
        "COMMIT",
        // Without anything in it, failed, and failing at its end.
        "BEGIN",
        "COMMIT",
        "BEGIN",
        "SELECT count(*) > 0 FROM t",
        "COMMIT",
        "BEGIN READ ONLY",
        "SELECT count(*) > 0 FROM t",
        "COMMIT",
        "BEGIN",
        "INSERT INTO t VALUES (21)",
        "SELECT 1 / 0",
        "COMMIT",
        "BEGIN",
        "INSERT INTO part VALUES (1), (1)",
        "COMMIT",
        "BEGIN",
        "INSERT INTO t VALUES (22)",
        "SAVEPOINT s",
        "SELECT 1 / 0",
        "ROLLBACK TO s",
        "INSERT INTO t VALUES (23)",
        "END",
        "BEGIN",
        "INSERT INTO t VALUES (24)",
        "COMMIT AND CHAIN",
        "INSERT INTO t VALUES (25)",
        "ROLLBACK",
        "BEGIN",
        "INSERT INTO t VALUES (26); COMMIT",
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        "INSERT INTO t VALUES (27)",
        "ABORT",
        "BEGIN",
        "SELECT 1 /",
        "ROLLBACK",
        "INSERT INTO part VALUES (2), (2)",
        "COMMIT",
    ] {
        log.simple(app, sql).await;
    }
    for sql in [
        "BEGIN",
        "INSERT INTO t VALUES (30)",
        "COMMIT",
        "BEGIN",
        "INSERT INTO t VALUES (31)",
        "INSERT INTO t VALUES (1)",
        "COMMIT",
        "BEGIN",
        "INSERT INTO part VALUES (3), (3)",
        "COMMIT",
        "START TRANSACTION",
        "INSERT INTO t VALUES (32)",
        "ROLLBACK",
    ] {
        log.extended(app, sql).await;
    }
}

async fn extended(app: &Client, log: &mut Log) {
    let insert = app.prepare("INSERT INTO t VALUES ($1, $2) RETURNING id").await.unwrap();
    for id in [40, 41, 40, 42] {
        let rows = app.query(&insert, &[&id, &"prepared"]).await;
        log.note(
            "prepared",
            rows.map(|rows| rows.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>()),
        );
    }
    log.note(
        "unprepared",
        app.query("INSERT INTO t VALUES ($1)", &[&43]).await.map(|rows| rows.len()),
    );
    log.note("divided", app.execute("INSERT INTO t VALUES (1 / $1::int)", &[&0]).await);
    log.simple(app, "DISCARD ALL").await;
    log.extended(app, "INSERT INTO t VALUES (44)").await;
    log.simple(app, "DEALLOCATE ALL").await;
    log.extended(app, "DISCARD ALL").await;
    log.extended(app, "INSERT INTO t VALUES (45)").await;
    // Pipelined: each its own transaction, then all in one, then with a failure in the middle.
    let insert = app.prepare("INSERT INTO t VALUES ($1)").await.unwrap();
    let (p, q, r, s) = tokio::join!(
        app.execute(&insert, &[&50]),
        app.execute(&insert, &[&50]),
        app.execute(&insert, &[&51]),
        app.query("SELECT count(*) FROM t", &[])
    );
    for outcome in [p, q, r, s.map(|rows| rows[0].get::<_, i64>(0).unsigned_abs())] {
        log.note("pipelined", outcome);
    }
    let commit = app.prepare("COMMIT").await.unwrap();
    for twice in [false, true] {
        let id = if twice { 50 } else { 52 };
        let id: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&id];
        let (p, q, r) = tokio::join!(
            app.batch_execute("BEGIN"),
            app.execute(&insert, &id),
            app.execute(&commit, &[])
        );
        log.note("pipelined BEGIN", p);
        log.note("pipelined INSERT", q);
        log.note("pipelined COMMIT", r);
    }
    let (p, q, r) = tokio::join!(
        app.batch_execute("INSERT INTO t VALUES (53)"),
        app.batch_execute("VACUUM t"),
        app.batch_execute("INSERT INTO t VALUES (54)")
    );
    for outcome in [p, q, r] {
        log.note("pipelined simple", outcome);
    }
    // Longer than what is looked at before it is sent.
    let long = "x".repeat(600 << 10);
    log.note(
        "long parameter",
        app.execute("INSERT INTO t VALUES (55, length($1)::text)", &[&long]).await,
    );
    let long = format!("INSERT INTO t VALUES (56, length('{}')::text)", "x".repeat(2 << 20));
    log.note("long text", app.batch_execute(&long).await);
}

async fn copies(way: &Way<'_>, app: &Client, log: &mut Log) {
    for (text, rows) in [
        ("COPY t (id) FROM STDIN", "60\n61\n"),
        ("COPY t (id) FROM STDIN", "62\nx\n"),
        ("COPY nowhere FROM STDIN", ""),
    ] {
        // Its own: a COPY that fails is too much for this driver.
        let app = way.connect("app").await;
        let outcome = async {
            let sink = app.copy_in::<_, bytes::Bytes>(text).await?;
            tokio::pin!(sink);
            sink.send(bytes::Bytes::copy_from_slice(rows.as_bytes())).await?;
            sink.finish().await
        };
        log.note(text, outcome.await);
    }
    log.extended(app, "INSERT INTO t VALUES (63)").await;
    // In a simple query.
    for (sql, rows) in
        [("COPY t (id) FROM STDIN", "64\n65\n"), ("COPY t (id) FROM STDIN", "66\n66\n")]
    {
        let mut psql = tokio::process::Command::new("psql")
            .args([
                "-X",
                "-q",
                "-d",
                &(way.0)("app"),
                "-c",
                sql,
                "-c",
                "INSERT INTO part VALUES (64) ON CONFLICT DO NOTHING",
            ])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        psql.stdin.take().unwrap().write_all(rows.as_bytes()).await.unwrap();
        let ended = timeout(DEADLINE, psql.wait_with_output()).await.expect("psql hangs").unwrap();
        log.0.push(format!(
            "psql: {:?} {}",
            ended.status.code(),
            String::from_utf8_lossy(&ended.stderr)
        ));
    }
}

/// What refuses to run together with anything else.
async fn alone(way: &Way<'_>, log: &mut Log) {
    let postgres = way.connect("postgres").await;
    for extended in [false, true] {
        for sql in [
            "VACUUM t",
            "/* all of it */ vacuum (analyze) t",
            "CREATE INDEX CONCURRENTLY i ON t (v)",
            "REINDEX INDEX CONCURRENTLY i",
            "-- again\nDROP INDEX CONCURRENTLY i",
            "CREATE DATABASE other",
            "ALTER SYSTEM SET work_mem = '5MB'",
            "ALTER SYSTEM RESET work_mem",
            "DROP DATABASE other",
            "CHECKPOINT",
        ] {
            if extended {
                log.extended(&postgres, sql).await;
            } else {
                log.simple(&postgres, sql).await;
            }
        }
    }
}

/// A client that keeps its connection.
async fn kept(way: &Way<'_>, log: &mut Log) {
    let client = way.connect("app").await;
    for sql in [
        "LISTEN news",
        "SELECT count(*) > 0 FROM t",
        "CREATE TEMP TABLE mine (id int)",
        "INSERT INTO mine VALUES (1)",
        "INSERT INTO t VALUES (70)",
        "INSERT INTO t VALUES (70)",
        "SET application_name = 'kept'",
        "BEGIN ISOLATION LEVEL SERIALIZABLE",
        "INSERT INTO t SELECT 70 + id FROM mine",
        "COMMIT",
        "SHOW application_name",
        "VACUUM mine",
        "DISCARD ALL",
        "INSERT INTO t VALUES (72)",
        "SELECT count(*) FROM mine",
    ] {
        log.simple(&client, sql).await;
    }
    log.simple(&client, "LISTEN news").await;
    let insert = client.prepare("INSERT INTO t VALUES ($1)").await.unwrap();
    let (p, q, r, s) = tokio::join!(
        client.execute(&insert, &[&73]),
        client.batch_execute("BEGIN"),
        client.execute(&insert, &[&74]),
        client.batch_execute("COMMIT")
    );
    log.note("kept", p);
    log.note("kept", q);
    log.note("kept", r);
    log.note("kept", s);
}

/// Many at once on two connections: each write once.
async fn many(running: &Running) {
    let app = running.connect("postgres", "app").await;
    app.batch_execute("DROP TABLE IF EXISTS many; CREATE TABLE many (id int)").await.unwrap();
    let mut clients = JoinSet::new();
    for number in 0..12 {
        let client = running.connect("postgres", "app").await;
        clients.spawn(async move {
            let insert = client.prepare("INSERT INTO many VALUES ($1)").await.unwrap();
            for turn in 0..25 {
                let id: i32 = number * 1000 + turn * 10;
                client.execute(&insert, &[&id]).await.unwrap();
                client
                    .batch_execute(&format!("INSERT INTO many VALUES ({})", id + 1))
                    .await
                    .unwrap();
                client.batch_execute("BEGIN").await.unwrap();
                client.execute(&insert, &[&(id + 2)]).await.unwrap();
                client.batch_execute("COMMIT").await.unwrap();
                client.execute("INSERT INTO many SELECT $1 / 0", &[&id]).await.unwrap_err();
            }
        });
    }
    clients.join_all().await;
    let row = app
        .query_one("/* herdsman: writer */ SELECT count(*), count(DISTINCT id) FROM many", &[])
        .await
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (900, 900));
}

/// Whether it was not refused by the guard; nothing else may be wrong.
fn succeeded(outcome: Result<(), Error>) -> bool {
    outcome
        .inspect_err(|error| assert!(words(error).starts_with("40001"), "{}", words(error)))
        .is_ok()
}

async fn with_readers(running: &Running, count: usize) {
    running.until(|topology| topology.readers().count() == count).await;
}

/// Has clients write and commit towards a frozen primary, has another one promoted, wakes the old one up. Returns how many
/// of the writes it has committed then.
async fn wake(version: u32, guard: &str) -> i64 {
    let cluster = Sandbox::builder().pg_version(version).standbys(2).start().await.unwrap();
    let extra = format!("hold: 30s\npool: {{ size: 40 }}\n{guard}");
    let running = harness::gateway(&cluster, &extra).await;
    with_readers(&running, 2).await;
    running
        .connect("postgres", "app")
        .await
        .batch_execute("CREATE TABLE notes (id int)")
        .await
        .unwrap();
    let mut clients = Vec::new();
    for id in 0..20 {
        let client = running.connect("postgres", "app").await;
        let insert = client.prepare("INSERT INTO notes VALUES ($1)").await.unwrap();
        let commit = client.prepare("COMMIT").await.unwrap();
        if id % 5 > 2 {
            client.batch_execute("BEGIN").await.unwrap();
            client.execute(&insert, &[&id]).await.unwrap();
        } else {
            // Whatever it needs is on a connection.
            client.execute("DELETE FROM notes WHERE id = $1", &[&id]).await.unwrap();
        }
        clients.push((id, client, insert, commit));
    }
    cluster.wait_replayed().await.unwrap();
    cluster.freeze("n1").await.unwrap();
    let mut writes = JoinSet::new();
    for (id, client, insert, commit) in clients {
        writes.spawn(async move {
            let outcome = match id % 5 {
                0 => client.batch_execute(&format!("INSERT INTO notes VALUES ({id})")).await,
                1 => client.execute(&insert, &[&id]).await.map(drop),
                2 => client.execute("INSERT INTO notes VALUES ($1)", &[&id]).await.map(drop),
                3 => client.batch_execute("COMMIT").await,
                _ => client.execute(&commit, &[]).await.map(drop),
            };
            (id, outcome)
        });
    }
    running.until(|topology| topology.primary().is_none()).await;
    cluster.promote("n2").await.unwrap();
    cluster.follow("n3", "n2").await.unwrap();
    running.until_primary("n2").await;
    cluster.thaw("n1").await.unwrap();
    let truth = cluster.sql("n1", "app").await.unwrap();
    // Whoever was woken with something to do has done it when nobody is at work any more.
    harness::eventually("the old primary is at rest", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND usename = 'app' AND pid <> pg_backend_pid()";
        truth.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    let there: i64 = truth.query_one("SELECT count(*) FROM notes", &[]).await.unwrap().get(0);
    let survivor = cluster.sql("n2", "app").await.unwrap();
    for outcome in timeout(DEADLINE, writes.join_all()).await.expect("clients hang") {
        match outcome {
            // Sent again, where it was refused: then it is where it belongs.
            (id, Ok(())) => {
                let rows =
                    survivor.query("SELECT 1 FROM notes WHERE id = $1", &[&id]).await.unwrap();
                assert_eq!(rows.len(), 1, "{id} was acknowledged by the old primary");
            }
            (id, Err(error)) => {
                let words = words(&error);
                assert!(
                    ["08006", "08007", "40001"].iter().any(|code| words.starts_with(code)),
                    "{id}: {words}"
                );
            }
        }
    }
    there
}

herdsman_sandbox::on_each_version! {
    async fn with_a_guard_everything_is_answered_as_without(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).standbys(1).start().await.unwrap();
        let (host, port) = cluster.endpoint("n1").unwrap();
        let direct = |user: &str| {
            let password = cluster.credentials().password(user).unwrap();
            format!("host={host} port={port} dbname=postgres user={user} password={password} sslmode=disable")
        };
        let expected = everything(&Way(&direct)).await;
        for guard in ["off", "deadline", "followers"] {
            for mode in ["transaction", "session"] {
                let size = if mode == "session" { 20 } else { 2 };
                let extra = format!("write_guard: {guard}\nguard_lease: 3s\nhold: 20s\npool: {{ mode: {mode}, size: {size} }}");
                let running = harness::gateway(&cluster, &extra).await;
                with_readers(&running, 1).await;
                let login = |user: &str| running.conninfo("postgres", user);
                let answers = timeout(DEADLINE * 2, everything(&Way(&login))).await.expect("it hangs");
                let wrong: Vec<_> = answers.iter().zip(&expected).filter(|(answer, expected)| answer != expected).collect();
                assert!(wrong.is_empty(), "write_guard {guard}, mode {mode}: {wrong:#?}");
                timeout(DEADLINE, many(&running)).await.expect("it hangs");
                running.stop().await;
            }
        }
    }

    async fn a_frozen_primary_that_was_left_commits_nothing_when_it_wakes(version: u32) {
        assert_eq!(wake(version, "write_guard: deadline\nguard_lease: 500ms").await, 0);
        assert_eq!(wake(version, "write_guard: followers\nguard_lease: 500ms").await, 0);
        // What the guard is for: without it, what was in the sockets is carried out.
        let without = wake(version, "write_guard: off").await;
        assert!(without > 0, "nothing was in the sockets, so the guards have shown nothing");
        tell(&format!("PostgreSQL {version}: without a guard, the old primary committed {without} of 20"));
    }

    async fn a_write_refused_is_sent_again_and_a_commit_refused_fails_its_transaction(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).standbys(1).start().await.unwrap();
        let running = harness::gateway(&cluster, "write_guard: deadline\nguard_lease: 200ms\nhold: 20s").await;
        with_readers(&running, 1).await;
        let (auto, simple, tx, kept) = (
            running.connect("postgres", "app").await,
            running.connect("postgres", "app").await,
            running.connect("postgres", "app").await,
            running.connect("postgres", "app").await,
        );
        auto.batch_execute("CREATE TABLE notes (id int)").await.unwrap();
        let insert = auto.prepare("INSERT INTO notes VALUES ($1)").await.unwrap();
        auto.execute(&insert, &[&0]).await.unwrap();
        tx.batch_execute("BEGIN").await.unwrap();
        tx.batch_execute("INSERT INTO notes VALUES (100)").await.unwrap();
        kept.batch_execute("LISTEN news").await.unwrap();
        // Too short to be taken for dead, too long for the lease.
        cluster.freeze("n1").await.unwrap();
        let wake = async {
            sleep(Duration::from_millis(450)).await;
            cluster.thaw("n1").await.unwrap();
        };
        let (first, second, third, fourth, ()) = tokio::join!(
            auto.execute(&insert, &[&1]),
            simple.batch_execute("INSERT INTO notes VALUES (2)"),
            tx.batch_execute("COMMIT"),
            kept.batch_execute("INSERT INTO notes VALUES (101)"),
            wake,
        );
        first.unwrap_or_else(|error| panic!("{}", words(&error)));
        second.unwrap_or_else(|error| panic!("{}", words(&error)));
        for (client, refused) in [(&tx, third), (&kept, fourth)] {
            let refused = words(&refused.unwrap_err());
            assert!(refused.starts_with("40001"), "{refused}");
            client.batch_execute("ROLLBACK").await.unwrap();
        }
        // On a machine that stands still for as long as so short a lease, one or the other is refused once more.
        harness::eventually("a transaction is committed", async || {
            tx.batch_execute("BEGIN; INSERT INTO notes VALUES (3)").await.unwrap();
            let committed = succeeded(tx.batch_execute("COMMIT").await);
            if !committed {
                tx.batch_execute("ROLLBACK").await.unwrap();
            }
            committed
        })
        .await;
        harness::eventually("a write on a kept connection passes", async || {
            succeeded(kept.batch_execute("INSERT INTO notes VALUES (4)").await)
        })
        .await;
        let rows = auto.query("SELECT id FROM notes ORDER BY id", &[]).await.unwrap();
        let ids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(ids, [0, 1, 2, 3, 4]);
    }

    async fn a_primary_that_lives_acknowledges_nothing_once_its_standby_is_promoted(version: u32) {
        let builder = Sandbox::builder().pg_version(version).standbys(2);
        let cluster = builder.setting("track_commit_timestamp", "on").start().await.unwrap();
        let running = harness::gateway(&cluster, "hold: 30s\nwrite_guard: followers").await;
        with_readers(&running, 2).await;
        let load = Load::begin(&running, 8).await;
        load.progress(&running, 200).await;
        // When the old primary has lost its standby, by its own clock.
        let old = cluster.sql("n1", "postgres").await.unwrap();
        let left = tokio::spawn(async move {
            loop {
                let sql = "SELECT (SELECT count(*) FROM pg_stat_get_wal_senders()), clock_timestamp()::text";
                let row = old.query_one(sql, &[]).await.unwrap();
                if row.get::<_, i64>(0) < 2 {
                    return (row.get::<_, String>(1), old);
                }
            }
        });
        cluster.promote("n2").await.unwrap();
        let promoted = Instant::now();
        running.until_primary("n2").await;
        let known = promoted.elapsed();
        let (left, old) = timeout(DEADLINE, left).await.unwrap().unwrap();
        cluster.follow("n3", "n2").await.unwrap();
        load.progress(&running, 200).await;
        let story = load.end().await;
        let late = story.acks.values().filter(|(node, at)| node == "n1" && *at > promoted).count();
        assert_eq!(late, 0, "writes were acknowledged by the primary that was left");
        let lost = story.check(&cluster.sql("n2", "app").await.unwrap()).await;
        assert!(lost.iter().all(|id| story.acks[id].0 == "n1"), "{lost:?}");
        // Checked before the standby left, and committed after: at most one for each client.
        let sql = "SELECT count(*) FROM load WHERE pg_xact_commit_timestamp(xmin) > $1::text::timestamptz";
        let after: i64 = old.query_one(sql, &[&left]).await.unwrap().get(0);
        assert!(after <= 8, "{after} writes were committed without the standby");
        tell(&format!(
            "PostgreSQL {version}: {} acknowledged, {} lost, {after} committed after the standby had left; known after {known:?}, pause {:?}, errors {:?}",
            story.acks.len(), lost.len(), story.gap, story.errors
        ));
    }

    async fn a_standby_that_restarts_or_connects_again_stops_writes_for_a_moment_only(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).standbys(2).start().await.unwrap();
        let running = harness::gateway(&cluster, "hold: 30s\nwrite_guard: followers").await;
        with_readers(&running, 2).await;
        let load = Load::begin(&running, 8).await;
        load.progress(&running, 200).await;
        cluster.stop("n3").await.unwrap();
        load.progress(&running, 200).await;
        cluster.start("n3").await.unwrap();
        cluster.wait_streaming("n3").await.unwrap();
        load.progress(&running, 200).await;
        let superuser = cluster.sql("n1", "postgres").await.unwrap();
        superuser.batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_replication").await.unwrap();
        load.progress(&running, 200).await;
        cluster.kill("n3").await.unwrap();
        load.progress(&running, 200).await;
        let story = load.end().await;
        for (code, (_, example)) in &story.errors {
            assert_eq!(code, "40001", "{example}");
        }
        assert!(story.unknown.is_empty());
        let lost = story.check(&cluster.sql("n1", "app").await.unwrap()).await;
        assert!(lost.is_empty(), "{lost:?}");
        tell(&format!("PostgreSQL {version}: {} acknowledged, longest pause {:?}, errors {:?}", story.acks.len(), story.gap, story.errors));
    }
}
