//! The process behind a command line sandbox.
//!
//! `herdsman sandbox up` starts one supervisor per folder. It holds the proxies and does what later commands ask for over
//! a socket in the folder, one JSON line there and one back. Servers do not depend on it: when it dies they run on, and the
//! next command starts another one that takes them over.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    LinkFault, NodeStatus, Rejoined, Sandbox, SandboxError, account, folder, ports::HeldPort,
    sandbox::saved,
};

mod control;

pub use control::call;

/// Its log, in the folder of the sandbox.
pub const LOG_FILE: &str = "supervisor.log";
/// Names and passwords of the roles, in the folder of the sandbox.
pub const CREDENTIALS_FILE: &str = "credentials";
/// A ready configuration of Herdsman, in the folder of the sandbox.
pub const CONFIG_FILE: &str = "herdsman.yml";

/// What `up` was asked for.
#[derive(Clone, Debug, Default)]
pub struct UpOptions {
    /// How many standbys.
    pub standbys: usize,
    /// How many servers of their own instead of a cluster; none for a cluster.
    pub writers: usize,
    /// Major version of each of those; `pg_version` for all if none.
    pub versions: Vec<u32>,
    /// Major version of PostgreSQL; the first found if none.
    pub pg_version: Option<u32>,
    /// Folder of the server binaries; searched for if none.
    pub pg_bin: Option<PathBuf>,
    /// Whether the servers offer TLS.
    pub tls: bool,
}

/// How a supervisor begins.
#[derive(Clone, Debug)]
pub enum Begin {
    /// With a new sandbox.
    New(UpOptions),
    /// By taking over one whose supervisor is gone.
    TakeOver,
}

/// What a supervisor says while it begins. Exactly one [`Event::Ready`] or [`Event::Failed`] comes last.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A step has begun or is done.
    Progress(String),
    /// It takes requests.
    Ready,
    /// It gave up, and nothing is left of what it began.
    Failed(String),
}

/// What a command asks of the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The whole picture.
    Status,
    /// SIGKILL to the node, or to its postmaster alone.
    Kill {
        /// The node.
        node: String,
        /// The postmaster alone.
        postmaster_only: bool,
    },
    /// Fast shutdown.
    Stop {
        /// The node.
        node: String,
    },
    /// SIGSTOP to the node, or to its postmaster alone.
    Freeze {
        /// The node.
        node: String,
        /// The postmaster alone.
        postmaster_only: bool,
    },
    /// SIGCONT.
    Thaw {
        /// The node.
        node: String,
    },
    /// Start as what it was.
    Start {
        /// The node.
        node: String,
    },
    /// Promote a standby.
    Promote {
        /// The node.
        node: String,
    },
    /// Bring back as a standby.
    Rejoin {
        /// The node.
        node: String,
        /// Whom to follow; the primary if none.
        upstream: Option<String>,
        /// By a new copy, even where a rewind would do.
        copy: bool,
    },
    /// Stream from another node.
    Follow {
        /// The node.
        node: String,
        /// Whom to follow.
        upstream: String,
    },
    /// Cut two nodes off from each other, or one from everybody.
    Partition {
        /// The node.
        node: String,
        /// The other; everybody, clients too, if none.
        other: Option<String>,
    },
    /// End all network faults.
    Heal,
}

/// What the supervisor answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done, and what has become of it.
    Done(String),
    /// The whole picture.
    Report(Box<Report>),
    /// Not done, and why.
    Failed(String),
}

/// A sandbox as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its folder.
    pub dir: PathBuf,
    /// Whether every node is a server of its own.
    #[serde(default)]
    pub writers: bool,
    /// Version of PostgreSQL; of writers every one there is.
    pub version: String,
    /// Every node.
    pub nodes: Vec<NodeStatus>,
    /// Every network fault in force.
    pub faults: Vec<LinkFault>,
    /// Names and passwords of the roles.
    pub credentials_file: PathBuf,
    /// A ready configuration of Herdsman.
    pub config_file: PathBuf,
    /// The certificate of the authority, when TLS is on.
    pub ca_file: Option<PathBuf>,
}

