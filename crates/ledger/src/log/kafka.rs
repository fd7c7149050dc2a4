//! Kafka as the log: one topic of one partition.
//!
//! Little is asked of the broker: idempotent appends, reading from a place, the bounds of the partition. No transactions
//! and no consumer groups: positions are kept in the nodes' own data. With neither transactions nor compaction, offsets
//! follow each other; one that does not is a fault.

mod reader;
mod settings;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rdkafka::{
    ClientConfig, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{FutureProducer, FutureRecord, Producer as _},
    util::Timeout,
};

use super::{AppendError, Log, Reader, Unavailable};
use crate::Offset;
use reader::KafkaReader;
pub use settings::KafkaLogConfig;
pub(crate) use settings::RECORD_BYTES_MOST;

/// The only partition.
const PARTITION: i32 = 0;
/// How long a question may take; a healthy broker answers within milliseconds.
const ASK: Duration = Duration::from_secs(5);
/// How often a topic is looked for that was just made.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long an append may wait for room in the queue of what is being sent.
const QUEUE: Duration = Duration::from_secs(5);

/// A topic of Kafka as the log. Clones are the same log.
#[derive(Clone)]
pub struct KafkaLog {
    shared: Arc<Shared>,
}

struct Shared {
    config: KafkaLogConfig,
    producer: Mutex<FutureProducer>,
    /// Asks for the partition's bounds. A connection of its own: a parked fetch would hold an append up.
    asker: BaseConsumer,
    admin: AdminClient<DefaultClientContext>,
}

impl KafkaLog {
    /// Connects, and makes the topic if it is not there.
    ///
    /// # Errors
    /// No broker answers, or the topic has more than one partition.
    pub async fn open(config: KafkaLogConfig) -> Result<Self, Unavailable> {
        let failed = |error: KafkaError| Unavailable(error.to_string());
        let admin: AdminClient<_> = config.client().create().map_err(failed)?;
        let (asker, producer) = (
            config.consumer().create().map_err(failed)?,
            config.producer().create().map_err(failed)?,
        );
        let shared = Arc::new(Shared { config, producer: Mutex::new(producer), asker, admin });
        let log = Self { shared };
        log.make_topic().await?;
        log.check_topic().await?;
        log.await_leader().await?;
        Ok(log)
    }

    async fn make_topic(&self) -> Result<(), Unavailable> {
        let config = &self.shared.config;
        let most = RECORD_BYTES_MOST.to_string();
        let topic = NewTopic::new(&config.topic, 1, TopicReplication::Fixed(config.replication))
            .set("cleanup.policy", "delete")
            .set("retention.ms", "-1")
            .set("retention.bytes", "-1")
            .set("max.message.bytes", &most)
            .set("message.timestamp.type", "LogAppendTime")
            .set("unclean.leader.election.enable", "false");
        // A broker alone has nobody else to ask what was lost with its memory.
        let topic = if config.replication == 1 {
            topic.set("flush.messages", "1")
        } else {
            topic.set("min.insync.replicas", "2")
        };
        let options = AdminOptions::new().operation_timeout(Some(ASK)).request_timeout(Some(ASK));
        let made = self.shared.admin.create_topics([&topic], &options).await;
        match made.map_err(|error| Unavailable(error.to_string()))?.pop() {
            None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
            Some(Err((topic, why))) => {
                Err(Unavailable(format!("topic {topic} cannot be made: {why}")))
            }
        }
    }

    async fn check_topic(&self) -> Result<(), Unavailable> {
        let name = self.shared.config.topic.clone();
        let partitions = self
            .ask(move |asker| {
                let metadata = asker.fetch_metadata(Some(&name), ASK)?;
                Ok(metadata.topics().first().map_or(0, |topic| topic.partitions().len()))
            })
            .await?;
        match partitions {
            // A topic just made is not known to every broker at once.
            0 | 1 => Ok(()),
            more => Err(Unavailable(format!(
                "topic {} has {more} partitions; a ledger's has one, or there would be no one order",
                self.shared.config.topic
            ))),
        }
    }

