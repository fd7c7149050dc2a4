//! What `/v1/primary` bears, and what answering it costs the servers.
//!
//! The real program runs as a process of its own. In each round it runs twice for the same time, idle and under load:
//! servers add up transactions exactly only when sessions end, so only whole lives are compared.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use herdsman_sandbox::Sandbox;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::error::BenchError;
use crate::figures::{percentile, spread, summary_of, table};
use crate::peer::{Candidate, Ratios};
use crate::process::Served;
use crate::servers::{Counters, Transactions};
use crate::{http, note};

/// What is to be measured.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    /// Of each level of load.
    pub(crate) span: Duration,
    pub(crate) pg_version: u32,
    pub(crate) herdsman: PathBuf,
    pub(crate) peer: Option<PathBuf>,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    program: String,
    sides: Vec<Side>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratios: Option<Ratios>,
}

/// All turns of one program.
#[derive(Debug, Serialize)]
pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) turns: Vec<Turn>,
}

/// One round of one program.
#[derive(Debug, Serialize)]
pub(crate) struct Turn {
    pub(crate) levels: Vec<Level>,
    /// Per second and node, while nobody asks.
    idle: BTreeMap<String, f64>,
    /// Per second and node, over a life of the same length under load.
    loaded: BTreeMap<String, f64>,
    /// What a request adds, on all nodes together.
    pub(crate) transactions_per_request: f64,
}

/// One number of connections.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Level {
    connections: usize,
    requests: usize,
    not_ok: usize,
    broken: usize,
    pub(crate) per_second: f64,
    pub(crate) p50_micros: f64,
    pub(crate) p99_micros: f64,
    /// Processor seconds of the program per 1,000 requests.
    pub(crate) cpu_per_1000: f64,
}

/// From the start of a program to the end of its last session.
struct Life {
    seconds: f64,
    transactions: Transactions,
    levels: Vec<Level>,
}

/// Connections that ask at the same time.
pub(crate) const LEVELS: [usize; 3] = [1, 8, 64];
const PATH: &str = "/v1/primary";

const LOAD_HEADER: [&str; 7] =
    ["PROGRAM", "CONNECTIONS", "REQ/S", "P50 us", "P99 us", "CPU s/1000 REQ", "NOT 200, BROKEN"];
const COST_HEADER: [&str; 5] = ["PROGRAM", "NODE", "IDLE /s", "UNDER LOAD /s", "PER REQUEST"];

/// Measures ours, and the peer in alternation where there is one.
pub(crate) async fn run(plan: &Plan) -> Result<Report, BenchError> {
    note("requests: starting a primary and two standbys");
    let sandbox = Sandbox::builder()
        .standbys(2)
        .pg_version(plan.pg_version)
        // Its transactions are nobody's under measurement.
        .setting("autovacuum", "off")
        .start()
        .await?;
    let counters = Counters::open(&sandbox).await?;
    let peer = plan.peer.clone().map(Candidate::Peer);
    let candidates: Vec<_> =
        [Candidate::Ours(plan.herdsman.clone())].into_iter().chain(peer).collect();
    let mut sides: Vec<Side> = candidates
        .iter()
        .map(|candidate| Side { name: candidate.name(), turns: Vec::new() })
        .collect();
    for round in 1..=plan.rounds {
        for (candidate, side) in candidates.iter().zip(&mut sides) {
            note(&format!("requests: round {round} of {}, {}", plan.rounds, candidate.name()));
            side.turns.push(turn(candidate, &sandbox, &counters, plan.span).await?);
        }
    }
    let ratios = match sides.as_slice() {
        [ours, peer] => Some(Ratios::of(ours, peer)),
        _ => None,
    };
    Ok(Report { program: plan.herdsman.display().to_string(), sides, ratios })
}

async fn turn(
    candidate: &Candidate,
    sandbox: &Sandbox,
    counters: &Counters,
    span: Duration,
) -> Result<Turn, BenchError> {
    let idle = life(candidate, sandbox, counters, span, false).await?;
    let loaded = life(candidate, sandbox, counters, span, true).await?;
    let requests: usize = loaded.levels.iter().map(|level| level.requests).sum();
    let total = |life: &Life| life.rates().values().sum::<f64>();
    let added = (total(&loaded) - total(&idle)) * loaded.seconds;
    Ok(Turn {
        transactions_per_request: added / requests.max(1) as f64,
        idle: idle.rates(),
        loaded: loaded.rates(),
        levels: loaded.levels,
    })
}

