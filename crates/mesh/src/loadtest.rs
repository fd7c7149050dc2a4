//! Load on every member at once, as the three tests of the python example make it: insertions, updates of one row from
//! everywhere, and reads. What it is for comes afterwards: whether the members hold the same rows ([`crate::verify`]).

mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use herdsman_node::NodeName;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use self::worker::{Work, Worker};
use crate::error::MeshError;
use crate::setup::Setup;
use crate::table::TableName;
use crate::verify::session::active;

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// Rows are inserted, through each member in turn.
    Insert,
    /// One row is updated from several sides at once.
    Update,
    /// Rows are read.
    Select,
}

/// How much of it. Without `rows`, `seconds` and `writers` it is the example's: 800 rows; 75 updates of one row from three
/// sides with its pauses between them; 280 reads from three sides.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which of the three.
    pub test: Test,
    /// The table.
    pub table: TableName,
    /// Statements in all.
    pub rows: Option<u64>,
    /// How long at most.
    pub seconds: Option<Duration>,
    /// How many write, or read, at the same time.
    pub writers: Option<u32>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Progress {
    /// Statements that succeeded.
    pub done: u64,
    /// Statements in all, where that is known.
    pub of: Option<u64>,
    /// Statements that failed and were tried again elsewhere.
    pub failed: u64,
    /// How long it has run.
    pub elapsed: Duration,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Outcome {
    /// Which of the three.
    pub test: Test,
    /// The members it went to.
    pub members: Vec<String>,
    /// Statements that succeeded.
    pub done: u64,
    /// Rows that were read.
    pub read: u64,
    /// Statements that failed and were tried again elsewhere.
    pub failed: u64,
    /// Why the first of them failed.
    pub problem: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// Milliseconds within which half of the statements, and 99 of 100, were done.
    pub latency_ms: (f64, f64),
}

/// The table of the example.
pub const TABLE: &str = "table1";
/// The row that is updated from everywhere, and those inserted beside it.
const IDS: [i64; 4] = [1_235_433_221, 1_235_433_241, 1_235_433_261, 1_235_433_281];
/// How often progress is told.
const TICK: Duration = Duration::from_millis(200);

/// What all workers share.
#[derive(Debug, Default)]
struct Shared {
    done: AtomicU64,
    failed: AtomicU64,
    read: AtomicU64,
    stop: AtomicBool,
    /// Statements still to be begun, where they are counted.
    left: Option<AtomicU64>,
}

impl Shared {
    /// Takes one statement off those that are left.
    fn takes_one(&self) -> bool {
        if self.stop.load(Ordering::Relaxed) {
            return false;
        }
        let Some(left) = &self.left else { return true };
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// Runs it, and calls `tell` meanwhile.
///
/// # Errors
/// A member cannot be reached at the start, the table is not there, or its login may not do this.
pub async fn run(
    setup: &Arc<Setup>,
    options: &Options,
    mut tell: impl FnMut(&Progress),
) -> Result<Outcome, MeshError> {
    let members = members(setup, options).await?;
    let plan = plan(options);
    let of = options.rows.or_else(|| plan.iter().map(|work| work.times).sum());
    let of = if options.seconds.is_some() { options.rows } else { of };
    let shared = Arc::new(Shared { left: options.rows.map(AtomicU64::new), ..Shared::default() });
    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for (number, work) in plan.into_iter().enumerate() {
        let worker = Worker::open(setup, &members, number, work, &options.table, &shared).await?;
        workers.spawn(worker.run());
    }
    let progress = |elapsed| Progress {
        done: shared.done.load(Ordering::Relaxed),
        of,
        failed: shared.failed.load(Ordering::Relaxed),
        elapsed,
    };
    let mut ticks = interval(TICK);
    let (mut latencies, mut problem) = (Vec::new(), None);
    loop {
        tokio::select! {
            ended = workers.join_next() => match ended {
                None => break,
                // A worker ends early only by a defect.
                Some(Err(error)) => problem = problem.or(Some(error.to_string())),
                Some(Ok(Err(error))) => return Err(error),
                Some(Ok(Ok(report))) => {
                    latencies.extend(report.latencies);
                    problem = problem.or(report.problem);
                }
            },
            _ = ticks.tick() => {
                tell(&progress(begun.elapsed()));
                if options.seconds.is_some_and(|most| begun.elapsed() >= most) {
                    shared.stop.store(true, Ordering::Relaxed);
                }
            }
        }
    }
    tell(&progress(begun.elapsed()));
    latencies.sort_unstable();
    let at = |percent: usize| {
        let place = latencies.len().saturating_sub(1) * percent / 100;
        latencies.get(place).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
    };
    Ok(Outcome {
        test: options.test,
        members: members.iter().map(ToString::to_string).collect(),
        done: shared.done.load(Ordering::Relaxed),
        read: shared.read.load(Ordering::Relaxed),
        failed: shared.failed.load(Ordering::Relaxed),
        problem,
        seconds: begun.elapsed().as_secs_f64(),
        latency_ms: (at(50), at(99)),
    })
}

/// The members that take writes, if all of them have the table.
async fn members(setup: &Arc<Setup>, options: &Options) -> Result<Vec<NodeName>, MeshError> {
    let seats = active(setup).await?;
    let table = &options.table;
    for seat in &seats {
        let known = seat.table(table).is_some_and(|table| table.stamped);
        if !known {
            return Err(MeshError::refused(
                format!("node `{}` has no table {table} in the mesh", seat.member.name),
                format!(
                    "create it on each member and run `herdsman mesh up`: CREATE TABLE {table} (id bigserial PRIMARY KEY, \
                     col1 varchar DEFAULT 'default-value', col2 varchar, created_ts timestamp DEFAULT current_timestamp, \
                     modified_ts timestamp DEFAULT current_timestamp)"
                ),
            ));
        }
    }
    if let (Test::Update, Some(first)) = (options.test, seats.first()) {
        let sql = format!(
            "INSERT INTO {} (id, col1) SELECT unnest($1::bigint[]), 'new' ON CONFLICT DO NOTHING",
            table.quoted()
        );
        first.session.execute("insert the rows to update", &sql, &[&IDS.as_slice()]).await?;
    }
    Ok(seats.into_iter().map(|seat| seat.member.name).collect())
}

/// Who does what.
fn plan(options: &Options) -> Vec<Work> {
    let ours = options.rows.is_some() || options.seconds.is_some() || options.writers.is_some();
    let statements: &[worker::Statement] = match options.test {
        Test::Insert => &[worker::Statement::Insert],
        Test::Update => &[worker::Statement::Update],
        Test::Select => {
            &[worker::Statement::Low, worker::Statement::High, worker::Statement::Whole]
        }
    };
    if ours {
        let writers = options.writers.unwrap_or(if options.test == Test::Insert { 2 } else { 3 });
        let times = (options.rows.is_none() && options.seconds.is_none()).then_some(200);
        return (0..writers)
            .zip(statements.iter().cycle())
            .map(|(_, statement)| Work { statement: *statement, times, pause: Duration::ZERO })
            .collect();
    }
    let example: &[(u64, u64)] = match options.test {
        // Of each group, 200 rounds of two.
        Test::Insert => &[(400, 0), (400, 0)],
        Test::Update => &[(20, 100), (40, 200), (15, 800)],
        Test::Select => &[(50, 100), (80, 200), (150, 100)],
    };
    example
        .iter()
        .zip(statements.iter().cycle())
        .map(|((times, pause), statement)| Work {
            statement: *statement,
            times: Some(*times),
            pause: Duration::from_millis(*pause),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(test: Test) -> Options {
        let table = TableName::new("public", TABLE);
        Options { test, table, rows: None, seconds: None, writers: None }
    }

    #[test]
    fn without_options_it_is_the_examples_load() {
        let times = |test| -> Vec<_> {
            plan(&options(test)).iter().map(|work| work.times.unwrap()).collect()
        };
        assert_eq!(times(Test::Insert).iter().sum::<u64>(), 800);
        assert_eq!(times(Test::Update), [20, 40, 15]);
        assert_eq!(times(Test::Select), [50, 80, 150]);
    }

    #[test]
    fn more_writers_share_the_rows_and_do_not_pause() {
        let options = Options { rows: Some(10), writers: Some(5), ..options(Test::Select) };
        let plan = plan(&options);
        assert_eq!(plan.len(), 5);
        assert!(plan.iter().all(|work| work.pause.is_zero() && work.times.is_none()));
        let shared = Shared { left: Some(AtomicU64::new(10)), ..Shared::default() };
        assert_eq!((0..20).filter(|_| shared.takes_one()).count(), 10);
    }
}
