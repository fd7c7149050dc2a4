//! `herdsman sandbox`: a real cluster on this machine to try things on.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use herdsman_sandbox::supervisor::{self, Answer, Report, Request};
use herdsman_sandbox::{Role, SandboxError};

use crate::exit::Exit;
use crate::output;

mod background;
mod show;

/// `herdsman sandbox`.
#[derive(Debug, Args)]
pub(crate) struct SandboxArgs {
    /// Folder of the sandbox [default: herdsman-sandbox in $TMPDIR, else in /tmp]
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,

    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start a primary with standbys, or several writers, and print where they are
    #[command(after_help = UP_EXAMPLES)]
    Up(UpArgs),
    /// Show every node, and the network faults in force
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Kill a node with SIGKILL
    #[command(after_help = KILL_EXAMPLES)]
    Kill {
        /// The node
        node: String,
        /// The postmaster alone: a busy session may still commit
        #[arg(long)]
        postmaster_only: bool,
    },
    /// Shut a node down in an orderly way
    #[command(after_help = STOP_EXAMPLES)]
    Stop {
        /// The node
        node: String,
    },
    /// Freeze a node with SIGSTOP: it accepts connections and answers nothing
    #[command(after_help = FREEZE_EXAMPLES)]
    Freeze {
        /// The node
        node: String,
        /// The postmaster alone: open sessions work, new ones hang
        #[arg(long)]
        postmaster_only: bool,
    },
    /// Undo a freeze
    #[command(after_help = THAW_EXAMPLES)]
    Thaw {
        /// The node
        node: String,
    },
    /// Start a node that is down, as what it was: an old primary comes back as a primary
    #[command(after_help = START_EXAMPLES)]
    Start {
        /// The node
        node: String,
    },
    /// Promote a standby; the old primary is not told
    #[command(after_help = PROMOTE_EXAMPLES)]
    Promote {
        /// The node
        node: String,
    },
    /// Bring a node back as a standby, by pg_rewind or a new copy
    #[command(after_help = REJOIN_EXAMPLES)]
    Rejoin {
        /// The node
        node: String,
        /// Whom to follow [default: the primary]
        #[arg(long, value_name = "NODE")]
        from: Option<String>,
        /// Copy anew, even where pg_rewind would do
        #[arg(long)]
        copy: bool,
    },
    /// Have a standby stream from another node
    #[command(after_help = FOLLOW_EXAMPLES)]
    Follow {
        /// The standby
        node: String,
        /// Whom to follow
        upstream: String,
        /// Where it is down or a primary, rejoin it instead
        #[arg(long)]
        or_rejoin: bool,
    },
    /// Cut two nodes off from each other (clients reach both), or one from everybody
    #[command(after_help = PARTITION_EXAMPLES)]
    Partition {
        /// The node
        node: String,
        /// The other node [default: everybody, clients too]
        other: Option<String>,
    },
    /// End all network faults
    #[command(after_help = HEAL_EXAMPLES)]
    Heal,
    /// End every server and remove the folder, whatever state it is in
    #[command(after_help = DESTROY_EXAMPLES)]
    Destroy,
    /// What `up` leaves running
    #[command(hide = true)]
    Supervise(background::SuperviseArgs),
}

/// `herdsman sandbox up`.
#[derive(Clone, Debug, Args)]
struct UpArgs {
    /// How many standbys
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    standbys: usize,
    /// So many servers of their own instead: what a mesh is made of
    #[arg(long, value_name = "COUNT", conflicts_with = "standbys")]
    writers: Option<usize>,
    /// Major version of each writer, such as 15,18,18
    #[arg(
        long,
        value_name = "MAJOR,…",
        value_delimiter = ',',
        conflicts_with_all = ["standbys", "pg_version", "pg_bin"]
    )]
    versions: Vec<u32>,
    /// Major version of PostgreSQL, such as 15 [default: the first found]
    #[arg(long, value_name = "MAJOR")]
    pg_version: Option<u32>,
    /// Folder of the server binaries [default: searched for, in $HERDSMAN_PG_BIN first]
    #[arg(long, value_name = "DIR")]
    pg_bin: Option<PathBuf>,
    /// Offer TLS, with certificates of the sandbox's own authority
    #[arg(long)]
    tls: bool,
}

/// Does what was asked and says how it went.
pub(crate) async fn run(args: SandboxArgs) -> ExitCode {
    let dir = args.dir.unwrap_or_else(herdsman_sandbox::default_folder);
    match act(&dir, args.action).await {
        Ok(()) => Exit::Success.into(),
        Err(error) => {
            output::note(&error.one_line());
            Exit::Failure.into()
        }
    }
}

