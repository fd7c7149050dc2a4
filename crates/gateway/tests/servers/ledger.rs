//! A ledger of a PostgreSQL, a MariaDB and an SQLite, by drivers of PostgreSQL: what they do is on all three.

mod captured;
mod drivers;
mod matrix;
mod pieces;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use herdsman_gateway::{Gateway, GatewayConfig, LedgerDoor};
use herdsman_ledger::engine::{Ack, Condition, Ledger, Settings};
use herdsman_ledger::log::memory::MemoryLog;
use herdsman_ledger::node::{mariadb::mariadb, postgres::postgres, sqlite::sqlite};
use herdsman_node::{Conninfo, Tls};
use herdsman_sandbox::{MariaDb, Sandbox};
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::harness::{connect, eventually};

const PATIENCE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "a-password";

/// A ledger that is served.
struct Served {
    ledger: Ledger,
    gateway: Gateway,
    _postgres: Sandbox,
    _mariadb: MariaDb,
    _folder: tempfile::TempDir,
}

impl Served {
    async fn start(version: u32, ack: Ack) -> Self {
        let (server, other) =
            tokio::join!(Sandbox::builder().pg_version(version).start(), MariaDb::start());
        let (server, other) = (server.unwrap(), other.unwrap());
        let folder = tempfile::tempdir().unwrap();
        let info = Conninfo::from_pairs(server.conninfo("n1", "postgres").unwrap()).unwrap();
        let tls = Tls::new(&info).unwrap();
        let mysql = MySqlConnectOptions::new()
            .host("127.0.0.1")
            .port(other.port())
            .username(MariaDb::USER)
            .password(other.password())
            .database(MariaDb::DATABASE)
            .ssl_mode(MySqlSslMode::Disabled);
        let nodes = vec![
            postgres("pg", info, tls),
            mariadb("maria", mysql),
            sqlite("lite", &folder.path().join("lite.db")),
        ];
        // A machine that is busy makes many conflicts.
        let settings = Settings { deadline: PATIENCE, ack, attempts: 200, ..Settings::default() };
        let log = Arc::new(MemoryLog::default());
        let ledger = Ledger::start(log, nodes, settings).await.unwrap();
        eventually("all nodes follow", async || {
            ledger.status().iter().all(|(.., it)| it.condition == Condition::Following)
        })
        .await;
        let config = serde_json::json!({
            "listen": "127.0.0.1:0", "workers": 2, "users": {"app": {"password": PASSWORD}},
        });
        let config: GatewayConfig = serde_json::from_value(config).unwrap();
        let bound = Gateway::bind(&config).await.unwrap();
        let door = LedgerDoor::new(ledger.clone(), "shop", settings);
        let gateway = Gateway::serve_ledger(bound, config, door).await.unwrap();
        Self { ledger, gateway, _postgres: server, _mariadb: other, _folder: folder }
    }

    fn port(&self) -> u16 {
        self.gateway.addresses()[0].port()
    }

    fn conninfo(&self) -> String {
        format!("host=127.0.0.1 port={} dbname=shop user=app password={PASSWORD}", self.port())
    }

    async fn client(&self) -> Client {
        connect(&self.conninfo()).await.unwrap()
    }

    /// All nodes hold the same.
    async fn alike(&self) {
        let verified = self.ledger.verify(PATIENCE).await.unwrap();
        assert!(verified.alike() && verified.absent.is_empty(), "{verified:?}");
        assert_eq!(verified.nodes.len(), 3);
    }

    /// What a node has, by the ledger's own way.
    async fn at(&self, node: &str, sql: &str) -> Vec<Vec<Option<String>>> {
        self.ledger.barrier(node).await.unwrap();
        let request = herdsman_ledger::engine::request::random_request();
        let done = self.ledger.execute(node, request, &[sql], &[]).await.unwrap();
        done.answers.into_iter().next().unwrap().rows
    }
}

/// The SQLSTATE of an error.
#[track_caller]
fn state<T: std::fmt::Debug>(done: Result<T, tokio_postgres::Error>) -> String {
    done.unwrap_err().code().expect("an error of the server's").code().to_owned()
}

/// The first column of the first row, in text.
async fn one(client: &Client, sql: &str) -> String {
    let rows = client.simple_query(sql).await.unwrap();
    let row = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("null").to_owned()),
        _ => None,
    });
    row.unwrap_or_else(|| panic!("no row: {sql}"))
}

async fn accounts(client: &Client) {
    client
        .batch_execute("CREATE TABLE account (id bigint PRIMARY KEY, name varchar(40) UNIQUE, balance bigint NOT NULL, seen timestamptz)")
        .await
        .unwrap();
    client
        .batch_execute("INSERT INTO account (id, name, balance) SELECT n, 'a' || n, 100 FROM generate_series(1, 4) n")
        .await
        .unwrap();
}

