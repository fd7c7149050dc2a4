//! `herdsman ledger` as a user types it: PostgreSQL, MariaDB and SQLite that follow one log, and a ledger of files alone.

mod files;
mod kafka;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use herdsman_sandbox::{MariaDb, Sandbox};
use rustix::process::Signal;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::cluster::{Turn, sql, until, versions};
use crate::program::{Ended, Folder, Running};

const NODES: [&str; 3] = ["lite", "maria", "pg"];

/// A server of each make, a file, and the program in a folder with a configuration that makes them a ledger.
struct Yard {
    folder: Folder,
    // Before the runtime, in which its proxies live.
    postgres: Option<Sandbox>,
    mariadb: Option<MariaDb>,
    runtime: Runtime,
    _turn: Turn,
}

impl Yard {
    fn new() -> Self {
        let turn = Turn::take();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (postgres, mariadb) = runtime.block_on(async {
            let postgres = Box::pin(Sandbox::builder().pg_version(versions()[0]).start());
            tokio::join!(postgres, Box::pin(MariaDb::start()))
        });
        let (postgres, mariadb) = (postgres.unwrap(), mariadb.unwrap());
        let folder = Folder::new();
        let host: BTreeMap<String, String> = postgres.conninfo("n1", "postgres").unwrap();
        folder.file("maria.password", mariadb.password());
        let text = format!(
            "hosts: {{n1: {}}}\nledger:\n  name: shop\n  ack: all\n  log: {{embedded: {{path: all.log}}}}\n  nodes:\n    \
             pg: {{postgres: {{host: n1}}}}\n    lite: {{sqlite: {{path: lite.db}}}}\n    \
             maria: {{mariadb: {{port: {}, user: {}, database: {}, password_file: maria.password, tls: disable}}}}\n",
            serde_json::to_string(&host).unwrap(),
            mariadb.port(),
            MariaDb::USER,
            MariaDb::DATABASE,
        );
        folder.file("herdsman.yml", &text);
        Self { folder, postgres: Some(postgres), mariadb: Some(mariadb), runtime, _turn: turn }
    }

    fn start(&self) -> Running {
        self.folder.start(&["ledger", "run"])
    }

    fn ledger(&self, args: &[&str]) -> Ended {
        ledger(&self.folder, args)
    }

    #[track_caller]
    fn prints(&self, args: &[&str]) -> String {
        prints(&self.folder, args)
    }

    /// What a node has, as it says itself through the program.
    #[track_caller]
    fn rows(&self, node: &str) -> String {
        self.prints(&[
            "sql",
            "--node",
            node,
            "--csv",
            "SELECT id, name, balance FROM account ORDER BY id",
        ])
    }

    fn passwords(&self) -> [&str; 2] {
        let postgres = self.postgres.as_ref().unwrap().credentials().password("postgres").unwrap();
        [postgres, self.mariadb.as_ref().unwrap().password()]
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        let _guard = self.runtime.enter();
        drop((self.postgres.take(), self.mariadb.take()));
    }
}

fn ledger(folder: &Folder, args: &[&str]) -> Ended {
    folder.herdsman(&[&["ledger"], args].concat())
}

#[track_caller]
fn prints(folder: &Folder, args: &[&str]) -> String {
    let ended = ledger(folder, args);
    assert_eq!(ended.code, Some(0), "{args:?}: {}{}", ended.stdout, ended.stderr);
    ended.stdout
}

/// `ledger status`, whatever it ends with.
#[track_caller]
fn status(folder: &Folder) -> Value {
    let ended = ledger(folder, &["status", "--json"]);
    serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"))
}

/// Waits until every node follows, and has all that the log has.
fn all_follow(folder: &Folder) -> Value {
    let well = |status: &Value| {
        let nodes = status["nodes"].as_array().unwrap();
        nodes.iter().all(|node| node["state"] == "following" && node["lag"] == 0)
    };
    until("all nodes follow", || status(folder), well)
}

fn states(status: &Value) -> Vec<&str> {
    status["nodes"].as_array().unwrap().iter().map(|it| it["state"].as_str().unwrap()).collect()
}

/// A command that is refused, with this in its message.
#[track_caller]
fn refused(folder: &Folder, args: &[&str], code: i32, expected: &str) {
    let ended = ledger(folder, args);
    assert_eq!(ended.code, Some(code), "{args:?}: {}{}", ended.stdout, ended.stderr);
    assert!(ended.stderr.contains(expected), "{args:?}: {}", ended.stderr);
    assert_eq!(ended.stdout, "", "{args:?}");
}

