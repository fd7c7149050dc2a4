//! Clients that write and read through the gateway until they are told to stop, and what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use herdsman_sandbox::Sandbox;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::harness::{DEADLINE, Running, connect};

/// Figures for whoever asks for them with `--nocapture`.
#[allow(clippy::print_stdout, reason = "a test's figures have no other way out")]
pub(crate) fn tell(line: &str) {
    println!("{line}");
}

/// What became of all writes and reads.
#[derive(Debug, Default)]
pub(crate) struct Story {
    /// Acknowledged writes: who says that it wrote, and when the answer came.
    pub(crate) acks: BTreeMap<i64, (String, Instant)>,
    /// Writes of which nobody knows whether they had an effect.
    pub(crate) unknown: BTreeSet<i64>,
    /// Errors by SQLSTATE, of those that say that nothing was done, with one example each.
    pub(crate) errors: BTreeMap<String, (usize, String)>,
    pub(crate) reads: u64,
    /// What a session had written and did not find.
    pub(crate) stale: Vec<i64>,
    pub(crate) read_errors: Vec<String>,
    /// The longest time between two acknowledged writes of all clients.
    pub(crate) gap: Duration,
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS load (id bigint PRIMARY KEY, node text)";

/// Clients at work.
pub(crate) struct Load {
    tasks: JoinSet<Story>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Load {
    /// Begins so many clients, every other one with explicit transactions. Each reads what it wrote.
    pub(crate) async fn begin(running: &Running, clients: usize) -> Self {
        running.connect("postgres", "app").await.batch_execute(TABLE).await.unwrap();
        Self::of(running, clients, |number| number % 2 == 0)
    }

    /// Begins so many clients, none with explicit transactions. `cluster` is asked for the table directly.
    pub(crate) async fn prepared(running: &Running, cluster: &Sandbox, clients: usize) -> Self {
        cluster.sql("n1", "app").await.unwrap().batch_execute(TABLE).await.unwrap();
        cluster.wait_replayed().await.unwrap();
        Self::of(running, clients, |_| true)
    }

    fn of(running: &Running, clients: usize, plainly: impl Fn(usize) -> bool) -> Self {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let ids = Arc::new(AtomicI64::new(1));
        let mut tasks = JoinSet::new();
        for number in 0..clients {
            let conninfo = running.conninfo("postgres", "app");
            let plainly = plainly(number);
            let (stop, acknowledged, ids) = (stop.clone(), acknowledged.clone(), ids.clone());
            tasks.spawn(async move {
                let mut story = Story::default();
                let mut client = None;
                while !stop.load(Ordering::Relaxed) {
                    let at = match client.take().filter(|client: &Client| !client.is_closed()) {
                        Some(client) => client,
                        None => match connect(&conninfo).await {
                            Ok(client) => client,
                            Err(error) => {
                                story.fail(&error);
                                sleep(Duration::from_millis(20)).await;
                                continue;
                            }
                        },
                    };
                    let id = ids.fetch_add(1, Ordering::Relaxed);
                    if story.write(&at, id, plainly).await {
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                        story.read(&at, id).await;
                    }
                    client = Some(at);
                    sleep(Duration::from_millis(2)).await;
                }
                story
            });
        }
        Self { tasks, stop, acknowledged }
    }

    /// Waits until as many more writes are acknowledged.
    pub(crate) async fn progress(&self, running: &Running, writes: u64) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + writes;
        let begun = Instant::now();
        while self.acknowledged.load(Ordering::Relaxed) < goal {
            if begun.elapsed() > DEADLINE {
                for show in ["SHOW CLIENTS", "SHOW POOLS", "SHOW SERVERS", "SHOW TOPOLOGY"] {
                    let rows = running.console().await.simple_query(show).await;
                    tell(&format!("{show}: {rows:#?}"));
                }
                panic!("writes do not go on");
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn end(self) -> Story {
        self.stop.store(true, Ordering::Relaxed);
        let mut whole = Story::default();
        for story in self.tasks.join_all().await {
            whole.acks.extend(story.acks);
            whole.unknown.extend(story.unknown);
            for (code, (count, example)) in story.errors {
                whole.errors.entry(code).or_insert((0, example)).0 += count;
            }
            whole.reads += story.reads;
            whole.stale.extend(story.stale);
            whole.read_errors.extend(story.read_errors);
        }
        let mut times: Vec<Instant> = whole.acks.values().map(|(_, at)| *at).collect();
        times.sort_unstable();
        whole.gap = times.windows(2).map(|two| two[1] - two[0]).max().unwrap_or_default();
        whole
    }
}

impl Story {
    async fn write(&mut self, client: &Client, id: i64, plainly: bool) -> bool {
        let sql = "INSERT INTO load VALUES ($1, current_setting('cluster_name')) RETURNING node";
        let outcome = if plainly {
            client.query_one(sql, &[&id]).await
        } else {
            in_transaction(client, sql, id).await
        };
        match outcome {
            Ok(row) => {
                self.acks.insert(id, (row.get(0), Instant::now()));
                true
            }
            Err(error) => {
                let code = self.fail(&error);
                // Only these say that nothing was done.
                if !["57P03", "08006", "53300", "40001"].contains(&code.as_str()) {
                    self.unknown.insert(id);
                }
                // One that is closed has nothing to roll back.
                let _closed = client.batch_execute("ROLLBACK").await.is_err();
                false
            }
        }
    }

    async fn read(&mut self, client: &Client, id: i64) {
        match client.query("SELECT node FROM load WHERE id = $1", &[&id]).await {
            Ok(rows) => {
                self.reads += 1;
                self.stale.extend(rows.is_empty().then_some(id));
            }
            Err(error) => self.read_errors.push(words(&error)),
        }
    }

    fn fail(&mut self, error: &tokio_postgres::Error) -> String {
        let code = error.code().map_or_else(|| "closed".to_owned(), |code| code.code().to_owned());
        self.errors.entry(code.clone()).or_insert_with(|| (0, words(error))).0 += 1;
        code
    }

    /// Checks the story against what is on the surviving primary: nothing twice, and nothing that was never sent. Returns
    /// how many acknowledged writes are not there, which only a primary that was lost may have taken along.
    pub(crate) async fn check(&self, survivor: &Client) -> Vec<i64> {
        let rows = survivor.query("SELECT id, count(*) FROM load GROUP BY id", &[]).await.unwrap();
        let there: BTreeMap<i64, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert!(there.values().all(|count| *count == 1), "a write happened twice");
        self.acks.keys().copied().filter(|id| !there.contains_key(id)).collect()
    }
}

async fn in_transaction(
    client: &Client,
    sql: &str,
    id: i64,
) -> Result<tokio_postgres::Row, tokio_postgres::Error> {
    client.batch_execute("BEGIN").await?;
    let row = client.query_one(sql, &[&id]).await?;
    client.batch_execute("COMMIT").await?;
    Ok(row)
}

pub(crate) fn words(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), |db| format!("{} {}", db.code().code(), db.message()))
}
