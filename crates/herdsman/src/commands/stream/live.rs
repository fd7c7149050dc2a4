//! The sink for browsers, behind the door they come through.

use std::sync::Arc;

use herdsman_api::{LiveFeed, LiveRefusal, LiveRequest, LiveStream};
use herdsman_stream::StreamConfig;
use herdsman_stream::sinks::SinkConfig;
use herdsman_stream::sinks::sse::{Hub, NotSubscribed};

#[derive(Debug)]
struct Live(Hub);

/// What `/v2/stream` follows: the first sink of that kind.
pub(crate) fn of(config: &StreamConfig) -> Option<Arc<dyn LiveStream>> {
    let hub = config.sinks.values().find_map(SinkConfig::live)?;
    Some(Arc::new(Live(hub.clone())))
}

impl LiveStream for Live {
    fn follow(&self, request: &LiveRequest<'_>) -> Result<LiveFeed, LiveRefusal> {
        let subscription = self.0.subscribe(&request.tables, request.last_event_id);
        let subscription = subscription.map_err(|error| match error {
            NotSubscribed::Table(_) => LiveRefusal::Request(error.to_string()),
            NotSubscribed::Full(_) => LiveRefusal::Busy(error.to_string()),
        })?;
        Ok(Box::pin(subscription.into_stream()))
    }
}
