//! What watching many nodes costs the watcher.
//!
//! The real program runs as a process of its own. A hundred entries stand for a hundred nodes: one is a real primary, the
//! others point in turn at two real standbys, each over connections of its own.

use std::path::Path;
use std::time::Duration;

use herdsman_node::Role;
use herdsman_sandbox::Sandbox;
use herdsman_watch::Topology;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::error::BenchError;
use crate::figures::{decimal, table};
use crate::process::{self, Memory, Served};
use crate::{http, note, servers};

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    program: String,
    herds: Vec<Watched>,
}

/// One number of nodes.
#[derive(Debug, Serialize)]
struct Watched {
    nodes: usize,
    /// Standbys the watcher named at the end; all but one of the nodes when all is well.
    standbys: usize,
    verdict: String,
    seconds: f64,
    /// Processor seconds per second.
    cpu: f64,
    memory: Memory,
    versions_per_second: f64,
}

/// A small herd beside the large one tells the cost of a node from that of the program.
const SIZES: [usize; 2] = [3, 100];
const SPAN: Duration = Duration::from_secs(20);
/// Until first connections and verdicts are history.
const SETTLE: Duration = Duration::from_secs(3);
/// Two sessions for each entry on a standby, and room.
const MAX_CONNECTIONS: &str = "300";

const HEADER: [&str; 8] = [
    "NODES",
    "STANDBYS SEEN",
    "CPU s/s",
    "PER NODE",
    "RSS MiB",
    "PEAK MiB",
    "VERSIONS/s",
    "VERDICT",
];

/// Has the program watch herds of several sizes.
pub(crate) async fn run(herdsman: &Path, pg_version: u32) -> Result<Report, BenchError> {
    note("herd: starting a primary and two standbys");
    let sandbox = Sandbox::builder()
        .standbys(2)
        .pg_version(pg_version)
        .setting("max_connections", MAX_CONNECTIONS)
        .start()
        .await?;
    let mut herds = Vec::new();
    for size in SIZES {
        note(&format!("herd: watching {size} nodes for {} s", SPAN.as_secs()));
        herds.push(watched(herdsman, &sandbox, size).await?);
    }
    Ok(Report { program: herdsman.display().to_string(), herds })
}

async fn watched(herdsman: &Path, sandbox: &Sandbox, nodes: usize) -> Result<Watched, BenchError> {
    let port = process::free_port()?;
    let names: Vec<String> = (1..=nodes).map(|number| format!("m{number:03}")).collect();
    let entries = || {
        let standbys = ["n2", "n3"].into_iter().cycle();
        names.iter().map(String::as_str).zip(std::iter::once("n1").chain(standbys))
    };
    let mut config = servers::hosts(sandbox, entries())?;
    config.push_str(&format!("bind: 127.0.0.1\nport: {port}\n"));
    config.push_str(&servers::addresses(sandbox, entries())?);
    let served = Served::start(herdsman, &config, port, sandbox.dir()).await?;
    sleep(SETTLE).await;

    let (first, cpu, started) = (topology(&served).await?, served.cpu_seconds()?, Instant::now());
    sleep(SPAN).await;
    let (last, cpu) = (topology(&served).await?, served.cpu_seconds()? - cpu);
    let seconds = started.elapsed().as_secs_f64();
    let watched = Watched {
        nodes,
        standbys: last.with_role(Role::Standby).count(),
        verdict: last.primary().map_or_else(|| last.verdict.to_string(), ToString::to_string),
        seconds,
        cpu: cpu / seconds,
        memory: served.memory()?,
        versions_per_second: last.version.saturating_sub(first.version) as f64 / seconds,
    };
    served.stop().await?;
    Ok(watched)
}

async fn topology(served: &Served) -> Result<Topology, BenchError> {
    let (_, body) = http::get(served.port, "/v2/topology")
        .await
        .map_err(BenchError::system("ask for the topology"))?;
    serde_json::from_slice(&body)
        .map_err(|error| served.failed(&format!("answered no topology ({error})")))
}

impl Watched {
    fn row(&self) -> Vec<String> {
        const MIB: f64 = 1024.0 * 1024.0;
        let mib = |bytes: u64| decimal(bytes as f64 / MIB);
        vec![
            self.nodes.to_string(),
            self.standbys.to_string(),
            decimal(self.cpu),
            format!("{:.5}", self.cpu / self.nodes as f64),
            mib(self.memory.resident),
            mib(self.memory.peak),
            decimal(self.versions_per_second),
            self.verdict.clone(),
        ]
    }
}

impl Report {
    pub(crate) fn text(&self) -> String {
        let title = format!("Herd: {} for {} s, as its own process", self.program, SPAN.as_secs());
        table(&title, &HEADER, self.herds.iter().map(Watched::row))
    }
}
