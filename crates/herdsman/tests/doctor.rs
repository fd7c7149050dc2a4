//! `herdsman doctor` on real servers: sound ones, and ones with a fault that its fix mends.

use std::fmt::Write as _;

use serde_json::Value;

use crate::cluster::{Cluster, PATIENCE, sql_within, until, versions};
use crate::mesh::Yard as Mesh;
use crate::program::{Ended, Folder, closed_port};

/// A cluster with a configuration of every section, and the program in its folder.
struct Yard {
    folder: Folder,
    cluster: Cluster,
}

/// What a configuration says beside what fits.
#[derive(Default)]
struct Faults {
    pool: Option<u32>,
    /// Of `n2`.
    password: Option<&'static str>,
    /// Who the stream logs in as.
    stream: Option<&'static str>,
}

impl Yard {
    fn new(version: u32) -> Self {
        let cluster = Cluster::on(version, 1);
        cluster.sql("n1", "create table public.users (id bigint primary key, name text)");
        let yard = Self { folder: Folder::new(), cluster };
        yard.configure(&Faults::default());
        yard
    }

    fn configure(&self, faults: &Faults) {
        let sandbox = self.cluster.sandbox();
        let password = |role: &str| sandbox.credentials().password(role).unwrap().to_owned();
        let mut text = "hosts:\n".to_owned();
        let stream = faults.stream.unwrap_or("postgres");
        for node in sandbox.node_names() {
            let mut keys = sandbox.conninfo(&node, "herdsman").unwrap();
            if let (Some(wrong), "n2") = (faults.password, node.as_str()) {
                keys.insert("password".to_owned(), wrong.to_owned());
            }
            let pairs: Vec<_> =
                keys.iter().map(|(key, value)| format!("{key}: \"{value}\"")).collect();
            writeln!(text, "  {node}: {{ {} }}", pairs.join(", ")).unwrap();
        }
        write!(
            text,
            "watch:\n{}port: 0\nstream:\n  failover: false\n  \
             login: {{user: {stream}, dbname: postgres, password: '{}'}}\n  sinks: {{lines: {{stdout: {{}}}}}}\n\
             gateway:\n  listen: 127.0.0.1:{}\n  max_clients: 10\n  users: {{app: {{password: '{}'}}}}\n  \
             pool: {{size: {}}}\n",
            self.cluster.replication_addresses(str::to_owned),
            password(stream),
            closed_port(),
            password("app"),
            faults.pool.unwrap_or(5),
        )
        .unwrap();
        self.folder.file("herdsman.yml", &text);
    }

    /// What it finds, whatever that is.
    fn look(&self) -> Value {
        told(&self.folder.herdsman(&["doctor", "--json"]))
    }

    /// The finding with this code on a node, as bad as `severity`.
    #[track_caller]
    fn finds(&self, severity: &str, code: &str, node: &str) -> Value {
        let seen = until("it is found", || self.look(), |told| of(told, code, node).is_some());
        let finding = of(&seen, code, node).unwrap();
        assert_eq!(finding["severity"], severity, "{finding:#}");
        assert!(!finding["fix"].as_str().unwrap().is_empty(), "{finding:#}");
        finding
    }

    /// Runs the statements of its fix, where it was found.
    #[track_caller]
    fn apply(&self, finding: &Value, node: &str) {
        let statements = finding["sql"].as_array().unwrap();
        assert!(!statements.is_empty(), "{finding:#}");
        for statement in statements {
            self.cluster.sql(node, statement.as_str().unwrap());
        }
    }

    /// That nothing is found any more above a note.
    #[track_caller]
    fn is_well(&self) {
        until("all is well", || self.look(), |told| bad(told).is_empty());
    }
}

fn told(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", ended.stdout, ended.stderr))
}

fn all(told: &Value) -> impl Iterator<Item = &Value> {
    told["findings"].as_array().unwrap().iter()
}

fn is_bad(finding: &&Value) -> bool {
    finding["severity"] == "warning" || finding["severity"] == "error"
}

fn bad(told: &Value) -> Vec<&Value> {
    all(told).filter(is_bad).collect()
}