/// Whether a supervisor (or a running test) answers for the sandbox in this folder.
#[must_use]
pub fn is_alive(dir: &Path) -> bool {
    folder::owner(dir).is_some()
}

/// Runs a supervisor until it is told to end, and tells how it begins. A SIGTERM while it begins undoes everything; later
/// it leaves the servers running for another supervisor.
///
/// # Errors
/// The sandbox does not come up, cannot be taken over, or the socket cannot be made. Told as [`Event::Failed`], too.
pub async fn supervise(
    dir: &Path,
    begin: Begin,
    tell: impl Fn(&Event) + Send + Sync + 'static,
) -> Result<(), SandboxError> {
    // A process group leader cannot leave its session, and need not: it was started apart already.
    if let Err(error) = rustix::process::setsid() {
        tracing::debug!(%error, "stays in its session");
    }
    let tell = Arc::new(tell);
    let mut terminate =
        signal(SignalKind::terminate()).map_err(SandboxError::system("listen for SIGTERM"))?;
    let begun = tokio::select! {
        begun = set_up(dir, begin, Arc::clone(&tell)) => begun,
        _ = terminate.recv() => Err(SandboxError::Supervisor("stopped while starting".to_owned())),
    };
    let (sandbox, listener) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            tell(&Event::Failed(error.one_line()));
            return Err(error);
        }
    };
    tell(&Event::Ready);
    tokio::select! {
        () = control::serve(listener, Arc::new(sandbox)) => {}
        _ = terminate.recv() => tracing::info!("ends, the servers run on"),
    }
    Ok(())
}

/// Ends the sandbox in a folder, whatever state it is in, and removes the folder.
///
/// # Errors
/// The folder holds no sandbox, or one of a running test; or it cannot be emptied.
pub fn destroy(dir: &Path) -> Result<(), SandboxError> {
    const PATIENCE: Duration = Duration::from_secs(5);
    const POLL: Duration = Duration::from_millis(5);
    if let Some(owner) = folder::owner(dir) {
        if !dir.join(LOG_FILE).exists() {
            return Err(SandboxError::not_now(
                dir.display().to_string(),
                "belongs to a running test, which removes it",
            ));
        }
        owner.signal(Signal::KILL);
        let mut waited = Duration::ZERO;
        while owner.is_alive() && waited < PATIENCE {
            std::thread::sleep(POLL);
            waited += POLL;
        }
    }
    folder::destroy(dir, &saved::orphans(dir))
}

async fn set_up(
    dir: &Path,
    begin: Begin,
    tell: Arc<impl Fn(&Event) + Send + Sync + 'static>,
) -> Result<(Sandbox, control::Listener), SandboxError> {
    let mut sandbox = match begin {
        Begin::New(options) => {
            let mut builder = Sandbox::builder()
                .standbys(options.standbys)
                .writers(options.writers)
                .versions(options.versions)
                .tls(options.tls)
                .dir(dir)
                .on_progress(move |step| tell(&Event::Progress(step.to_owned())));
            if let Some(major) = options.pg_version {
                builder = builder.pg_version(major);
            }
            if let Some(folder) = options.pg_bin {
                builder = builder.pg_bin(folder);
            }
            let sandbox = builder.start().await?;
            write_files(&sandbox)?;
            sandbox
        }
        Begin::TakeOver => {
            if is_alive(dir) {
                return Err(SandboxError::not_now(
                    dir.display().to_string(),
                    "has a supervisor already",
                ));
            }
            Sandbox::resume(dir).await?
        }
    };
    let listener = control::Listener::bind(sandbox.dir())?;
    sandbox.save()?;
    // From here on it must survive us.
    sandbox.release();
    Ok((sandbox, listener))
}

