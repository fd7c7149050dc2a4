//! Cancel requests, on the right server of the right node and nowhere else.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use herdsman_sandbox::Sandbox;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use super::{address, newer_libpq, psql};
use crate::harness::{self, Running, connect, eventually};

/// How many sessions of a node run a statement with this in it.
async fn running_there(node: &Client, mark: &str) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1 \
        AND pid <> pg_backend_pid()";
    node.query_one(sql, &[&format!("%{mark}%")]).await.unwrap().get(0)
}

async fn until_running(node: &Client, mark: &str, count: i64) {
    eventually(mark, async || running_there(node, mark).await == count).await;
}

fn is_cancelled(outcome: &Result<(), tokio_postgres::Error>) -> bool {
    matches!(outcome, Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED))
}

/// A client whose statements all go to readers.
async fn reader(running: &Running) -> Client {
    let conninfo = running.conninfo("postgres", "app");
    connect(&format!("{conninfo} options='-c herdsman.target=reader'")).await.unwrap()
}

herdsman_sandbox::on_each_version! {
    async fn a_cancel_request_hits_its_client_s_statement_on_its_node_only(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).standbys(1).start().await.unwrap();
        let running = harness::gateway(&cluster, "").await;
        let [primary, standby] = [
            cluster.sql("n1", "postgres").await.unwrap(),
            cluster.sql("n2", "postgres").await.unwrap(),
        ];
        let writer = Arc::new(running.connect("postgres", "app").await);
        let reader = Arc::new(reader(&running).await);
        let on_primary = Arc::clone(&writer);
        let writing = tokio::spawn(async move {
            on_primary.batch_execute("BEGIN; SELECT pg_sleep(300) /* held_up */; COMMIT").await
        });
        let on_standby = Arc::clone(&reader);
        let reading = tokio::spawn(async move {
            on_standby.batch_execute("SELECT pg_sleep(300) /* looked_up */").await
        });
        until_running(&primary, "held_up", 1).await;
        until_running(&standby, "looked_up", 1).await;

        reader.cancel_token().cancel_query(NoTls).await.unwrap();
        assert!(is_cancelled(&reading.await.unwrap()));
        assert_eq!(running_there(&primary, "held_up").await, 1);
        assert_eq!(running_there(&standby, "looked_up").await, 0);

        writer.cancel_token().cancel_query(NoTls).await.unwrap();
        assert!(is_cancelled(&writing.await.unwrap()));
        // Both go on.
        writer.batch_execute("ROLLBACK; SELECT 1").await.unwrap();
        reader.batch_execute("SELECT 1").await.unwrap();
        running.stop().await;
    }

    async fn psql_cancels_with_control_c(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).start().await.unwrap();
        let running = harness::gateway(&cluster, "").await;
        let primary = cluster.sql("n1", "postgres").await.unwrap();
        let login = address(&running, "app", running.password("app"));
        let longer_keys = newer_libpq(&cluster).map(|_| "max_protocol_version=3.2");
        for protocol in [Some(""), longer_keys].into_iter().flatten() {
            let mut command = psql(&cluster, &format!("{login} {protocol}"));
            command.args(["-c", "SELECT pg_sleep(300) /* by_psql */"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let child = command.spawn().unwrap();
            until_running(&primary, "by_psql", 1).await;
            let pid = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
            let output = tokio::time::timeout(harness::DEADLINE, child.wait_with_output());
            let output = output.await.unwrap().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("canceling statement due to user request"), "{said}");
            until_running(&primary, "by_psql", 0).await;
        }
        running.stop().await;
    }

    async fn a_late_cancel_request_never_hits_who_has_the_connection_next(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).start().await.unwrap();
        // Two connections for many clients, so that each goes from hand to hand.
        let running = harness::gateway(&cluster, "pool: { size: 2 }").await;
        let over = Arc::new(AtomicBool::new(false));
        let mut others = Vec::new();
        for _ in 0..4 {
            let client = running.connect("postgres", "app").await;
            let over = Arc::clone(&over);
            others.push(tokio::spawn(async move {
                let mut statements = 0_usize;
                while !over.load(Ordering::Relaxed) {
                    client.batch_execute("SELECT pg_sleep(0.001)").await.unwrap();
                    statements += 1;
                }
                statements
            }));
        }
        let client = running.connect("postgres", "app").await;
        let token = client.cancel_token();
        let (mut hit, mut missed) = (0, 0);
        let begun = Instant::now();
        // Until some were in time and some were late: else nothing is shown.
        while hit + missed < 200 || hit == 0 || missed == 0 {
            assert!(begun.elapsed() < harness::DEADLINE, "{hit} hit and {missed} missed");
            let token = token.clone();
            let after = Duration::from_micros(fastrand::u64(..10_000));
            let cancelling = tokio::spawn(async move {
                tokio::time::sleep(after).await;
                token.cancel_query(NoTls).await.unwrap();
            });
            let outcome = client.batch_execute("SELECT pg_sleep(0.003)").await;
            if is_cancelled(&outcome) {
                hit += 1;
            } else {
                outcome.unwrap();
                missed += 1;
            }
            cancelling.await.unwrap();
        }
        over.store(true, Ordering::Relaxed);
        for other in others {
            assert!(other.await.unwrap() > 0);
        }
        running.stop().await;
    }
}
