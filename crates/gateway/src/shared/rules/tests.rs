use std::time::Duration;

use herdsman_node::NodeName;

use super::*;
use crate::config::PoolMode;

fn config(yaml: &str) -> GatewayConfig {
    serde_json::from_str(yaml).unwrap()
}

fn of(config: &GatewayConfig, database: &str, user: &str) -> Result<Rules, Problem> {
    let node = |name: &str| NodeName::new(name).unwrap();
    let groups = Groups::from([("berlin".to_owned(), vec![node("a"), node("b")])]);
    rules(config, &groups, database, user, ServerLogin::default())
}

/// Database on the servers and target.
#[track_caller]
fn is(config: &GatewayConfig, database: &str, expected: &str) {
    let rules = of(config, database, "app").unwrap();
    assert_eq!(format!("{} {}", rules.dbname, rules.target), expected, "{database}");
}

#[test]
fn without_databases_every_name_is_split_and_has_halves() {
    let config = config("{}");
    is(&config, "shop", "shop split");
    is(&config, "shop_rw", "shop writer");
    is(&config, "shop_ro", "shop reader");
    is(&config, "_rw", "_rw split");
}

#[test]
fn named_databases_are_all_there_is_unless_a_star_stands_for_the_rest() {
    let text =
        r#"{"databases": {"shop": {"dbname": "shop1"}, "old_ro": {}, "log": {"target": "a"}}}"#;
    let named = config(text);
    is(&named, "shop", "shop1 split");
    is(&named, "shop_rw", "shop1 writer");
    is(&named, "old_ro", "old_ro split");
    is(&named, "log", "log a");
    for missing in ["other", "other_rw", "log_rw", "*", "", "old"] {
        let problem = of(&named, missing, "app").unwrap_err();
        assert_eq!((problem.code, problem.message.contains(missing)), ("3D000", true), "{missing}");
    }
    let any = config(r#"{"databases": {"shop": {"target": "writer"}, "*": {"target": "split"}}}"#);
    is(&any, "other", "other split");
    is(&any, "other_ro", "other reader");
    is(&any, "shop_ro", "shop_ro split");
}

#[test]
fn the_narrower_wins_the_user_over_the_database_over_the_general() {
    let config = config(
        r#"{"pool": {"size": 1, "queue": 2, "mode": "session", "connect_timeout": "3s"},
            "databases": {"shop": {"group": "berlin", "pool": {"size": 10, "queue": 20}}, "*": {"group": "all"}},
            "users": {"app": {"pool": {"size": 100, "query_timeout": "never"}}}}"#,
    );
    let app = of(&config, "shop", "app").unwrap();
    assert_eq!((app.pool.size, app.pool.queue, app.pool.mode), (100, 20, PoolMode::Session));
    assert_eq!(app.pool.connect_timeout, Duration::from_secs(3));
    assert_eq!(app.group.map(|nodes| nodes.len()), Some(2));
    let other = of(&config, "other", "other").unwrap();
    assert_eq!((other.pool.size, other.pool.queue, other.group), (1, 2, None));
}
