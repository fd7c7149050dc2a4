use super::*;

fn read(json: &str) -> Result<RouteConfig, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

fn names(names: &[&str]) -> Vec<NodeName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

#[test]
fn an_empty_section_is_the_default() {
    assert_eq!(read("{}"), Ok(RouteConfig::default()));
    assert_eq!(read(r#"{"pool": {}, "probe": {}, "application": {}}"#), Ok(RouteConfig::default()));
    let group = read(r#"{"groups": {"g": {"nodes": []}}}"#).unwrap().groups;
    assert_eq!(group["g"], GroupConfig::default());
}

#[test]
fn the_whole_section_is_read() {
    let config = read(
        r#"{
        "mode": "given", "writers": ["pg1"], "readers": ["pg2", "pg3"],
        "application": {"user": "app", "password_env": "APP_PASSWORD", "dbname": "app"},
        "pool": {"max_connections": 20, "min_connections": 2, "acquire_timeout": "1s", "idle_timeout": "1m",
                 "max_lifetime": "never", "read_only_readers": false, "prepared_statements": false},
        "balance": "least_connections", "weights": {"pg2": 2}, "zone": "a", "zones": {"pg2": "a", "pg3": "b"},
        "max_lag": {"bytes": 1024}, "fallback": "error", "causal_wait": "0s", "writer_wait": "1s", "retries": 0,
        "probe": {"interval": "1s", "timeout": "2s"}, "slow_start": "1m",
        "groups": {"writer1": {"nodes": ["pg1", "pg2"], "max_connections": 20, "autocommit": false,
                               "prepared_statements": true}}
        }"#,
    );
    let node = |name: &str| name.parse::<NodeName>().unwrap();
    let expected = RouteConfig {
        mode: Some(Mode::Given),
        writers: names(&["pg1"]),
        readers: names(&["pg2", "pg3"]),
        application: Application {
            user: Some("app".to_owned()),
            password_env: Some("APP_PASSWORD".to_owned()),
            dbname: Some("app".to_owned()),
            ..Application::default()
        },
        pool: PoolConfig {
            max_connections: 20,
            min_connections: 2,
            acquire_timeout: Duration::from_secs(1),
            idle_timeout: Some(Duration::from_secs(60)),
            max_lifetime: None,
            read_only_readers: false,
            prepared_statements: false,
        },
        balance: Balance::LeastConnections,
        weights: BTreeMap::from([(node("pg2"), 2)]),
        zone: Some("a".to_owned()),
        zones: BTreeMap::from([(node("pg2"), "a".to_owned()), (node("pg3"), "b".to_owned())]),
        max_lag: MaxLag { bytes: Some(1024), time: None },
        fallback: Fallback::Error,
        causal_wait: Duration::ZERO,
        writer_wait: Duration::from_secs(1),
        retries: 0,
        probe: ProbeConfig { interval: Duration::from_secs(1), timeout: Duration::from_secs(2) },
        slow_start: Duration::from_secs(60),
        groups: BTreeMap::from([(
            "writer1".to_owned(),
            GroupConfig {
                nodes: names(&["pg1", "pg2"]),
                max_connections: Some(20),
                autocommit: false,
                prepared_statements: Some(true),
            },
        )]),
    };
    assert_eq!(config, Ok(expected));
}

#[test]
fn roles_are_discovered_until_some_are_given() {
    let mode = |json: &str| read(json).unwrap().mode();
    assert_eq!(mode("{}"), Mode::Discovered);
    assert_eq!(mode(r#"{"writers": ["a"]}"#), Mode::Given);
    assert_eq!(mode(r#"{"readers": ["a"]}"#), Mode::Given);
    assert_eq!(mode(r#"{"readers": ["a"], "mode": "discovered"}"#), Mode::Discovered);
}

#[test]
fn wrong_values_are_refused_with_what_is_allowed() {
    for (json, expected) in [
        (
            r#"{"balance": "best"}"#,
            "expected one of `two_choices`, `random`, `round_robin`, `least_connections`",
        ),
        (r#"{"fallback": "none"}"#, "expected one of `writer`, `error`, `wait`"),
        (r#"{"mode": "guess"}"#, "expected `discovered` or `given`"),
        (r#"{"retries": 11}"#, "`11` is out of range; allowed is 0 to 10"),
        (r#"{"weights": {"a": 1001}}"#, "`1001` is out of range; allowed is 0 to 1000"),
        (r#"{"weights": {"": 1}}"#, "cannot name a node"),
        (r#"{"writer_wait": "2h"}"#, "`2h` is out of range; allowed is 0s to 1h"),
        (r#"{"pool": {"max_connections": 0}}"#, "`0` is out of range; allowed is 1 to 10000"),
        (r#"{"pool": {"acquire_timeout": "0s"}}"#, "allowed is 10ms to 1h"),
        (r#"{"pool": {"idle_timeout": "0s"}}"#, "allowed is 1s to 1day, or never"),
        (r#"{"probe": {"interval": "never"}}"#, "`never` is not a duration"),
        (r#"{"groups": {"g": {"max_connections": 0, "nodes": []}}}"#, "allowed is 1 to 10000"),
        (r#"{"groups": {"g": {}}}"#, "missing field `nodes`"),
        (r#"{"pool": {"size": 1}}"#, "unknown field `size`"),
        (r#"{"application": {"host": "x"}}"#, "unknown field `host`"),
    ] {
        let error = read(json).unwrap_err();
        assert!(error.contains(expected), "{json}: {error}");
    }
}

#[test]
fn printing_the_section_shows_no_password() {
    let config =
        read(r#"{"application": {"password": "hunter2", "b64password": "aHVudGVyMg=="}}"#).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("aHVudGVyMg"), "{shown}");
    assert_eq!(config.application.password, Some(Secret::from("hunter2".to_owned())));
}
