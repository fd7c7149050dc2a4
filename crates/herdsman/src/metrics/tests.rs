use herdsman_api::Metrics as _;
use herdsman_gateway::{GatewayStatistics, PoolStatistics};
use herdsman_mesh::status::{LinkStatus, TargetStatus};
use herdsman_node::{Lsn, NodeName, Role, Timeline};
use herdsman_stream::Position;
use herdsman_stream::engine::{Latency, SinkStats, SlotStats, StatsSnapshot};
use herdsman_stream::service::Phase;
use herdsman_wal::slot::WalStatus;
use herdsman_watch::{Lag, NodeView, Proof, Verdict};

use super::*;

fn written(part: impl Collector) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(part));
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    text
}

fn herd() -> Topology {
    let name = |text: &str| NodeName::new(text).unwrap();
    let primary = NodeView {
        role: Role::Primary,
        readable: true,
        timeline: Some(Timeline(3)),
        lsn: Some(Lsn(5000)),
        evidence_at: Some(Moment::from_millis(1000)),
        ..NodeView::default()
    };
    let standby = NodeView {
        role: Role::Standby,
        lag: Some(Lag { bytes: 100, seconds: 0.5 }),
        latency_seconds: Some(0.25),
        evidence_at: Some(Moment::from_millis(500)),
        ..NodeView::default()
    };
    let away = NodeView { error: Some("refused: \"x\"".to_owned()), ..NodeView::default() };
    Topology {
        term: 2,
        verdict: Verdict::Primary {
            node: name("n1"),
            timeline: Timeline(3),
            proof: Proof::Attested,
            reason: "attested".to_owned(),
        },
        nodes: [(name("n1"), primary), (name("n2"), standby), (name("n3"), away)].into(),
        ..Topology::default()
    }
}

/// Everything has words of help, and what is counted in a unit names it.
#[track_caller]
fn explains_itself(text: &str) {
    let of = |kind: &str| -> Vec<String> {
        let start = format!("# {kind} ");
        let lines = text.lines().filter_map(|line| line.strip_prefix(start.as_str()));
        lines.filter_map(|rest| rest.split(' ').next()).map(str::to_owned).collect()
    };
    let (types, helps, units) = (of("TYPE"), of("HELP"), of("UNIT"));
    assert!(!types.is_empty());
    for name in &types {
        assert!(helps.contains(name), "{name} has no HELP");
        let unit = ["seconds", "bytes"].iter().find(|unit| name.ends_with(&format!("_{unit}")));
        assert!(unit.is_none() || units.contains(name), "{name} has no UNIT");
    }
}

#[track_caller]
fn holds(text: &str, lines: &[&str]) {
    explains_itself(text);
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "`{line}` is not in:\n{text}");
    }
}

#[test]
fn the_herd_is_told_by_node_and_what_is_not_known_is_left_out() {
    let text = Metrics::default().text(
        &herd(),
        Moment::from_millis(2000),
        &ApiStatistics { answers: [0, 4, 0, 1, 2], connections: 3, agent_checks: 5 },
    );
    holds(
        &text,
        &[
            "# TYPE pg_replication_lag_seconds gauge",
            "# UNIT pg_replication_lag_seconds seconds",
            "herdsman_verdict{state=\"primary\"} 1",
            "herdsman_verdict{state=\"split_brain\"} 0",
            "herdsman_primary_changes_total{} 2",
            "herdsman_node_role{node=\"n2\",role=\"standby\"} 1",
            "herdsman_node_role{node=\"n2\",role=\"primary\"} 0",
            "herdsman_node_primary{node=\"n1\"} 1",
            "pg_up{node=\"n2\"} 1",
            "pg_up{node=\"n3\"} 0",
            "pg_replication_is_replica{node=\"n1\"} 0",
            "pg_replication_lag_seconds{node=\"n2\"} 0.5",
            "pg_replication_lag_bytes{node=\"n2\"} 100",
            "herdsman_node_log_position_bytes_total{node=\"n1\"} 5000",
            "herdsman_node_evidence_age_seconds{node=\"n2\"} 1.5",
            "herdsman_node_latency_seconds{node=\"n2\"} 0.25",
            "herdsman_api_requests_total{code=\"2xx\"} 4",
            "herdsman_api_requests_total{code=\"5xx\"} 2",
            "herdsman_api_connections{} 3",
            "herdsman_api_agent_checks_total{} 5",
            "# EOF",
        ],
    );
    for absent in
        ["pg_replication_lag_bytes{node=\"n1\"}", "pg_replication_is_replica{node=\"n3\"}"]
    {
        assert!(!text.contains(absent), "{absent}");
    }
    assert!(!text.contains("refused"), "no text of servers");
}

