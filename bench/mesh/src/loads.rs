//! What is written, and what carrying it costs.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cpu;
use crate::error::BenchError;
use crate::pair::{Carrier, Pair};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Load {
    /// New rows, a thousand in a transaction.
    Insert,
    /// All rows, a thousand in a transaction.
    Update,
    /// New rows, each in a transaction of its own.
    SingleInsert,
    /// Rows changed, each in a transaction of its own.
    SingleUpdate,
    /// All rows, a thousand in a transaction.
    Delete,
}

impl Load {
    pub(crate) const ALL: [Self; 5] =
        [Self::Insert, Self::Update, Self::SingleInsert, Self::SingleUpdate, Self::Delete];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert, 1,000 rows each",
            Self::Update => "update, 1,000 rows each",
            Self::SingleInsert => "insert, 1 row each",
            Self::SingleUpdate => "update, 1 row each",
            Self::Delete => "delete, 1,000 rows each",
        }
    }

    const fn is_single(self) -> bool {
        matches!(self, Self::SingleInsert | Self::SingleUpdate)
    }

    const fn rows(self, all: u32) -> u32 {
        if self.is_single() { all / 4 } else { all }
    }

    /// Keys from `first` on: as many again as there are rows.
    fn sql(self, table: &str, rows: u32, first: u32) -> String {
        let row = "n, n % 1000, 'row number ' || n, md5(n::text), now()";
        let one = match self {
            Self::Insert => {
                format!("INSERT INTO {table} SELECT {row} FROM generate_series(at, at + 999) n")
            }
            Self::SingleInsert => {
                format!("INSERT INTO {table} SELECT {row} FROM (SELECT at + {rows} AS n) AS one")
            }
            Self::Update => {
                format!("UPDATE {table} SET a = a + 1 WHERE id BETWEEN at AND at + 999")
            }
            Self::SingleUpdate => format!("UPDATE {table} SET a = a + 1 WHERE id = at"),
            Self::Delete => format!("DELETE FROM {table} WHERE id BETWEEN at AND at + 999"),
        };
        let step = if self.is_single() { 1 } else { 1000 };
        format!(
            "DO $$ DECLARE at int := {first}; BEGIN WHILE at < {} LOOP {one}; COMMIT; at := at + {step}; END LOOP; END $$",
            first + self.rows(rows)
        )
    }
}

/// One load, carried once. Microseconds of processor time a row.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Carried {
    pub(crate) rows_per_second: f64,
    /// The processes that apply, on the second server.
    pub(crate) worker_us: f64,
    /// The process that sends, on the first one.
    pub(crate) sender_us: f64,
    /// This program: the mesh is in it.
    pub(crate) own_us: f64,
    /// All of both servers but the writer, and this program; from the first write on.
    pub(crate) all_us: f64,
}

/// What comes soon after the last row is still counted.
const AFTER: Duration = Duration::from_millis(300);

/// Writes with changes held back, and measures from letting them go to the last one seen.
pub(crate) async fn carry(
    pair: &Pair,
    load: Load,
    rows: u32,
    first: u32,
    mark: i32,
) -> Result<Carried, BenchError> {
    pair.calm().await;
    let (worker, sender) = pair.at_work().await?;
    pair.hold(true).await?;
    let then = pair.spent();
    let own = cpu::own();
    pair.source.batch_execute(&load.sql(crate::pair::TABLE, rows, first)).await?;
    pair.mark(mark).await?;
    let begun = Instant::now();
    pair.hold(false).await?;
    let end = pair.seen(mark, Duration::from_millis(5)).await?;
    sleep(AFTER).await;
    let now = pair.spent();
    let of = |pid: i32| {
        let at = |all: &std::collections::BTreeMap<i32, Duration>| all.get(&pid).copied();
        at(&now).unwrap_or_default().saturating_sub(at(&then).unwrap_or_default())
    };
    if pair.at_work().await? != (worker, sender) {
        return Err(BenchError::Wrong("a process ended while it was measured".to_owned()));
    }
    let appliers: Duration = pair.appliers(worker).await?.into_iter().map(of).sum();
    let own = match pair.carrier {
        // What the program does then is the bench itself.
        Carrier::Native => Duration::ZERO,
        Carrier::Herdsman | Carrier::OneLane => cpu::own().saturating_sub(own),
    };
    let all: Duration = now.keys().map(|pid| of(*pid)).sum();
    let count = f64::from(load.rows(rows));
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count;
    Ok(Carried {
        rows_per_second: count / (end - begun).as_secs_f64(),
        worker_us: each(appliers),
        sender_us: each(of(sender)),
        own_us: each(own),
        all_us: each(all + own),
    })
}

/// From a commit to the moment its row is seen, in milliseconds: in the middle, and what one in a hundred exceeds.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Commits one row after another, each on disk, and once the one before was seen.
pub(crate) async fn latency(pair: &Pair, commits: i32, first: i32) -> Result<Latency, BenchError> {
    pair.at_work().await?;
    pair.source.batch_execute("SET synchronous_commit = on").await?;
    let mut times = Vec::new();
    for id in first..first + commits {
        pair.mark(id).await?;
        let committed = Instant::now();
        times.push((pair.seen(id, Duration::ZERO).await? - committed).as_secs_f64() * 1e3);
        // As single commits come: not at once after the one before.
        sleep(Duration::from_millis(2)).await;
    }
    pair.source.batch_execute("RESET synchronous_commit").await?;
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    Ok(Latency { p50: at(50), p99: at(99) })
}

/// What one statement of a writer costs.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Written {
    /// Microseconds of its server process.
    pub(crate) us: f64,
    /// How many one session gets done a second, nothing being carried meanwhile.
    pub(crate) per_second: f64,
}

/// One statement of one row after another, nothing being carried to the second server.
pub(crate) async fn writer(
    pair: &Pair,
    insert: bool,
    statements: i32,
    first: i32,
) -> Result<Written, BenchError> {
    let table = crate::pair::TABLE;
    pair.hold(true).await?;
    let pid: i32 = pair.source.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    let sql = if insert {
        format!("INSERT INTO {table} VALUES ($1, 1, 'row number', 'and more', now())")
    } else {
        format!("UPDATE {table} SET a = a + 1 WHERE id = $1")
    };
    let statement = pair.source.prepare(&sql).await?;
    let (before, begun) = (cpu::of(pid), Instant::now());
    for id in first..first + statements {
        pair.source.execute(&statement, &[&id]).await?;
    }
    let (spent, took) = (cpu::of(pid).saturating_sub(before), begun.elapsed());
    pair.hold(false).await?;
    let count = f64::from(statements);
    Ok(Written { us: spent.as_secs_f64() * 1e6 / count, per_second: count / took.as_secs_f64() })
}
