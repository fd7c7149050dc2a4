//! A real cluster for a test, and a look at servers that owes nothing to the program under test.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use herdsman_sandbox::{RejoinBy, Sandbox, SandboxError};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// Long enough for a loaded machine; nothing asserts on time but to end a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Clusters at a time: each is a dozen processes, and a starved server looks like a frozen one.
const AT_ONCE: u32 = 2;

/// How long one look at a server may take. A frozen one takes all of it.
const LOOK: Duration = Duration::from_secs(2);

static TAKEN: Mutex<u32> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// The right to have a cluster running.
pub struct Turn(());

/// A cluster of `n1` (primary), `n2`, `n3`, … that ends with the test.
pub struct Cluster {
    // Before the runtime, in which its proxies live.
    sandbox: Option<Sandbox>,
    runtime: Runtime,
    _turn: Turn,
}

impl Turn {
    /// Waits for it.
    pub fn take() -> Self {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken >= AT_ONCE {
            taken = FREED.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += 1;
        Self(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}

pub use herdsman_sandbox::tested_versions as versions;

impl Cluster {
    /// Starts one on the first version that tests run on.
    pub fn start(standbys: usize) -> Self {
        Self::on(versions()[0], standbys)
    }

    pub fn on(version: u32, standbys: usize) -> Self {
        let turn = Turn::take();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let builder = Sandbox::builder().standbys(standbys).pg_version(version);
        let sandbox = runtime.block_on(Box::pin(builder.start())).unwrap();
        Self { sandbox: Some(sandbox), runtime, _turn: turn }
    }

    pub fn sandbox(&self) -> &Sandbox {
        self.sandbox.as_ref().unwrap()
    }

    #[track_caller]
    pub fn kill(&self, node: &str) {
        self.done(self.sandbox().kill(node));
    }

    #[track_caller]
    pub fn freeze(&self, node: &str) {
        self.done(self.sandbox().freeze(node));
    }

    #[track_caller]
    pub fn thaw(&self, node: &str) {
        self.done(self.sandbox().thaw(node));
    }

    #[track_caller]
    pub fn start_node(&self, node: &str) {
        self.done(self.sandbox().start(node));
    }

    #[track_caller]
    pub fn stop(&self, node: &str) {
        self.done(self.sandbox().stop(node));
    }

    /// Stops it in an orderly way and starts it again.
    #[track_caller]
    pub fn restart(&self, node: &str) {
        self.stop(node);
        self.start_node(node);
    }

    #[track_caller]
    pub fn promote(&self, node: &str) {
        self.done(self.sandbox().promote(node));
    }

    /// Makes the node anew from a copy of another one, as its standby.
    #[track_caller]
    pub fn rebuild(&self, node: &str, from: &str) {
        self.done(Box::pin(self.sandbox().rejoin_from(node, from, RejoinBy::Copy)));
    }

    /// What a superuser is told by the server itself, past every proxy.
    #[track_caller]
    pub fn sql(&self, node: &str, statement: &str) -> String {
        let port = self.sandbox().server_port(node).unwrap();
        let password = self.sandbox().credentials().password("postgres").unwrap();
        sql(port, "postgres", password, statement).unwrap()
    }

    /// `HOST:PORT` under which clients reach the node.
    pub fn endpoint(&self, node: &str) -> String {
        let (host, port) = self.sandbox().endpoint(node).unwrap();
        format!("{host}:{port}")
    }

    /// The `hosts` of an unmodified pgroute66 configuration, where each node has the name that `called` gives it.
    pub fn hosts(&self, called: impl Fn(&str) -> String) -> String {
        let mut text = "hosts:\n".to_owned();
        for node in self.sandbox().node_names() {
            text.push_str(&format!("  {}:\n    pool_max_conns: \"3\"\n", called(&node)));
            for (key, value) in self.sandbox().conninfo(&node, "herdsman").unwrap() {
                match key.as_str() {
                    "password" => {
                        text.push_str(&format!("    b64password: {}\n", STANDARD.encode(value)));
                    }
                    _ => text.push_str(&format!("    {key}: \"{value}\"\n")),
                }
            }
        }
        text
    }

    /// The lines below `watch:` that say under which addresses the nodes stream from each other.
    pub fn replication_addresses(&self, called: impl Fn(&str) -> String) -> String {
        let mut text = "  replication_addresses:\n".to_owned();
        for node in self.sandbox().node_names() {
            let addresses = self.sandbox().replication_addresses(&node).unwrap();
            text.push_str(&format!("    {}: {addresses:?}\n", called(&node)));
        }
        text
    }

    #[track_caller]
    fn done<T>(&self, doing: impl Future<Output = Result<T, SandboxError>>) {
        if let Err(error) = self.runtime.block_on(doing) {
            panic!("{}", error.one_line());
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        drop(self.sandbox.take());
    }
}

/// The rows that one statement gives, a line each, `|` between columns. The error where the server cannot be asked within
/// two seconds.
pub fn sql(port: u16, user: &str, password: &str, statement: &str) -> Result<String, String> {
    sql_within(LOOK, port, user, password, statement)
}

/// As [`sql`], for what has to be done and not only looked at.
pub fn sql_within(
    limit: Duration,
    port: u16,
    user: &str,
    password: &str,
    statement: &str,
) -> Result<String, String> {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user(user).password(password).dbname("postgres");
    let asking = async {
        let (client, connection) = config.connect(NoTls).await.map_err(|error| told(&error))?;
        tokio::spawn(connection);
        client.simple_query(statement).await.map_err(|error| told(&error))
    };
    let messages = runtime
        .block_on(async { tokio::time::timeout(limit, Box::pin(asking)).await })
        .map_err(|_| "no answer".to_owned())??;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let lines = rows.map(|row| {
        let columns: Vec<_> = (0..row.len()).map(|i| row.get(i).unwrap_or("")).collect();
        columns.join("|")
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

fn told(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| format!("{error:?}"), ToString::to_string)
}

/// Looks again and again until `seen` says that it is right; panics with the last look when it never is.
#[track_caller]
pub fn until<T: Display>(what: &str, mut look: impl FnMut() -> T, seen: impl Fn(&T) -> bool) -> T {
    let begun = tokio::time::Instant::now();
    loop {
        let found = look();
        if seen(&found) {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: never seen; last:\n{found}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The numbers of all processes that have anything to do with a folder: they name it, or work in it.
pub fn processes_in(folder: &Path) -> Vec<i32> {
    let folder = folder.to_string_lossy().into_owned();
    let inside = |path: &str| {
        path.strip_prefix(&folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        // A zombie has no arguments and no folder.
        if arguments.split('\0').any(&inside) || inside(&cwd.to_string_lossy()) {
            found.push(pid);
        }
    }
    found
}

/// A temporary folder that servers of another account can pass through.
pub fn open_temp_dir() -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let own = std::env::temp_dir();
    let open = |folder: &Path| {
        std::fs::metadata(folder).is_ok_and(|data| data.permissions().mode() & 0o001 != 0)
    };
    if own.ancestors().all(open) { own } else { "/tmp".into() }
}
