//! Measures what reading a replication slot costs, beside `pg_recvlogical` and others. What the figures mean:
//! `bench/README.md`.

mod clients;
mod cpu;
mod error;
mod latency;
mod live;
mod report;
mod servers;
mod service;
mod targets;

use std::io::{Write as _, stderr, stdout};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use tokio::process::Command;
use tokio::time::Instant;

use crate::clients::{Client, Found};
use crate::error::BenchError;
use crate::latency::Way;
use crate::report::{Report, Run};
use crate::servers::{Load, Source};
use crate::targets::Targets;

/// Measures what reading a replication slot costs, on real servers of its own.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    reader: Option<Reader>,
    /// Rows of each load.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    rows: u64,
    /// How often each reader reads them.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only these parts; all of them unless told.
    #[arg(long, value_enum)]
    part: Vec<Part>,
    /// Only these readers, by a part of their name.
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Major version of the server; 15 has `pg_recvlogical` where the others may not.
    #[arg(long, default_value_t = 15)]
    pg_version: u32,
    /// Print one JSON document instead of tables.
    #[arg(long)]
    json: bool,
}

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Rows a second and processor time per row, of every reader.
    Rows,
    /// When the first row of a large transaction is there.
    Live,
    /// From a commit to the handler.
    Latency,
}

impl Arguments {
    fn wants(&self, part: Part) -> bool {
        self.part.is_empty() || self.part.contains(&part)
    }
}

#[derive(Debug, Subcommand)]
enum Reader {
    /// One reader, as a process of its own; its connection string comes in `CONNINFO`, settings of its sink in `SINK`.
    #[command(hide = true)]
    Read { client: Client, slot: String, rows: u64 },
}

#[tokio::main]
async fn main() -> ExitCode {
    // As a task, on a thread that also waits for sockets: this one would have to be woken by it for each packet.
    let running = tokio::spawn(Box::pin(run(Arguments::parse())));
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

async fn run(arguments: Arguments) -> Result<(), BenchError> {
    match &arguments.reader {
        Some(Reader::Read { client, slot, rows }) => read(*client, slot, *rows).await,
        None => bench(&arguments).await,
    }
}

async fn read(client: Client, slot: &str, rows: u64) -> Result<(), BenchError> {
    let conninfo = std::env::var("CONNINFO").unwrap_or_default();
    let found = Box::pin(clients::run(client, &conninfo, slot, rows)).await?;
    writeln!(stdout(), "{}", serde_json::to_string(&found)?)?;
    Ok(())
}

/// `pg_recvlogical`, the ceiling: it decodes nothing.
const CEILING: &str = "pg_recvlogical";

async fn bench(arguments: &Arguments) -> Result<(), BenchError> {
    let mut report = Report::new(arguments.rows, arguments.rounds);
    if arguments.wants(Part::Rows) {
        rows(arguments, &mut report).await?;
    }
    if arguments.wants(Part::Live) {
        live(arguments, &mut report).await?;
    }
    if arguments.wants(Part::Latency) {
        latency(arguments, &mut report).await?;
    }
    report.print(arguments.json)
}

async fn rows(arguments: &Arguments, report: &mut Report) -> Result<(), BenchError> {
    let mut names = vec![CEILING.to_owned()];
    names.extend(Client::value_variants().iter().filter_map(name_of));
    names.retain(|name| {
        arguments.only.is_empty() || arguments.only.iter().any(|only| name.contains(only))
    });
    let mut targets = Targets::start(&mut names, arguments.pg_version).await?;
    for load in [Load::Small, Load::Big] {
        // Polling a single huge transaction takes it whole: there is no batch to bound.
        names.retain(|name| load == Load::Small || name != "polling");
        let mut source = Source::start(load, arguments.rows, arguments.pg_version).await?;
        for round in 0..arguments.rounds {
            for name in &names {
                let run = once(&mut source, &mut targets, name).await?;
                writeln!(stderr(), "{load:?} round {} {name}: {run}", round + 1)?;
                report.add(load, name, run);
            }
        }
    }
    Ok(())
}

async fn live(arguments: &Arguments, report: &mut Report) -> Result<(), BenchError> {
    for round in 1..=arguments.rounds {
        for client in [Client::HerdsmanV1, Client::HerdsmanEager] {
            let name = name_of(&client).unwrap_or_default();
            let seconds = live::first_row(&name, arguments.rows, arguments.pg_version).await?;
            let said = format!("first row {seconds:.3} s after the beginning");
            writeln!(stderr(), "live round {round} {name}: {said}")?;
            report.add_live(&name, seconds);
        }
    }
    Ok(())
}

async fn latency(arguments: &Arguments, report: &mut Report) -> Result<(), BenchError> {
    for round in 1..=arguments.rounds {
        for (way, name) in [(Way::Handler, "handler"), (Way::Sink, "sink")] {
            let latency = latency::measure(way, arguments.pg_version).await?;
            let (p50, p99) = (latency.p50, latency.p99);
            writeln!(stderr(), "latency round {round} {name}: p50 {p50:.0} µs, p99 {p99:.0} µs")?;
            report.add_latency(name, latency);
        }
    }
    Ok(())
}

fn name_of(client: &Client) -> Option<String> {
    client.to_possible_value().map(|value| value.get_name().to_owned())
}

/// One reader reads all rows once.
async fn once(source: &mut Source, targets: &mut Targets, name: &str) -> Result<Run, BenchError> {
    let sink = targets.sink(name).await?;
    let slot = source.slot(name == "polling").await?;
    let postmaster = source.postmaster().await?;
    let conninfo = source.conninfo()?;
    let mut command = if name == CEILING {
        let mut command = Command::new(ceiling()?);
        command.args(["--dbname", &conninfo, "--slot", &slot, "--start", "--no-loop", "-F", "0"]);
        command.args(["-f", "/dev/null", "--endpos", &source.end]);
        command.args(["-o", "proto_version=1", "-o", "publication_names=p"]);
        command
    } else {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["read", name, &slot, &source.rows.to_string()]).env("CONNINFO", &conninfo);
        command.env("SINK", sink.unwrap_or_default());
        command
    };
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let before = (cpu::of_tree(own), cpu::of_tree(postmaster));
    let begin = Instant::now();
    let output = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).output().await?;
    let wall = begin.elapsed();
    if !output.status.success() {
        return Err(BenchError::Wrong(format!("{name} failed: {}", output.status)));
    }
    source.drop_slot(&slot).await?;
    // What its server process used counts once that process is gone.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let after = (cpu::of_tree(own), cpu::of_tree(postmaster));
    let found = if name == CEILING {
        Found { rows: source.rows, total: wall.as_secs_f64(), ..Found::default() }
    } else {
        serde_json::from_slice(&output.stdout)?
    };
    if found.rows != source.rows {
        let problem = format!("{name} read {} rows instead of {}", found.rows, source.rows);
        return Err(BenchError::Wrong(problem));
    }
    Ok(Run::new(found, after.0.saturating_sub(before.0), after.1.saturating_sub(before.1)))
}

fn ceiling() -> Result<std::path::PathBuf, BenchError> {
    let folders = ["/usr/lib/postgresql/15/bin", "/usr/pgsql-15/bin", "/usr/local/bin", "/usr/bin"];
    let found = folders.iter().map(|folder| std::path::Path::new(folder).join(CEILING));
    found.into_iter().find(|path| path.exists()).ok_or_else(|| {
        BenchError::Wrong("pg_recvlogical is not installed; it comes with the server".to_owned())
    })
}
