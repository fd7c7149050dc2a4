//! Foreign keys, on servers of each make: cascades are what the log says, and no race leaves a reference to nothing.

use std::sync::Arc;

use herdsman_ledger::{
    engine::{Ack, Ledger, RequestError, Settings, request::random_request},
    log::memory::MemoryLog,
    node::{SqlError, Transaction},
    table::TableChange,
};

use crate::herd::{Herd, NODES, PATIENCE, all_follow};

const TABLES: [&str; 4] = [
    "CREATE TABLE owner (id bigint PRIMARY KEY, mail varchar(40) UNIQUE, balance bigint NOT NULL)",
    "CREATE TABLE item (id bigint PRIMARY KEY, owner bigint NOT NULL REFERENCES owner ON DELETE CASCADE)",
    "CREATE TABLE part (id bigint PRIMARY KEY, item bigint REFERENCES item (id) ON DELETE SET NULL, \
     bigger bigint REFERENCES part)",
    "CREATE TABLE bill (id bigint PRIMARY KEY, mail varchar(40), FOREIGN KEY (mail) REFERENCES owner (mail))",
];

async fn on_all(ledger: &Ledger, node: &str, statements: &[&str]) {
    let done = ledger.execute(node, random_request(), statements, &[]).await;
    assert!(done.as_ref().is_ok_and(|it| it.acknowledged), "{node} {statements:?}: {done:?}");
}

async fn alike(ledger: &Ledger) {
    let verified = ledger.verify(PATIENCE).await.unwrap();
    assert!(verified.alike() && verified.nodes.len() == NODES.len(), "{verified:?}");
}

async fn rows(ledger: &Ledger, sql: &str) -> Vec<Vec<Option<String>>> {
    ledger.execute("maria", random_request(), &[sql], &[]).await.unwrap().answers[0].rows.clone()
}

