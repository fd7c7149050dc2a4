//! Messages: every event, in order, from a queue.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use herdsman_stream::sinks::webhook::Poster;
use herdsman_watch::{Event, EventKind, Reports, Topology};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::plan::{Next, after};
use super::{jitter, known, settled};
use crate::config::{ExecConfig, RetryConfig};
use crate::failure::Failure;
use crate::herd::Places;
use crate::message::Message;
use crate::queue::Queue;
use crate::status::{Board, Outcome};
use crate::{exec, post};

/// A hook that tells of events.
#[derive(Debug)]
pub(crate) struct Teller {
    pub(crate) name: String,
    pub(crate) events: Vec<EventKind>,
    pub(crate) retry: RetryConfig,
    pub(crate) queue: usize,
    pub(crate) how: How,
}

/// How it tells.
#[derive(Debug)]
pub(crate) enum How {
    Exec { config: ExecConfig, timeout: Duration, places: Places },
    Webhook(Poster),
    Slack { poster: Poster, title: Option<String> },
}

/// What there is to be told of.
#[derive(Debug)]
pub(crate) struct Sources {
    /// What is no news.
    pub(crate) base: Option<Arc<Topology>>,
    pub(crate) topology: watch::Receiver<Arc<Topology>>,
    /// What other parts of the program have seen.
    pub(crate) reports: Reports,
}

/// Tells until told to stop; what is under way then may end.
pub(crate) async fn tell(
    teller: Teller,
    sources: Sources,
    board: Arc<Board>,
    stop: CancellationToken,
) {
    let queue = Queue::new(teller.queue);
    let gathering = gather(&teller, sources, &queue, &board);
    let working = work(&teller, &queue, &board, &stop);
    tokio::select! {
        () = working => {}
        // It waits for events for ever, or until the watcher is gone.
        never = gathering => match never {},
    }
    if queue.len() > 0 {
        tracing::warn!(
            hook = teller.name,
            events = queue.len(),
            "stopped before all events were told"
        );
    }
}

/// Puts what happens into the queue.
async fn gather(
    teller: &Teller,
    sources: Sources,
    queue: &Queue<Message>,
    board: &Board,
) -> std::convert::Infallible {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (run, mut number) = (since.as_millis(), 0_u64);
    let mut put = |event: Event| {
        if !teller.events.contains(&event.kind()) {
            return;
        }
        number += 1;
        let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let id = format!("{run:x}-{}-{number}", teller.name);
        if queue.put(Message::new(id, at, event)) {
            board.dropped();
            tracing::warn!(
                hook = teller.name,
                "too many events wait: the oldest is not told; see why this hook fails, or raise `queue`"
            );
        }
        board.waiting(queue.len());
    };
    let Sources { base, mut topology, mut reports } = sources;
    let mut last = match base {
        Some(base) => base,
        None => {
            settled(&mut topology).await;
            // That there is none when we begin is news.
            known(&topology).unwrap_or_default()
        }
    };
    let mut now = Arc::clone(&topology.borrow_and_update());
    loop {
        Event::between(&last, &now).into_iter().for_each(&mut put);
        last = now;
        loop {
            tokio::select! {
                changed = topology.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return std::future::pending().await,
                },
                event = reports.next() => put(event),
            }
        }
        now = Arc::clone(&topology.borrow_and_update());
    }
}

async fn work(teller: &Teller, queue: &Queue<Message>, board: &Board, stop: &CancellationToken) {
    loop {
        let message = tokio::select! {
            () = stop.cancelled() => return,
            message = queue.take() => message,
        };
        board.waiting(queue.len());
        let mut tries = 0;
        loop {
            tries += 1;
            board.begins();
            let (run, wanted) = match Box::pin(teller.once(&message)).await {
                Ok(done) => {
                    board.ended(Outcome::Succeeded, &done);
                    tracing::info!(hook = teller.name, event = message.id, "{done}");
                    (Ok(()), None)
                }
                Err((failure, wanted)) => {
                    board.ended(failure.outcome(), &failure.problem);
                    (Err(failure), wanted)
                }
            };
            let problem = run.as_ref().err().map_or("", |failure| failure.problem.as_str());
            match after(run.as_ref().copied(), tries, &teller.retry, wanted, jitter()) {
                Next::Told => break,
                Next::Again(pause) => {
                    tracing::warn!(hook = teller.name, event = message.id, problem, again_after = ?pause, "not told");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
                Next::Never => {
                    board.given_up();
                    tracing::error!(
                        hook = teller.name,
                        event = message.id,
                        problem,
                        tries,
                        "given up: not told"
                    );
                    break;
                }
            }
        }
    }
}

impl Teller {
    async fn once(&self, message: &Message) -> Result<String, (Failure, Option<Duration>)> {
        match &self.how {
            How::Exec { config, timeout, places } => {
                let variables = message.variables(&self.name, places);
                let run = exec::run(config, &variables, &(message.json() + "\n"), *timeout).await;
                run.map_err(|failure| (failure, None))
            }
            How::Webhook(poster) => post::post(poster, message.json(), &message.id).await,
            How::Slack { poster, title } => {
                post::post(poster, message.slack(title.as_deref()), &message.id).await
            }
        }
    }
}
