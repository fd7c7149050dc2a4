//! Starting the supervisor, and being it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use herdsman_sandbox::SandboxError;
use herdsman_sandbox::supervisor::{self, Begin, Event, UpOptions};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::UpArgs;
use crate::output;

/// The longest start is bounded by the deadlines of its steps; this one is for a supervisor that has lost its mind.
const START_LIMIT: Duration = Duration::from_secs(600);

/// `herdsman sandbox supervise`, which nobody types.
#[derive(Debug, Args)]
pub(super) struct SuperviseArgs {
    #[command(flatten)]
    up: UpArgs,
    /// Take over a sandbox whose supervisor is gone
    #[arg(long)]
    take_over: bool,
}

/// Starts a new sandbox and tells its progress. An interrupt undoes everything.
pub(super) async fn start(dir: &Path, args: &UpArgs) -> Result<(), SandboxError> {
    if herdsman_sandbox::is_sandbox(dir) {
        let what = if supervisor::is_alive(dir) {
            "a sandbox is up"
        } else {
            "there are remains of a sandbox"
        };
        return Err(SandboxError::Supervisor(format!(
            "{what} in {}; end it with `{}` first",
            dir.display(),
            spelled("destroy", dir)
        )));
    }
    let existed = dir.exists();
    fs::create_dir_all(dir).map_err(|source| file_error("create", dir, source))?;
    if fs::read_dir(dir).map_err(|source| file_error("read", dir, source))?.next().is_some() {
        return Err(SandboxError::Supervisor(format!(
            "{} is not empty; choose another folder with --dir",
            dir.display()
        )));
    }
    let mut arguments = match (args.writers, args.versions.as_slice()) {
        (None, []) => vec!["--standbys".to_owned(), args.standbys.to_string()],
        (Some(writers), []) => vec!["--writers".to_owned(), writers.to_string()],
        (writers, versions) => {
            let listed: Vec<String> = versions.iter().map(u32::to_string).collect();
            let count = writers.unwrap_or(versions.len()).to_string();
            vec!["--writers".to_owned(), count, "--versions".to_owned(), listed.join(",")]
        }
    };
    if let Some(major) = args.pg_version {
        arguments.extend(["--pg-version".to_owned(), major.to_string()]);
    }
    if let Some(folder) = &args.pg_bin {
        arguments.extend(["--pg-bin".to_owned(), absolute(folder).to_string_lossy().into_owned()]);
    }
    if args.tls {
        arguments.push("--tls".to_owned());
    }
    let begun = begin(dir, &arguments).await;
    if begun.is_err() {
        clear(dir, existed);
    }
    begun
}

/// Sees to it that somebody answers for the sandbox.
pub(super) async fn ensure(dir: &Path) -> Result<(), SandboxError> {
    if !herdsman_sandbox::is_sandbox(dir) {
        return Err(SandboxError::Supervisor(format!(
            "there is no sandbox in {}; start one with `{}`",
            dir.display(),
            spelled("up", dir)
        )));
    }
    if supervisor::is_alive(dir) {
        return Ok(());
    }
    output::note(
        "the supervisor was gone; starting it again, without the network faults that were set",
    );
    begin(dir, &["--take-over".to_owned()]).await
}

/// Is the supervisor.
pub(super) async fn supervise(dir: &Path, args: SuperviseArgs) -> Result<(), SandboxError> {
    // Its standard error is the log file. Somebody else may have set up logging already, which is as well.
    let logging = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).try_init();
    if let Err(error) = logging {
        tracing::debug!(%error, "logs as set up already");
    }
    let UpArgs { standbys, writers, versions, pg_version, pg_bin, tls } = args.up;
    let apart = writers.is_some() || !versions.is_empty();
    let begin = if args.take_over {
        Begin::TakeOver
    } else {
        Begin::New(UpOptions {
            standbys: if apart { 0 } else { standbys },
            writers: writers.unwrap_or(versions.len()),
            versions,
            pg_version,
            pg_bin,
            tls,
        })
    };
    Box::pin(supervisor::supervise(dir, begin, tell)).await
}