async fn refused(ledger: &Ledger, node: &str, sql: &str) {
    let told = ledger.execute(node, random_request(), &[sql], &[]).await;
    let Err(RequestError::Sql(SqlError::Refused { state, .. })) = &told else {
        panic!("{node} {sql}: {told:?}")
    };
    assert!(state.starts_with("23"), "{node} {sql}: {told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_hold_on_every_make_whoever_races() {
    let herd = Herd::start(18).await;
    let log = Arc::new(MemoryLog::default());
    let settings = Settings { deadline: PATIENCE, ack: Ack::All, ..Settings::default() };
    let ledger = Ledger::start(log, herd.nodes(), settings).await.unwrap();
    all_follow(&ledger).await;
    for sql in TABLES {
        let change = TableChange::of_sql(sql).unwrap().unwrap();
        let made = ledger.define("pg", random_request(), change).await.unwrap();
        assert!(made.acknowledged, "{:?}", ledger.status());
    }
    for (i, node) in NODES.into_iter().enumerate() {
        cascades_are_what_every_node_does(&ledger, node, i * 100).await;
    }
    alike(&ledger).await;
    for (one, other) in [("pg", "maria"), ("maria", "pg")] {
        no_race_leaves_an_orphan(&ledger, one, other).await;
    }
    alike(&ledger).await;
    // A node that comes back has references, and cascades, too.
    for (node, from) in [("maria", "pg"), ("lite", "maria"), ("pg", "lite")] {
        ledger.fence(node, "a test's doing").await.unwrap();
        ledger.join(node, from).await.unwrap();
        all_follow(&ledger).await;
    }
    for (i, node) in NODES.into_iter().enumerate() {
        cascades_are_what_every_node_does(&ledger, node, 1000 + i * 100).await;
    }
    let drop = |table: &str| TableChange::Drop { table: table.to_owned() };
    let told = ledger.define("pg", random_request(), drop("owner")).await.unwrap_err();
    assert_eq!(told.sqlstate(), "2BP01");
    on_all(
        &ledger,
        "maria",
        &["INSERT INTO owner VALUES (1, 'last', 0)", "INSERT INTO item VALUES (1, 1)"],
    )
    .await;
    for table in ["part", "item"] {
        assert!(ledger.define("lite", random_request(), drop(table)).await.unwrap().acknowledged);
    }
    // What would have gone with it is there no more.
    on_all(&ledger, "maria", &["DELETE FROM owner WHERE id = 1"]).await;
    alike(&ledger).await;
}

async fn cascades_are_what_every_node_does(ledger: &Ledger, node: &str, first: usize) {
    let (a, b) = (first + 1, first + 2);
    let statements = [
        format!("INSERT INTO owner (id, mail, balance) VALUES ({a}, 'o{a}', 0), ({b}, 'o{b}', 0)"),
        format!("INSERT INTO item (id, owner) VALUES ({a}, {a}), ({b}, {a}), ({first}, {b})"),
        format!("INSERT INTO part (id, item) VALUES ({a}, {a}), ({first}, {first})"),
        format!("INSERT INTO part (id, item, bigger) VALUES ({b}, {b}, {a})"),
        format!("INSERT INTO bill (id, mail) VALUES ({a}, 'o{b}'), ({b}, NULL)"),
    ];
    on_all(ledger, node, &statements.each_ref().map(String::as_str)).await;
    on_all(ledger, node, &[&format!("DELETE FROM owner WHERE id = {a}")]).await;
    let left = rows(ledger, &format!("SELECT id FROM item WHERE id BETWEEN {first} AND {b}")).await;
    assert_eq!(left, [[Some(first.to_string())]], "{node}");
    let parts = format!("SELECT id, item FROM part WHERE id BETWEEN {first} AND {b} ORDER BY id");
    let text = |id: usize| Some(id.to_string());
    let wanted = [[text(first), text(first)], [text(a), None], [text(b), None]];
    assert_eq!(rows(ledger, &parts).await, wanted, "{node}");
    refused(ledger, node, &format!("DELETE FROM owner WHERE id = {b}")).await;
    refused(ledger, node, &format!("UPDATE owner SET mail = 'x' WHERE id = {b}")).await;
    refused(ledger, node, &format!("DELETE FROM part WHERE id = {a}")).await;
    refused(ledger, node, &format!("INSERT INTO item (id, owner) VALUES ({a}, 9999)")).await;
    refused(ledger, node, &format!("UPDATE bill SET mail = 'nobody' WHERE id = {a}")).await;
}

/// Transactions of which neither has seen what the other did.
async fn no_race_leaves_an_orphan(ledger: &Ledger, one: &str, other: &str) {
    let start = [
        "DELETE FROM owner WHERE id = 50",
        "INSERT INTO owner (id, mail, balance) VALUES (50, 'o50', 0)",
    ];
    let begun = async |node: &str, sql: &str| -> Box<dyn Transaction> {
        let mut transaction = ledger.begin(node).await.unwrap();
        transaction.run(sql).await.unwrap();
        transaction
    };
    let commit = async |node: &str, it| ledger.commit(node, random_request(), it, &[]).await;
    let refer = |id: u32| format!("INSERT INTO item (id, owner) VALUES ({id}, 50)");
    let delete = "DELETE FROM owner WHERE id = 50";

    on_all(ledger, one, &start).await;
    let (gone, referring) = (begun(one, delete).await, begun(other, &refer(50)).await);
    commit(one, gone).await.unwrap();
    let told = commit(other, referring).await.unwrap_err();
    assert_eq!(told.sqlstate(), "40001", "it would refer to nothing: {told:?}");
    assert!(rows(ledger, "SELECT id FROM item WHERE owner = 50").await.is_empty());

    on_all(ledger, one, &start).await;
    let (gone, referring) = (begun(one, delete).await, begun(other, &refer(50)).await);
    commit(other, referring).await.unwrap();
    let told = commit(one, gone).await.unwrap_err();
    assert_eq!(told.sqlstate(), "40001", "somebody refers to it: {told:?}");
    assert_eq!(rows(ledger, "SELECT id FROM owner WHERE id = 50").await.len(), 1);

    // Two that refer to one row do not mind each other.
    let (first, second) = (begun(one, &refer(51)).await, begun(other, &refer(52)).await);
    commit(one, first).await.unwrap();
    commit(other, second).await.unwrap();
    assert_eq!(rows(ledger, "SELECT id FROM item WHERE owner = 50").await.len(), 3);
}