#[test]
fn three_makes_hold_the_same_whoever_is_written_to_and_whatever_is_killed() {
    let yard = Yard::new();
    let checked = yard.folder.herdsman(&["check"]);
    let line = "ledger shop: lite (SQLite), maria (MariaDB), pg (PostgreSQL) follow all.log";
    assert!(checked.stdout.contains(line), "{checked:?}");
    let before = status(&yard.folder);
    assert_eq!((states(&before), &before["runs"]), (vec!["new"; 3], &Value::Bool(false)));
    assert!(!yard.folder.path().join("lite.db").exists(), "who looks makes nothing");

    let mut running = yard.start();
    let create = "CREATE TABLE account (id bigint PRIMARY KEY, name varchar(40) UNIQUE, balance numeric(12,2) NOT NULL)";
    assert!(yard.prints(&["sql", create]).starts_with("table changed, entry "));
    for (id, node) in NODES.iter().enumerate() {
        let insert =
            format!("INSERT INTO account (id, name, balance) VALUES ({id}, 'of {node}', {id}.50)");
        let told = yard.prints(&["sql", "--node", node, &insert]);
        assert!(
            told.starts_with("1 row changed, entry ") && told.contains(&format!("at {node}")),
            "{told}"
        );
    }
    let expected = "id,name,balance\n0,of lite,0.50\n1,of maria,1.50\n2,of pg,2.50\n";
    for node in NODES {
        assert_eq!(yard.rows(node), expected, "{node}");
    }
    let same_place = all_follow(&yard.folder);
    let hashes: Vec<_> =
        same_place["nodes"].as_array().unwrap().iter().map(|it| &it["hash"]).collect();
    assert!(hashes.iter().all(|hash| hash.is_string() && *hash == hashes[0]), "{same_place}");
    assert!(yard.prints(&["verify"]).contains("lite, maria and pg hold the same, at entry"));
    refusals(&yard);

    // It dies. A command does without it, and what it wrote is not lost on those it comes back to.
    running.signal(Signal::KILL);
    running.code();
    assert_eq!(states(&status(&yard.folder)), vec!["stopped"; 3]);
    yard.prints(&[
        "sql",
        "--node",
        "maria",
        "UPDATE account SET balance = balance + 1 WHERE id = 0",
    ]);
    let mut running = yard.start();
    refused(&yard.folder, &["run"], 69, "another program follows this ledger");
    let expected = expected.replace("0.50\n1,", "1.50\n1,");
    for node in NODES {
        assert_eq!(yard.rows(node), expected, "{node}");
    }
    assert!(yard.prints(&["verify"]).contains("hold the same"));

    one_row_by_hand(&yard);
    back_again(&yard);
    running.signal(Signal::TERM);
    assert_eq!(running.code(), Some(0), "{}", running.stderr());
    running.wait_for("stopped");
    for password in yard.passwords() {
        assert!(!running.stderr().contains(password), "a password is in the log");
    }
}

/// What is refused says so, with a SQLSTATE, and changes nothing.
fn refusals(yard: &Yard) {
    let refused = |args: &[&str], expected: &str| refused(&yard.folder, args, 1, expected);
    for node in NODES {
        let twice = "INSERT INTO account (id, name, balance) VALUES (7, 'of pg', 0)";
        refused(&["sql", "--node", node, twice], "SQLSTATE 23");
    }
    refused(
        &["sql", "CREATE TABLE account (id bigint PRIMARY KEY)"],
        "there is a table of that name already (SQLSTATE 42P07)",
    );
    refused(
        &["sql", "CREATE TABLE t (id serial PRIMARY KEY)"],
        "type serial is not one that every engine has",
    );
    refused(&["sql", "CREATE INDEX i ON account (name)"], "(SQLSTATE 0A000)");
    refused(&["sql", "VACUUM"], "(SQLSTATE 0A000)");
    refused(&["sql", "SELECT 1", "DROP TABLE account"], "stands alone");
    let both = ["sql", "DELETE FROM account", "INSERT INTO account VALUES (1, 'x', NULL)"];
    refused(&both, "SQLSTATE 23502");
    assert_eq!(ledger(&yard.folder, &["sql", "--node", "nobody", "SELECT 1"]).code, Some(2));
    assert_eq!(yard.rows("pg").lines().count(), 4);
}

