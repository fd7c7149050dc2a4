//! Nodes killed and frozen, the log's acknowledgements lost, entries doubled and lost, ourselves and the broker killed, while
//! clients at every node append to lists and read them: what they were told is strictly serializable, and all nodes hold
//! the same. 15 s over the embedded log; ten minutes, and as long over Kafka, with `HERDSMAN_SOAK=1`.

mod clients;
mod faulty;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use herdsman_ledger::{
    Offset,
    engine::{Ledger, request::random_request},
    log::{
        Log,
        embedded::EmbeddedLog,
        kafka::{KafkaLog, KafkaLogConfig},
    },
    table::TableChange,
};
use herdsman_sandbox::Kafka;
use tokio::time::{Instant, sleep};

use crate::{
    herd::{Herd, NODES, all_at, all_follow},
    history::{Fate, check},
    lockstep::settings,
};
use clients::{Clients, LISTS, elements};
use faulty::Faulty;

/// How often what was done.
#[derive(Debug, Default)]
struct Done {
    killed: u32,
    frozen: u32,
    we_killed: u32,
    broker_killed: u32,
}

/// A node that needs longer, on however slow a machine, has stopped.
const CATCH_UP: Duration = Duration::from_secs(300);

fn soak() -> bool {
    std::env::var_os("HERDSMAN_SOAK").is_some()
}

/// 15 s, and in a soak ten minutes, or as many as `HERDSMAN_LEDGER_SOAK_SECONDS` says.
fn lasts() -> Duration {
    let seconds = std::env::var("HERDSMAN_LEDGER_SOAK_SECONDS").ok().and_then(|it| it.parse().ok());
    Duration::from_secs(if soak() { seconds.unwrap_or(600) } else { 15 })
}

#[expect(clippy::print_stdout, reason = "the figures are published with --nocapture")]
fn report(line: &str) {
    use std::io::Write as _;
    println!("{line}");
    if let Ok(path) = std::env::var("HERDSMAN_SOAK_REPORT") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        writeln!(file.unwrap(), "{line}").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_are_told_is_strictly_serializable_whatever_fails() {
    let herd = Herd::start(18).await;
    let log = EmbeddedLog::open(&herd.folder.path().join("log")).unwrap();
    run(&herd, Arc::new(log), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_so_it_is_over_kafka_that_is_killed() {
    if !soak() {
        return;
    }
    let (herd, kafka) = tokio::join!(Herd::start(18), Kafka::builder().start());
    let kafka = kafka.unwrap();
    let log = KafkaLog::open(KafkaLogConfig::new(kafka.bootstrap(), "ALL")).await.unwrap();
    run(&herd, Arc::new(log), Some(&kafka)).await;
}

async fn run(herd: &Herd, log: Arc<dyn Log>, kafka: Option<&Kafka>) {
    let log = Arc::new(Faulty::new(log));
    let start = async || Ledger::start(log.clone(), herd.nodes(), settings()).await.unwrap();
    let mut ledger = start().await;
    make_lists(&ledger).await;
    let mut clients = Clients::new(lasts());
    clients.go(&ledger);
    log.sound.store(false, Ordering::Relaxed);
    let mut done = Done::default();
    let until = Instant::now() + lasts();
    // Each kind of trouble comes in a short run, too.
    let mut turn = 0_u32;
    while Instant::now() < until {
        let a_while = Duration::from_millis(fastrand::u64(100..1_500));
        match turn % 5 {
            0 => {
                herd.postgres.kill("n1").await.unwrap();
                sleep(a_while).await;
                herd.postgres.start("n1").await.unwrap();
                done.killed += 1;
            }
            1 => {
                herd.postgres.freeze("n1").await.unwrap();
                sleep(a_while).await;
                herd.postgres.thaw("n1").await.unwrap();
                done.frozen += 1;
            }
            2 => {
                clients.abort().await;
                drop(ledger);
                ledger = start().await;
                clients.go(&ledger);
                done.we_killed += 1;
            }
            3 => {
                herd.mariadb.kill().await.unwrap();
                sleep(a_while).await;
                herd.mariadb.start_again().await.unwrap();
                done.killed += 1;
            }
            _ => {
                if let Some(kafka) = kafka {
                    kafka.kill().await.unwrap();
                    sleep(a_while).await;
                    kafka.start().await.unwrap();
                    done.broker_killed += 1;
                }
            }
        }
        turn += 1;
        sleep(Duration::from_millis(fastrand::u64(500..1_500))).await;
    }
    clients.stop().await;
    log.sound.store(true, Ordering::Relaxed);
    judge(&ledger, &clients, &log, &done).await;
}

async fn make_lists(ledger: &Ledger) {
    all_follow(ledger).await;
    for list in 0..LISTS {
        let sql =
            format!("CREATE TABLE list{list} (id bigint PRIMARY KEY, elements text NOT NULL)");
        let change = TableChange::of_sql(&sql).unwrap().unwrap();
        ledger.define("pg", random_request(), change).await.unwrap();
        let rows: Vec<String> =
            (0..=clients::epoch(lasts() * 2)).map(|id| format!("({id}, '')")).collect();
        let insert = format!("INSERT INTO list{list} (id, elements) VALUES {}", rows.join(", "));
        let made = ledger.execute("pg", random_request(), &[&insert], &[]).await.unwrap();
        all_at(ledger, made.at.unwrap()).await;
    }
}

async fn judge(ledger: &Ledger, clients: &Clients, log: &Faulty, done: &Done) {
    all_follow(ledger).await;
    let end = log.end().await.unwrap();
    for node in NODES {
        // Whoever was away has it all to catch up with.
        let there = ledger.reached(node, Offset(end.0 - 1), CATCH_UP).await;
        assert!(there.is_ok(), "{there:?}, {end:?}: {:?}", ledger.status());
    }
    let verified = ledger.verify(CATCH_UP).await;
    let verified = verified.unwrap_or_else(|error| panic!("{error}: {:?}", ledger.status()));
    assert!(verified.alike() && verified.nodes.len() == NODES.len(), "{verified:?}");
    for node in NODES {
        ledger.barrier(node).await.unwrap();
        clients
            .record(async {
                let mut lists = Vec::new();
                for list in 0..LISTS {
                    let sql = format!("SELECT id, elements FROM list{list}");
                    let read = ledger.execute(node, random_request(), &[&sql], &[]).await.unwrap();
                    for row in &read.answers[0].rows {
                        let epoch: i64 = row[0].as_deref().unwrap().parse().unwrap();
                        lists.push((clients::key(list, epoch), elements(row[1].as_deref())));
                    }
                }
                lists
            })
            .await;
    }
    let history = clients.history();
    let found = check(&history);
    let mut fates: BTreeMap<String, u32> = BTreeMap::new();
    for txn in &history {
        *fates.entry(format!("{:?}", txn.fate)).or_default() += 1;
    }
    let figures = format!(
        "{} s, {fates:?}, {done:?}, appends {:?}, {} entries",
        lasts().as_secs(),
        log.done(),
        log.end().await.unwrap()
    );
    assert!(found.is_empty(), "{found:#?}; {figures}");
    let committed = history.iter().filter(|it| it.fate == Fate::Committed).count();
    assert!(committed > 20, "{figures}");
    report(&format!("ledger chaos, {figures}"));
}
