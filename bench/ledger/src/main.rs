//! Measures what a ledger costs, beside PostgreSQL's own synchronous replication. What the figures mean:
//! `bench/README.md`.

mod apply;
mod cpu;
mod error;
mod ours;
mod report;
mod rivals;
mod rounds;

use std::io::{Write as _, stderr};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::error::BenchError;
use crate::report::Report;
use crate::rivals::{Contestant, Who};

/// Measures what a ledger costs, on servers of its own.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// How often everything is repeated, in turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How many clients at the same time, each in turn.
    #[arg(long, default_values_t = [1, 16, 128], value_delimiter = ',')]
    clients: Vec<u32>,
    /// One short round: to see that it works.
    #[arg(long)]
    quick: bool,
    /// Only these parts; all of them unless told.
    #[arg(long, value_enum)]
    part: Vec<Part>,
    /// Only these contestants; all of them unless told.
    #[arg(long, value_enum)]
    who: Vec<Who>,
    /// Major version of the servers.
    #[arg(long, default_value_t = 18)]
    pg_version: u32,
    /// Print one JSON document instead of tables.
    #[arg(long)]
    json: bool,
}

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Transactions a second, and how long a commit takes.
    Commits,
    /// Entries of the log that a node applies a second: one in each local transaction, and many.
    Apply,
}

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

    fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.rounds }
    }

    fn lasts(&self) -> Duration {
        Duration::from_secs(if self.quick { 1 } else { self.seconds })
    }
}

async fn bench(arguments: Arguments) -> Result<(), BenchError> {
    let mut report = Report::default();
    if arguments.wants(Part::Commits) {
        commits(&arguments, &mut report).await?;
    }
    if arguments.wants(Part::Apply) {
        let part = Box::pin(apply::all(arguments.pg_version, arguments.rounds(), arguments.quick));
        report.applied = part.await?;
    }
    if arguments.json { report.json() } else { report.print() }
}

/// All contestants, in turn.
async fn commits(arguments: &Arguments, report: &mut Report) -> Result<(), BenchError> {
    let most = arguments.clients.iter().copied().max().unwrap_or(1);
    let mut contestants = Vec::new();
    let wanted = |who: &Who| arguments.who.is_empty() || arguments.who.contains(who);
    for who in Who::ALL.into_iter().filter(wanted) {
        contestants.push(Box::pin(Contestant::start(who, arguments.pg_version, most)).await?);
        tell(&format!("{} is there", who.name()))?;
    }
    for round in 1..=arguments.rounds() {
        for clients in arguments.clients.iter().copied() {
            for contestant in &contestants {
                let who = contestant.who;
                let run = rounds::run(contestant, clients, arguments.lasts()).await?;
                tell(&format!(
                    "round {round}, {clients} clients, {}: {:.0}/s, {:.2} ms",
                    who.name(),
                    run.per_second,
                    run.p50
                ))?;
                report.commits.entry((clients, who)).or_default().push(run);
            }
            // Whoever begins finds the machine a little different.
            contestants.reverse();
        }
        for contestant in &contestants {
            if let Some(trip) = contestant.log_round_trip(arguments.lasts()).await? {
                report.round_trips.entry(contestant.who).or_default().push(trip);
            }
        }
    }
    Ok(())
}

fn tell(line: &str) -> Result<(), BenchError> {
    Ok(writeln!(stderr(), "{line}")?)
}
