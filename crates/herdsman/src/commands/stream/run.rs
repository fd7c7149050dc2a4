//! `herdsman stream run`: delivers until told to stop. `herdsman run` has the same beside it ([`Streaming`]).

use clap::Args;
use herdsman_node::Lsn;
use herdsman_stream::StreamError;
use herdsman_stream::engine::{End, Stats};
use herdsman_stream::service::{Phase, Service, ServiceError, Setup};
use herdsman_watch::{Watch, Watcher};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Level;

use super::target::Target;
use super::{idle, live, peek};
use crate::cli::Global;
use crate::commands::run::Signals;
use crate::config::{Config, Depth, LogConfig};
use crate::exit::{Exit, Failed};
use crate::{logs, output};

/// `herdsman stream run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// End when everything there was at the start has been delivered
    #[arg(long)]
    until_idle: bool,
}

/// A stream under way, as a task of its own.
pub(crate) struct Streaming {
    stop: CancellationToken,
    task: JoinHandle<Result<End, ServiceError>>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) stats: Stats,
}

/// Runs until a signal ends it, or until everything is delivered.
pub(super) async fn run(args: &RunArgs, global: &Global) -> Result<Exit, Failed> {
    let config = Config::load(global.config.as_deref(), Depth::Full)?;
    if config.koyo.test_mode {
        output::note(&format!(
            "${} is set: this shows what waits in slot `{}`, delivers nothing and leaves it there",
            config.koyo.name("TEST_MODE"),
            config.stream.slot
        ));
        let shape = config.stream.shape;
        return peek::show(&Target::of(config).await?, None, shape).await;
    }
    let log = LogConfig {
        level: if config.koyo.quiet { Level::WARN } else { config.log.level },
        file: config.log.file.clone(),
    };
    logs::start_with_notes(&log, &config.notes, global)?;
    let mut signals = Signals::listen()?;
    let watcher = needs_watcher(&config).then(|| Watcher::start(config.setup())).transpose();
    let watcher = watcher.map_err(|error| Exit::Config.with(error))?;
    if live::of(&config.stream).is_some() {
        tracing::warn!("nobody can follow /v2/stream here: only `herdsman run` serves it");
    }
    let mut streaming = Streaming::start(&config, watcher.as_ref().map(Watcher::watch))?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = %config.path.display(),
        slot = %config.stream.slot,
        sinks = config.stream.sinks.len(),
        "the stream is up"
    );
    let (phase, stats) = (streaming.phase.clone(), streaming.stats.clone());
    let idle = async {
        if args.until_idle {
            idle::reached(&config, phase, stats).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    let early = tokio::select! {
        signal = signals.end() => {
            tracing::info!(signal, "stopping: deliveries under way may finish");
            None
        }
        () = idle => None,
        ended = &mut streaming.task => Some(ended),
    };
    let outcome = match early {
        Some(ended) => finished(ended),
        None => tokio::select! {
            outcome = streaming.stop() => outcome,
            signal = signals.end() => {
                tracing::warn!(signal, "stopped at once, at the second signal");
                Err(Exit::Failure.with(""))
            }
        },
    };
    if let Some(watcher) = watcher {
        watcher.stop().await;
    }
    let End { safe, undelivered } = outcome?;
    tracing::info!(%safe, undelivered, "stopped");
    Ok(Exit::Success)
}

/// One node, or a named one, is read from whatever its role.
fn needs_watcher(config: &Config) -> bool {
    config.stream.node.is_none() && config.nodes.len() > 1
}

impl Streaming {
    /// Starts the stream of the configuration.
    ///
    /// # Errors
    /// What is wrong with its settings, or that another process has the state folder.
    pub(crate) fn start(config: &Config, watch: Option<Watch>) -> Result<Self, Failed> {
        let setup = Setup {
            config: config.stream.clone(),
            nodes: config.stream.nodes(&config.nodes),
            watch,
            sinks: Vec::new(),
        };
        let service = Service::new(setup).map_err(|error| failed(&error))?;
        let (phase, stats) = (service.phase(), service.stats());
        let stop = CancellationToken::new();
        let task = tokio::spawn(service.run(stop.clone()));
        Ok(Self { stop, task, phase, stats })
    }

    /// Waits until it ends by itself, which it does only where no further try helps.
    pub(crate) async fn ended(&mut self) -> Failed {
        match finished((&mut self.task).await) {
            Ok(_) => Exit::Internal.with("the stream ended by itself"),
            Err(failed) => failed,
        }
    }

    /// Ends it once what is under way is delivered.
    pub(crate) async fn stop(self) -> Result<End, Failed> {
        self.stop.cancel();
        finished(self.task.await)
    }
}

fn finished(
    ended: Result<Result<End, ServiceError>, tokio::task::JoinError>,
) -> Result<End, Failed> {
    match ended {
        // As with every program whose reader has seen enough.
        Ok(Err(ServiceError::Stream(StreamError::ReaderLeft { .. }))) => {
            Ok(End { safe: Lsn(0), undelivered: 0 })
        }
        Ok(outcome) => outcome.map_err(|error| failed(&error)),
        Err(error) => Err(Exit::Internal.with(format!("the stream ended badly: {error}"))),
    }
}

/// What is wrong with the file ends as every other mistake in it does.
fn failed(error: &ServiceError) -> Failed {
    let exit = match error {
        ServiceError::Choice(_)
        | ServiceError::Sink { .. }
        | ServiceError::NoSink
        | ServiceError::Filter(_)
        | ServiceError::Tls(_) => Exit::Config,
        _ => Exit::Failure,
    };
    exit.with(error)
}
