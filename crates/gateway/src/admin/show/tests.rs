//! Columns as PgBouncer 1.25 has them, and rows that fit them.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::admin::reply::Kind;
use crate::admin::view::{NodeSeat, PoolView, ServerView};
use crate::config::{DatabaseConfig, GatewayConfig, PoolMode};
use crate::stats::{PoolStats, ServerCounts, Stretch, Totals};

/// Every table with its columns, in order.
const COLUMNS: [(Show, &str); 18] = [
    (
        Show::Pools,
        "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel \
         sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode load_balance_hosts",
    ),
    (
        Show::Clients,
        "type user database replication state addr port local_addr local_port connect_time request_time wait wait_us \
         close_needed ptr link remote_pid tls application_name prepared_statements id",
    ),
    (
        Show::Servers,
        "type user database replication state addr port local_addr local_port connect_time request_time wait wait_us \
         close_needed ptr link remote_pid tls application_name prepared_statements id",
    ),
    (
        Show::Stats,
        "database total_server_assignment_count total_xact_count total_query_count total_received total_sent \
         total_xact_time total_query_time total_wait_time total_client_parse_count total_server_parse_count \
         total_bind_count avg_server_assignment_count avg_xact_count avg_query_count avg_recv avg_sent avg_xact_time \
         avg_query_time avg_wait_time avg_client_parse_count avg_server_parse_count avg_bind_count",
    ),
    (
        Show::StatsTotals,
        "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time \
         wait_time client_parse_count server_parse_count bind_count",
    ),
    (
        Show::StatsAverages,
        "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time \
         wait_time avg_client_parse_count avg_server_parse_count avg_bind_count",
    ),
    (
        Show::Databases,
        "name host port database force_user pool_size min_pool_size reserve_pool_size server_lifetime pool_mode \
         load_balance_hosts max_connections current_connections max_client_connections current_client_connections \
         paused disabled",
    ),
    (
        Show::Users,
        "name pool_size reserve_pool_size pool_mode max_user_connections current_connections \
         max_user_client_connections current_client_connections",
    ),
    (Show::Lists, "list items"),
    (Show::Config, "key value default changeable"),
    (Show::Mem, "name size used free memtotal"),
    (
        Show::Fds,
        "fd task user database addr port cancel link client_encoding std_strings datestyle timezone password \
         scram_client_key scram_server_key",
    ),
    (Show::Peers, "peer_id host port pool_size"),
    (
        Show::PeerPools,
        "peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login",
    ),
    (Show::DnsHosts, "hostname ttl addrs"),
    (Show::DnsZones, "zonename serial count"),
    (Show::State, "key value"),
    (Show::Topology, "node host port role readable lag_bytes lag_seconds lsn timeline epoch why"),
];

fn view() -> View {
    let mut config = GatewayConfig::default();
    let renamed = DatabaseConfig { dbname: Some("shop_eu".to_owned()), ..Default::default() };
    config.databases.insert("shop".to_owned(), renamed);
    let user = config.users.entry("ann".to_owned()).or_default();
    user.password = Some("never shown".to_owned().into());
    let node = |name: &str, port| NodeSeat {
        name: name.into(),
        host: format!("{name}.example").into(),
        port,
        epoch: 7,
    };
    let pool = |node: &str, transactions| {
        let stats = PoolStats::default();
        stats.transaction.record(1000);
        let totals = Totals { transactions, sent: 100, ..Totals::default() };
        PoolView {
            database: "shop".into(),
            user: "ann".into(),
            node: node.into(),
            mode: PoolMode::Session,
            servers: ServerCounts { active: 2, idle: 1, ..ServerCounts::default() },
            totals,
            recent: Stretch::between(Totals::default(), totals, 10_000),
            wait: stats.wait.snapshot(),
            transaction: stats.transaction.snapshot(),
        }
    };
    let server = ServerView {
        id: 5,
        database: "shop".into(),
        user: "ann".into(),
        address: None,
        port: 5432,
        node: "n1".into(),
        state: "active",
        process: Some(4711),
        since: Some(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(86_400)),
        client: Some(12),
        close_needed: true,
    };
    View {
        config: Arc::new(config),
        clients: Vec::new(),
        pools: vec![pool("n1", 30), pool("n2", 70)],
        servers: vec![server],
        nodes: vec![node("n1", 5432), node("n2", 5433)],
        topology: Arc::default(),
        paused: vec!["shop".into()],
        disabled: Vec::new(),
        held: None,
        suspended: false,
        now: 0,
    }
}

