//! Answers that last: what happens, as it happens.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use hyper::body::{Bytes, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::connection::LastUse;

/// Something that can be followed at `/v2/stream`, in the form of server-sent events.
///
/// The API knows nothing of what they say. It adds comments where nothing happens, ends all of them when it stops, and cuts
/// clients that do not read.
pub trait LiveStream: fmt::Debug + Send + Sync + 'static {
    /// Begins to follow. Must not block.
    ///
    /// # Errors
    /// [`LiveRefusal`] becomes the answer.
    fn follow(&self, request: &LiveRequest<'_>) -> Result<LiveFeed, LiveRefusal>;
}

/// What somebody wants to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRequest<'a> {
    /// Every `?table=`, decoded.
    pub tables: Vec<&'a str>,
    /// The header `last-event-id`.
    pub last_event_id: Option<&'a str>,
}

/// Whole events, as they go over the wire. When it ends, so does the answer; when the client leaves, it is dropped.
pub type LiveFeed = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// Why somebody cannot follow: a message for the answer, which says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LiveRefusal {
    /// What was asked for makes no sense: 400.
    Request(String),
    /// There is no room now: 503.
    Busy(String),
}

/// The body of an answer: all of it, or one that lasts.
pub(crate) enum Body {
    Whole(Option<Bytes>),
    Live(Live),
}

pub(crate) struct Live {
    feed: LiveFeed,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    silence: Pin<Box<Sleep>>,
    /// The longest silence.
    period: Duration,
    last_use: Arc<LastUse>,
}

/// A line that every reader of events skips.
const COMMENT: &[u8] = b":\n\n";

impl Body {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }

    /// Passes on a feed until it or the server ends. A client that takes what there is keeps its connection.
    pub(crate) fn live(
        feed: LiveFeed,
        stop: CancellationToken,
        last_use: Arc<LastUse>,
        period: Duration,
    ) -> Self {
        let stop = Box::pin(stop.cancelled_owned());
        Self::Live(Live { feed, stop, silence: Box::pin(sleep(period)), period, last_use })
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let bytes = match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take()),
            Self::Live(live) => live.poll(cx),
        };
        bytes.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Self::Live(_) => SizeHint::default(),
        }
    }
}

impl Live {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        let bytes = match self.feed.as_mut().poll_next(cx) {
            Poll::Ready(Some(bytes)) => bytes,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending if self.silence.as_mut().poll(cx).is_ready() => {
                Bytes::from_static(COMMENT)
            }
            Poll::Pending => return Poll::Pending,
        };
        // Nobody asks for more before the client has taken most of what there was.
        self.last_use.touch();
        self.silence.as_mut().reset(Instant::now() + self.period);
        Poll::Ready(Some(bytes))
    }
}