/// The warning or error with this code.
fn of(told: &Value, code: &str, node: &str) -> Option<Value> {
    all(told).filter(is_bad).find(|f| f["code"] == code && f["node"] == node).cloned()
}

#[test]
fn a_healthy_herd_has_no_warning() {
    for version in versions() {
        let yard = Yard::new(version);
        yard.is_well();
        let ended = yard.folder.herdsman(&["doctor"]);
        assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
        let told = yard.look();
        // Every section was looked at, and each finding has a page.
        let codes =
            ["H0004", "H0101", "H0109", "H0202", "H0203", "H0206", "H0301", "H0401", "H0601"];
        for code in codes {
            assert!(all(&told).any(|finding| finding["code"] == code), "{code}: {told:#}");
        }
        for finding in all(&told) {
            let code = finding["code"].as_str().unwrap();
            let page = yard.folder.herdsman(&["explain", code]);
            assert!(page.stdout.starts_with(&format!("# {code}: ")), "{}", page.stdout);
        }
        let shown = yard.folder.herdsman(&["doctor", "--all"]).stdout;
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        let secret = yard.cluster.sandbox().credentials().password("app").unwrap();
        assert!(!shown.contains(secret) && !told.to_string().contains(secret));
    }
}

#[test]
fn what_a_statement_mends_is_named_and_gone_once_it_is_run() {
    for version in versions() {
        let yard = Yard::new(version);
        let cluster = &yard.cluster;
        yard.is_well();

        cluster.sql("n1", "revoke pg_monitor from herdsman");
        let found = yard.finds("warning", "H0109", "n1");
        assert_eq!(found["sql"][0], "GRANT pg_monitor TO \"herdsman\"");
        assert_eq!(yard.folder.herdsman(&["doctor"]).code, Some(3));
        yard.apply(&found, "n1");
        yard.is_well();

        cluster.sql("n1", "create table public.t (a int); create publication p for table t");
        cluster.sql("n1", "alter table public.users replica identity nothing");
        // One in a publication of somebody's, one that the stream is to send.
        for subject in ["table public.t", "stream: table public.users"] {
            let seen = yard.look();
            let found = all(&seen).filter(is_bad).find(|finding| finding["subject"] == subject);
            let found = found.unwrap_or_else(|| panic!("{subject}: {seen:#}"));
            assert_eq!((&found["code"], &found["severity"]), (&"H0209".into(), &"error".into()));
            yard.apply(found, "n1");
        }
        yard.is_well();

        cluster.sql("n1", "select pg_create_physical_replication_slot('gone', true)");
        for _ in 0..6 {
            cluster.sql("n1", "select pg_logical_emit_message(false, 'x', 'x'), pg_switch_wal()");
        }
        let found = yard.finds("warning", "H0207", "n1");
        assert!(found["evidence"].as_str().unwrap().contains("nobody reads it"), "{found:#}");
        yard.apply(&found, "n1");
        yard.is_well();

        yard.configure(&Faults { stream: Some("plain"), ..Faults::default() });
        let seen = yard.look();
        let lacks: Vec<_> = all(&seen)
            .filter(|finding| finding["code"] == "H0402" && finding["severity"] != "ok")
            .collect();
        let about: Vec<_> = lacks.iter().map(|f| f["subject"].as_str().unwrap()).collect();
        assert!(["stream: role", "stream: tables"].iter().all(|s| about.contains(s)), "{seen:#}");
        lacks.iter().for_each(|finding| yard.apply(finding, "n1"));
        let seen = yard.look();
        let lacks = |f: &Value| f["code"] == "H0402" && f["severity"] != "ok";
        assert!(!all(&seen).any(lacks), "{seen:#}");
        yard.configure(&Faults::default());
        yard.is_well();

        cluster.sql("n2", "select pg_wal_replay_pause()");
        let found = yard.finds("warning", "H0204", "n2");
        yard.apply(&found, "n2");
        yard.is_well();
    }
}

