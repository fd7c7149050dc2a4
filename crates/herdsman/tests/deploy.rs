//! The files of `deploy/` fit the program: what alerts and the dashboard ask for is told, and the configurations are good.

mod configs;
mod expressions;
mod package;
mod prometheus;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use self::expressions::Asked;
use self::prometheus::Prometheus;
use crate::cluster::{Cluster, until, versions};
use crate::gateway::Gateway;
use crate::mesh::Yard;
use crate::program::{Folder, get};
use crate::stream;

/// What Prometheus adds by itself.
const SCRAPED: [&str; 2] = ["job", "instance"];

/// Sample names with the labels each has.
type Told = BTreeMap<String, BTreeSet<String>>;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name)
}

fn read(name: &str) -> String {
    let path = file(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn alerts_and_dashboard_ask_for_nothing_that_is_not_told() {
    let rules_file = file("prometheus/herdsman.rules.yml").canonicalize().unwrap();
    let mut prometheus = Prometheus::start(&rules_file.display().to_string());
    let mut told = of_a_cluster_with_a_gateway(&mut prometheus);
    told.extend(of_a_mesh(&mut prometheus));
    told.extend(of_a_stream(&mut prometheus));
    told.extend(of_a_ledger(&mut prometheus));
    told.insert("up".to_owned(), BTreeSet::new());
    let (rules, series, dashboard) = (rules(), series(), dashboard());
    assert!(
        rules.len() > 10 && series.len() > 50 && dashboard.len() > 30,
        "expressions are missed"
    );
    let mut wrong = Vec::new();
    for (place, expression, legend) in rules.iter().chain(&series).chain(&dashboard) {
        let asked = expressions::read(expression);
        assert!(!asked.metrics.is_empty(), "{place} asks for nothing: {expression}");
        wrong.extend(not_told(&asked, legend, &told).map(|what| format!("{place}: {what}")));
    }
    assert!(wrong.is_empty(), "{}\ntold are: {told:#?}", wrong.join("\n"));

    // What it gives when Prometheus has asked: each part of the dashboard shows something, and each rule can be evaluated.
    for (place, expression, _) in &dashboard {
        match prometheus.series(expression) {
            Ok(0) if !MAY_BE_EMPTY.contains(&place.as_str()) => {
                wrong.push(format!("{place}: nothing comes of {expression}"));
            }
            Ok(_) => {}
            Err(problem) => wrong.push(format!("{place}: {problem}: {expression}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(prometheus.ill_rules(), "");
}

/// Nothing of that kind happens here.
const MAY_BE_EMPTY: [&str; 1] = ["Primary changed"];

/// What an expression, or the legend of what it gives, names that does not exist.
fn not_told(asked: &Asked, legend: &str, told: &Told) -> impl Iterator<Item = String> {
    let mut wrong = Vec::new();
    let mut all: BTreeSet<&str> = SCRAPED.into_iter().collect();
    for (metric, labels) in &asked.metrics {
        let Some(has) = told.get(metric) else {
            wrong.push(format!("there is no metric `{metric}`"));
            continue;
        };
        all.extend(has.iter().map(String::as_str));
        let missing = labels.iter().filter(|l| !has.contains(*l) && !SCRAPED.contains(&l.as_str()));
        wrong.extend(missing.map(|label| format!("`{metric}` has no label `{label}`")));
    }
    let legend = legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
    let named = asked.grouped.iter().map(String::as_str).chain(legend.map(str::trim));
    wrong.extend(named.filter(|l| !all.contains(l)).map(|l| format!("nothing has a label `{l}`")));
    wrong.into_iter()
}

/// Of each: where it stands, the expression, and how what it gives is called.
type Expressions = Vec<(String, String, String)>;

fn rules() -> Expressions {
    let rules = yaml("prometheus/herdsman.rules.yml");
    let groups = rules["groups"].as_array().unwrap();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
    rules
        .map(|rule| {
            let text = |key: &str| rule[key].as_str().unwrap().to_owned();
            let told = rule["annotations"].to_string().replace("$labels.", "");
            let told = told.replace("{{ $value", "").replace('|', "");
            (text("alert"), text("expr"), told)
        })
        .collect()
}

/// What the rules are tested with.
fn series() -> Expressions {
    let tests = yaml("prometheus/herdsman.rules.test.yml");
    let tests = tests["tests"].as_array().unwrap();
    let series = tests.iter().flat_map(|test| test["input_series"].as_array().unwrap());
    let named = |one: &Value| one["series"].as_str().unwrap().to_owned();
    // The exporter's, which is there to be left alone.
    series.map(named).map(|series| ("a test's series".to_owned(), series, String::new())).collect()
}

fn dashboard() -> Expressions {
    let dashboard: Value = serde_json::from_str(&read("grafana/herdsman.json")).unwrap();
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.push((text(panel, "title"), text(target, "expr"), text(target, "legendFormat")));
        }
    }
    for marked in dashboard["annotations"]["list"].as_array().unwrap() {
        found.push((text(marked, "name"), text(marked, "expr"), String::new()));
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["query"]["query"].as_str() {
            let asked = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (series, label) = asked.unwrap().rsplit_once(',').unwrap();
            found.push((text(variable, "name"), series.to_owned(), format!("{{{{{label}}}}}")));
        }
    }
    found
}

fn of_a_cluster_with_a_gateway(prometheus: &mut Prometheus) -> Told {
    let cluster = Cluster::start(1);
    let gateway = Gateway::of(&cluster);
    let folder = Folder::new();
    let hooks = "hooks:\n  - { name: pager, exec: { command: [cat] } }\n";
    let running = folder.start(&["run", &folder.file("h.yml", &gateway.yaml(hooks))]);
    gateway.until_writable(&running);
    let awaited = [
        "pg_replication_lag_seconds",
        "herdsman_gateway_wait_seconds_bucket",
        "herdsman_hook_failing",
    ];
    let told = scrape(&running.url(), &awaited);
    prometheus.watches(&running.url());
    told
}

fn of_a_mesh(prometheus: &mut Prometheus) -> Told {
    let yard = Yard::up();
    let (_running, api) = yard.run();
    let told = scrape(&api, &["herdsman_mesh_link_lag_seconds", "herdsman_mesh_target_working"]);
    prometheus.watches(&api);
    told
}

fn of_a_ledger(prometheus: &mut Prometheus) -> Told {
    let folder = Folder::new();
    let ledger = "ledger: {log: {embedded: {path: all.log}}, nodes: {a: {sqlite: {path: a.db}}}}";
    let hosts = "hosts: {n1: {host: 127.0.0.1, port: 1, sslmode: disable}}";
    let running =
        folder.start(&["run", &folder.file("h.yml", &format!("{hosts}\nport: 0\n{ledger}\n"))]);
    let told = scrape(
        &running.url(),
        &["herdsman_ledger_node_fenced", "herdsman_ledger_transactions_total"],
    );
    prometheus.watches(&running.url());
    told
}

fn of_a_stream(prometheus: &mut Prometheus) -> Told {
    let stream = "  sinks: {lines: {file: {path: changes.jsonl}}}\n";
    let yard = stream::Yard::new(versions()[0], 0, stream);
    let running = yard.folder.start(&["run"]);
    // So that there is room for less than everything, which the server tells of then only.
    yard.sql("alter system set max_slot_wal_keep_size = '1GB'");
    yard.sql("select pg_reload_conf()");
    let url = running.url();
    let streaming = || get(&url, "/metrics");
    let phase = r#"herdsman_stream_phase{slot="herdsman",phase="streaming"} 1"#;
    until("the stream", streaming, |text| text.contains(phase));
    yard.sql("insert into users values (1, 'Ada')");
    let awaited = [
        "herdsman_stream_sink_position_bytes_total",
        "pg_replication_slot_safe_wal_size_bytes",
        "pg_replication_slot_wal_status",
        "herdsman_stream_slot_retained_bytes",
    ];
    let told = scrape(&url, &awaited);
    prometheus.watches(&url);
    told
}

/// Everything that `/metrics` tells, once it tells of these.
fn scrape(url: &str, awaited: &[&str]) -> Told {
    let all = |text: &String| awaited.iter().all(|name| text.contains(&format!("\n{name}{{")));
    let text = until("everything is told", || get(url, "/metrics"), all);
    let mut told = Told::new();
    let samples = text.lines().skip_while(|line| !line.starts_with('#'));
    for sample in samples.filter(|line| !line.starts_with('#')) {
        let Some((metric, labels)) = expressions::read(sample).metrics.into_iter().next() else {
            continue;
        };
        told.entry(metric).or_default().extend(labels);
    }
    told
}

/// `promtool` with a file of ours; what it says where it fails.
fn promtool(args: &[&str], name: &str) -> Result<(), String> {
    let output = Command::new("promtool").args(args).arg(file(name)).output();
    let output = output.expect("promtool is not installed; ./test installs it");
    let said = [output.stdout, output.stderr].concat();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    assert_eq!(promtool(&["check", "rules"], "prometheus/herdsman.rules.yml"), Ok(()));
    assert_eq!(promtool(&["test", "rules"], "prometheus/herdsman.rules.test.yml"), Ok(()));
}

#[test]
fn every_alert_is_tested() {
    let tests = read("prometheus/herdsman.rules.test.yml");
    for (alert, ..) in rules() {
        assert!(tests.contains(&alert), "no test of {alert} fires");
    }
}
