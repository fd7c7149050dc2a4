//! `herdsman ledger run`: follows the log until told to stop, and nothing else.

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::serving::Serving;
use super::{environment, target};
use crate::cli::{ConfigFile, Global};
use crate::commands::run::Signals;
use crate::commands::run::manager::{self, Watchdog};
use crate::config::Config;
use crate::exit::{Exit, Failed};
use crate::logs;

/// `herdsman ledger run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Take Kluster's variables KAFKA_…_TOPIC, KAFKA_BOOTSTRAP_SERVERS and DATABASE_ADDRESS instead of a configuration file
    #[arg(long, conflicts_with_all = ["file", "config"])]
    from_env: bool,
}

/// Runs until a signal ends it.
pub(super) async fn run(args: &RunArgs, global: &Global) -> Result<Exit, Failed> {
    let (config, setup) = if args.from_env {
        let (place, text) = environment::configuration()?;
        target::of(Config::from_text(place, &text)?)?
    } else {
        target::find(args.file.file.as_deref().or(global.config.as_deref()))?
    };
    logs::start_with_notes(&config.log, &config.notes, global)?;
    let mut signals = Signals::listen()?;
    let serving = Serving::take(setup).await?;
    let stop = CancellationToken::new();
    let mut watchdog = Watchdog::of_manager();
    let up = |_: &_| {
        tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %config.path.display(), "herdsman is up");
        manager::ready("following");
    };
    let mut serving = Box::pin(serving.run(stop.clone(), up));
    loop {
        tokio::select! {
            ended = &mut serving => return ended.map(|()| Exit::Success),
            () = watchdog.beat() => (),
            signal = signals.end() => {
                tracing::info!(signal, "stopping: requests under way may finish");
                break;
            }
        }
    }
    manager::stopping();
    stop.cancel();
    tokio::select! {
        ended = watchdog.during(serving) => {
            ended?;
            tracing::info!("stopped");
            Ok(Exit::Success)
        }
        signal = signals.end() => {
            tracing::warn!(signal, "stopped at once, at the second signal");
            Ok(Exit::Failure)
        }
    }
}