herdsman_sandbox::on_newest_version! {
    /// Several transactions at once move money between accounts, by each driver: no money is made, and none is lost.
    async fn what_drivers_do_at_a_ledger_is_done_on_every_node(version: u32) {
        let served = Served::start(version, Ack::All).await;
        let client = served.client().await;
        accounts(&client).await;
        transactions(&served, &client).await;
        errors(&client).await;
        sessions(&served, &client).await;
        pieces::check(&served).await;
        captured::check(&served).await;
        conflicts(&served).await;
        served.alike().await;
        drivers::sqlx(&served).await;
        drivers::psql(&served).await;
        drivers::psycopg(&served).await;
        drivers::pgx(&served).await;
        drivers::pgjdbc(&served).await;
        served.alike().await;
        served.gateway.stop().await;
    }

    async fn statements_leave_the_same_on_every_make_or_are_refused(version: u32) {
        let served = Served::start(version, Ack::Local).await;
        matrix::check(&served).await;
    }
}

/// Prepared statements, types and transactions are PostgreSQL's own; what is committed is everywhere, the rest nowhere.
async fn transactions(served: &Served, client: &Client) {
    let mut other = served.client().await;
    let insert = "INSERT INTO account (id, name, balance, seen) VALUES ($1, $2, $3, now()) RETURNING seen IS NOT NULL";
    let insert = other.prepare(insert).await.unwrap();
    let row = other.query_one(&insert, &[&10_i64, &"ten", &7_i64]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    let open = other.transaction().await.unwrap();
    open.query_one(&insert, &[&11_i64, &"eleven", &8_i64]).await.unwrap();
    assert_eq!(one(client, "SELECT count(*) FROM account WHERE id >= 10").await, "1");
    open.rollback().await.unwrap();
    let mut open = other.transaction().await.unwrap();
    open.query_one(&insert, &[&12_i64, &"twelve", &9_i64]).await.unwrap();
    let part = open.savepoint("part").await.unwrap();
    part.query_one(&insert, &[&13_i64, &"thirteen", &9_i64]).await.unwrap();
    part.rollback().await.unwrap();
    open.commit().await.unwrap();
    for node in ["pg", "maria", "lite"] {
        let rows = served.at(node, "SELECT id FROM account WHERE id >= 10 ORDER BY id").await;
        assert_eq!(rows, [[Some("10".to_owned())], [Some("12".to_owned())]], "{node}");
    }
    let typed = client.query_one("SELECT id, name, seen FROM account WHERE id = 12", &[]).await;
    let typed = typed.unwrap();
    assert_eq!((typed.get::<_, i64>(0), typed.get::<_, &str>(1)), (12, "twelve"));
    assert!(typed.get::<_, std::time::SystemTime>(2) <= std::time::SystemTime::now());
    // Several statements in one text are one transaction.
    let two = "INSERT INTO account VALUES (20, 'twenty', 0, NULL); INSERT INTO account VALUES (20, 'again', 0, NULL)";
    assert_eq!(state(client.batch_execute(two).await), "23505");
    assert_eq!(one(client, "SELECT count(*) FROM account WHERE id = 20").await, "0");
    client
        .batch_execute(
            "BEGIN; INSERT INTO account VALUES (20, 'twenty', 0, NULL); COMMIT; SELECT 1",
        )
        .await
        .unwrap();
    assert_eq!(one(client, "SELECT count(*) FROM account WHERE id = 20").await, "1");
}

/// Errors have their SQLSTATEs, and a transaction that has failed is over.
async fn errors(client: &Client) {
    for (sql, expected) in [
        ("INSERT INTO account VALUES (1, 'x', 0, NULL)", "23505"),
        ("SELECT nothing", "42703"),
        ("TRUNCATE account", "0A000"),
        ("COPY account TO STDOUT", "0A000"),
        ("SELECT set_config('herdsman.capture', 'off', false)", "0A000"),
        ("SET search_path = elsewhere", "0A000"),
        ("SET herdsman.read = always", "22023"),
        ("SAVEPOINT a", "25P01"),
        ("CREATE TABLE t (id serial PRIMARY KEY)", "0A000"),
        ("INSERT INTO pg_class DEFAULT VALUES", "0A000"),
    ] {
        assert_eq!(state(client.batch_execute(sql).await), expected, "{sql}");
        assert_eq!(state(client.query(sql, &[]).await), expected, "extended: {sql}");
    }
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(state(client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await), "25001");
    assert_eq!(state(client.batch_execute("SELECT 1").await), "25P02");
    assert_eq!(state(client.query("SELECT 1", &[]).await), "25P02");
    // The end of what has failed is no commit.
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(one(client, "SELECT 1").await, "1");
    assert_eq!(state(client.query_one("SELECT $1::int / 0", &[&1]).await), "22012");
}

/// Settings, cancelling, who may come in, and how fresh reads are.
async fn sessions(served: &Served, client: &Client) {
    client.batch_execute("SET timezone = 'Europe/Amsterdam'").await.unwrap();
    client.batch_execute("BEGIN; SET statement_timeout = '50s'; COMMIT").await.unwrap();
    client.batch_execute("BEGIN; SET statement_timeout = '10s'; ROLLBACK").await.unwrap();
    assert_eq!(one(client, "SHOW timezone").await, "Europe/Amsterdam");
    assert_eq!(one(client, "SHOW statement_timeout").await, "50s");
    client.batch_execute("RESET statement_timeout").await.unwrap();
    let other = served.client().await;
    for level in ["linearizable", "session", "eventual"] {
        other.batch_execute(&format!("SET herdsman.read = '{level}'")).await.unwrap();
        assert_eq!(one(&other, "SHOW herdsman.read").await, level);
    }
    // What one session has written another one sees that is told its offset.
    client.batch_execute("UPDATE account SET balance = 1234 WHERE id = 20").await.unwrap();
    let offset = one(client, "SHOW herdsman.offset").await;
    assert!(offset.parse::<u64>().unwrap() > 0, "{offset}");
    other
        .batch_execute(&format!("SET herdsman.read = session; SET herdsman.offset = {offset}"))
        .await
        .unwrap();
    assert_eq!(one(&other, "SELECT balance FROM account WHERE id = 20").await, "1234");
    let cancel = client.cancel_token();
    let slow = client.query("SELECT pg_sleep(600)", &[]);
    let cancelling = async {
        let asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND wait_event = 'PgSleep'";
        eventually("it sleeps", async || one(&other, asleep).await != "0").await;
        cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
    };
    let (slow, ()) = tokio::join!(slow, cancelling);
    assert_eq!(state(slow), "57014");
    assert_eq!(one(client, "SELECT 2").await, "2");
    let refused = |with: (&str, &str)| served.conninfo().replace(with.0, with.1);
    assert_eq!(state(connect(&refused((PASSWORD, "wrong"))).await.map(drop)), "28P01");
    assert_eq!(state(connect(&refused(("shop", "other"))).await.map(drop)), "3D000");
}

/// Who was first commits; what stands alone is done again, and what does not is told so.
async fn conflicts(served: &Served) {
    let (one_of_them, mut other) = (served.client().await, served.client().await);
    one_of_them.batch_execute("BEGIN").await.unwrap();
    assert_eq!(one(&one_of_them, "SELECT balance FROM account WHERE id = 1").await, "100");
    let done = other.transaction().await.unwrap();
    done.batch_execute("UPDATE account SET balance = balance + 1 WHERE id = 1").await.unwrap();
    done.commit().await.unwrap();
    let late =
        one_of_them.batch_execute("UPDATE account SET balance = balance + 1 WHERE id = 1").await;
    let late = match late {
        Ok(()) => one_of_them.batch_execute("COMMIT").await,
        refused => refused,
    };
    assert_eq!(state(late), "40001");
    one_of_them.batch_execute("ROLLBACK").await.unwrap();
    // Write skew is for SERIALIZABLE to find.
    let skew =
        "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT sum(balance) FROM account WHERE id IN (3, 4)";
    one_of_them.batch_execute(skew).await.unwrap();
    other.batch_execute(skew).await.unwrap();
    one_of_them.batch_execute("UPDATE account SET balance = 0 WHERE id = 3; COMMIT").await.unwrap();
    let second = other.batch_execute("UPDATE account SET balance = 0 WHERE id = 4; COMMIT").await;
    assert_eq!(state(second), "40001");
    other.batch_execute("ROLLBACK").await.unwrap();
    other.batch_execute("UPDATE account SET balance = 100 WHERE id IN (1, 3, 4)").await.unwrap();
    let (clients, each) = (4_i64, 5_i64);
    let counting = (0..clients).map(|_| async {
        let client = served.client().await;
        let add =
            client.prepare("UPDATE account SET balance = balance + $1 WHERE id = 2").await.unwrap();
        for _ in 0..each {
            assert_eq!(client.execute(&add, &[&1_i64]).await.unwrap(), 1);
        }
    });
    futures_util::future::join_all(counting).await;
    let counted = one(&other, "SELECT balance FROM account WHERE id = 2").await;
    assert_eq!(counted, (100 + clients * each).to_string());
}

/// What a program of another language finds the ledger by.
fn environment(served: &Served) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("PGHOST", "127.0.0.1".to_owned()),
        ("PGPORT", served.port().to_string()),
        ("PGUSER", "app".to_owned()),
        ("PGPASSWORD", PASSWORD.to_owned()),
        ("PGDATABASE", "shop".to_owned()),
    ])
}
