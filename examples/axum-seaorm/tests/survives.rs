//! The example, run as its page says, through the loss of its servers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

use std::process::Stdio;
use std::time::Duration;

use herdsman_sandbox::Sandbox;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);

/// Sends a request; returns the status, the session header and the body.
async fn send(address: &str, request: &str) -> (u16, String, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = timeout(PATIENCE, exchange).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let session = head.lines().find_map(|line| line.strip_prefix("herdsman-session: "));
    (status, session.unwrap_or_default().to_owned(), body.to_owned())
}

async fn post(address: &str, text: &str) -> (u16, String, String) {
    let body = serde_json::json!({ "text": text }).to_string();
    let length = body.len();
    let request = format!(
        "POST /notes HTTP/1.1\r\nhost: example\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    send(address, &request).await
}

async fn get(address: &str, path: &str, session: &str) -> (u16, String) {
    let header =
        if session.is_empty() { String::new() } else { format!("herdsman-session: {session}\r\n") };
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: example\r\nconnection: close\r\n{header}\r\n");
    let (status, _, body) = send(address, &request).await;
    (status, body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_answers_through_a_kill_and_a_promotion() {
    let sandbox = Sandbox::builder().standbys(2).start().await.unwrap();
    let config = sandbox.dir().join("example.yml");
    std::fs::write(&config, sandbox.config_yaml(0).unwrap()).unwrap();
    let mut running = Command::new(env!("CARGO_BIN_EXE_example-axum-seaorm"))
        .arg(&config)
        .arg("127.0.0.1:0")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
    let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
    let address = line.strip_prefix("listening on http://").unwrap();

    // Each client reads what it wrote, from whichever node.
    for number in 0..50 {
        let (status, session, body) = post(address, &format!("before {number}")).await;
        assert_eq!(status, 200, "{body}");
        let note: serde_json::Value = serde_json::from_str(&body).unwrap();
        let (status, body) = get(address, &format!("/notes/{}", note["id"]), &session).await;
        assert_eq!(
            (status, serde_json::from_str::<serde_json::Value>(&body).unwrap()),
            (200, note)
        );
    }

    sandbox.wait_replayed().await.unwrap();
    sandbox.kill("n1").await.unwrap();
    let (status, body) = get(address, "/notes", "").await;
    assert_eq!(status, 200, "{body}");
    sandbox.promote("n2").await.unwrap();
    let resumed = async {
        while post(address, "after").await.0 != 200 {
            assert_eq!(get(address, "/notes", "").await.0, 200);
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, resumed).await.unwrap();
    let (_, statistics) = get(address, "/statistics", "").await;
    assert!(statistics.starts_with("map[n1:{false "), "{statistics}");
}
