//! Reading a topic back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use herdsman_sandbox::Kafka;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

/// What is in a topic, partition by partition, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) partition: i32,
    pub(super) key: Option<String>,
    pub(super) value: Option<String>,
    pub(super) headers: BTreeMap<String, String>,
}

impl Found {
    /// The column `id` of its row.
    pub(super) fn id(&self) -> i64 {
        let key: serde_json::Value = serde_json::from_str(self.key.as_deref().unwrap()).unwrap();
        key["id"].as_i64().unwrap()
    }

    pub(super) fn ordinal(&self) -> u64 {
        self.headers["herdsman-ordinal"].parse().unwrap()
    }
}

/// Everything there is in a topic.
pub(super) async fn read(kafka: &Kafka, topic: &str) -> Vec<Found> {
    let (servers, topic) = (kafka.bootstrap(), topic.to_owned());
    tokio::task::spawn_blocking(move || read_now(&servers, &topic)).await.unwrap()
}

fn read_now(servers: &str, topic: &str) -> Vec<Found> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "test")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    let soon = Duration::from_secs(30);
    let metadata = consumer.fetch_metadata(Some(topic), soon).unwrap();
    let partitions: Vec<i32> =
        metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect();
    assert!(!partitions.is_empty(), "there is no topic {topic}");
    let mut wanted = TopicPartitionList::new();
    for partition in &partitions {
        wanted.add_partition_offset(topic, *partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&wanted).unwrap();
    let mut open: BTreeSet<i32> = partitions.into_iter().collect();
    let mut found = Vec::new();
    while !open.is_empty() {
        match consumer.poll(soon).expect("nothing comes") {
            Ok(message) => found.push(found_in(&message)),
            Err(KafkaError::PartitionEOF(partition)) => {
                open.remove(&partition);
            }
            Err(error) => panic!("{error}"),
        }
    }
    found
}

fn found_in(message: &BorrowedMessage<'_>) -> Found {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let headers = message.headers().unwrap().iter();
    Found {
        partition: message.partition(),
        key: message.key().map(text),
        value: message.payload().map(text),
        headers: headers.map(|it| (it.key.to_owned(), text(it.value.unwrap()))).collect(),
    }
}

/// Each row's changes by their ordinals, in the order of its partition; a row is in one partition only.
pub(super) fn by_key(found: &[Found]) -> BTreeMap<String, Vec<u64>> {
    let mut places = BTreeMap::new();
    let mut ordinals: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for record in found {
        let key = record.key.clone().unwrap();
        assert_eq!(*places.entry(key.clone()).or_insert(record.partition), record.partition);
        ordinals.entry(key).or_default().push(record.ordinal());
    }
    ordinals
}
