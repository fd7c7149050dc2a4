//! Running the servers' own tools, and what they and the servers say.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    process::Stdio,
    time::Duration,
};

use crate::{SandboxError, account::Account};

/// Where and as whom tools and servers run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) account: Account,
    /// A folder the account may be in; ours may be closed to it.
    pub(crate) folder: &'a Path,
}

/// A command with a clean environment: `PGDATA`, `PGPORT`, `PGSERVICE` and the like of our user must not reach it.
pub(crate) fn command(program: &Path, surroundings: Surroundings<'_>) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command.env_clear().env("LC_ALL", "C").current_dir(surroundings.folder).stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    surroundings.account.apply(&mut command);
    command
}

/// Runs a tool to its end, kills it at the deadline or when the caller gives up.
///
/// # Errors
/// It cannot be started, fails (with the end of what it said), or takes too long.
pub(crate) async fn run(
    node: &str,
    tool: &'static str,
    mut command: std::process::Command,
    within: Duration,
) -> Result<(), SandboxError> {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    let child = command.spawn().map_err(SandboxError::system(format!("run {tool} for {node}")))?;
    let output = tokio::time::timeout(within, child.wait_with_output())
        .await
        .map_err(|_| SandboxError::Deadline {
            node: node.to_owned(),
            what: format!("the end of {tool}"),
            within,
            detail: String::new(),
        })?
        .map_err(SandboxError::system(format!("wait for {tool} for {node}")))?;
    if output.status.success() {
        return Ok(());
    }
    let mut output_end = tail(&String::from_utf8_lossy(&output.stderr), 4);
    if output_end.is_empty() {
        output_end = output.status.to_string();
    }
    Err(SandboxError::Tool { node: node.to_owned(), tool, output: output_end })
}

/// The last lines of a server's log, for an error.
pub(crate) fn log_end(log: &Path) -> String {
    const READ_BACK: u64 = 4096;
    let Ok(mut file) = fs::File::open(log) else {
        return "(no log)".to_owned();
    };
    let length = file.metadata().map_or(0, |meta| meta.len());
    let mut end = Vec::new();
    let read = file
        .seek(SeekFrom::Start(length.saturating_sub(READ_BACK)))
        .and_then(|_| file.read_to_end(&mut end));
    if read.is_err() || end.is_empty() {
        return "(empty)".to_owned();
    }
    tail(&String::from_utf8_lossy(&end), 5)
}

/// The last lines of a text, on one line. Where in its code a Java program was is of no use to the reader.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let tells = |line: &&str| !line.is_empty() && !line.starts_with("at ");
    let all: Vec<&str> = text.lines().map(str::trim).filter(tells).collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join(" | ")
}
