//! What has happened so far, for whoever asks: cheap to count, and to read from another task.

mod latency;
mod lateness;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use herdsman_node::Lsn;
use herdsman_wal::slot::{Slot, WalStatus};
use serde::Serialize;

use super::inbox::Counters;
use crate::lanes::{Effect, Waiting};
use crate::sink::{Batch, Position, SinkError};

pub use self::latency::Latency;
pub(super) use self::lateness::Lateness;

/// A handle on the numbers of a running engine: cheap to clone, never blocks it.
#[derive(Clone, Debug)]
pub struct Stats(Arc<Inner>);

/// The numbers at one moment. Counters begin at 0 with the engine and only grow.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatsSnapshot {
    /// Changes received.
    pub received: u64,
    /// Changes of those that a filter left out.
    pub left_out: u64,
    /// Transactions received whole.
    pub transactions: u64,
    /// How far the server's log is known to reach.
    pub wal_end: String,
    /// Everything before this position is handled by all sinks.
    pub safe: String,
    /// Everything before this position is acknowledged to the server.
    pub acknowledged: String,
    /// Bytes of log between what is known of it and what is handled.
    pub lag_bytes: u64,
    /// Seconds since the oldest change that is received and not handled was committed; while the server is away, since
    /// it was last heard, if that is longer; 0 when nothing waits.
    pub lag_seconds: f64,
    /// Times that the connection was lost, refused, or left for another node.
    pub reconnects: u64,
    /// The slot, as it was last looked at.
    pub slot: Option<SlotStats>,
    /// Whether reading has stopped because too much waits for sinks.
    pub paused: bool,
    /// The sinks, in the order of the configuration.
    pub sinks: Vec<SinkStats>,
}

/// What a slot holds back at the server, and whether it may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SlotStats {
    /// Bytes of log the server keeps for it.
    pub retained_bytes: u64,
    /// Bytes that may still be written before the server lets go of it; none where nothing limits them.
    pub safe_bytes: Option<i64>,
    /// Whether its log is still there; none when nothing is reserved.
    pub wal_status: Option<WalStatus>,
    /// Whether somebody reads it.
    pub active: bool,
}

/// The numbers of one sink.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SinkStats {
    /// Its name.
    pub name: String,
    /// Whether it is open.
    pub open: bool,
    /// Changes delivered.
    pub delivered: u64,
    /// Batches handed to it, tries included.
    pub batches: u64,
    /// Changes that failed, each time counted.
    pub failed: u64,
    /// Times it said that it cannot take anything.
    pub unavailable: u64,
    /// Tries that have to be repeated: single changes that failed, and batches the sink could not take.
    pub retries: u64,
    /// Changes that became dead letters.
    pub dead_letters: u64,
    /// Changes that wait for it, those under way included.
    pub waiting_changes: usize,
    /// Bytes that these take.
    pub waiting_bytes: usize,
    /// Batches under way.
    pub under_way: usize,
    /// The last position it has taken, for a sink that needs all changes in order.
    pub position: Option<Position>,
    /// From commit to delivery.
    pub latency: Latency,
    /// What it said last when something failed.
    pub last_error: Option<String>,
    /// When that was, in seconds since 1970.
    pub last_error_at: Option<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    received: AtomicU64,
    left_out: AtomicU64,
    transactions: AtomicU64,
    wal_end: AtomicU64,
    safe: AtomicU64,
    acknowledged: AtomicU64,
    reconnects: AtomicU64,
    /// Whether the server is away, as far as whoever connects knows.
    away: AtomicBool,
    /// Locked for a moment only, as those of the sinks.
    times: Mutex<Times>,
    slot: Mutex<Option<SlotStats>>,
    paused: AtomicBool,
    sinks: Vec<SinkNumbers>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Times {
    /// When the oldest change that waits was committed.
    oldest: Option<SystemTime>,
    /// When the server last sent something.
    heard: Option<SystemTime>,
}

