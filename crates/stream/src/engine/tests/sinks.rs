//! A sink that does as it is told and remembers what it got.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use herdsman_wal::{Change, Kind};

use crate::lanes::Behind;
use crate::lanes::fixture::label;
use crate::sink::{Batch, DeliveryError, Order, Position, Sink, SinkError, Undelivered, Why};

/// What a batch comes to.
pub(super) enum Answer {
    Taken,
    /// It was taken, and the answer did not arrive.
    TakenButLost,
    Unavailable,
    After(Duration, Box<Answer>),
}

type Decide = dyn Fn(&[String], usize) -> Answer + Send + Sync;

/// A clone is the same sink.
#[derive(Clone)]
pub(super) struct Recorder {
    order: Order,
    pub(super) opened: Arc<AtomicUsize>,
    pub(super) closed: Arc<AtomicUsize>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    taken: Vec<Arc<Change>>,
    batches: usize,
    /// Batches that came to nothing.
    failed: usize,
    tries: BTreeMap<String, usize>,
    poison: BTreeSet<String>,
    open_failures: usize,
    keeps_position: bool,
    position: Option<Position>,
    decide: Option<Arc<Decide>>,
}

impl Recorder {
    pub(super) fn new(order: Order) -> Self {
        Self { order, opened: Arc::default(), closed: Arc::default(), inner: Arc::default() }
    }

    /// Decides about each batch, from its labels and from how many came to nothing before.
    pub(super) fn answer(
        &self,
        decide: impl Fn(&[String], usize) -> Answer + Send + Sync + 'static,
    ) {
        self.inner.lock().unwrap().decide = Some(Arc::new(decide));
    }

    pub(super) fn poison(&self, label: &str) {
        self.inner.lock().unwrap().poison.insert(label.to_owned());
    }

    pub(super) fn fail_to_open(&self, times: usize) {
        self.inner.lock().unwrap().open_failures = times;
    }

    pub(super) fn position_is(&self, position: Position) {
        self.inner.lock().unwrap().position = Some(position);
    }

    pub(super) fn keep_position(&self) {
        self.inner.lock().unwrap().keeps_position = true;
    }

    pub(super) fn taken(&self) -> Vec<Arc<Change>> {
        self.inner.lock().unwrap().taken.clone()
    }

    pub(super) fn labels(&self) -> Vec<String> {
        self.taken().iter().map(|change| label(change)).collect()
    }

    pub(super) fn kinds(&self) -> Vec<Kind> {
        self.taken().iter().map(|change| change.kind()).collect()
    }

    pub(super) fn batches(&self) -> usize {
        self.inner.lock().unwrap().batches
    }

    pub(super) fn tries_of(&self, label: &str) -> usize {
        self.inner.lock().unwrap().tries.get(label).copied().unwrap_or(0)
    }

    fn settle<'a>(
        &'a self,
        batch: &'a Batch,
        answer: Answer,
    ) -> Pin<Box<dyn Future<Output = Result<(), DeliveryError>> + Send + 'a>> {
        Box::pin(async move {
            match answer {
                Answer::After(pause, then) => {
                    tokio::time::sleep(pause).await;
                    self.settle(batch, *then).await
                }
                Answer::Unavailable => {
                    self.inner.lock().unwrap().failed += 1;
                    Err(DeliveryError::Unavailable(error()))
                }
                Answer::TakenButLost => {
                    self.inner.lock().unwrap().failed += 1;
                    self.take(batch).and(Err(DeliveryError::Unavailable(error())))
                }
                Answer::Taken => self.take(batch),
            }
        })
    }

    /// Takes all but what is poisoned and what is behind that.
    fn take(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let mut inner = self.inner.lock().unwrap();
        let mut behind = Behind::default();
        let mut undelivered = Vec::new();
        for (index, change) in batch.changes.iter().enumerate() {
            let label = label(change);
            let stuck = self.order == Order::Total && !undelivered.is_empty();
            let why = if stuck || behind.holds_back(change) {
                Why::Behind
            } else {
                *inner.tries.entry(label.clone()).or_default() += 1;
                if !inner.poison.contains(&label) {
                    inner.taken.push(Arc::clone(change));
                    continue;
                }
                Why::Failed(error())
            };
            behind.add(change);
            undelivered.push(Undelivered { index, why });
        }
        if inner.keeps_position && undelivered.is_empty() {
            inner.position = batch.position;
        }
        if undelivered.is_empty() { Ok(()) } else { Err(DeliveryError::Partly(undelivered)) }
    }
}

#[async_trait]
impl Sink for Recorder {
    async fn open(&self) -> Result<Option<Position>, SinkError> {
        self.opened.fetch_add(1, Relaxed);
        let mut inner = self.inner.lock().unwrap();
        match inner.open_failures.checked_sub(1) {
            Some(left) => {
                inner.open_failures = left;
                Err(error())
            }
            None => Ok(inner.position),
        }
    }

    async fn deliver(&self, batch: &Batch) -> Result<(), DeliveryError> {
        assert!(!batch.changes.is_empty());
        assert_eq!(
            self.order == Order::Total && !batch.changes.iter().all(|c| c.kind() == Kind::Read),
            batch.position.is_some()
        );
        let (decide, failed) = {
            let mut inner = self.inner.lock().unwrap();
            inner.batches += 1;
            (inner.decide.clone(), inner.failed)
        };
        let labels: Vec<_> = batch.changes.iter().map(|change| label(change)).collect();
        let answer = match decide {
            Some(decide) => self.decide(&*decide, &labels, failed),
            None => Answer::Taken,
        };
        self.settle(batch, answer).await
    }

    async fn close(&self) {
        self.closed.fetch_add(1, Relaxed);
    }

    fn order(&self) -> Order {
        self.order
    }
}

impl Recorder {
    /// A panic counts as a batch that came to nothing.
    fn decide(&self, decide: &Decide, labels: &[String], failed: usize) -> Answer {
        let mut guard = CountOnPanic(Some(self));
        let answer = decide(labels, failed);
        guard.0 = None;
        answer
    }
}

struct CountOnPanic<'a>(Option<&'a Recorder>);

impl Drop for CountOnPanic<'_> {
    fn drop(&mut self) {
        if let Some(recorder) = self.0 {
            recorder.inner.lock().unwrap().failed += 1;
        }
    }
}

pub(super) fn error() -> SinkError {
    SinkError {
        what: "reach",
        target: "the shop".to_owned(),
        problem: "it is closed".to_owned(),
        advice: "come back tomorrow",
        reopen: true,
    }
}
