//! The broker's process.

use std::{
    fs::OpenOptions,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::Signal;
use tokio::time::Instant;

use super::jars::Jars;
use crate::{
    ProcessState, SandboxError,
    account::Account,
    ports::HeldPort,
    process::{JAVA_MARK, ProcessId},
    server,
    tool::{self, Surroundings},
};

/// What the broker is called in errors, and its folder in the sandbox's.
pub(super) const NAME: &str = "kafka";
/// How often a state is looked at that the system does not announce.
const POLL: Duration = Duration::from_millis(3);
/// How long a killed process may take to leave the process table before something is wrong with the machine.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// One broker: its folder, its ports and its process, if it runs.
#[derive(Debug)]
pub(super) struct Broker {
    pub(super) folder: PathBuf,
    pub(super) port: HeldPort,
    pub(super) controller_port: HeldPort,
    jars: Jars,
    process: Mutex<Option<(Child, ProcessId)>>,
}

impl Broker {
    pub(super) fn new(dir: &Path, jars: Jars, port: HeldPort, controller_port: HeldPort) -> Self {
        Self { folder: dir.join(NAME), port, controller_port, jars, process: Mutex::default() }
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(super) fn properties(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    /// Prepares the data folder, once.
    pub(super) async fn format(&self, id: &str, within: Duration) -> Result<(), SandboxError> {
        let mut command = self.java();
        command.args(["kafka.tools.StorageTool", "format", "-t", id, "-c"]).arg(self.properties());
        tool::run(NAME, "the storage tool of Kafka", command, within).await
    }

    /// Starts the process; it takes a while to answer.
    pub(super) fn spawn(&self) -> Result<(), SandboxError> {
        if self.running().is_some() {
            return Err(SandboxError::not_now(NAME, "is already running"));
        }
        let log_file = self.log_file();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_file)
            .map_err(SandboxError::file("open", &log_file))?;
        let also_log = log.try_clone().map_err(SandboxError::file("open", &log_file))?;
        let mut command = self.java();
        command
            .arg("kafka.Kafka")
            .arg(self.properties())
            .stdout(log)
            .stderr(also_log)
            // A Ctrl-C on our terminal is for us.
            .process_group(0);
        let mut child = command.spawn().map_err(SandboxError::system("start the broker"))?;
        let Some(id) = i32::try_from(child.id()).ok().and_then(ProcessId::running) else {
            let ended = child.wait().map_or_else(|error| error.to_string(), |it| it.to_string());
            return Err(SandboxError::DidNotStart { node: NAME.to_owned(), log: ended });
        };
        *self.process() = Some((child, id));
        Ok(())
    }

    pub(super) async fn kill(&self) -> Result<(), SandboxError> {
        let Some(process) = self.running() else { return Ok(()) };
        process.signal(Signal::KILL);
        self.await_state(ProcessState::Stopped, KILL_DEADLINE, "the end of the killed broker").await
    }

    pub(super) async fn stop(&self, within: Duration) -> Result<(), SandboxError> {
        let process = self.alive("stop")?;
        if self.state() == ProcessState::Frozen {
            return Err(SandboxError::not_now(
                NAME,
                "is frozen and cannot shut down; thaw it first, or kill it",
            ));
        }
        process.signal(Signal::TERM);
        self.await_state(ProcessState::Stopped, within, "the shutdown").await
    }

    pub(super) async fn freeze(&self) -> Result<(), SandboxError> {
        self.alive("freeze")?.signal(Signal::STOP);
        self.await_state(ProcessState::Frozen, KILL_DEADLINE, "the stop of its threads").await
    }

    pub(super) async fn thaw(&self) -> Result<(), SandboxError> {
        self.alive("thaw")?.signal(Signal::CONT);
        self.await_state(ProcessState::Running, KILL_DEADLINE, "the thaw").await
    }

    pub(super) fn state(&self) -> ProcessState {
        let Some(process) = self.running() else { return ProcessState::Stopped };
        // One whose first thread is gone already counts as running until the others are, too.
        if process.look().is_some_and(|process| process.is_frozen()) {
            ProcessState::Frozen
        } else {
            ProcessState::Running
        }
    }

    pub(super) fn log_end(&self) -> String {
        tool::log_end(&self.log_file())
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Java as it is cheapest for a broker of tests: little memory, and up in two seconds rather than quick after ten.
    fn java(&self) -> Command {
        let surroundings = Surroundings { account: Account::Own, folder: &self.folder };
        let mut mark = std::ffi::OsString::from(JAVA_MARK);
        mark.push(self.data());
        let mut command = tool::command(&self.jars.java, surroundings);
        command
            .args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            // It would listen on a socket of the other family, beside the port that is held for it.
            .arg("-Djava.net.preferIPv4Stack=true")
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg(mark)
            .arg("-cp")
            .arg(self.jars.folder.join("*"));
        command
    }

    fn alive(&self, verb: &str) -> Result<ProcessId, SandboxError> {
        self.running().ok_or_else(|| {
            SandboxError::not_now(NAME, format!("is not running, there is nothing to {verb}"))
        })
    }

    /// The process, if it lives (frozen counts). One that has ended is reaped, so that no zombie stays behind.
    fn running(&self) -> Option<ProcessId> {
        let mut process = self.process();
        if let Some((child, _)) = process.as_mut()
            && !matches!(child.try_wait(), Ok(None))
        {
            *process = None;
        }
        process.as_ref().map(|(_, id)| *id)
    }

    async fn await_state(
        &self,
        wanted: ProcessState,
        within: Duration,
        what: &str,
    ) -> Result<(), SandboxError> {
        let deadline = Instant::now() + within;
        while self.state() != wanted {
            if Instant::now() > deadline {
                return Err(SandboxError::Deadline {
                    node: NAME.to_owned(),
                    what: what.to_owned(),
                    within,
                    detail: String::new(),
                });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn process(&self) -> MutexGuard<'_, Option<(Child, ProcessId)>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let known: Vec<ProcessId> = self.running().into_iter().collect();
        server::end_all(&[self.data()], &known);
        // The first thread ends before the others, and the process with the last.
        let rounds = KILL_DEADLINE.as_millis() / POLL.as_millis();
        for _ in 0..rounds {
            if self.running().is_none() {
                break;
            }
            std::thread::sleep(POLL);
        }
    }
}
