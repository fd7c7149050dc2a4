//! Servers that die, freeze and are promoted behind the gateway's back.

use std::time::Duration;

use herdsman_sandbox::Sandbox;
use tokio::time::{Instant, timeout};

use crate::harness::{self, DEADLINE, Running};
use crate::load::{Load, Story, tell, words};

async fn with_readers(running: &Running, count: usize) {
    running.until(|topology| topology.readers().count() == count).await;
}

/// Errors that a client may see when servers die: nothing was done, or nobody knows.
fn only_honest_errors(story: &Story) {
    for (code, (_, example)) in &story.errors {
        assert!(
            ["08006", "08007", "57P03", "40001", "25P02"].contains(&code.as_str()),
            "{example}"
        );
    }
}

herdsman_sandbox::on_each_version! {
    async fn writes_wait_for_the_next_primary_and_reads_go_on(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).standbys(2).start().await.unwrap();
        let running = harness::gateway(&cluster, "hold: 30s").await;
        with_readers(&running, 2).await;
        let load = Load::begin(&running, 16).await;
        load.progress(&running, 100).await;
        let reader = running.connect("postgres", "app").await;
        let killed = Instant::now();
        cluster.kill("n1").await.unwrap();
        for _ in 0..20 {
            reader.query("SELECT count(*) FROM load", &[]).await.unwrap_or_else(|error| panic!("{}", words(&error)));
        }
        cluster.promote("n2").await.unwrap();
        let promoted = Instant::now();
        cluster.follow("n3", "n2").await.unwrap();
        running.until_primary("n2").await;
        load.progress(&running, 200).await;
        let story = load.end().await;
        only_honest_errors(&story);
        let lost = story.check(&cluster.sql("n2", "app").await.unwrap()).await;
        // What a promotion has lost cannot be found.
        let missed: Vec<_> = story.stale.iter().filter(|id| !lost.contains(id)).collect();
        assert!(missed.is_empty(), "a session missed its own write: {missed:?}");
        for id in &lost {
            let (node, at) = &story.acks[id];
            assert!(node == "n1" && *at < promoted, "{id} was acknowledged by {node}, and is not on n2");
        }
        for (node, at) in story.acks.values() {
            assert!(node == "n2" || *at < promoted, "acknowledged by {node} after the promotion");
        }
        let resumed = story.acks.values().filter(|(node, _)| node == "n2").map(|(_, at)| *at).min().unwrap();
        tell(&format!(
            "PostgreSQL {version}: {} writes acknowledged, {} unknown, {} lost with the primary; writes went on {:?} after \
             the promotion ended, {:?} after the kill; errors {:?}",
            story.acks.len(), story.unknown.len(), lost.len(), resumed.saturating_duration_since(promoted), resumed - killed,
            story.errors
        ));
    }

    async fn while_nobody_may_be_written_to_the_error_says_why_when_the_hold_is_over(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).standbys(1).start().await.unwrap();
        let running = harness::gateway(&cluster, "hold: 300ms").await;
        with_readers(&running, 1).await;
        let client = running.connect("postgres", "app").await;
        client.batch_execute("CREATE TABLE notes (id int)").await.unwrap();
        // The standby is known to have it before the primary goes.
        let mut nodes = std::collections::BTreeSet::new();
        let begun = Instant::now();
        while !nodes.contains("n2") {
            assert!(begun.elapsed() < DEADLINE, "n2 is never read");
            let row = client.query_one("SELECT current_setting('cluster_name') FROM (SELECT count(*) FROM notes) n", &[]);
            nodes.insert(row.await.unwrap().get::<_, String>(0));
        }
        cluster.stop("n1").await.unwrap();
        let error = client.batch_execute("INSERT INTO notes VALUES (1)").await.unwrap_err();
        assert!(words(&error).starts_with("57P03 nobody may be written to now: no primary"), "{}", words(&error));
        with_readers(&running, 1).await;
        client.batch_execute("SELECT * FROM notes").await.unwrap();
        cluster.start("n1").await.unwrap();
        running.until_primary("n1").await;
        client.batch_execute("INSERT INTO notes VALUES (2)").await.unwrap();
    }

    async fn a_frozen_primary_that_was_left_commits_nothing_of_what_waits(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).standbys(2).start().await.unwrap();
        let running = harness::gateway(&cluster, "hold: 30s").await;
        with_readers(&running, 2).await;
        let client = running.connect("postgres", "app").await;
        client.batch_execute("CREATE TABLE notes (id int)").await.unwrap();
        client.batch_execute("BEGIN; INSERT INTO notes VALUES (1)").await.unwrap();
        cluster.wait_replayed().await.unwrap();
        cluster.freeze("n1").await.unwrap();
        running.until(|topology| topology.primary().is_none()).await;
        // The gateway hears of it from the same watcher, a moment later on a busy machine.
        tokio::time::sleep(Duration::from_millis(500)).await;
        // The transaction was on a node that may have been replaced by now: its COMMIT does not go out.
        let error = timeout(DEADLINE, client.batch_execute("COMMIT")).await.unwrap().unwrap_err();
        assert!(["08006", "08007", "40001", "25P02", "57P01"].iter().any(|code| words(&error).starts_with(code)), "{}", words(&error));
        cluster.promote("n2").await.unwrap();
        cluster.follow("n3", "n2").await.unwrap();
        running.until_primary("n2").await;
        let client = running.connect("postgres", "app").await;
        client.batch_execute("INSERT INTO notes VALUES (2)").await.unwrap();
        cluster.thaw("n1").await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        for (node, expected) in [("n1", Vec::<i32>::new()), ("n2", vec![2])] {
            let truth = cluster.sql(node, "app").await.unwrap();
            let rows = truth.query("SELECT id FROM notes", &[]).await.unwrap();
            let rows: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
            assert_eq!(rows, expected, "on {node}");
        }
        client.batch_execute("INSERT INTO notes VALUES (3)").await.unwrap();
        let zombie = cluster.sql("n1", "app").await.unwrap();
        assert_eq!(zombie.query("SELECT id FROM notes", &[]).await.unwrap().len(), 0);
    }

    async fn of_two_primaries_only_the_proven_one_is_written_to(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).standbys(2).start().await.unwrap();
        let running = harness::gateway(&cluster, "hold: 30s\nwrite_guard: followers").await;
        with_readers(&running, 2).await;
        // The guard's statements beside those of clients in each protocol are tested elsewhere: here each write is one
        // prepared statement.
        let load = Load::prepared(&running, &cluster, 8).await;
        load.progress(&running, 100).await;
        // n1 lives on and accepts writes, and nobody tells the gateway.
        cluster.promote("n2").await.unwrap();
        let promoted = Instant::now();
        running.until_primary("n2").await;
        cluster.follow("n3", "n2").await.unwrap();
        load.progress(&running, 100).await;
        let story = load.end().await;
        only_honest_errors(&story);
        let wrong = story.acks.values().filter(|(node, at)| node == "n1" && *at > promoted).count();
        assert_eq!(wrong, 0, "writes were acknowledged by the primary that was left");
        let lost = story.check(&cluster.sql("n2", "app").await.unwrap()).await;
        tell(&format!("PostgreSQL {version}: {} acknowledged, {} lost at the promotion", story.acks.len(), lost.len()));
        assert!(lost.iter().all(|id| story.acks[id].0 == "n1"), "{lost:?}");
    }
}
