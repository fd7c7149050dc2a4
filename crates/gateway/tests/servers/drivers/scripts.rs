//! Clients of other languages: programs that print a line for each check and end with something else than 0 at the first
//! that fails.

use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::harness::Running;

/// All checks of one client take a few seconds, a minute on a machine that is busy.
const WITHIN: Duration = Duration::from_secs(240);

pub(super) async fn psql(running: &Running) {
    run(running, Command::new(scripts().join("libpq/psql.sh"))).await;
}

pub(super) async fn pgbench(running: &Running) {
    run(running, Command::new(scripts().join("libpq/pgbench.sh"))).await;
}

pub(super) async fn python(running: &Running, name: &str) {
    let mut command = Command::new(fetched("python/bin/python"));
    // Nothing is left in the repository.
    command.arg("-B").arg(scripts().join(format!("python/{name}_checks.py")));
    run(running, command).await;
}

pub(super) async fn node(running: &Running) {
    let mut command = Command::new("node");
    command.arg(scripts().join("node/checks.js"));
    command.env("NODE_PATH", fetched("node/node_modules")).env("NODE_NO_WARNINGS", "1");
    run(running, command).await;
}

pub(super) async fn java(running: &Running) {
    let mut command = Command::new("java");
    command.arg("-cp").arg(fetched("java").join("*")).arg(scripts().join("java/Checks.java"));
    run(running, command).await;
}

pub(super) async fn go(running: &Running) {
    if let Some(program) = go_program() {
        run(running, Command::new(program)).await;
    }
}

/// The checks with pgx; `None` where Go could not fetch it.
pub(crate) fn go_program() -> Option<PathBuf> {
    if let Ok(why) = std::fs::read_to_string(home().join("go/left-out")) {
        crate::load::tell(&format!("pgx is left out, for Go could not fetch it: {why}"));
        return None;
    }
    Some(fetched("go/checks"))
}

/// Runs the program with the address of the gateway in libpq's environment variables.
async fn run(running: &Running, mut command: Command) {
    let user = "app";
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", running.port().to_string())
        .env("PGUSER", user)
        .env("PGPASSWORD", running.password(user))
        .env("PGDATABASE", "postgres")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    // In a file, to be read also when the program does not end.
    let mut said = tempfile::tempfile().unwrap();
    command.stdout(said.try_clone().unwrap()).stderr(said.try_clone().unwrap());
    // Not all of the command: its environment has a password.
    let client = format!("{:?}", command.as_std().get_program());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{client}: {error}"));
    let ended = timeout(WITHIN, child.wait()).await;
    let mut text = String::new();
    said.rewind().unwrap();
    said.read_to_string(&mut text).unwrap();
    let status = ended.unwrap_or_else(|_| panic!("{client} does not end:\n{text}")).unwrap();
    assert!(status.success(), "{client}: {status}\n{text}");
    assert!(text.lines().filter(|line| line.starts_with("ok ")).count() > 3, "{client}:\n{text}");
}

pub(crate) fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers")
}

/// What `scripts/fetch-drivers` has fetched.
pub(crate) fn fetched(what: &str) -> PathBuf {
    let path = home().join(what);
    assert!(path.exists(), "{} is missing; run scripts/fetch-drivers", path.display());
    path
}

/// The folder of `scripts/fetch-drivers`.
fn home() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(chosen) = set("HERDSMAN_DRIVERS_HOME") {
        return chosen;
    }
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/cache/herdsman/drivers");
    }
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    cache.expect("HOME is set").join("herdsman/drivers")
}
