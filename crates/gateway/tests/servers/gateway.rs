//! The gateway as a whole: starting, reloading, draining.

use std::path::Path;

use herdsman_gateway::{Gateway, StartError};
use herdsman_node::{ConnectError, Conninfo, Tls};
use herdsman_sandbox::Sandbox;
use tokio::time::timeout;

use crate::harness::{self, DEADLINE, connect, eventually};

/// The first column of the first row.
async fn ask(client: &tokio_postgres::Client, sql: &str) -> Result<String, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    let row = messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(ToOwned::to_owned),
        _ => None,
    });
    Ok(row.unwrap_or_default())
}

fn code(error: &tokio_postgres::Error) -> String {
    error.code().map(|state| state.code().to_owned()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_gets_through_and_an_address_in_use_is_named() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "").await;
    let client = running.connect("postgres", "app").await;
    assert_eq!(ask(&client, "SELECT current_user").await.unwrap(), "app");
    assert_eq!(running.gateway.clients(), 1);

    let mut config = running.setup.config.clone();
    config.listen = vec![format!("127.0.0.1:{}", running.port())];
    let error = Gateway::bind(&config).await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }));
    let expected =
        format!("failed to listen on 127.0.0.1:{}: Address already in use", running.port());
    assert!(error.to_string().starts_with(&expected), "{error}");

    drop(client);
    eventually("the client is gone", async || running.gateway.clients() == 0).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_drops_nobody_and_changes_users_databases_and_pools() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let password = cluster.credentials().password("app").unwrap().to_owned();
    let users =
        format!("users: {{ app: {{ password: {password:?} }} }}\nadmins: []\nstats_users: []");
    let running = harness::gateway(&cluster, &users).await;
    let client = running.connect("postgres", "app").await;
    client.batch_execute("BEGIN; CREATE TEMP TABLE t (n int) ON COMMIT DROP").await.unwrap();
    assert_eq!(
        code(&connect(&running.conninfo("postgres", "plain")).await.err().unwrap()),
        "28P01"
    );

    let plain = cluster.credentials().password("plain").unwrap();
    let more = format!(
        "users: {{ app: {{ password: {password:?} }}, plain: {{ password: {plain:?} }} }}\nadmins: []\n\
         stats_users: []\ndatabases: {{ shop: {{ dbname: postgres }}, postgres: }}\nlisten: 127.0.0.1:1"
    );
    assert_eq!(running.reload(&more).unwrap(), ["gateway.listen"]);
    let other = running.connect("shop", "plain").await;
    assert_eq!(ask(&other, "SELECT current_database()").await.unwrap(), "postgres");
    assert_eq!(code(&connect(&running.conninfo("none", "plain")).await.err().unwrap()), "3D000");
    assert_eq!(ask(&client, "SELECT count(*) FROM t").await.unwrap(), "0");
    client.batch_execute("COMMIT").await.unwrap();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_clients_leave_at_once_and_transactions_may_end() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "drain_timeout: 20s").await;
    let idle = running.connect("postgres", "app").await;
    let busy = running.connect("postgres", "app").await;
    busy.batch_execute("CREATE TABLE kept (n int)").await.unwrap();
    busy.batch_execute("BEGIN; INSERT INTO kept VALUES (1)").await.unwrap();
    let conninfo = running.conninfo("postgres", "app");
    let stopping = tokio::spawn(running.stop());

    eventually("the idle client is told", async || idle.is_closed()).await;
    eventually("nobody new gets in", async || connect(&conninfo).await.is_err()).await;
    assert!(!busy.is_closed());
    busy.batch_execute("INSERT INTO kept VALUES (2); COMMIT").await.unwrap();
    eventually("the busy client is told", async || busy.is_closed()).await;
    timeout(DEADLINE, stopping).await.unwrap().unwrap();
    let truth = cluster.sql("n1", "app").await.unwrap();
    assert_eq!(ask(&truth, "SELECT count(*) FROM kept").await.unwrap(), "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_does_not_end_is_cut_off_at_the_end_of_the_drain() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "drain_timeout: 300ms").await;
    let client = running.connect("postgres", "app").await;
    client.batch_execute("CREATE TABLE kept (n int)").await.unwrap();
    client.batch_execute("BEGIN; INSERT INTO kept VALUES (1)").await.unwrap();
    timeout(DEADLINE, running.stop()).await.unwrap();
    eventually("the client is cut off", async || client.is_closed()).await;
    assert!(client.batch_execute("COMMIT").await.is_err());
    let truth = cluster.sql("n1", "app").await.unwrap();
    assert_eq!(ask(&truth, "SELECT count(*) FROM kept").await.unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_unix_socket_is_where_libpq_looks_and_goes_with_the_gateway() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let extra = format!("unix_socket_dir: {}", folder.path().display());
    let running = harness::gateway(&cluster, &extra).await;
    let path = folder.path().join(format!(".s.PGSQL.{}", running.port()));
    assert_eq!(running.gateway.unix_socket(), Some(path.as_path()));
    let conninfo = running
        .conninfo("postgres", "app")
        .replace("host=127.0.0.1", &format!("host={}", folder.path().display()));
    let client = connect(&conninfo).await.unwrap();
    assert_eq!(ask(&client, "SELECT 1").await.unwrap(), "1");
    running.stop().await;
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_idle_for_too_long_are_sent_away_and_late_statements_cancelled() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let extra =
        "pool: { client_idle_timeout: 1s, transaction_idle_timeout: 1s, query_timeout: 1s }";
    let running = harness::gateway(&cluster, extra).await;
    let idle = running.connect("postgres", "app").await;
    let thinking = running.connect("postgres", "app").await;
    thinking.batch_execute("BEGIN; CREATE TABLE undone ()").await.unwrap();
    let slow = running.connect("postgres", "app").await;
    let error =
        timeout(DEADLINE, slow.batch_execute("SELECT pg_sleep(600)")).await.unwrap().unwrap_err();
    assert_eq!(code(&error), "57014", "{error:?}");
    eventually("the idle client is sent away", async || idle.is_closed()).await;
    eventually("the thinking client is sent away", async || thinking.is_closed()).await;
    let truth = cluster.sql("n1", "postgres").await.unwrap();
    eventually("its transaction is gone", async || {
        ask(&truth, "SELECT count(*) FROM pg_class WHERE relname = 'undone'").await.unwrap() == "0"
    })
    .await;
    drop(slow);
    running.stop().await;
}

/// A certificate for 127.0.0.1, written to `cert.pem` and `key.pem`. Returns the certificate's bytes.
fn certificate(folder: &Path) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().to_vec()
}

