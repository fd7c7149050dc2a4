//! A stream as a service: finds the server to read from, makes what is missing there, delivers, and goes on after
//! every break – on the new primary, where there is one.

mod again;
mod beforehand;
mod copying;
mod guard;
mod heartbeat;
mod herd;
mod reading;
mod resume;
mod until;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use herdsman_node::{Backoff, Conninfo, NodeName, TlsError};
use herdsman_wal::publication::PublicationError;
use herdsman_wal::snapshot::{SnapshotError, SnapshotStats};
use herdsman_wal::{Body, WalError};
use herdsman_watch::Watch;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use again::PREFIX as SNAPSHOT_PREFIX;
pub use herd::ChoiceError;
pub use resume::Gap;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::config::{DeadLetters as DeadLettersConfig, StreamConfig};
use crate::dead_letter::{DeadLetterError, DeadLetters};
use crate::engine::{End, Engine, Parts, Stats, Transform};
use crate::error::StreamError;
use crate::filter::{Filter, FilterError, MaskKey, MaskKeyError};
use crate::sink::{Sink, SinkError};
use herd::Herd;
use resume::Reached;

/// What a stream needs.
pub struct Setup {
    /// The `stream:` section.
    pub config: StreamConfig,
    /// How each node is reached, already with the stream's own login ([`StreamConfig::nodes`]).
    pub nodes: BTreeMap<NodeName, Conninfo>,
    /// Who tells which node is the primary. Not needed for a single node, or a named one.
    pub watch: Option<Watch>,
    /// Sinks besides those of the configuration, with their names: [`Handlers`](crate::Handlers), above all.
    pub sinks: Vec<(String, Arc<dyn Sink>)>,
}

/// A stream that is ready to run.
#[derive(Debug)]
pub struct Service {
    config: StreamConfig,
    herd: Herd,
    engine: Engine,
    reached: Option<Reached>,
    phase: watch::Sender<Phase>,
    snapshot: watch::Sender<SnapshotStats>,
}

/// What a service is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// It has not begun.
    Starting,
    /// It cannot read now, and tries again.
    Waiting {
        /// Why.
        why: String,
    },
    /// It delivers what the tables hold already.
    Snapshot {
        /// The node.
        node: NodeName,
    },
    /// It delivers changes as they come.
    Streaming {
        /// The node.
        node: NodeName,
        /// Its timeline.
        timeline: u32,
    },
    /// It has ended.
    Stopped,
}

/// The service cannot start, or has stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// Which node to read from cannot be told.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// A sink's settings.
    #[error("sink `{name}`: {source}")]
    Sink {
        /// The sink.
        name: String,
        /// What is wrong.
        source: SinkError,
    },
    /// There is nowhere to deliver to.
    #[error("there is no sink: add one below `stream.sinks`")]
    NoSink,
    /// The state folder.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The dead letters.
    #[error(transparent)]
    DeadLetters(#[from] DeadLetterError),
    /// The rules for tables and columns.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The key that masks.
    #[error(transparent)]
    MaskKey(#[from] MaskKeyError),
    /// The certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The state folder.
    #[error(
        "failed to {what} `{path}`: {problem}; correct it, or begin anew with `herdsman stream recreate`"
    )]
    State {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: String,
        /// What went wrong.
        problem: String,
    },
    /// The rows that are there already.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The publication.
    #[error(transparent)]
    Publication(#[from] PublicationError),
    /// The server, or the way to it.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The delivery.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Changes are missing, or were delivered and never happened.
    #[error(transparent)]
    Gap(#[from] Gap),
    /// The lag guard has stopped the stream.
    #[error("stopped by the lag guard: {0}")]
    Guard(String),
}

impl ServiceError {
    /// Whether the same may well succeed a little later, with nobody doing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Wal(error) | Self::Publication(PublicationError::Wal(error)) => {
                error.is_transient()
            }
            Self::Stream(error) => error.is_transient(),
            Self::Snapshot(error) => error.is_transient(),
            _ => false,
        }
    }
}

