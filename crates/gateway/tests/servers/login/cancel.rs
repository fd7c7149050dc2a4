//! Cancel requests, on the right server of the right node and nowhere else.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use herdsman_sandbox::Sandbox;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use super::{address, newer_libpq, psql};
use crate::harness::{self, Running, connect, eventually};

/// How many sessions of a node run a statement with this in it.
async fn running_there(node: &Client, mark: &str) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1 \
        AND pid <> pg_backend_pid()";
    node.query_one(sql, &[&format!("%{mark}%")]).await.unwrap().get(0)
}

async fn until_running(node: &Client, mark: &str, count: i64) {
    eventually(mark, async || running_there(node, mark).await == count).await;
}

fn is_cancelled(outcome: &Result<(), tokio_postgres::Error>) -> bool {
    matches!(outcome, Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED))
}

/// A client whose statements all go to readers.
async fn reader(running: &Running) -> Client {
    let conninfo = running.conninfo("postgres", "app");
    connect(&format!("{conninfo} options='-c herdsman.target=reader'")).await.unwrap()
}

herdsman_sandbox::on_each_version! {
    async fn a_cancel_request_hits_its_client_s_statement_on_its_node_only(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).standbys(1).start().await.unwrap();
        let running = harness::gateway(&cluster, "").await;
        let [primary, standby] = [
            cluster.sql("n1", "postgres").await.unwrap(),
            cluster.sql("n2", "postgres").await.unwrap(),
        ];
        let writer = Arc::new(running.connect("postgres", "app").await);
        let reader = Arc::new(reader(&running).await);
        let on_primary = Arc::clone(&writer);
        let writing = tokio::spawn(async move {
            on_primary.batch_execute("BEGIN; SELECT pg_sleep(300) /* held_up */; COMMIT").await
        });
        let on_standby = Arc::clone(&reader);
        let reading = tokio::spawn(async move {
            on_standby.batch_execute("SELECT pg_sleep(300) /* looked_up */").await
        });
        until_running(&primary, "held_up", 1).await;
        until_running(&standby, "looked_up", 1).await;

        reader.cancel_token().cancel_query(NoTls).await.unwrap();
        assert!(is_cancelled(&reading.await.unwrap()));
        assert_eq!(running_there(&primary, "held_up").await, 1);
        assert_eq!(running_there(&standby, "looked_up").await, 0);

        writer.cancel_token().cancel_query(NoTls).await.unwrap();
        assert!(is_cancelled(&writing.await.unwrap()));
        // Both go on.
        writer.batch_execute("ROLLBACK; SELECT 1").await.unwrap();
        reader.batch_execute("SELECT 1").await.unwrap();
        running.stop().await;
    }

    async fn psql_cancels_with_control_c(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).start().await.unwrap();
        let running = harness::gateway(&cluster, "").await;
        let primary = cluster.sql("n1", "postgres").await.unwrap();
        let login = address(&running, "app", running.password("app"));
        let longer_keys = newer_libpq(&cluster).map(|_| "max_protocol_version=3.2");
        for protocol in [Some(""), longer_keys].into_iter().flatten() {
            let mut command = psql(&cluster, &format!("{login} {protocol}"));
            command.args(["-c", "SELECT pg_sleep(300) /* by_psql */"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let child = command.spawn().unwrap();
            until_running(&primary, "by_psql", 1).await;
            let pid = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
            let output = tokio::time::timeout(harness::DEADLINE, child.wait_with_output());
            let output = output.await.unwrap().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("canceling statement due to user request"), "{said}");
            until_running(&primary, "by_psql", 0).await;
        }
        running.stop().await;
    }

    async fn a_late_cancel_request_never_hits_who_has_the_connection_next(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).start().await.unwrap();
        // Two connections for many clients, so that each goes from hand to hand.
        let running = harness::gateway(&cluster, "pool: { size: 2 }").await;
        let over = Arc::new(AtomicBool::new(false));
        let mut others = Vec::new();
        for _ in 0..4 {
            let client = running.connect("postgres", "app").await;
            let over = Arc::clone(&over);
            others.push(tokio::spawn(async move {
                let mut statements = 0_usize;
                while !over.load(Ordering::Relaxed) {
                    client.batch_execute("SELECT pg_sleep(0.001)").await.unwrap();
                    statements += 1;
                }
                statements
            }));
        }
        let client = running.connect("postgres", "app").await;
        let token = client.cancel_token();
        let (mut hit, mut missed) = (0, 0);
        let begun = Instant::now();
        // Until some were in time and some were late: else nothing is shown.
        while hit + missed < 200 || hit == 0 || missed == 0 {
            assert!(begun.elapsed() < harness::DEADLINE, "{hit} hit and {missed} missed");
            let token = token.clone();
            let after = Duration::from_micros(fastrand::u64(..10_000));
            let cancelling = tokio::spawn(async move {
                tokio::time::sleep(after).await;
                token.cancel_query(NoTls).await.unwrap();
            });
            let outcome = client.batch_execute("SELECT pg_sleep(0.003)").await;
            if is_cancelled(&outcome) {
                hit += 1;
            } else {
                outcome.unwrap();
                missed += 1;
            }
            cancelling.await.unwrap();
        }
        over.store(true, Ordering::Relaxed);
        for other in others {
            assert!(other.await.unwrap() > 0);
        }
        running.stop().await;
    }

    async fn guessed_keys_cancel_nothing_and_tell_nothing(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).start().await.unwrap();
        let running = harness::gateway(&cluster, "").await;
        let primary = cluster.sql("n1", "postgres").await.unwrap();
        let client = Arc::new(running.connect("postgres", "app").await);
        // The process number may be known, to whoever can read what its application logs.
        let real = own_key(&running).await;
        let working = Arc::clone(&client);
        let sleeping = tokio::spawn(async move {
            working.batch_execute("SELECT pg_sleep(300) /* guessed_at */").await
        });
        let mut victim = real.socket;
        let query = b"SELECT pg_sleep(300) /* guessed_at */\0";
        let length = u32::try_from(query.len() + 4).unwrap().to_be_bytes();
        victim.write_all(&[b"Q", &length[..], query].concat()).await.unwrap();
        until_running(&primary, "guessed_at", 2).await;
        let mut guesses = tokio::task::JoinSet::new();
        let count = if std::env::var_os("HERDSMAN_SOAK").is_some() { 10_000 } else { 2_000 };
        for number in 0..count {
            // Keys of both lengths, a neighbour of the real one among them, and processes that nobody has.
            let process = if number % 2 == 0 { real.process } else { number + 1 };
            let secret = match number % 4 {
                0 => (real.secret ^ (1 << (number / 4 % 32))).to_be_bytes().to_vec(),
                1 => fastrand::u32(..).to_be_bytes().to_vec(),
                2 => vec![u8::try_from(number % 251).unwrap(); 32],
                _ => real.secret.to_be_bytes().to_vec(),
            };
            let port = running.port();
            guesses.spawn(async move { ask_to_cancel(port, process, &secret).await });
            if guesses.len() >= 100 {
                assert_eq!(guesses.join_next().await.unwrap().unwrap(), b"", "nothing is said about it");
            }
        }
        for told in guesses.join_all().await {
            assert_eq!(told, b"");
        }
        assert_eq!(running_there(&primary, "guessed_at").await, 2);
        // The real one works, and is answered as the others were.
        let told = ask_to_cancel(running.port(), real.process, &real.secret.to_be_bytes()).await;
        assert_eq!(told, b"");
        until_running(&primary, "guessed_at", 1).await;
        client.cancel_token().cancel_query(NoTls).await.unwrap();
        assert!(is_cancelled(&sleeping.await.unwrap()));
        running.stop().await;
    }
}

