//! Every way to a client beside every way to a server: TCP, TLS and a Unix socket. What the gateway hears of each comes to it
//! in another way, and what it does not hear is a client that waits for ever.

use std::fmt;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use futures_util::{SinkExt as _, TryStreamExt as _};
use herdsman_gateway::Gateway;
use herdsman_node::{Conninfo, Tls};
use herdsman_sandbox::Sandbox;
use tempfile::TempDir;
use tokio::net::{TcpStream, UnixListener};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::harness;

/// For all of one pair's work, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Tcp,
    Tls,
    Unix,
}

const WAYS: [Way; 3] = [Way::Tcp, Way::Tls, Way::Unix];

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A Unix socket whose every connection goes on to a TCP port of this machine: to the gateway it is a server's own.
struct Door {
    folder: TempDir,
    passing: JoinHandle<()>,
}

impl Door {
    fn to(port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(format!(".s.PGSQL.{port}"))).unwrap();
        let passing = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    // Whoever hangs up first.
                    let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { folder, passing }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.passing.abort();
    }
}

/// A gateway that shows clients a certificate and has a Unix socket.
struct Gate {
    gateway: Gateway,
    folder: PathBuf,
    password: String,
}

impl Gate {
    async fn client(&self, way: Way) -> Client {
        let (folder, authority) =
            (self.folder.display().to_string(), self.folder.join("cert.pem").display().to_string());
        let port = self.gateway.addresses()[0].port().to_string();
        let mut pairs = vec![
            ("host", if way == Way::Unix { folder.as_str() } else { "127.0.0.1" }),
            ("port", &port),
            ("user", "app"),
            ("dbname", "postgres"),
            ("password", &self.password),
            ("sslmode", if way == Way::Tls { "verify-full" } else { "disable" }),
        ];
        if way == Way::Tls {
            pairs.push(("sslrootcert", &authority));
        }
        let info = Conninfo::from_pairs(pairs).unwrap();
        let tls = Tls::new(&info).unwrap();
        let connected = herdsman_node::connect(&info, &tls, harness::DEADLINE).await.unwrap();
        let (client, driver) = connected.split(|_| {});
        tokio::spawn(driver);
        client
    }
}

fn certificate(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

/// One column of text, summed up: how many rows, and how long they are together.
async fn sum(client: &Client, sql: &str) -> (usize, usize) {
    let rows = client.query_raw(sql, &[] as &[&str]).await.unwrap();
    let sum = |(rows, bytes), row: tokio_postgres::Row| async move {
        Ok((rows + 1, bytes + row.get::<_, &str>(0).len()))
    };
    rows.try_fold((0, 0), sum).await.unwrap()
}

/// What clients do: words to and fro, many at once, much at once in both directions, errors, transactions.
async fn work(client: &Client, number: usize) {
    for round in 0..20_i32 {
        let said = client.simple_query(&format!("SELECT {round}; SELECT 'then'")).await.unwrap();
        assert_eq!(said.len(), 6, "{said:?}");
        let row = client.query_one("SELECT $1::int4 + 1", &[&round]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), round + 1);
    }
    let pipelined = (0..300_i32).map(|n| async move {
        Ok::<i32, tokio_postgres::Error>(client.query_one("SELECT $1::int4", &[&n]).await?.get(0))
    });
    let expected: Vec<i32> = (0..300).collect();
    assert_eq!(try_join_all(pipelined).await.unwrap(), expected);

    assert_eq!(sum(client, "SELECT repeat('x', 1000000)").await, (1, 1_000_000));
    assert_eq!(
        sum(client, "SELECT repeat('y', 90) FROM generate_series(1, 10000)").await,
        (10_000, 900_000)
    );
    let long = "z".repeat(1_000_000);
    let row = client.query_one("SELECT length($1::text), $1::text", &[&long]).await.unwrap();
    assert_eq!((row.get::<_, i32>(0), row.get::<_, &str>(1)), (1_000_000, long.as_str()));

    let failed = client.simple_query("SELECT 1/0").await.unwrap_err();
    assert_eq!(failed.code().map(|code| code.code()), Some("22012"));
    let table = format!("copied_{number}");
    client.batch_execute(&format!("BEGIN; CREATE TABLE {table} (t text)")).await.unwrap();
    let sink =
        client.copy_in::<_, Cursor<Vec<u8>>>(&format!("COPY {table} FROM STDIN")).await.unwrap();
    futures_util::pin_mut!(sink);
    let line = [b"w".repeat(999).as_slice(), b"\n"].concat();
    for _ in 0..1_000 {
        sink.feed(Cursor::new(line.clone())).await.unwrap();
    }
    assert_eq!(sink.finish().await.unwrap(), 1_000);
    client.batch_execute("COMMIT").await.unwrap();
    let out = client.copy_out(&format!("COPY {table} TO STDOUT")).await.unwrap();
    let bytes = out.try_fold(0, |sum, part| async move { Ok(sum + part.len()) }).await.unwrap();
    assert_eq!(bytes, 1_000_000);
    client.batch_execute(&format!("DROP TABLE {table}")).await.unwrap();
}

herdsman_sandbox::on_newest_version! {
    async fn everything_gets_through_from_every_kind_of_client_to_every_kind_of_server(version: u32) {
        let cluster = Sandbox::builder().pg_version(version).tls(true).start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        certificate(folder.path());
        let dir = folder.path().display();
        // Two server connections for six clients: each is given from one way to another.
        let extra = format!(
            "unix_socket_dir: {dir}\ntls: {{ cert: {dir}/cert.pem, key: {dir}/key.pem }}\npool: {{ size: 2 }}"
        );
        let running = harness::gateway(&cluster, &extra).await;
        let port = cluster.conninfo("n1", "app").unwrap()["port"].parse().unwrap();
        let door = Door::to(port);
        for server in WAYS {
            let mut setup = running.setup.clone();
            let keys: Vec<(&str, String)> = match server {
                Way::Tls => vec![],
                Way::Tcp => vec![("sslmode", "disable".to_owned())],
                Way::Unix => vec![
                    ("sslmode", "disable".to_owned()),
                    ("host", door.folder.path().display().to_string()),
                ],
            };
            for (name, info) in &mut setup.nodes {
                let mut pairs = cluster.conninfo(name.as_str(), "herdsman").unwrap();
                pairs.extend(keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
                *info = Conninfo::from_pairs(pairs).unwrap();
            }
            let gate = Gate {
                gateway: Gateway::start(setup).await.unwrap(),
                folder: folder.path().to_owned(),
                password: running.password("app").to_owned(),
            };
            let clients = join_all(WAYS.into_iter().flat_map(|way| [way; 2]).map(|way| gate.client(way))).await;
            let works = clients.iter().enumerate().map(|(number, client)| work(client, number));
            let done = tokio::time::timeout(PATIENCE, join_all(works)).await;
            assert!(done.is_ok(), "somebody waits for ever before a server over {server}");
            let sessions = "SELECT count(*) FILTER (WHERE s.ssl), count(*) FROM pg_stat_activity JOIN pg_stat_ssl AS s USING (pid) WHERE usename = 'app' AND pid = pg_backend_pid()";
            let row = clients[0].query_one(sessions, &[]).await.unwrap();
            let secured = i64::from(server == Way::Tls);
            assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (secured, 1), "{server}");
            drop(clients);
            gate.gateway.stop().await;
        }
        running.stop().await;
    }
}
