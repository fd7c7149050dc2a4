use std::path::Path;

use herdsman_config::Depth;

use super::*;

const HOSTS: &str =
    "hosts:\n  a: postgres://monitor@10.0.0.1/shop\n  b: {host: 10.0.0.2}\n  c: {host: 10.0.0.3}\n";

fn read(mesh: &str) -> Result<MeshConfig, Vec<String>> {
    let text = format!("{HOSTS}mesh:\n{mesh}");
    let mut reading = Reading::new(Path::new("herdsman.yml"), &text, Depth::Full).unwrap();
    let hosts = reading.hosts();
    let config = MeshConfig::read(&mut reading, &hosts);
    reading.finish(Some(config)).map_err(|problems| {
        let first = |problem: &herdsman_config::Problem| {
            problem.to_string().lines().next().unwrap().replace("herdsman.yml:", "")
        };
        problems.iter().map(first).collect()
    })
}

#[track_caller]
fn refused(mesh: &str, expected: &[&str]) {
    assert_eq!(read(mesh).unwrap_err(), expected, "{mesh}");
}

#[test]
fn a_section_with_everything_that_is_built_is_taken() {
    let config = read(
        "  name: shop_1\n  nodes: [a, b, c]\n  tables: [public.*, 'sales.*']\n  exclude: [public.log_*]\n  \
         mode: columns\n  unique: log\n  sequences: {kind: interleaved}\n  batch: {rows: 500}\n  lanes: 4\n  keep_conflicts: 7d\n  \
         login: {user: mesh, password: pw, dbname: other}\n  control: {token: s3cret-token}\n  \
         policies: {public.orders: {conflict: last_update_wins}}\n",
    )
    .unwrap();
    assert_eq!((config.name.as_str(), config.nodes.len(), config.batch.rows), ("shop_1", 3, 500));
    assert_eq!((config.lanes_in_use(), MeshConfig::default().lanes), (4, 1));
    assert_eq!(config.control.token.as_ref().map(Secret::expose), Some("s3cret-token"));
    assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
    let hosts = [(NodeName::new("a").unwrap(), "postgres://m@10.0.0.1/shop".parse().unwrap())];
    let setup = config.setup(&hosts.into());
    let a = &setup.nodes["a"];
    assert_eq!((a.user.as_str(), a.dbname.as_str()), ("mesh", "other"));
}

#[test]
fn without_the_section_there_is_no_mesh() {
    let mut reading = Reading::new(Path::new("herdsman.yml"), HOSTS, Depth::Full).unwrap();
    let hosts = reading.hosts();
    assert_eq!(MeshConfig::read(&mut reading, &hosts), MeshConfig::default());
    assert!(reading.finish(Some(())).is_ok());
    assert!(MeshConfig::default().nodes.is_empty());
}

#[test]
fn members_are_two_or_more_different_nodes_of_hosts() {
    refused("  nodes: [a]\n", &["6:10: `mesh.nodes` lists one node, expected at least two"]);
    refused(
        "  nodes: []\n",
        &["6:10: `mesh.nodes` is empty, expected at least two nodes of `hosts`"],
    );
    refused(
        "  name: m\n",
        &["5:1: `mesh.nodes` is missing, expected at least two nodes of `hosts`"],
    );
    refused(
        "  nodes: [a, x, b]\n",
        &["6:14: `mesh.nodes` lists `x`, expected a node of `hosts`: `a`, `b` or `c`"],
    );
    let twice = read("  nodes: [a, b, a]\n").unwrap_err();
    assert!(twice[0].starts_with("6:17: `mesh.nodes` lists `a` twice"), "{twice:?}");
}

#[test]
fn names_fit_into_those_of_slots() {
    for name in ["Shop", "a-b", "''", "a234567890123456789012345678901"] {
        let problems = read(&format!("  nodes: [a, b]\n  name: {name}\n")).unwrap_err();
        assert!(problems[0].starts_with("7:9: `mesh.name` is"), "{problems:?}");
    }
}

#[test]
fn patterns_name_schema_and_table() {
    refused(
        "  nodes: [a, b]\n  tables: []\n",
        &["7:11: `mesh.tables` is empty, expected at least one pattern such as public.*"],
    );
    let wrong = read("  nodes: [a, b]\n  exclude: [public.*, orders]\n").unwrap_err();
    assert!(wrong[0].starts_with("7:23: `mesh.exclude`: "), "{wrong:?}");
}

#[test]
fn what_needs_stamps_in_the_tables_is_refused_without_them() {
    let text = "  nodes: [a, b]\n  mode: untouched\n";
    assert_eq!(read(text).unwrap().mode, Mode::Untouched);
    for policy in ["conflict: column_wise", "delta: [n]"] {
        let text = format!("{text}  policies:\n    public.t: {{{policy}}}\n");
        let told = read(&text).unwrap_err().join("\n");
        assert!(told.contains("expected `mesh.mode` to be `columns`"), "{told}");
    }
}

#[test]
fn a_policys_keys_fit_to_its_kind_and_name_members() {
    let problems = |policy: &str| {
        read(&format!("  nodes: [a, b]\n  policies:\n    public.t: {{{policy}}}\n"))
            .unwrap_err()
            .join("\n")
    };
    let told = problems("conflict: node_priority, priority: [a, c, a]");
    assert!(told.contains("8:55: `mesh.policies.public.t.priority.2` names `c`"), "{told}");
    assert!(told.contains("`mesh.policies.public.t.priority.3` names `a` twice"), "{told}");
    assert!(problems("conflict: node_priority").contains("expected `priority` beside it"));
    assert!(problems("priority: [a]").contains("is for `conflict: node_priority` only"));
    assert!(problems("conflict: handler").contains("expected `handler` beside it"));
    assert!(problems("conflict: handler, handler: merge").contains("expected schema.function"));
    assert!(problems("handler: public.merge").contains("is for `conflict: handler` only"));
    let told = read("  nodes: [a, b]\n  policies: {orders: {}}\n").unwrap_err();
    assert!(told[0].contains("is no pattern for tables"), "{told:?}");
}

#[test]
fn wrong_keys_types_and_values_are_told_with_their_place() {
    refused(
        "  nodes: [a, b]\n  batch: {rows: 0}\n",
        &["7:17: `mesh.batch.rows` is `0`, expected 1 to 100000"],
    );
    for (line, column) in
        [("  node: [a]", "7:3"), ("  batch: {rows: many}", "7:17"), ("  unique: keep", "7:11")]
    {
        let told = read(&format!("  nodes: [a, b]\n{line}\n")).unwrap_err();
        assert!(told[0].starts_with(&format!("{column}: ")), "{told:?}");
    }
    let told = read("  nodes: [a, b]\n  control: {token: short}\n").unwrap_err();
    assert!(told[0].starts_with("7:20: `mesh.control.token`: this is no token"), "{told:?}");
    assert!(!told[0].contains("short"), "{told:?}");
    let told = read("  nodes: [a, b]\n  control: {token: 12345678, token_env: X}\n").unwrap_err();
    assert!(told[0].contains("the token is given twice"), "{told:?}");
    let told = read("  nodes: [a, b]\n  login: {password: x, password_env: Y}\n").unwrap_err();
    assert!(told[0].contains("`mesh.login.password_env`: the password is given twice"), "{told:?}");
}
