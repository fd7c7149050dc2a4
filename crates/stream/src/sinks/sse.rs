//! Server-sent events for browsers and scripts, at `/v2/stream` of the API.
//!
//! Whoever subscribes gets what happens from then on, each change as one event:
//!
//! ```text
//! id: 0/16B3748/2
//! data: {…}
//! ```
//!
//! - **Best effort, by nature**: delivered means offered to whoever listens at this moment. Nobody is waited for, and nothing
//!   is on a disk. What must not be lost goes to another sink.
//! - The last `keep` changes (of at most `keep_bytes`) stay in memory. A subscriber that comes back with `last-event-id`,
//!   as browsers do by themselves, gets what it missed. Where that is no longer there, also after a restart, it gets
//!   `event: gap` first and then all that is there.
//! - A subscriber that is so slow that its next change is no longer in memory gets `event: lagged`, and its answer ends.
//! - `?table=public.*` selects tables, with `*` and `?`; given more than once, any of them will do. Changes of no table are
//!   sent where nothing is selected.
//! - Ids are the commit's position and the number in the transaction. Rows of a snapshot have none that lasts, so none.
//!   After a crash, changes may come twice, under the same id.

mod hub;
mod ring;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use herdsman_node::units;
use herdsman_wal::{Body, Change, Kind, Relation};
use serde::{Deserialize, Deserializer};

pub use hub::{Hub, NotSubscribed, Subscription};

use self::ring::Event;
use super::json;
use crate::config::Shape;
use crate::sink::{Batch, DeliveryError, Sink};

/// Settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SseConfig {
    /// Changes kept in memory for those who come back, or are slow. Default 1000.
    #[serde(deserialize_with = "count")]
    pub keep: usize,
    /// Bytes they may have together. Default 16 MiB.
    #[serde(deserialize_with = "bytes")]
    pub keep_bytes: usize,
    /// Subscribers at the same time; further ones are answered 503. Default 100: each holds a connection of the API, which
    /// health checks need, too.
    #[serde(deserialize_with = "count")]
    pub subscribers: usize,
    /// Where sink and door meet.
    #[serde(skip)]
    hub: Hub,
}

impl Default for SseConfig {
    fn default() -> Self {
        Self { keep: 1000, keep_bytes: 16 << 20, subscribers: 100, hub: Hub::default() }
    }
}

impl SseConfig {
    /// What the sink built from this configuration, or a copy of it, feeds.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }
}

/// The sink.
#[derive(Debug)]
pub struct SseSink {
    shape: Shape,
    hub: Hub,
    /// Changes handed over at once.
    portion: usize,
}

impl SseSink {
    /// Builds it.
    #[must_use]
    pub fn new(config: &SseConfig, shape: Shape) -> Self {
        config.hub.bound(config.keep, config.keep_bytes, config.subscribers);
        Self { shape, hub: config.hub.clone(), portion: (config.keep / 4).max(1) }
    }

    fn event(&self, change: &Change) -> Event {
        // Rows of a snapshot have no name that lasts.
        let id = (change.kind() != Kind::Read).then(|| change.view().id().into());
        let mut text = id.map_or_else(Vec::new, |id: ring::Id| format!("id: {id}\n").into_bytes());
        text.extend_from_slice(b"data: ");
        json::write(self.shape, change, &mut text);
        text.extend_from_slice(b"\n\n");
        Event { id, tables: tables(change), text: Bytes::from(text) }
    }
}

#[async_trait]
impl Sink for SseSink {
    async fn deliver(&self, batch: &Batch) -> Result<(), DeliveryError> {
        for portion in batch.changes.chunks(self.portion) {
            self.hub.publish(portion.iter().map(|change| self.event(change)).collect());
            // Waits for nobody, but lets those who are ready take what there is.
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

fn tables(change: &Change) -> Box<[Arc<Relation>]> {
    match change.view().body {
        Body::Truncate { tables, .. } => tables.into(),
        _ => change.table().into_iter().cloned().collect(),
    }
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    units::number(deserializer, 1..=1_000_000)
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    units::number(deserializer, 64 << 10..=1 << 30)
}

#[cfg(test)]
mod tests;
