//! The stream of `herdsman run`: beside the watcher and the API, which go on whatever becomes of it.

use std::time::Duration;

use herdsman_stream::StreamConfig;
use herdsman_watch::Watcher;

use super::run::Streaming;
use crate::config::Config;
use crate::exit::Failed;
use crate::metrics::{Metrics, StreamSource};

/// How long after its end a stream is tried again: somebody has to put right what ended it, and hears of it this often.
const PAUSE: Duration = Duration::from_secs(60);

/// The stream, where the configuration has sinks.
pub(crate) struct Beside {
    state: State,
    config: StreamConfig,
    metrics: Metrics,
}

enum State {
    /// There are no sinks.
    Nothing,
    Streaming(Streaming),
    /// It has ended, and waits to be tried again.
    Ended(std::pin::Pin<Box<tokio::time::Sleep>>),
}

impl Beside {
    /// Starts the stream, where there are sinks, and tells `metrics` where it can be asked.
    ///
    /// # Errors
    /// What is wrong with its settings, or that another process has the state folder.
    pub(crate) fn start(
        config: &Config,
        watcher: &Watcher,
        metrics: Metrics,
    ) -> Result<Self, Failed> {
        let state = if config.stream.sinks.is_empty() {
            State::Nothing
        } else {
            State::Streaming(Streaming::start(config, Some(watcher.watch()))?)
        };
        let beside = Self { state, config: config.stream.clone(), metrics };
        beside.tell(None);
        Ok(beside)
    }

    /// Waits until the stream has to be started again; for ever where there is none. May be dropped and called anew.
    pub(crate) async fn look_after(&mut self) {
        loop {
            match &mut self.state {
                State::Nothing => std::future::pending().await,
                State::Streaming(streaming) => {
                    let failed = streaming.ended().await;
                    tracing::error!(problem = %failed.message, again_after = ?PAUSE, "the stream has ended");
                    self.state = State::Ended(Box::pin(tokio::time::sleep(PAUSE)));
                    self.tell(Some(failed.message.to_string()));
                }
                State::Ended(pause) => return pause.as_mut().await,
            }
        }
    }

    /// Starts it again.
    pub(crate) fn again(&mut self, config: &Config, watcher: &Watcher) {
        let mut problem = None;
        self.state = match Streaming::start(config, Some(watcher.watch())) {
            Ok(streaming) => State::Streaming(streaming),
            Err(failed) => {
                tracing::error!(problem = %failed.message, again_after = ?PAUSE, "the stream cannot start");
                problem = Some(failed.message.to_string());
                State::Ended(Box::pin(tokio::time::sleep(PAUSE)))
            }
        };
        self.tell(problem);
    }

    fn tell(&self, problem: Option<String>) {
        self.metrics.offer_stream(match &self.state {
            State::Nothing => None,
            State::Streaming(Streaming { phase, stats, .. }) => {
                Some(StreamSource::under_way(&self.config, phase.clone(), stats.clone()))
            }
            State::Ended(_) => Some(StreamSource::ended(&self.config, problem)),
        });
    }

    /// Ends it once what is under way is delivered.
    pub(crate) async fn stop(self) {
        let State::Streaming(streaming) = self.state else { return };
        match streaming.stop().await {
            Ok(end) => {
                tracing::info!(safe = %end.safe, undelivered = end.undelivered, "the stream has stopped");
            }
            Err(failed) => tracing::error!(problem = %failed.message, "the stream has ended"),
        }
    }
}
