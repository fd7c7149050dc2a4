//! What `SHOW` answers. Names, order and meaning of columns are those of PgBouncer 1.25, but for `TOPOLOGY` and
//! `NODE_POOLS`, which it does not have.

mod databases;
mod herd;
mod pools;
mod settings;
mod sockets;
mod stats;

use super::command::{HELP, Show};
use super::reply::{Cell, Column, Row, Table};
use super::view::View;

/// Columns: `t` is text, `i` a number.
macro_rules! header {
    ($($kind:ident $name:literal),* $(,)?) => { const { &[$(header!(@ $kind $name)),*] } };
    (@ t $name:literal) => { $crate::admin::reply::Column::text($name) };
    (@ i $name:literal) => { $crate::admin::reply::Column::int($name) };
}
use header;

const HELP_COLUMNS: &[Column] = header![t "command"];
const VERSION: &[Column] = header![t "version"];
const STATE: &[Column] = header![t "key", t "value"];
const LISTS: &[Column] = header![t "list", i "items"];
const FDS: &[Column] = header![
    i "fd", t "task", t "user", t "database", t "addr", i "port", i "cancel", i "link", t "client_encoding",
    t "std_strings", t "datestyle", t "timezone", t "password", t "scram_client_key", t "scram_server_key"
];
const PEERS: &[Column] = header![i "peer_id", t "host", i "port", i "pool_size"];
const PEER_POOLS: &[Column] = header![
    i "peer_id", i "cl_active_cancel_req", i "cl_waiting_cancel_req", i "sv_active_cancel", i "sv_login"
];
const DNS_HOSTS: &[Column] = header![t "hostname", i "ttl", t "addrs"];
const DNS_ZONES: &[Column] = header![t "zonename", i "serial", i "count"];
const MEM: &[Column] = header![t "name", i "size", i "used", i "free", i "memtotal"];

/// What a table looks like, without its rows.
pub(super) fn columns(show: Show) -> &'static [Column] {
    match show {
        Show::Help => HELP_COLUMNS,
        Show::Pools => pools::POOLS,
        Show::NodePools => pools::NODE_POOLS,
        Show::Clients | Show::Servers | Show::Sockets => sockets::SOCKETS,
        Show::Stats => stats::STATS,
        Show::StatsTotals => stats::TOTALS,
        Show::StatsAverages => stats::AVERAGES,
        Show::Totals => stats::SUMS,
        Show::Databases => databases::DATABASES,
        Show::Users => databases::USERS,
        Show::Lists => LISTS,
        Show::Config => settings::CONFIG,
        Show::Mem => MEM,
        Show::Fds => FDS,
        Show::Peers => PEERS,
        Show::PeerPools => PEER_POOLS,
        Show::DnsHosts => DNS_HOSTS,
        Show::DnsZones => DNS_ZONES,
        Show::Version => VERSION,
        Show::Topology => herd::TOPOLOGY,
        Show::State => STATE,
        Show::Parameter(name, _) => parameter(name),
    }
}

/// A table of what was seen.
pub(super) fn table(show: Show, view: View) -> Table {
    let columns = columns(show);
    match show {
        Show::Help => Table::new(columns, HELP.map(|line| vec![line.into()])),
        Show::Version => {
            let version = concat!("Herdsman ", env!("CARGO_PKG_VERSION"));
            Table::new(columns, [vec![version.into()]])
        }
        Show::Parameter(_, value) => Table::new(columns, [vec![value.into()]]),
        Show::Clients => sockets::clients(view),
        Show::Servers => sockets::servers(view),
        Show::Sockets => {
            let (clients, servers) = (sockets::clients(view.clone()), sockets::servers(view));
            Table::new(columns, clients.rows.chain(servers.rows))
        }
        Show::Pools => Table::new(columns, pools::pools(&view)),
        Show::NodePools => Table::new(columns, pools::node_pools(view)),
        Show::Stats => Table::new(columns, stats::stats(&view)),
        Show::StatsTotals => Table::new(columns, stats::totals(&view)),
        Show::StatsAverages => Table::new(columns, stats::averages(&view)),
        Show::Totals => Table::new(columns, stats::sums(&view)),
        Show::Databases => Table::new(columns, databases::databases(&view)),
        Show::Users => Table::new(columns, databases::users(&view)),
        Show::Lists => Table::new(columns, lists(&view)),
        Show::Config => Table::new(columns, settings::config(&view.config)),
        Show::Mem => Table::new(columns, memory(&view)),
        Show::Fds | Show::Peers | Show::PeerPools | Show::DnsHosts | Show::DnsZones => {
            Table::new(columns, Vec::new())
        }
        Show::Topology => Table::new(columns, herd::topology(&view)),
        Show::State => Table::new(columns, herd::state(&view)),
    }
}

/// One column, named as the parameter.
fn parameter(name: &str) -> &'static [Column] {
    match name {
        "client_encoding" => header![t "client_encoding"],
        "datestyle" => header![t "DateStyle"],
        "timezone" => header![t "TimeZone"],
        "standard_conforming_strings" => header![t "standard_conforming_strings"],
        "transaction_read_only" => header![t "transaction_read_only"],
        "default_transaction_read_only" => header![t "default_transaction_read_only"],
        "transaction_isolation" => header![t "transaction_isolation"],
        "in_hot_standby" => header![t "in_hot_standby"],
        "search_path" => header![t "search_path"],
        _ => header![t "server_version"],
    }
}

fn lists(view: &View) -> Vec<Row> {
    let logging_in = view.clients.iter().filter(|client| client.is_logging_in()).count();
    let idle: u64 = view.pools.iter().map(|pool| pool.servers.idle).sum();
    let open: u64 = view.pools.iter().map(|pool| pool.open()).sum();
    let rows: [(&str, Cell); 14] = [
        ("databases", databases::databases(view).len().into()),
        ("users", databases::users(view).len().into()),
        ("peers", Cell::Int(0)),
        ("pools", pools::pools(view).len().into()),
        ("peer_pools", Cell::Int(0)),
        ("free_clients", view.config.max_clients.saturating_sub(view.clients.len()).into()),
        ("used_clients", view.clients.len().into()),
        ("login_clients", logging_in.into()),
        ("free_servers", idle.into()),
        ("used_servers", open.saturating_sub(idle).into()),
        // Names are looked up by the system.
        ("dns_names", Cell::Int(0)),
        ("dns_zones", Cell::Int(0)),
        ("dns_queries", Cell::Int(0)),
        ("dns_pending", Cell::Int(0)),
    ];
    rows.into_iter().map(|(list, items)| vec![list.into(), items]).collect()
}

fn memory(view: &View) -> Vec<Row> {
    let row = |name: &'static str, size: usize, used: usize| {
        let total = size.saturating_mul(used);
        vec![name.into(), size.into(), used.into(), Cell::Int(0), total.into()]
    };
    let mut rows = vec![row("client_card", size_of::<crate::client::Card>(), view.clients.len())];
    if let Some(resident) = resident() {
        rows.push(row("process", 1, resident));
    }
    rows
}

/// Bytes of memory the process has, where the system tells.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// A time as PgBouncer writes it.
fn time(time: std::time::SystemTime) -> Cell {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.replace('T', " ").replace('Z', " UTC").into()
}

#[cfg(test)]
mod tests;
