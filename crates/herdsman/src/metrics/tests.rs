use herdsman_api::Metrics as _;
use herdsman_gateway::{GatewayStatistics, PoolStatistics};
use herdsman_mesh::status::{LinkStatus, TargetStatus};
use herdsman_node::{Lsn, NodeName, Role, Timeline};
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

#[track_caller]
fn holds(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "`{line}` is not in:\n{text}");
    }
}

#[test]
fn the_herd_is_told_by_node_and_what_is_not_known_is_left_out() {
    let text = Metrics::default().text(&herd(), Moment::from_millis(2000));
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
    let text = metrics.text(&Topology::default(), Moment::default());
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
    let text = metrics.text(&Topology::default(), Moment::default());
    assert!(!text.contains("herdsman_mesh"), "a mesh that is gone is not told of: {text}");
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
