//! Proxies as processes of their own: how they are started, and what they use of the machine.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::config::{self, Setup};
use crate::error::BenchError;
use crate::peers::Peer;
use crate::server::{Address, Server};

const READY_WITHIN: Duration = Duration::from_secs(30);
const STOPS_WITHIN: Duration = Duration::from_secs(10);
/// PgBouncer does not run as root.
const NOBODY: u32 = 65534;

/// What stands between client and server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The program `herdsman`, in transaction mode.
    Herdsman(PathBuf),
    /// This program, which only passes on what it is sent.
    Floor,
    /// PgBouncer in transaction or session mode.
    PgBouncer { program: PathBuf, session: bool, prepared: bool },
    /// Another, in transaction mode.
    Peer { peer: Peer, program: PathBuf },
}

impl Kind {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Herdsman(_) => "herdsman",
            Self::Floor => "floor",
            Self::PgBouncer { .. } => "pgbouncer",
            Self::Peer { peer, .. } => peer.name(),
        }
    }
}

/// A running proxy. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Proxy {
    name: &'static str,
    child: Child,
    pid: u32,
    pub(crate) address: Address,
    /// Its configuration and log.
    folder: TempDir,
}

impl Proxy {
    pub(crate) async fn start(kind: &Kind, server: &Server) -> Result<Self, BenchError> {
        let folder = TempDir::new().map_err(BenchError::system("make a folder"))?;
        let direct = server.direct()?;
        let address = Address { port: free_port()?, ..direct.clone() };
        let certificate = server.certificate();
        for (from, name) in certificate.iter().flatten().zip(["cert.pem", "key.pem"]) {
            let text =
                fs::read_to_string(from).map_err(BenchError::system("read a certificate"))?;
            private(&folder.path().join(name), &text)?;
        }
        let setup = Setup {
            folder: folder.path(),
            port: address.port,
            behind: direct.port,
            password: &address.password,
            verifier: &server.verifier,
            tls: certificate.is_some(),
        };
        let mut command = command(kind, &setup, server)?;
        let log =
            File::create(folder.path().join("log")).map_err(BenchError::system("write a log"))?;
        let again = log.try_clone().map_err(BenchError::system("write a log"))?;
        let name = kind.name();
        let child = command
            .env("NO_COLOR", "1")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(again)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(BenchError::system(format!("run {name}")))?;
        let pid = child.id().unwrap_or_default();
        let mut proxy = Self { name, child, pid, address, folder };
        proxy.ready().await?;
        Ok(proxy)
    }

    async fn ready(&mut self) -> Result<(), BenchError> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let problem = match timeout(READY_WITHIN, answer(&self.address)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(problem)) => problem,
                Err(_) => "no answer".to_owned(),
            };
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.failed(&format!("ended at once ({status})")));
            }
            if Instant::now() > deadline {
                return Err(self.failed(&format!(
                    "let nobody in within {} s ({problem})",
                    READY_WITHIN.as_secs()
                )));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Processor time of all its threads so far.
    pub(crate) fn cpu(&self) -> Duration {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.pid)) else {
            return Duration::ZERO;
        };
        let nanos = threads.flatten().filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Memory it has in use, in bytes.
    pub(crate) fn resident(&self) -> Result<u64, BenchError> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid));
        let status = status.map_err(|_| self.failed("has ended by itself"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| self.failed("has no memory in /proc"))
    }

    /// Ends it with SIGTERM, or with SIGKILL when it takes too long.
    pub(crate) async fn stop(mut self) -> Result<(), BenchError> {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // Gone already: that is seen below.
            let _gone = kill_process(pid, Signal::TERM);
        }
        if timeout(STOPS_WITHIN, self.child.wait()).await.is_err() {
            self.child.kill().await.map_err(BenchError::system("end a proxy"))?;
        }
        Ok(())
    }

    /// What went wrong, with the end of its log.
    pub(crate) fn failed(&self, problem: &str) -> BenchError {
        let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
        let log = tail(&String::from_utf8_lossy(&log));
        BenchError::Program { program: self.name.to_owned(), problem: problem.to_owned(), log }
    }
}

async fn answer(address: &Address) -> Result<(), String> {
    let (client, running) = address.login().await.map_err(|error| error.to_string())?;
    let answer = client.simple_query("SELECT 1").await;
    drop(client);
    running.abort();
    answer.map(drop).map_err(|error| error.to_string())
}

/// The last lines, in one.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join("; ")
}

/// Writes what it is told, and how it is started with that.
fn command(kind: &Kind, setup: &Setup<'_>, server: &Server) -> Result<Command, BenchError> {
    let at = |name: &str| setup.folder.join(name);
    let (program, files) = match kind {
        Kind::Floor => {
            let program = std::env::current_exe();
            let mut command =
                Command::new(program.map_err(BenchError::system("find this program"))?);
            command.arg("--pass-on").args([setup.port, setup.behind].map(|port| port.to_string()));
            return Ok(command);
        }
        Kind::Herdsman(program) => {
            (program, vec![config::herdsman(setup, &server.hosts()?, free_port()?)])
        }
        Kind::PgBouncer { program, session, prepared } => {
            (program, config::pgbouncer(setup, *session, *prepared).into())
        }
        Kind::Peer { peer, program } => (program, config::of_peer(*peer, setup)),
    };
    for (name, text) in &files {
        private(&at(name), text)?;
    }
    let mut command = Command::new(program);
    match kind {
        Kind::Floor => {}
        Kind::Herdsman(_) => drop(command.arg("run").arg(at("herdsman.yml"))),
        Kind::PgBouncer { .. } => {
            command.arg(at("pgbouncer.ini"));
            if rustix::process::geteuid().is_root() {
                give_away(setup.folder)?;
                command.uid(NOBODY).gid(NOBODY);
            }
        }
        Kind::Peer { peer, .. } => drop(command.args(config::arguments(*peer, setup.folder))),
    }
    Ok(command)
}

/// The folder and what is in it.
fn give_away(folder: &Path) -> Result<(), BenchError> {
    let give = |path: &Path| {
        chown(path, Some(NOBODY), Some(NOBODY)).map_err(BenchError::system("give files away"))
    };
    give(folder)?;
    let entries = fs::read_dir(folder).map_err(BenchError::system("list a configuration"))?;
    entries.flatten().try_for_each(|entry| give(&entry.path()))
}

/// It holds passwords.
fn private(path: &Path, text: &str) -> Result<(), BenchError> {
    let written = fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o600)));
    written.map_err(BenchError::system("write a configuration"))
}

/// A port of 127.0.0.1 that nobody listens on.
fn free_port() -> Result<u16, BenchError> {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(BenchError::system("get a free port"))
}

#[cfg(test)]
mod tests {
    use super::tail;

    #[test]
    fn the_end_of_a_log_is_its_last_five_lines() {
        assert_eq!(tail("1\n2\n\n3\n4\n5\n6\n"), "2; 3; 4; 5; 6");
        assert_eq!(tail("one\n"), "one");
        assert_eq!(tail(""), "");
    }
}
