//! A client as anybody writes one: a producer, a consumer, and JSON.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Message as _, TopicPartitionList,
    consumer::{Consumer as _, StreamConsumer},
    producer::{FutureProducer, FutureRecord},
};
use serde_json::Value;

/// The group of requests lets who was killed go after six seconds; the rest is for a machine that is busy.
const WITHIN: Duration = Duration::from_secs(90);

pub(super) struct Client {
    producer: FutureProducer,
    consumer: StreamConsumer,
}

impl Client {
    pub(super) async fn connect(bootstrap: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("linger.ms", "0");
        let producer = config.create().unwrap();
        config.set("group.id", "client").set("enable.auto.commit", "false");
        config.set("topic.metadata.refresh.interval.ms", "1000");
        let consumer: StreamConsumer = config.create().unwrap();
        let mut places = TopicPartitionList::new();
        places.add_partition_offset("RESPONSE", 0, rdkafka::Offset::Beginning).unwrap();
        consumer.assign(&places).unwrap();
        Self { producer, consumer }
    }

    pub(super) async fn send(&self, topic: &str, body: &[u8]) {
        // With a key, as some clients do.
        let record = FutureRecord::to(topic).key("some").payload(body);
        self.producer.send(record, WITHIN).await.unwrap();
    }

    /// The next answer, whoever's.
    pub(super) async fn next(&mut self) -> Value {
        let answer = async {
            loop {
                match self.consumer.recv().await {
                    Ok(record) => {
                        let answer: Value =
                            serde_json::from_slice(record.payload().unwrap()).unwrap();
                        assert_eq!(record.key(), answer["requestId"].as_str().map(str::as_bytes));
                        return answer;
                    }
                    // The topic is being made.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        tokio::time::timeout(WITHIN, answer).await.expect("an answer in time")
    }

    pub(super) async fn ask(&mut self, topic: &str, id: &str, mut request: Value) -> Value {
        request["messageId"] = id.into();
        self.send(topic, request.to_string().as_bytes()).await;
        loop {
            let answer = self.next().await;
            if answer["requestId"] == id {
                return answer;
            }
        }
    }

    pub(super) async fn all(&mut self, id: &str, request: Value) -> Value {
        self.ask("ALL", id, request).await
    }

    pub(super) async fn one(&mut self, id: &str, request: Value) -> Value {
        self.ask("ONE", id, request).await
    }
}
