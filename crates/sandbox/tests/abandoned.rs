//! What a killed test run leaves behind.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use herdsman_sandbox::Sandbox;
use tokio::time::Instant;

/// Set in a process that is to start a sandbox and wait to be killed.
const WAIT_TO_BE_KILLED: &str = "HERDSMAN_SANDBOX_TEST_WAITS";

#[tokio::test]
async fn what_a_killed_test_run_left_is_removed_by_the_next() {
    if std::env::var_os(WAIT_TO_BE_KILLED).is_some() {
        let _sandbox = Sandbox::builder().start().await.unwrap();
        std::future::pending::<()>().await;
    }
    let base = std::env::temp_dir().join(format!("herdsman-abandoned-{}", std::process::id()));
    fs::create_dir(&base).unwrap();
    let mut first = again(&base);
    let log = until("a server of the first run is ready", || {
        let folder = fs::read_dir(&base).unwrap().flatten().next()?.path();
        let log = fs::read_to_string(folder.join("n1/log")).ok()?;
        log.contains("ready to accept connections").then_some(folder)
    })
    .await;
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(log.exists());
    let mut second = again(&base);
    until("the next run has removed it", || (!log.exists()).then_some(())).await;
    until("and works itself", || {
        let folder = fs::read_dir(&base).unwrap().flatten().next()?.path();
        herdsman_sandbox::is_sandbox(&folder).then_some(())
    })
    .await;
    second.kill().unwrap();
    second.wait().unwrap();
    // Nobody comes after the second one but us.
    for left in fs::read_dir(&base).unwrap().flatten() {
        herdsman_sandbox::supervisor::destroy(&left.path()).unwrap();
    }
    fs::remove_dir(&base).unwrap();
}

fn again(base: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "abandoned::what_a_killed_test_run_left_is_removed_by_the_next"])
        .env(WAIT_TO_BE_KILLED, "1")
        .env("TMPDIR", base)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

async fn until<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
