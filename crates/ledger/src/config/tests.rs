use std::path::Path;

use herdsman_config::{Depth, Reading};

use herdsman_node::Conninfo;

use super::*;

/// The section as it is read, or what is wrong with it.
fn read(text: &str) -> Result<LedgerConfig, String> {
    let reading = Reading::new(Path::new("h.yml"), text, Depth::Full);
    let mut reading = reading.map_err(|problems| format!("{problems:?}"))?;
    let hosts = reading.hosts();
    let config = LedgerConfig::read(&mut reading, &hosts);
    let told = |problem: &herdsman_config::Problem| {
        problem.to_string().lines().next().unwrap_or_default().to_owned()
    };
    reading
        .finish(Some(config))
        .map_err(|problems| problems.iter().map(told).collect::<Vec<_>>().join("\n"))
}

const LITE: &str =
    "ledger:\n  log: {embedded: {path: all.log}}\n  nodes: {a: {sqlite: {path: a.db}}}\n";

#[test]
fn a_ledger_of_files_needs_no_hosts_and_little_else() {
    let config = read(LITE).unwrap();
    assert_eq!(config.socket(), Some("all.log.socket".into()));
    assert_eq!(config.settings().deadline, Duration::from_secs(30));
    assert_eq!(config.nodes.len(), 1);
    assert_eq!(read("hosts: {n1: {host: a}}\n").unwrap(), LedgerConfig::default());
}

#[test]
fn every_kind_of_node_and_log_is_read_and_no_secret_shown() {
    let config = read(
        "hosts: {n1: {host: 10.0.0.1, user: watch}}\nledger:\n  name: shop\n  ack: majority\n  socket: l.socket\n  deadline: 5s\n  \
         log: {kafka: {brokers: ['k1:9092'], replication: 1, properties: {sasl.password: hunter2}}}\n  nodes:\n    \
         pg: {postgres: {host: n1, login: {user: ledger, password: hunter2}}}\n    \
         maria: {mariadb: {host: 10.0.0.2, user: ledger, database: shop, b64password: aHVudGVyMg==, tls: require}}\n    \
         lite: {sqlite: {path: lite.db}}\n",
    )
    .unwrap();
    let NodeConfig::MariaDb(maria) = &config.nodes["maria"] else { panic!() };
    assert_eq!(maria.password.as_ref().unwrap().expose(), "hunter2");
    assert_eq!((maria.port, maria.tls), (3306, MariaDbTls::Require));
    let Some(LogConfig::Kafka(kafka)) = &config.log else { panic!() };
    assert_eq!(kafka.topic, "ALL");
    assert_eq!(config.ack, Ack::Majority);
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    let host = Conninfo::from_pairs([("host", "10.0.0.1"), ("user", "watch")]).unwrap();
    let hosts = BTreeMap::from([(NodeName::new("n1").unwrap(), host)]);
    let nodes = config.nodes(&hosts).unwrap();
    let names: Vec<_> = nodes.iter().map(|node| node.name().to_owned()).collect();
    assert_eq!(names, ["lite", "maria", "pg"]);
    assert!(config.nodes(&BTreeMap::new()).is_err());
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let log = "  log: {embedded: {path: all.log}}\n";
    let cases = [
        ("ledger:\n  nodes: {a: {sqlite: {path: a.db}}}\n".to_owned(), "`ledger.log` is missing"),
        (format!("ledger:\n{log}"), "`ledger.nodes` names no node"),
        (format!("{LITE}  nonsense: 1\n"), "nonsense"),
        (format!("{LITE}  attempts: 0\n"), "h.yml:4:13: `ledger.attempts` is `0`, expected 1 to 1000"),
        (format!("{LITE}  deadline: 2h\n"), "out of range"),
        (format!("{LITE}  late_after: 1s\n"), "out of range"),
        (format!("{LITE}  most_behind: 0\n"), "`ledger.most_behind` is `0`, expected at least 1"),
        (format!("{LITE}  ack: some"), "majority"),
        (format!("{LITE}  name: 'a b'"), "`ledger.name` is `a b`"),
        (format!("ledger:\n{log}  nodes: {{a: {{oracle: {{path: a.db}}}}}}\n"), "oracle"),
        (format!("ledger:\n{log}  nodes: {{a: {{sqlite: {{path: no/such/a.db}}}}}}\n"), "is not a directory"),
        (format!("ledger:\n{log}  nodes: {{a: {{sqlite: {{path: all.log}}}}}}\n"), "a database of its own"),
        (
            format!("ledger:\n{log}  nodes: {{a: {{sqlite: {{path: x}}}}, b: {{sqlite: {{path: x}}}}}}\n"),
            "`ledger.nodes.b` is where another node",
        ),
        (
            format!("hosts: {{n1: {{host: a}}}}\nledger:\n{log}  nodes: {{a: {{postgres: {{host: n2}}}}}}\n"),
            "names `n2`, expected a node of `hosts`",
        ),
        (format!("ledger:\n{log}  nodes: {{a: {{mariadb: {{user: a}}}}}}\n"), "`ledger.nodes.a.mariadb.database` is missing"),
        (
            format!("ledger:\n{log}  nodes: {{a: {{mariadb: {{user: a, database: b, tls: verify_full}}}}}}\n"),
            "`ledger.nodes.a.mariadb.ca` is missing",
        ),
        (
            format!("ledger:\n{log}  nodes: {{a: {{mariadb: {{user: a, database: b, password_env: NO_SUCH_VARIABLE}}}}}}\n"),
            "NO_SUCH_VARIABLE",
        ),
        (
            "ledger:\n  log: {kafka: {brokers: [], replication: 0, topic: 'a b', properties: {acks: '1'}}}\n".to_owned(),
            "`ledger.log.kafka.brokers` names no broker",
        ),
        (
            "ledger:\n  log: {kafka: {brokers: [a], properties: {acks: '1'}}}\n".to_owned(),
            "`ledger.log.kafka.properties.acks` is what the ledger sets itself",
        ),
        ("ledger:\n  log: {kafka: {brokers: [a]}}\n".to_owned(), "`ledger.socket` is missing"),
        (
            "ledger:\n  log: {kafka: {brokers: [a], requests: {one: ALL}}}\n".to_owned(),
            "`ledger.log.kafka.requests.one` is `ALL`, expected a topic of its own",
        ),
        (
            "ledger:\n  log: {kafka: {brokers: [a], requests: {one: R, response: R, partitions: 0}}}\n".to_owned(),
            "`ledger.log.kafka.requests.response` is `R`, expected a topic of its own",
        ),
        ("ledger:\n  log: {kafka: {brokers: [a], requests: {group: ''}}}\n".to_owned(), "1 to 200"),
        ("ledger:\n  log: {kafka: {brokers: [a], requests: {topic: x}}}\n".to_owned(), "topic"),
        (
            "ledger:\n  log: {kafka: {brokers: [a], property_files: {sasl.password: no/such}}}\n".to_owned(),
            "which cannot be read",
        ),
    ];
    for (text, expected) in cases {
        let told = read(&text).expect_err(&text);
        assert!(told.contains(expected), "{text}\n{told}");
    }
}