#[test]
fn what_a_restart_or_the_configuration_mends_is_named_and_gone_afterwards() {
    let yard = Yard::new(versions()[0]);
    let cluster = &yard.cluster;

    yard.configure(&Faults { pool: Some(70), ..Faults::default() });
    // Standbys before their primary, as the fix says.
    for node in ["n2", "n1"] {
        let found = yard.finds("warning", "H0301", node);
        yard.apply(&found, node);
        cluster.restart(node);
    }
    yard.is_well();

    cluster.sql("n1", "alter system set wal_level = replica");
    cluster.restart("n1");
    let found = yard.finds("error", "H0401", "n1");
    assert_eq!(yard.folder.herdsman(&["doctor"]).code, Some(1));
    yard.apply(&found, "n1");
    cluster.restart("n1");
    yard.is_well();

    yard.configure(&Faults { password: Some("wrong"), ..Faults::default() });
    let found = yard.finds("error", "H0103", "n2");
    assert!(found["fix"].as_str().unwrap().contains("hosts.n2"), "{found:#}");
    let shown = yard.folder.herdsman(&["doctor"]);
    assert!(!shown.stdout.contains("wrong\"") && shown.code == Some(1), "{}", shown.stdout);
    yard.configure(&Faults::default());
    yard.is_well();
}

#[test]
fn a_node_that_is_away_is_named_and_keeps_nobody_from_being_looked_at() {
    let yard = Yard::new(versions()[0]);
    yard.cluster.stop("n2");
    let found = yard.finds("error", "H0101", "n2");
    assert!(found["fix"].as_str().unwrap().contains("PostgreSQL runs there"), "{found:#}");
    yard.cluster.start_node("n2");
    yard.is_well();

    yard.cluster.freeze("n2");
    let found = yard.finds("error", "H0101", "n2");
    assert!(found["evidence"].as_str().unwrap().contains("no answer"), "{found:#}");
    let told = yard.look();
    for code in ["H0101", "H0109", "H0301", "H0401"] {
        let fine =
            all(&told).any(|f| f["code"] == code && f["node"] == "n1" && f["severity"] == "ok");
        assert!(fine, "{code}: {told:#}");
    }
    yard.cluster.thaw("n2");
    yard.is_well();
}

#[test]
fn a_hook_that_cannot_do_what_it_should_is_named() {
    let folder = Folder::new();
    folder.file("page", "no program");
    folder.file("pgbouncer.ini", "[databases]\nshop = host=x\n");
    let config = format!(
        "hosts:\n  n1: {{host: 127.0.0.1, port: {port}, user: u, dbname: d}}\nhooks:\n\
         - {{name: pager, exec: {{command: [./page]}}}}\n\
         - {{name: log, exec: {{command: [cat], env: {{PATH: /usr/bin:/bin}}}}}}\n\
         - {{name: pooler, pgbouncer: {{file: pgbouncer.ini, databases: {{shop: writer}}, console: {{host: 127.0.0.1, port: {port}, user: boss}}}}}}\n\
         - {{name: balancer, haproxy: {{socket: \"127.0.0.1:{port}\", writers: [write]}}}}\n",
        port = closed_port(),
    );
    folder.file("herdsman.yml", &config);
    let seen = told(&folder.herdsman(&["doctor", "--json"]));
    let hooks: Vec<_> = all(&seen)
        .filter(|finding| finding["code"].as_str().unwrap().starts_with("H07"))
        .map(|finding| {
            let text = |key: &str| finding[key].as_str().unwrap();
            format!("{} {} {}", text("severity"), text("code"), text("subject"))
        })
        .collect();
    let expected = [
        "error H0701 hook pager",
        "error H0703 hook balancer",
        "error H0703 hook pooler",
        "ok H0701 hook log",
    ];
    assert_eq!(hooks, expected, "{seen:#}");
}

