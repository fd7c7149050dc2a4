//! `herdsman mesh`: several servers that all take writes, kept alike.

use clap::{Args, Subcommand};

use crate::cli::{AskArgs, ConfigFile, Global};
use crate::exit::{Exit, Failed};

mod alarms;
mod beside;
mod conflicts;
mod control;
mod ddl;
mod door;
mod examples;
mod jobs;
mod loadtest;
mod members;
mod run;
mod sequences;
mod status;
mod target;
mod up;
mod verify;

pub(super) use beside::Beside;

/// `herdsman mesh`.
#[derive(Debug, Args)]
pub(crate) struct MeshArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make the nodes of the configuration a mesh: says what it will change, and asks first
    #[command(after_help = examples::UP)]
    Up(up::UpArgs),
    /// Show how far every member is behind every other one, and what is wrong
    #[command(after_help = examples::STATUS)]
    Status(status::StatusArgs),
    /// Compare the members' rows while writes go on
    #[command(after_help = examples::VERIFY)]
    Verify(verify::VerifyArgs),
    /// List conflicts: both rows, who won and why
    #[command(after_help = examples::CONFLICTS)]
    Conflicts(conflicts::ConflictsArgs),
    /// Make a node a member while the others take writes
    #[command(after_help = examples::ADD)]
    Add(members::AddArgs),
    /// Take a member out, or give up one that is lost
    #[command(after_help = examples::REMOVE)]
    Remove(members::RemoveArgs),
    /// Take the whole mesh off its nodes, whose rows stay
    #[command(after_help = examples::DOWN)]
    Down(members::DownArgs),
    /// Alter tables on all members, at one agreed point of every stream
    #[command(after_help = examples::DDL)]
    Ddl(ddl::DdlArgs),
    /// Hold the changes from one member to another, or all
    #[command(after_help = examples::PAUSE)]
    Pause(control::LinkArgs),
    /// Let them go on
    #[command(after_help = examples::RESUME)]
    Resume(control::LinkArgs),
    /// Show how keys are kept apart and how full each range is, and mend it
    #[command(after_help = examples::SEQUENCES)]
    Sequences(sequences::SequencesArgs),
    /// Find rows whose foreign key points to nothing
    #[command(after_help = examples::ORPHANS)]
    Orphans(verify::OrphansArgs),
    /// Apply changes until told to stop: what `herdsman run` does, and nothing else
    #[command(after_help = examples::RUN)]
    Run(ConfigFile),
    /// Write or read through every member at once, then compare them
    #[command(after_help = examples::LOADTEST)]
    Loadtest(loadtest::LoadtestArgs),
}

impl MeshArgs {
    /// Whether it starts the log by itself, as what runs for long does.
    pub(crate) fn runs(&self) -> bool {
        matches!(self.action, Action::Run(_))
    }
}

/// Whom to ask, for commands that only a running Herdsman can do.
#[derive(Clone, Debug, Args)]
struct RemoteArgs {
    /// Address of the running Herdsman [default: from the configuration]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Certificates to trust for https [default: the one in the configuration]
    #[arg(long, value_name = "FILE")]
    cacert: Option<std::path::PathBuf>,
    /// Certificate to show for https [default: `api.client` of the configuration]
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<std::path::PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<std::path::PathBuf>,
    /// File whose first line is the token to show [default: the configuration's that may operate]
    #[arg(long, value_name = "FILE")]
    token_file: Option<std::path::PathBuf>,
}

impl RemoteArgs {
    fn ask(&self) -> AskArgs {
        AskArgs {
            url: self.url.clone(),
            cacert: self.cacert.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            direct: false,
        }
    }
}

/// Does what was asked.
pub(crate) async fn run(args: &MeshArgs, global: &Global) -> Result<Exit, Failed> {
    match &args.action {
        Action::Up(args) => Box::pin(up::run(args, global)).await,
        Action::Status(args) => Box::pin(status::run(args, global)).await,
        Action::Verify(args) => Box::pin(verify::run(args, global)).await,
        Action::Conflicts(args) => Box::pin(conflicts::run(args, global)).await,
        Action::Add(args) => Box::pin(members::add(args, global)).await,
        Action::Remove(args) => Box::pin(members::remove(args, global)).await,
        Action::Down(args) => Box::pin(members::down(args, global)).await,
        Action::Sequences(args) => Box::pin(sequences::run(args, global)).await,
        Action::Ddl(args) => Box::pin(ddl::run(args, global)).await,
        Action::Pause(args) => control::run(args, true, global).await,
        Action::Resume(args) => control::run(args, false, global).await,
        Action::Orphans(args) => Box::pin(verify::orphans(args, global)).await,
        Action::Run(args) => Box::pin(run::run(args, global)).await,
        Action::Loadtest(args) => Box::pin(loadtest::run(args, global)).await,
    }
}
