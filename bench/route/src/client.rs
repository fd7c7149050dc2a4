//! What is compared, and what it is made to do.

use std::sync::Arc;
use std::time::Duration;

use herdsman::ReplicaSet;
use serde::Serialize;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Executor, PgConnection, PgPool, Postgres};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clock;
use crate::error::BenchError;
use crate::figures::percentile;
use crate::servers::ACCOUNTS;

/// Connections of every pool.
pub(crate) const CONNECTIONS: u32 = 8;

/// One way to send statements to a server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) name: &'static str,
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    /// Connections without a pool, one for each task: what no pool can be cheaper than.
    Bare(Vec<Arc<Mutex<PgConnection>>>),
    Pool(PgPool),
    Set(ReplicaSet),
}

/// One task's hold on a client.
enum Hand {
    Bare(OwnedMutexGuard<PgConnection>),
    Pool(PgPool),
    Set(ReplicaSet),
}

/// What a statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Workload {
    /// One row by its key, prepared.
    Point,
    /// A thousand rows by their keys.
    Rows,
    /// One row more.
    Insert,
}

/// What a client did in one stretch of time.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Block {
    pub(crate) queries: usize,
    pub(crate) per_second: f64,
    /// Processor time of the client per query, in microseconds.
    pub(crate) cpu: f64,
    /// Latencies in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Before each measured stretch: caches and branch predictors are another client's.
const WARM_UP: Duration = Duration::from_millis(25);

impl Workload {
    const fn name(self) -> &'static str {
        match self {
            Self::Point => "a point select",
            Self::Rows => "a select of 1,000 rows",
            Self::Insert => "an insert",
        }
    }

    async fn run<'c>(
        self,
        executor: impl Executor<'c, Database = Postgres>,
        number: i32,
    ) -> Result<(), sqlx::Error> {
        match self {
            Self::Point => {
                sqlx::query("SELECT abalance FROM pgbench_accounts WHERE aid = $1")
                    .bind(number % ACCOUNTS + 1)
                    .fetch_one(executor)
                    .await?;
            }
            Self::Rows => {
                sqlx::query(
                    "SELECT aid, abalance FROM pgbench_accounts WHERE aid BETWEEN $1 AND $1 + 999",
                )
                .bind(number % (ACCOUNTS - 1_000) + 1)
                .fetch_all(executor)
                .await?;
            }
            Self::Insert => {
                sqlx::query(
                    "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, $1, 5, CURRENT_TIMESTAMP)",
                )
                .bind(number)
                .execute(executor)
                .await?;
            }
        }
        Ok(())
    }
}

impl Client {
    /// Connections without a pool.
    pub(crate) async fn bare(
        name: &'static str,
        options: &PgConnectOptions,
    ) -> Result<Self, BenchError> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let connection = options.connect().await;
            let connection =
                connection.map_err(|source| BenchError::Connect { client: name, source })?;
            connections.push(Arc::new(Mutex::new(connection)));
        }
        Ok(Self { name, way: Way::Bare(connections) })
    }

    pub(crate) const fn pool(name: &'static str, pool: PgPool) -> Self {
        Self { name, way: Way::Pool(pool) }
    }

    pub(crate) const fn set(name: &'static str, set: ReplicaSet) -> Self {
        Self { name, way: Way::Set(set) }
    }

    /// Lets `tasks` tasks send one statement after the other for `span`, after a warm-up.
    pub(crate) async fn measure(
        &self,
        workload: Workload,
        tasks: usize,
        span: Duration,
    ) -> Result<Block, BenchError> {
        self.run(workload, tasks, WARM_UP).await?;
        let (begun, cpu) = (Instant::now(), clock::of_process());
        let mut times = self.run(workload, tasks, span).await?;
        let (took, cpu) = (begun.elapsed(), clock::of_process() - cpu);
        times.sort_unstable();
        let micros =
            |time: Option<Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e6);
        Ok(Block {
            queries: times.len(),
            per_second: times.len() as f64 / took.as_secs_f64(),
            cpu: micros(Some(cpu)) / times.len() as f64,
            p50: micros(percentile(&times, 500)),
            p99: micros(percentile(&times, 990)),
        })
    }

    /// Returns the latencies, in no order.
    async fn run(
        &self,
        workload: Workload,
        tasks: usize,
        span: Duration,
    ) -> Result<Vec<Duration>, BenchError> {
        let mut running = JoinSet::new();
        for task in 0..self.tasks(tasks) {
            let mut hand = self.hand(task).await;
            let name = self.name;
            running.spawn(async move {
                let mut times = Vec::with_capacity(20_000);
                let mut number = i32::try_from(task).unwrap_or(0) * 7_919;
                let mut now = Instant::now();
                let end = now + span;
                while now < end {
                    // Every page in turn, in an order that is the same for all.
                    number = (number + 1_237) % 1_000_000;
                    hand.send(workload, number).await.map_err(|source| BenchError::Query {
                        client: name,
                        workload: workload.name(),
                        source,
                    })?;
                    let then = Instant::now();
                    times.push(then - now);
                    now = then;
                }
                Ok::<_, BenchError>(times)
            });
        }
        let mut all = Vec::new();
        while let Some(times) = running.join_next().await {
            all.append(&mut times??);
        }
        Ok(all)
    }

    /// Bare connections cannot be shared: one task each, at most.
    fn tasks(&self, wanted: usize) -> usize {
        match &self.way {
            Way::Bare(connections) => wanted.min(connections.len()),
            Way::Pool(_) | Way::Set(_) => wanted,
        }
    }

    async fn hand(&self, task: usize) -> Hand {
        match &self.way {
            Way::Bare(connections) => {
                let connection = &connections[task % connections.len()];
                Hand::Bare(Arc::clone(connection).lock_owned().await)
            }
            Way::Pool(pool) => Hand::Pool(pool.clone()),
            Way::Set(set) => Hand::Set(set.clone()),
        }
    }
}

impl Hand {
    async fn send(&mut self, workload: Workload, number: i32) -> Result<(), sqlx::Error> {
        match self {
            Self::Bare(connection) => workload.run(&mut **connection, number).await,
            Self::Pool(pool) => workload.run(&*pool, number).await,
            Self::Set(set) => workload.run(&*set, number).await,
        }
    }
}