/// Somebody who has logged in, and the key it was given.
struct OwnKey {
    socket: TcpStream,
    process: u32,
    secret: u32,
}

/// Logs in to a gateway that asks no password of who is on this machine, beside the one at hand.
async fn own_key(running: &Running) -> OwnKey {
    running.reload("trust_loopback: true").unwrap();
    let mut socket = TcpStream::connect(("127.0.0.1", running.port())).await.unwrap();
    let parameters = b"\0\x03\0\0user\0app\0database\0postgres\0\0";
    let length = u32::try_from(parameters.len() + 4).unwrap().to_be_bytes();
    socket.write_all(&[&length[..], parameters].concat()).await.unwrap();
    let (mut process, mut secret) = (0, 0);
    loop {
        let kind = socket.read_u8().await.unwrap();
        let length = usize::try_from(socket.read_u32().await.unwrap()).unwrap();
        let mut body = vec![0; length - 4];
        socket.read_exact(&mut body).await.unwrap();
        match kind {
            b'K' => {
                process = u32::from_be_bytes(body[..4].try_into().unwrap());
                secret = u32::from_be_bytes(body[4..].try_into().unwrap());
            }
            b'Z' => return OwnKey { socket, process, secret },
            _ => {}
        }
    }
}

/// Asks for a cancellation, and comes back with what is said about it.
async fn ask_to_cancel(port: u16, process: u32, secret: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let length = u32::try_from(12 + secret.len()).unwrap().to_be_bytes();
    let request = [&length[..], &80_877_102_u32.to_be_bytes(), &process.to_be_bytes(), secret];
    socket.write_all(&request.concat()).await.unwrap();
    let mut told = Vec::new();
    let reading = socket.read_to_end(&mut told);
    tokio::time::timeout(harness::DEADLINE, reading).await.unwrap().unwrap();
    told
}
