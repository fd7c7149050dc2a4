//! Where a stream is asked, and what `/v2/overview` tells of it.

use herdsman_stream::StreamConfig;
use herdsman_stream::engine::Stats;
use herdsman_stream::service::Phase;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Stream;

/// Where a stream is asked.
#[derive(Clone, Debug)]
pub(crate) struct StreamSource {
    slot: String,
    publication: String,
    /// Why there is none at the moment.
    problem: Option<String>,
    under_way: Option<(watch::Receiver<Phase>, Stats)>,
}

impl StreamSource {
    /// One that runs.
    pub(crate) fn under_way(
        config: &StreamConfig,
        phase: watch::Receiver<Phase>,
        stats: Stats,
    ) -> Self {
        Self { under_way: Some((phase, stats)), ..Self::ended(config, None) }
    }

    /// One that does not run now.
    pub(crate) fn ended(config: &StreamConfig, problem: Option<String>) -> Self {
        let (slot, publication) = (config.slot.to_string(), config.publication.to_string());
        Self { slot, publication, problem, under_way: None }
    }

    /// What it has counted; nothing while it does not run.
    pub(in crate::metrics) fn numbers(&self) -> Option<Stream> {
        let (phase, stats) = self.under_way.as_ref()?;
        let phase = phase.borrow().clone();
        Some(Stream { slot: self.slot.clone(), phase, numbers: stats.snapshot() })
    }

    /// What `/v2/overview` tells.
    pub(in crate::metrics) fn document(&self) -> Value {
        let Self { slot, publication, problem, under_way } = self;
        let (phase, stats) = under_way.as_ref().map_or((None, None), |(phase, stats)| {
            (Some(phase.borrow().clone()), Some(without_complaints(stats)))
        });
        json!({"slot": slot, "publication": publication, "problem": problem, "state": phase, "numbers": stats})
    }
}

/// All but what sinks said when something failed: a database's complaint may hold values of a row, and anybody may ask for
/// this.
fn without_complaints(stats: &Stats) -> Value {
    let mut numbers = serde_json::to_value(stats.snapshot()).unwrap_or_default();
    let sinks = numbers.get_mut("sinks").and_then(Value::as_array_mut);
    for sink in sinks.into_iter().flatten().filter_map(Value::as_object_mut) {
        sink.remove("last_error");
    }
    numbers
}
