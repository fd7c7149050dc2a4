//! A ledger of two SQLite files and a log in a third, which needs no server.

use rustix::process::Signal;

use super::{all_follow, prints, refused};
use crate::cluster::until;
use crate::program::{Folder, closed_port, get};

const LEDGER: &str = "ledger:\n  log: {embedded: {path: all.log}}\n  nodes: {a: {sqlite: {path: a.db}}, b: {sqlite: {path: b.db}}}\n";

fn folder() -> Folder {
    let folder = Folder::new();
    folder.file("herdsman.yml", LEDGER);
    folder
}

#[test]
fn counters_that_many_raise_at_once_lose_nothing() {
    let folder = folder();
    let mut running = folder.start(&["ledger", "run"]);
    prints(&folder, &["sql", "CREATE TABLE counter (id int PRIMARY KEY, value int)"]);
    prints(&folder, &["sql", "INSERT INTO counter VALUES (1, 0), (2, 0)"]);
    std::thread::scope(|scope| {
        for node in ["a", "b", "a", "b"] {
            let folder = &folder;
            scope.spawn(move || {
                for id in ["1", "2", "1"] {
                    let raise = format!("UPDATE counter SET value = value + 1 WHERE id = {id}");
                    prints(folder, &["sql", "--node", node, &raise]);
                }
            });
        }
    });
    for node in ["a", "b"] {
        let sum = ["sql", "--node", node, "SELECT id, value FROM counter ORDER BY id"];
        assert_eq!(
            prints(&folder, &sum),
            " id | value\n----+-------\n 1  | 8\n 2  | 4\n(2 rows)\n"
        );
    }
    all_follow(&folder);
    prints(&folder, &["verify"]);
    running.signal(Signal::TERM);
    assert_eq!(running.code(), Some(0), "{}", running.stderr());
}

#[test]
fn commands_do_without_a_program_that_runs_and_a_request_is_done_once() {
    let folder = folder();
    let id = "0123456789abcdef0123456789abcdef";
    prints(&folder, &["sql", "CREATE TABLE t (id int PRIMARY KEY, v text)"]);
    let insert =
        ["sql", "--request", id, "INSERT INTO t VALUES (1, 'x')", "INSERT INTO t VALUES (2, NULL)"];
    let first = prints(&folder, &insert);
    assert!(first.starts_with("2 rows changed, entry "), "{first}");
    // Somebody removed the row since; the same request does not bring it back.
    prints(&folder, &["sql", "--node", "b", "DELETE FROM t WHERE id <= 2"]);
    assert_eq!(prints(&folder, &insert), first);
    let rows = prints(&folder, &["sql", "--node", "b", "--json", "SELECT id, v FROM t"]);
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(rows["results"][0]["rows"], serde_json::json!([]));
    assert_eq!(rows["results"][0]["columns"], serde_json::json!(["id", "v"]));
    assert!(prints(&folder, &["verify"]).contains("a and b hold the same"));
    refused(&folder, &["skip", "1"], 1, "it has applied entry 1");
    assert_eq!(folder.herdsman(&["run"]).code, Some(78), "there is nothing to watch");
}

#[test]
fn herdsman_run_has_the_ledger_beside_it_and_tells_of_it() {
    let folder = Folder::new();
    let port = closed_port();
    let hosts =
        format!("hosts: {{n1: {{host: 127.0.0.1, port: {port}, sslmode: disable}}}}\nport: 0\n");
    folder.file("herdsman.yml", &format!("{hosts}{LEDGER}"));
    let mut running = folder.start(&["run"]);
    running.wait_for("the ledger is up");
    prints(&folder, &["sql", "CREATE TABLE t (id int PRIMARY KEY)"]);
    prints(&folder, &["sql", "--node", "b", "INSERT INTO t VALUES (1)"]);
    let expected = [
        "herdsman_ledger_node_following{node=\"a\",engine=\"sqlite\"} 1",
        "herdsman_ledger_node_fenced{node=\"b\",engine=\"sqlite\"} 0",
        "herdsman_ledger_transactions_total{node=\"b\",outcome=\"committed\"} 2",
    ];
    let told = |text: &String| expected.iter().all(|line| text.contains(line));
    until("the ledger is told of", || get(&running.url(), "/metrics"), told);
    running.signal(Signal::TERM);
    assert_eq!(running.code(), Some(0), "{}", running.stderr());
    running.wait_for("the ledger has stopped");
}
