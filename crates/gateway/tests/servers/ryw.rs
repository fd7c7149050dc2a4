//! Sessions read what they wrote, and on readers where these have it.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use herdsman_sandbox::Sandbox;
use tokio::time::{Instant, sleep};

use crate::harness::{self, eventually};

/// How much later than the primary standbys are in the first test.
const LATE: Duration = Duration::from_millis(150);

/// The node that a read was answered by, and whether it found the row.
async fn found(client: &tokio_postgres::Client, id: i32) -> (String, bool) {
    let sql = "SELECT current_setting('cluster_name'), (SELECT count(*) FROM notes WHERE id = $1)";
    let row = client.query_one(sql, &[&id]).await.unwrap();
    (row.get(0), row.get::<_, i64>(1) == 1)
}

herdsman_sandbox::on_each_version! {
    async fn whatever_a_session_wrote_it_reads_at_once_on_the_primary_and_soon_on_a_standby(version: u32) {
        let late = format!("{}ms", LATE.as_millis());
        let cluster = Sandbox::builder().pg_version(version).standbys(2).setting("recovery_min_apply_delay", &late);
        let cluster = cluster.start().await.unwrap();
        let running = harness::gateway(&cluster, "").await;
        running.until(|topology| topology.readers().count() == 2).await;
        let client = running.connect("postgres", "app").await;
        client.batch_execute("CREATE TABLE notes (id int PRIMARY KEY)").await.unwrap();
        cluster.wait_replayed().await.unwrap();
        for id in 0..10 {
            let begun = Instant::now();
            client.execute("INSERT INTO notes VALUES ($1)", &[&id]).await.unwrap();
            let (node, there) = found(&client, id).await;
            assert!(there, "{id} was not on {node}");
            // On a busy machine they may have it by now.
            assert!(node == "n1" || begun.elapsed() >= LATE, "{node} was read before it could have it");
        }
        let nodes = Mutex::new(BTreeSet::new());
        eventually("both standbys have it and are read", async || {
            let (node, there) = found(&client, 9).await;
            assert!(there, "9 was not on {node}");
            let mut nodes = nodes.lock().unwrap();
            nodes.insert(node);
            nodes.contains("n2") && nodes.contains("n3")
        })
        .await;
        // Who wrote nothing is not bound to anything.
        let stranger = running.connect("postgres", "app").await;
        client.execute("INSERT INTO notes VALUES (100)", &[]).await.unwrap();
        let readers = running.readers(2).await;
        eventually("a stranger's read with every standby there all the time", async || {
            let before = readers.all().await;
            let (node, _) = found(&stranger, 100).await;
            let all = readers.stayed(before);
            assert!(node != "n1" || !all, "a stranger was sent to the primary");
            all
        })
        .await;
    }

    async fn a_session_of_many_writes_never_misses_one(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).standbys(2).start().await.unwrap();
        let running = harness::gateway(&cluster, "").await;
        running.until(|topology| topology.readers().count() == 2).await;
        let client = running.connect("postgres", "app").await;
        client.batch_execute("CREATE TABLE notes (id int PRIMARY KEY)").await.unwrap();
        let mut on_standbys = 0;
        for id in 0..300 {
            let sql = match id % 2 {
                0 => format!("INSERT INTO notes VALUES ({id})"),
                _ => format!("BEGIN; INSERT INTO notes VALUES ({id}); COMMIT"),
            };
            client.batch_execute(&sql).await.unwrap();
            for pause in [0, 30] {
                sleep(Duration::from_millis(pause)).await;
                let (node, there) = found(&client, id).await;
                assert!(there, "{id} was not on {node}");
                on_standbys += i32::from(node != "n1");
            }
        }
        assert!(on_standbys > 0, "standbys were never read");
    }

    async fn what_is_acknowledged_before_it_is_on_disk_is_not_missed_either(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).standbys(2).setting("wal_writer_delay", "500ms");
        let cluster = cluster.start().await.unwrap();
        let superuser = cluster.sql("n1", "postgres").await.unwrap();
        superuser.batch_execute("ALTER ROLE app SET synchronous_commit = off").await.unwrap();
        let running = harness::gateway(&cluster, "").await;
        running.until(|topology| topology.readers().count() == 2).await;
        let client = running.connect("postgres", "app").await;
        client.batch_execute("CREATE TABLE notes (id int PRIMARY KEY)").await.unwrap();
        for id in 0..40 {
            client.execute("INSERT INTO notes VALUES ($1)", &[&id]).await.unwrap();
            for pause in [0, 40] {
                sleep(Duration::from_millis(pause)).await;
                let (node, there) = found(&client, id).await;
                assert!(there, "{id} was not on {node}");
            }
        }
    }
}