fn write_files(sandbox: &Sandbox) -> Result<(), SandboxError> {
    let roles: String = sandbox
        .credentials()
        .iter()
        .map(|(role, password)| format!("{role} {password}\n"))
        .collect();
    account::write_private(&sandbox.dir().join(CREDENTIALS_FILE), roles.as_bytes())?;
    let api = HeldPort::take().map_err(SandboxError::system("get a free port"))?;
    let gateway = HeldPort::take().map_err(SandboxError::system("get a free port"))?;
    // It is us who are the supervisor.
    let program = std::env::current_exe().map_err(SandboxError::system("find this program"))?;
    let mut config = sandbox.config_yaml(api.port())?;
    if !sandbox.is_of_writers() {
        config += &sandbox.gateway_yaml(gateway.port(), &program)?;
    }
    account::write_private(&sandbox.dir().join(CONFIG_FILE), config.as_bytes())
}

/// Does what was asked.
async fn obey(sandbox: &Sandbox, request: Request) -> Result<Answer, SandboxError> {
    use crate::RejoinBy;
    let said = match request {
        Request::Status => return Ok(Answer::Report(Box::new(report(sandbox).await))),
        Request::Kill { node, postmaster_only: false } => {
            sandbox.kill(&node).await?;
            format!("{node}: killed")
        }
        Request::Kill { node, postmaster_only: true } => {
            sandbox.kill_postmaster(&node).await?;
            format!("{node}: postmaster killed")
        }
        Request::Stop { node } => {
            sandbox.stop(&node).await?;
            format!("{node}: stopped")
        }
        Request::Freeze { node, postmaster_only } => {
            if postmaster_only {
                sandbox.freeze_postmaster(&node).await?;
                format!("{node}: postmaster frozen")
            } else {
                sandbox.freeze(&node).await?;
                format!("{node}: frozen")
            }
        }
        Request::Thaw { node } => {
            sandbox.thaw(&node).await?;
            format!("{node}: thawed")
        }
        Request::Start { node } => {
            sandbox.start(&node).await?;
            format!("{node}: started")
        }
        Request::Promote { node } => {
            sandbox.promote(&node).await?;
            format!("{node}: promoted")
        }
        Request::Follow { node, upstream } => {
            sandbox.follow(&node, &upstream).await?;
            format!("{node}: follows {upstream}")
        }
        Request::Rejoin { node, upstream, copy } => {
            let upstream = match upstream {
                Some(upstream) => upstream,
                None => sandbox.primary_other_than(&node).await?,
            };
            let by = if copy { RejoinBy::Copy } else { RejoinBy::RewindElseCopy };
            match sandbox.rejoin_from(&node, &upstream, by).await? {
                Rejoined::Rewound => format!("{node}: rewound, follows {upstream}"),
                Rejoined::Copied => format!("{node}: copied anew, follows {upstream}"),
            }
        }
        Request::Partition { node, other: Some(other) } => {
            sandbox.partition(&node, &other)?;
            format!("{node} and {other}: cut off from each other")
        }
        Request::Partition { node, other: None } => {
            sandbox.cut_off(&node)?;
            format!("{node}: cut off from everybody")
        }
        Request::Heal => {
            sandbox.heal();
            "all network faults ended".to_owned()
        }
    };
    sandbox.save()?;
    Ok(Answer::Done(said))
}

async fn report(sandbox: &Sandbox) -> Report {
    let dir = sandbox.dir().to_path_buf();
    let nodes = sandbox.status().await;
    let versions: BTreeSet<&str> = nodes.iter().map(|node| node.version.as_str()).collect();
    Report {
        writers: sandbox.is_of_writers(),
        version: versions.into_iter().collect::<Vec<_>>().join(", "),
        nodes,
        faults: sandbox.faults(),
        credentials_file: dir.join(CREDENTIALS_FILE),
        config_file: dir.join(CONFIG_FILE),
        ca_file: sandbox.ca_file(),
        dir,
    }
}
