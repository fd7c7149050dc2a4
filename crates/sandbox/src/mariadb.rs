//! A real MariaDB server, killed and started at will.

use std::{
    env,
    fs::OpenOptions,
    io::Read as _,
    net::TcpStream,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Child,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::Signal;
use tokio::time::Instant;

use crate::{
    SandboxError,
    account::{self, Account},
    folder::Folder,
    ports::HeldPort,
    process::ProcessId,
    server,
    tool::{self, Surroundings},
};

/// What the server is called in errors.
const NAME: &str = "mariadb";
/// Creating the data folder and starting on a loaded machine; a healthy one takes four seconds.
const DEADLINE: Duration = Duration::from_secs(90);
/// How often a starting server is asked, and an ending one looked at.
const POLL: Duration = Duration::from_millis(5);

/// A running MariaDB with the account [`MariaDb::USER`] and the database [`MariaDb::DATABASE`]. Dropped, it ends the
/// process, also a frozen one, and removes its folder.
///
/// Every commit is on disk before it is acknowledged, so that [`MariaDb::kill`] loses none.
///
/// ```no_run
/// # async fn example() -> Result<(), herdsman_sandbox::SandboxError> {
/// let server = herdsman_sandbox::MariaDb::start().await?;
/// println!("127.0.0.1:{}", server.port());
/// server.kill().await?;
/// server.start_again().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MariaDb {
    // Dropped in this order: the folder goes last.
    process: Ended,
    port: HeldPort,
    account: Account,
    server: PathBuf,
    password: String,
    folder: Folder,
}

/// The process, if it runs; ended when dropped.
#[derive(Debug)]
struct Ended {
    data: PathBuf,
    child: Mutex<Option<(Child, ProcessId)>>,
}

impl MariaDb {
    /// The account that may do everything.
    pub const USER: &str = "app";
    /// Its database.
    pub const DATABASE: &str = "app";

    /// Creates a server's data, starts it, and waits until it takes connections.
    ///
    /// # Errors
    /// MariaDB is not on this machine (the error says what to install), or the server does not come up.
    pub async fn start() -> Result<Self, SandboxError> {
        let (server, install) = (find("mariadbd")?, find("mariadb-install-db")?);
        let account = Account::choose()?;
        let folder = Folder::create(None, account)?;
        let home = folder.path().join(NAME);
        account.create_dir(&home)?;
        let password = account::random_password()?;
        let port = HeldPort::take().map_err(SandboxError::system("get a free port"))?;
        let data = home.join("data");
        let made = Self {
            process: Ended { data: data.clone(), child: Mutex::default() },
            port,
            account,
            server,
            password,
            folder,
        };
        let mut command = tool::command(&install, Surroundings { account, folder: &home });
        command.args([
            "--no-defaults",
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
        ]);
        command.arg(option("--datadir=", &data));
        // Whoever starts removes what it takes for temporary tables left behind, also those of another that is at work.
        command.arg(option("--tmpdir=", &home));
        tool::run(NAME, "mariadb-install-db", command, DEADLINE).await?;
        account.write(&made.init_file(), &made.init_sql())?;
        made.start_again().await?;
        Ok(made)
    }

