//! One server: its folder and its processes.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Child,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    SandboxError,
    account::Account,
    clock::Clock,
    ports::HeldPort,
    postgres::PgBinaries,
    process::{self, ProcessId},
    tool::{self, Surroundings},
};

mod memory;

/// How often a state is looked at that the system does not announce.
const POLL: Duration = Duration::from_millis(3);
/// How long killed processes may take to leave the process table before something is wrong with the machine.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// What a node's processes are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessState {
    /// The postmaster and its children run.
    Running,
    /// All of them are stopped by SIGSTOP.
    Frozen,
    /// Only the postmaster is: old connections work, new ones hang.
    PostmasterFrozen,
    /// There is no postmaster.
    Stopped,
}

/// One server of a sandbox.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) port: HeldPort,
    pub(crate) account: Account,
    pub(crate) binaries: Arc<PgBinaries>,
    /// What it is started with where its clock is not the machine's.
    pub(crate) clock: Option<Clock>,
    processes: Mutex<Processes>,
}

#[derive(Debug, Default)]
struct Processes {
    /// Ours to reap; none when another process of ours started the server.
    child: Option<Child>,
    postmaster: Option<ProcessId>,
    /// Children a killed postmaster left behind: they may run on for a while, or be frozen.
    orphans: Vec<ProcessId>,
}

