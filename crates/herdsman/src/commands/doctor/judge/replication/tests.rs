use herdsman_node::Timeline;
use herdsman_watch::{Lag, Proof};

use super::*;
use crate::commands::doctor::finding::Severity;
use crate::commands::doctor::judge::tests::{config, evidence, facts, name, says};

fn topology(verdict: Verdict, n2: NodeView) -> Topology {
    Topology { verdict, nodes: [(name("n2"), n2)].into(), ..Topology::default() }
}

fn primary() -> Verdict {
    Verdict::Primary {
        node: name("n1"),
        timeline: Timeline(1),
        proof: Proof::Attested,
        reason: "all follow it".to_owned(),
    }
}

fn standby() -> ServerFacts {
    ServerFacts { in_recovery: true, receiver: Some("streaming".to_owned()), ..facts() }
}

fn following() -> NodeView {
    NodeView {
        follows: Some(name("n1")),
        lag: Some(Lag { bytes: 0, seconds: 0.0 }),
        ..NodeView::default()
    }
}

fn judged(verdict: Verdict, view: NodeView, n2: ServerFacts) -> Vec<Finding> {
    let mut evidence = evidence([("n1", facts()), ("n2", n2)]);
    evidence.topology = Some(topology(verdict, view));
    findings(&config("watch: {max_lag: {time: 30s}}\n"), &evidence)
}

#[test]
fn a_standby_that_follows_is_well() {
    let found = judged(primary(), following(), standby());
    assert!(found.iter().all(|finding| finding.severity == Severity::Ok), "{found:#?}");
    says(&found, "streaming", Severity::Ok, Code::NotStreaming, &["from n1"]);
}

#[test]
fn why_nobody_is_the_primary_comes_with_what_to_do() {
    let none = |why| Verdict::None { why, reason: "so it is".to_owned() };
    let check = |verdict, code, word| {
        let found = judged(verdict, following(), standby());
        says(&found, "primary", Severity::Error, code, &[word]);
    };
    check(none(Why::NoClaimant), Code::NoPrimary, "promote a standby");
    check(none(Why::Fenced), Code::NoPrimary, "watch.pin");
    check(none(Why::NoQuorum), Code::NoPrimary, "watch.quorum");
    let claimants = vec![name("n1"), name("n2")];
    let split = Verdict::SplitBrain { claimants, reason: "both write".to_owned() };
    check(split, Code::SplitBrain, "stop the wrong one");
    let found = judged(none(Why::Mesh), following(), standby());
    assert!(found.iter().all(|finding| finding.subject != "primary"), "{found:#?}");
}

#[test]
fn a_standby_that_does_not_keep_up_is_told() {
    let away = ServerFacts { receiver: None, ..standby() };
    let found = judged(primary(), following(), away.clone());
    says(&found, "streaming", Severity::Error, Code::NotStreaming, &["primary_conninfo"]);
    // Who may not look has seen nothing.
    let found = judged(primary(), following(), ServerFacts { monitor: false, ..away });
    assert!(found.iter().all(|finding| finding.subject != "streaming"), "{found:#?}");
    let stranger = NodeView { follows: None, ..following() };
    let found = judged(primary(), stranger, standby());
    let setting = ["watch.replication_addresses"];
    says(&found, "streaming", Severity::Warning, Code::NotStreaming, &setting);
    let found = judged(primary(), following(), ServerFacts { paused: true, ..standby() });
    says(
        &found,
        "replay",
        Severity::Warning,
        Code::ReplayPaused,
        &["`SELECT pg_wal_replay_resume()`"],
    );
}

#[test]
fn lag_is_a_warning_when_it_is_large_and_old_or_beyond_what_is_read_from() {
    let check = |bytes, seconds, severity| {
        let view = NodeView { lag: Some(Lag { bytes, seconds }), ..following() };
        let found = judged(primary(), view, standby());
        says(&found, "lag", severity, Code::Lag, &[]);
    };
    check(1 << 40, 0.2, Severity::Ok);
    check(10, 20.0, Severity::Ok);
    check(1 << 30, 20.0, Severity::Warning);
    check(10, 31.0, Severity::Warning);
}

#[test]
fn nodes_that_are_set_aside_are_told() {
    let foreign = NodeView { foreign: true, ..following() };
    let found = judged(primary(), foreign, standby());
    says(&found, "set aside", Severity::Error, Code::SetAside, &["another cluster"]);
    let fenced = NodeView { fenced: true, ..following() };
    let found = judged(primary(), fenced, facts());
    says(&found, "set aside", Severity::Error, Code::SetAside, &["rebuild it"]);
}

#[test]
fn a_setting_below_the_primarys_is_told_with_the_value_it_needs() {
    let found = judged(primary(), following(), ServerFacts { max_connections: 50, ..standby() });
    let words = ["less than the primary's 100", "`ALTER SYSTEM SET max_connections = 100`"];
    says(&found, "max_connections", Severity::Error, Code::LowerSettings, &words);
}
