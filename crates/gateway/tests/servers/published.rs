//! What was published of PgBouncer in 2025 and 2026, tried here. The numbers are those of the advisories.

use std::net::SocketAddr;
use std::sync::Arc;

use herdsman_gateway::Gateway;
use herdsman_sandbox::Sandbox;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::harness::{self, DEADLINE, connect};

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind][..], &length, body].concat()
}

/// A first packet with these parameters.
fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = b"\0\x03\0\0".to_vec();
    for (name, value) in parameters {
        body.extend_from_slice(&[name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&length[..], &body].concat()
}

/// What a client hears until it is sent away.
async fn told(port: u16, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut told = Vec::new();
    // One that is cut off has heard what it was to hear.
    let _cut_off =
        timeout(DEADLINE, socket.read_to_end(&mut told)).await.expect("it stays connected");
    String::from_utf8_lossy(&told).into_owned()
}

/// 2025-12819: a search path of the client's own is not the one that users are looked up with. 2025-2291: a password that has
/// expired lets nobody in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_cannot_choose_where_it_is_looked_up_and_an_expired_password_is_none() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let root = cluster.sql("n1", "postgres").await.unwrap();
    root.batch_execute(
        "CREATE FUNCTION public.lookup(name) RETURNS TABLE (n name, v text) LANGUAGE plpgsql AS
            $$ BEGIN RETURN QUERY SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1; END $$;
         CREATE ROLE victim LOGIN PASSWORD 'right';
         CREATE ROLE late LOGIN PASSWORD 'right' VALID UNTIL '2020-01-01';
         CREATE ROLE known LOGIN PASSWORD 'wrong';
         CREATE SCHEMA evil;
         CREATE TABLE evil.pg_authid AS
            SELECT 'victim'::name AS rolname, rolpassword FROM pg_authid WHERE rolname = 'known';
         GRANT USAGE ON SCHEMA evil TO public; GRANT SELECT ON evil.pg_authid TO public",
    )
    .await
    .unwrap();
    let careless = "auth_query: { user: postgres, query: 'SELECT * FROM public.lookup($1)' }";
    for query in [careless, "auth_query: { user: postgres }"] {
        let running = harness::gateway(&cluster, query).await;
        let login = |user: &str, password: &str, more: &str| {
            let port = running.port();
            format!(
                "host=127.0.0.1 port={port} dbname=postgres sslmode=disable user={user} password={password} {more}"
            )
        };
        for path in
            ["options='-c search_path=evil,pg_catalog'", "options='-csearch_path=evil,pg_catalog'"]
        {
            let refused = connect(&login("victim", "wrong", path)).await.err().unwrap();
            assert_eq!(refused.code().unwrap().code(), "28P01", "{query} {path}");
        }
        assert!(connect(&login("victim", "right", "")).await.is_ok(), "{query}");
        if query != careless {
            let refused = connect(&login("late", "right", "")).await.err().unwrap();
            assert_eq!(refused.code().unwrap().code(), "28P01");
        }
        running.stop().await;
    }
}

/// 2026-107350: a second first packet in the midst of a login. 2026-107349: options without a name. 2026-6664, 2026-6668,
/// 2026-107348: lengths that overflow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_says_before_it_has_logged_in_is_one_login_of_its_own() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "databases: { postgres: }").await;
    let client = running.connect("postgres", "app").await;
    let begun = |database: &str| startup(&[("user", "app"), ("database", database)]);
    let again = startup(&[("user", "postgres"), ("database", "herdsman")]);
    for database in ["postgres", "nowhere"] {
        let said = told(running.port(), &[begun(database), again.clone()].concat()).await;
        assert!(said.contains("08P01") && !said.contains("server_version"), "{database}: {said}");
    }
    for options in ["-c=", "-c =", "-c", "--=", "-c ''='' -c \\", "-c=-c=-c="] {
        let said = told(
            running.port(),
            &[
                startup(&[("user", "app"), ("database", "postgres"), ("options", options)]),
                message(b'X', b""),
            ]
            .concat(),
        )
        .await;
        assert!(!said.contains("server_version"), "{options}: {said}");
    }
    for length in [0x8000_0001_u32, u32::MAX, u32::MAX - 3, 0x7fff_ffff, 3, 0] {
        let first = [&length.to_be_bytes()[..], b"\0\x03\0\0user\0app\0\0"].concat();
        assert_eq!(told(running.port(), &first).await, "", "{length:x}");
        let step = [&begun("postgres")[..], b"p", &length.to_be_bytes(), b"SCRAM"].concat();
        let said = told(running.port(), &step).await;
        assert!(said.contains("08P01"), "{length:x}: {said}");
    }
    client.batch_execute("SELECT 1").await.unwrap();
    running.stop().await;
}

