//! How fast a node takes what the log says: entries one by one, and many in one local transaction.

use herdsman_ledger::entry::{Attempt, Entry, Genesis};
use herdsman_ledger::node::{Node, mariadb::mariadb, sqlite::sqlite};
use herdsman_ledger::replica::{Replica, Step};
use herdsman_ledger::table::{Catalogue, TableChange};
use herdsman_ledger::writes::{RowChange, claims};
use herdsman_ledger::{LogId, RequestId, Value};
use herdsman_sandbox::MariaDb;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use tokio::time::Instant;

use crate::error::BenchError;
use crate::ours::{account, node};
use crate::rivals::writers;

const LOG: LogId = LogId([3; 16]);
/// Rows that entries change, each another one.
const ROWS: u32 = 2048;
/// How many entries share a local transaction, as a ledger that catches up has it.
const TOGETHER: usize = 256;

/// Entries a second of one node, in one round.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Applied {
    pub(crate) engine: &'static str,
    /// Each in a local transaction of its own.
    pub(crate) alone: f64,
    /// Many in one.
    pub(crate) together: f64,
}

/// A row before and after.
type Change = (Option<Vec<Value>>, Option<Vec<Value>>);

/// A node, and the log that it follows.
struct Follower {
    engine: &'static str,
    node: Box<dyn Node>,
    replica: Replica,
    number: u64,
    balances: Vec<i64>,
}

/// Each engine, in turn.
pub(crate) async fn all(
    pg_version: u32,
    rounds: u32,
    quick: bool,
) -> Result<Vec<Applied>, BenchError> {
    let folder = tempfile::tempdir()?;
    let (servers, maria) = tokio::join!(writers(pg_version, 1), MariaDb::start());
    let (servers, maria) = (servers?, maria?);
    let options = MySqlConnectOptions::new()
        .host("127.0.0.1")
        .port(maria.port())
        .username(MariaDb::USER)
        .password(maria.password())
        .database(MariaDb::DATABASE)
        .ssl_mode(MySqlSslMode::Disabled);
    let nodes: [(&'static str, Box<dyn Node>); 3] = [
        ("PostgreSQL", node(&servers, "n1")?),
        ("MariaDB", mariadb("maria", options)),
        ("SQLite", sqlite("lite", &folder.path().join("node.db"))),
    ];
    let mut followers = Vec::new();
    for (engine, node) in nodes {
        followers.push(Follower::start(engine, node).await?);
    }
    let counts = if quick { (100, 1000) } else { (1000, 8000) };
    let mut all = Vec::new();
    for _ in 0..rounds {
        for follower in &mut followers {
            let alone = follower.measure(counts.0, 1).await?;
            let together = follower.measure(counts.1, TOGETHER).await?;
            all.push(Applied { engine: follower.engine, alone, together });
        }
    }
    Ok(all)
}

impl Follower {
    async fn start(engine: &'static str, node: Box<dyn Node>) -> Result<Self, BenchError> {
        let genesis = Genesis::new(LOG);
        let body = Entry::Genesis(genesis).encode(LOG).map_err(wrong)?;
        let replica = Replica::new(genesis, &body);
        node.install(&genesis, replica.hash()).await?;
        let mut follower = Self { engine, node, replica, number: 0, balances: Vec::new() };
        let attempt = follower.attempt();
        let base = follower.replica.applied();
        let change = TableChange::Create(account());
        let create = follower.step(&Entry::Define { attempt, base, change })?;
        let rows = (0..i64::from(ROWS)).map(|id| (None, Some(row(id, 0))));
        let fill = follower.write(rows.collect())?;
        follower.balances = vec![0; usize::try_from(ROWS).unwrap_or_default()];
        follower.node.apply(&[create, fill]).await?;
        Ok(follower)
    }

    /// Entries a second, so many in each local transaction.
    async fn measure(&mut self, entries: usize, together: usize) -> Result<f64, BenchError> {
        let mut steps = Vec::with_capacity(entries);
        for entry in 0..entries {
            let at = entry % self.balances.len().max(1);
            let balance = self.balances.get(at).copied().unwrap_or_default();
            let id = i64::try_from(at).unwrap_or_default();
            steps.push(self.write(vec![(Some(row(id, balance)), Some(row(id, balance + 1)))])?);
            if let Some(balance) = self.balances.get_mut(at) {
                *balance += 1;
            }
        }
        let begun = Instant::now();
        for part in steps.chunks(together) {
            self.node.apply(part).await?;
        }
        let count = u32::try_from(entries).unwrap_or(u32::MAX);
        Ok(f64::from(count) / begun.elapsed().as_secs_f64())
    }

    fn write(&mut self, changes: Vec<Change>) -> Result<Step, BenchError> {
        let of = |(before, after)| RowChange { table: "account".to_owned(), before, after };
        let rows: Vec<RowChange> = changes.into_iter().map(of).collect();
        let catalogue = Catalogue([("account".to_owned(), account())].into());
        let claims = claims(&rows, &[], &catalogue).map_err(wrong)?;
        let (attempt, base) = (self.attempt(), self.replica.applied());
        self.step(&Entry::Write { attempt, base, claims, rows })
    }

    fn step(&mut self, entry: &Entry) -> Result<Step, BenchError> {
        let body = entry.encode(LOG).map_err(wrong)?;
        self.replica.take(self.replica.applied().next(), &body).map_err(wrong)
    }

    fn attempt(&mut self) -> Attempt {
        self.number += 1;
        Attempt { request: RequestId(u128::from(self.number).to_be_bytes()), number: 1 }
    }
}

fn row(id: i64, balance: i64) -> Vec<Value> {
    vec![Value::Int(id), Value::Int(balance)]
}

fn wrong(error: impl std::fmt::Display) -> BenchError {
    BenchError::Wrong(error.to_string())
}
