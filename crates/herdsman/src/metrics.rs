//! What every part has counted: at `/metrics` in one text, for Prometheus and whatever else reads OpenMetrics, and for the
//! dashboard in `/v2/overview`.
//!
//! Nothing is counted here. Each scrape takes what the parts hold at that moment and writes it down; names follow the
//! exporters people have dashboards for (`pg_`, `pgbouncer_`) where the meaning is the same.

mod api;
mod gateway;
mod herd;
mod hooks;
mod ledger;
mod mesh;
mod stream;
mod write;

use std::sync::{Arc, Mutex, PoisonError};

use herdsman_api::ApiStatistics;
use herdsman_gateway::Statistics;
use herdsman_hooks::Statuses;
use herdsman_mesh::status::Status;
use herdsman_watch::{Moment, Topology};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::sync::watch;

use self::api::Api;
use self::gateway::Gateway;
use self::herd::Herd;
use self::hooks::Hooks;
use self::ledger::Ledger;
pub(crate) use self::ledger::{LedgerNode, LedgerNumbers};
use self::mesh::Mesh;
use self::stream::Stream;
pub(crate) use self::stream::StreamSource;
use crate::commands::ledger::Keeper;

/// Where the parts are asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    gateway: Option<Statistics>,
    hooks: Statuses,
    ledger: Arc<Mutex<Option<Arc<Keeper>>>>,
    mesh: Arc<Mutex<Option<watch::Receiver<Arc<Status>>>>>,
    stream: Arc<Mutex<Option<StreamSource>>>,
}

impl Metrics {
    /// With a gateway's, where there is one, and those of the hooks.
    pub(crate) fn of(gateway: Option<Statistics>, hooks: Statuses) -> Self {
        Self { gateway, hooks, ..Self::default() }
    }

    /// From now on with a mesh's, or without.
    pub(crate) fn offer_mesh(&self, mesh: Option<watch::Receiver<Arc<Status>>>) {
        *self.mesh.lock().unwrap_or_else(PoisonError::into_inner) = mesh;
    }

    /// From now on with a ledger's, or without.
    pub(crate) fn offer_ledger(&self, ledger: Option<Arc<Keeper>>) {
        *self.ledger.lock().unwrap_or_else(PoisonError::into_inner) = ledger;
    }

    /// From now on with a stream's, or without.
    pub(crate) fn offer_stream(&self, stream: Option<StreamSource>) {
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = stream;
    }

    fn stream(&self) -> Option<Stream> {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.as_ref().and_then(StreamSource::numbers)
    }

    fn ledger(&self) -> Option<Ledger> {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.as_ref().map(|keeper| Ledger(keeper.numbers()))
    }

    fn mesh(&self) -> Option<Mesh> {
        let mesh = self.mesh.lock().unwrap_or_else(PoisonError::into_inner);
        mesh.as_ref().map(|status| Mesh(Arc::clone(&status.borrow())))
    }
}

impl herdsman_api::Metrics for Metrics {
    fn text(&self, topology: &Topology, now: Moment, api: &ApiStatistics) -> String {
        let mut registry = Registry::default();
        let mut take = |part: Box<dyn Collector>| registry.register_collector(part);
        take(Box::new(Herd(topology.aged(now))));
        take(Box::new(Api(*api)));
        if let Some(statistics) = &self.gateway {
            take(Box::new(Gateway(statistics.read())));
        }
        if let Some(stream) = self.stream() {
            take(Box::new(stream));
        }
        if let Some(mesh) = self.mesh() {
            take(Box::new(mesh));
        }
        if let Some(ledger) = self.ledger() {
            take(Box::new(ledger));
        }
        take(Box::new(Hooks(self.hooks.read())));
        let mut text = String::new();
        // Writing to a string cannot fail; should that change, the scrape fails for want of its last line.
        let _written = encode(&mut text, &registry);
        text
    }

    fn gateway(&self) -> Option<Value> {
        self.gateway.as_ref().map(|statistics| gateway::document(&statistics.read()))
    }

    fn stream(&self) -> Option<Value> {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.as_ref().map(StreamSource::document)
    }

    fn ledger(&self) -> Option<Value> {
        self.ledger().map(|ledger| ledger.0.document())
    }
}

#[cfg(test)]
mod tests;
