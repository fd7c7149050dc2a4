//! A command with everything it starts.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// A command and everything it started, as one process group. Killed when dropped.
#[derive(Debug)]
pub struct Group {
    /// The command itself; its streams may be taken.
    pub child: Child,
    group: Option<Pid>,
}

/// How often is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

impl Group {
    /// Starts it.
    ///
    /// # Errors
    /// The system does not start it.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self { child, group })
    }

    /// The command's number, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether the command ends in time; it stays a zombie, so that its number stays its own.
    pub async fn has_ended_within(&self, limit: Duration) -> bool {
        let ended = async {
            while !self.has_ended() {
                sleep(LOOK).await;
            }
        };
        timeout(limit, ended).await.is_ok()
    }

    /// Makes it end, with everything that it started: SIGTERM, and after `grace` SIGKILL. Says how it ended.
    pub async fn terminate(mut self, grace: Duration) -> Option<ExitStatus> {
        // Before it is waited for: until then, no other process can have its number.
        self.signal(Signal::TERM);
        if !self.has_ended_within(grace).await {
            tracing::warn!(pid = self.id(), "the command ignores SIGTERM and is killed");
        }
        self.signal(Signal::KILL);
        self.group = None;
        self.child.wait().await.ok()
    }

    /// How a command ended that has. What it left running goes on.
    pub async fn leave(mut self) -> Option<ExitStatus> {
        self.group = None;
        self.child.wait().await.ok()
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

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever drops it does not wait.
        self.signal(Signal::KILL);
    }
}
