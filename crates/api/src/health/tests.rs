//! What is asked, of which herd, and the status that tells a balancer.

use herdsman_node::{Lsn, SystemId, Timeline};
use herdsman_watch::{Lag, Moment, Proof, Topology};
use hyper::{Method, Uri};

use super::*;
use crate::{Bodies, Groups, router};

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn node(role: Role, lag: u64) -> NodeView {
    let standby = role == Role::Standby;
    NodeView {
        role,
        readable: role != Role::Unavailable,
        follows: standby.then(|| name("n1")),
        lag: standby.then_some(Lag { bytes: lag, seconds: 0.0 }),
        lsn: Some(Lsn(50_000_000 - lag)),
        timeline: Some(Timeline(3)),
        server_version: Some(180_000),
        evidence_at: Some(Moment::default()),
        ..NodeView::default()
    }
}

/// A primary `n1`, standbys `n2` (close), `n3` (10 MiB behind), `n4` (may not be read), and `n5`, which is away.
fn herd() -> Topology {
    let verdict = Verdict::Primary {
        node: name("n1"),
        timeline: Timeline(3),
        proof: Proof::Attested,
        reason: "attested".to_owned(),
    };
    let mut n4 = node(Role::Standby, 0);
    n4.readable = false;
    n4.reasons = vec!["it comes and goes".to_owned()];
    let away = NodeView { error: Some("connection refused".to_owned()), ..NodeView::default() };
    Topology {
        verdict,
        system_id: Some(SystemId(7)),
        nodes: [
            (name("n1"), node(Role::Primary, 0)),
            (name("n2"), node(Role::Standby, 100)),
            (name("n3"), node(Role::Standby, 10 << 20)),
            (name("n4"), n4),
            (name("n5"), away),
        ]
        .into(),
        ..Topology::default()
    }
}

fn ask_at(topology: &Topology, about: Option<&str>, method: &Method, target: &str) -> Reply {
    let (groups, about) = (Groups::new(), about.map(name));
    let view = View {
        topology,
        groups: &groups,
        bodies: Bodies::Readme,
        writes: false,
        live: false,
        mesh: None,
        metrics: None,
        hooks: None,
        about: about.as_ref(),
        counted: crate::ApiStatistics::default(),
        now: Moment::default(),
    };
    router::answer(method, &target.parse::<Uri>().unwrap(), &view)
}

#[track_caller]
fn statuses(topology: &Topology, node: &str, expected: &[(&str, u16)]) {
    for (path, status) in expected {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            let got = ask_at(topology, Some(node), &method, path);
            assert_eq!(got.status.as_u16(), *status, "{method} {path} of {node}: {}", got.body);
        }
        let separator = if path.contains('?') { '&' } else { '?' };
        let named = format!("{path}{separator}node={node}");
        if *path != "/" {
            let got = ask_at(topology, None, &Method::GET, &named);
            assert_eq!(got.status.as_u16(), *status, "{named}");
        }
    }
}

#[test]
fn the_primary_is_the_leader_and_no_replica() {
    statuses(
        &herd(),
        "n1",
        &[
            ("/", 200),
            ("/primary", 200),
            ("/leader", 200),
            ("/master", 200),
            ("/read-write", 200),
            ("/read-only", 200),
            ("/replica", 503),
            ("/standby-leader", 503),
            ("/health", 200),
            ("/liveness", 200),
            ("/readiness?lag=0", 200),
        ],
    );
}

#[test]
fn a_standby_is_a_replica_as_long_as_it_is_within_the_lag_that_is_asked_for() {
    let common = [
        ("/", 503),
        ("/primary", 503),
        ("/leader", 503),
        ("/read-write", 503),
        ("/health", 200),
        ("/liveness", 200),
        ("/replica", 200),
        ("/read-only", 200),
        ("/replica?replication_state=streaming", 200),
        ("/replica?replication_state=in+archive+recovery", 503),
        ("/replica?tag_region=north", 503),
    ];
    statuses(&herd(), "n2", &common);
    statuses(&herd(), "n3", &common);
    for (lag, close, late) in [
        ("99", 503, 503),
        ("100", 200, 503),
        ("16kB", 200, 503),
        ("9MB", 200, 503),
        ("10MB", 200, 200),
    ] {
        for path in ["/replica", "/read-only", "/readiness"] {
            let target = format!("{path}?lag={lag}");
            statuses(&herd(), "n2", &[(target.as_str(), close)]);
            statuses(&herd(), "n3", &[(target.as_str(), late)]);
        }
    }
}

