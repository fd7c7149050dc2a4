//! Logging in and cancelling: psql, tokio-postgres, and clients that do neither.

mod cancel;
mod certificates;
mod malformed;
mod unknown;

use std::path::PathBuf;
use std::process::{Output, Stdio};

use herdsman_sandbox::Sandbox;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::harness::{self, Running};
use certificates::Certificates;

/// psql, with the newest libpq there is: a sandbox's servers may come with one that is newer than psql's own.
fn psql(cluster: &Sandbox, conninfo: &str) -> Command {
    let mut command = Command::new("psql");
    command.args(["-X", "-A", "-t", "-q", "-d", conninfo]).env("PGCONNECT_TIMEOUT", "20");
    if let Some(library) = newer_libpq(cluster) {
        command.env("LD_LIBRARY_PATH", library);
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Where libpq is that knows direct TLS and protocol 3.2.
fn newer_libpq(cluster: &Sandbox) -> Option<PathBuf> {
    let binaries = cluster.binaries();
    let library = binaries.bin_dir.parent()?.join("lib");
    (binaries.major >= 18 && library.join("libpq.so.5").exists()).then_some(library)
}

async fn run(mut command: Command) -> Output {
    let run = tokio::time::timeout(harness::DEADLINE, command.output()).await;
    run.expect("psql took too long").unwrap()
}

/// What psql prints, and whether it got in.
async fn ask(cluster: &Sandbox, conninfo: &str, sql: &str) -> (bool, String) {
    let mut command = psql(cluster, conninfo);
    command.args(["-v", "VERBOSITY=verbose", "-c", sql]);
    let output = run(command).await;
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.success(), said.concat().trim().to_owned())
}

async fn gets_in(cluster: &Sandbox, conninfo: &str, user: &str) {
    let answer = ask(cluster, conninfo, "SELECT current_user").await;
    assert_eq!(answer, (true, user.to_owned()), "{conninfo}");
}

async fn is_refused(cluster: &Sandbox, conninfo: &str, words: &str) {
    let (got_in, said) = ask(cluster, conninfo, "SELECT current_user").await;
    assert!(!got_in && said.contains(words), "{conninfo}: {said}");
}

/// Where to log in, without how.
fn address(running: &Running, user: &str, password: &str) -> String {
    let port = running.port();
    format!("host=127.0.0.1 port={port} dbname=postgres user={user} password={password}")
}

herdsman_sandbox::on_each_version! {
    async fn psql_gets_in_with_every_sslmode(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).start().await.unwrap();
        let certificates = Certificates::new();
        let running = harness::gateway(&cluster, &certificates.yaml(false)).await;
        let login = address(&running, "app", running.password("app"));
        let root = certificates.path("ca.crt");
        let over_tls = format!("{login} sslrootcert={root} sslmode=verify-full");
        for mode in ["disable", "allow", "prefer", "require"] {
            gets_in(&cluster, &format!("{login} sslmode={mode}"), "app").await;
        }
        for mode in ["verify-ca", "verify-full"] {
            gets_in(&cluster, &format!("{login} sslrootcert={root} sslmode={mode}"), "app").await;
        }
        let bound = format!("{over_tls} channel_binding=require");
        gets_in(&cluster, &bound, "app").await;
        let (_, said) = ask(&cluster, &bound, "\\conninfo").await;
        assert!(said.contains("TLSv1.3"), "{said}");
        let wrong = address(&running, "app", "wrong");
        is_refused(&cluster, &format!("{wrong} sslmode=require"), "password authentication failed").await;
        // Its own authority is not the gateway's.
        let stranger = Certificates::new();
        let distrust = format!("{login} sslmode=verify-full sslrootcert={}", stranger.path("ca.crt"));
        is_refused(&cluster, &distrust, "certificate").await;
        if newer_libpq(&cluster).is_some() {
            gets_in(&cluster, &format!("{over_tls} sslnegotiation=direct"), "app").await;
            gets_in(&cluster, &format!("{over_tls} max_protocol_version=latest"), "app").await;
        }
        running.stop().await;
    }

    async fn where_tls_is_required_nobody_comes_without(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).start().await.unwrap();
        let certificates = Certificates::new();
        let running = harness::gateway(&cluster, &certificates.yaml(true)).await;
        let login = address(&running, "app", running.password("app"));
        is_refused(&cluster, &format!("{login} sslmode=disable"), "connections without TLS are refused").await;
        gets_in(&cluster, &format!("{login} sslmode=prefer"), "app").await;
        gets_in(&cluster, &format!("{login} sslmode=allow"), "app").await;
        running.stop().await;
    }

    async fn a_certificate_lets_in_whose_name_it_bears(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).start().await.unwrap();
        let certificates = Certificates::new();
        let extra = format!("{}\nauth: cert", certificates.yaml(true));
        let running = harness::gateway(&cluster, &extra).await;
        let with = |user: &str, name: &str| {
            let (cert, key) = certificates.client(name);
            let login = address(&running, user, "none");
            format!("{login} sslmode=require sslcert={cert} sslkey={key}")
        };
        gets_in(&cluster, &with("app", "app"), "app").await;
        is_refused(&cluster, &with("app", "plain"), "certificate authentication failed").await;
        let none = format!("{} sslmode=require", address(&running, "app", "none"));
        is_refused(&cluster, &none, "certificate authentication failed").await;
        running.stop().await;
    }

    async fn md5_and_the_unix_socket_work(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let extra = format!("auth: md5\nunix_socket_dir: {}", folder.path().display());
        let running = harness::gateway(&cluster, &extra).await;
        let login = address(&running, "app", running.password("app"));
        gets_in(&cluster, &login, "app").await;
        is_refused(&cluster, &address(&running, "app", "wrong"), "password authentication failed").await;
        is_refused(&cluster, &address(&running, "nobody", "wrong"), "password authentication failed").await;
        let at_unix = login.replace("127.0.0.1", &folder.path().display().to_string());
        gets_in(&cluster, &at_unix, "app").await;
        // There is no TLS on a unix socket, and nobody minds.
        gets_in(&cluster, &format!("{at_unix} sslmode=prefer"), "app").await;
        running.stop().await;
    }

    async fn who_may_be_trusted_needs_no_password(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).start().await.unwrap();
        let running = harness::gateway(&cluster, "trust_loopback: true").await;
        gets_in(&cluster, &address(&running, "app", "none"), "app").await;
        is_refused(&cluster, &address(&running, "nobody", "none"), "password authentication failed").await;
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_behind_a_proxy_is_listed_by_its_own_address() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "proxy_protocol: true").await;
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([192, 0, 2, 77, 192, 0, 2, 1, 0x30, 0x39, 0x19, 0x20]);
    let dial = async |database: &str, user: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", running.port())).await.unwrap();
        stream.write_all(&header).await.unwrap();
        let mut config = tokio_postgres::Config::new();
        config.user(user).password(running.password(user)).dbname(database);
        let (client, connection) = config.connect_raw(stream, tokio_postgres::NoTls).await.unwrap();
        drop(tokio::spawn(connection));
        client
    };
    let client = dial("postgres", "app").await;
    client.batch_execute("SELECT 1").await.unwrap();
    let console = dial("herdsman", harness::ADMIN.0).await;
    let rows = console.simple_query("SHOW CLIENTS").await.unwrap();
    let listed = rows.iter().any(|row| match row {
        tokio_postgres::SimpleQueryMessage::Row(row) => {
            row.get("addr") == Some("192.0.2.77") && row.get("user") == Some("app")
        }
        _ => false,
    });
    assert!(listed, "{rows:?}");

    let mut without = TcpStream::connect(("127.0.0.1", running.port())).await.unwrap();
    without.write_all(&[0, 0, 0, 8, 4, 210, 22, 47, 0, 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
    let mut said = Vec::new();
    drop(without.read_to_end(&mut said).await);
    assert!(said.is_empty());
    running.stop().await;
}
