//! `herdsman ledger run`: follows the log until told to stop, and nothing else.

use tokio_util::sync::CancellationToken;

use super::serving::Serving;
use super::target;
use crate::cli::{ConfigFile, Global};
use crate::commands::run::Signals;
use crate::commands::run::manager::{self, Watchdog};
use crate::exit::{Exit, Failed};
use crate::logs;

/// Runs until a signal ends it.
pub(super) async fn run(args: &ConfigFile, global: &Global) -> Result<Exit, Failed> {
    let (config, setup) = target::find(args.file.as_deref().or(global.config.as_deref()))?;
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