#[derive(Debug, Default)]
struct SinkNumbers {
    name: String,
    open: AtomicBool,
    delivered: AtomicU64,
    batches: AtomicU64,
    failed: AtomicU64,
    unavailable: AtomicU64,
    retries: AtomicU64,
    dead_letters: AtomicU64,
    waiting_changes: AtomicUsize,
    waiting_bytes: AtomicUsize,
    under_way: AtomicUsize,
    latency: latency::Buckets,
    /// What changes rarely or as a whole: locked for a moment only, never across an await.
    rest: Mutex<Rest>,
}

#[derive(Clone, Debug, Default)]
struct Rest {
    position: Option<Position>,
    last_error: Option<(SystemTime, String)>,
}

impl Stats {
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let sinks =
            names.map(|name| SinkNumbers { name: name.to_owned(), ..SinkNumbers::default() });
        Self(Arc::new(Inner { sinks: sinks.collect(), ..Inner::default() }))
    }

    /// The numbers now.
    #[must_use]
    pub fn snapshot(&self) -> StatsSnapshot {
        let inner = &*self.0;
        let lsn = |value: &AtomicU64| Lsn(value.load(Relaxed));
        let (wal_end, safe) = (lsn(&inner.wal_end), lsn(&inner.safe));
        StatsSnapshot {
            received: inner.received.load(Relaxed),
            left_out: inner.left_out.load(Relaxed),
            transactions: inner.transactions.load(Relaxed),
            wal_end: wal_end.to_string(),
            safe: safe.to_string(),
            acknowledged: lsn(&inner.acknowledged).to_string(),
            lag_bytes: wal_end.bytes_after(safe),
            lag_seconds: self.late(SystemTime::now()).as_secs_f64(),
            reconnects: inner.reconnects.load(Relaxed),
            slot: *inner.slot.lock().unwrap_or_else(PoisonError::into_inner),
            paused: inner.paused.load(Relaxed),
            sinks: inner.sinks.iter().map(SinkNumbers::snapshot).collect(),
        }
    }

    fn late(&self, now: SystemTime) -> Duration {
        let times = *self.0.times.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = times.heard.filter(|_| self.0.away.load(Relaxed));
        let oldest = times.oldest.into_iter().chain(heard).min();
        // Clocks of two machines may differ by more than the delivery takes.
        oldest.map_or(Duration::ZERO, |then| now.duration_since(then).unwrap_or_default())
    }

    /// The server is away, or was left: it has to be connected to again.
    pub(crate) fn disconnected(&self) {
        self.0.reconnects.fetch_add(1, Relaxed);
        self.0.away.store(true, Relaxed);
    }

    /// It streams.
    pub(crate) fn connected(&self) {
        self.0.away.store(false, Relaxed);
    }

    /// What the slot looks like now, where there is one.
    pub(crate) fn saw_slot(&self, slot: Option<&Slot>) {
        let seen = slot.map(|slot| SlotStats {
            retained_bytes: slot.retained().unwrap_or_default(),
            safe_bytes: slot.safe_wal_size,
            wal_status: slot.wal_status,
            active: slot.active_pid.is_some(),
        });
        *self.0.slot.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }

    pub(super) fn set_times(&self, oldest: Option<SystemTime>, heard: Option<SystemTime>) {
        *self.0.times.lock().unwrap_or_else(PoisonError::into_inner) = Times { oldest, heard };
    }

    pub(super) fn set_received(&self, counters: Counters) {
        self.0.received.store(counters.changes, Relaxed);
        self.0.left_out.store(counters.left_out, Relaxed);
        self.0.transactions.store(counters.transactions, Relaxed);
        self.0.wal_end.store(counters.wal_end.0, Relaxed);
    }

    pub(super) fn set_stream(&self, safe: Lsn, acknowledged: Option<Lsn>, has_room: bool) {
        self.0.safe.store(safe.0, Relaxed);
        self.0.acknowledged.store(acknowledged.unwrap_or_default().0, Relaxed);
        self.0.paused.store(!has_room, Relaxed);
    }

    pub(super) fn set_waiting(&self, sink: usize, waiting: Waiting, under_way: usize, open: bool) {
        if let Some(sink) = self.0.sinks.get(sink) {
            sink.waiting_changes.store(waiting.changes, Relaxed);
            sink.waiting_bytes.store(waiting.bytes, Relaxed);
            sink.under_way.store(under_way, Relaxed);
            sink.open.store(open, Relaxed);
        }
    }

    pub(super) fn handed_out(&self, sink: usize) {
        if let Some(sink) = self.0.sinks.get(sink) {
            sink.batches.fetch_add(1, Relaxed);
        }
    }

    /// All of a batch is delivered. The oldest change of it tells how long that took.
    pub(super) fn delivered(&self, sink: usize, batch: &Batch) {
        let Some(sink) = self.0.sinks.get(sink) else { return };
        sink.delivered.fetch_add(batch.changes.len().try_into().unwrap_or(u64::MAX), Relaxed);
        let oldest = batch.changes.first().map(|change| &change.transaction);
        // What belongs to no transaction has no time of its own.
        if let Some(transaction) = oldest.filter(|transaction| transaction.xid != 0) {
            let committed = transaction.commit_time.system_time();
            // Clocks of two machines may differ by more than the delivery takes.
            sink.latency.add(SystemTime::now().duration_since(committed).unwrap_or(Duration::ZERO));
        }
        if batch.position.is_some() {
            let mut rest = sink.rest.lock().unwrap_or_else(PoisonError::into_inner);
            rest.position = rest.position.max(batch.position);
        }
    }

    pub(super) fn delivered_partly(&self, sink: usize, effects: &[Effect]) {
        let Some(sink) = self.0.sinks.get(sink) else { return };
        for effect in effects {
            if let Effect::Handled { count, .. } = effect {
                sink.delivered.fetch_add(*count, Relaxed);
            }
        }
    }

    pub(super) fn failed(&self, sink: usize, error: &SinkError) {
        if let Some(sink) = self.0.sinks.get(sink) {
            sink.failed.fetch_add(1, Relaxed);
            sink.remember(error);
        }
    }

    pub(super) fn unavailable(&self, sink: usize, error: &SinkError) {
        if let Some(sink) = self.0.sinks.get(sink) {
            sink.unavailable.fetch_add(1, Relaxed);
            sink.remember(error);
        }
    }

    pub(super) fn retries(&self, sink: usize, count: usize) {
        if let Some(sink) = self.0.sinks.get(sink) {
            sink.retries.fetch_add(count.try_into().unwrap_or(u64::MAX), Relaxed);
        }
    }

    pub(super) fn dead_letters(&self, sink: usize, count: usize) {
        if let Some(sink) = self.0.sinks.get(sink) {
            sink.dead_letters.fetch_add(count.try_into().unwrap_or(u64::MAX), Relaxed);
        }
    }
}

impl SinkNumbers {
    fn remember(&self, error: &SinkError) {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        rest.last_error = Some((SystemTime::now(), error.to_string()));
    }

    fn snapshot(&self) -> SinkStats {
        let rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (at, last_error) = rest.last_error.unzip();
        let seconds = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).ok();
        SinkStats {
            name: self.name.clone(),
            open: self.open.load(Relaxed),
            delivered: self.delivered.load(Relaxed),
            batches: self.batches.load(Relaxed),
            failed: self.failed.load(Relaxed),
            unavailable: self.unavailable.load(Relaxed),
            retries: self.retries.load(Relaxed),
            dead_letters: self.dead_letters.load(Relaxed),
            waiting_changes: self.waiting_changes.load(Relaxed),
            waiting_bytes: self.waiting_bytes.load(Relaxed),
            under_way: self.under_way.load(Relaxed),
            position: rest.position,
            latency: self.latency.snapshot(),
            last_error,
            last_error_at: at.and_then(seconds).map(|since| since.as_secs()),
        }
    }
}
