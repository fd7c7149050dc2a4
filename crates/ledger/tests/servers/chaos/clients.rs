//! Clients at every node that append to lists and read them, and write down what they were told.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use herdsman_ledger::engine::{Committed, Ledger, RequestError, request::random_request};
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    herd::NODES,
    history::{Fate, Op, Txn},
};

/// Each is a table of its own: what a serializable transaction reads is told by table.
pub(super) const LISTS: i64 = 6;
const CLIENTS: usize = 6;
/// A list is written for so long; then another row of its table is.
const EPOCH: Duration = Duration::from_secs(2);

pub(super) fn epoch(after: Duration) -> i64 {
    i64::try_from(after.as_secs() / EPOCH.as_secs()).unwrap()
}

pub(super) fn key(list: i64, epoch: i64) -> i64 {
    epoch * LISTS + list
}

/// A list as a row has it.
pub(super) fn elements(text: Option<&str>) -> Vec<i64> {
    let numbers = text.unwrap().split(',').filter(|it| !it.is_empty());
    numbers.map(|it| it.parse().unwrap()).collect()
}

pub(super) struct Clients {
    record: Arc<Record>,
    running: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

struct Record {
    started: Instant,
    lasts: Duration,
    clock: AtomicU64,
    value: AtomicI64,
    history: Mutex<Vec<Txn>>,
}

impl Record {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Written down before it is begun: whoever is killed in the middle has no word of it.
    fn begin(&self, ops: Vec<Op>) -> usize {
        let mut history = self.history.lock().unwrap();
        let began = self.tick();
        history.push(Txn { ops, fate: Fate::Unknown, began, ended: u64::MAX });
        history.len() - 1
    }

    fn end(&self, number: usize, fate: Fate, ops: Option<Vec<Op>>) {
        let mut history = self.history.lock().unwrap();
        let ended = self.tick();
        let txn = &mut history[number];
        (txn.fate, txn.ended) = (fate, ended);
        if let Some(ops) = ops {
            txn.ops = ops;
        }
    }
}

impl Clients {
    pub(super) fn new(lasts: Duration) -> Self {
        let record = Record {
            started: Instant::now(),
            lasts,
            clock: AtomicU64::default(),
            value: AtomicI64::new(1),
            history: Mutex::default(),
        };
        Self { record: Arc::new(record), running: Vec::new(), stop: Arc::default() }
    }

    pub(super) fn go(&mut self, ledger: &Ledger) {
        for (_, node) in (0..CLIENTS).zip(NODES.into_iter().cycle()) {
            let (ledger, record) = (ledger.clone(), Arc::clone(&self.record));
            let stop = Arc::clone(&self.stop);
            self.running.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    one(&ledger, node, &record).await;
                }
            }));
        }
    }

    /// They end where they are.
    pub(super) async fn abort(&mut self) {
        for client in self.running.drain(..) {
            client.abort();
            let ended = client.await;
            assert!(ended.is_ok() || ended.is_err_and(|it| it.is_cancelled()), "a client failed");
        }
    }

    /// They end when they have their answers.
    pub(super) async fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.running.drain(..) {
            client.await.unwrap();
        }
    }

    /// Writes down what a transaction that only reads was told.
    pub(super) async fn record(&self, read: impl Future<Output = Vec<(i64, Vec<i64>)>>) {
        let number = self.record.begin(Vec::new());
        let reads = read.await.into_iter().map(|(key, found)| Op::Read { key, found });
        self.record.end(number, Fate::Committed, Some(reads.collect()));
    }

    pub(super) fn history(&self) -> Vec<Txn> {
        self.record.history.lock().unwrap().clone()
    }
}

/// One transaction.
async fn one(ledger: &Ledger, node: &str, record: &Record) {
    // Rows are there for twice as long as it lasts.
    let epoch = epoch(record.started.elapsed().min(record.lasts * 2));
    let (mut ops, mut statements) = (Vec::new(), Vec::new());
    for _ in 0..fastrand::u32(1..=4) {
        let list = fastrand::i64(0..LISTS);
        let key = key(list, epoch);
        if fastrand::bool() {
            let value = record.value.fetch_add(1, Ordering::Relaxed);
            ops.push(Op::Append { key, value });
            statements.push(format!(
                "UPDATE list{list} SET elements = elements || ',{value}' WHERE id = {epoch}"
            ));
        } else {
            ops.push(Op::Read { key, found: Vec::new() });
            statements.push(format!("SELECT elements FROM list{list} WHERE id = {epoch}"));
        }
    }
    let appends: Vec<Op> =
        ops.iter().filter(|it| matches!(it, Op::Append { .. })).cloned().collect();
    let only_reads = appends.is_empty();
    let number = record.begin(appends);
    let done = async {
        if only_reads {
            // What the node has may be old; behind a barrier it is not.
            ledger.barrier(node).await?;
        }
        let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
        ledger.execute_serializable(node, random_request(), &statements).await
    };
    match done.await {
        Ok(Committed { answers, .. }) => {
            for (op, answer) in ops.iter_mut().zip(answers) {
                if let Op::Read { found, .. } = op {
                    *found = elements(answer.rows[0][0].as_deref());
                }
            }
            record.end(number, Fate::Committed, Some(ops));
        }
        Err(RequestError::Unknown(_)) => record.end(number, Fate::Unknown, None),
        Err(
            error @ (RequestError::Sql(_)
            | RequestError::Conflict { .. }
            | RequestError::Cancelled
            | RequestError::NotTaken(_)
            | RequestError::Node(..)),
        ) => {
            let own = matches!(&error, RequestError::Sql(it) if !["40001", "57P03"].contains(&it.sqlstate()));
            assert!(!own, "{node}: {error}");
            record.end(number, Fate::Failed, None);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(error) => panic!("{node}: {error}"),
    }
}