#[test]
fn who_may_not_be_read_is_healthy_and_nothing_else_and_who_is_away_is_nothing() {
    let expected =
        [("/replica", 503), ("/read-only", 503), ("/readiness", 503), ("/liveness", 200)];
    statuses(&herd(), "n4", &expected);
    statuses(&herd(), "n4", &[("/health", 200)]);
    statuses(&herd(), "n5", &expected);
    statuses(&herd(), "n5", &[("/health", 503)]);
}

#[test]
fn while_two_claim_the_role_neither_is_the_primary_and_standbys_are_read() {
    let mut herd = herd();
    let claimants = vec![name("n1"), name("n2")];
    herd.verdict = Verdict::SplitBrain { claimants, reason: "no proof".to_owned() };
    herd.nodes.insert(name("n2"), node(Role::Primary, 0));
    for claimant in ["n1", "n2"] {
        let expected = [("/primary", 503), ("/read-only", 503), ("/readiness", 503)];
        statuses(&herd, claimant, &expected);
    }
    statuses(&herd, "n3", &[("/replica", 200)]);
    let none = ask_at(&herd, None, &Method::GET, "/primary");
    assert_eq!(none.status.as_u16(), 503);
    assert!(none.body.contains("split brain: no proof"), "{}", none.body);
}

#[test]
fn asked_about_no_node_it_is_about_the_herd() {
    let mut herd = herd();
    for (path, status) in [("/primary", 200), ("/replica?lag=1kB", 200), ("/replica?lag=99", 503)] {
        let got = ask_at(&herd, None, &Method::GET, path);
        assert_eq!(got.status.as_u16(), status, "{path}");
    }
    assert_eq!(ask_at(&herd, None, &Method::OPTIONS, "/").status.as_u16(), 200);
    assert_eq!(ask_at(&herd, None, &Method::GET, "/").status.as_u16(), 404, "the front page");
    assert_eq!(ask_at(&herd, None, &Method::GET, "/readiness").status.as_u16(), 200);
    herd = Topology::default();
    for (path, status) in [("/readiness", 503), ("/livez", 200), ("/health", 503)] {
        let got = ask_at(&herd, None, &Method::GET, path);
        assert_eq!(got.status.as_u16(), status, "{path}");
    }
}

#[test]
fn what_cannot_be_asked_is_refused_and_not_answered_no() {
    for (target, code) in [
        ("/replica?lag=much", "bad_size"),
        ("/replica?lag=99999999999TB", "bad_size"),
        ("/replica?lag=10mb", "bad_size"),
        ("/replica?lag=1&lag=2", "bad_query"),
        ("/replica?node=n9", "unknown_node"),
        ("/replicas", "unknown_path"),
    ] {
        let got = ask_at(&herd(), None, &Method::GET, target);
        assert!(got.status.is_client_error(), "{target}: {}", got.status);
        assert!(got.body.contains(code), "{target}: {}", got.body);
    }
    let put = ask_at(&herd(), None, &Method::PUT, "/primary");
    assert_eq!(put.status.as_u16(), 405);
    let options = ask_at(&herd(), None, &Method::OPTIONS, "/v2/topology");
    assert_eq!(options.status.as_u16(), 405);
}

#[test]
fn the_bodies_are_in_the_words_of_patroni() {
    let ask = |target: &str| {
        let got = ask_at(&herd(), None, &Method::GET, target);
        serde_json::from_str::<serde_json::Value>(&got.body).unwrap()
    };
    assert_eq!(
        ask("/replica?node=n3"),
        serde_json::json!({
            "state": "running", "role": "replica", "name": "n3", "server_version": 180_000, "timeline": 3,
            "xlog": { "replayed_location": 50_000_000 - (10 << 20) }, "replication_state": "streaming",
            "lag": 10 << 20, "reason": ""
        })
    );
    assert_eq!(ask("/primary?node=n1")["xlog"], serde_json::json!({ "location": 50_000_000 }));
    let cluster = ask("/cluster");
    assert_eq!(cluster["members"][0]["role"], "leader");
    assert_eq!(cluster["members"][1]["state"], "streaming");
    assert_eq!(cluster["members"][1]["lag"], 100);
    assert_eq!(
        cluster["members"][4],
        serde_json::json!({ "name": "n5", "role": "replica", "state": "unreachable", "lag": "unknown" })
    );
}
