//! One program drives a node at a time, on servers of each make.

use std::sync::Arc;

use herdsman_ledger::{
    engine::{Condition, Ledger, RequestError, request::random_request},
    log::memory::MemoryLog,
    node::{Node, postgres::postgres, sqlite::sqlite},
    table::TableChange,
};
use herdsman_node::{Conninfo, Tls};

use crate::{
    herd::{Herd, NODES, PATIENCE, account, all_follow, until},
    lockstep::settings,
};

/// What the program that is killed is told by.
const CHILD: &str = "HERDSMAN_TEST_GUARD_CHILD";

fn trouble(ledger: &Ledger, node: &str) -> Option<String> {
    let status = ledger.status();
    let of_it = status.into_iter().find(|(name, ..)| name == node)?;
    match of_it.2.condition {
        Condition::Troubled(why) => Some(why),
        _ => None,
    }
}

const ADD: &str = "UPDATE account SET balance = balance + 1 WHERE id = 1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_has_one_program_and_the_next_is_told_whose_it_is() {
    let herd = Herd::start(18).await;
    let log = MemoryLog::default();
    let start =
        async || Ledger::start(Arc::new(log.clone()), herd.nodes(), settings()).await.unwrap();
    let first = start().await;
    all_follow(&first).await;
    first.define("pg", random_request(), TableChange::Create(account())).await.unwrap();
    let insert = "INSERT INTO account (id, mail, balance) VALUES (1, 'one', 0)";
    first.execute("pg", random_request(), &[insert], &[]).await.unwrap();

    let second = start().await;
    for node in NODES {
        until("it is told", || trouble(&second, node).is_some()).await;
        let why = trouble(&second, node).unwrap();
        assert!(why.contains(&format!("process {}", std::process::id())), "{node}: {why}");
        let told = second.execute(node, random_request(), &[ADD], &[]).await.unwrap_err();
        assert_eq!(told.sqlstate(), "57P03", "{node}: {told:?}");
        assert!(
            second.define(node, random_request(), TableChange::Create(account())).await.is_err()
        );
        first.execute(node, random_request(), &[ADD], &[]).await.unwrap();
    }
    drop(first);
    all_follow(&second).await;
    second.execute("maria", random_request(), &[ADD], &[]).await.unwrap();

    // A lock that is lost without a word: the connection that has it is ended, and another program takes the node.
    second.barrier("pg").await.unwrap();
    let mut transaction = second.begin("pg").await.unwrap();
    transaction.run(ADD).await.unwrap();
    let info = herd.conninfo();
    let tls = Tls::new(&info).unwrap();
    let (client, driver) =
        herdsman_node::connect(&info, &tls, PATIENCE).await.unwrap().split(|_| {});
    tokio::spawn(driver);
    let third = Ledger::start(
        Arc::new(log.clone()),
        vec![postgres("pg", info.clone(), Tls::new(&info).unwrap())],
        settings(),
    );
    let third = third.await.unwrap();
    until("it waits", || trouble(&third, "pg").is_some()).await;
    let end = "SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted";
    client.execute(end, &[]).await.unwrap();
    all_follow(&third).await;
    let told = second.commit("pg", random_request(), transaction, &[]).await.unwrap_err();
    assert_eq!(
        told.sqlstate(),
        "57P03",
        "nothing goes to the log from who has lost the node: {told:?}"
    );
    let told = second.execute("pg", random_request(), &[ADD], &[]).await.unwrap_err();
    assert!(matches!(told, RequestError::Sql(_) | RequestError::Node(..)), "{told:?}");
    assert_eq!(told.sqlstate(), "57P03", "{told:?}");
    third.execute("pg", random_request(), &[ADD], &[]).await.unwrap();
    until("it stops applying", || trouble(&second, "pg").is_some()).await;
    // The nodes that are still its own go on.
    second.execute("lite", random_request(), &[ADD], &[]).await.unwrap();
}

/// A program of its own, which takes two nodes and is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_killed_lets_the_next_one_in() {
    if let Some(told) = std::env::var_os(CHILD) {
        return hold_until_killed(told.to_str().unwrap()).await;
    }
    let herd = Herd::start(18).await;
    let pairs = herd.postgres.conninfo("n1", "postgres").unwrap();
    let told: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}\t{value}")).collect();
    let file = herd.sqlite_file();
    let told = format!("{}\n{}", file.display(), told.join("\n"));
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "guard::who_is_killed_lets_the_next_one_in", "--nocapture"]);
    let mut child = child
        .env(CHILD, told)
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let ready = herd.folder.path().join("node.db.ready");
    until("the other program has them", || ready.exists()).await;

    let log = Arc::new(MemoryLog::default());
    let ledger = Ledger::start(log, nodes(&file, herd.conninfo()), settings()).await.unwrap();
    for node in ["pg", "lite"] {
        until("it is told", || trouble(&ledger, node).is_some()).await;
        let why = trouble(&ledger, node).unwrap();
        assert!(why.contains(&format!("process {}", child.id().unwrap())), "{node}: {why}");
    }
    child.kill().await.unwrap();
    // It followed another log: now that it is gone, that is what is said.
    until("the next one is in", || {
        let status = ledger.status();
        status.iter().all(|(_, _, it)| matches!(&it.condition, Condition::Fenced(why) if why.contains("follows log")))
    })
    .await;
}

fn nodes(file: &std::path::Path, info: Conninfo) -> Vec<Box<dyn Node>> {
    let tls = Tls::new(&info).unwrap();
    vec![postgres("pg", info, tls), sqlite("lite", file)]
}

async fn hold_until_killed(told: &str) {
    let (file, pairs) = told.split_once('\n').unwrap();
    let pairs = pairs.lines().map(|line| line.split_once('\t').unwrap());
    let nodes = nodes(file.as_ref(), Conninfo::from_pairs(pairs).unwrap());
    let ledger = Ledger::start(Arc::new(MemoryLog::default()), nodes, settings()).await.unwrap();
    all_follow(&ledger).await;
    std::fs::write(format!("{file}.ready"), "").unwrap();
    tokio::time::sleep(PATIENCE).await;
}
