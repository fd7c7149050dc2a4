//! What the tests of the engine add to [`Mesh`]: the engine's own view, tasks that write, and comparing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use herdsman_mesh::engine::Engine;
use herdsman_mesh::status::Status;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::proof::{DEADLINE, Mesh};

impl Mesh {
    /// Fails where one of these tables (name, and what identifies a row) is not the same everywhere, stamps included.
    pub(crate) async fn assert_equal(&self, tables: &[(&str, &str)]) {
        let mut found = Vec::new();
        for (table, key) in tables {
            found.extend(self.differences(table, key).await);
        }
        let some: Vec<_> = found.iter().take(20).collect();
        assert!(found.is_empty(), "{} keys differ, such as {some:#?}", found.len());
    }

    /// Waits until a question's only answer on a node is this.
    pub(crate) async fn until(&self, node: &str, question: &str, answer: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let now = self.ask(node, question).await;
            if now.as_deref() == Some(answer) {
                return;
            }
            assert!(Instant::now() < deadline, "{node}: {question}: {now:?} instead of {answer:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Waits until an engine's status is as wished.
pub(crate) async fn until_status(
    engine: &Engine,
    what: &str,
    mut wish: impl FnMut(&Status) -> bool,
) {
    let mut status = engine.status();
    let waiting = status.wait_for(|status| wish(status));
    let ended = timeout(DEADLINE, waiting).await.map(|outcome| drop(outcome.unwrap()));
    if ended.is_err() {
        let now = serde_json::to_string_pretty(&**engine.status().borrow()).unwrap();
        panic!("not within {DEADLINE:?}: {what}: {now}");
    }
}

/// Whether so many targets are in a state, with a link from every member each.
pub(crate) fn all_in(status: &Status, count: usize, state: &str) -> bool {
    let all = status.targets.values().all(|target| target.state == state);
    status.targets.len() == count && all
}

/// Whether so many members have changes flowing between all of them.
pub(crate) fn all_flow(status: &Status, count: usize) -> bool {
    all_in(status, count, "working")
        && status.targets.values().all(|target| {
            let flows = target.links.values().all(|link| link.state == "streaming");
            target.links.len() == count && flows
        })
}

/// Something that goes on until it is told to stop.
pub(crate) struct Busy {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Vec<String>>>,
}

impl Busy {
    /// On every node a writer that appends rows to `log` with ids of its own, and changes, deletes and makes again rows of
    /// `acc` that it shares with the others. A node that is not there is tried again.
    pub(crate) fn write(mesh: &Arc<Mesh>, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = mesh
            .nodes()
            .into_iter()
            .map(|node| tokio::spawn(write(Arc::clone(mesh), node, pause, Arc::clone(&stop))))
            .collect();
        Self { stop, tasks }
    }

    /// The ids of all rows of `log` that were acknowledged.
    pub(crate) async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await.unwrap());
        }
        all
    }
}

/// What [`Busy`] writes to.
pub(crate) const TABLES: &str = "
    CREATE TABLE log (id text PRIMARY KEY, node text NOT NULL, n int NOT NULL);
    CREATE TABLE acc (id int PRIMARY KEY, val text NOT NULL, n bigint NOT NULL DEFAULT 0)";
/// Those, for [`Mesh::assert_equal`].
pub(crate) const BOTH: [(&str, &str); 2] = [("log", "id"), ("acc", "id")];

async fn write(
    mesh: Arc<Mesh>,
    node: String,
    pause: Duration,
    stop: Arc<AtomicBool>,
) -> Vec<String> {
    let mut random = fastrand::Rng::new();
    let (mut done, mut number) = (Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let Ok(client) = mesh.sandbox.sql(&node, "app").await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let id = format!("{node}-{number}");
            let key = random.u32(0..40);
            let other = match random.u32(0..8) {
                0 => format!("DELETE FROM acc WHERE id = {key}"),
                1 => format!(
                    "DELETE FROM acc WHERE id = {key}; INSERT INTO acc VALUES ({key}, '{id}') ON CONFLICT DO NOTHING"
                ),
                2 => format!(
                    "UPDATE acc SET id = {key} + 100 WHERE id = {key} AND NOT EXISTS (SELECT FROM acc WHERE id = {key} + 100)"
                ),
                _ => format!(
                    "INSERT INTO acc AS a VALUES ({key}, '{id}') ON CONFLICT (id) DO UPDATE SET val = excluded.val, n = a.n + 1"
                ),
            };
            let both = format!(
                "BEGIN; INSERT INTO log VALUES ('{id}', '{node}', {number}); {other}; COMMIT"
            );
            match timeout(DEADLINE, client.batch_execute(&both)).await {
                Ok(Ok(())) => done.push(id),
                // Two may make the same key at the same moment.
                Ok(Err(error))
                    if error
                        .code()
                        .is_some_and(|code| ["23505", "40P01", "40001"].contains(&code.code())) =>
                {
                    client.batch_execute("ROLLBACK").await.unwrap();
                }
                _ => break,
            }
            sleep(pause).await;
        }
    }
    done
}
