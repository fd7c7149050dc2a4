//! Measures what the gateway costs, beside PgBouncer. What the figures mean: `bench/README.md`.

mod error;
mod floor;
mod measure;
mod pgbench;
mod proxy;
mod report;
mod server;

use std::collections::BTreeMap;
use std::io::{Write as _, stderr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::BenchError;
use crate::measure::Workload;
use crate::proxy::{Kind, Proxy};
use crate::report::{DIRECT, FLOOR, Machine, Report};
use crate::server::Server;

/// Measures what the gateway costs, beside PgBouncer, on a server of its own.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// How often everything is repeated, in turn [default: 5; 2 with --quick].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Seconds of each load that count, after one that does not [default: 5; 2 with --quick].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=300))]
    seconds: Option<u64>,
    /// Less of everything.
    #[arg(long)]
    quick: bool,
    /// Only this part.
    #[arg(long, value_enum)]
    part: Option<Part>,
    /// Only workloads with this in their name.
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Numbers of clients.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 32, 1000])]
    clients: Vec<usize>,
    /// Size of pgbench's tables: times 100,000 rows.
    #[arg(long, default_value_t = 10)]
    scale: u32,
    /// The program `herdsman` [default: the one beside this program].
    #[arg(long, value_name = "PATH", env = "HERDSMAN_BENCH_PROGRAM")]
    herdsman: Option<PathBuf>,
    /// The program `pgbouncer` [default: the one that is installed].
    #[arg(long, value_name = "PATH")]
    pgbouncer: Option<PathBuf>,
    /// PgBouncer takes our place too: what the bench itself makes different.
    #[arg(long)]
    against_itself: bool,
    /// Major version of the server.
    #[arg(long, default_value_t = 15)]
    pg_version: u32,
    /// Be the floor: pass on what comes to the first port to the second.
    #[arg(long, num_args = 2, value_names = ["PORT", "TO"], hide = true)]
    pass_on: Option<Vec<u16>>,
    /// Print one JSON document instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// pgbench with each protocol, results of 1,000 rows, connections.
    Load,
    /// What idle clients take.
    Memory,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some([listen, to]) = arguments.pass_on.as_deref() {
        let outcome = floor::pass_on(*listen, *to);
        return if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let outcome = match Box::pin(until_told_to_end(&arguments)).await {
        Ok(report) => report.print(arguments.json),
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
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

/// A signal drops what is under way, and with it the server and every process of ours.
async fn until_told_to_end(arguments: &Arguments) -> Result<Report, BenchError> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(BenchError::system("wait for signals"))?;
    tokio::select! {
        report = bench(arguments) => report,
        _ = tokio::signal::ctrl_c() => Err(BenchError::Interrupted),
        _ = terminate.recv() => Err(BenchError::Interrupted),
    }
}

async fn bench(arguments: &Arguments) -> Result<Report, BenchError> {
    raise_open_files();
    let pgbouncer = pgbouncer(arguments)?;
    let version = proxy::version(&pgbouncer).await?;
    let prepared = proxy::has_prepared_statements(&version);
    let theirs = Kind::PgBouncer { program: pgbouncer, session: false, prepared };
    let (name, ours) = match arguments.against_itself {
        true => ("pgbouncer again", theirs.clone()),
        false => ("herdsman", Kind::Herdsman(herdsman(arguments)?)),
    };
    let (rounds, seconds) = if arguments.quick { (2, 2) } else { (5, 5) };
    let (rounds, seconds) =
        (arguments.rounds.unwrap_or(rounds), arguments.seconds.unwrap_or(seconds));
    let mut workloads = measure::workloads(&arguments.clients, seconds, arguments.scale);
    workloads.retain(|workload| {
        let only = &arguments.only;
        only.is_empty() || only.iter().any(|part| workload.name.contains(part.as_str()))
    });
    let mut report = Report {
        machine: machine(arguments.pg_version, version),
        ours: name.to_owned(),
        contestants: [DIRECT, FLOOR, "pgbouncer", name].map(str::to_owned).to_vec(),
        workloads: workloads.iter().map(|workload| workload.name.clone()).collect(),
        samples: BTreeMap::new(),
        memory: BTreeMap::new(),
    };
    note("starting a server");
    let server = Server::start(arguments.pg_version, arguments.scale).await?;
    if arguments.part != Some(Part::Memory) {
        loads(&workloads, &server, &ours, &theirs, rounds, &mut report).await?;
    }
    if arguments.part != Some(Part::Load) {
        for round in 1..=rounds {
            for (name, kind) in [("pgbouncer", &theirs), (name, &ours)] {
                let memory = measure::memory(kind, &server).await?;
                note(&format!("round {round}, memory, {name}: {} KiB idle", memory.idle / 1024));
                report.memory.entry(name.to_owned()).or_default().push(memory);
            }
        }
    }
    Ok(report)
}

/// All loads, in every round through one after the other, each round beginning with another.
async fn loads(
    workloads: &[Workload],
    server: &Server,
    ours: &Kind,
    theirs: &Kind,
    rounds: u32,
    report: &mut Report,
) -> Result<(), BenchError> {
    let folder = TempDir::new().map_err(BenchError::system("make a folder"))?;
    let mut contestants = report.contestants.clone();
    for round in 1..=rounds {
        for workload in workloads {
            for name in &contestants {
                let kind = match name.as_str() {
                    DIRECT => None,
                    FLOOR => Some(Kind::Floor),
                    "pgbouncer" => Some(theirs.clone()),
                    _ => Some(ours.clone()),
                };
                let Some(kind) = able(kind, workload) else {
                    report.add(&workload.name, name, None);
                    continue;
                };
                // Each for its own load only: nobody's watching or timers are in another's figures.
                let proxy = match &kind {
                    Some(kind) => Some(Proxy::start(kind, server).await?),
                    None => None,
                };
                let sample = measure::once(workload, server, proxy.as_ref(), folder.path()).await?;
                if let Some(proxy) = proxy {
                    proxy.stop().await?;
                }
                note(&format!(
                    "round {round}, {}, {name}: {:.0}/s, {:.1} s/million, p99 {:.0} us",
                    workload.name, sample.per_second, sample.cpu_us, sample.p99_us
                ));
                report.add(&workload.name, name, Some(sample));
            }
        }
        contestants.rotate_left(1);
    }
    Ok(())
}

/// The contestant as it can bear this load. `None`: it cannot. `Some(None)`: without a proxy.
fn able(kind: Option<Kind>, workload: &Workload) -> Option<Option<Kind>> {
    let many = workload.load.clients > 200;
    match kind {
        // The server has no room for so many.
        None | Some(Kind::Floor) if many => None,
        None => Some(None),
        // In transaction mode it takes a statement for another client's, so it gets session mode, if there is room.
        Some(Kind::PgBouncer { program, prepared: false, .. })
            if workload.load.mode == "prepared" =>
        {
            let session = Kind::PgBouncer { program, session: true, prepared: false };
            (!many).then_some(Some(session))
        }
        Some(kind) => Some(Some(kind)),
    }
}

fn herdsman(arguments: &Arguments) -> Result<PathBuf, BenchError> {
    let path = match &arguments.herdsman {
        Some(path) => path.clone(),
        None => std::env::current_exe()
            .map_err(BenchError::system("find this program"))?
            .with_file_name("herdsman"),
    };
    let advice =
        "build it with `cargo build --release -p herdsman-cli`, or name it with --herdsman";
    existing(path, advice)
}

fn pgbouncer(arguments: &Arguments) -> Result<PathBuf, BenchError> {
    let advice = "install it (Debian: apt-get install pgbouncer), or name it with --pgbouncer";
    if let Some(path) = &arguments.pgbouncer {
        return existing(path.clone(), advice);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join("pgbouncer")).find(|path| path.is_file());
    existing(found.unwrap_or_else(|| PathBuf::from("pgbouncer")), advice)
}

fn existing(path: PathBuf, advice: &'static str) -> Result<PathBuf, BenchError> {
    if path.is_file() {
        return Ok(path);
    }
    Err(BenchError::NoProgram { path: path.display().to_string(), advice })
}

/// A thousand clients are a thousand files here, in pgbench, and two thousand in a proxy: children inherit the limit.
fn raise_open_files() {
    let hard = getrlimit(Resource::Nofile).maximum;
    let wanted = hard.map_or(65_536, |hard| hard.min(65_536));
    // Where it may not be raised, logins fail and say so.
    let _refused = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: hard });
}

fn machine(pg_version: u32, peer: String) -> Machine {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Machine {
        cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        load_before: load.split(' ').next().unwrap_or_default().to_owned(),
        pg_version,
        peer,
    }
}
