//! A ledger of three makes, under writers and trouble.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use herdsman_ledger::{
    Offset, RequestId,
    engine::{Ack, Committed, Condition, Ledger, RequestError, Settings, request::random_request},
    entry::Entry,
    log::{
        Log,
        embedded::EmbeddedLog,
        kafka::{KafkaLog, KafkaLogConfig},
        memory::{Fault, MemoryLog},
    },
    node::SqlError,
    table::TableChange,
};
use herdsman_sandbox::Kafka;

use crate::herd::{Herd, NODES, PATIENCE, account, all_at, all_follow};

/// Impatient enough to call off what got no word while something was killed.
pub(crate) fn settings() -> Settings {
    Settings {
        deadline: PATIENCE,
        cancel_after: Duration::from_millis(300),
        attempts: 50,
        ack: Ack::Local,
        ..Settings::default()
    }
}

const ACCOUNTS: i64 = 8;
const START: i64 = 1000;

/// Every node holds the same, all of them, and no money came or went.
pub(crate) async fn alike(ledger: &Ledger) {
    all_follow(ledger).await;
    let verified = ledger.verify(PATIENCE).await.unwrap();
    assert!(verified.alike(), "{verified:?}");
    assert_eq!(verified.nodes.len(), NODES.len(), "{verified:?}");
    for node in NODES {
        let total = ledger
            .execute(node, random_request(), &["SELECT sum(balance) FROM account"], &[])
            .await
            .unwrap();
        assert_eq!(total.answers[0].rows, [[Some((ACCOUNTS * START).to_string())]], "{node}");
    }
}

pub(crate) async fn open_accounts(ledger: &Ledger) {
    all_follow(ledger).await;
    let create = TableChange::Create(account());
    ledger.define("pg", random_request(), create.clone()).await.unwrap();
    let again = ledger.define("maria", random_request(), create).await;
    assert!(matches!(&again, Err(RequestError::Refused(state)) if state == "42P07"), "{again:?}");
    let rows: Vec<String> =
        (0..ACCOUNTS).map(|id| format!("({id}, 'a{id}@example.org', {START})")).collect();
    let insert = format!("INSERT INTO account (id, mail, balance) VALUES {}", rows.join(", "));
    let made = ledger.execute("pg", random_request(), &[&insert], &[]).await.unwrap();
    all_at(ledger, made.at.unwrap()).await;
}

/// Moves money between accounts at one node until told to stop. Each transfer also goes to a book of its own.
pub(crate) struct Writer {
    committed: Vec<RequestId>,
    unknown: Vec<RequestId>,
    refused: u32,
}

