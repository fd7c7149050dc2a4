//! What runs beside the engine, and what it says when it is done.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use herdsman_node::Lsn;
use tracing::Instrument as _;

use crate::checkpoint::CheckpointError;
use crate::dead_letter::DeadLetterError;
use crate::lanes::{LetterId, WorkId};
use crate::sink::{Batch, DeliveryError, Position, Sink, SinkError};

/// What a task says when it is done.
#[derive(Debug)]
pub(super) enum Done {
    Opened { sink: usize, result: Result<Option<Position>, SinkError> },
    Delivered { sink: usize, id: WorkId, batch: Arc<Batch>, result: Result<(), DeliveryError> },
    Kept { sink: usize, letters: Vec<LetterId>, result: Result<(), DeadLetterError> },
    Saved { lsn: Lsn, result: Result<(), CheckpointError> },
}

pub(super) async fn open(index: usize, name: Arc<str>, sink: Arc<dyn Sink>) -> Done {
    let opened = AssertUnwindSafe(sink.open()).catch_unwind().await;
    let result = opened.unwrap_or_else(|_| Err(panicked("open", &name)));
    Done::Opened { sink: index, result }
}

pub(super) async fn deliver(
    index: usize,
    name: Arc<str>,
    sink: Arc<dyn Sink>,
    id: WorkId,
    batch: Arc<Batch>,
) -> Done {
    let span = tracing::debug_span!(
        target: "otel",
        "stream batch",
        herdsman.sink = &*name,
        herdsman.changes = batch.changes.len(),
    );
    let delivering = AssertUnwindSafe(sink.deliver(&batch)).catch_unwind();
    let delivered = delivering.instrument(span).await;
    let result = delivered
        .unwrap_or_else(|_| Err(DeliveryError::Unavailable(panicked("deliver to", &name))));
    Done::Delivered { sink: index, id, batch, result }
}

fn panicked(what: &'static str, name: &str) -> SinkError {
    SinkError {
        what,
        target: name.to_owned(),
        problem: "the sink panicked".to_owned(),
        advice: "see the log for where, and report it",
        reopen: true,
    }
}
