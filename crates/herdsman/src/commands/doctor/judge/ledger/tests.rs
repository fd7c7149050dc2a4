use herdsman_ledger::node::Place;
use herdsman_ledger::{ChainHash, LogId, Offset};

use super::*;
use crate::commands::doctor::evidence::LedgerSeen;
use crate::commands::doctor::finding::Severity;
use crate::commands::doctor::judge::tests::{evidence, facts, name, says};

fn node(config: &str, place: Result<Option<Place>, String>) -> LedgerNodeSeen {
    let config: NodeConfig = serde_json::from_str(config).unwrap();
    LedgerNodeSeen { name: "it".to_owned(), config, server: None, place }
}

fn at(fenced: Option<&str>) -> Result<Option<Place>, String> {
    Ok(Some(Place {
        log: LogId([0; 16]),
        applied: Offset(7),
        hash: ChainHash::default(),
        fenced: fenced.map(str::to_owned),
    }))
}

const LITE: &str = r#"{"sqlite": {"path": "it.db"}}"#;
const POSTGRES: &str = r#"{"postgres": {"host": "n1"}}"#;
const MARIA: &str = r#"{"mariadb": {"host": "db", "user": "u", "database": "shop"}}"#;

fn found(node: LedgerNodeSeen, log: LedgerLogSeen, version: u32) -> Vec<Finding> {
    let ledger = Some(LedgerSeen { nodes: vec![node], log });
    findings(&Evidence {
        ledger,
        ..evidence([("n1", crate::commands::doctor::evidence::ServerFacts { version, ..facts() })])
    })
}

#[test]
fn a_database_says_where_it_is_or_what_is_in_the_way() {
    let (ok, info, error) = (Severity::Ok, Severity::Info, Severity::Error);
    let cases = [
        (LITE, at(None), ok, Code::LedgerNode, "at entry 7"),
        (LITE, Ok(None), info, Code::LedgerNode, "no log yet"),
        (LITE, at(Some("differs")), error, Code::LedgerFenced, "differs"),
        (LITE, at(Some("differs")), error, Code::LedgerFenced, "`herdsman ledger join it`"),
        (LITE, Err("no right".to_owned()), error, Code::LedgerNode, "sqlite.path"),
        (
            MARIA,
            Err("denied".to_owned()),
            error,
            Code::LedgerNode,
            "GRANT ALL PRIVILEGES ON shop.* TO u",
        ),
    ];
    for (config, place, severity, code, words) in cases {
        let told = found(node(config, place), LedgerLogSeen::default(), 150_000);
        says(&told, "ledger: it", severity, code, &[words]);
    }
}

fn server(rights: Result<Option<LedgerRights>, Unreached>) -> LedgerNodeSeen {
    let server = LedgerServer {
        host: name("n1"),
        user: "led".to_owned(),
        database: "shop".to_owned(),
        rights,
    };
    LedgerNodeSeen { server: Some(server), ..node(POSTGRES, at(None)) }
}

#[test]
fn each_right_that_a_role_lacks_comes_with_its_statement() {
    let full = || LedgerRights {
        role: "led".to_owned(),
        may_set: true,
        schema: Some("public".to_owned()),
        may_create: true,
        ..LedgerRights::default()
    };
    let told =
        |rights: LedgerRights| found(server(Ok(Some(rights))), LedgerLogSeen::default(), 180_000);
    let severities = |told: &[Finding]| told.iter().map(|f| f.severity).max().unwrap();
    assert_eq!(severities(&told(full())), Severity::Ok);
    for (rights, statement) in [
        (
            LedgerRights { may_set: false, ..full() },
            "`GRANT SET ON PARAMETER session_replication_role TO \"led\"`",
        ),
        (
            LedgerRights { may_create: false, ..full() },
            "`GRANT CREATE ON SCHEMA \"public\" TO \"led\"`",
        ),
        (LedgerRights { schema: None, ..full() }, "`CREATE SCHEMA AUTHORIZATION \"led\"`"),
        (
            LedgerRights { not_own: vec!["public.account".to_owned()], ..full() },
            "`ALTER TABLE public.account OWNER TO \"led\"`",
        ),
        (LedgerRights { in_recovery: true, ..full() }, "takes writes"),
    ] {
        let told = told(rights);
        let bad: Vec<_> = told.iter().filter(|f| f.severity == Severity::Error).collect();
        let [finding] = bad.as_slice() else { panic!("{told:?}") };
        assert!(finding.fix.as_ref().unwrap().contains(statement), "{finding:?}");
        assert_eq!(finding.node, Some(name("n1")));
    }
    let old = found(server(Ok(None)), LedgerLogSeen::default(), 140_000);
    says(&old, "ledger: it", Severity::Error, Code::Version, &["15 or later"]);
    let problem = "password authentication failed (SQLSTATE 28P01)".to_owned();
    let out = |kind| Unreached { kind, endpoint: "h:1".to_owned(), problem: problem.clone() };
    let told = found(server(Err(out(Some(Kind::Rejected)))), LedgerLogSeen::default(), 180_000);
    let words = ["h:1: password", "ledger.nodes.it.postgres.login"];
    says(&told, "ledger: it", Severity::Error, Code::LoginRefused, &words);
}

#[test]
fn a_log_is_there_with_some_of_its_brokers_or_not_at_all() {
    for (problems, severity) in
        [(0, Severity::Ok), (1, Severity::Warning), (2, Severity::Warning), (3, Severity::Error)]
    {
        let log = LedgerLogSeen {
            what: "the topic ALL of Kafka".to_owned(),
            places: 3,
            problems: vec!["k1:9092: refused".to_owned(); problems],
        };
        let told = found(node(LITE, at(None)), log, 180_000);
        says(&told, "ledger: log", severity, Code::LedgerLog, &["the topic ALL"]);
    }
}
