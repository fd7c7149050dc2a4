//! Where changes come from.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use herdsman_node::Lsn;
use herdsman_wal::{Event, Feedback, Source, Stream, WalError};
use tokio::time::timeout;

/// Where changes come from: a [`Stream`], or a script in tests.
pub trait Events: Send {
    /// The next event. Dropping the future before it is ready loses nothing.
    fn next(&mut self) -> impl Future<Output = Result<Event<'_>, WalError>> + Send;

    /// Everything before this position is durably handled.
    fn handled(&self, lsn: Lsn);

    /// Which stream it is.
    fn source(&self) -> &Arc<Source>;

    /// Whether no event will come any more. Only what ends by itself, such as a snapshot, ever says so; then
    /// [`Engine::run`](super::Engine::run) returns as soon as everything is delivered, however long that takes.
    fn is_finished(&self) -> bool {
        false
    }
}

/// A [`Stream`] as events.
#[derive(Debug)]
pub struct Live {
    stream: Stream,
    feedback: Feedback,
}

impl Live {
    /// The events of this stream.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        let feedback = stream.feedback();
        Self { stream, feedback }
    }

    /// Whether an event is there, or comes within this time.
    pub async fn is_ready_within(&mut self, time: Duration) -> bool {
        timeout(time, self.stream.ready()).await.is_ok()
    }

    /// The stream, to close it.
    #[must_use]
    pub fn into_stream(self) -> Stream {
        self.stream
    }
}

impl Events for Live {
    fn next(&mut self) -> impl Future<Output = Result<Event<'_>, WalError>> + Send {
        self.stream.next()
    }

    fn handled(&self, lsn: Lsn) {
        self.feedback.handled(lsn);
    }

    fn source(&self) -> &Arc<Source> {
        self.stream.source()
    }
}
