//! `herdsman ledger`: databases of several makes that follow one log.

use clap::{Args, Subcommand};

use crate::cli::Global;
use crate::exit::{Exit, Failed};

mod beside;
mod door;
mod drivers;
mod environment;
mod examples;
mod keeper;
mod lock;
mod printed;
mod run;
mod serving;
mod skip;
mod sql;
mod status;
mod target;
mod upkeep;
mod verify;
mod work;

pub(super) use beside::Beside;
pub(crate) use keeper::Keeper;

/// `herdsman ledger`.
#[derive(Debug, Args)]
pub(crate) struct LedgerArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Have every node follow the log until told to stop: part of `herdsman run`
    #[command(after_help = examples::RUN)]
    Run(run::RunArgs),
    /// Show how far each node is behind the end of the log, and who may not go on and why
    #[command(after_help = examples::STATUS)]
    Status(status::StatusArgs),
    /// Run statements at a node, as one transaction that every node gets
    #[command(after_help = examples::SQL)]
    Sql(sql::SqlArgs),
    /// Compare what all nodes hold at one place of the log
    #[command(after_help = examples::VERIFY)]
    Verify(verify::VerifyArgs),
    /// Have all nodes pass over an entry that none of them can read
    #[command(after_help = examples::SKIP)]
    Skip(skip::SkipArgs),
    /// Take a node out of service: it follows the log no further until it is joined again
    #[command(after_help = examples::FENCE)]
    Fence(upkeep::FenceArgs),
    /// Bring a fenced node back: it lets go of its rows and takes another node's, of any make
    #[command(alias = "rejoin", after_help = examples::JOIN)]
    Join(upkeep::JoinArgs),
    /// Write all that a node holds into a file, while it goes on
    #[command(after_help = examples::BACKUP)]
    Backup(upkeep::BackupArgs),
    /// Bring a fenced node back from a backup, where no other node is fit
    #[command(after_help = examples::RESTORE)]
    Restore(upkeep::RestoreArgs),
    /// Have the log forget what no node and no backup needs
    #[command(after_help = examples::TRIM)]
    Trim(upkeep::TrimArgs),
}

impl LedgerArgs {
    /// Whether it starts the log by itself, as what runs for long does.
    pub(crate) fn runs(&self) -> bool {
        matches!(self.action, Action::Run(_))
    }
}

/// Does what was asked.
pub(crate) async fn run(args: &LedgerArgs, global: &Global) -> Result<Exit, Failed> {
    match &args.action {
        Action::Run(args) => Box::pin(run::run(args, global)).await,
        Action::Status(args) => Box::pin(status::run(args, global)).await,
        Action::Sql(args) => Box::pin(sql::run(args, global)).await,
        Action::Verify(args) => Box::pin(verify::run(args, global)).await,
        Action::Skip(args) => Box::pin(skip::run(args, global)).await,
        Action::Fence(args) => Box::pin(upkeep::fence(args, global)).await,
        Action::Join(args) => Box::pin(upkeep::join(args, global)).await,
        Action::Backup(args) => Box::pin(upkeep::backup(args, global)).await,
        Action::Restore(args) => Box::pin(upkeep::restore(args, global)).await,
        Action::Trim(args) => Box::pin(upkeep::trim(args, global)).await,
    }
}
