use herdsman_node::{ConnectErrorKind, NodeName};
use herdsman_stream::diagnose::Report;

use super::*;
use crate::commands::doctor::evidence::Unreached;
use crate::commands::doctor::finding::Severity;
use crate::commands::doctor::judge::tests::{name, says};

fn found(level: Level, subject: &str, fix: &str) -> diagnose::Finding {
    let fix = (!fix.is_empty()).then(|| fix.to_owned());
    diagnose::Finding { level, subject: subject.to_owned(), says: "so it is".to_owned(), fix }
}

fn judged(node: NodeName, findings: Vec<diagnose::Finding>) -> Vec<Finding> {
    let report = Report { endpoint: String::new(), findings };
    let stream = Some(StreamSeen::Diagnosed(node, report));
    super::findings(&Evidence { stream, ..Evidence::default() })
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
    let report = Report { endpoint: String::new(), findings: refused() };
    let unreached = Unreached {
        kind: Some(ConnectErrorKind::Refused),
        endpoint: String::new(),
        problem: String::new(),
    };
    let evidence = Evidence {
        nodes: [(name("n1"), Seen::Out(unreached))].into(),
        stream: Some(StreamSeen::Diagnosed(name("n1"), report)),
        ..Evidence::default()
    };
    assert_eq!(findings(&evidence), []);
}

#[test]
fn a_stream_without_a_node_says_why() {
    let stream = Some(StreamSeen::NoNode("no primary".to_owned()));
    let found = findings(&Evidence { stream, ..Evidence::default() });
    says(&found, "stream", Severity::Error, Code::StreamNode, &["no primary", "stream.node"]);
}
