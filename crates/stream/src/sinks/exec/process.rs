//! The running command.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{sleep, timeout};

use super::ExecConfig;
use super::answer::Tally;
use super::lines::Lines;

/// A command and everything it started, as one process group. Killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    group: Option<Pid>,
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
/// How often is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

impl Process {
    /// Starts it.
    pub(super) fn start(sink: &str, config: &ExecConfig) -> io::Result<Self> {
        let (program, arguments) =
            config.command.split_first().ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(config.env.iter().map(|(name, value)| (name, value.expose())));
        if let Some(directory) = &config.directory {
            command.current_dir(directory);
        }
        let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let piped = || io::Error::other("it has no standard streams");
        let output = Lines::new(child.stdout.take().ok_or_else(piped)?, ANSWER);
        let errors = Lines::new(child.stderr.take().ok_or_else(piped)?, ANSWER);
        tokio::spawn(log(sink.to_owned(), errors));
        tracing::info!(sink, program, pid = child.id(), "command started");
        Ok(Self { input: child.stdin.take(), child, group, output })
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
        if !self.has_ended_within(grace).await {
            tracing::warn!(pid = self.child.id(), "the command goes on after the end of its input");
        }
        self.terminate(grace).await;
    }

    /// Makes it end, with everything that it started; says how it ended.
    pub(super) async fn terminate(mut self, grace: Duration) -> Option<ExitStatus> {
        drop(self.input.take());
        // Before it is waited for: until then, no other process can have its number.
        self.signal(Signal::TERM);
        if !self.has_ended_within(grace).await {
            tracing::warn!(pid = self.child.id(), "the command ignores SIGTERM and is killed");
        }
        self.signal(Signal::KILL);
        self.group = None;
        self.child.wait().await.ok()
    }

    /// Whether it ends in time; it stays a zombie.
    async fn has_ended_within(&self, limit: Duration) -> bool {
        let ended = async {
            while !self.has_ended() {
                sleep(LOOK).await;
            }
        };
        timeout(limit, ended).await.is_ok()
    }

    fn has_ended(&self) -> bool {
        let Some(group) = self.group else { return true };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // An error says that there is no such child: it has ended as well.
        !matches!(waitid(WaitId::Pid(group), options), Ok(None))
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group
            && let Err(error) = kill_process_group(group, signal)
        {
            tracing::debug!(?group, %error, "signal not delivered");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Whoever drops it does not wait.
        self.signal(Signal::KILL);
    }
}

async fn log(sink: String, mut lines: Lines<tokio::process::ChildStderr>) {
    while let Ok(Some(line)) = lines.next().await {
        let text = String::from_utf8_lossy(&line.bytes);
        tracing::info!(sink, "command: {}", text.trim_end());
    }
}
