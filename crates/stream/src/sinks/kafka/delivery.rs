//! One batch on its way: queued in order, then awaited.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use herdsman_wal::Change;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{DeliveryFuture, Producer as _};
use tokio::time::Instant;

use super::Producer;
use super::problem::{Failure, is_about_one_record};
use super::record::{Record, Recorder};
use crate::sink::{Undelivered, Why};

/// How much longer than it promises librdkafka may take before it counts as stuck.
const GRACE: Duration = Duration::from_secs(10);
/// How long to wait for room that others have to make.
const ROOM_PAUSE: Duration = Duration::from_millis(5);

/// Changes that will never be taken, by their place in the batch.
pub(super) type Rejected = BTreeMap<usize, Failure>;

/// Brings batches to Kafka.
pub(super) struct Delivery<'a> {
    producer: &'a Producer,
    recorder: &'a Recorder,
    timeout: Duration,
    /// Records on their way, in the order they were queued, with their changes' places in the batch.
    waiting: VecDeque<(usize, DeliveryFuture)>,
    rejected: Rejected,
    /// Changes refused together with others: some of them may be good.
    doubtful: BTreeSet<usize>,
    failure: Option<Failure>,
}

/// What became of one record.
enum Sent {
    Taken,
    /// The record itself is refused.
    Refused(Failure),
    /// Kafka takes nothing.
    Failed(Failure),
}

impl<'a> Delivery<'a> {
    pub(super) fn new(producer: &'a Producer, recorder: &'a Recorder, timeout: Duration) -> Self {
        Self {
            producer,
            recorder,
            timeout,
            waiting: VecDeque::new(),
            rejected: Rejected::new(),
            doubtful: BTreeSet::new(),
            failure: None,
        }
    }

    /// Sends all changes, and waits until every one is acknowledged or refused. Nothing of the batch is on its way any
    /// more when this returns, so that a later try cannot be overtaken by this one.
    pub(super) async fn of(&mut self, changes: &[Arc<Change>]) -> Result<Rejected, Failure> {
        for (index, change) in changes.iter().enumerate() {
            for record in self.recorder.records(change) {
                if self.failure.is_some() || self.rejected.contains_key(&index) {
                    break;
                }
                self.queue(index, &record).await;
            }
        }
        while let Some((index, future)) = self.waiting.pop_front() {
            let sent = self.awaited(future).await;
            self.note(index, sent);
        }
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        self.try_one_by_one(changes).await?;
        Ok(std::mem::take(&mut self.rejected))
    }

    /// Puts one record behind all others, as soon as there is room.
    async fn queue(&mut self, index: usize, record: &Record<'_>) {
        let deadline = Instant::now() + self.timeout;
        loop {
            match self.producer.send_result(record.to_send()) {
                Ok(future) => return self.waiting.push_back((index, future)),
                Err((KafkaError::MessageProduction(Code::QueueFull), _)) => {}
                Err((error, _)) => {
                    // It has met no other record yet.
                    return match refusal(&error) {
                        Sent::Refused(failure) => drop(self.rejected.insert(index, failure)),
                        sent => self.note(index, sent),
                    };
                }
            }
            // Whatever is acknowledged makes room.
            if let Some((earlier, future)) = self.waiting.pop_front() {
                let sent = self.awaited(future).await;
                self.note(earlier, sent);
            } else {
                tokio::time::sleep(ROOM_PAUSE).await;
            }
            if self.failure.is_none() && Instant::now() > deadline {
                self.failure = Some(Failure::Told { code: Code::QueueFull, heard: None });
            }
            if self.failure.is_some() {
                return;
            }
        }
    }

    /// Waits for what becomes of a record. librdkafka gives up on it after its own time.
    async fn awaited(&self, future: DeliveryFuture) -> Sent {
        match tokio::time::timeout(self.timeout + GRACE, future).await {
            Ok(Ok(Ok(_))) => Sent::Taken,
            Ok(Ok(Err((error, _)))) => match self.producer.client().fatal_error() {
                Some((_, reason)) => Sent::Failed(Failure::Spent(reason)),
                None => refusal(&error),
            },
            Ok(Err(_)) => Sent::Failed(Failure::Closed),
            Err(_) => Sent::Failed(Failure::Spent("librdkafka is stuck".to_owned())),
        }
    }

    fn note(&mut self, index: usize, sent: Sent) {
        match sent {
            Sent::Taken => {}
            // So were those in the same request.
            Sent::Refused(_) => drop(self.doubtful.insert(index)),
            Sent::Failed(failure) => self.failure = self.failure.take().or(Some(failure)),
        }
    }

    /// Brokers refuse whole requests for one bad record. Each record of those is tried by itself; what is in Kafka
    /// already but belongs behind one of them comes again, so that the last record of every key is the right one.
    async fn try_one_by_one(&mut self, changes: &[Arc<Change>]) -> Result<(), Failure> {
        let doubtful = std::mem::take(&mut self.doubtful);
        let mut behind = HashSet::new();
        let first = doubtful.first().copied().unwrap_or(changes.len());
        for (index, change) in changes.iter().enumerate().skip(first) {
            let records = self.recorder.records(change);
            let keys: Vec<_> = records.iter().filter_map(Record::identity).collect();
            if !doubtful.contains(&index) && !keys.iter().any(|key| behind.contains(key)) {
                continue;
            }
            behind.extend(keys);
            for record in records {
                match self.send_alone(&record).await {
                    Sent::Taken => {}
                    Sent::Refused(failure) => {
                        self.rejected.insert(index, failure);
                        break;
                    }
                    Sent::Failed(failure) => return Err(failure),
                }
            }
        }
        Ok(())
    }

    async fn send_alone(&self, record: &Record<'_>) -> Sent {
        match self.producer.send_result(record.to_send()) {
            Ok(future) => self.awaited(future).await,
            Err((error, _)) => refusal(&error),
        }
    }
}

/// For the engine, in the order of the batch.
pub(super) fn undelivered(rejected: Rejected, target: &str) -> Vec<Undelivered> {
    let told = |(index, failure): (usize, Failure)| Undelivered {
        index,
        why: Why::Rejected(failure.about(target)),
    };
    rejected.into_iter().map(told).collect()
}

fn refusal(error: &KafkaError) -> Sent {
    match error.rdkafka_error_code() {
        Some(code) if is_about_one_record(code) => Sent::Refused(Failure::of(error)),
        _ => Sent::Failed(Failure::of(error)),
    }
}
