//! Evidence in, findings out, and what the parts of these tests share.

use herdsman_node::{ConnectErrorKind as Kind, Conninfo, NodeName};
use herdsman_stream::diagnose;

use super::super::evidence::{
    Clock, Diagnosed, HeartbeatTable, History, ServerFacts, StreamSeen, Unreached, Unreadable,
};
use super::super::finding::Severity;
use super::*;
use crate::config::Depth;

pub(super) fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

/// A configuration of two nodes and whatever `sections` says.
pub(super) fn config(sections: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("herdsman.yml");
    let hosts = "hosts:\n  n1: {host: 127.0.0.1, user: mon, dbname: app}\n  n2: {host: 10.0.0.2, user: mon, dbname: app}\n";
    std::fs::write(&file, format!("{hosts}{sections}")).unwrap();
    Config::load(Some(&file), Depth::Outline).unwrap()
}

/// A server with nothing wrong.
pub(super) fn facts() -> ServerFacts {
    ServerFacts {
        version: 150_018,
        version_text: "15.18".to_owned(),
        wal_level: "logical".to_owned(),
        role: "mon".to_owned(),
        monitor: true,
        encrypted: Some(false),
        max_connections: 100,
        reserved: 3,
        connections: 7,
        max_senders: 10,
        senders: 1,
        max_slots: 10,
        max_workers: 8,
        max_apply_workers: 4,
        max_locks: 64,
        ..ServerFacts::default()
    }
}

