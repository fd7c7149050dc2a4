//! What clients may hold, change and send, on servers of each make.

use std::{sync::Arc, time::Duration};

use herdsman_ledger::{
    Kind, Offset,
    engine::{Ack, Ledger, RequestError, Settings, request::random_request},
    entry::{ENTRY_BYTES_MOST, Entry},
    log::{Log, memory::MemoryLog},
    node::{SqlError, Transaction, sqlite::sqlite},
    table::{Table, TableChange},
};

use crate::herd::{Herd, NODES, PATIENCE, account, all_follow, column, until};

fn settings() -> Settings {
    Settings { deadline: PATIENCE, ack: Ack::All, ..Settings::default() }
}

async fn started(herd: &Herd) -> (Ledger, MemoryLog) {
    let log = MemoryLog::default();
    let ledger = Ledger::start(Arc::new(log.clone()), herd.nodes(), settings()).await.unwrap();
    all_follow(&ledger).await;
    ledger.define("pg", random_request(), TableChange::Create(account())).await.unwrap();
    let insert = "INSERT INTO account (id, mail, balance) VALUES (1, 'one', 0), (2, 'two', 0), (3, 'three', 0)";
    on_all(&ledger, "pg", insert).await;
    (ledger, log)
}

/// Changes something at one node, and waits until all have it.
async fn on_all(ledger: &Ledger, node: &str, sql: &str) {
    let done = ledger.execute(node, random_request(), &[sql], &[]).await.unwrap();
    assert!(done.acknowledged, "{sql}: {:?}", ledger.status());
}

async fn alike(ledger: &Ledger) {
    let verified = ledger.verify(PATIENCE).await.unwrap();
    assert!(verified.alike() && verified.nodes.len() == NODES.len(), "{verified:?}");
}

/// Some other node than this one.
fn another(node: &str) -> &'static str {
    if node == "pg" { "maria" } else { "pg" }
}

fn add(id: i64) -> String {
    format!("UPDATE account SET balance = balance + 1 WHERE id = {id}")
}

