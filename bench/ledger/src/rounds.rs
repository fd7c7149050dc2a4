//! Clients that commit one transaction after another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use herdsman_ledger::Value;
use herdsman_ledger::engine::request::random_request;
use herdsman_ledger::node::{Room, Sql};
use tokio::time::Instant;

use crate::cpu;
use crate::error::BenchError;
use crate::rivals::{At, Contestant, ROWS};

/// One measurement; times of commits in milliseconds, processor time in microseconds for each transaction.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Run {
    pub(crate) per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Of the server that used most. Where each server has a machine of its own, this is what bounds them.
    pub(crate) busiest: f64,
    /// Of this program: clients, and what a ledger does.
    pub(crate) program: f64,
}

/// From an append until it is read, in milliseconds.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Trip {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// For so long it is not counted: connections are made, statements prepared.
const WARM: Duration = Duration::from_millis(500);

/// So many clients, for so long.
pub(crate) async fn run(
    contestant: &Contestant,
    clients: u32,
    lasts: Duration,
) -> Result<Run, BenchError> {
    let over = Arc::new(AtomicBool::new(false));
    let counts = Arc::new(AtomicBool::new(false));
    let clock = async {
        tokio::time::sleep(WARM).await;
        counts.store(true, Ordering::Relaxed);
        let (begun, used) = (Instant::now(), Used::by(contestant));
        tokio::time::sleep(lasts).await;
        over.store(true, Ordering::Relaxed);
        (begun.elapsed(), Used::by(contestant).since(&used))
    };
    let all = (0..clients).map(|client| one(contestant, client, &counts, &over));
    let ((took, used), times) = tokio::join!(clock, try_join_all(all));
    let mut times: Vec<f64> = times?.into_iter().flatten().collect();
    let count = u32::try_from(times.len()).unwrap_or(u32::MAX);
    let (p50, p99) = percentiles(&mut times);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(count);
    Ok(Run {
        per_second: f64::from(count) / took.as_secs_f64(),
        p50,
        p99,
        busiest: each(used.servers.iter().copied().max().unwrap_or_default()),
        program: each(used.program),
    })
}

/// Processor time.
struct Used {
    servers: Vec<Duration>,
    program: Duration,
}

impl Used {
    /// So far.
    fn by(contestant: &Contestant) -> Self {
        let servers = contestant.postmasters.iter().map(|pid| cpu::of_server(*pid)).collect();
        Self { servers, program: cpu::own() }
    }

    fn since(self, before: &Self) -> Self {
        let servers = self.servers.iter().zip(&before.servers);
        Self {
            servers: servers.map(|(now, before)| now.saturating_sub(*before)).collect(),
            program: self.program.saturating_sub(before.program),
        }
    }
}

/// The times of one client's commits.
async fn one(
    contestant: &Contestant,
    client: u32,
    counts: &AtomicBool,
    over: &AtomicBool,
) -> Result<Vec<f64>, BenchError> {
    let mut times = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let row = client * ROWS + fastrand::u32(0..ROWS);
        let begun = Instant::now();
        commit(contestant, client, row).await?;
        if counts.load(Ordering::Relaxed) && !over.load(Ordering::Relaxed) {
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(times)
}

async fn commit(contestant: &Contestant, client: u32, row: u32) -> Result<(), BenchError> {
    let place = usize::try_from(client).unwrap_or_default();
    match &contestant.at {
        At::Server { clients, .. } => {
            let Some((server, update)) = clients.get(place) else { return Ok(()) };
            server.execute(update, &[&i64::from(row)]).await?;
        }
        At::Ledger(ours) => {
            // Every node takes writes.
            let Some(node) = ours.nodes.get(place % ours.nodes.len().max(1)) else { return Ok(()) };
            let text = "UPDATE account SET balance = balance + 1 WHERE id = $1";
            let update = [Sql { text, values: &[Value::Int(row.into())] }];
            let room = Room::unlimited();
            ours.ledger.execute_with(node, random_request(), &update, room).await?;
        }
    }
    Ok(())
}

/// The middle, and what one in a hundred exceeds.
pub(crate) fn percentiles(times: &mut [f64]) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or(f64::NAN);
    (at(50), at(99))
}
