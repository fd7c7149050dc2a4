//! Measures what a `ReplicaSet` costs beside a bare sqlx pool. What the figures mean: `bench/README.md`.

mod classify;
mod client;
mod clock;
mod error;
mod figures;
mod overhead;
mod readers;
mod servers;

use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::BenchError;

/// Measures what a `ReplicaSet` costs beside a bare sqlx pool, on real servers of its own.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// What to measure.
    #[arg(value_enum, default_value = "all")]
    part: Part,
    /// How often everything is repeated [default: 40, or 10 with --quick].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: Option<u32>,
    /// Milliseconds that each client works at each workload in each round.
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    millis: u64,
    /// Only these clients, for a profiler.
    #[arg(long, value_name = "NAME")]
    client: Vec<String>,
    /// Only workloads with this in their name, for a profiler.
    #[arg(long, value_name = "PART", default_value = "")]
    workload: String,
    /// Fewer rounds: about a minute and a half in all.
    #[arg(long)]
    quick: bool,
    /// Major version of the servers.
    #[arg(long, default_value_t = 15)]
    pg_version: u32,
    /// Print one JSON document instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// A set beside a pool, on one server.
    Overhead,
    /// Reads over one, two and three readers.
    Readers,
    /// Telling a read from a write.
    Classify,
    /// All of them.
    All,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    machine: Machine,
    #[serde(skip_serializing_if = "Option::is_none")]
    overhead: Option<overhead::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    readers: Option<readers::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    classify: Option<classify::Report>,
}

/// What ran the bench: without it the figures mean nothing.
#[derive(Debug, Default, Serialize)]
struct Machine {
    cores: usize,
    /// As `/proc/loadavg` had it at the start: runnable tasks over the last minute.
    load_before: String,
    pg_version: u32,
    rounds: u32,
    debug_build: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            note(&format!("failed to start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(Box::pin(until_told_to_end(&arguments)));
    runtime.shutdown_timeout(Duration::from_millis(500));
    match outcome {
        Ok(report) => print(&report, arguments.json),
        Err(error) => {
            note(&format!("failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Says how far it is, beside the figures.
fn note(text: &str) {
    // Where standard error is closed nobody is left to tell.
    let _nobody_reads = writeln!(stderr().lock(), "{text}");
}

/// A signal drops what is under way, and with it every server of ours.
async fn until_told_to_end(arguments: &Arguments) -> Result<Report, BenchError> {
    let listen = |kind| signal(kind).map_err(BenchError::system("listen for signals"));
    let (mut interrupt, mut terminate) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        report = measure(arguments) => report,
        _ = interrupt.recv() => Err(BenchError::Interrupted),
        _ = terminate.recv() => Err(BenchError::Interrupted),
    }
}

async fn measure(arguments: &Arguments) -> Result<Report, BenchError> {
    let wants = |part| arguments.part == part || arguments.part == Part::All;
    let plan = overhead::Plan {
        rounds: arguments.rounds(),
        span: Duration::from_millis(arguments.millis),
        pg_version: arguments.pg_version,
        only: arguments.client.clone(),
        workload: arguments.workload.clone(),
    };
    let mut report = Report { machine: Machine::of(arguments), ..Report::default() };
    if wants(Part::Classify) {
        report.classify = Some(classify::run(plan.rounds).await?);
    }
    if wants(Part::Overhead) {
        report.overhead = Some(Box::pin(overhead::run(&plan)).await?);
    }
    if wants(Part::Readers) {
        report.readers = Some(Box::pin(readers::run(&plan)).await?);
    }
    Ok(report)
}

fn print(report: &Report, json: bool) -> ExitCode {
    let text = if json {
        match serde_json::to_string_pretty(report) {
            Ok(text) => text,
            Err(error) => {
                note(&format!("failed to write the figures as JSON: {error}"));
                return ExitCode::FAILURE;
            }
        }
    } else {
        let parts = [
            Some(report.machine.text()),
            report.overhead.as_ref().map(overhead::Report::text),
            report.readers.as_ref().map(readers::Report::text),
            report.classify.as_ref().map(classify::Report::text),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n")
    };
    match writeln!(stdout().lock(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

impl Arguments {
    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 10 } else { 40 })
    }
}

impl Machine {
    fn of(arguments: &Arguments) -> Self {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            load_before: load.split(' ').next().unwrap_or_default().to_owned(),
            pg_version: arguments.pg_version,
            rounds: arguments.rounds(),
            debug_build: cfg!(debug_assertions),
        }
    }

    fn text(&self) -> String {
        let Self { cores, load_before, pg_version, rounds, debug_build } = self;
        let build = if *debug_build { "debug build: figures are worthless" } else { "release" };
        format!(
            "{cores} cores, load {load_before} before, PostgreSQL {pg_version}, {rounds} rounds, {build}"
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
        let all = Arguments::try_parse_from(["bench"]).unwrap();
        assert_eq!((all.part, all.rounds(), all.millis), (Part::All, 40, 250));
        assert_eq!(Arguments::try_parse_from(["bench", "--quick"]).unwrap().rounds(), 10);
        assert!(Arguments::try_parse_from(["bench", "readers", "--rounds", "0"]).is_err());
    }
}
