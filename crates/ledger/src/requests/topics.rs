//! The topics of requests and answers, and what librdkafka is told about them.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{Consumer as _, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    producer::FutureProducer,
};

use super::RequestTopics;
use crate::log::kafka::RECORD_BYTES_MOST;

/// How long a question may take; a healthy broker answers within milliseconds.
const ASK: Duration = Duration::from_secs(10);
/// Requests and answers are of use for as long as somebody waits for them; a day is for who looks into trouble.
const KEPT: &str = "86400000";

impl RequestTopics {
    /// Makes the topics that are not there.
    pub(super) async fn make(&self) -> Result<(), KafkaError> {
        let admin: AdminClient<DefaultClientContext> = self.kafka.client().create()?;
        let topic = |name, partitions| {
            NewTopic::new(name, partitions, TopicReplication::Fixed(self.kafka.replication))
                .set("cleanup.policy", "delete")
                .set("retention.ms", KEPT)
        };
        let wanted = [topic(&self.one, self.partitions), topic(&self.response, 1)];
        let options = AdminOptions::new().operation_timeout(Some(ASK)).request_timeout(Some(ASK));
        for made in admin.create_topics(&wanted, &options).await? {
            match made {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                // Who may not make topics may use them all the same, where somebody else has made them.
                Err((topic, error)) => {
                    tracing::warn!(topic, %error, "a topic of requests cannot be made");
                }
            }
        }
        Ok(())
    }

    /// Takes part in the group. `patience` is how long a request may take.
    pub(super) fn consumer(&self, patience: Duration) -> Result<Arc<StreamConsumer>, KafkaError> {
        // While there is too much to do nothing is asked for, which must not be taken for this program's end.
        let silence = Duration::from_secs(300).max(patience * 2).min(Duration::from_secs(86_400));
        let mut client = self.kafka.client();
        client
            .set("group.id", &self.group)
            // Written down when it is answered, and not before.
            .set("enable.auto.offset.store", "false")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "500")
            // What was asked before the first program came is asked for all the same.
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_uncommitted")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "1500")
            .set("max.poll.interval.ms", silence.as_millis().to_string())
            .set("topic.metadata.refresh.interval.ms", "5000")
            .set("fetch.wait.max.ms", "500")
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.message.max.bytes", RECORD_BYTES_MOST.to_string())
            .set("queued.max.messages.kbytes", "16384");
        let consumer: StreamConsumer = client.create()?;
        consumer.subscribe(&[&self.kafka.topic, &self.one])?;
        Ok(Arc::new(consumer))
    }

    pub(super) fn producer(&self) -> Result<FutureProducer, KafkaError> {
        let mut client = self.kafka.client();
        client
            .set("acks", "all")
            // An answer that comes twice does no harm; a producer that keeps count of them can break for good.
            .set("enable.idempotence", "false")
            .set("linger.ms", "0")
            .set("message.timeout.ms", "10000");
        client.create()
    }
}