pub(super) fn evidence(nodes: impl IntoIterator<Item = (&'static str, ServerFacts)>) -> Evidence {
    let seen = |facts| Seen::In(Box::new(Server { facts, ..Server::default() }));
    let nodes = nodes.into_iter().map(|(node, facts)| (name(node), seen(facts))).collect();
    Evidence { nodes, ..Evidence::default() }
}

/// A stream that reads from the node, with these findings.
pub(super) fn diagnosed(node: NodeName, findings: Vec<diagnose::Finding>) -> StreamSeen {
    StreamSeen::Diagnosed(Diagnosed {
        node,
        role: "cdc".to_owned(),
        report: diagnose::Report { endpoint: String::new(), findings },
        unreadable: Unreadable::default(),
    })
}

/// Checks the one finding on a subject: severity, code, and words that it has to have.
#[track_caller]
pub(super) fn says(
    found: &[Finding],
    subject: &str,
    severity: Severity,
    code: Code,
    words: &[&str],
) {
    let about: Vec<_> = found.iter().filter(|finding| finding.subject == subject).collect();
    let [finding] = about.as_slice() else { panic!("{subject}: {about:?} in {found:?}") };
    assert_eq!((finding.severity, finding.code), (severity, code), "{finding:?}");
    let text = format!("{} | {}", finding.evidence, finding.fix.as_deref().unwrap_or_default());
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

#[test]
fn nodes_with_nothing_wrong_have_nothing_above_ok() {
    let config = config("");
    let found = findings(&config, &evidence([("n1", facts())]));
    assert!(found.iter().all(|finding| finding.severity == Severity::Ok), "{found:#?}");
    assert!(found.len() > 5, "{found:#?}");
}

#[test]
fn each_way_not_to_get_in_has_its_code_and_what_to_do() {
    let info: Conninfo = "host=db1 user=mon dbname=app".parse().unwrap();
    let check = |kind, problem: &str, code, words: &[&str]| {
        let seen = Unreached { kind, endpoint: "db1:5432".into(), problem: problem.into() };
        let found = reach::unreached(&name("n1"), &info, &seen);
        says(&found, "connection", Severity::Error, code, words);
    };
    let refused = Code::LoginRefused;
    check(Some(Kind::Refused), "refused", Code::Unreachable, &["db1:5432", "`hosts.n1`"]);
    check(Some(Kind::TimedOut), "late", Code::Unreachable, &["frozen"]);
    check(Some(Kind::NotReady), "starting up", Code::NotReady, &["wait"]);
    check(Some(Kind::TooManyConnections), "full", Code::NoConnectionLeft, &["max_connections"]);
    check(Some(Kind::Tls), "no TLS", Code::TlsFailed, &["sslmode"]);
    check(None, "no such file", Code::TlsFailed, &["certificates", "hosts.n1"]);
    check(
        Some(Kind::Rejected),
        "password authentication failed (SQLSTATE 28P01)",
        refused,
        &["`ALTER ROLE \"mon\" PASSWORD '…'`", "hosts.n1"],
    );
    check(
        Some(Kind::Rejected),
        "database \"app\" does not exist (SQLSTATE 3D000)",
        refused,
        &["`CREATE DATABASE \"app\"`"],
    );
    check(
        Some(Kind::Rejected),
        "permission denied (SQLSTATE 42501)",
        refused,
        &["`GRANT CONNECT ON DATABASE \"app\" TO \"mon\"`"],
    );
    check(Some(Kind::Rejected), "no entry (SQLSTATE 28000)", refused, &["pg_hba.conf"]);
}

#[test]
fn a_connection_over_a_network_wants_tls_and_one_on_this_machine_does_not() {
    let check = |info: &str, encrypted, severity| {
        let info: Conninfo = info.parse().unwrap();
        let found = reach::reached(&info, &ServerFacts { encrypted, ..facts() });
        says(&found, "TLS", severity, Code::Unencrypted, &[]);
    };
    check("host=127.0.0.1", Some(false), Severity::Ok);
    check("host=/run/postgresql", Some(false), Severity::Ok);
    check("host=10.0.0.1", Some(false), Severity::Warning);
    check("host=10.0.0.1", Some(true), Severity::Info);
    check("host=10.0.0.1 sslmode=verify-full", Some(true), Severity::Ok);
}

#[test]
fn a_missing_grant_is_told_word_for_word_and_once() {
    let lacking = ServerFacts {
        monitor: false,
        role: "a\"b".to_owned(),
        history: History::Withheld,
        heartbeat_table: HeartbeatTable::Closed,
        ..facts()
    };
    let standby = ServerFacts { in_recovery: true, ..lacking.clone() };
    let evidence = evidence([("n1", lacking), ("n2", standby)]);
    let config = config("availability: {heartbeat: always}\n");
    let found = rights::findings(&config, &evidence);
    let (warning, info) = (Severity::Warning, Severity::Info);
    let grant = "`GRANT pg_monitor TO \"a\"\"b\"`";
    says(&found, "pg_monitor", warning, Code::Monitor, &[grant, "on the primary"]);
    let function = "`GRANT EXECUTE ON FUNCTION herdsman_monitor.timeline_history() TO \"a\"\"b\"`";
    says(&found, "timeline history", info, Code::History, &[function, "database `app`"]);
    let table = "`GRANT SELECT, INSERT, UPDATE ON public.pgr66_avc TO \"a\"\"b\"`";
    says(&found, "heartbeat table", warning, Code::HeartbeatTable, &[table]);
}

#[test]
fn old_versions_are_told_and_other_releases_of_the_same() {
    let version =
        |version, text: &str| ServerFacts { version, version_text: text.to_owned(), ..facts() };
    let check = |number, severity| {
        says(&[rights::version(&version(number, ""))], "version", severity, Code::Version, &[]);
    };
    check(120_022, Severity::Error);
    check(140_001, Severity::Info);
    check(180_001, Severity::Ok);
    let config = config("");
    let nodes = evidence([("n1", version(150_018, "15.18")), ("n2", version(150_001, "15.1"))]);
    let found = rights::findings(&config, &nodes);
    says(&found, "releases", Severity::Info, Code::Version, &["n1 has 15.18", "n2 15.1"]);
    let nodes = evidence([("n1", version(150_018, "15.18")), ("n2", version(180_001, "18.1"))]);
    assert!(rights::findings(&config, &nodes).iter().all(|found| found.subject != "releases"));
}

#[test]
fn a_clock_is_off_by_what_asking_cannot_explain() {
    let check = |ahead_micros, within_micros, is_mesh, severity| {
        let clock = Some(Clock { ahead_micros, within_micros });
        let found: Vec<_> = clock::findings(clock, is_mesh).into_iter().collect();
        says(&found, "clock", severity, Code::Clock, &[]);
    };
    check(400_000, 100, true, Severity::Ok);
    check(-600_000, 100, true, Severity::Warning);
    check(600_000, 200_000, true, Severity::Ok);
    check(600_000, 100, false, Severity::Ok);
    check(i64::MIN, u64::MAX, false, Severity::Ok);
    check(3_000_000, 100, false, Severity::Warning);
    assert_eq!(clock::findings(None, true), None);
}