fn rows(show: Show) -> Vec<Row> {
    table(show, view()).rows.collect()
}

/// The row whose first column is this, as texts by column.
fn row(show: Show, first: &str) -> impl Fn(&str) -> String + use<> {
    let columns = columns(show);
    let rows = rows(show);
    let row = rows.into_iter().find(|row| row[0].to_string() == first).expect("the row");
    move |name| {
        let place = columns.iter().position(|column| column.name == name);
        row[place.unwrap_or_else(|| panic!("no column {name}"))].to_string()
    }
}

#[test]
fn columns_are_those_of_pgbouncer_in_its_order() {
    for (show, expected) in COLUMNS {
        let names: Vec<&str> = columns(show).iter().map(|column| column.name).collect();
        assert_eq!(names.join(" "), expected, "{show:?}");
    }
}

#[test]
fn every_row_fits_its_columns() {
    let parameter = Show::Parameter("datestyle", "ISO, MDY");
    let others =
        [Show::Help, Show::Version, Show::Sockets, Show::NodePools, Show::Totals, parameter];
    for show in COLUMNS.iter().map(|(show, _)| *show).chain(others) {
        let Table { columns, rows } = table(show, view());
        for row in rows {
            let kinds: Vec<Kind> = columns.iter().map(|column| column.kind).collect();
            assert_eq!(row.len(), kinds.len(), "{show:?}: {row:?}");
            for (cell, column) in row.iter().zip(columns) {
                assert!(cell.is(column.kind), "{show:?}: {} is {cell:?}", column.name);
            }
        }
    }
}

#[test]
fn pools_of_all_nodes_are_one_row_and_averages_add_up() {
    let pools = rows(Show::Pools);
    assert_eq!(pools.len(), 1);
    let pool = row(Show::Pools, "shop");
    let seen = ["sv_active", "sv_idle", "cl_active", "pool_mode"].map(&pool);
    assert_eq!(seen, ["4", "2", "0", "session"]);
    let stats = row(Show::Stats, "shop");
    assert_eq!(
        ["total_xact_count", "avg_xact_count", "total_sent"].map(&stats),
        ["100", "10", "200"]
    );
    assert_eq!(row(Show::Totals, "total_server_bytes")("value"), "200");
    assert_eq!(row(Show::Totals, "avg_xact_count")("value"), "10");
    assert_eq!(rows(Show::NodePools).len(), 2);
    assert_eq!(row(Show::NodePools, "shop")("xact_p50"), "1023");
}

#[test]
fn a_database_shows_what_it_is_on_the_servers() {
    let shop = row(Show::Databases, "shop");
    let seen =
        ["database", "host", "port", "pool_size", "current_connections", "paused", "disabled"];
    let expected = ["shop_eu", "n1.example,n2.example", "5432", "20", "6", "1", "0"];
    assert_eq!(seen.map(&shop), expected);
    assert_eq!(row(Show::Users, "ann")("current_connections"), "6");
    assert_eq!(row(Show::Lists, "used_servers")("items"), "4");
}

#[test]
fn a_server_names_its_client_as_the_client_names_itself() {
    let server = row(Show::Servers, "S");
    let seen = ["ptr", "link", "remote_pid", "close_needed", "connect_time", "application_name"];
    let expected = ["s5", "c12", "4711", "1", "1970-01-02 00:00:00 UTC", "n1"];
    assert_eq!(seen.map(&server), expected);
}

#[test]
fn without_a_primary_every_node_says_why() {
    let node = row(Show::Topology, "n2");
    assert_eq!(["role", "readable", "epoch"].map(&node), ["unavailable", "no", "7"]);
    assert_eq!(node("why"), "is not configured any more; no primary: no node has answered yet");
    let state = |key: &str| row(Show::State, key)("value");
    assert_eq!([state("active"), state("paused"), state("held")], ["yes", "no", "no"]);
}

#[test]
fn no_table_shows_a_password() {
    for (show, _) in COLUMNS {
        let shown: String = rows(show).iter().flatten().map(|cell| format!("{cell}\n")).collect();
        assert!(!shown.contains("never shown"), "{show:?}: {shown}");
    }
    assert_eq!(row(Show::Config, "pool.size")("default"), "20");
    assert_eq!(row(Show::Config, "listen")("changeable"), "no");
}
