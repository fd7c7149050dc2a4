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

use crate::error::BenchError;
use crate::server::{Address, ROLE, Server, quoted};

/// Server connections of a pool.
const POOL: usize = 32;
const CLIENTS: usize = 5000;
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

/// Of PgBouncer as `pgbouncer --version` says it, such as `PgBouncer 1.18.0`.
pub(crate) async fn version(program: &Path) -> Result<String, BenchError> {
    let output = Command::new(program).arg("--version").output().await;
    let output = output.map_err(BenchError::system(format!("run {}", program.display())))?;
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.lines().next().unwrap_or_default().trim().to_owned())
}

/// Whether this version keeps prepared statements apart in transaction mode: since 1.21.
pub(crate) fn has_prepared_statements(version: &str) -> bool {
    let mut numbers = version.trim_start_matches("PgBouncer ").split('.').map(str::parse::<u32>);
    let (major, minor) = (numbers.next(), numbers.next());
    matches!((major, minor), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (1, 21))
}

impl Proxy {
    pub(crate) async fn start(kind: &Kind, server: &Server) -> Result<Self, BenchError> {
        let folder = TempDir::new().map_err(BenchError::system("make a folder"))?;
        let address = Address { port: free_port()?, ..server.direct()? };
        let log =
            File::create(folder.path().join("log")).map_err(BenchError::system("write a log"))?;
        let (name, mut command) = match kind {
            Kind::Herdsman(program) => {
                ("herdsman", herdsman(program, server, &address, folder.path())?)
            }
            Kind::Floor => {
                let program = std::env::current_exe();
                let mut command =
                    Command::new(program.map_err(BenchError::system("find this program"))?);
                let ports = [address.port, server.direct()?.port].map(|port| port.to_string());
                command.arg("--pass-on").args(ports);
                ("floor", command)
            }
            Kind::PgBouncer { program, session, prepared } => {
                let mode = if *session { "session" } else { "transaction" };
                let statements = if *prepared { "max_prepared_statements = 200\n" } else { "" };
                let more = format!("pool_mode = {mode}\n{statements}");
                ("pgbouncer", pgbouncer(program, server, &address, &more, folder.path())?)
            }
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
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
            let config = self.address.config();
            let problem = match timeout(READY_WITHIN, config.connect(tokio_postgres::NoTls)).await {
                Ok(Ok((client, connection))) => {
                    let running = tokio::spawn(connection);
                    let answer = client.simple_query("SELECT 1").await;
                    drop(client);
                    running.abort();
                    match answer {
                        Ok(_) => return Ok(()),
                        Err(error) => error.to_string(),
                    }
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.failed(&format!("ended at once ({status})")));
            }
            if Instant::now() > deadline {
                return Err(self.failed(&format!("does not let anybody in ({problem})")));
            }
            sleep(Duration::from_millis(50)).await;
        }
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

    fn failed(&self, problem: &str) -> BenchError {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let tail: Vec<_> = log.trim().lines().rev().take(5).collect();
        let log = tail.into_iter().rev().collect::<Vec<_>>().join("; ");
        BenchError::Program { program: self.name.to_owned(), problem: problem.to_owned(), log }
    }
}

fn herdsman(
    program: &Path,
    server: &Server,
    address: &Address,
    folder: &Path,
) -> Result<Command, BenchError> {
    let (hosts, api, port) = (server.hosts()?, free_port()?, address.port);
    let password = quoted(&address.password);
    let config = format!(
        "{hosts}bind: 127.0.0.1\nport: {api}\ngateway:\n  listen: 127.0.0.1:{port}\n  \
         users: {{ {ROLE}: {{ password: {password} }} }}\n  max_clients: {CLIENTS}\n  \
         pool: {{ mode: transaction, size: {POOL} }}\n"
    );
    let file = folder.join("herdsman.yml");
    private(&file, &config)?;
    let mut command = Command::new(program);
    command.arg("run").arg(file);
    Ok(command)
}

fn pgbouncer(
    program: &Path,
    server: &Server,
    address: &Address,
    more: &str,
    folder: &Path,
) -> Result<Command, BenchError> {
    let (behind, port) = (server.direct()?.port, address.port);
    let users = folder.join("users");
    private(&users, &format!("\"{ROLE}\" \"{}\"\n", address.password))?;
    let config = format!(
        "[databases]\n* = host=127.0.0.1 port={behind}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\n\
         default_pool_size = {POOL}\nmax_client_conn = {CLIENTS}\nlog_connections = 0\n\
         log_disconnections = 0\nlog_stats = 0\n{more}",
        users.display()
    );
    let file = folder.join("pgbouncer.ini");
    private(&file, &config)?;
    let mut command = Command::new(program);
    command.arg(&file);
    if rustix::process::geteuid().is_root() {
        for path in [folder, &file, &users] {
            chown(path, Some(NOBODY), Some(NOBODY))
                .map_err(BenchError::system("give files away"))?;
        }
        command.uid(NOBODY).gid(NOBODY);
    }
    Ok(command)
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
    use super::has_prepared_statements;

    #[test]
    fn the_debian_package_has_no_prepared_statements_in_transaction_mode() {
        assert!(!has_prepared_statements("PgBouncer 1.18.0"));
        assert!(has_prepared_statements("PgBouncer 1.21.0"));
        assert!(has_prepared_statements("PgBouncer 1.25.2"));
        assert!(!has_prepared_statements("something else"));
    }
}
