//! `herdsman stream`: every row change, handed on.

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::Global;
use crate::exit::{Exit, Failed};

mod beside;
mod diagnose;
mod dlq;
mod examples;
mod idle;
mod init;
pub(super) mod live;
mod peek;
mod recreate;
mod run;
mod slots;
mod snapshot;
mod status;
mod target;

pub(super) use beside::Beside;
pub(super) use diagnose::handled;

/// `herdsman stream`.
#[derive(Debug, Args)]
pub(crate) struct StreamArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Deliver changes to the sinks of the configuration until told to stop
    #[command(after_help = examples::RUN)]
    Run(run::RunArgs),
    /// Write a commented configuration, and a program with handlers that compiles
    #[command(after_help = examples::INIT)]
    Init(init::InitArgs),
    /// Say what is missing on the server, and the statement that mends it
    #[command(after_help = examples::DIAGNOSE)]
    Diagnose(JsonArgs),
    /// Show where the stream stands: slot, bytes waiting, dead letters
    #[command(after_help = examples::STATUS)]
    Status(JsonArgs),
    /// Look at the changes that wait in the slot, and leave them there
    #[command(after_help = examples::PEEK)]
    Peek(peek::PeekArgs),
    /// Deliver all rows of tables as they are now
    #[command(after_help = examples::SNAPSHOT)]
    Snapshot(snapshot::SnapshotArgs),
    /// List, show, replay or drop changes that could not be delivered
    #[command(after_help = examples::DLQ)]
    Dlq(dlq::DlqArgs),
    /// List, create or drop replication slots
    #[command(after_help = examples::SLOTS)]
    Slots(slots::SlotsArgs),
    /// Drop the slot and make it anew; what was not delivered is lost
    #[command(after_help = examples::RECREATE)]
    Recreate(recreate::RecreateArgs),
}

impl StreamArgs {
    /// Whether it starts the log by itself, as what runs for long does.
    pub(crate) fn runs(&self) -> bool {
        matches!(self.action, Action::Run(_))
    }
}

/// Arguments of what prints data.
#[derive(Debug, Args)]
pub(super) struct JsonArgs {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Shape of the JSON of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum ShapeArg {
    Herdsman,
    HerdsmanTyped,
    Debezium,
    Wal2json,
}

/// Does what was asked.
pub(crate) async fn run(args: &StreamArgs, global: &Global) -> Result<Exit, Failed> {
    match &args.action {
        Action::Run(args) => run::run(args, global).await,
        Action::Init(args) => init::run(args),
        Action::Diagnose(args) => diagnose::run(args, global).await,
        Action::Status(args) => status::run(args, global).await,
        Action::Peek(args) => peek::run(args, global).await,
        Action::Snapshot(args) => snapshot::run(args, global).await,
        Action::Dlq(args) => dlq::run(args, global).await,
        Action::Slots(args) => slots::run(args, global).await,
        Action::Recreate(args) => recreate::run(args, global).await,
    }
}
