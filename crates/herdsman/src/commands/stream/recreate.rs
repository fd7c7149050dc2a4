//! `herdsman stream recreate`: a slot from now on, instead of the one there was.

use clap::Args;
use herdsman_node::Lsn;
use herdsman_stream::checkpoint::Checkpoint;
use herdsman_wal::slot;

use super::slots;
use super::target::Target;
use crate::cli::Global;
use crate::exit::{Exit, Failed};
use crate::output;
use crate::show::bytes;

/// `herdsman stream recreate`.
#[derive(Debug, Args)]
pub(super) struct RecreateArgs {
    /// Really drop what has not been delivered
    #[arg(long)]
    yes: bool,
}

/// Drops the slot of the configuration, makes it anew, and says what may be missing.
pub(super) async fn run(args: &RecreateArgs, global: &Global) -> Result<Exit, Failed> {
    let target = Target::find(global).await?;
    let name = &target.config.stream.slot;
    let mut session = target.session().await?;
    let old = slot::inspect(&session, name).await.map_err(|error| target.failed(&error))?;
    // Whoever reads the slot has this folder; it must not find another slot under its feet.
    let state = &target.config.stream.state;
    let checkpoint = state.is_dir().then(|| Checkpoint::open(state)).transpose();
    let checkpoint = checkpoint.map_err(|error| Exit::Failure.with(error))?;
    if let Some(old) = &old {
        if !args.yes {
            return Err(Exit::Usage.with(format!(
                "recreating slot `{name}` on {} loses what waits in it, up to {} of log; to do that, add `--yes`",
                target.node,
                bytes(old.waiting().unwrap_or(0))
            )));
        }
        slot::drop(&session, name).await.map_err(|error| target.failed(&error))?;
        output::line(&format!("slot `{name}` dropped on {}", target.node));
    }
    let begins = slots::make(&target, &mut session, name).await?;
    if let Some(checkpoint) = checkpoint {
        begin_at(&checkpoint, begins)?;
        // A snapshot that the old slot was begun with has nothing to go on with.
        let _was_not_there = std::fs::remove_file(checkpoint.folder().join("snapshot"));
    }
    let Some(confirmed) = old.and_then(|old| old.confirmed) else { return Ok(Exit::Success) };
    if confirmed < begins {
        output::line(&format!(
            "changes committed between {confirmed} and {begins} may be missing; `herdsman stream snapshot TABLE` delivers the rows as they are now"
        ));
    }
    Ok(Exit::Success)
}

/// What was skipped was skipped on purpose: without this, the next start would say that the slot is ahead of us.
fn begin_at(checkpoint: &Checkpoint, begins: Lsn) -> Result<(), Failed> {
    let failed = |error| Exit::Failure.with(error);
    match checkpoint.load().map_err(failed)? {
        Some(saved) => checkpoint.save(&saved.source, begins).map_err(failed),
        None => Ok(()),
    }
}
