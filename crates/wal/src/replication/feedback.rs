//! What the server hears from us: a task of its own, so that it hears it whatever the consumer does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use herdsman_node::Lsn;
use herdsman_node::raw::RawStream;
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::Timestamp;

/// Tells the server what is durably handled and may be forgotten. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Feedback {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    received: AtomicU64,
    handled: AtomicU64,
    /// The server waits for an answer.
    asked: AtomicBool,
    closing: AtomicBool,
    changed: Notify,
}

/// Progress is told at most this often; what the server asks for is answered at once.
const PACE: Duration = Duration::from_millis(10);
/// A status is 34 bytes: where even these find no room for so long, the connection is dead.
const SEND_LIMIT: Duration = Duration::from_secs(30);

impl Feedback {
    /// Everything up to `position` is durably handled, and will not be sent again. A position before an earlier one
    /// changes nothing.
    pub fn handled(&self, position: Lsn) {
        if self.state.handled.fetch_max(position.0, Ordering::AcqRel) < position.0 {
            self.state.changed.notify_one();
        }
    }

    /// What is handled by now.
    #[must_use]
    pub fn position(&self) -> Lsn {
        Lsn(self.state.handled.load(Ordering::Acquire))
    }

    pub(crate) fn received(&self, position: Lsn) {
        self.state.received.fetch_max(position.0, Ordering::AcqRel);
    }

    pub(crate) fn answer(&self) {
        self.state.asked.store(true, Ordering::Release);
        self.state.changed.notify_one();
    }
}

/// The task that writes to the server.
#[derive(Debug)]
pub(crate) struct Sender {
    feedback: Feedback,
    task: JoinHandle<()>,
}

impl Sender {
    pub(crate) fn start(stream: WriteHalf<RawStream>, from: Lsn, pause: Duration) -> Self {
        let state = Arc::new(State {
            received: AtomicU64::new(from.0),
            handled: AtomicU64::new(from.0),
            asked: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            changed: Notify::new(),
        });
        let feedback = Feedback { state };
        let task = tokio::spawn(run(stream, feedback.clone(), pause));
        Self { feedback, task }
    }

    pub(crate) fn feedback(&self) -> &Feedback {
        &self.feedback
    }

    /// Says the last word, and that we go.
    pub(crate) async fn close(&mut self) {
        self.feedback.state.closing.store(true, Ordering::Release);
        self.feedback.state.changed.notify_one();
        // However it ended: there is nobody left to tell.
        let _ended = (&mut self.task).await;
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(mut stream: WriteHalf<RawStream>, feedback: Feedback, pause: Duration) {
    let state = &feedback.state;
    loop {
        // Woken or not: the server hears from us.
        let _woken = tokio::time::timeout(pause, state.changed.notified()).await;
        let closing = state.closing.load(Ordering::Acquire);
        let asked = state.asked.swap(false, Ordering::AcqRel);
        let sent = tokio::time::timeout(SEND_LIMIT, say(&mut stream, state, closing)).await;
        // The reader finds the broken connection, and says so.
        if closing || !matches!(sent, Ok(Ok(()))) {
            return;
        }
        if !asked {
            tokio::time::sleep(PACE.min(pause)).await;
        }
    }
}

async fn say(stream: &mut WriteHalf<RawStream>, state: &State, last: bool) -> io::Result<()> {
    let handled = state.handled.load(Ordering::Acquire);
    let received = state.received.load(Ordering::Acquire).max(handled);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp::from_unix_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX));
    let mut out = Vec::with_capacity(64);
    out.push(b'd');
    out.extend_from_slice(&38_u32.to_be_bytes());
    out.push(b'r');
    for position in [received, handled, handled] {
        out.extend_from_slice(&position.to_be_bytes());
    }
    out.extend_from_slice(&now.0.to_be_bytes());
    out.push(0);
    if last {
        // CopyDone.
        out.extend_from_slice(&[b'c', 0, 0, 0, 4]);
    }
    stream.write_all(&out).await?;
    stream.flush().await
}
