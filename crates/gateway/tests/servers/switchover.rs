//! A planned change of the primary, by commands, with clients at work.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use herdsman_sandbox::{RejoinBy, Sandbox};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::harness::{self, Running};
use crate::load::{Load, tell, words};

/// Carries out what the commands of a configuration ask for, on a sandbox in this process: as `herdsman sandbox …` does on
/// one in another.
pub(crate) struct Operator {
    folder: TempDir,
    task: JoinHandle<()>,
}

/// Puts its arguments where the operator looks, and waits for the answer.
const SCRIPT: &str = r#"#!/bin/sh
request=$(mktemp "$(dirname "$0")/request.XXXXXX")
echo "$*" > "$request" && mv "$request" "$request.ask"
while [ ! -e "$request.done" ]; do sleep 0.01; done
cat "$request.done" >&2
[ ! -s "$request.done" ]
"#;

impl Operator {
    pub(crate) fn new(cluster: &Arc<Sandbox>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("do"), SCRIPT).unwrap();
        let task = tokio::spawn(work(folder.path().to_owned(), Arc::clone(cluster)));
        Self { folder, task }
    }

    /// The section of the configuration.
    pub(crate) fn section(&self) -> String {
        let script = self.folder.path().join("do");
        let script = script.display();
        format!(
            "switchover:\n  demote: [sh, '{script}', stop, '{{node}}']\n  promote: [sh, '{script}', promote, '{{node}}']\n  \
             follow: [sh, '{script}', follow, '{{node}}', '{{new}}']"
        )
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn work(folder: PathBuf, cluster: Arc<Sandbox>) {
    loop {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "ask") {
                let request = std::fs::read_to_string(&path).unwrap();
                std::fs::remove_file(&path).unwrap();
                let cluster = Arc::clone(&cluster);
                tokio::spawn(async move {
                    let answer = carry_out(&cluster, &request).await.err().unwrap_or_default();
                    answer_to(&path, &answer);
                });
            }
        }
        sleep(Duration::from_millis(2)).await;
    }
}

fn answer_to(path: &Path, answer: &str) {
    let (half, whole) = (path.with_extension("half"), path.with_extension("done"));
    // The test may be over, and the folder gone.
    let _gone = std::fs::write(&half, answer).and_then(|()| std::fs::rename(&half, whole));
}

async fn carry_out(cluster: &Sandbox, request: &str) -> Result<(), String> {
    let words: Vec<&str> = request.split_whitespace().collect();
    let told = |error: herdsman_sandbox::SandboxError| error.one_line();
    match words.as_slice() {
        ["stop", node] => cluster.stop(node).await.map_err(told),
        ["promote", node] => cluster.promote(node).await.map_err(told),
        ["follow", node, new] => match cluster.follow(node, new).await {
            Ok(()) => Ok(()),
            Err(_) => {
                cluster.rejoin_from(node, new, RejoinBy::default()).await.map(drop).map_err(told)
            }
        },
        _ => Err(format!("`{request}` is none of what can be done")),
    }
}

async fn switch(running: &Running, command: &str) -> Result<(), String> {
    let console = running.console().await;
    console.simple_query(command).await.map(drop).map_err(|error| words(&error))
}

