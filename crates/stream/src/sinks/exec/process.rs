//! The running command.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use herdsman_node::environment;
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::answer::Tally;
use super::lines::Lines;
use super::{ExecConfig, Group};

/// A command that is fed lines. Killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    group: Group,
    input: Option<ChildStdin>,
    output: Lines<ChildStdout>,
}

/// Why a command is of no use any more.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It has ended, or closed its output.
    Ended,
    /// It did not answer in time.
    Late,
    /// It said what is no answer.
    Nonsense(String),
    /// Reading its answers failed.
    Io(io::Error),
}

/// Longest line of an answer, and longest piece of one in the log.
const ANSWER: usize = 4096;

impl Process {
    /// Starts it.
    pub(super) fn start(sink: &str, config: &ExecConfig) -> io::Result<Self> {
        let (program, arguments) =
            config.command.split_first().ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for secret in environment::withheld() {
            command.env_remove(secret);
        }
        command.envs(config.env.iter().map(|(name, value)| (name, value.expose())));
        if let Some(directory) = &config.directory {
            command.current_dir(directory);
        }
        let mut group = Group::start(&mut command)?;
        let piped = || io::Error::other("it has no standard streams");
        let output = Lines::new(group.child.stdout.take().ok_or_else(piped)?, ANSWER);
        let errors = Lines::new(group.child.stderr.take().ok_or_else(piped)?, ANSWER);
        tokio::spawn(log(sink.to_owned(), errors));
        tracing::info!(sink, program, pid = group.id(), "command started");
        Ok(Self { input: group.child.stdin.take(), group, output })
    }

    /// Feeds lines and takes answers until there is one for each of them.
    pub(super) async fn feed(
        &mut self,
        bytes: &[u8],
        tally: &mut Tally,
        limit: Duration,
    ) -> Result<(), Trouble> {
        let Self { input, output, .. } = self;
        let input = input.as_mut().ok_or(Trouble::Ended)?;
        let write = async {
            input.write_all(bytes).await?;
            input.flush().await
        };
        let read = async {
            while !tally.is_complete() {
                let line = output.next().await.map_err(Trouble::Io)?.ok_or(Trouble::Ended)?;
                if !line.whole && line.bytes.len() >= ANSWER {
                    let problem = format!("it said a line of more than {ANSWER} bytes");
                    return Err(Trouble::Nonsense(problem));
                }
                // A line without an end is half of something: `ok 1` may have become `ok 12`.
                if !line.whole {
                    return Err(Trouble::Ended);
                }
                tally.take(&line.bytes).map_err(Trouble::Nonsense)?;
            }
            Ok(())
        };
        let both = async {
            tokio::pin!(write, read);
            let mut written = None;
            loop {
                tokio::select! {
                    // It may have died with answers still to be read: only reading tells its end.
                    result = &mut write, if written.is_none() => written = Some(result),
                    result = &mut read => {
                        result?;
                        let result = match written { Some(result) => result, None => write.await };
                        return result.map_err(|_| Trouble::Ended);
                    }
                }
            }
        };
        timeout(limit, both).await.unwrap_or(Err(Trouble::Late))
    }

    /// Lets it end by itself, then makes it.
    pub(super) async fn end(mut self, grace: Duration) {
        drop(self.input.take());
        if !self.group.has_ended_within(grace).await {
            tracing::warn!(pid = self.group.id(), "the command goes on after the end of its input");
        }
        self.terminate(grace).await;
    }

    /// Makes it end, with everything that it started; says how it ended.
    pub(super) async fn terminate(mut self, grace: Duration) -> Option<ExitStatus> {
        drop(self.input.take());
        self.group.terminate(grace).await
    }
}

async fn log(sink: String, mut lines: Lines<tokio::process::ChildStderr>) {
    while let Ok(Some(line)) = lines.next().await {
        let text = String::from_utf8_lossy(&line.bytes);
        tracing::info!(sink, "command: {}", text.trim_end());
    }
}
