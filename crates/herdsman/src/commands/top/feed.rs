//! Asks the running Herdsman, again and again, and tells what it said.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use herdsman_node::Backoff;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;

use super::data::News;
use super::samples::Samples;
use crate::client::Endpoint;
use crate::client::follow::Sent;
use crate::commands::ask;

/// News that wait to be shown: more than one herd makes in a moment. Who tells waits where they are full.
const QUEUE: usize = 64;

/// Pauses between tries while nobody answers.
const AGAIN: Backoff =
    Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(5) };

/// No event of any run has this number: what is kept comes first, then what happens.
const FROM_THE_FIRST: &str = "0-0";

/// What is told until it is dropped.
pub(super) struct Feed {
    pub(super) news: Receiver<News>,
    /// Ends with us.
    _tasks: JoinSet<()>,
}

impl Feed {
    /// Begins to ask, each `pause`.
    pub(super) fn start(endpoint: &Endpoint, pause: Duration) -> Self {
        let (to, news) = channel(QUEUE);
        let mut tasks = JoinSet::new();
        tasks.spawn(look(endpoint.clone(), pause, to.clone()));
        tasks.spawn(listen(endpoint.clone(), to));
        Self { news, _tasks: tasks }
    }
}

/// Looks at the herd and at what is counted.
async fn look(endpoint: Endpoint, pause: Duration, to: Sender<News>) {
    let mut failures = 0;
    loop {
        let news = match ask::remote(&endpoint).await {
            Ok(told) => {
                failures = 0;
                News::Topology(Box::new(told.topology))
            }
            Err(failed) => {
                failures += 1;
                News::Away(failed.message)
            }
        };
        if to.send(news).await.is_err() {
            return;
        }
        if failures == 0
            && let Some(samples) = samples(&endpoint).await
            && to.send(News::Samples(samples)).await.is_err()
        {
            return;
        }
        let pause = if failures == 0 { pause } else { AGAIN.pause(failures, fastrand::f64()) };
        tokio::time::sleep(pause).await;
    }
}

/// What is counted; nothing where that cannot be told: the herd itself is told of all the same.
async fn samples(endpoint: &Endpoint) -> Option<Samples> {
    let answer = endpoint.get("/metrics").await.ok()?;
    answer.status.is_success().then(|| Samples::read(&String::from_utf8_lossy(&answer.body)))
}

/// Follows what happens. That nobody answers is told by whoever looks.
async fn listen(endpoint: Endpoint, to: Sender<News>) {
    let (sent, mut events) = channel::<Sent>(QUEUE);
    let last = Mutex::new(FROM_THE_FIRST.to_owned());
    let last_id = || last.lock().unwrap_or_else(PoisonError::into_inner);
    let passing_on = async {
        let mut first = true;
        while let Some(event) = events.recv().await {
            if let Some(id) = &event.id {
                last_id().clone_from(id);
            }
            // That there is nothing from before is no gap.
            let gap = event.event.as_deref() == Some("gap");
            if !(first && gap) && to.send(News::Event(event)).await.is_err() {
                return;
            }
            first = false;
        }
    };
    let following = async {
        let mut failures = 0;
        loop {
            let from = last_id().clone();
            let ended = endpoint.follow("/v2/events", &from, &sent).await;
            failures = if ended.is_ok() { 1 } else { failures + 1 };
            tokio::time::sleep(AGAIN.pause(failures, fastrand::f64())).await;
        }
    };
    tokio::select! {
        () = passing_on => {}
        () = following => {}
    }
}
