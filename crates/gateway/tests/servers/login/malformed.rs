//! Clients that send anything but the protocol harm nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use herdsman_sandbox::Sandbox;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{self, Running};

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

fn startup() -> Vec<u8> {
    let body = b"\0\x03\0\0user\0app\0database\0postgres\0\0";
    let mut bytes = u32::try_from(body.len() + 4).unwrap().to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

/// What a client could say after its login, in order.
fn session() -> Vec<u8> {
    [
        message(b'Q', b"SELECT 1; SELECT 2\0"),
        message(b'P', b"s1\0SELECT $1::int\0\0\0"),
        message(b'D', b"Ss1\0"),
        message(b'B', b"p1\0s1\0\0\0\0\x01\0\0\0\x017\0\0"),
        message(b'E', b"p1\0\0\0\0\0"),
        message(b'C', b"Ss1\0"),
        message(b'S', b""),
        message(b'Q', b"BEGIN\0"),
        message(b'Q', b"COPY (SELECT 1) TO STDOUT\0"),
        message(b'H', b""),
        message(b'Q', b"ROLLBACK\0"),
        message(b'd', b"1\n"),
        message(b'c', b""),
        message(b'X', b""),
    ]
    .concat()
}

fn mutated(random: &mut fastrand::Rng, from: &[u8]) -> Vec<u8> {
    let mut bytes = from.to_vec();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(0..bytes.len().max(1));
        match random.u8(0..4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at.min(bytes.len()), random.u8(..)),
            2 if !bytes.is_empty() => drop(bytes.remove(at)),
            _ => {
                let any = random.u8(..);
                let byte = [0, 1, 0x7f, 0x80, 0xff, any][random.usize(..6)];
                bytes.get_mut(at).into_iter().for_each(|place| *place = byte);
            }
        }
    }
    bytes
}

/// Sends bytes as a client that then leaves, or stays until it is sent away.
async fn throw(running: &Running, login: bool, bytes: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", running.port())).await.unwrap();
    if login {
        stream.write_all(&startup()).await.unwrap();
    }
    // It may have been sent away already.
    drop(stream.write_all(bytes).await);
    drop(stream.shutdown().await);
    let mut answers = Vec::new();
    let read = tokio::time::timeout(harness::DEADLINE, stream.read_to_end(&mut answers)).await;
    assert!(read.is_ok(), "a client that has left is still here: {bytes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_client_sends_others_get_their_own_answers() {
    let cluster = Sandbox::builder().standbys(1).start().await.unwrap();
    // The same pools for all, and few connections.
    let extra = "trust_loopback: true\npool: { size: 2 }\nlogin_timeout: 2s";
    let running = harness::gateway(&cluster, extra).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut good = Vec::new();
    for client in 0..4_i32 {
        let connection = running.connect("postgres", "app").await;
        let over = Arc::clone(&over);
        good.push(tokio::spawn(async move {
            let name = format!("c{client}");
            let set = format!("SET application_name TO '{name}'");
            connection.batch_execute(&set).await.unwrap();
            let prepared = connection.prepare("SELECT $1::int4 * 2").await.unwrap();
            let mut rounds = 0_i32;
            while !over.load(Ordering::Relaxed) || rounds == 0 {
                let row = connection.query_one(&prepared, &[&(rounds + client)]).await.unwrap();
                assert_eq!(row.get::<_, i32>(0), (rounds + client) * 2);
                let sql = "SELECT current_setting('application_name')";
                let row = connection.query_one(sql, &[]).await.unwrap();
                assert_eq!(row.get::<_, String>(0), name);
                rounds += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }));
    }
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let soak = std::env::var_os("HERDSMAN_SOAK").is_some();
    for round in 0..if soak { 20_000 } else { 300 } {
        let login = round % 3 != 0;
        let said = if login { session() } else { [startup(), session()].concat() };
        let bytes = mutated(&mut random, &said);
        throw(&running, login, &bytes).await;
    }
    over.store(true, Ordering::Relaxed);
    for client in good {
        client.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    running.stop().await;
}
