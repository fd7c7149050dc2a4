//! `/v2/events`: what happens to the herd, as it happens.
//!
//! Each publication of the watcher is compared with the one before it, and what other parts of the program report (`Watch::report`)
//! is put among it as it comes. The last events stay in memory, so that whoever was
//! cut off gets what it missed; where that does not reach back far enough, it is told so.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use futures_util::StreamExt as _;
use futures_util::stream::unfold;
use herdsman_watch::{Event, Topology};
use hyper::body::Bytes;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{ApiState, LiveFeed};

/// Events kept for those who come back: a herd that does worse than this needs a person, not a feed.
const KEPT: usize = 1000;
/// Followers at a time; each holds a connection, which health checks need, too.
const MOST: usize = 100;
/// How soon browsers come back.
const RETRY_MILLIS: u32 = 1000;

/// Where events are kept and followed. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Tells one run of the program from another in the ids of events.
    run: String,
    ring: Mutex<Ring>,
    /// The number of the next event.
    news: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    /// The number of the first that is kept.
    first: u64,
    kept: VecDeque<Bytes>,
    followers: usize,
}

#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    at: String,
    #[serde(flatten)]
    event: &'a Event,
}

/// One who follows.
struct Follower {
    events: Events,
    news: watch::Receiver<u64>,
    next: u64,
    greeting: Option<String>,
    ended: bool,
}

impl Events {
    pub(crate) fn new() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let run = format!("{:x}", since.as_millis());
        Self(Arc::new(Shared { run, ring: Mutex::default(), news: watch::Sender::new(0) }))
    }

    /// Compares what the watcher publishes until told to stop.
    pub(crate) async fn gather(
        &self,
        mut state: watch::Receiver<Arc<ApiState>>,
        stop: CancellationToken,
    ) {
        let mut last = Arc::new(Topology::default());
        let mut reports = state.borrow().watch.reports();
        loop {
            let watch = state.borrow_and_update().watch.clone();
            let mut topology = watch.subscribe();
            // Of the same watcher, what was reported meanwhile must not be lost.
            let again = watch.reports();
            if !again.same_source(&reports) {
                reports = again;
            }
            loop {
                let now = Arc::clone(&topology.borrow_and_update());
                for event in Event::between(&last, &now) {
                    self.publish(&event, SystemTime::now());
                }
                last = now;
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    // A watcher that is gone publishes no more; another one may come.
                    Ok(()) = topology.changed() => {}
                    event = reports.next() => self.publish(&event, SystemTime::now()),
                    changed = state.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                }
            }
        }
    }

    fn publish(&self, event: &Event, at: SystemTime) {
        let mut ring = self.ring();
        let number = ring.end();
        let id = format!("{}-{number}", self.0.run);
        let at = humantime::format_rfc3339_millis(at).to_string();
        // Strings and numbers only: it cannot fail. Should that change, the event is an empty object.
        let data = serde_json::to_string(&Document { id: &id, at, event });
        let data = data.unwrap_or_else(|_| "{}".to_owned());
        ring.kept.push_back(format!("id: {id}\ndata: {data}\n\n").into());
        if ring.kept.len() > KEPT {
            ring.kept.pop_front();
            ring.first += 1;
        }
        drop(ring);
        self.0.news.send_replace(number + 1);
    }

    /// What happens from now on, or after the event of this id; `None` where too many follow already.
    pub(crate) fn follow(&self, last: Option<&str>) -> Option<LiveFeed> {
        let mut ring = self.ring();
        if ring.followers >= MOST {
            return None;
        }
        ring.followers += 1;
        let (next, gap) = match last.filter(|id| !id.is_empty()) {
            None => (ring.end(), ""),
            Some(id) => match self.number(id).map(|number| number + 1) {
                Some(next) if (ring.first..=ring.end()).contains(&next) => (next, ""),
                _ => (ring.first, "event: gap\ndata: {}\n\n"),
            },
        };
        drop(ring);
        let greeting = Some(format!("retry: {RETRY_MILLIS}\n\n{gap}"));
        let news = self.0.news.subscribe();
        let follower = Follower { events: self.clone(), news, next, greeting, ended: false };
        let feed = unfold(follower, async |mut follower| {
            let text = follower.next().await?;
            Some((text, follower))
        });
        Some(Box::pin(feed.fuse()))
    }

    /// The number in an id of this run.
    fn number(&self, id: &str) -> Option<u64> {
        let (run, number) = id.rsplit_once('-')?;
        if run == self.0.run { number.parse().ok() } else { None }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// The number of the next event.
    fn end(&self) -> u64 {
        self.first + u64::try_from(self.kept.len()).unwrap_or(u64::MAX)
    }
}

impl Follower {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting.into());
        }
        while !self.ended {
            self.news.mark_unchanged();
            if let Some(text) = self.ready() {
                return Some(text);
            }
            self.news.changed().await.ok()?;
        }
        None
    }

    fn ready(&mut self) -> Option<Bytes> {
        let ring = self.events.ring();
        let Some(place) = self.next.checked_sub(ring.first) else {
            self.ended = true;
            return Some(Bytes::from_static(b"event: lagged\ndata: {}\n\n"));
        };
        let text = ring.kept.get(usize::try_from(place).ok()?)?.clone();
        self.next += 1;
        Some(text)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut ring = self.events.ring();
        ring.followers = ring.followers.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests;
