//! Measures how fast and how cheaply Herdsman watches. What the figures mean: `bench/README.md`.

mod error;
mod figures;
mod herd;
mod http;
mod peer;
mod process;
mod reaction;
mod requests;
mod servers;

use std::io::{Write as _, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::BenchError;

/// Measures how fast and how cheaply Herdsman watches, on real servers of its own.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// What to measure.
    #[arg(value_enum, default_value = "all")]
    part: Part,
    /// How often everything is repeated [default: 10 for reaction, 3 for requests].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Seconds of load for each number of connections.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// The program `herdsman` [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    herdsman: Option<PathBuf>,
    /// A pgroute66 program to compare with, round by round on the same cluster.
    #[arg(long, value_name = "PATH_TO_PGROUTE66")]
    peer: Option<PathBuf>,
    /// Major version of the servers.
    #[arg(long, default_value_t = 15)]
    pg_version: u32,
    /// Print one JSON document instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// From a fault to the changed verdict.
    Reaction,
    /// What `/v1/primary` bears, and what it costs the servers.
    Requests,
    /// What watching a hundred nodes costs.
    Herd,
    /// All of them.
    All,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    machine: Machine,
    #[serde(skip_serializing_if = "Option::is_none")]
    reaction: Option<reaction::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<requests::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    herd: Option<herd::Report>,
}

/// What ran the bench: without it the figures mean nothing.
#[derive(Debug, Default, Serialize)]
struct Machine {
    cores: usize,
    /// As `/proc/loadavg` had it at the start: runnable tasks over the last minute.
    load_before: String,
    pg_version: u32,
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

/// A signal drops what is under way, and with it every server and process of ours.
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
    let mut report = Report { machine: Machine::of(arguments), ..Report::default() };
    // Looked for first: half an hour later is no time to find out that it is missing.
    let herdsman = if wants(Part::Requests) || wants(Part::Herd) {
        Some(process::herdsman(arguments.herdsman.clone())?)
    } else {
        None
    };
    if wants(Part::Reaction) {
        let rounds = arguments.rounds.unwrap_or(10);
        report.reaction = Some(Box::pin(reaction::run(rounds, arguments.pg_version)).await?);
    }
    if let Some(herdsman) = &herdsman
        && wants(Part::Requests)
    {
        let plan = requests::Plan {
            rounds: arguments.rounds.unwrap_or(3),
            span: Duration::from_secs(arguments.seconds),
            pg_version: arguments.pg_version,
            herdsman: herdsman.clone(),
            peer: arguments.peer.as_deref().map(process::program).transpose()?,
        };
        report.requests = Some(Box::pin(requests::run(&plan)).await?);
    }
    if let Some(herdsman) = &herdsman
        && wants(Part::Herd)
    {
        report.herd = Some(Box::pin(herd::run(herdsman, arguments.pg_version)).await?);
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
            report.reaction.as_ref().map(reaction::Report::text),
            report.requests.as_ref().map(requests::Report::text),
            report.herd.as_ref().map(herd::Report::text),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n")
    };
    match writeln!(stdout().lock(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

impl Machine {
    fn of(arguments: &Arguments) -> Self {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            load_before: load.split(' ').next().unwrap_or_default().to_owned(),
            pg_version: arguments.pg_version,
            debug_build: cfg!(debug_assertions),
        }
    }

    fn text(&self) -> String {
        let Self { cores, load_before, pg_version, debug_build } = self;
        let build = if *debug_build { "debug build: figures are worthless" } else { "release" };
        format!("{cores} cores, load {load_before} before, PostgreSQL {pg_version}, {build}")
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
        assert_eq!((all.part, all.rounds, all.seconds), (Part::All, None, 3));
        assert!(Arguments::try_parse_from(["bench", "reaction", "--rounds", "0"]).is_err());
    }
}
