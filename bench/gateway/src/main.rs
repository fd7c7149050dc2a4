//! Measures what the gateway costs, beside PgBouncer and others. What the figures mean: `bench/README.md`.

mod arguments;
mod bulk;
mod calls;
mod config;
mod error;
mod floor;
mod measure;
mod peers;
mod pgbench;
mod proxy;
mod report;
mod server;

use std::collections::BTreeMap;
use std::io::{Write as _, stderr};
use std::process::ExitCode;

use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::{Arguments, Part};
use crate::error::BenchError;
use crate::measure::Workload;
use crate::proxy::{Kind, Proxy};
use crate::report::{DIRECT, FLOOR, Machine, Report, Sample};
use crate::server::Server;

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

/// Its name in the tables, and how it is started; none is the server itself.
type Contestant = (String, Option<Kind>);

async fn bench(arguments: &Arguments) -> Result<Report, BenchError> {
    raise_open_files();
    let (others, versions): (Vec<_>, Vec<_>) = arguments.others().await?.into_iter().unzip();
    let (name, ours) = match (arguments.against_itself, others.first()) {
        (true, Some(pgbouncer)) => ("pgbouncer again", pgbouncer.clone()),
        _ => ("herdsman", Kind::Herdsman(arguments.ours()?)),
    };
    let mut contestants: Vec<Contestant> =
        vec![(DIRECT.to_owned(), None), (FLOOR.to_owned(), Some(Kind::Floor))];
    contestants.extend(others.into_iter().map(|kind| (kind.name().to_owned(), Some(kind))));
    contestants.push((name.to_owned(), Some(ours)));
    let (rounds, seconds) = if arguments.quick { (2, 2) } else { (5, 5) };
    let (rounds, seconds) =
        (arguments.rounds.unwrap_or(rounds), arguments.seconds.unwrap_or(seconds));
    let mut workloads = measure::workloads(&arguments.clients, seconds, arguments.scale);
    workloads.retain(|workload| {
        let only = &arguments.only;
        only.is_empty() || only.iter().any(|part| workload.name.contains(part.as_str()))
    });
    let mut report = Report {
        machine: machine(arguments, versions),
        ours: name.to_owned(),
        contestants: contestants.iter().map(|(name, _)| name.clone()).collect(),
        workloads: workloads.iter().map(|workload| workload.name.clone()).collect(),
        samples: BTreeMap::new(),
        memory: BTreeMap::new(),
        calls: BTreeMap::new(),
        failures: Vec::new(),
    };
    note("starting a server");
    let server = Server::start(arguments.pg_version, arguments.scale, arguments.tls).await?;
    for kind in contestants.iter().filter_map(|(_, kind)| kind.as_ref()) {
        // One that cannot be measured is told now, not after everybody else's first round.
        Proxy::start(kind, &server).await?.stop().await?;
    }
    let part = |part| arguments.part == Some(part);
    if !part(Part::Memory) && !part(Part::Calls) {
        loads(&workloads, &server, &mut contestants, rounds, &mut report).await?;
    }
    if !part(Part::Load) && !part(Part::Calls) {
        memories(&server, &contestants, rounds, arguments.idle, &mut report).await?;
    }
    if part(Part::Calls) {
        system_calls(&workloads, &server, &contestants, &mut report).await?;
    }
    Ok(report)
}

/// All loads, in every round through one after the other, each round beginning with another.
async fn loads(
    workloads: &[Workload],
    server: &Server,
    contestants: &mut [Contestant],
    rounds: u32,
    report: &mut Report,
) -> Result<(), BenchError> {
    let folder = TempDir::new().map_err(BenchError::system("make a folder"))?;
    for round in 1..=rounds {
        for workload in workloads {
            for (name, kind) in &*contestants {
                let Some(kind) = able(kind.clone(), workload) else {
                    report.add(&workload.name, name, None);
                    continue;
                };
                let outcome = once(workload, server, kind.as_ref(), &folder).await;
                let what = format!("round {round}, {}", workload.name);
                let sample = unless_a_peers(outcome, kind.as_ref(), &what, report)?;
                if let Some(sample) = sample {
                    note(&format!(
                        "{what}, {name}: {:.0}/s, {:.1} s/million, p99 {:.0} us",
                        sample.per_second, sample.cpu_us, sample.p99_us
                    ));
                }
                report.add(&workload.name, name, sample);
            }
        }
        contestants.rotate_left(1);
    }
    Ok(())
}

