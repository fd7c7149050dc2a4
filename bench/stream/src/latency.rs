//! How long after a commit is asked for its row is with the code that handles it, under a light load of single rows.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use herdsman_stream::{Batch, DeliveryError, Handler, HandlerError, Handlers, Sink};
use herdsman_wal::Change;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::error::BenchError;
use crate::servers::{DURABLE, Source};
use crate::service;

/// Between two transactions: 400 a second.
const PAUSE: Duration = Duration::from_micros(2500);
/// Transactions before those that count.
const WARM_UP: usize = 200;
/// Transactions that count, in each round.
pub(crate) const COUNTED: usize = 2000;
/// How long the last row may take.
const LIMIT: Duration = Duration::from_secs(30);

/// What a change goes through last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A handler, called for each row.
    Handler,
    /// A sink, called for each batch.
    Sink,
}

/// One round, in microseconds from just before the commit is sent.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    /// Half of the rows have come by then.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Half of the commits are answered by then.
    pub(crate) answered_p50: f64,
    pub(crate) answered_p99: f64,
    /// Transactions a second, as they came out.
    pub(crate) per_second: f64,
}

/// When each row came, by its id.
struct Arrivals(Box<[OnceLock<Instant>]>);

/// Writes single rows on a server of its own, and has them come through a service.
pub(crate) async fn measure(way: Way, pg_version: u32) -> Result<Latency, BenchError> {
    let count = WARM_UP + COUNTED;
    let source = Source::empty(0, pg_version, &DURABLE).await?;
    let arrivals = Arc::new(Arrivals((0..count).map(|_| OnceLock::new()).collect()));
    let sink: Arc<dyn Sink> = match way {
        Way::Handler => Arc::new(Handlers::new().all(Note(Arc::clone(&arrivals)))),
        Way::Sink => Arc::new(Note(Arc::clone(&arrivals))),
    };
    let state = tempfile::tempdir()?;
    let stop = CancellationToken::new();
    let service = service::service(&source.conninfo()?, "origin", state.path(), sink)?;
    let running = tokio::spawn(service.run(stop.clone()));
    source.wait_for_reader("origin").await?;
    let begin = Instant::now();
    let written = write(&source, count).await?;
    let took = begin.elapsed();
    let deadline = Instant::now() + LIMIT;
    while arrivals.0.iter().any(|arrival| arrival.get().is_none()) {
        if Instant::now() > deadline {
            return Err(BenchError::Wrong("not every row came".to_owned()));
        }
        sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    running.await.map_err(|error| BenchError::Wrong(error.to_string()))??;
    let pairs = written.iter().zip(&arrivals.0).skip(WARM_UP);
    let came = pairs.filter_map(|(w, arrival)| Some(micros(w.sent, *arrival.get()?)));
    let answered = written.iter().skip(WARM_UP).map(|w| micros(w.sent, w.answered));
    let (came, answered) = (sorted(came), sorted(answered));
    Ok(Latency {
        p50: percentile(&came, 50),
        p99: percentile(&came, 99),
        answered_p50: percentile(&answered, 50),
        answered_p99: percentile(&answered, 99),
        per_second: f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / took.as_secs_f64(),
    })
}

struct Written {
    sent: Instant,
    answered: Instant,
}

async fn write(source: &Source, count: usize) -> Result<Vec<Written>, BenchError> {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut written = Vec::with_capacity(count);
    for id in 0..count {
        ticks.tick().await;
        let insert = format!("BEGIN; INSERT INTO t VALUES ({id}, 1, 'row number {id}', now())");
        source.client.batch_execute(&insert).await?;
        let sent = Instant::now();
        source.client.batch_execute("COMMIT").await?;
        written.push(Written { sent, answered: Instant::now() });
    }
    Ok(written)
}

/// Notes when a row came, first thing.
struct Note(Arc<Arrivals>);

impl Note {
    fn note(&self, change: &Change, now: Instant) {
        let id = change.new_row().and_then(|row| row.get::<i64>("id").ok());
        let arrival = id.and_then(|id| self.0.0.get(usize::try_from(id).ok()?));
        if let Some(arrival) = arrival {
            arrival.get_or_init(|| now);
        }
    }
}

#[async_trait]
impl Handler for Note {
    async fn handle(&self, change: &Change) -> Result<(), HandlerError> {
        self.note(change, Instant::now());
        Ok(())
    }
}

#[async_trait]
impl Sink for Note {
    async fn deliver(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let now = Instant::now();
        batch.changes.iter().for_each(|change| self.note(change, now));
        Ok(())
    }
}

fn micros(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1e6
}

fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