#[test]
fn a_ledger_is_looked_at_database_by_database() {
    let cluster = Cluster::on(versions()[0], 0);
    cluster.sql("n1", "create role ledger login password 'l3dger-role'");
    let folder = Folder::new();
    let configure = |lite: &str, log: &str| {
        let text = format!(
            "{}ledger:\n  socket: l.socket\n  log: {log}\n  nodes:\n    lite: {{sqlite: {{path: {lite}}}}}\n    \
             pg: {{postgres: {{host: n1, login: {{user: ledger, password: l3dger-role, dbname: postgres}}}}}}\n",
            cluster.hosts(str::to_owned),
        );
        folder.file("herdsman.yml", &text);
    };
    let look = || told(&folder.herdsman(&["doctor", "--json"]));
    let about = |seen: &Value, severity: &str| -> Vec<Value> {
        let of_ledger = |f: &&Value| f["subject"].as_str().unwrap().starts_with("ledger: ");
        all(seen).filter(of_ledger).filter(|f| f["severity"] == severity).cloned().collect()
    };

    configure("lite.db", "{embedded: {path: all.log}}");
    let seen = look();
    let lacks = about(&seen, "error");
    assert_eq!(lacks.len(), 2, "{seen:#}");
    for finding in &lacks {
        assert_eq!((&finding["code"], &finding["node"]), (&"H0802".into(), &"n1".into()));
        cluster.sql("n1", finding["sql"][0].as_str().unwrap());
    }
    let seen = look();
    assert!(about(&seen, "error").is_empty(), "{seen:#}");
    assert_eq!(about(&seen, "info").len(), 2, "neither follows a log yet: {seen:#}");
    assert!(!folder.path().join("lite.db").exists(), "looking makes nothing");

    let made = folder.herdsman(&["ledger", "sql", "CREATE TABLE t (id bigint PRIMARY KEY)"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let seen = look();
    assert_eq!((about(&seen, "error").len(), about(&seen, "info").len()), (0, 0), "{seen:#}");
    assert_eq!(about(&seen, "ok").len(), 4, "{seen:#}");

    folder.file("lite.db", "no database at all");
    configure("lite.db", &format!("{{kafka: {{brokers: ['127.0.0.1:{}']}}}}", closed_port()));
    let seen = look();
    let codes: Vec<_> = about(&seen, "error").iter().map(|f| f["code"].clone()).collect();
    assert_eq!(codes, ["H0801", "H0803"], "{seen:#}");
}

#[test]
fn a_mesh_is_looked_at_member_by_member() {
    let yard = Mesh::new();
    let look = || told(&yard.folder.herdsman(&["doctor", "--json"]));
    let seen = look();
    let note = |finding: &Value| finding["code"] == "H0502" && finding["severity"] == "info";
    assert!(bad(&seen).is_empty() && all(&seen).any(note), "{seen:#}");

    let superuser = |statement: &str| {
        let port = yard.sandbox().server_port("n2").unwrap();
        let password = yard.sandbox().credentials().password("postgres").unwrap();
        sql_within(PATIENCE, port, "postgres", password, statement).unwrap()
    };
    superuser("revoke set on parameter session_replication_role from mesh");
    superuser("alter role mesh noreplication");
    let seen = look();
    let found: Vec<_> = all(&seen).filter(|finding| finding["code"] == "H0501").collect();
    assert_eq!(found.len(), 2, "{seen:#}");
    for finding in found {
        assert_eq!(finding["node"], "n2");
        superuser(finding["sql"][0].as_str().unwrap());
    }
    assert!(bad(&look()).is_empty(), "{:#}", look());

    yard.prints(&["up", "--yes"]);
    let idle = yard.folder.herdsman(&["doctor"]);
    assert_eq!(idle.code, Some(3), "{}{}", idle.stdout, idle.stderr);
    assert!(idle.stdout.contains("to do: start `herdsman run`"), "{}", idle.stdout);
    let _running = yard.run();
    until("all is well", look, |told| bad(told).is_empty());
}

#[test]
fn a_code_is_explained_and_all_of_them_are_listed() {
    let folder = Folder::new();
    let page = folder.herdsman(&["explain", "h101"]);
    assert_eq!((page.code, page.stderr.as_str()), (Some(0), ""));
    assert!(page.stdout.starts_with("# H0101: a node cannot be reached\n"), "{}", page.stdout);
    let list = folder.herdsman(&["explain"]).stdout;
    assert!(list.starts_with("H0001  ") && list.lines().count() > 40, "{list}");
    let unknown = folder.herdsman(&["explain", "H9999"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(2), ""));
    assert_eq!(unknown.stderr, "`H9999` is no code; `herdsman explain` lists them all\n");
}