/// Past the ledger nothing is written; what is, is found, and the node that no longer fits is fenced.
fn one_row_by_hand(yard: &Yard) {
    let port = yard.postgres.as_ref().unwrap().server_port("n1").unwrap();
    let [password, _] = yard.passwords();
    let update = "update account set balance = 100 where id = 2";
    let told = sql(port, "postgres", password, update).unwrap_err();
    assert!(told.contains("belongs to a ledger"), "{told}");
    sql(port, "postgres", password, &format!("set session_replication_role = replica; {update}"))
        .unwrap();
    let verified = yard.ledger(&["verify", "--json"]);
    assert_eq!(verified.code, Some(1), "{verified:?}");
    let verdict: Value = serde_json::from_str(&verified.stdout).unwrap();
    let account = &verdict["tables"][0];
    assert_eq!((&account["table"], &account["alike"]), (&"account".into(), &false.into()));
    assert_eq!(account["nodes"]["lite"], account["nodes"]["maria"]);
    assert_ne!(account["nodes"]["lite"], account["nodes"]["pg"]);

    let committed =
        yard.ledger(&["sql", "--node", "maria", "UPDATE account SET balance = 3 WHERE id = 2"]);
    assert_eq!(committed.code, Some(0), "{committed:?}");
    assert!(committed.stderr.contains("fewer nodes have it yet"), "{committed:?}");
    let fenced = status(&yard.folder);
    let pg = &fenced["nodes"][2];
    assert_eq!((&pg["name"], &pg["state"]), (&"pg".into(), &"fenced".into()), "{fenced}");
    assert!(pg["problem"].as_str().unwrap().contains("account"), "{fenced}");
    refused(&yard.folder, &["sql", "--node", "pg", "SELECT 1"], 69, "SQLSTATE 57P03");
    assert_eq!(yard.ledger(&["verify"]).code, Some(1));
    // The others go on, and one of them is chosen.
    assert!(yard.prints(&["sql", "SELECT balance FROM account WHERE id = 2"]).contains("3.00"));
}

/// A node that was fenced comes back from another one, and from a backup, with what was written since.
fn back_again(yard: &Yard) {
    let all = |balance: &str| {
        format!("id,name,balance\n0,of lite,1.50\n1,of maria,1.50\n2,of pg,{balance}\n")
    };
    let told = yard.prints(&["join", "pg", "--from", "lite"]);
    assert!(told.starts_with("pg holds what lite held at entry "), "{told}");
    all_follow(&yard.folder);
    assert_eq!(yard.rows("pg"), all("3.00"));
    assert!(yard.prints(&["verify"]).contains("lite, maria and pg hold the same"));

    let told = yard.prints(&["backup", "all.backup", "--node", "maria"]);
    assert!(told.starts_with("all.backup holds 1 table with 3 rows: what maria held at"), "{told}");
    let mode =
        std::fs::metadata(yard.folder.path().join("all.backup")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    yard.prints(&["sql", "--node", "lite", "UPDATE account SET balance = 4 WHERE id = 2"]);

    refused(&yard.folder, &["restore", "pg", "all.backup"], 1, "it is not fenced");
    refused(&yard.folder, &["join", "nobody"], 1, "nobody");
    yard.prints(&["fence", "pg", "--why", "it smells of smoke"]);
    let fenced = status(&yard.folder);
    let pg = &fenced["nodes"][2];
    assert_eq!(pg["state"], "fenced", "{fenced}");
    assert!(pg["problem"].as_str().unwrap().contains("it smells of smoke"), "{fenced}");
    refused(&yard.folder, &["restore", "pg", "herdsman.yml"], 1, "herdsman.yml");
    let told = yard.prints(&["restore", "pg", "all.backup"]);
    assert!(told.starts_with("pg holds what all.backup holds, up to entry "), "{told}");
    all_follow(&yard.folder);
    assert_eq!(yard.rows("pg"), all("4.00"));
    assert!(yard.prints(&["verify"]).contains("lite, maria and pg hold the same"));
    // There is nothing yet that nobody needs.
    assert_eq!(yard.prints(&["trim", "--backup", "all.backup"]), "the log begins with entry 0\n");
}
