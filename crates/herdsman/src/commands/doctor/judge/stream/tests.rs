use herdsman_node::{ConnectErrorKind, NodeName};

use super::*;
use crate::commands::doctor::evidence::Unreached;
use crate::commands::doctor::finding::Severity;
use crate::commands::doctor::judge::tests::{diagnosed, name, says};

fn found(level: Level, subject: &str, fix: &str) -> diagnose::Finding {
    let fix = (!fix.is_empty()).then(|| fix.to_owned());
    diagnose::Finding { level, subject: subject.to_owned(), says: "so it is".to_owned(), fix }
}

fn judged(node: NodeName, findings: Vec<diagnose::Finding>) -> Vec<Finding> {
    let stream = Some(diagnosed(node, findings));
    super::findings(&StreamConfig::default(), &Evidence { stream, ..Evidence::default() })
}

#[test]
fn a_diagnosis_keeps_its_words_and_gets_codes() {
    let check = |level, subject: &str, fix, severity, code| {
        let found = judged(name("n1"), vec![found(level, subject, fix)]);
        says(&found, &format!("stream: {subject}"), severity, code, &["so it is", fix]);
        assert_eq!(found[0].node, Some(name("n1")));
    };
    use Severity::{Error, Info, Ok, Warning};
    check(Level::Ok, "wal_level", "", Ok, Code::WalLevel);
    check(Level::Fail, "role", "run `ALTER ROLE x REPLICATION`", Error, Code::StreamRights);
    check(Level::Fail, "table public.t", "give it a key", Error, Code::NoIdentity);
    check(Level::Warn, "failover", "upgrade", Warning, Code::StreamSettings);
    check(Level::Warn, "slot", "nothing: it is made", Info, Code::StreamSlot);
    check(Level::Fail, "slots", "raise it", Error, Code::Slots);
    check(Level::Fail, "something new", "do it", Error, Code::StreamSettings);
}

#[test]
fn a_node_that_lets_nobody_in_is_told_once() {
    let refused = || vec![found(Level::Fail, "connection", "")];
    let told = judged(name("n1"), refused());
    says(&told, "stream: connection", Severity::Error, Code::StreamRights, &[]);
    let unreached = Unreached {
        kind: Some(ConnectErrorKind::Refused),
        endpoint: String::new(),
        problem: String::new(),
    };
    let evidence = Evidence {
        nodes: [(name("n1"), Seen::Out(unreached))].into(),
        stream: Some(diagnosed(name("n1"), refused())),
        ..Evidence::default()
    };
    assert_eq!(findings(&StreamConfig::default(), &evidence), []);
}

#[test]
fn a_stream_without_a_node_says_why() {
    let stream = Some(StreamSeen::NoNode("no primary".to_owned()));
    let evidence = Evidence { stream, ..Evidence::default() };
    let found = findings(&StreamConfig::default(), &evidence);
    says(&found, "stream", Severity::Error, Code::StreamNode, &["no primary", "stream.node"]);
}

#[test]
fn tables_that_cannot_be_copied_matter_by_whether_they_will_be() {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let unreadable = Unreadable { schemas: names(&["\"s\""]), tables: names(&["\"s\".\"t\""]) };
    let check = |config: StreamConfig, severity| {
        let found: Vec<_> = rights(&config, "cdc", &unreadable).into_iter().collect();
        let grants =
            "`GRANT USAGE ON SCHEMA \"s\" TO \"cdc\"` and `GRANT SELECT ON \"s\".\"t\" TO \"cdc\"`";
        says(&found, "stream: tables", severity, Code::StreamRights, &[grants]);
    };
    let config = StreamConfig::default;
    check(config(), Severity::Info);
    check(StreamConfig { on_lost_slot: LostSlot::Resnapshot, ..config() }, Severity::Warning);
    check(StreamConfig { snapshot: SnapshotMode::Initial, ..config() }, Severity::Error);
    assert_eq!(rights(&config(), "cdc", &Unreadable::default()), None);
}