async fn life(
    candidate: &Candidate,
    sandbox: &Sandbox,
    counters: &Counters,
    span: Duration,
    busy: bool,
) -> Result<Life, BenchError> {
    let before = counters.settled().await?;
    let started = Instant::now();
    let served = candidate.start(sandbox).await?;
    let mut levels = Vec::new();
    for connections in LEVELS {
        if busy {
            levels.push(level(&served, connections, span).await?);
        } else {
            sleep(span).await;
        }
    }
    served.stop().await?;
    let seconds = started.elapsed().as_secs_f64();
    let mut transactions = counters.settled().await?;
    for (node, count) in &mut transactions {
        *count -= before.get(node).copied().unwrap_or_default();
    }
    Ok(Life { seconds, transactions, levels })
}

async fn level(served: &Served, connections: usize, span: Duration) -> Result<Level, BenchError> {
    let cpu = served.cpu_seconds()?;
    let load = http::load(served.port, PATH, connections, span).await;
    let cpu = served.cpu_seconds()? - cpu;
    let requests = load.latencies.len();
    let micros = |per_mille| {
        percentile(&load.latencies, per_mille)
            .map(|latency| latency.as_secs_f64() * 1e6)
            .ok_or_else(|| served.failed("answered no request"))
    };
    Ok(Level {
        connections,
        requests,
        not_ok: load.not_ok,
        broken: load.broken,
        per_second: requests as f64 / load.elapsed.as_secs_f64(),
        p50_micros: micros(500)?,
        p99_micros: micros(990)?,
        cpu_per_1000: cpu * 1000.0 / requests as f64,
    })
}

impl Life {
    fn rates(&self) -> BTreeMap<String, f64> {
        let rate = |(node, count): (&String, &i64)| (node.clone(), *count as f64 / self.seconds);
        self.transactions.iter().map(rate).collect()
    }
}

impl Side {
    fn load_rows(&self) -> impl Iterator<Item = Vec<String>> {
        LEVELS.iter().enumerate().map(|(index, connections)| {
            let levels = || self.turns.iter().filter_map(move |turn| turn.levels.get(index));
            let wrong: usize = levels().map(|level| level.not_ok).sum();
            let broken: usize = levels().map(|level| level.broken).sum();
            vec![
                self.name.clone(),
                connections.to_string(),
                spread(summary_of(levels(), |level| level.per_second)),
                spread(summary_of(levels(), |level| level.p50_micros)),
                spread(summary_of(levels(), |level| level.p99_micros)),
                spread(summary_of(levels(), |level| level.cpu_per_1000)),
                format!("{wrong}, {broken}"),
            ]
        })
    }

    fn cost_rows(&self) -> Vec<Vec<String>> {
        let nodes = self.turns.first().map(|turn| turn.idle.keys().cloned().collect::<Vec<_>>());
        let of = |rates: fn(&Turn) -> &BTreeMap<String, f64>, node: &str| {
            let rate = |turn| rates(turn).get(node).copied().unwrap_or_default();
            spread(summary_of(&self.turns, rate))
        };
        let mut rows: Vec<Vec<String>> = nodes
            .unwrap_or_default()
            .iter()
            .map(|node| {
                let (idle, loaded) = (of(|turn| &turn.idle, node), of(|turn| &turn.loaded, node));
                vec![self.name.clone(), node.clone(), idle, loaded, String::new()]
            })
            .collect();
        let per_request = summary_of(&self.turns, |turn| turn.transactions_per_request);
        let blank = String::new;
        rows.push(vec![self.name.clone(), "all".to_owned(), blank(), blank(), spread(per_request)]);
        rows
    }
}

impl Report {
    pub(crate) fn text(&self) -> String {
        let load = table(
            &format!("Requests: GET {PATH}, keep-alive, of {} as its own process", self.program),
            &LOAD_HEADER,
            self.sides.iter().flat_map(Side::load_rows),
        );
        let cost = table(
            "What that costs the servers: transactions, start and end of the program included",
            &COST_HEADER,
            self.sides.iter().flat_map(Side::cost_rows),
        );
        let rounds = self.sides.first().map_or(0, |side| side.turns.len());
        let note = format!("median of {rounds} rounds (extremes)");
        let ratios = self.ratios.as_ref().map(|ratios| format!("\n\n{}", ratios.text()));
        format!("{load}\n{note}\n\n{cost}{}", ratios.unwrap_or_default())
    }
}
