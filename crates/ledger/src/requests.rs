//! Clients that have nothing but Kafka: a request in JSON on one topic, its answer with typed rows on another.
//!
//! - **ALL** is the ledger's log. A message there that begins with `{` is no entry: every node notes that it has no effect,
//!   alike, and one program does what it asks for, as any other transaction. So it has a place in the log, and sees all that
//!   is before it.
//! - **ONE** is for reads. Each message is taken by one of the programs, which share a consumer group.
//! - **RESPONSE** has the answers, by the request's `messageId`.
//!
//! A request counts as taken once its answer is in Kafka. A program that is killed before leaves it to the next one, which
//! does it again: what had committed stays as it is, and is told to be so.

mod answer;
mod done;
mod message;
mod perform;
mod service;
mod topics;

use std::sync::atomic::{AtomicU64, Ordering};

pub use service::Requests;

use crate::log::kafka::KafkaLogConfig;

/// Where requests come from, and answers go.
#[derive(Clone)]
pub struct RequestTopics {
    /// Which Kafka, and the topic of the log.
    pub kafka: KafkaLogConfig,
    /// The topic of requests that read.
    pub one: String,
    /// The topic of answers.
    pub response: String,
    /// The consumer group that the ledger's programs share.
    pub group: String,
    /// In how many partitions `one` is made.
    pub partitions: i32,
}

/// What has become of how many requests since this program began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestTally {
    /// They were done, and that was answered.
    pub done: u64,
    /// An error was answered.
    pub failed: u64,
    /// Nobody could be told: no JSON, or no id.
    pub unreadable: u64,
}

/// What [`RequestTally`] is read from, also when [`Requests`] is somebody else's.
#[derive(Clone, Debug)]
pub struct RequestCounts(std::sync::Arc<Counters>);

impl RequestCounts {
    /// The numbers as they are.
    #[must_use]
    pub fn read(&self) -> RequestTally {
        self.0.read()
    }
}

/// The same while it grows.
#[derive(Debug, Default)]
struct Counters {
    done: AtomicU64,
    failed: AtomicU64,
    unreadable: AtomicU64,
}

impl Counters {
    fn read(&self) -> RequestTally {
        RequestTally {
            done: self.done.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            unreadable: self.unreadable.load(Ordering::Relaxed),
        }
    }
}
