//! What every log must do, over all of them.

use std::time::Duration;

use tokio::time::timeout;

use std::sync::atomic::{AtomicU32, Ordering};

use herdsman_ledger::{
    LogId, Offset,
    entry::ENTRY_BYTES_MOST,
    log::{
        Log, OpenError, ReadError, Reader, Record,
        embedded::EmbeddedLog,
        kafka::{KafkaLog, KafkaLogConfig},
        memory::MemoryLog,
        open,
    },
};
use herdsman_sandbox::Kafka;

/// A log that takes longer has stopped.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything. `make` makes a new, empty log.
async fn all<L: Log>(make: &impl AsyncFn() -> L) {
    what_is_appended_is_read_in_order(&make().await).await;
    a_reader_starts_anywhere_and_waits_for_more(&make().await).await;
    appends_at_the_same_time_each_get_a_place_of_their_own(&make().await).await;
    what_is_trimmed_is_gone_and_the_rest_keeps_its_place(&make().await).await;
    a_log_begins_with_one_genesis(&make().await).await;
    large_records_are_taken(&make().await).await;
}

/// Reads so many records from a place on.
async fn read(log: &dyn Log, from: u64, count: usize) -> Vec<Record> {
    let mut reader = log.read(Offset(from)).await.unwrap();
    let mut records = Vec::new();
    while records.len() < count {
        let more = timeout(PATIENCE, reader.next()).await.expect("records in time").unwrap();
        assert!(!more.is_empty());
        records.extend(more);
    }
    records
}

fn body(number: usize) -> Vec<u8> {
    format!("record {number}").into_bytes()
}

async fn fill(log: &dyn Log, count: usize) {
    for number in 0..count {
        let at = log.append(body(number)).await.unwrap();
        assert_eq!(at, Offset(u64::try_from(number).unwrap()));
    }
}

async fn what_is_appended_is_read_in_order(log: &dyn Log) {
    assert_eq!((log.start().await.unwrap(), log.end().await.unwrap()), (Offset(0), Offset(0)));
    fill(log, 20).await;
    assert_eq!(log.end().await.unwrap(), Offset(20));
    for (number, record) in read(log, 0, 20).await.into_iter().enumerate() {
        assert_eq!(
            record,
            Record { at: Offset(u64::try_from(number).unwrap()), body: body(number) }
        );
    }
}

async fn a_reader_starts_anywhere_and_waits_for_more(log: &dyn Log) {
    fill(log, 10).await;
    let from_middle = read(log, 7, 3).await;
    assert_eq!(from_middle.first().unwrap(), &Record { at: Offset(7), body: body(7) });
    let mut at_end = log.read(Offset(10)).await.unwrap();
    let quiet = timeout(Duration::from_millis(50), at_end.next()).await;
    assert!(quiet.is_err(), "there is nothing yet: {quiet:?}");
    log.append(body(10)).await.unwrap();
    let next = timeout(PATIENCE, at_end.next()).await.unwrap().unwrap();
    assert_eq!(next, [Record { at: Offset(10), body: body(10) }]);
    let mut beyond = log.read(Offset(20)).await.unwrap();
    let short = timeout(PATIENCE, next_error(&mut *beyond)).await.unwrap();
    assert!(matches!(short, ReadError::Short { wanted: Offset(20) }), "{short:?}");
}

/// The first lasting trouble of a reader.
async fn next_error(reader: &mut dyn Reader) -> ReadError {
    loop {
        match reader.next().await {
            Err(ReadError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => return error,
            Ok(records) => panic!("it gave {records:?}"),
        }
    }
}

async fn appends_at_the_same_time_each_get_a_place_of_their_own(log: &dyn Log) {
    const COUNT: usize = 200;
    let appends = (0..COUNT).map(|number| log.append(body(number)));
    let places: Vec<Offset> =
        futures_util::future::join_all(appends).await.into_iter().map(Result::unwrap).collect();
    let records = read(log, 0, COUNT).await;
    assert_eq!(records.len(), COUNT);
    for (number, at) in places.into_iter().enumerate() {
        assert!(records.contains(&Record { at, body: body(number) }), "record {number} at {at}");
    }
}

async fn what_is_trimmed_is_gone_and_the_rest_keeps_its_place(log: &dyn Log) {
    fill(log, 10).await;
    log.trim(Offset(4)).await.unwrap();
    assert_eq!((log.start().await.unwrap(), log.end().await.unwrap()), (Offset(4), Offset(10)));
    assert_eq!(read(log, 4, 6).await.first().unwrap().body, body(4));
    assert_eq!(log.append(body(10)).await.unwrap(), Offset(10));
    let mut gone = log.read(Offset(3)).await.unwrap();
    let trimmed = timeout(PATIENCE, next_error(&mut *gone)).await.unwrap();
    assert_eq!(trimmed, ReadError::Trimmed { first: Offset(4), wanted: Offset(3) });
    // Also when nothing is left.
    log.trim(Offset(11)).await.unwrap();
    assert_eq!((log.start().await.unwrap(), log.end().await.unwrap()), (Offset(11), Offset(11)));
    assert_eq!(log.append(body(11)).await.unwrap(), Offset(11));
}

async fn a_log_begins_with_one_genesis(log: &dyn Log) {
    let (one, other) = (LogId([1; 16]), LogId([2; 16]));
    let (genesis, first) = open(log, one).await.unwrap();
    assert_eq!(genesis.log, one);
    let (again, same) = open(log, other).await.unwrap();
    assert_eq!((again, same), (genesis, first));
}

async fn large_records_are_taken(log: &dyn Log) {
    let large = vec![7; ENTRY_BYTES_MOST];
    assert_eq!(log.append(large.clone()).await.unwrap(), Offset(0));
    assert_eq!(read(log, 0, 1).await.remove(0).body, large);
    let opened = open(log, LogId([1; 16])).await;
    assert!(matches!(opened, Err(OpenError::NotALedger(_))), "{opened:?}");
}

#[tokio::test]
async fn the_log_in_memory_is_a_log() {
    all(&async || MemoryLog::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_log_is_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let count = AtomicU32::new(0);
    let make = async || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        EmbeddedLog::open(&folder.path().join(format!("log{number}"))).unwrap()
    };
    all(&make).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_is_a_log_and_loses_nothing_when_it_is_killed() {
    let kafka = Kafka::builder().start().await.unwrap();
    let count = AtomicU32::new(0);
    let config = |name: &str| KafkaLogConfig::new(kafka.bootstrap(), name);
    let make = async || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        KafkaLog::open(config(&format!("ALL{number}"))).await.unwrap()
    };
    all(&make).await;

    let log = KafkaLog::open(config("ALL")).await.unwrap();
    fill(&log, 10).await;
    let mut reader = log.read(Offset(0)).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 10 {
        seen.extend(reader.next().await.unwrap());
    }
    kafka.kill().await.unwrap();
    assert!(log.end().await.is_err(), "nobody answers");
    kafka.start().await.unwrap();
    // The same log, reader and all, goes on.
    let at = timeout(PATIENCE, log.append(body(10))).await.unwrap().unwrap();
    while seen.len() < 11 {
        match timeout(PATIENCE, reader.next()).await.expect("records in time") {
            Ok(more) => seen.extend(more),
            Err(ReadError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(seen.last().unwrap(), &Record { at, body: body(10) });
    assert_eq!(at, Offset(10));
    let shared = KafkaLog::open(config("ALL")).await.unwrap();
    assert_eq!(read(&shared, 0, 11).await, seen);
}