/// One JSON line per event, for whoever started us. When nobody reads any more, nobody needs to know.
fn tell(event: &Event) {
    if let Ok(text) = serde_json::to_string(event) {
        let mut stdout = io::stdout().lock();
        let told = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
        if let Err(error) = told {
            tracing::debug!(%error, "nobody listens");
        }
    }
}

/// Spawns a supervisor and waits until it is ready.
async fn begin(dir: &Path, arguments: &[String]) -> Result<(), SandboxError> {
    let log = dir.join(supervisor::LOG_FILE);
    let log_file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log)
        .map_err(|source| file_error("open", &log, source))?;
    let program = std::env::current_exe()
        .map_err(|source| SandboxError::System { what: "find this program".to_owned(), source })?;
    let mut child = Command::new(program)
        .args(["sandbox", "supervise", "--dir"])
        .arg(absolute(dir))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log_file)
        .spawn()
        .map_err(|source| SandboxError::System {
            what: "start the supervisor".to_owned(),
            source,
        })?;
    tokio::select! {
        begun = tokio::time::timeout(START_LIMIT, listen(&mut child, &log)) => begun.unwrap_or_else(|_| {
            Err(SandboxError::Supervisor(format!("the supervisor is not ready after {} s", START_LIMIT.as_secs())))
        }),
        _ = tokio::signal::ctrl_c() => {
            // Killed outright: what it has begun is found and ended by whoever clears up.
            let killed = child.kill().await;
            killed.map_err(|source| SandboxError::System { what: "end the supervisor".to_owned(), source })?;
            Err(SandboxError::Supervisor("interrupted".to_owned()))
        }
    }
}

async fn listen(child: &mut Child, log: &Path) -> Result<(), SandboxError> {
    let Some(stdout) = child.stdout.take() else {
        return Err(SandboxError::Supervisor("the supervisor cannot be heard".to_owned()));
    };
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Event::Progress(step)) => output::note(&step),
            Ok(Event::Ready) => return Ok(()),
            Ok(Event::Failed(reason)) => {
                // It clears up before it ends.
                drop(child.wait().await);
                return Err(SandboxError::Supervisor(reason));
            }
            Err(error) => tracing::debug!(%error, "the supervisor said something else"),
        }
    }
    let last =
        fs::read_to_string(log).ok().and_then(|text| Some(text.trim().lines().last()?.to_owned()));
    Err(SandboxError::Supervisor(format!(
        "the supervisor ended: {}",
        last.unwrap_or_else(|| "it left no word".to_owned())
    )))
}

/// After a failed or interrupted start.
fn clear(dir: &Path, existed: bool) {
    if herdsman_sandbox::is_sandbox(dir) {
        if let Err(error) = supervisor::destroy(dir) {
            output::note(&error.one_line());
        }
        return;
    }
    let log_gone = fs::remove_file(dir.join(supervisor::LOG_FILE));
    let folder_gone = if existed { Ok(()) } else { fs::remove_dir(dir) };
    for error in [log_gone, folder_gone].into_iter().filter_map(Result::err) {
        if error.kind() != io::ErrorKind::NotFound {
            output::note(&format!("cannot clear {}: {error}", dir.display()));
        }
    }
}

/// A command as the reader would type it for this folder.
fn spelled(command: &str, dir: &Path) -> String {
    if dir == herdsman_sandbox::default_folder() {
        return format!("herdsman sandbox {command}");
    }
    format!("herdsman sandbox {command} --dir {}", dir.display())
}

/// The supervisor need not share our working folder.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

fn file_error(what: &'static str, path: &Path, source: io::Error) -> SandboxError {
    SandboxError::File { what, path: path.to_path_buf(), source }
}
