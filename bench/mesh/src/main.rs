//! Measures what a mesh costs, beside PostgreSQL's own subscriptions. What the figures mean: `bench/README.md`.

mod add;
mod cpu;
mod error;
mod loads;
mod pair;
mod report;

use std::io::{Write as _, stderr};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::error::BenchError;
use crate::loads::Load;
use crate::pair::{Carrier, Pair};
use crate::report::Report;

/// Measures what a mesh costs, on servers of its own.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Rows of each load.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(10_000..=5_000_000))]
    rows: u32,
    /// How often everything is repeated, in turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Only these parts; all of them unless told.
    #[arg(long, value_enum)]
    part: Vec<Part>,
    /// Major version of the servers.
    #[arg(long, default_value_t = 18)]
    pg_version: u32,
    /// Sessions that apply at once: as `mesh.lanes`.
    #[arg(long, default_value_t = 1)]
    lanes: usize,
    /// Measure a mesh with one lane, too.
    #[arg(long)]
    one_lane: bool,
    /// Print one JSON document instead of tables.
    #[arg(long)]
    json: bool,
}

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Rows a second and processor time a row.
    Loads,
    /// From a commit to the moment it is seen.
    Latency,
    /// What writers pay.
    Writers,
    /// How long it takes to add a node.
    Add,
}

/// Keys that no load uses: marks, latency, writers.
const MARKS: i32 = 1_000_000_000;
const COMMITS: i32 = 300;
const STATEMENTS: i32 = 20_000;

#[tokio::main]
async fn main() -> ExitCode {
    // As a task, on a thread that also waits for sockets.
    let running = tokio::spawn(Box::pin(bench(Arguments::parse())));
    let outcome = running.await.unwrap_or_else(|error| Err(BenchError::Wrong(error.to_string())));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be there to read it.
            let _unread = writeln!(stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    fn wants(&self, part: Part) -> bool {
        self.part.is_empty() || self.part.contains(&part)
    }
}

async fn bench(arguments: Arguments) -> Result<(), BenchError> {
    let mut report = Report::default();
    if [Part::Loads, Part::Latency, Part::Writers].into_iter().any(|part| arguments.wants(part)) {
        let mut pairs = Vec::new();
        let wanted = |carrier: &Carrier| *carrier != Carrier::OneLane || arguments.one_lane;
        for carrier in Carrier::ALL.into_iter().filter(wanted) {
            pairs.push(Pair::start(carrier, arguments.pg_version, arguments.lanes).await?);
        }
        let mut key = MARKS;
        for round in 1..=arguments.rounds {
            carry(&arguments, round, &pairs, &mut key, &mut report).await?;
            // Whoever begins finds the machine a little different.
            pairs.reverse();
        }
        for pair in pairs {
            pair.stop().await;
        }
    }
    for round in 1..=arguments.rounds {
        if arguments.wants(Part::Add) {
            let added = Box::pin(add::add(arguments.pg_version, arguments.rows, round % 2 == 0));
            let added = added.await?;
            tell(&format!("round {round}, a node is added: {:.0} MB/s", added.joined))?;
            report.added.push(added);
        }
    }
    if arguments.json { report.json() } else { report.print() }
}

/// One round of all that pairs do, in turn.
async fn carry(
    arguments: &Arguments,
    round: u32,
    pairs: &[Pair],
    key: &mut i32,
    report: &mut Report,
) -> Result<(), BenchError> {
    for load in Load::ALL.into_iter().filter(|_| arguments.wants(Part::Loads)) {
        for pair in pairs {
            *key += 1;
            // Tombstones of the rounds before are under other keys.
            let first = 1 + (round - 1) * 2 * arguments.rows;
            let carried = loads::carry(pair, load, arguments.rows, first, *key).await?;
            tell(&format!(
                "round {round}, {}, {}: {:.0} rows/s, {:.2} us each",
                load.name(),
                pair.carrier.name(),
                carried.rows_per_second,
                carried.all_us
            ))?;
            report.carried.entry((load, pair.carrier)).or_default().push(carried);
        }
    }
    for pair in pairs {
        let carrier = pair.carrier;
        if arguments.wants(Part::Latency) {
            let latency = loads::latency(pair, COMMITS, *key + 1).await?;
            *key += COMMITS;
            tell(&format!("round {round}, {}: {:.2} ms to be seen", carrier.name(), latency.p50))?;
            report.latency.entry(carrier).or_default().push(latency);
        }
        if arguments.wants(Part::Writers) {
            let samples = report.writers.entry(carrier).or_default();
            for (insert, samples) in [true, false].into_iter().zip(samples) {
                samples.push(loads::writer(pair, insert, STATEMENTS, *key + 1).await?);
            }
            *key += STATEMENTS;
        }
    }
    Ok(())
}

fn tell(line: &str) -> Result<(), BenchError> {
    Ok(writeln!(stderr(), "{line}")?)
}
