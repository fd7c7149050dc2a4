//! The example, run as its page says.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

#[tokio::test]
async fn searches_follow_the_table_through_restarts_of_both_sides() {
    let running = Command::new(env!("CARGO_BIN_EXE_example-search-index"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let output =
        timeout(Duration::from_secs(240), running.wait_with_output()).await.unwrap().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let searches: Vec<_> = out.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let expected = [
        "horse: [2, 3]",
        "mustang: [4]",
        "horse: [2]",
        "grass: []",
        "wild: [4]",
        "mustang: [4]",
        "horse: [5, 20]",
        "mustang: [4]",
        "horse: []",
    ];
    assert_eq!(searches, expected);
    assert_eq!(out.matches("the index is what the table says").count(), 2, "{out}");
}