impl Service {
    /// Builds sinks and rules, and takes the state folder. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ServiceError`] where settings are wrong, or another process has the folder.
    pub fn new(setup: Setup) -> Result<Self, ServiceError> {
        let Setup { config, nodes, watch, mut sinks } = setup;
        let herd = Herd::new(nodes, config.node.clone(), watch.as_ref())?;
        for (name, sink) in &config.sinks {
            let built = sink.build(name, config.shape);
            let wrong = |source| ServiceError::Sink { name: name.clone(), source };
            sinks.push((name.clone(), built.map_err(wrong)?));
        }
        if sinks.is_empty() {
            return Err(ServiceError::NoSink);
        }
        let checkpoint = Checkpoint::open(&config.state)?;
        let reached = checkpoint.load()?.map(|saved| Reached {
            system_id: saved.source.system_id,
            timeline: saved.source.timeline,
            handled: saved.safe,
            given: saved.safe,
        });
        let dead_letters = match config.dead_letters {
            DeadLettersConfig::File => Some(DeadLetters::open(&config.state)?),
            DeadLettersConfig::Never => None,
        };
        let engine = Engine::new(Parts {
            sinks,
            batch: config.batch.clone(),
            retry: config.retry.clone(),
            checkpoint: Some(checkpoint),
            dead_letters,
            transform: Some(transform(&config)?),
            ..Parts::default()
        });
        let (phase, _) = watch::channel(Phase::Starting);
        let (snapshot, _) = watch::channel(SnapshotStats::default());
        Ok(Self { config, herd, engine, reached, phase, snapshot })
    }

    /// What has been delivered so far; stays up to date while the service runs.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// What the service is doing, as it changes.
    #[must_use]
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// How far the snapshot is, while there is one.
    #[must_use]
    pub fn snapshot_stats(&self) -> watch::Receiver<SnapshotStats> {
        self.snapshot.subscribe()
    }

    /// Delivers until `shutdown`, over every break of a connection and every promotion.
    ///
    /// # Errors
    /// [`ServiceError`] where no further try helps: changes are missing, rights are, or the configuration is wrong.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<End, ServiceError> {
        let outcome = self.keep_running(&shutdown).await;
        self.phase.send_replace(Phase::Stopped);
        match outcome {
            Ok(end) => Ok(end),
            Err(error) => {
                // What was delivered is saved, whatever stopped us.
                if let Err(second) = self.engine.close().await {
                    tracing::error!(problem = %second, "the position could not be saved");
                }
                Err(error)
            }
        }
    }

    async fn keep_running(&mut self, shutdown: &CancellationToken) -> Result<End, ServiceError> {
        let mut failures = 0;
        loop {
            let phase = self.phase.clone();
            let waiting = move |why: &str| {
                tracing::info!(why, "waiting for a primary to read from");
                phase.send_replace(Phase::Waiting { why: why.to_owned() });
            };
            let (node, info) = tokio::select! {
                chosen = self.herd.node(waiting) => chosen,
                () = shutdown.cancelled() => return Ok(self.engine.close().await?),
            };
            let received = self.engine.stats().snapshot().received;
            match Box::pin(self.read_from(&node, &info, shutdown)).await {
                Ok(reading::Ended::Shutdown(end)) => return Ok(end),
                Ok(reading::Ended::Moved(to)) => {
                    tracing::info!(from = %node, %to, "the primary is another node now");
                    self.engine.stats().disconnected();
                    failures = 0;
                }
                Err(error) if error.is_transient() => {
                    if self.engine.stats().snapshot().received > received {
                        failures = 0;
                    }
                    failures += 1;
                    let pause = RECONNECT.pause(failures, fastrand::f64());
                    tracing::warn!(%node, problem = %error, ?pause, "the stream is interrupted");
                    self.engine.stats().disconnected();
                    self.phase.send_replace(Phase::Waiting { why: error.to_string() });
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = shutdown.cancelled() => return Ok(self.engine.close().await?),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Pauses between tries to connect.
const RECONNECT: Backoff =
    Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };

/// What the prefixes of our own messages begin with: heartbeats, and the marks of snapshots.
const OURS: &str = "herdsman.";

/// What is done to each change: our own messages go, then the rules of the configuration apply.
fn transform(config: &StreamConfig) -> Result<Transform, ServiceError> {
    let mut filter = Filter::new(config, MaskKey::from_bytes(&[]))?;
    if filter.hashes() {
        filter = Filter::new(config, MaskKey::in_folder(&config.state)?)?;
    }
    Ok(Box::new(move |change| {
        if matches!(change.body, Body::Message { prefix, .. } if prefix.starts_with(OURS)) {
            return Ok(None);
        }
        filter.apply(change).map_err(StreamError::from)
    }))
}
