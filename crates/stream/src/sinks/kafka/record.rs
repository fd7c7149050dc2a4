//! From a change to records.

use std::collections::BTreeSet;

use herdsman_wal::{Body, Change, Kind, Row, json};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;

use super::config::KafkaConfig;
use super::problem::Failure;
use super::topic::{self, Pattern};
use crate::config::Shape;
use crate::sink::SinkError;
use crate::sinks;

/// Turns changes into records.
#[derive(Clone, Debug)]
pub(super) struct Recorder {
    topic: Pattern,
    messages_topic: String,
    shape: Shape,
    tombstones: bool,
}

/// What is sent: one change is one record or a few.
#[derive(Clone, Debug)]
pub(super) struct Record<'a> {
    change: &'a Change,
    topic: String,
    key: Option<Vec<u8>>,
    /// None for a tombstone.
    value: Option<Vec<u8>>,
}

impl Recorder {
    pub(super) fn new(config: &KafkaConfig, shape: Shape, target: &str) -> Result<Self, SinkError> {
        let refuse = |reason| Failure::Setting(reason).about(target);
        Ok(Self {
            topic: Pattern::read(&config.topic).map_err(refuse)?,
            messages_topic: topic::plain(&config.messages_topic).map_err(refuse)?,
            shape,
            tombstones: config.tombstones,
        })
    }

    /// The records of a change, in the order they are to be sent.
    pub(super) fn records<'a>(&self, change: &'a Change) -> Vec<Record<'a>> {
        let view = change.view();
        let mut value = Vec::new();
        sinks::json::write(self.shape, change, &mut value);
        let value = Some(value);
        let Some(row) = view.key_row() else {
            let topics = self.topics_without_row(change);
            let record = |topic| Record { change, topic, key: None, value: value.clone() };
            return topics.into_iter().map(record).collect();
        };
        let topic = self.topic.of(row.relation());
        let key = key(row);
        let tombstone = |key| Record { change, topic: topic.clone(), key, value: None };
        let mut records = Vec::with_capacity(1);
        if self.tombstones && change.kind() == Kind::Update {
            let before = view.old_row().and_then(self::key);
            if before.is_some() && before != key {
                records.push(tombstone(before));
            }
        }
        records.push(Record { change, topic: topic.clone(), key: key.clone(), value });
        if self.tombstones && change.kind() == Kind::Delete && key.is_some() {
            records.push(tombstone(key));
        }
        records
    }

    /// Where a change goes that is of no one row: to each of its tables.
    fn topics_without_row(&self, change: &Change) -> BTreeSet<String> {
        let view = change.view();
        match (view.body, view.table()) {
            (Body::Truncate { tables, .. }, _) => {
                tables.iter().map(|table| self.topic.of(table)).collect()
            }
            (_, Some(table)) => BTreeSet::from([self.topic.of(table)]),
            (_, None) => BTreeSet::from([self.messages_topic.clone()]),
        }
    }
}

impl Record<'_> {
    /// As librdkafka takes it, which copies it.
    pub(super) fn to_send(&self) -> FutureRecord<'_, [u8], [u8]> {
        FutureRecord {
            topic: &self.topic,
            partition: None,
            payload: self.value.as_deref(),
            key: self.key.as_deref(),
            timestamp: None,
            headers: Some(headers(self.change)),
        }
    }

    /// What it shares with records that must stay in their order with it: none for a record without a key.
    pub(super) fn identity(&self) -> Option<(String, Vec<u8>)> {
        Some((self.topic.clone(), self.key.clone()?))
    }
}

fn headers(change: &Change) -> OwnedHeaders {
    let (lsn, ordinal) = change.view().id();
    let (lsn, ordinal) = (lsn.to_string(), ordinal.to_string());
    let both = json::idempotency_key(&change.view());
    let all = [
        ("herdsman-commit-lsn", lsn.as_str()),
        ("herdsman-ordinal", &ordinal),
        ("herdsman-idempotency-key", &both),
        ("herdsman-kind", change.kind().name()),
    ];
    all.into_iter().fold(OwnedHeaders::new_with_capacity(all.len()), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value) })
    })
}

fn key(row: Row<'_>) -> Option<Vec<u8>> {
    let mut key = Vec::new();
    json::key(&row, &mut key).then_some(key)
}
