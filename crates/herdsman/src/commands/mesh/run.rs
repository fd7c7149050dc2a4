//! `herdsman mesh run`: applies changes until told to stop, and nothing else.

use herdsman_mesh::engine::Engine;

use super::beside::announce;
use super::target::{Target, failed};
use crate::cli::{ConfigFile, Global};
use crate::commands::run::Signals;
use crate::exit::{Exit, Failed};
use crate::logs;

/// Runs until a signal ends it.
pub(super) async fn run(args: &ConfigFile, global: &Global) -> Result<Exit, Failed> {
    let Target { config, setup } = Target::find(args.file.as_deref().or(global.config.as_deref()))?;
    logs::start_with_notes(&config.log, &config.notes, global)?;
    let mut signals = Signals::listen()?;
    let engine = Engine::start((*setup).clone()).map_err(|error| failed(&error))?;
    announce(&config.mesh);
    let signal = signals.end().await;
    tracing::info!(signal, "stopping: what is under way is finished");
    tokio::select! {
        () = engine.stop() => {
            tracing::info!("stopped");
            Ok(Exit::Success)
        }
        signal = signals.end() => {
            tracing::warn!(signal, "stopped at once, at the second signal");
            Ok(Exit::Failure)
        }
    }
}