#[test]
fn the_mesh_is_told_by_link() {
    let link = LinkStatus {
        state: "streaming".to_owned(),
        lag_bytes: 7,
        lag_seconds: 0.25,
        rows: 12,
        transactions: 3,
        ..LinkStatus::default()
    };
    let target = TargetStatus {
        state: "working".to_owned(),
        links: [("n1".to_owned(), link)].into(),
        conflicts: 4,
        ..TargetStatus::default()
    };
    let status = Status { problem: None, targets: [("n2".to_owned(), target)].into() };
    let metrics = Metrics::default();
    metrics.offer_mesh(Some(watch::channel(Arc::new(status)).1));
    let text = metrics.text(&Topology::default(), Moment::default(), &ApiStatistics::default());
    holds(
        &text,
        &[
            "herdsman_mesh_target_working{node=\"n2\"} 1",
            "herdsman_mesh_conflicts_total{node=\"n2\"} 4",
            "herdsman_mesh_link_streaming{source=\"n1\",target=\"n2\"} 1",
            "herdsman_mesh_link_lag_bytes{source=\"n1\",target=\"n2\"} 7",
            "herdsman_mesh_link_lag_seconds{source=\"n1\",target=\"n2\"} 0.25",
            "herdsman_mesh_link_rows_total{source=\"n1\",target=\"n2\"} 12",
            "herdsman_mesh_link_transactions_total{source=\"n1\",target=\"n2\"} 3",
        ],
    );
    metrics.offer_mesh(None);
    let text = metrics.text(&Topology::default(), Moment::default(), &ApiStatistics::default());
    assert!(!text.contains("herdsman_mesh"), "a mesh that is gone is not told of: {text}");
}

#[test]
fn the_ledger_is_told_by_node() {
    use herdsman_ledger::requests::RequestTally;

    let tally = herdsman_ledger::engine::Tally { committed: 8, conflict: 2, ..Default::default() };
    let node = LedgerNode {
        name: "lite".to_owned(),
        engine: herdsman_ledger::node::Engine::Sqlite,
        applied: 10,
        following: true,
        fenced: false,
        behind: 0.5,
        tally,
    };
    let requests = Some(RequestTally { done: 5, failed: 1, unreadable: 0 });
    let text = written(Ledger(LedgerNumbers { end: Some(14), nodes: vec![node], requests }));
    let labels = "{node=\"lite\",engine=\"sqlite\"}";
    holds(
        &text,
        &[
            "herdsman_ledger_end_entry{} 14",
            &format!("herdsman_ledger_node_applied_entry{labels} 10"),
            &format!("herdsman_ledger_node_lag_entries{labels} 3"),
            &format!("herdsman_ledger_node_lag_seconds{labels} 0.5"),
            &format!("herdsman_ledger_node_following{labels} 1"),
            &format!("herdsman_ledger_node_fenced{labels} 0"),
            "herdsman_ledger_transactions_total{node=\"lite\",outcome=\"committed\"} 8",
            "herdsman_ledger_transactions_total{node=\"lite\",outcome=\"conflict\"} 2",
            "herdsman_ledger_requests_total{outcome=\"done\"} 5",
            "herdsman_ledger_requests_total{outcome=\"unreadable\"} 0",
        ],
    );
}

#[test]
fn the_gateway_is_told_by_pool() {
    let mut pool = PoolStatistics::default();
    pool.database = "app \"x\"".to_owned();
    pool.user = "u".to_owned();
    pool.node = "n1".to_owned();
    pool.servers.active = 3;
    pool.totals.queries = 11;
    pool.totals.wait_time = 1_500_000;
    let mut statistics = GatewayStatistics::default();
    statistics.clients.waiting = 2;
    statistics.pools = vec![pool];
    let text = written(Gateway(statistics));
    let labels = "{database=\"app \\\"x\\\"\",user=\"u\",node=\"n1\"}";
    holds(
        &text,
        &[
            "herdsman_gateway_clients{state=\"waiting\"} 2",
            &format!("pgbouncer_pools_server_active_connections{labels} 3"),
            &format!("pgbouncer_stats_queries_pooled_total{labels} 11"),
            &format!("pgbouncer_stats_client_wait_seconds_total{labels} 1.5"),
            &format!("herdsman_gateway_wait_seconds_count{labels} 0"),
        ],
    );
}

