//! Clients that mean no good, and a server that lies. The gateway goes on serving everybody else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use herdsman_gateway::Gateway;
use herdsman_sandbox::Sandbox;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::harness::{self, DEADLINE, Running, connect, eventually};

/// Connections that say nothing: as many as a test may have open beside others, and with `HERDSMAN_SOAK` thousands.
const SILENT: usize = 150;
const SILENT_SOAK: usize = 3000;

async fn value(client: &Client, query: &str) -> Result<String, tokio_postgres::Error> {
    let messages = client.simple_query(query).await?;
    let value = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(ToOwned::to_owned),
        _ => None,
    });
    Ok(value.unwrap_or_default())
}

/// A sum over one column of `SHOW POOLS`, without the console's own.
async fn pools(console: &Client, column: &str) -> u64 {
    let messages = console.simple_query("SHOW POOLS").await.unwrap();
    let count = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) if row.get("database") == Some("postgres") => {
            row.get(column)?.parse::<u64>().ok()
        }
        _ => None,
    };
    messages.iter().filter_map(count).sum()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind][..], &length, body].concat()
}

/// A whole conversation of a client that needs no password: a login, a transaction in either protocol, and the end.
fn conversation() -> Vec<u8> {
    let parameters = b"\0\x03\0\0user\0app\0database\0postgres\0\0";
    let length = u32::try_from(parameters.len() + 4).unwrap().to_be_bytes();
    let mut bytes = [&length[..], parameters].concat();
    bytes.extend(message(b'Q', b"BEGIN\0"));
    bytes.extend(message(b'Q', b"INSERT INTO cut VALUES (1)\0"));
    bytes.extend(message(b'P', b"s\0INSERT INTO cut VALUES ($1)\0\0\0"));
    bytes.extend(message(b'B', b"\0s\0\0\0\0\x01\0\0\0\x012\0\0"));
    bytes.extend(message(b'E', b"\0\0\0\0\0"));
    bytes.extend(message(b'S', b""));
    bytes.extend(message(b'Q', b"ROLLBACK\0"));
    bytes.extend(message(b'X', b""));
    bytes
}

/// Says `bytes`, hears a little of the answer where `listens`, and is gone.
async fn cut_off(port: u16, bytes: &[u8], listens: bool) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // The gateway may have closed already, as it does after the last message.
    let _closed = socket.write_all(bytes).await;
    if listens {
        let mut answer = [0; 64];
        let _late = timeout(Duration::from_millis(20), socket.read(&mut answer)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_cut_off_at_any_byte_leaves_nothing_behind() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "trust_loopback: true\npool: { size: 4 }").await;
    let client = running.connect("postgres", "app").await;
    client.batch_execute("CREATE TABLE cut (n int)").await.unwrap();
    let (bytes, port) = (Arc::new(conversation()), running.port());
    let at_once = Arc::new(Semaphore::new(16));
    let mut cuts = JoinSet::new();
    for end in 0..=bytes.len() {
        let (bytes, at_once) = (Arc::clone(&bytes), Arc::clone(&at_once));
        cuts.spawn(async move {
            let _turn = at_once.acquire().await.unwrap();
            // Those that do not listen have their answers thrown at a closed socket.
            cut_off(port, &bytes[..end], end % 2 == 0).await;
        });
    }
    while let Some(ended) = cuts.join_next().await {
        ended.unwrap();
    }
    let console = running.console().await;
    eventually("every server connection is free", async || pools(&console, "sv_active").await == 0)
        .await;
    eventually("every client but one is gone", async || {
        pools(&console, "cl_active").await + pools(&console, "cl_waiting").await == 1
    })
    .await;
    assert_eq!(
        value(&client, "/* herdsman: writer */ SELECT count(*) FROM cut").await.unwrap(),
        "0"
    );
    let open = "/* herdsman: writer */ SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%' AND usename = 'app'";
    assert_eq!(value(&client, open).await.unwrap(), "0", "no transaction is left open");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_say_nothing_keep_nobody_out_and_are_sent_away_in_time() {
    let count = if std::env::var_os("HERDSMAN_SOAK").is_some() { SILENT_SOAK } else { SILENT };
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "login_timeout: 5s\nmax_clients: 20000").await;
    let mut silent = Vec::new();
    for number in 0..count {
        let mut socket = TcpStream::connect(("127.0.0.1", running.port())).await.unwrap();
        // Nothing, or the beginning of something.
        let begun = &conversation()[..number % 20];
        socket.write_all(begun).await.unwrap();
        silent.push(socket);
    }
    let client = running.connect("postgres", "app").await;
    assert_eq!(value(&client, "SELECT 1").await.unwrap(), "1");
    for mut socket in silent {
        let mut rest = Vec::new();
        let ended = timeout(DEADLINE, socket.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "it is still connected");
    }
    assert_eq!(value(&client, "SELECT 1").await.unwrap(), "1", "who is logged in stays");
    running.stop().await;
}