/// Logs in with TLS, trusting `cert.pem` and nothing else.
async fn connect_with_tls(
    running: &harness::Running,
    folder: &Path,
) -> Result<(tokio_postgres::Client, impl Future<Output = String> + Send + use<>), ConnectError> {
    let file = folder.join("cert.pem").display().to_string();
    let port = running.port().to_string();
    let pairs = [
        ("host", "127.0.0.1"),
        ("port", &port),
        ("user", "app"),
        ("dbname", "postgres"),
        ("password", running.password("app")),
        ("sslmode", "verify-full"),
        ("sslrootcert", &file),
    ];
    let info = Conninfo::from_pairs(pairs).unwrap();
    let tls = Tls::new(&info).unwrap();
    Ok(herdsman_node::connect(&info, &tls, DEADLINE).await?.split(|_| {}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_shown_after_a_reload_and_a_broken_one_changes_nothing() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let old = certificate(folder.path());
    let dir = folder.path().display();
    let extra = format!("tls: {{ cert: {dir}/cert.pem, key: {dir}/key.pem, required: true }}");
    let running = harness::gateway(&cluster, &extra).await;
    let (client, driver) = connect_with_tls(&running, folder.path()).await.unwrap();
    let driver = tokio::spawn(driver);
    assert_eq!(ask(&client, "SELECT 1").await.unwrap(), "1");
    assert!(connect(&running.conninfo("postgres", "app")).await.is_err(), "let in without TLS");

    // The new one is trusted, and the gateway still shows the old one.
    assert_ne!(certificate(folder.path()), old);
    assert!(connect_with_tls(&running, folder.path()).await.is_err());
    assert_eq!(running.reload(&extra).unwrap(), [""; 0]);
    let (renewed, renewed_driver) = connect_with_tls(&running, folder.path()).await.unwrap();
    let renewed_driver = tokio::spawn(renewed_driver);
    assert_eq!(ask(&renewed, "SELECT 2").await.unwrap(), "2");

    let mut broken = running.setup.clone();
    broken.config.tls.as_mut().unwrap().key = folder.path().join("none");
    let error = running.gateway.reload(broken).unwrap_err();
    assert!(error.starts_with("failed to read `gateway.tls.key`"), "{error}");
    assert_eq!(ask(&client, "SELECT 3").await.unwrap(), "3");
    assert!(connect_with_tls(&running, folder.path()).await.is_ok());
    drop((client, renewed));
    driver.await.unwrap();
    renewed_driver.await.unwrap();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smaller_pool_holds_after_a_reload() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "pool: { size: 3 }").await;
    let late = running.connect("postgres", "app").await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let client = running.connect("postgres", "app").await;
        client.batch_execute("BEGIN").await.unwrap();
        client.batch_execute("SELECT 1").await.unwrap();
        clients.push(client);
    }
    running.reload("pool: { size: 1, queue_timeout: 200ms }").unwrap();
    // Who has a connection keeps it; nobody gets another until two have come back.
    let write = "INSERT INTO pg_temp.none SELECT 1";
    assert_eq!(code(&late.batch_execute(write).await.unwrap_err()), "53300");
    for client in clients.iter().take(2) {
        client.batch_execute("COMMIT").await.unwrap();
    }
    assert_eq!(code(&late.batch_execute(write).await.unwrap_err()), "53300");
    clients[2].batch_execute("COMMIT").await.unwrap();
    late.batch_execute("CREATE TABLE at_last ()").await.unwrap();
    let truth = cluster.sql("n1", "postgres").await.unwrap();
    eventually("one connection is left", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'";
        ask(&truth, sql).await.unwrap() == "1"
    })
    .await;
    running.stop().await;
}
