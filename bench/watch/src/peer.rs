//! The programs that are compared, and what their figures are to each other.

use std::path::PathBuf;

use herdsman_sandbox::Sandbox;
use serde::Serialize;

use crate::error::BenchError;
use crate::figures::{Summary, spread, table};
use crate::process::{self, Served};
use crate::requests::{LEVELS, Side, Turn};
use crate::servers;

/// A program that answers `/v1/primary`.
#[derive(Clone, Debug)]
pub(crate) enum Candidate {
    /// `herdsman`, as it was built.
    Ours(PathBuf),
    /// pgroute66.
    Peer(PathBuf),
}

/// Ours divided by the peer's, round by round.
#[derive(Debug, Serialize)]
pub(crate) struct Ratios {
    of: [String; 2],
    levels: Vec<LevelRatios>,
    transactions_per_request: Option<Summary>,
}

#[derive(Debug, Serialize)]
struct LevelRatios {
    connections: usize,
    per_second: Option<Summary>,
    p50: Option<Summary>,
    p99: Option<Summary>,
    cpu_per_1000: Option<Summary>,
}

const HEADER: [&str; 5] = ["CONNECTIONS", "REQ/S", "P50", "P99", "CPU/1000 REQ"];

impl Candidate {
    /// The program's file name: whatever is compared is called what it is.
    pub(crate) fn name(&self) -> String {
        let (Self::Ours(program) | Self::Peer(program)) = self;
        program.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// Starts it on the servers of a sandbox and waits until it names the primary.
    pub(crate) async fn start(&self, sandbox: &Sandbox) -> Result<Served, BenchError> {
        let port = process::free_port()?;
        let names = sandbox.node_names();
        let entries = || names.iter().map(|name| (name.as_str(), name.as_str()));
        let mut config = servers::hosts(sandbox, entries())?;
        config.push_str(&format!("groups:\n  cluster: [{}]\n", names.join(", ")));
        config.push_str(&format!("bind: 127.0.0.1\nport: {port}\n"));
        let program = match self {
            Self::Ours(program) => {
                config.push_str(&servers::addresses(sandbox, entries())?);
                program
            }
            Self::Peer(program) => program,
        };
        Served::start(program, &config, port, sandbox.dir()).await
    }
}

impl Ratios {
    /// Of rounds in which both had their turn.
    pub(crate) fn of(ours: &Side, peer: &Side) -> Self {
        let pairs = || ours.turns.iter().zip(&peer.turns);
        let ratio = |value: &dyn Fn(&Turn) -> Option<f64>| {
            let ratios = pairs().filter_map(|(a, b)| over(value(a)?, value(b)?));
            Summary::of(&ratios.collect::<Vec<_>>())
        };
        let levels = LEVELS.iter().enumerate().map(|(index, &connections)| LevelRatios {
            connections,
            per_second: ratio(&|turn| turn.levels.get(index).map(|level| level.per_second)),
            p50: ratio(&|turn| turn.levels.get(index).map(|level| level.p50_micros)),
            p99: ratio(&|turn| turn.levels.get(index).map(|level| level.p99_micros)),
            cpu_per_1000: ratio(&|turn| turn.levels.get(index).map(|level| level.cpu_per_1000)),
        });
        Self {
            of: [ours.name.clone(), peer.name.clone()],
            levels: levels.collect(),
            transactions_per_request: ratio(&|turn| Some(turn.transactions_per_request)),
        }
    }

    pub(crate) fn text(&self) -> String {
        let rows = self.levels.iter().map(|level| {
            let figures = [level.per_second, level.p50, level.p99, level.cpu_per_1000];
            let mut row = vec![level.connections.to_string()];
            row.extend(figures.map(spread));
            row
        });
        let [ours, peer] = &self.of;
        let title = format!("Ratios, {ours} / {peer}: median of rounds (extremes)");
        let transactions = spread(self.transactions_per_request);
        format!("{}\ntransactions per request: {transactions}", table(&title, &HEADER, rows))
    }
}

/// `None` where there is nothing to divide by.
fn over(ours: f64, peer: f64) -> Option<f64> {
    (peer > 0.0).then(|| ours / peer)
}