impl Server {
    pub(crate) fn new(
        name: String,
        dir: &Path,
        port: HeldPort,
        account: Account,
        binaries: Arc<PgBinaries>,
    ) -> Self {
        let folder = dir.join(&name);
        Self { name, folder, port, account, binaries, clock: None, processes: Mutex::default() }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) fn surroundings(&self) -> Surroundings<'_> {
        Surroundings { account: self.account, folder: &self.folder }
    }

    /// Finds the postmaster another process of ours has started, if it still runs.
    pub(crate) fn adopt(&self) {
        let data = self.data();
        let postmaster = fs::read_to_string(data.join("postmaster.pid"))
            .ok()
            .and_then(|text| text.lines().next()?.trim().parse().ok())
            .filter(|pid| process::names_folder(*pid, &data))
            .and_then(ProcessId::running);
        self.processes().postmaster = postmaster;
    }

    /// The postmaster, if it is alive (frozen counts).
    pub(crate) fn postmaster(&self) -> Option<ProcessId> {
        let mut processes = self.processes();
        reap(&mut processes);
        processes.postmaster
    }

    /// Reaps a postmaster that has ended, so that no zombie stays behind.
    pub(crate) fn take_note(&self) {
        reap(&mut self.processes());
    }

    /// Children of a killed postmaster that still live.
    pub(crate) fn orphans(&self) -> Vec<ProcessId> {
        let mut processes = self.processes();
        reap(&mut processes);
        processes.orphans.clone()
    }

    /// Remembers such children from an earlier process of ours.
    pub(crate) fn remember_orphans(&self, orphans: &[ProcessId]) {
        self.processes().orphans.extend(orphans);
    }

    pub(crate) fn state(&self) -> ProcessState {
        let Some(postmaster) = self.postmaster() else { return ProcessState::Stopped };
        if !postmaster.look().is_some_and(|process| process.is_frozen()) {
            return ProcessState::Running;
        }
        let all_frozen = process::children_of(postmaster)
            .iter()
            .all(|child| child.look().is_none_or(|process| process.is_frozen()));
        if all_frozen { ProcessState::Frozen } else { ProcessState::PostmasterFrozen }
    }

    /// Starts the postmaster. What an earlier one left behind is killed first: PostgreSQL would refuse to start beside it.
    ///
    /// # Errors
    /// It runs already, or cannot be spawned.
    pub(crate) async fn spawn(&self) -> Result<(), SandboxError> {
        if self.postmaster().is_some() {
            return Err(SandboxError::not_now(&self.name, "is already running"));
        }
        self.kill().await?;
        // Whoever the lock names is dead, but may be a zombie until somebody reaps it, and PostgreSQL takes a zombie for
        // a running server.
        let lock = self.data().join("postmaster.pid");
        match fs::remove_file(&lock) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(SandboxError::file("remove", &lock)(error));
            }
            _ => {}
        }
        let log_file = self.folder.join("log");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_file)
            .map_err(SandboxError::file("open", &log_file))?;
        self.account.give(&log_file)?;
        let also_log = log.try_clone().map_err(SandboxError::file("open", &log_file))?;
        let data = self.data();
        let mut command = tool::command(&self.binaries.postgres, self.surroundings());
        command
            .arg("-D")
            .arg(&data)
            .arg("-c")
            .arg(format!("config_file={}", self.folder.join("server.conf").display()))
            .stdout(log)
            .stderr(also_log)
            // A Ctrl-C on our terminal is for us.
            .process_group(0);
        if let Some(clock) = &self.clock {
            clock.apply(&mut command, &self.folder);
        }
        let child = command
            .spawn()
            .map_err(SandboxError::system(format!("start the server of {}", self.name)))?;
        let postmaster = i32::try_from(child.id()).ok().and_then(ProcessId::running);
        let mut processes = self.processes();
        processes.child = Some(child);
        processes.postmaster = postmaster;
        Ok(())
    }

    /// Kills every process of the server with SIGKILL, frozen ones too, and waits until they are gone.
    pub(crate) async fn kill(&self) -> Result<(), SandboxError> {
        let victims = self.kill_all();
        self.await_gone(&victims, KILL_DEADLINE, "the end of the killed processes").await
    }

    /// Kills the postmaster alone. Idle children notice and end; busy and frozen ones stay a while.
    pub(crate) async fn kill_postmaster(&self) -> Result<(), SandboxError> {
        let postmaster = self.alive("kill")?;
        // Stopped first, it cannot start another child while they are counted.
        postmaster.signal(Signal::STOP);
        let children = process::children_of(postmaster);
        self.processes().orphans.extend(children);
        postmaster.signal(Signal::KILL);
        self.await_gone(&[postmaster], KILL_DEADLINE, "the end of the killed postmaster").await
    }

    /// Fast shutdown, as an operator does it.
    pub(crate) async fn stop(&self, within: Duration) -> Result<(), SandboxError> {
        let postmaster = self.alive("stop")?;
        if self.state() != ProcessState::Running {
            return Err(SandboxError::not_now(
                &self.name,
                "is frozen and cannot shut down; thaw it first, or kill it",
            ));
        }
        postmaster.signal(Signal::INT);
        self.await_gone(&[postmaster], within, "the shutdown").await
    }

    /// Stops the postmaster with SIGSTOP, and with `whole` all its children.
    pub(crate) fn freeze(&self, whole: bool) -> Result<(), SandboxError> {
        let postmaster = self.alive("freeze")?;
        postmaster.signal(Signal::STOP);
        if whole {
            for child in process::children_of(postmaster) {
                child.signal(Signal::STOP);
            }
        }
        Ok(())
    }

    /// Undoes [`Server::freeze`], children first, so that the postmaster finds them at work. Children of a killed
    /// postmaster are thawed as well.
    pub(crate) fn thaw(&self) {
        let postmaster = self.postmaster();
        let orphans = self.processes().orphans.clone();
        for process in postmaster
            .map(process::children_of)
            .into_iter()
            .flatten()
            .chain(orphans)
            .chain(postmaster)
        {
            process.signal(Signal::CONT);
        }
    }

    /// Has the server read its configuration again.
    pub(crate) fn reload(&self) -> Result<(), SandboxError> {
        self.alive("reload")?.signal(Signal::HUP);
        Ok(())
    }

    /// Deletes the cluster of a server that is down.
    pub(crate) fn wipe(&self) -> Result<(), SandboxError> {
        let data = self.data();
        memory::release(&data);
        match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(SandboxError::file("remove", data)(error))
            }
            _ => Ok(()),
        }
    }

    /// The last lines of the server's log, for an error.
    pub(crate) fn log_end(&self) -> String {
        tool::log_end(&self.folder.join("log"))
    }

    fn alive(&self, verb: &str) -> Result<ProcessId, SandboxError> {
        self.postmaster().ok_or_else(|| {
            SandboxError::not_now(&self.name, format!("is not running, there is nothing to {verb}"))
        })
    }

    fn kill_all(&self) -> Vec<ProcessId> {
        let postmaster = self.postmaster();
        if let Some(postmaster) = postmaster {
            // Stopped first, it can neither start nor tell its children anything while they are found.
            postmaster.signal(Signal::STOP);
        }
        let mut victims: Vec<ProcessId> = postmaster.into_iter().collect();
        victims.extend(postmaster.map(process::children_of).into_iter().flatten());
        victims.append(&mut self.processes().orphans);
        for victim in &victims {
            victim.signal(Signal::KILL);
        }
        let left_over = process::working_on(&self.data());
        for victim in &left_over {
            victim.signal(Signal::KILL);
        }
        victims.extend(left_over);
        victims
    }

    async fn await_gone(
        &self,
        victims: &[ProcessId],
        within: Duration,
        what: &str,
    ) -> Result<(), SandboxError> {
        let deadline = Instant::now() + within;
        while self.postmaster().is_some_and(|postmaster| victims.contains(&postmaster))
            || victims.iter().any(|victim| victim.is_alive())
        {
            if Instant::now() > deadline {
                return Err(SandboxError::Deadline {
                    node: self.name.clone(),
                    what: what.to_owned(),
                    within,
                    detail: String::new(),
                });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends all processes of several data folders at once, frozen ones and strays of earlier postmasters included, and gives
/// back their shared memory. For the end of a sandbox, also one whose owner has crashed; it does not depend on tokio.
pub(crate) fn end_all(folders: &[PathBuf], known: &[ProcessId]) {
    let mut victims: Vec<ProcessId> = known.to_vec();
    victims.extend(folders.iter().flat_map(|data| process::working_on(data)));
    for victim in &victims {
        victim.signal(Signal::KILL);
    }
    // A postmaster may have started a child between the look and the kill.
    victims.extend(folders.iter().flat_map(|data| process::working_on(data)));
    let rounds = KILL_DEADLINE.as_millis() / POLL.as_millis();
    for _ in 0..rounds {
        victims.retain(|victim| victim.is_alive());
        if victims.is_empty() {
            break;
        }
        for victim in &victims {
            victim.signal(Signal::KILL);
        }
        std::thread::sleep(POLL);
    }
    for data in folders {
        memory::release(data);
    }
}

impl Server {
    /// All processes known to be this server's, for [`end_all`].
    pub(crate) fn known_processes(&self) -> Vec<ProcessId> {
        let postmaster = self.postmaster();
        let mut known: Vec<ProcessId> = postmaster.into_iter().collect();
        known.extend(postmaster.map(process::children_of).into_iter().flatten());
        known.extend(self.orphans());
        known
    }
}

/// Takes note of a postmaster that has ended.
fn reap(processes: &mut Processes) {
    if let Some(child) = &mut processes.child
        && !matches!(child.try_wait(), Ok(None))
    {
        processes.child = None;
    }
    processes.postmaster = processes.postmaster.filter(|postmaster| postmaster.is_alive());
    processes.orphans.retain(|orphan| orphan.is_alive());
}