async fn act(dir: &Path, action: Action) -> Result<(), SandboxError> {
    let request = match action {
        Action::Up(args) => {
            background::start(dir, &args).await?;
            let report = report(dir).await?;
            output::line(&show::nodes(&report));
            output::line(&show::files(&report));
            return Ok(());
        }
        Action::Status { json } => {
            let report = report(dir).await?;
            output::line(&if json { show::json(&report) } else { show::nodes(&report) });
            return Ok(());
        }
        Action::Destroy => {
            // Blocking: it waits for processes to end and removes files, and there is nothing else to do meanwhile.
            supervisor::destroy(dir)?;
            output::note(&format!("{}: gone", dir.display()));
            return Ok(());
        }
        Action::Supervise(args) => return background::supervise(dir, args).await,
        Action::Kill { node, postmaster_only } => Request::Kill { node, postmaster_only },
        Action::Stop { node } => Request::Stop { node },
        Action::Freeze { node, postmaster_only } => Request::Freeze { node, postmaster_only },
        Action::Thaw { node } => Request::Thaw { node },
        Action::Start { node } => Request::Start { node },
        Action::Promote { node } => Request::Promote { node },
        Action::Rejoin { node, from, copy } => Request::Rejoin { node, upstream: from, copy },
        Action::Follow { node, upstream, or_rejoin } => {
            let follow = Request::Follow { node: node.clone(), upstream: upstream.clone() };
            if !or_rejoin || is_running_standby(dir, &node).await? {
                follow
            } else {
                Request::Rejoin { node, upstream: Some(upstream), copy: false }
            }
        }
        Action::Partition { node, other } => Request::Partition { node, other },
        Action::Heal => Request::Heal,
    };
    if let Answer::Done(said) = ask(dir, &request).await? {
        output::note(&said);
    }
    Ok(())
}

/// Whether it is enough to tell the node whom to follow.
async fn is_running_standby(dir: &Path, node: &str) -> Result<bool, SandboxError> {
    let report = report(dir).await?;
    let node = report.nodes.iter().find(|status| status.name == node);
    Ok(node.is_some_and(|node| node.role == Some(Role::Standby)))
}

async fn report(dir: &Path) -> Result<Report, SandboxError> {
    match ask(dir, &Request::Status).await? {
        Answer::Report(report) => Ok(*report),
        _ => Err(SandboxError::Supervisor(
            "the supervisor is of another version of this program".to_owned(),
        )),
    }
}

/// Asks the supervisor, which is started again if it is gone.
async fn ask(dir: &Path, request: &Request) -> Result<Answer, SandboxError> {
    background::ensure(dir).await?;
    supervisor::call(dir, request).await
}

const UP_EXAMPLES: &str = "\
Examples:
  herdsman sandbox up
  herdsman sandbox up --standbys 1 --pg-version 18 --tls
  herdsman sandbox up --writers 3              three servers for `herdsman mesh`
  herdsman sandbox up --writers 3 --versions 15,18,18
  herdsman sandbox up --dir /tmp/other --pg-bin /usr/lib/postgresql/15/bin

Everything is in the folder: herdsman.yml (ready to run), credentials, and each node's log.";

const STATUS_EXAMPLES: &str = "\
Examples:
  herdsman sandbox status
  herdsman sandbox status --json | jq -r '.nodes[] | select(.role == \"primary\") | .name'";

const KILL_EXAMPLES: &str = "\
Examples:
  herdsman sandbox kill n1
  herdsman sandbox kill n1 --postmaster-only";

const STOP_EXAMPLES: &str = "\
Examples:
  herdsman sandbox stop n2";

const FREEZE_EXAMPLES: &str = "\
Examples:
  herdsman sandbox freeze n1
  herdsman sandbox freeze n1 --postmaster-only";

const THAW_EXAMPLES: &str = "\
Examples:
  herdsman sandbox thaw n1";

const START_EXAMPLES: &str = "\
Examples:
  herdsman sandbox kill n1 && herdsman sandbox promote n2
  herdsman sandbox start n1                    now there are two primaries";

const PROMOTE_EXAMPLES: &str = "\
Examples:
  herdsman sandbox promote n2
  herdsman sandbox follow n3 n2                take the other standby along";

const REJOIN_EXAMPLES: &str = "\
Examples:
  herdsman sandbox rejoin n1
  herdsman sandbox rejoin n1 --from n2 --copy";

const FOLLOW_EXAMPLES: &str = "\
Examples:
  herdsman sandbox follow n3 n2
  herdsman sandbox follow n1 n2 --or-rejoin    whatever n1 is or was";

const PARTITION_EXAMPLES: &str = "\
Examples:
  herdsman sandbox partition n1 n2             clients still reach both
  herdsman sandbox partition n1                a blackhole around n1
  herdsman sandbox heal";

const HEAL_EXAMPLES: &str = "\
Examples:
  herdsman sandbox heal";

const DESTROY_EXAMPLES: &str = "\
Examples:
  herdsman sandbox destroy
  herdsman sandbox destroy --dir /tmp/other";
