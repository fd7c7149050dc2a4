//! The stream's: where it is, what its sinks have taken, and what waits.

use herdsman_stream::StreamConfig;
use herdsman_stream::engine::Stats;
use herdsman_stream::service::Phase;
use serde_json::{Value, json};
use tokio::sync::watch;

/// Where a stream is asked.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    slot: String,
    publication: String,
    /// Why there is none at the moment.
    problem: Option<String>,
    under_way: Option<(watch::Receiver<Phase>, Stats)>,
}

impl Stream {
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

    /// What `/v2/overview` tells.
    pub(super) fn document(&self) -> Value {
        let Self { slot, publication, problem, under_way } = self;
        let (phase, stats) = under_way.as_ref().map_or((None, None), |(phase, stats)| {
            (Some(phase.borrow().clone()), Some(numbers(stats)))
        });
        json!({"slot": slot, "publication": publication, "problem": problem, "state": phase, "numbers": stats})
    }
}

/// All but what sinks said when something failed: a database's complaint may hold values of a row, and anybody may ask for
/// this.
fn numbers(stats: &Stats) -> Value {
    let mut numbers = serde_json::to_value(stats.snapshot()).unwrap_or_default();
    let sinks = numbers.get_mut("sinks").and_then(Value::as_array_mut);
    for sink in sinks.into_iter().flatten().filter_map(Value::as_object_mut) {
        sink.remove("last_error");
    }
    numbers
}
