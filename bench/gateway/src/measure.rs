//! The parts of the bench.

use std::path::Path;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::bulk::{self, Bulk};
use crate::calls::Counter;
use crate::error::BenchError;
use crate::pgbench::{self, Load, Outcome, Script};
use crate::proxy::{Kind, Proxy};
use crate::report::{Calls, Memory, Sample};
use crate::server::Server;

/// A result of 1,000 rows, by primary key.
const ROWS: &str = "\\set first random(1, 100000 * :scale - 999)\nSELECT * FROM pgbench_accounts WHERE aid BETWEEN :first AND :first + 999;\n";
/// Ten selects before the answer to the first is read.
const BATCH: &str = "\\set aid random(1, 100000 * :scale)\n\\startpipeline\n\
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n\
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n\
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n\
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n\
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n\
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n\
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n\
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n\
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n\
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n\
\\endpipeline\n";
/// How many of them log in at once.
const AT_ONCE: usize = 16;

/// One load: what is in the first column of the table, and what is done.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) work: Work,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    Pgbench(Load),
    Bulk(Bulk),
}

impl Workload {
    pub(crate) fn clients(&self) -> usize {
        match self.work {
            Work::Pgbench(load) => load.clients,
            Work::Bulk(_) => 1,
        }
    }

    pub(crate) fn prepares(&self) -> bool {
        matches!(self.work, Work::Pgbench(Load { mode: "prepared", .. }))
    }
}

/// The loads of the tables, in their order.
pub(crate) fn workloads(clients: &[usize], seconds: u64, scale: u32) -> Vec<Workload> {
    let load = Load {
        mode: "simple",
        clients: 1,
        script: Script::Select,
        reconnect: false,
        seconds,
        scale,
    };
    let mut all = Vec::new();
    for mode in ["simple", "extended", "prepared"] {
        for &clients in clients {
            let name = format!("{mode}, {clients} client{}", if clients == 1 { "" } else { "s" });
            all.push(Workload { name, work: Work::Pgbench(Load { mode, clients, ..load }) });
        }
    }
    let rows = Load { clients: 8, script: Script::Own(ROWS), ..load };
    let reconnect = Load { clients: 16, reconnect: true, ..load };
    let tpc_b = Load { clients: 32, script: Script::TpcB, ..load };
    let batches = Load { mode: "extended", clients: 32, script: Script::Own(BATCH), ..load };
    let more = [
        ("1,000 rows, 8 clients", Work::Pgbench(rows)),
        ("connections, 16 clients", Work::Pgbench(reconnect)),
        ("tpc-b, 32 clients", Work::Pgbench(tpc_b)),
        ("batches of 10, 32 clients", Work::Pgbench(batches)),
        ("1 GiB result (MiB)", Work::Bulk(Bulk::Result)),
        ("1 GiB copied in (MiB)", Work::Bulk(Bulk::CopyIn)),
    ];
    all.extend(more.map(|(name, work)| Workload { name: name.to_owned(), work }));
    all
}

/// One load through one proxy, or past them all.
pub(crate) async fn once(
    workload: &Workload,
    server: &Server,
    proxy: Option<&Proxy>,
    folder: &Path,
) -> Result<Sample, BenchError> {
    let cpu = || proxy.map_or(Duration::ZERO, Proxy::cpu);
    Ok(Sample::of(run(workload, server, proxy, folder, cpu).await?))
}

/// The system calls of a proxy under a load.
pub(crate) async fn calls(
    workload: &Workload,
    server: &Server,
    proxy: &Proxy,
    folder: &Path,
) -> Result<Calls, BenchError> {
    let counter = Counter::of(proxy.pid(), folder);
    let cpu = || {
        // Asked for the first time when it counts.
        counter.begin();
        proxy.cpu()
    };
    let outcome = run(workload, server, Some(proxy), folder, cpu).await?;
    Ok(Calls::of(&counter.end()?, outcome.transactions))
}

async fn run(
    workload: &Workload,
    server: &Server,
    proxy: Option<&Proxy>,
    folder: &Path,
    cpu: impl Fn() -> Duration,
) -> Result<Outcome, BenchError> {
    let direct = server.direct()?;
    let address = proxy.map_or(&direct, |proxy| &proxy.address);
    match workload.work {
        Work::Pgbench(load) => pgbench::run(address, load, folder, cpu).await,
        Work::Bulk(bulk) => bulk::run(address, bulk, cpu).await,
    }
}

/// Memory of a proxy that nobody has used yet, with clients that have only logged in, and after a query of each.
pub(crate) async fn memory(
    kind: &Kind,
    server: &Server,
    clients: usize,
) -> Result<Memory, BenchError> {
    let proxy = Proxy::start(kind, server).await?;
    let empty = proxy.resident()?;
    let logged_in: Vec<_> = stream::iter((0..clients).map(|_| proxy.address.login()))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
        .map_err(|refused| proxy.failed(&format!("let not everybody in ({refused})")))?;
    let idle = proxy.resident()?;
    for (client, _) in &logged_in {
        let asked = client.simple_query("SELECT 1").await;
        asked.map_err(|error| proxy.failed(&format!("did not answer everybody ({error})")))?;
    }
    let asked = proxy.resident()?;
    for (client, connection) in logged_in {
        drop(client);
        connection.abort();
    }
    proxy.stop().await?;
    Ok(Memory { clients, empty, idle, asked })
}
