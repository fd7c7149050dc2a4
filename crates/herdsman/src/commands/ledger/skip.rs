//! `herdsman ledger skip`: an operator's word that an entry which no node can read is passed over.

use clap::Args;

use super::target;
use super::work::{self, Answer, Request};
use crate::cli::Global;
use crate::exit::{Exit, Failed};
use crate::output;

/// `herdsman ledger skip`.
#[derive(Debug, Args)]
pub(super) struct SkipArgs {
    /// The entry, as `ledger status` names it
    #[arg(value_name = "ENTRY")]
    entry: u64,
}

/// Puts the word into the log.
pub(super) async fn run(args: &SkipArgs, global: &Global) -> Result<Exit, Failed> {
    let (_, setup) = target::find(global.config.as_deref())?;
    let request = Request::Skip { offset: args.entry };
    let Answer::Skipped(at) = work::ask(&setup, &request).await? else {
        return Err(Exit::Unavailable.with("the running program answers something else"));
    };
    output::line(&format!("entry {} is passed over by every node: entry {at} says so", args.entry));
    Ok(Exit::Success)
}