async fn write(
    ledger: Ledger,
    node: &'static str,
    stop: Arc<AtomicBool>,
    serial: Arc<AtomicU64>,
) -> Writer {
    let mut writer = Writer { committed: Vec::new(), unknown: Vec::new(), refused: 0 };
    while !stop.load(Ordering::Relaxed) {
        let number = serial.fetch_add(1, Ordering::Relaxed);
        let (from, to) = (fastrand::i64(..ACCOUNTS), fastrand::i64(..ACCOUNTS));
        let request = random_request();
        let statements = [
            format!("UPDATE account SET balance = balance - 1 WHERE id = {from}"),
            format!("UPDATE account SET balance = balance + 1 WHERE id = {to}"),
            format!(
                "INSERT INTO account (id, mail, balance) VALUES ({}, '{request}', 0)",
                1000 + number
            ),
        ];
        let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
        match ledger.execute(node, request, &statements, &[]).await {
            Ok(done) => {
                assert!(done.at.is_some());
                writer.committed.push(request);
            }
            Err(RequestError::Unknown(_)) => writer.unknown.push(request),
            Err(
                RequestError::Cancelled
                | RequestError::Conflict { .. }
                | RequestError::NotTaken(_)
                | RequestError::Node(..)
                | RequestError::Sql(SqlError::Conflict(_) | SqlError::Node(_)),
            ) => {
                writer.refused += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{node}: {error}"),
        }
    }
    writer
}

/// Every transfer that was said to be committed is in the book once, and no other but those of which nothing was said.
pub(crate) async fn the_book_is_right(ledger: &Ledger, writers: &[Writer]) {
    let book = ledger
        .execute("lite", random_request(), &["SELECT mail FROM account WHERE id >= 1000"], &[])
        .await
        .unwrap();
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for mail in book.answers[0].rows.iter().flatten().flatten() {
        *times.entry(mail.clone()).or_default() += 1;
    }
    for request in writers.iter().flat_map(|it| &it.committed) {
        assert_eq!(
            times.remove(&request.to_string()),
            Some(1),
            "{request} was said to be committed"
        );
    }
    for request in writers.iter().flat_map(|it| &it.unknown) {
        times.remove(&request.to_string());
    }
    assert!(times.is_empty(), "these were said not to be committed, and are: {times:?}");
}

pub(crate) async fn under_writers<T>(
    ledger: &Ledger,
    during: impl Future<Output = T>,
) -> Vec<Writer> {
    let stop = Arc::new(AtomicBool::new(false));
    let serial = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = NODES
        .into_iter()
        .chain(["pg"])
        .map(|node| {
            tokio::spawn(write(ledger.clone(), node, Arc::clone(&stop), Arc::clone(&serial)))
        })
        .collect();
    during.await;
    stop.store(true, Ordering::Relaxed);
    let mut done = Vec::new();
    for writer in writers {
        done.push(writer.await.unwrap());
    }
    done
}

/// Waits until so many more entries are in the log.
pub(crate) async fn entries(log: &dyn Log, more: u64) {
    let goal = Offset(log.end().await.unwrap().0 + more);
    let come = async {
        while log.end().await.unwrap_or_default() < goal {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, come).await.expect("writers go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_makes_stay_alike_while_nodes_and_we_are_killed() {
    let herd = Herd::start(18).await;
    let path = herd.folder.path().join("log");
    let open = |path: &Path| Arc::new(EmbeddedLog::open(path).unwrap());
    let log = open(&path);
    let ledger = Ledger::start(log.clone(), herd.nodes(), settings()).await.unwrap();
    open_accounts(&ledger).await;
    let writers = under_writers(&ledger, async {
        entries(&*log, 30).await;
        herd.mariadb.kill().await.unwrap();
        entries(&*log, 20).await;
        herd.mariadb.start_again().await.unwrap();
        entries(&*log, 20).await;
        herd.postgres.kill("n1").await.unwrap();
        entries(&*log, 20).await;
        herd.postgres.start("n1").await.unwrap();
        // What was behind catches up while the others go on.
        all_follow(&ledger).await;
        entries(&*log, 20).await;
    })
    .await;
    alike(&ledger).await;
    the_book_is_right(&ledger, &writers).await;
    let committed: usize = writers.iter().map(|it| it.committed.len()).sum();
    let refused: u32 = writers.iter().map(|it| it.refused).sum();
    assert!(committed > 20, "{committed} transactions committed, {refused} were refused");

    // We are killed: tasks end where they are, in the middle of whatever they do.
    let stop = Arc::new(AtomicBool::new(false));
    let serial = Arc::new(AtomicU64::new(100_000));
    let writer = tokio::spawn(write(ledger.clone(), "pg", Arc::clone(&stop), serial));
    entries(&*log, 10).await;
    writer.abort();
    assert!(writer.await.is_err());
    drop((ledger, log));
    let log = open(&path);
    let ledger = Ledger::start(log.clone(), herd.nodes(), settings()).await.unwrap();
    all_follow(&ledger).await;
    let end = log.end().await.unwrap();
    all_at(&ledger, Offset(end.0 - 1)).await;
    alike(&ledger).await;

    a_row_changed_by_hand_is_noticed(&herd, &ledger).await;
}

/// One bit on one node: noticed by looking, and by the next change of the row, which fences that node and no other.
async fn a_row_changed_by_hand_is_noticed(herd: &Herd, ledger: &Ledger) {
    let lite = rusqlite::Connection::open(herd.sqlite_file()).unwrap();
    lite.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).unwrap();
    lite.execute("UPDATE account SET balance = balance + 1 WHERE id = 3", []).unwrap();
    drop(lite);
    let verified = ledger.verify(PATIENCE).await.unwrap();
    assert!(!verified.alike());
    assert_eq!(verified.nodes["pg"], verified.nodes["maria"]);
    let update = "UPDATE account SET balance = balance + 5 WHERE id = 3";
    let done = ledger.execute("pg", random_request(), &[update], &[]).await.unwrap();
    for node in ["pg", "maria"] {
        ledger.reached(node, done.at.unwrap(), PATIENCE).await.unwrap();
    }
    let fenced = ledger.reached("lite", done.at.unwrap(), PATIENCE).await;
    assert!(
        matches!(&fenced, Err(RequestError::Node(node, why)) if node == "lite" && why.contains("account")),
        "{fenced:?}"
    );
    let refused = ledger.execute("lite", random_request(), &["SELECT 1"], &[]).await;
    assert!(matches!(refused, Err(RequestError::Node(..))), "{refused:?}");
    ledger.execute("maria", random_request(), &[update], &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_makes_stay_alike_over_kafka_that_is_killed() {
    let (herd, kafka) = tokio::join!(Herd::start(15), Kafka::builder().start());
    let kafka = kafka.unwrap();
    let log = KafkaLog::open(KafkaLogConfig::new(kafka.bootstrap(), "ALL")).await.unwrap();
    let log = Arc::new(log);
    let ledger = Ledger::start(log.clone(), herd.nodes(), settings()).await.unwrap();
    open_accounts(&ledger).await;
    let writers = under_writers(&ledger, async {
        entries(&*log, 40).await;
        kafka.kill().await.unwrap();
        kafka.start().await.unwrap();
        entries(&*log, 40).await;
    })
    .await;
    alike(&ledger).await;
    the_book_is_right(&ledger, &writers).await;
    // A read behind a barrier sees what committed at another node.
    let update = "UPDATE account SET mail = 'new@example.org' WHERE id = 0";
    ledger.execute("maria", random_request(), &[update], &[]).await.unwrap();
    ledger.barrier("lite").await.unwrap();
    let select = "SELECT mail FROM account WHERE id = 0";
    let seen = ledger.execute("lite", random_request(), &[select], &[]).await.unwrap();
    assert_eq!(seen.answers[0].rows, [[Some("new@example.org".to_owned())]]);
}

/// Lost, late and doubled appends, as a broker in trouble has them; on SQLite nodes, which need no server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_becomes_of_an_append_a_request_is_done_once_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let node = |name: &str| herdsman_ledger::node::sqlite::sqlite(name, &folder.path().join(name));
    let log = MemoryLog::default();
    let all = Settings { ack: Ack::All, ..settings() };
    let ledger =
        Ledger::start(Arc::new(log.clone()), vec![node("a"), node("b")], all).await.unwrap();
    ledger.reached("a", Offset(0), PATIENCE).await.unwrap();
    while ledger.status().iter().any(|it| it.2.condition != Condition::Following) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ledger.define("a", random_request(), TableChange::Create(account())).await.unwrap();
    let insert = |id: i64| format!("INSERT INTO account (id, balance) VALUES ({id}, 0)");
    let run =
        async |id: i64, request: RequestId| ledger.execute("a", request, &[&insert(id)], &[]).await;
    let there = async |id: i64| {
        let select = format!("SELECT count(*) FROM account WHERE id = {id}");
        let found = ledger.execute("b", random_request(), &[&select], &[]).await.unwrap();
        found.answers[0].rows[0][0].clone().unwrap()
    };

    log.fail_next([Fault::LoseAck]);
    assert!(run(1, random_request()).await.unwrap().acknowledged, "it is read back");
    log.fail_next([Fault::Twice]);
    run(2, random_request()).await.unwrap();
    log.fail_next([Fault::Reject]);
    assert!(matches!(run(3, random_request()).await, Err(RequestError::NotTaken(_))));
    log.fail_next([Fault::Lose]);
    assert_eq!(run(4, random_request()).await, Err(RequestError::Cancelled));
    // It lands after it was called off, and stays called off.
    log.fail_next([Fault::Park]);
    let late = random_request();
    assert_eq!(run(5, late).await, Err(RequestError::Cancelled));
    log.deliver();
    assert_eq!(run(5, late).await, Err(RequestError::Cancelled));
    // A client that asks again under its id is told what was.
    let again = random_request();
    let first = run(6, again).await.unwrap();
    let delete = "DELETE FROM account WHERE id = 6";
    assert_eq!(ledger.execute("b", again, &[delete], &[]).await.unwrap().at, first.at);
    ledger.barrier("b").await.unwrap();
    for (id, wanted) in [(1, "1"), (2, "1"), (3, "0"), (4, "0"), (5, "0"), (6, "1")] {
        assert_eq!(there(id).await, wanted, "account {id}");
    }

    // A record that nobody can read stops every node until an operator has it skipped.
    let mut damaged = Entry::Trim { below: Offset(0) }.encode(ledger.genesis().log).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    let at = log.append(damaged).await.unwrap();
    for node in ["a", "b"] {
        let stopped = ledger.reached(node, at, PATIENCE).await;
        assert!(
            matches!(&stopped, Err(RequestError::Node(_, why)) if why.contains("skip")),
            "{stopped:?}"
        );
    }
    let early = ledger.skip(Offset(at.0 - 1)).await;
    assert!(matches!(early, Err(RequestError::Node(..))), "{early:?}");
    ledger.skip(at).await.unwrap();
    while ledger.status().iter().any(|it| it.2.condition != Condition::Following) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    run(7, random_request()).await.unwrap();
    assert!(ledger.verify(PATIENCE).await.unwrap().alike());
}

/// Two clients read both accounts and write one each: together only where SERIALIZABLE is not asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_skew_is_refused_where_serializable_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let node = |name: &str| herdsman_ledger::node::sqlite::sqlite(name, &folder.path().join(name));
    let log = Arc::new(MemoryLog::default());
    let ledger = Ledger::start(log, vec![node("a"), node("b")], settings()).await.unwrap();
    while ledger.status().iter().any(|it| it.2.condition != Condition::Following) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ledger.define("a", random_request(), TableChange::Create(account())).await.unwrap();
    let insert = "INSERT INTO account (id, balance) VALUES (1, 1), (2, 1)";
    let made = ledger.execute("a", random_request(), &[insert], &[]).await.unwrap();
    ledger.reached("b", made.at.unwrap(), PATIENCE).await.unwrap();
    for (scanned, skewed) in [(Some(&["account"][..]), false), (Some(&[]), true), (None, false)] {
        let results = loop {
            let results = skewed_writes(&ledger, scanned).await;
            // On a slow machine an open transaction is ended before it can commit; that says nothing.
            let ended = |it: &Result<_, RequestError>| matches!(it, Err(RequestError::Sql(_)));
            if !results.iter().any(ended) {
                break results.map(|it| it.is_ok());
            }
        };
        // The first to commit does not wait: its own node holds the second's transaction open.
        assert_eq!(results, [true, skewed], "{scanned:?}");
    }
}

/// Two transactions, each of which reads what the other writes; the second one commits first.
async fn skewed_writes(
    ledger: &Ledger,
    scanned: Option<&[&str]>,
) -> [Result<Committed, RequestError>; 2] {
    for node in ["a", "b"] {
        ledger.barrier(node).await.unwrap();
    }
    let mut both = Vec::new();
    for (node, id) in [("a", 1), ("b", 2)] {
        let begun = async {
            let mut transaction = ledger.begin(node).await?;
            transaction.run("SELECT sum(balance) FROM account").await?;
            let update = format!("UPDATE account SET balance = balance - 1 WHERE id = {id}");
            transaction.run(&update).await?;
            Ok::<_, RequestError>(transaction)
        };
        both.push((node, begun.await));
    }
    let mut results = Vec::new();
    for (node, transaction) in both.into_iter().rev() {
        let request = random_request();
        results.push(match (transaction, scanned) {
            (Err(error), _) => Err(error),
            (Ok(it), Some(scanned)) => ledger.commit(node, request, it, scanned).await,
            (Ok(it), None) => ledger.commit_serializable(node, request, it).await,
        });
    }
    results.try_into().unwrap()
}
