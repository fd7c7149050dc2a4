//! What the suites of drivers have shown (`tests/suites`), each in a few lines.

use std::time::Duration;

use herdsman_sandbox::Sandbox;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{self, DEADLINE};

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind][..], &length, body].concat()
}

/// Somebody who has logged in without a password.
async fn raw(port: u16) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let parameters = b"\0\x03\0\0user\0app\0database\0postgres\0\0";
    let length = u32::try_from(parameters.len() + 4).unwrap().to_be_bytes();
    socket.write_all(&[&length[..], parameters].concat()).await.unwrap();
    until_ready(&mut socket).await;
    socket
}

/// Reads up to the next `ReadyForQuery`, and no further.
async fn until_ready(socket: &mut TcpStream) {
    let reading = async {
        loop {
            let kind = socket.read_u8().await.unwrap();
            let length = usize::try_from(socket.read_u32().await.unwrap()).unwrap();
            socket.read_exact(&mut vec![0; length - 4]).await.unwrap();
            if kind == b'Z' {
                return;
            }
        }
    };
    timeout(DEADLINE, reading).await.expect("it is not ready in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_does_not_wait_for_the_statement_that_was_sent_behind_it() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "trust_loopback: true\npool: { size: 1 }").await;
    let lock = cluster.sql("n1", "app").await.unwrap();
    lock.batch_execute("SELECT pg_advisory_lock(7)").await.unwrap();
    // The second one waits for the lock: until the first one's answer has been read, nobody lets it go.
    let extended = |sql: &str| {
        let parse = message(b'P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat());
        let bind = message(b'B', b"\0\0\0\0\0\0\0\0");
        [parse, bind, message(b'E', b"\0\0\0\0\0"), message(b'S', b"")].concat()
    };
    let simple = |sql: &str| message(b'Q', &[sql.as_bytes(), b"\0"].concat());
    for waits in [
        "SELECT pg_advisory_xact_lock(7)",
        // As a read: its own answer is held back for as long as another node might be asked.
        "/* herdsman: reader */ SELECT pg_advisory_xact_lock_shared(7)",
    ] {
        for both in [
            [simple("SELECT 1"), simple(waits)].concat(),
            [extended("SELECT 1"), extended(waits)].concat(),
        ] {
            let mut socket = raw(running.port()).await;
            socket.write_all(&both).await.unwrap();
            until_ready(&mut socket).await;
            lock.batch_execute("SELECT pg_advisory_unlock(7)").await.unwrap();
            until_ready(&mut socket).await;
            lock.batch_execute("SELECT pg_advisory_lock(7)").await.unwrap();
        }
    }
    // The same where the second one waits for a connection: the only one is another client's.
    let busy = running.connect("postgres", "app").await;
    busy.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let mut socket = raw(running.port()).await;
    socket.write_all(&[simple("BEGIN"), simple("SELECT 1")].concat()).await.unwrap();
    until_ready(&mut socket).await;
    busy.batch_execute("COMMIT").await.unwrap();
    until_ready(&mut socket).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_a_change_of_its_table_has_broken_can_be_prepared_again() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "pool: { size: 1 }").await;
    let owner = cluster.sql("n1", "app").await.unwrap();
    owner
        .batch_execute("CREATE TABLE changing (a int); INSERT INTO changing VALUES (1)")
        .await
        .unwrap();
    let (one, other) =
        (running.connect("postgres", "app").await, running.connect("postgres", "app").await);
    let sql = "/* herdsman: writer */ SELECT * FROM changing";
    let before = one.prepare(sql).await.unwrap();
    assert_eq!(one.query_one(&before, &[]).await.unwrap().len(), 1);
    for columns in 2..4 {
        owner.batch_execute(&format!("ALTER TABLE changing ADD c{columns} int")).await.unwrap();
        // As from PostgreSQL itself: whoever has prepared it learns that it does not hold any more …
        let broken = one.query(&before, &[]).await.unwrap_err();
        assert_eq!(broken.code().unwrap().code(), "0A000");
        // … and drivers prepare it again.
        for client in [&one, &other] {
            let after = client.prepare(sql).await.unwrap();
            assert_eq!(client.query_one(&after, &[]).await.unwrap().len(), columns);
        }
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_goodbye_before_anything_else_is_told_nothing() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "login_timeout: 10m").await;
    let mut socket = TcpStream::connect(("127.0.0.1", running.port())).await.unwrap();
    socket.write_all(&message(b'X', b"")).await.unwrap();
    let mut told = Vec::new();
    timeout(Duration::from_secs(60), socket.read_to_end(&mut told)).await.unwrap().unwrap();
    assert!(told.is_empty(), "{told:?}");
    running.stop().await;
}
