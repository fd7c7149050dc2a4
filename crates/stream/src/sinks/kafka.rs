//! A record in Kafka for every change, in a topic for each table.
//!
//! - **Key**: the row's primary key (else its replica identity) as a JSON object, so that all changes of one row are in
//!   one partition, in their order. Changes that are of no one row (truncations, messages, tables that look another way)
//!   and rows of tables without a key have none.
//! - **Value**: the change as JSON.
//! - **Headers**: `herdsman-commit-lsn`, `herdsman-ordinal`, `herdsman-idempotency-key`, `herdsman-kind`. After a crash
//!   the last transactions come again; whoever needs each change once drops keys it has seen.
//!
//! A batch is acknowledged when all in-sync replicas have every record of it. The producer is idempotent: what it sends
//! again within one run is in the topic once. Partitions are chosen as Java's producers do, by the key's murmur2 hash.

mod config;
mod context;
mod delivery;
mod problem;
mod record;
mod topic;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, Producer as _};

pub use config::KafkaConfig;

use crate::config::Shape;
use crate::sink::{Batch, DeliveryError, Position, Sink, SinkError};
use context::{Context, Heard};
use problem::Failure;
use record::Recorder;

/// A cluster that has said nothing by then is not there; a healthy one answers within milliseconds.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

type Producer = FutureProducer<Context>;

/// Sends changes to Kafka. Made from a [`KafkaConfig`].
pub struct KafkaSink {
    client: ClientConfig,
    /// Where it sends to, for errors.
    target: String,
    timeout: Duration,
    recorder: Recorder,
    open: Mutex<Option<Open>>,
}

/// What there is between [`Sink::open`] and [`Sink::close`].
#[derive(Clone)]
struct Open {
    producer: Producer,
    heard: Heard,
}

impl fmt::Debug for KafkaSink {
    /// Without the client's settings, some of which are secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSink").field("target", &self.target).finish_non_exhaustive()
    }
}

impl KafkaSink {
    /// Checks the settings; nothing is connected yet.
    ///
    /// # Errors
    /// [`SinkError`]: no brokers, a pattern with an unknown placeholder, a property that librdkafka does not know or that
    /// is not to be set, or a file that cannot be read.
    pub fn new(config: &KafkaConfig, shape: Shape) -> Result<Self, SinkError> {
        let target = config.brokers.join(",");
        Ok(Self {
            client: config.client(&target)?,
            recorder: Recorder::new(config, shape, &target)?,
            timeout: config.timeout,
            target,
            open: Mutex::default(),
        })
    }

    fn slot(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Sink for KafkaSink {
    async fn open(&self) -> Result<Option<Position>, SinkError> {
        self.close().await;
        let context = Context::default();
        let heard = context.heard();
        let created = self.client.create_with_context(context);
        let producer: Producer =
            created.map_err(|error| Failure::of(&error).about(&self.target))?;
        let within = OPEN_WITHIN.min(self.timeout);
        let asked = producer.clone();
        // It waits on a lock of librdkafka's.
        let cluster = tokio::task::spawn_blocking(move || asked.client().fetch_cluster_id(within));
        if cluster.await.ok().flatten().is_none() {
            let silent = Failure::Silent { within, heard: heard.last() };
            tokio::task::spawn_blocking(move || drop(producer));
            return Err(silent.about(&self.target));
        }
        *self.slot() = Some(Open { producer, heard });
        Ok(None)
    }

    async fn deliver(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let open = self.slot().clone();
        let Some(Open { producer, heard }) = open else {
            return Err(DeliveryError::Unavailable(Failure::Closed.about(&self.target)));
        };
        let mut delivery = delivery::Delivery::new(&producer, &self.recorder, self.timeout);
        let outcome = delivery.of(&batch.changes).await;
        let rejected = outcome.map_err(|failure| {
            let failure = failure.with_reason(heard.last());
            DeliveryError::Unavailable(failure.about(&self.target))
        })?;
        heard.forget();
        if rejected.is_empty() {
            return Ok(());
        }
        Err(DeliveryError::Partly(delivery::undelivered(rejected, &self.target)))
    }

    async fn close(&self) {
        let open = self.slot().take();
        // Letting go of it waits for its threads.
        let closed = tokio::task::spawn_blocking(move || drop(open)).await;
        if let Err(error) = closed {
            tracing::debug!(%error, "the producer was not closed");
        }
    }
}