async fn once(
    workload: &Workload,
    server: &Server,
    kind: Option<&Kind>,
    folder: &TempDir,
) -> Result<Sample, BenchError> {
    // Each for its own load only: nobody's watching or timers are in another's figures.
    let proxy = match kind {
        Some(kind) => Some(Proxy::start(kind, server).await?),
        None => None,
    };
    let sample = measure::once(workload, server, proxy.as_ref(), folder.path()).await?;
    if let Some(proxy) = proxy {
        proxy.stop().await?;
    }
    Ok(sample)
}

/// What one of the peers cannot do is told beneath the tables; everybody else must be able.
fn unless_a_peers<T>(
    outcome: Result<T, BenchError>,
    kind: Option<&Kind>,
    what: &str,
    report: &mut Report,
) -> Result<Option<T>, BenchError> {
    match (outcome, kind) {
        (Ok(outcome), _) => Ok(Some(outcome)),
        (Err(BenchError::Interrupted), _) => Err(BenchError::Interrupted),
        (Err(error), Some(Kind::Peer { peer, .. })) => {
            let failure = format!("{what}, {peer}: failed: {error}");
            note(&failure);
            report.failures.push(failure);
            Ok(None)
        }
        (Err(error), _) => Err(error),
    }
}

async fn memories(
    server: &Server,
    contestants: &[Contestant],
    rounds: u32,
    clients: usize,
    report: &mut Report,
) -> Result<(), BenchError> {
    for round in 1..=rounds {
        for (name, kind) in contestants {
            let Some(kind) = kind.as_ref().filter(|kind| **kind != Kind::Floor) else { continue };
            let what = format!("round {round}, memory");
            let outcome = measure::memory(kind, server, clients).await;
            let Some(memory) = unless_a_peers(outcome, Some(kind), &what, report)? else {
                continue;
            };
            note(&format!("{what}, {name}: {} KiB idle", memory.idle / 1024));
            report.memory.entry(name.clone()).or_default().push(memory);
        }
    }
    Ok(())
}

/// Once through each: they do not depend on what else the machine does as times do.
async fn system_calls(
    workloads: &[Workload],
    server: &Server,
    contestants: &[Contestant],
    report: &mut Report,
) -> Result<(), BenchError> {
    let folder = TempDir::new().map_err(BenchError::system("make a folder"))?;
    for workload in workloads {
        for (name, kind) in contestants {
            let Some(Some(kind)) = able(kind.clone(), workload) else { continue };
            let proxy = Proxy::start(&kind, server).await?;
            let outcome = measure::calls(workload, server, &proxy, folder.path()).await;
            proxy.stop().await?;
            let Some(calls) = unless_a_peers(outcome, Some(&kind), &workload.name, report)? else {
                continue;
            };
            note(&format!("{}, {name}: {:.2} calls", workload.name, calls.all));
            report.calls.entry(workload.name.clone()).or_default().insert(name.clone(), calls);
        }
    }
    Ok(())
}

/// The contestant as it can bear this load. `None`: it cannot. `Some(None)`: without a proxy.
fn able(kind: Option<Kind>, workload: &Workload) -> Option<Option<Kind>> {
    let many = workload.clients() > 200;
    match kind {
        // The server has no room for so many.
        None | Some(Kind::Floor) if many => None,
        None => Some(None),
        // In transaction mode it takes a statement for another client's, so it gets session mode, if there is room.
        Some(Kind::PgBouncer { program, prepared: false, .. }) if workload.prepares() => {
            let session = Kind::PgBouncer { program, session: true, prepared: false };
            (!many).then_some(Some(session))
        }
        Some(kind) => Some(Some(kind)),
    }
}

/// Ten thousand clients are as many files here, or in pgbench, and in a proxy: children inherit the limit.
fn raise_open_files() {
    let hard = getrlimit(Resource::Nofile).maximum;
    let wanted = hard.map_or(65_536, |hard| hard.min(65_536));
    // Where it may not be raised, logins fail and say so.
    let _refused = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: hard });
}

fn machine(arguments: &Arguments, peers: Vec<String>) -> Machine {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Machine {
        cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        load_before: load.split(' ').next().unwrap_or_default().to_owned(),
        pg_version: arguments.pg_version,
        tls: arguments.tls,
        peers,
    }
}
