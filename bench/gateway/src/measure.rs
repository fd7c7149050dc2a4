//! The parts of the bench.

use std::path::Path;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use crate::error::BenchError;
use crate::pgbench::{self, Load};
use crate::proxy::{Kind, Proxy};
use crate::report::{Memory, Sample};
use crate::server::{Address, Server};

/// A result of 1,000 rows, by primary key.
const ROWS: &str = "\\set first random(1, 100000 * :scale - 999)\nSELECT * FROM pgbench_accounts WHERE aid BETWEEN :first AND :first + 999;\n";
/// Clients that are logged in and say nothing.
const IDLE: usize = 1000;
/// How many of them log in at once.
const AT_ONCE: usize = 16;

/// One load: what is in the first column of the table, and what pgbench is told.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) load: Load,
}

/// The loads of the tables, in their order.
pub(crate) fn workloads(clients: &[usize], seconds: u64, scale: u32) -> Vec<Workload> {
    let load = Load { mode: "simple", clients: 1, script: None, reconnect: false, seconds, scale };
    let mut all = Vec::new();
    for mode in ["simple", "extended", "prepared"] {
        for &clients in clients {
            let name = format!("{mode}, {clients} client{}", if clients == 1 { "" } else { "s" });
            all.push(Workload { name, load: Load { mode, clients, ..load } });
        }
    }
    let rows = Load { clients: 8, script: Some(ROWS), ..load };
    all.push(Workload { name: "1,000 rows, 8 clients".to_owned(), load: rows });
    let reconnect = Load { clients: 16, reconnect: true, ..load };
    all.push(Workload { name: "connections, 16 clients".to_owned(), load: reconnect });
    all
}

/// One load through one proxy, or past them all.
pub(crate) async fn once(
    workload: &Workload,
    server: &Server,
    proxy: Option<&Proxy>,
    folder: &Path,
) -> Result<Sample, BenchError> {
    let direct = server.direct()?;
    let address = proxy.map_or(&direct, |proxy| &proxy.address);
    let cpu = || proxy.map_or(Duration::ZERO, Proxy::cpu);
    let outcome = pgbench::run(address, workload.load, folder, cpu).await?;
    Ok(Sample::of(outcome))
}

/// Memory of a proxy that nobody has used yet, with clients that have only logged in, and after a query of each.
pub(crate) async fn memory(kind: &Kind, server: &Server) -> Result<Memory, BenchError> {
    let proxy = Proxy::start(kind, server).await?;
    let empty = proxy.resident()?;
    let clients: Vec<_> = stream::iter((0..IDLE).map(|_| login(&proxy.address)))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let idle = proxy.resident()?;
    for (client, _) in &clients {
        client.simple_query("SELECT 1").await.map_err(failed)?;
    }
    let asked = proxy.resident()?;
    for (client, connection) in clients {
        drop(client);
        connection.abort();
    }
    proxy.stop().await?;
    Ok(Memory { clients: IDLE, empty, idle, asked })
}

async fn login(address: &Address) -> Result<(Client, JoinHandle<()>), BenchError> {
    let (client, connection) = address.config().connect(NoTls).await.map_err(failed)?;
    let running = tokio::spawn(async move {
        // How it ended shows in the client.
        let _ended = connection.await;
    });
    Ok((client, running))
}

fn failed(source: tokio_postgres::Error) -> BenchError {
    BenchError::Sql { whom: "a proxy".to_owned(), source }
}
