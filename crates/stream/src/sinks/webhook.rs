//! HTTP requests to a receiver of yours.
//!
//! With `batch: true` a request's body is `{"changes":[…]}`, else one change; every change in the shape of `stream.shape`.
//!
//! | header | |
//! |---|---|
//! | `content-type` | `application/json` |
//! | `idempotency-key` | the same whenever the same changes come again: a receiver that has seen it answers 200 and does nothing |
//! | `herdsman-signature` | `t=1767225600,v1=5257a8…`: see below; only where a secret is given |
//!
//! # Answers
//! - **2xx**: delivered. Whatever the receiver keeps must be safe before it says so.
//! - **408, 425, 429, 502, 503, 504**, and no answer within `timeout`: the receiver cannot now. All of it comes again, after
//!   growing pauses, for as long as it takes; `retry-after` in seconds is honoured up to `longest_wait`.
//! - **401, 407** and redirects, which are not followed: the receiver does not know us, or is elsewhere. As above.
//! - **Other 5xx**: this one failed. It is tried again, and becomes a dead letter in the end.
//! - **Other 4xx**: never. It becomes a dead letter at once.
//!
//! Where a batch is answered by one of the last two, it is sent again in halves until the one is found that is meant: a
//! receiver must take changes that it has taken before.
//!
//! Changes of one row are sent in their order, and the next only when the one before is delivered or a dead letter.
//! Up to `parallel` requests are under way at once, about different rows.
//!
//! # Verifying
//! `v1` is the HMAC-SHA-256 of `t`, a dot and the body's bytes, in hexadecimal. A receiver computes it anew before it looks
//! at the body, compares in constant time, and refuses what is older than some minutes. In Python:
//!
//! ```text
//! def verified(secret: bytes, header: str, body: bytes, now: float) -> bool:
//!     parts = dict(part.split("=", 1) for part in header.split(","))
//!     expected = hmac.new(secret, parts["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
//!     return hmac.compare_digest(expected, parts["v1"]) and abs(now - int(parts["t"])) < 300
//! ```
//!
//! and in Rust:
//!
//! ```
//! use herdsman_stream::sinks::webhook::verified;
//! use std::time::{Duration, SystemTime};
//! let header = "t=1767225600,v1=246a5e00d17bc3755945e9acd1ac91b91ca24075d7e1a1d753ebd7b6b97586b7";
//! let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_700);
//! assert!(verified(b"hunter2", header, b"{}", now, Duration::from_secs(300)));
//! assert!(!verified(b"hunter3", header, b"{}", now, Duration::from_secs(300)));
//! ```

mod address;
mod client;
mod config;
mod delivery;
mod poster;
mod sign;
mod verdict;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

pub use config::{Url, WebhookConfig};
pub use poster::{Poster, Receiver};
pub use sign::verified;
pub use verdict::{Answer, Verdict};

use self::delivery::Progress;
use crate::config::Shape;
use crate::sink::{Batch, DeliveryError, Order, Sink, SinkError};

/// The sink.
pub struct WebhookSink {
    poster: Poster,
    shape: Shape,
    batch: bool,
    parallel: NonZeroUsize,
    longest_wait: Duration,
    pace: Mutex<Pace>,
}

/// Since when the receiver wants to be left alone.
#[derive(Debug, Default)]
struct Pace {
    not_before: Option<Instant>,
    failures: u32,
}

/// Pause after a failure that may be of one change only; it doubles.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl WebhookSink {
    /// Builds it.
    ///
    /// # Errors
    /// [`SinkError`] where the URL, a header, the secret or the certificates cannot be used.
    pub fn new(config: &WebhookConfig, shape: Shape) -> Result<Self, SinkError> {
        Ok(Self {
            poster: Poster::new(&config.receiver()?)?,
            shape,
            batch: config.batch,
            parallel: config.parallel,
            longest_wait: config.longest_wait,
            pace: Mutex::default(),
        })
    }

    /// Sends one request and says what became of it.
    async fn post(&self, body: Bytes, key: &str) -> Verdict {
        let answer = self.poster.post(body, key).await;
        self.keep_pace(&answer);
        answer.verdict(&self.poster.target())
    }

    fn keep_pace(&self, answer: &Answer) {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.failures = if answer.is_failure() { pace.failures.saturating_add(1) } else { 0 };
        let Some(doublings) = pace.failures.checked_sub(1) else { return pace.not_before = None };
        let pause = PAUSE.saturating_mul(1 << doublings.min(16)).min(LONGEST_PAUSE);
        let wanted = answer.retry_after().unwrap_or_default().min(self.longest_wait);
        pace.not_before = Some(Instant::now() + pause.max(wanted));
    }

    fn not_before(&self) -> Option<Instant> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).not_before
    }
}

#[async_trait]
impl Sink for WebhookSink {
    async fn deliver(&self, batch: &Batch) -> Result<(), DeliveryError> {
        if let Some(moment) = self.not_before() {
            tokio::time::sleep_until(moment).await;
        }
        let mut progress = Progress::of(batch, self.shape, self.batch);
        while let Some(request) = progress.next() {
            let verdict = self.post(request.body, &request.key).await;
            progress.record(request.places, verdict);
        }
        progress.result()
    }

    fn order(&self) -> Order {
        Order::PerKey { parallel: self.parallel.get() }
    }
}

impl fmt::Debug for WebhookSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookSink").field("target", &self.poster.target()).finish_non_exhaustive()
    }
}
