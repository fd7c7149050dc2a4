//! The example, run as its page says, through the loss of its servers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

use std::process::Stdio;
use std::time::Duration;

use herdsman_sandbox::Sandbox;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_on_through_a_kill_and_a_promotion() {
    let sandbox = Sandbox::builder().standbys(2).start().await.unwrap();
    let config = sandbox.dir().join("example.yml");
    std::fs::write(&config, sandbox.config_yaml(0).unwrap()).unwrap();
    let running = Command::new(env!("CARGO_BIN_EXE_example-sqlx"))
        .arg(&config)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    sleep(Duration::from_millis(2500)).await;
    sandbox.kill("n1").await.unwrap();
    sandbox.promote("n2").await.unwrap();
    sandbox.follow("n3", "n2").await.unwrap();
    let output =
        timeout(Duration::from_secs(60), running.wait_with_output()).await.unwrap().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains("note 1: hay\nnote 2: water\nnote 3: salt\n"), "{out}");
    assert_eq!(out.matches(" notes   map[").count(), 20, "every read was answered: {out}");
    assert!(out.lines().last().unwrap().contains("n1:{false "), "{out}");
    let notes: u32 = out.lines().last().unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(notes > 15, "writes went on after the promotion: {out}");
}