/// Every verdict there was, for whoever has to find out why a test failed.
struct Verdicts {
    begun: Instant,
    seen: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Verdicts {
    fn follow(running: &Running) -> Self {
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let (mut topologies, notes, begun) =
            (running.watch().subscribe(), Arc::clone(&seen), Instant::now());
        let task = tokio::spawn(async move {
            let mut last = String::new();
            while topologies.changed().await.is_ok() {
                let topology = Arc::clone(&topologies.borrow_and_update());
                let errors = topology
                    .nodes
                    .iter()
                    .filter_map(|(node, view)| Some(format!("{node}: {}", view.error.as_ref()?)));
                let verdict = format!("{} {:?}", topology.verdict, errors.collect::<Vec<_>>());
                if verdict != last {
                    notes.lock().unwrap().push(format!("{:?} {verdict}", begun.elapsed()));
                    last = verdict;
                }
            }
        });
        Self { begun, seen, task }
    }

    fn note(&self, text: &str) {
        self.seen.lock().unwrap().push(format!("{:?} {text}", self.begun.elapsed()));
    }

    fn end(self) -> Vec<String> {
        self.task.abort();
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

async fn with_readers(running: &Running, count: usize) {
    running.until(|topology| topology.readers().count() == count).await;
}

herdsman_sandbox::on_each_version! {
    async fn a_switchover_there_and_back_costs_clients_no_error(version: u32) {
        let cluster = Arc::new(Sandbox::builder().pg_version(version).standbys(2).start().await.unwrap());
        let operator = Operator::new(&cluster);
        let running = harness::gateway(&cluster, &operator.section()).await;
        with_readers(&running, 2).await;
        let verdicts = Verdicts::follow(&running);
        let load = Load::begin(&running, 16).await;
        load.progress(&running, 200).await;
        for new in ["n2", "n1"] {
            verdicts.note(&format!("to {new}"));
            switch(&running, &format!("SWITCHOVER {new}")).await.unwrap();
            verdicts.note("done");
            running.until_primary(new).await;
            assert_eq!(cluster.primary().await.unwrap(), new);
            load.progress(&running, 200).await;
            with_readers(&running, 2).await;
        }
        let story = load.end().await;
        let verdicts = verdicts.end();
        assert!(story.errors.is_empty(), "{:?}; {verdicts:#?}", story.errors);
        assert!(story.read_errors.is_empty(), "{:?}", story.read_errors);
        assert_eq!(story.stale, Vec::<i64>::new(), "a session missed its own write");
        assert_eq!(story.unknown.len(), 0);
        let survivor = cluster.sql("n1", "app").await.unwrap();
        assert_eq!(story.check(&survivor).await, Vec::<i64>::new(), "acknowledged and lost");
        tell(&format!(
            "PostgreSQL {version}: {} writes and {} reads through two switchovers, longest time without a write {:?}",
            story.acks.len(), story.reads, story.gap
        ));
    }

    async fn a_transaction_that_does_not_end_stops_the_switchover_unless_forced(version: u32) {
        let cluster = Arc::new(Sandbox::builder().pg_version(version).standbys(1).start().await.unwrap());
        let operator = Operator::new(&cluster);
        let section = format!("{}\n  drain: 300ms", operator.section());
        let running = harness::gateway(&cluster, &section).await;
        with_readers(&running, 1).await;
        let slow = running.connect("postgres", "app").await;
        slow.batch_execute("CREATE TABLE kept (n int)").await.unwrap();
        slow.batch_execute("BEGIN; INSERT INTO kept VALUES (1)").await.unwrap();
        let problem = switch(&running, "SWITCHOVER n2").await.unwrap_err();
        assert!(problem.contains("n1 stays the primary: 1 transactions"), "{problem}");
        // Nobody was harmed, and writes go on.
        let other = running.connect("postgres", "app").await;
        other.batch_execute("INSERT INTO kept VALUES (2)").await.unwrap();
        slow.batch_execute("INSERT INTO kept VALUES (3); COMMIT").await.unwrap();
        slow.batch_execute("BEGIN; INSERT INTO kept VALUES (4)").await.unwrap();
        with_readers(&running, 1).await;
        switch(&running, "SWITCHOVER n2 FORCE").await.unwrap();
        running.until_primary("n2").await;
        assert!(slow.batch_execute("COMMIT").await.is_err(), "it was cut off");
        other.batch_execute("INSERT INTO kept VALUES (5)").await.unwrap();
        let truth = cluster.sql("n2", "app").await.unwrap();
        let rows = truth.query("SELECT n FROM kept ORDER BY n", &[]).await.unwrap();
        let rows: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(rows, [1, 2, 3, 5]);
    }

    async fn whatever_cannot_be_done_leaves_the_old_primary_at_work(version: u32) {
        let cluster = Arc::new(Sandbox::builder().pg_version(version).standbys(2).start().await.unwrap());
        let running = harness::gateway(
            &cluster,
            "switchover:\n  demote: [sh, -c, 'echo not today >&2; exit 1']\n  promote: ['true']",
        )
        .await;
        with_readers(&running, 2).await;
        let client = running.connect("postgres", "app").await;
        client.batch_execute("CREATE TABLE kept (n int)").await.unwrap();
        for (command, reason) in [
            ("SWITCHOVER n1", "n1 is the primary already"),
            ("SWITCHOVER n9", "n9"),
            ("SWITCHOVER n2", "n1 stays the primary: `sh -c"),
            ("SWITCHOVER n2", "not today"),
        ] {
            with_readers(&running, 2).await;
            let problem = switch(&running, command).await.unwrap_err();
            assert!(problem.contains(reason), "{command}: {problem}");
            client.batch_execute("INSERT INTO kept VALUES (1)").await.unwrap();
        }
        cluster.stop("n3").await.unwrap();
        with_readers(&running, 1).await;
        let problem = switch(&running, "SWITCHOVER n3").await.unwrap_err();
        assert!(problem.contains("n3 is no standby that may be read"), "{problem}");
        client.batch_execute("INSERT INTO kept VALUES (2)").await.unwrap();
        assert_eq!(cluster.primary().await.unwrap(), "n1");
    }

    async fn a_standby_that_does_not_get_there_is_not_promoted(version: u32) {
        let cluster = Arc::new(Sandbox::builder().pg_version(version).standbys(1).start().await.unwrap());
        let operator = Operator::new(&cluster);
        let section = format!("{}\n  command_timeout: 3s\nhold: 60s", operator.section());
        let running = harness::gateway(&cluster, &section).await;
        with_readers(&running, 1).await;
        let client = running.connect("postgres", "app").await;
        client.batch_execute("CREATE TABLE kept (n int)").await.unwrap();
        let standby = cluster.sql("n2", "postgres").await.unwrap();
        standby.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
        client.batch_execute("INSERT INTO kept VALUES (1)").await.unwrap();
        let problem = switch(&running, "SWITCHOVER n2").await.unwrap_err();
        assert!(problem.contains("has not received everything"), "{problem}");
        assert!(problem.contains("if n1 is down, start it again"), "{problem}");
        let waiting = tokio::spawn(async move { client.batch_execute("INSERT INTO kept VALUES (2)").await });
        cluster.start("n1").await.unwrap();
        waiting.await.unwrap().unwrap();
        let truth = cluster.sql("n1", "app").await.unwrap();
        assert_eq!(truth.query("SELECT n FROM kept", &[]).await.unwrap().len(), 2);
    }
}
