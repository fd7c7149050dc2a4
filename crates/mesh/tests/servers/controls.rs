//! The same random writes with one rule of the mesh broken: the nodes must end up different, or writes must be lost –
//! else the tests that find nothing would prove nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::fuzz::judge::Findings;
use crate::fuzz::{Run, TABLES, run};
use crate::proof::{DEADLINE, Mesh, report, seed, three_of};

/// Runs until something is found wrong. That takes one or two.
const MOST_RUNS: u64 = 8;

async fn broken(what: &str, mesh: Arc<Mesh>, shows: impl Fn(&Findings) -> bool) {
    let first = seed();
    let mut last = Findings::default();
    for number in 0..MOST_RUNS {
        let plan = Run { truncate_every: 0, ..Run::new(first + number) };
        last = run(&mesh, &plan).await;
        if shows(&last) {
            report(&format!("mesh without {what}: run {}: {}", number + 1, last.figures()));
            return;
        }
    }
    panic!("HERDSMAN_SEED={first}: {MOST_RUNS} runs without {what} found nothing: {last:#?}");
}

fn majors() -> Option<Vec<u32>> {
    three_of(18).or_else(|| three_of(15))
}

async fn everywhere(mesh: &Mesh, statements: &str) {
    for node in mesh.nodes() {
        mesh.root(&node).await.batch_execute(statements).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_tombstones_nodes_differ() {
    let Some(majors) = majors() else { return };
    let mesh = Arc::new(Mesh::start(majors, TABLES).await);
    let mut emptied = Vec::new();
    for node in mesh.nodes() {
        emptied.push(empty_for_ever(mesh.root(&node).await));
    }
    broken("tombstones", mesh, |found| found.differing > 0).await;
    emptied.iter().for_each(AbortHandle::abort);
}

/// Forgets what was deleted, as soon as it was.
fn empty_for_ever(client: Client) -> AbortHandle {
    let task = tokio::spawn(async move {
        loop {
            let statement = "DELETE FROM herdsman_gone.\"public.plain\"; DELETE FROM herdsman_gone.\"public.pair\"";
            // A deadlock with somebody who writes one: again.
            drop(client.batch_execute(statement).await);
            sleep(Duration::from_millis(5)).await;
        }
    });
    task.abort_handle()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_hybrid_clock_and_with_one_behind_nodes_differ() {
    let Some(majors) = majors() else { return };
    let mesh = Arc::new(Mesh::start(majors, TABLES).await);
    let behind = "
        CREATE OR REPLACE FUNCTION herdsman.stamp_row() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW._herdsman_stamp := (date_part('epoch', clock_timestamp()) * 1000000)::bigint - 5000000;
            NEW._herdsman_node := (SELECT node FROM herdsman.mesh);
            RETURN NEW;
        END $$; GRANT SELECT ON herdsman.mesh TO app";
    mesh.root(&mesh.nodes()[0]).await.batch_execute(behind).await.unwrap();
    broken("a hybrid clock", mesh, |found| found.differing > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_total_order_nodes_differ() {
    let Some(majors) = majors() else { return };
    let mesh = Arc::new(Mesh::start(majors, TABLES).await);
    // Every row claims the same node and the same second.
    let coarse = "
        CREATE OR REPLACE FUNCTION herdsman.stamp_row() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW._herdsman_stamp := date_part('epoch', clock_timestamp())::bigint * 1000000;
            NEW._herdsman_node := 1;
            RETURN NEW;
        END $$";
    everywhere(&mesh, coarse).await;
    broken("a total order", mesh, |found| found.differing > 0).await;
}

/// PostgreSQL's own subscriptions, without anything of ours: only updates of rows that are there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_subscriptions_of_postgresql_nodes_differ() {
    let Some(majors) = three_of(18) else { return };
    let sandbox = herdsman_sandbox::Sandbox::builder().versions(majors).start().await.unwrap();
    let nodes = sandbox.node_names();
    let mut sessions = Vec::new();
    for node in &nodes {
        let client = sandbox.sql(node, "postgres").await.unwrap();
        let table =
            "CREATE TABLE t (id int PRIMARY KEY, val text); CREATE PUBLICATION p FOR TABLE t;
                     INSERT INTO t SELECT n, 'v0' FROM generate_series(1, 50) n";
        client.batch_execute(table).await.unwrap();
        sessions.push(client);
    }
    for (to, client) in sessions.iter().enumerate() {
        for (from, source) in nodes.iter().enumerate().filter(|(from, _)| *from != to) {
            let port = sandbox.server_port(source).unwrap();
            let password = sandbox.credentials().password("postgres").unwrap();
            let subscribe = format!(
                "CREATE SUBSCRIPTION s{to}_from_{from} CONNECTION 'host=127.0.0.1 port={port} dbname=postgres user=postgres password={password}' PUBLICATION p WITH (copy_data = false, origin = none)"
            );
            client.batch_execute(&subscribe).await.unwrap();
        }
    }
    subscribed(&sessions, "DISABLE").await;
    let mut random = fastrand::Rng::with_seed(seed());
    for number in 0..600 {
        let client = &sessions[random.usize(..sessions.len())];
        let update = format!("UPDATE t SET val = 'v{number}' WHERE id = {}", random.u32(1..=50));
        client.batch_execute(&update).await.unwrap();
    }
    subscribed(&sessions, "ENABLE").await;
    caught_up(&sessions).await;
    let mut held = Vec::new();
    for client in &sessions {
        let rows = client.query("SELECT val FROM t ORDER BY id", &[]).await.unwrap();
        held.push(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>());
    }
    let differing = (0..50).filter(|at| held.iter().any(|rows| rows[*at] != held[0][*at])).count();
    report(&format!(
        "subscriptions of PostgreSQL 18: {differing} of 50 keys differ after 600 updates"
    ));
    assert!(differing > 0, "they end alike, too");
}

async fn subscribed(sessions: &[Client], what: &str) {
    for (to, client) in sessions.iter().enumerate() {
        for from in (0..sessions.len()).filter(|from| *from != to) {
            let statement = format!("ALTER SUBSCRIPTION s{to}_from_{from} {what}");
            client.batch_execute(&statement).await.unwrap();
        }
    }
}

/// Waits until every subscription has confirmed what its source has written.
async fn caught_up(sessions: &[Client]) {
    for client in sessions {
        let end: String =
            client.query_one("SELECT pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
        let question = format!(
            "SELECT count(*) = 2 FROM pg_replication_slots WHERE plugin = 'pgoutput' AND confirmed_flush_lsn >= '{end}'"
        );
        let deadline = Instant::now() + DEADLINE;
        while !client.query_one(&question, &[]).await.unwrap().get::<_, bool>(0) {
            assert!(Instant::now() < deadline, "the subscriptions do not catch up");
            sleep(Duration::from_millis(50)).await;
        }
    }
}
