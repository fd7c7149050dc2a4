//! The gateway as a whole: starting, reloading, draining.

use herdsman_gateway::{Gateway, StartError};
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
    busy.batch_execute("BEGIN; INSERT INTO kept VALUES (1)")
        .await
        .unwrap();
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
    client
        .batch_execute("BEGIN; INSERT INTO kept VALUES (1)")
        .await
        .unwrap();
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