/// A statement that runs for ever, at each make.
fn endless(node: &str) -> &'static str {
    match node {
        "pg" => "SELECT pg_sleep(1000000)",
        "maria" => "SELECT SLEEP(1000000)",
        _ => {
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1e15) SELECT max(n) FROM c"
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_never_holds_the_log_up() {
    let herd = Herd::start(18).await;
    let (ledger, _log) = started(&herd).await;
    for (i, node) in NODES.into_iter().enumerate() {
        // Idle, with a row changed that the log is to change; and one that does not mind.
        let mut idle = ledger.begin(node).await.unwrap();
        idle.run(&add(1)).await.unwrap();
        let mut aside = None;
        if node != "lite" {
            let mut other = ledger.begin(node).await.unwrap();
            other.run(&add(2)).await.unwrap();
            aside = Some(other);
        }
        on_all(&ledger, another(node), &add(1)).await;
        let told = idle.run("SELECT 1").await.unwrap_err();
        assert!(matches!(told, SqlError::Conflict(_)), "{node}: {told:?}");
        assert_eq!(told.sqlstate(), "40001");
        let told = ledger.commit(node, random_request(), idle, &[]).await.unwrap_err();
        assert_eq!(told.sqlstate(), "40001", "{node}: {told:?}");
        if let Some(aside) = aside {
            let done = ledger.commit(node, random_request(), aside, &[]).await;
            assert!(done.is_ok(), "{node}: it held nobody up: {done:?}");
        }
        // In the middle of a statement.
        let mut busy = ledger.begin(node).await.unwrap();
        busy.run(&add(1)).await.unwrap();
        let busy = tokio::spawn(async move { busy.run(endless(node)).await });
        on_all(&ledger, another(node), &add(1)).await;
        let told = busy.await.unwrap().unwrap_err();
        assert_eq!(told.sqlstate(), "40001", "{node}: {told:?}");
        // Having only read a table that is to change.
        let mut reader = ledger.begin(node).await.unwrap();
        reader.run("SELECT count(*) FROM account").await.unwrap();
        let column = column(&format!("more{i}"), Kind::Int64, true);
        let change = TableChange::AddColumn { table: "account".to_owned(), column };
        let done = ledger.define(another(node), random_request(), change).await.unwrap();
        assert!(done.acknowledged, "{node}: {:?}", ledger.status());
        drop(reader);
        // Who was told to try again does.
        on_all(&ledger, node, &add(1)).await;
    }
    alike(&ledger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_ledgers_tables_can_be_changed_and_nothing_unseen() {
    use sqlx::{ConnectOptions as _, Executor as _};
    let herd = Herd::start(18).await;
    let (ledger, log) = started(&herd).await;
    let info = herd.conninfo();
    let tls = herdsman_node::Tls::new(&info).unwrap();
    let (client, driver) =
        herdsman_node::connect(&info, &tls, PATIENCE).await.unwrap().split(|_| {});
    tokio::spawn(driver);
    client
        .batch_execute(
            "CREATE TABLE strangers (a int); \
             CREATE FUNCTION sneak() RETURNS int LANGUAGE sql AS 'INSERT INTO strangers VALUES (1) RETURNING 1'; \
             CREATE FUNCTION blind() RETURNS text LANGUAGE sql AS $$SELECT set_config('session_replication_role', 'replica', true)$$; \
             CREATE VIEW window_on AS SELECT * FROM account",
        )
        .await
        .unwrap();
    let mut maria = herd.mysql().connect().await.unwrap();
    maria.execute("CREATE TABLE strangers (a int) ENGINE=MyISAM").await.unwrap();
    maria
        .execute("CREATE FUNCTION sneak() RETURNS int BEGIN SET @herdsman_capture = NULL, @herdsman_apply = 1; RETURN 1; END")
        .await
        .unwrap();
    drop(maria);
    let lite = rusqlite::Connection::open(herd.sqlite_file()).unwrap();
    lite.execute_batch("CREATE TABLE strangers (a int)").unwrap();
    drop(lite);

    let before = log.end().await.unwrap();
    let refused_at = async |node: &str, statements: &[&str]| {
        let found = ledger.execute(node, random_request(), statements, &[]).await;
        let error = found.expect_err(&format!("{node}: {statements:?}"));
        assert_eq!(error.sqlstate(), "0A000", "{node}: {statements:?}: {error}");
    };
    for node in NODES {
        refused_at(node, &["INSERT INTO strangers VALUES (1)"]).await;
        refused_at(node, &[&add(1), "INSERT INTO strangers VALUES (1)"]).await;
        refused_at(node, &[&add(1), "UPDATE _ledger_state SET applied = 99"]).await;
    }
    // Where the engine sees more than the statement says.
    refused_at("pg", &["SELECT sneak()"]).await;
    refused_at("pg", &[&add(1), "SELECT sneak()"]).await;
    refused_at("pg", &["SELECT blind()", &add(1)]).await;
    refused_at("pg", &[&add(2), "SELECT blind()", &add(1)]).await;
    refused_at("pg", &["UPDATE window_on SET balance = 1"]).await;
    refused_at("pg", &["SELECT set_config('session_replication_role', 'replica', true)"]).await;
    refused_at("maria", &["SELECT sneak()", &add(1)]).await;
    refused_at("maria", &["SELECT `sneak` ()", &add(1)]).await;
    refused_at("maria", &["SELECT @herdsman_capture := NULL", &add(1)]).await;
    refused_at("maria", &["SELECT 1 /*! , @herdsman_apply := 1 */", &add(1)]).await;
    assert_eq!(log.end().await.unwrap(), before, "nothing of it came into the log");
    // Connections that were used so are as good as new.
    for node in NODES {
        on_all(&ledger, node, &add(3)).await;
    }
    alike(&ledger).await;
    let sum = ["SELECT balance FROM account WHERE id = 3"];
    let done = ledger.execute("lite", random_request(), &sum, &[]).await.unwrap();
    assert_eq!(done.answers[0].rows, [[Some("3".to_owned())]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_late_is_passed_over_and_waited_for_until_it_has_caught_up() {
    let herd = Herd::start(18).await;
    let (ledger, log) = started(&herd).await;
    drop(ledger);
    let settings = Settings {
        deadline: Duration::from_secs(2),
        late_after: Duration::from_secs(2),
        most_behind: 3,
        ..settings()
    };
    let ledger = Ledger::start(Arc::new(log), herd.nodes(), settings).await.unwrap();
    all_follow(&ledger).await;
    let names = || ledger.serving().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    until("nobody is late", || names() == NODES).await;

    herd.postgres.freeze("n1").await.unwrap();
    let write = async || ledger.execute("lite", random_request(), &[&add(1)], &[]).await;
    // Each of them is answered without the third node's word, until that is too far behind.
    let refused = async {
        loop {
            match write().await {
                Ok(done) => assert!(!done.acknowledged, "{done:?}"),
                Err(refused @ RequestError::NotTaken(_)) => break refused,
                // A machine that is busy.
                Err(_) => {}
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("nobody waits for the node");
    assert_eq!(refused.sqlstate(), "58030");
    assert!(refused.to_string().contains("entries behind"), "{refused}");
    until("it is late", || names() == ["maria", "lite"]).await;
    herd.postgres.thaw("n1").await.unwrap();
    until("it has caught up", || names() == NODES).await;
    let goes_on = async { while !write().await.is_ok_and(|it| it.acknowledged) {} };
    tokio::time::timeout(PATIENCE, goes_on).await.expect("nobody waits any more");
    alike(&ledger).await;
}

/// Just under what the log takes, and beyond.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_as_large_as_an_entry_may_be_fits_every_make_and_a_larger_one_is_refused() {
    /// A MB and a bit under half of what an entry takes.
    const HALF: usize = ENTRY_BYTES_MOST / 2 - 100_000;
    let herd = Herd::start(18).await;
    let (ledger, log) = started(&herd).await;
    let table = Table {
        name: "large".to_owned(),
        columns: vec![
            column("id", Kind::Int64, false),
            column("raw", Kind::Bytes { max: None }, true),
        ],
        key: vec![0],
        uniques: Vec::new(),
        references: Vec::new(),
    };
    ledger.define("pg", random_request(), TableChange::Create(table)).await.unwrap();
    let bytes = |node: &str, byte: &str, count: usize| match node {
        "pg" => format!("decode(repeat('{byte}', {count}), 'hex')"),
        "maria" => format!("REPEAT(UNHEX('{byte}'), {count})"),
        _ => format!("CAST(replace(hex(zeroblob({count})), '00', 'a') AS blob)"),
    };
    for (id, node) in NODES.into_iter().enumerate() {
        if node == "maria" {
            // In one value, where digits could be more than a packet.
            let whole = bytes(node, "00", HALF * 2);
            let insert = format!("INSERT INTO large (id, raw) VALUES (8, {whole})");
            on_all(&ledger, node, &insert).await;
        }
        let half = bytes(node, "00", HALF);
        on_all(&ledger, node, &format!("INSERT INTO large (id, raw) VALUES ({id}, {half})")).await;
        // The row before and the row after are in the entry.
        let other = match node {
            "lite" => format!("CAST(replace(hex(zeroblob({HALF})), '00', 'b') AS blob)"),
            node => bytes(node, "ff", HALF),
        };
        on_all(&ledger, node, &format!("UPDATE large SET raw = {other} WHERE id = {id}")).await;
        let before = log.end().await.unwrap();
        let beyond = bytes(node, "00", ENTRY_BYTES_MOST);
        let sql = format!("INSERT INTO large (id, raw) VALUES (9, {beyond})");
        let told = ledger.execute(node, random_request(), &[&sql], &[]).await.unwrap_err();
        assert_eq!(told.sqlstate(), "54000", "{node}: {told}");
        assert!(told.to_string().contains("split"), "{node}: {told}");
        assert_eq!(log.end().await.unwrap(), before, "{node}");
    }
    alike(&ledger).await;
}

/// On SQLite, which needs no server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_whether_all_are_alike_leaves_one_barrier_in_the_log_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let node = |name: &str| sqlite(name, &folder.path().join(name));
    let log = MemoryLog::default();
    let nodes = vec![node("a"), node("b")];
    let ledger = Ledger::start(Arc::new(log.clone()), nodes, settings()).await.unwrap();
    all_follow(&ledger).await;
    assert!(ledger.verify(PATIENCE).await.unwrap().alike());
    let records = log.read(Offset(0)).await.unwrap().next().await.unwrap();
    let entries: Vec<Entry> = records
        .iter()
        .map(|record| Entry::decode(&record.body, ledger.genesis().log).unwrap())
        .collect();
    assert!(
        matches!(entries.as_slice(), [Entry::Genesis(_), Entry::Barrier { .. }]),
        "{entries:?}"
    );
}

/// A transaction that was ended by force leaves nothing behind on SQLite, whose connection lives on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_run_after_the_end_is_not_done_outside_of_the_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let node = |name: &str| sqlite(name, &folder.path().join(name));
    let nodes = vec![node("a"), node("b")];
    let ledger = Ledger::start(Arc::new(MemoryLog::default()), nodes, settings()).await.unwrap();
    all_follow(&ledger).await;
    ledger.define("a", random_request(), TableChange::Create(account())).await.unwrap();
    let insert = "INSERT INTO account (id, balance) VALUES (1, 0)";
    on_all(&ledger, "b", insert).await;
    let mut open: Box<dyn Transaction> = ledger.begin("a").await.unwrap();
    open.run(&add(1)).await.unwrap();
    tokio::time::timeout(PATIENCE + Duration::from_secs(30), on_all(&ledger, "b", &add(1)))
        .await
        .unwrap();
    for _ in 0..3 {
        assert!(matches!(open.run(&add(1)).await, Err(SqlError::Conflict(_))));
    }
    let told = ledger.commit("a", random_request(), open, &[]).await;
    assert!(matches!(told, Err(RequestError::Sql(SqlError::Conflict(_)))), "{told:?}");
    let verified = ledger.verify(PATIENCE).await.unwrap();
    assert!(verified.alike(), "{verified:?}");
}