#[test]
fn the_stream_is_told_by_slot_and_sink() {
    let sink = SinkStats {
        name: "lines".to_owned(),
        open: true,
        delivered: 9,
        batches: 4,
        failed: 3,
        unavailable: 1,
        retries: 2,
        dead_letters: 1,
        waiting_changes: 5,
        waiting_bytes: 500,
        under_way: 1,
        position: Some(Position { commit_lsn: Lsn(4000), changes: 2 }),
        latency: Latency {
            count: 4,
            sum_micros: 2_500_000,
            last_micros: 1,
            buckets: vec![(10, 1), (1000, 3)],
        },
        last_error: Some("secret text of a server".to_owned()),
        last_error_at: Some(7),
    };
    let numbers = StatsSnapshot {
        received: 12,
        left_out: 2,
        transactions: 3,
        wal_end: Lsn(5000).to_string(),
        safe: Lsn(4096).to_string(),
        acknowledged: Lsn(4000).to_string(),
        lag_bytes: 904,
        lag_seconds: 1.5,
        reconnects: 6,
        slot: Some(SlotStats {
            retained_bytes: 8192,
            safe_bytes: None,
            wal_status: Some(WalStatus::Extended),
            active: true,
        }),
        paused: false,
        sinks: vec![sink],
    };
    let node = NodeName::new("n1").unwrap();
    let phase = Phase::Streaming { node, timeline: 1 };
    let text = written(Stream { slot: "s".to_owned(), phase, numbers });
    holds(
        &text,
        &[
            "# TYPE herdsman_stream_lag_seconds gauge",
            "# UNIT herdsman_stream_lag_seconds seconds",
            "herdsman_stream_phase{slot=\"s\",phase=\"streaming\"} 1",
            "herdsman_stream_phase{slot=\"s\",phase=\"waiting\"} 0",
            "herdsman_stream_source{slot=\"s\",node=\"n1\"} 1",
            "herdsman_stream_paused{slot=\"s\"} 0",
            "herdsman_stream_reconnects_total{slot=\"s\"} 6",
            "herdsman_stream_lag_bytes{slot=\"s\"} 904",
            "herdsman_stream_lag_seconds{slot=\"s\"} 1.5",
            "herdsman_stream_rows_total{slot=\"s\"} 10",
            "herdsman_stream_rows_left_out_total{slot=\"s\"} 2",
            "herdsman_stream_transactions_total{slot=\"s\"} 3",
            "herdsman_stream_position_bytes_total{slot=\"s\",place=\"log_end\"} 5000",
            "herdsman_stream_position_bytes_total{slot=\"s\",place=\"delivered\"} 4096",
            "herdsman_stream_slot_retained_bytes{slot=\"s\"} 8192",
            "pg_replication_slot_slot_is_active{slot_name=\"s\",slot_type=\"logical\"} 1",
            "pg_replication_slot_wal_status{slot_name=\"s\",slot_type=\"logical\",wal_status=\"extended\"} 1",
            "pg_replication_slot_wal_status{slot_name=\"s\",slot_type=\"logical\",wal_status=\"lost\"} 0",
            "herdsman_stream_sink_open{slot=\"s\",sink=\"lines\"} 1",
            "herdsman_stream_sink_rows_total{slot=\"s\",sink=\"lines\"} 9",
            "herdsman_stream_sink_position_bytes_total{slot=\"s\",sink=\"lines\"} 4000",
            "herdsman_stream_sink_retries_total{slot=\"s\",sink=\"lines\"} 2",
            "herdsman_stream_sink_dead_letters_total{slot=\"s\",sink=\"lines\"} 1",
            "herdsman_stream_sink_waiting_bytes{slot=\"s\",sink=\"lines\"} 500",
            "herdsman_stream_sink_delivery_seconds_sum{slot=\"s\",sink=\"lines\"} 2.5",
            "herdsman_stream_sink_delivery_seconds_bucket{le=\"0.01\",slot=\"s\",sink=\"lines\"} 1",
            "herdsman_stream_sink_delivery_seconds_bucket{le=\"1.0\",slot=\"s\",sink=\"lines\"} 3",
            "herdsman_stream_sink_delivery_seconds_bucket{le=\"+Inf\",slot=\"s\",sink=\"lines\"} 4",
        ],
    );
    for absent in ["safe_wal_size", "secret"] {
        assert!(!text.contains(absent), "{absent}");
    }
}