    /// A topic just made is known to nobody yet.
    async fn await_leader(&self) -> Result<(), Unavailable> {
        let known = async {
            loop {
                match self.bounds().await {
                    Ok(_) => return,
                    Err(error) => tracing::debug!(%error, "the topic has no leader yet"),
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let late = |_| {
            Unavailable(format!("topic {} has no leader after {ASK:?}", self.shared.config.topic))
        };
        tokio::time::timeout(ASK, known).await.map_err(late)
    }

    /// The partition's first and next offset.
    async fn bounds(&self) -> Result<(Offset, Offset), Unavailable> {
        let topic = self.shared.config.topic.clone();
        let (first, end) =
            self.ask(move |asker| asker.fetch_watermarks(&topic, PARTITION, ASK)).await?;
        Ok((place(first), place(end)))
    }

    /// Asks on a thread that may wait.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let shared = Arc::clone(&self.shared);
        let answer = tokio::task::spawn_blocking(move || question(&shared.asker)).await;
        answer
            .map_err(|error| Unavailable(error.to_string()))?
            .map_err(|error| Unavailable(error.to_string()))
    }

    fn producer(&self) -> MutexGuard<'_, FutureProducer> {
        self.shared.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A producer that has met an error which it cannot get over is replaced: its promise not to write twice ends with
    /// it, and requests have their own.
    fn replace_if_broken(&self, producer: &FutureProducer) {
        let Some((_, why)) = producer.client().fatal_error() else { return };
        let client: ClientConfig = self.shared.config.producer();
        match client.create() {
            Ok(fresh) => {
                tracing::warn!(reason = why, "the Kafka producer is replaced");
                *self.producer() = fresh;
            }
            Err(error) => tracing::warn!(%error, "no Kafka producer could be made"),
        }
    }
}

#[async_trait]
impl Log for KafkaLog {
    async fn append(&self, body: Vec<u8>) -> Result<Offset, AppendError> {
        let producer = self.producer().clone();
        let record: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(&self.shared.config.topic).partition(PARTITION).payload(&body);
        match producer.send(record, Timeout::After(QUEUE)).await {
            Ok(delivered) => Ok(place(delivered.offset)),
            Err((error, _)) => {
                self.replace_if_broken(&producer);
                Err(of_append(&error))
            }
        }
    }

    async fn end(&self) -> Result<Offset, Unavailable> {
        self.bounds().await.map(|(_, end)| end)
    }

    async fn start(&self) -> Result<Offset, Unavailable> {
        self.bounds().await.map(|(first, _)| first)
    }

    async fn read(&self, from: Offset) -> Result<Box<dyn Reader>, Unavailable> {
        Ok(Box::new(KafkaReader::new(self.clone(), from)))
    }

    async fn trim(&self, below: Offset) -> Result<(), Unavailable> {
        let failed = |error: KafkaError| Unavailable(error.to_string());
        let below = below.min(self.end().await?);
        let mut places = TopicPartitionList::new();
        let offset = rdkafka::Offset::Offset(i64::try_from(below.0).unwrap_or(i64::MAX));
        places
            .add_partition_offset(&self.shared.config.topic, PARTITION, offset)
            .map_err(failed)?;
        let options = AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK));
        let done = self.shared.admin.delete_records(&places, &options).await.map_err(failed)?;
        done.elements().iter().try_for_each(|it| it.error()).map_err(failed)
    }
}

/// Which errors say for certain that nothing was written. After any other the broker may have the record, or get it yet.
fn of_append(error: &KafkaError) -> AppendError {
    use RDKafkaErrorCode::{
        InvalidRecord, MessageSizeTooLarge, QueueFull, TopicAuthorizationFailed, UnknownPartition,
        UnknownTopic,
    };
    let surely = matches!(
        error.rdkafka_error_code(),
        Some(
            InvalidRecord
                | MessageSizeTooLarge
                | QueueFull
                | TopicAuthorizationFailed
                | UnknownPartition
                | UnknownTopic
        )
    );
    if surely {
        AppendError::Rejected(error.to_string())
    } else {
        AppendError::Unknown(error.to_string())
    }
}

fn place(offset: i64) -> Offset {
    Offset(u64::try_from(offset).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_surely_not_written_is_said_to_be_rejected() {
        use RDKafkaErrorCode as Code;
        let of = |code| of_append(&KafkaError::MessageProduction(code));
        for code in [Code::MessageSizeTooLarge, Code::QueueFull] {
            assert!(matches!(of(code), AppendError::Rejected(_)), "{code}");
        }
        for code in [
            Code::MessageTimedOut,
            Code::NotEnoughReplicasAfterAppend,
            Code::RequestTimedOut,
            Code::OutOfOrderSequenceNumber,
            Code::PurgeInflight,
        ] {
            assert!(matches!(of(code), AppendError::Unknown(_)), "{code}");
        }
    }
}
