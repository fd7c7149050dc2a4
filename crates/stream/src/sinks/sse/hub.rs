//! Where the sink hands events over, and subscribers take them.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use herdsman_wal::{Glob, InvalidGlob};
use tokio::sync::watch;

use super::ring::{Begin, Event, Ready, Ring};

/// A place where one sink's events can be followed. Cheap to clone; all clones are the same place.
#[derive(Clone, Default)]
pub struct Hub {
    shared: Arc<Shared>,
}

/// Somebody who follows. Dropped, it makes room for the next.
#[derive(Debug)]
pub struct Subscription {
    hub: Hub,
    news: watch::Receiver<()>,
    tables: Vec<Glob>,
    next: u64,
    /// Sent before anything else.
    greeting: Option<String>,
    /// Number after which the subscriber was last told a name.
    named: u64,
    ended: bool,
}

/// Nobody can follow this way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSubscribed {
    /// A pattern is none.
    #[error(transparent)]
    Table(#[from] InvalidGlob),
    /// There are enough subscribers.
    #[error(
        "{0} subscribers follow the stream already; come back later, or raise `subscribers` of the sink"
    )]
    Full(usize),
}

struct Shared {
    state: Mutex<State>,
    news: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    subscribers: usize,
    most: usize,
}

/// How soon a browser comes back: fast enough that the ring still has what it missed.
const RETRY_MILLIS: u32 = 1000;
/// A subscriber that has wanted none of so many events is told how far it is, so that it can come back.
const UNNAMED: u64 = 200;
/// Most patterns of one subscriber.
const MOST_TABLES: usize = 64;

impl Hub {
    /// Follows events of these tables, or of all where none is given; after the event of this id where it is kept.
    ///
    /// # Errors
    /// [`NotSubscribed`] where a pattern is none, or there are too many subscribers.
    pub fn subscribe(
        &self,
        tables: &[&str],
        last_event_id: Option<&str>,
    ) -> Result<Subscription, NotSubscribed> {
        let patterns = tables.iter().take(MOST_TABLES).map(|table| Glob::new(table));
        let tables = patterns.collect::<Result<Vec<_>, _>>()?;
        let mut state = self.state();
        if state.subscribers >= state.most {
            return Err(NotSubscribed::Full(state.most));
        }
        state.subscribers += 1;
        let last = last_event_id.filter(|id| !id.is_empty());
        let (next, gap) = match state.ring.begin(last.map(|id| id.parse().ok())) {
            Begin::At(next) => (next, ""),
            Begin::Gap(next) => (next, "event: gap\ndata: {}\n\n"),
        };
        // A name without data is remembered by browsers, and is no event.
        let name = state.ring.name_before(next).filter(|_| gap.is_empty());
        let name = name.map(|id| format!("id: {id}\n")).unwrap_or_default();
        let greeting = Some(format!("retry: {RETRY_MILLIS}\n{name}\n{gap}"));
        drop(state);
        let news = self.shared.news.subscribe();
        let hub = self.clone();
        Ok(Subscription { hub, news, tables, next, greeting, named: next, ended: false })
    }

    /// How many follow.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.state().subscribers
    }

    pub(super) fn bound(&self, keep: usize, keep_bytes: usize, subscribers: usize) {
        let mut state = self.state();
        state.ring.bound(keep, keep_bytes);
        state.most = subscribers;
    }

    pub(super) fn publish(&self, events: Vec<Event>) {
        let mut state = self.state();
        for event in events {
            state.ring.push(event);
        }
        drop(state);
        self.shared.news.send_replace(());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// The next events, as they go over the wire; none after the last. May be dropped while it waits.
    pub async fn next(&mut self) -> Option<Bytes> {
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting.into());
        }
        while !self.ended {
            self.news.mark_unchanged();
            if let Some(text) = self.ready() {
                return Some(text);
            }
            // The hub is ours as well: its end cannot come before ours.
            self.news.changed().await.ok()?;
        }
        None
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Bytes> + Send + 'static {
        stream::unfold(self, async |mut this| {
            let text = this.next().await?;
            Some((text, this))
        })
    }

    fn ready(&mut self) -> Option<Bytes> {
        let state = self.hub.state();
        match state.ring.read(self.next, &self.tables) {
            Ready::Lagged => {
                self.ended = true;
                Some(Bytes::from_static(b"event: lagged\ndata: {}\n\n"))
            }
            Ready::Text(text, next) => {
                (self.next, self.named) = (next, next);
                Some(text.into())
            }
            Ready::Nothing(next) => {
                self.next = next;
                let name = state.ring.name_before(next).filter(|_| next - self.named >= UNNAMED)?;
                self.named = next;
                Some(format!("id: {name}\n\n").into())
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        state.subscribers = state.subscribers.saturating_sub(1);
    }
}

impl Default for Shared {
    fn default() -> Self {
        let state = State { ring: Ring::default(), subscribers: 0, most: 100 };
        Self { state: Mutex::new(state), news: watch::Sender::new(()) }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("subscribers", &self.subscribers()).finish_non_exhaustive()
    }
}
