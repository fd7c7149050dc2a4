//! Bringing nodes back, from peers and from files of another make, and trimming the log, while writes go on.

use std::{sync::Arc, time::Duration};

use herdsman_ledger::{
    LogId, Offset,
    engine::{Ledger, RequestError, request::random_request},
    entry::{Entry, Genesis},
    log::{
        Log,
        embedded::EmbeddedLog,
        kafka::{KafkaLog, KafkaLogConfig},
    },
};
use herdsman_sandbox::Kafka;

use crate::{
    herd::{Herd, NODES, PATIENCE, all_follow},
    lockstep::{alike, entries, open_accounts, settings, the_book_is_right, under_writers},
};

/// For how many entries of these tests' logs nodes remember who wrote what.
const WINDOW: u64 = 20;

/// Begins a log whose window is short enough for it to be trimmed.
async fn begin(log: &dyn Log) {
    let id = LogId([6; 16]);
    let genesis = Genesis { log: id, window: WINDOW, keys: 10_000 };
    log.append(Entry::Genesis(genesis).encode(id).unwrap()).await.unwrap();
}

/// Trims, as soon as all nodes that are not fenced are where they can be asked.
async fn trimmed(ledger: &Ledger, backup: Option<Offset>) -> Offset {
    let done = async {
        loop {
            match ledger.trim(backup).await {
                Ok(below) if below > Offset::GENESIS => return below,
                other => may_pass(&other),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, done).await;
    in_time.unwrap_or_else(|_| panic!("not trimmed: {:?}", ledger.status()))
}

/// Any refusal but one for a node's passing trouble is a defect.
fn may_pass(refusal: &Result<Offset, RequestError>) {
    assert!(matches!(refusal, Ok(_) | Err(RequestError::Node(..))), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_come_back_from_peers_and_files_of_another_make_while_writes_go_on() {
    let herd = Herd::start(18).await;
    let path = herd.folder.path().join("log");
    let log = Arc::new(EmbeddedLog::open(&path).unwrap());
    begin(&*log).await;
    let ledger = Ledger::start(log.clone(), herd.nodes(), settings()).await.unwrap();
    open_accounts(&ledger).await;
    let file = herd.folder.path().join("backup");
    let mut backup = None;
    let writers = under_writers(&ledger, async {
        entries(&*log, 20).await;
        let early = ledger.join("lite", "pg").await;
        assert!(
            matches!(&early, Err(RequestError::Node(_, why)) if why.contains("fence")),
            "{early:?}"
        );
        for (node, from) in [("lite", "pg"), ("maria", "lite"), ("pg", "maria")] {
            ledger.fence(node, "to be made anew").await.unwrap();
            assert!(ledger.backup(node, &file).await.is_err(), "{node} serves nobody");
            entries(&*log, 10).await;
            ledger.join(node, from).await.unwrap();
            all_follow(&ledger).await;
        }
        backup = Some(ledger.backup("maria", &file).await.unwrap());
        entries(&*log, 10).await;
    })
    .await;
    alike(&ledger).await;
    the_book_is_right(&ledger, &writers).await;
    let backup = backup.unwrap();
    assert!(backup.rows > 20, "{backup:?}");

    // What a node or the backup may need stays, and the rest goes; the log still says what it is.
    let below = trimmed(&ledger, Some(backup.at)).await;
    assert_eq!(below, Offset(backup.at.0 - WINDOW));
    assert_eq!(log.start().await.unwrap(), below);
    drop(ledger);
    for end in ["", "-wal", "-shm"] {
        let file = format!("{}{end}", herd.sqlite_file().display());
        assert!(std::fs::remove_file(file).is_ok() || !end.is_empty());
    }
    let ledger = Ledger::start(log.clone(), herd.nodes(), settings()).await.unwrap();
    // A new node finds no beginning, and is joined.
    let missing = ledger.reached("lite", Offset(u64::MAX), PATIENCE).await;
    assert!(
        matches!(&missing, Err(RequestError::Node(_, why)) if why.contains("trimmed")),
        "{missing:?}"
    );
    while ledger.join("lite", "maria").await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    alike(&ledger).await;

    // From the file: whole or not at all.
    ledger.fence("pg", "lost its disk").await.unwrap();
    let good = std::fs::read(&file).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    std::fs::write(&file, &bad).unwrap();
    let refused = ledger.restore("pg", &file).await;
    assert!(
        matches!(&refused, Err(RequestError::File { reason, .. }) if reason.contains("damaged")),
        "{refused:?}"
    );
    std::fs::write(&file, &good).unwrap();
    assert_eq!(ledger.restore("pg", &file).await.unwrap(), backup.at);
    alike(&ledger).await;

    // A backup that the log has gone past is of no use, and the node that was made from it says so.
    for number in 0..5 {
        let sql =
            format!("INSERT INTO account (id, mail, balance) VALUES ({}, NULL, 0)", 900 + number);
        ledger.execute("maria", random_request(), &[&sql], &[]).await.unwrap();
    }
    all_follow(&ledger).await;
    assert!(trimmed(&ledger, None).await > below);
    ledger.fence("lite", "once more").await.unwrap();
    ledger.restore("lite", &file).await.unwrap();
    let missing = ledger.reached("lite", Offset(u64::MAX), PATIENCE).await;
    assert!(
        matches!(&missing, Err(RequestError::Node(_, why)) if why.contains("trimmed")),
        "{missing:?}"
    );
    ledger.join("lite", "pg").await.unwrap();
    alike(&ledger).await;
    assert_eq!(ledger.status().len(), NODES.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_over_a_topic_of_kafka_that_was_trimmed_while_writes_go_on() {
    let (herd, kafka) = tokio::join!(Herd::start(18), Kafka::builder().start());
    let kafka = kafka.unwrap();
    let log = KafkaLog::open(KafkaLogConfig::new(kafka.bootstrap(), "ALL")).await.unwrap();
    let log = Arc::new(log);
    begin(&*log).await;
    let ledger = Ledger::start(log.clone(), herd.nodes(), settings()).await.unwrap();
    open_accounts(&ledger).await;
    let writers = under_writers(&ledger, async {
        ledger.fence("lite", "to be made anew").await.unwrap();
        entries(&*log, WINDOW * 2).await;
        trimmed(&ledger, None).await;
        ledger.join("lite", "maria").await.unwrap();
        all_follow(&ledger).await;
        entries(&*log, 5).await;
    })
    .await;
    alike(&ledger).await;
    the_book_is_right(&ledger, &writers).await;
    drop(ledger);
    let ledger = Ledger::start(log.clone(), herd.nodes(), settings()).await.unwrap();
    alike(&ledger).await;
    assert!(log.start().await.unwrap() > Offset::GENESIS);
}
