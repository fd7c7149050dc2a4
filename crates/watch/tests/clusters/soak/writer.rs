//! A client that believes us: each write goes to whoever the verdict names at that moment, and is never sent twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use herdsman_sandbox::Sandbox;
use herdsman_watch::Watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, Config, NoTls, Statement};

/// Bound on one connection attempt and on one write; then the outcome is unknown and the connection is dropped.
const LIMIT: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(5);

pub(super) const CREATE_TABLE: &str = r#"CREATE TABLE "public"."soak" ("id" bigint PRIMARY KEY, "node" text NOT NULL, "version" bigint NOT NULL)"#;
const INSERT: &str = r#"INSERT INTO "public"."soak" ("id", "node", "version") VALUES ($1, $2, $3)"#;

/// A write that the server confirmed.
#[derive(Clone, Debug)]
pub(super) struct Ack {
    pub(super) id: i64,
    /// Where it was sent.
    pub(super) node: String,
    /// Just before the topology was read, which was just before the write was sent.
    pub(super) asked: Instant,
    pub(super) acked: Instant,
    /// Version and term of the topology that named the node.
    pub(super) version: u64,
    pub(super) term: u64,
}

/// What became of the writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) acked: u64,
    /// Refused, broken off or without an answer: not acknowledged, so nothing is owed.
    pub(super) failed: u64,
}

/// Writes until dropped.
pub(super) struct Writer {
    ledger: Arc<Mutex<Ledger>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Ledger {
    acks: Vec<Ack>,
    counts: Counts,
}

/// The one connection held, to the node last named.
struct Held {
    node: String,
    client: Client,
    insert: Statement,
}

impl Writer {
    pub(super) fn start(sandbox: &Sandbox, watch: Watch) -> Self {
        let config = |name: &String| {
            let (host, port) = sandbox.endpoint(name).unwrap();
            let mut config = Config::new();
            config
                .host(host)
                .port(port)
                .user("app")
                .password(sandbox.credentials().password("app").unwrap())
                .dbname("postgres")
                .application_name("soak-writer");
            (name.clone(), config)
        };
        let configs = sandbox.node_names().iter().map(config).collect();
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let task = tokio::spawn(write(watch, configs, Arc::clone(&ledger)));
        Self { ledger, task }
    }

    /// Everything acknowledged since the last time this was asked.
    pub(super) fn take(&self) -> Vec<Ack> {
        std::mem::take(&mut self.ledger.lock().unwrap().acks)
    }

    pub(super) fn counts(&self) -> Counts {
        self.ledger.lock().unwrap().counts.clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn write(watch: Watch, configs: BTreeMap<String, Config>, ledger: Arc<Mutex<Ledger>>) {
    let mut held: Option<Held> = None;
    let mut id = 0_i64;
    loop {
        let asked = Instant::now();
        let topology = watch.topology();
        let Some(node) = topology.primary().map(|node| node.as_str()) else {
            sleep(PAUSE).await;
            continue;
        };
        let Some(on) = held.as_ref().filter(|held| held.node == node) else {
            held = connect(node, &configs[node]).await;
            if held.is_none() {
                sleep(PAUSE).await;
            }
            // The verdict may have changed meanwhile.
            continue;
        };
        id += 1;
        let version = i64::try_from(topology.version).unwrap();
        let outcome = timeout(LIMIT, on.client.execute(&on.insert, &[&id, &node, &version])).await;
        let acked = Instant::now();
        {
            let mut ledger = ledger.lock().unwrap();
            if matches!(outcome, Ok(Ok(1))) {
                ledger.counts.acked += 1;
                let (version, term) = (topology.version, topology.term);
                ledger.acks.push(Ack { id, node: node.to_owned(), asked, acked, version, term });
            } else {
                ledger.counts.failed += 1;
                held = None;
            }
        }
        sleep(PAUSE).await;
    }
}

async fn connect(node: &str, config: &Config) -> Option<Held> {
    let connecting = async {
        let (client, connection) = config.connect(NoTls).await.ok()?;
        // Ends by itself once the client is dropped.
        tokio::spawn(connection);
        let insert = client.prepare(INSERT).await.ok()?;
        Some(Held { node: node.to_owned(), client, insert })
    };
    timeout(LIMIT, connecting).await.ok().flatten()
}