    /// Where clients connect, on 127.0.0.1; the same for as long as this value lives.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.port()
    }

    /// The password of [`MariaDb::USER`].
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Kills the server with SIGKILL and waits until it is gone. A server that is down stays down.
    ///
    /// # Errors
    /// The process does not go away.
    pub async fn kill(&self) -> Result<(), SandboxError> {
        let Some(process) = self.process.running() else { return Ok(()) };
        process.signal(Signal::KILL);
        let deadline = Instant::now() + DEADLINE;
        while self.process.running().is_some() {
            self.check(deadline, "the end of the killed server")?;
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Starts a server that is down, with all it had, and waits until it takes connections.
    ///
    /// # Errors
    /// It is running, or does not come up.
    pub async fn start_again(&self) -> Result<(), SandboxError> {
        if self.process.running().is_some() {
            return Err(SandboxError::not_now(NAME, "is already running"));
        }
        self.spawn()?;
        let deadline = Instant::now() + DEADLINE;
        while !self.answers().await {
            if self.process.running().is_none() {
                return Err(SandboxError::DidNotStart {
                    node: NAME.to_owned(),
                    log: tool::log_end(&self.log()),
                });
            }
            self.check(deadline, "an answer of the server")?;
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn spawn(&self) -> Result<(), SandboxError> {
        let (home, log) = (self.home(), self.log());
        let out = OpenOptions::new().create(true).append(true).open(&log);
        let out = out.map_err(SandboxError::file("open", &log))?;
        let also = out.try_clone().map_err(SandboxError::file("open", &log))?;
        let surroundings = Surroundings { account: self.account, folder: &home };
        let mut command = tool::command(&self.server, surroundings);
        command
            .arg("--no-defaults")
            .arg(option("--datadir=", &self.process.data))
            .arg(option("--tmpdir=", &home))
            .arg(option("--socket=", &home.join("socket")))
            .arg(option("--pid-file=", &home.join("pid")))
            .arg(option("--init-file=", &self.init_file()))
            .arg(format!("--port={}", self.port()))
            .args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin"])
            .args([
                "--innodb-buffer-pool-size=32M",
                "--performance-schema=OFF",
                "--max-connections=100",
            ])
            .args(["--innodb-flush-log-at-trx-commit=1", "--innodb-log-file-size=16M"])
            .stdout(out)
            .stderr(also)
            // A Ctrl-C on our terminal is for us.
            .process_group(0);
        let mut child = command.spawn().map_err(SandboxError::system("start mariadbd"))?;
        let Some(id) = i32::try_from(child.id()).ok().and_then(ProcessId::running) else {
            let ended = child.wait().map_or_else(|error| error.to_string(), |it| it.to_string());
            return Err(SandboxError::DidNotStart { node: NAME.to_owned(), log: ended });
        };
        *self.process.child() = Some((child, id));
        Ok(())
    }

    /// Whether it greets who connects; it does so once it is up.
    async fn answers(&self) -> bool {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], self.port()));
        let greeted = move || {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.read_exact(&mut [0; 8])
        };
        tokio::task::spawn_blocking(greeted).await.is_ok_and(|greeted| greeted.is_ok())
    }

    fn check(&self, deadline: Instant, what: &str) -> Result<(), SandboxError> {
        if Instant::now() < deadline {
            return Ok(());
        }
        Err(SandboxError::Deadline {
            node: NAME.to_owned(),
            what: what.to_owned(),
            within: DEADLINE,
            detail: format!("its log ends with: {}", tool::log_end(&self.log())),
        })
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join(NAME)
    }

    fn log(&self) -> PathBuf {
        self.home().join("log")
    }

    fn init_file(&self) -> PathBuf {
        self.home().join("init.sql")
    }

    fn init_sql(&self) -> String {
        let (user, database, password) = (Self::USER, Self::DATABASE, &self.password);
        format!(
            "ALTER USER root@localhost IDENTIFIED BY '{password}';
CREATE DATABASE IF NOT EXISTS {database} CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE USER IF NOT EXISTS {user}@'127.0.0.1' IDENTIFIED BY '{password}';
GRANT ALL ON *.* TO {user}@'127.0.0.1';
"
        )
    }
}

impl Ended {
    fn running(&self) -> Option<ProcessId> {
        let mut child = self.child();
        if let Some((process, _)) = child.as_mut()
            && !matches!(process.try_wait(), Ok(None))
        {
            *child = None;
        }
        child.as_ref().map(|(_, id)| *id)
    }

    fn child(&self) -> MutexGuard<'_, Option<(Child, ProcessId)>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let known: Vec<ProcessId> = self.running().into_iter().collect();
        server::end_all(std::slice::from_ref(&self.data), &known);
        if let Some((child, _)) = self.child().as_mut()
            && let Err(error) = child.wait()
        {
            tracing::debug!(%error, "mariadbd was not waited for");
        }
    }
}

fn option(name: &str, path: &Path) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from(name);
    option.push(path);
    option
}

/// Looks into `PATH`, and where the distributions put servers.
fn find(program: &str) -> Result<PathBuf, SandboxError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(usual)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| {
            SandboxError::not_now(
                NAME,
                format!("no {program} on this machine; install MariaDB 10.11 or later (Debian: apt-get install mariadb-server)"),
            )
        })
}