/// What a server says instead of an answer, by the word that a query has in it.
const LIES: [(&str, &[u8]); 9] = [
    // No SQLSTATE, and nothing else: PgBouncer's CVE-2026-6666.
    ("lie_no_sqlstate", b"E\0\0\0\x05\0Z\0\0\0\x05I"),
    ("lie_short_length", b"D\0\0\0\x02\0\x01"),
    ("lie_negative_length", b"D\xff\xff\xff\xff\0\x01"),
    ("lie_huge_length", b"T\x7f\xff\xff\xff\0\x01"),
    ("lie_unknown_message", b"\0\0\0\0\x04"),
    ("lie_login_again", b"R\0\0\0\x08\0\0\0\0"),
    ("lie_copy", b"W\0\0\0\x07\0\0\0Z\0\0\0\x05I"),
    ("lie_half_a_message", b"T\0\0\0\x20\0\x01n"),
    ("lie_nothing", b""),
];

/// Stands before a server, passes everything on, and lies where it is asked to. Lies that are no end are followed by
/// silence.
async fn liar(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(server).await.unwrap();
            tokio::spawn(between(client, server));
        }
    });
    address
}

async fn between(mut client: TcpStream, mut server: TcpStream) {
    let (mut from_client, mut from_server) = (vec![0; 65536], vec![0; 65536]);
    let mut silent = false;
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(count @ 1..) = read else { return };
                let said = &from_client[..count];
                let asked = |word: &str| said.windows(word.len()).any(|part| part == word.as_bytes());
                if let Some((word, lie)) = LIES.iter().find(|(word, _)| asked(word)) {
                    silent = true;
                    if client.write_all(lie).await.is_err() || *word == "lie_half_a_message" {
                        return;
                    }
                } else if server.write_all(said).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(count @ 1..) = read else { return };
                if !silent && client.write_all(&from_server[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A gateway beside the harness's own, with a liar before the server.
async fn lied_to(cluster: &Sandbox, running: &Running) -> Gateway {
    let mut setup = running.setup.clone();
    let server = SocketAddr::from(([127, 0, 0, 1], cluster.server_port("n1").unwrap()));
    let liar = liar(server).await;
    for info in setup.nodes.values_mut() {
        info.port = liar.port();
    }
    // Silence ends by this.
    setup.config.pool.query_timeout = Duration::from_secs(2);
    setup.config.pool.connect_timeout = Duration::from_secs(2);
    Gateway::start(setup).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lies_costs_its_client_an_error_and_nobody_else_anything() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "").await;
    let gateway = lied_to(&cluster, &running).await;
    let port = gateway.addresses()[0].port();
    let to = running
        .conninfo("postgres", "app")
        .replace(&format!("port={}", running.port()), &format!("port={port}"));
    let bystander = connect(&to).await.unwrap();
    assert_eq!(value(&bystander, "SELECT 1").await.unwrap(), "1");
    for (lie, _) in LIES {
        let victim = connect(&to).await.unwrap();
        // To the writer, which a read is not sent to another node of.
        let asked = format!("/* herdsman: writer */ SELECT '{lie}'");
        let told = timeout(DEADLINE, value(&victim, &asked)).await;
        let told = told.unwrap_or_else(|_| panic!("{lie}: the client waits for ever"));
        assert!(told.is_err(), "{lie}: {told:?}");
        let answer = timeout(DEADLINE, value(&bystander, "SELECT 'true'")).await;
        assert_eq!(answer.unwrap().unwrap(), "true", "{lie}");
    }
    gateway.stop().await;
    running.stop().await;
}