/// What a server says to a login.
#[derive(Clone, Copy, Debug)]
enum Login {
    /// 2026-6665: a nonce that is longer than any buffer.
    LongNonce,
    /// The same, and more of it at the end.
    LongEnd,
    /// 2026-6666: an error without a SQLSTATE, or with nothing at all.
    NoSqlstate,
    NoFields,
}

/// A server that speaks so.
async fn server(login: Login) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            // One that is left in the midst of it has heard enough.
            tokio::spawn(async move { drop(log_in(&mut socket, login).await) });
        }
    });
    address
}

async fn log_in(socket: &mut TcpStream, login: Login) -> std::io::Result<()> {
    let mut said = vec![0; 4096];
    let _startup = socket.read(&mut said).await?;
    match login {
        Login::NoSqlstate => {
            return socket.write_all(&message(b'E', b"SFATAL\0Mno state\0\0")).await;
        }
        Login::NoFields => return socket.write_all(&message(b'E', b"\0")).await,
        Login::LongNonce | Login::LongEnd => {}
    }
    socket.write_all(&message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0")).await?;
    let count = socket.read(&mut said).await?;
    let first = String::from_utf8_lossy(&said[..count]).into_owned();
    let nonce = first.rsplit("r=").next().unwrap_or_default();
    let long = if matches!(login, Login::LongNonce) { "x".repeat(60_000) } else { String::new() };
    let challenge = format!("r={nonce}{long},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    socket.write_all(&message(b'R', &[&[0, 0, 0, 11], challenge.as_bytes()].concat())).await?;
    let _proof = socket.read(&mut said).await?;
    let end = format!("v={}", "A".repeat(60_000));
    socket.write_all(&message(b'R', &[&[0, 0, 0, 12], end.as_bytes()].concat())).await?;
    let _rest = socket.read(&mut said).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lies_at_the_login_costs_its_clients_an_error_and_nobody_else_anything() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "hold: 1s").await;
    let good = running.connect("postgres", "app").await;
    for login in [Login::LongNonce, Login::LongEnd, Login::NoSqlstate, Login::NoFields] {
        let liar = server(login).await;
        let mut setup = running.setup.clone();
        for info in setup.nodes.values_mut() {
            info.port = liar.port();
        }
        setup.config.pool.connect_timeout = std::time::Duration::from_secs(2);
        setup.config.pool.queue_timeout = std::time::Duration::from_secs(2);
        let gateway = Gateway::start(setup).await.unwrap();
        let to = running.conninfo("postgres", "app").replace(
            &format!("port={}", running.port()),
            &format!("port={}", gateway.addresses()[0].port()),
        );
        // Several, so that what one has left behind would hurt the next.
        let to = Arc::new(to);
        for _ in 0..3 {
            let refused = timeout(DEADLINE, connect(&to)).await;
            let refused = refused.unwrap_or_else(|_| panic!("{login:?}: it waits for ever"));
            assert!(refused.is_err(), "{login:?}");
        }
        good.batch_execute("SELECT 1").await.unwrap();
        gateway.stop().await;
    }
    running.stop().await;
}
