//! Clusters: up, faults, and gone again.

use std::{fs, path::Path, time::Duration};

use herdsman_sandbox::{
    Builder, Fault, ProcessState, RejoinBy, Rejoined, Role, Sandbox, postgres, tested_versions,
};
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(20);

fn builder(major: u32) -> Builder {
    Sandbox::builder().pg_version(major)
}

/// Polls until the condition holds.
async fn eventually<F>(what: &str, mut condition: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let deadline = Instant::now() + SOON;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn rows(sandbox: &Sandbox, node: &str) -> i64 {
    let client = sandbox.sql(node, "postgres").await.unwrap();
    client.query_one("SELECT count(*) FROM words", &[]).await.map_or(-1, |row| row.get(0))
}

async fn write_words(sandbox: &Sandbox, node: &str, count: i64) {
    let client = sandbox.sql(node, "app").await.unwrap();
    client.batch_execute("CREATE TABLE IF NOT EXISTS words (word bigint)").await.unwrap();
    client
        .execute("INSERT INTO words SELECT generate_series(1, $1::bigint)", &[&count])
        .await
        .unwrap();
}

/// Processes that name the folder, or are backends with it as their own.
fn processes_in(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(command) = fs::read(entry.path().join("cmdline")) else { continue };
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let there =
            fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        if command.contains(&*folder.to_string_lossy()) || there {
            found.push(command);
        }
    }
    found
}

async fn streams_and_follows(major: u32) {
    let sandbox = builder(major).standbys(2).start().await.unwrap();
    assert_eq!(sandbox.binaries().major, major);
    write_words(&sandbox, "n1", 1000).await;
    sandbox.wait_replayed().await.unwrap();
    for standby in ["n2", "n3"] {
        assert_eq!(rows(&sandbox, standby).await, 1000);
        // What a watcher sees: the port of this standby's own link to n1.
        let client = sandbox.sql(standby, "herdsman").await.unwrap();
        let row =
            client.query_one("SELECT sender_port FROM pg_stat_wal_receiver", &[]).await.unwrap();
        let sender = format!("127.0.0.1:{}", row.get::<_, i32>(0));
        assert!(sandbox.replication_addresses("n1").unwrap().contains(&sender), "{sender}");
    }
    sandbox.promote("n2").await.unwrap();
    assert_eq!(sandbox.primary().await.unwrap(), "n2", "the higher timeline counts");
    sandbox.follow("n3", "n2").await.unwrap();
    sandbox.wait_streaming("n3").await.unwrap();
    write_words(&sandbox, "n1", 5).await;
    sandbox.kill("n1").await.unwrap();
    let how = sandbox.rejoin("n1").await.unwrap();
    let rewinds = sandbox.binaries().pg_rewind.is_some();
    assert_eq!(how, if rewinds { Rejoined::Rewound } else { Rejoined::Copied });
    write_words(&sandbox, "n2", 1).await;
    sandbox.wait_replayed().await.unwrap();
    for node in ["n1", "n2", "n3"] {
        assert_eq!(rows(&sandbox, node).await, 1001, "{node}");
    }
}

#[tokio::test]
async fn on_15_a_cluster_streams_promotes_and_takes_its_old_primary_back() {
    if tested_versions().contains(&15) {
        streams_and_follows(15).await;
    }
}

#[tokio::test]
async fn on_18_a_cluster_streams_promotes_and_takes_its_old_primary_back() {
    if tested_versions().contains(&18) {
        assert!(
            postgres::available_majors().contains(&18),
            "PostgreSQL 18 is missing: run scripts/fetch-postgres 18"
        );
        streams_and_follows(18).await;
    }
}

#[tokio::test]
async fn a_killed_primary_comes_back_as_a_primary_with_its_rows() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    write_words(&sandbox, "n1", 10).await;
    let held = sandbox.sql("n1", "app").await.unwrap();
    sandbox.kill("n1").await.unwrap();
    assert_eq!(sandbox.state("n1").unwrap(), ProcessState::Stopped);
    eventually("the held connection notices", async || held.is_closed()).await;
    assert!(sandbox.kill("n1").await.unwrap_err().to_string().contains("not running"));
    sandbox.start("n1").await.unwrap();
    assert_eq!(rows(&sandbox, "n1").await, 10);
    assert!(sandbox.start("n1").await.unwrap_err().to_string().contains("already running"));
    sandbox.kill_postmaster("n1").await.unwrap();
    sandbox.start("n1").await.unwrap();
    sandbox.stop("n1").await.unwrap();
    sandbox.start("n1").await.unwrap();
    assert_eq!(rows(&sandbox, "n1").await, 10);
}

#[tokio::test]
async fn a_frozen_node_accepts_and_says_nothing_until_it_is_thawed() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let held = sandbox.sql("n1", "app").await.unwrap();
    sandbox.freeze("n1").await.unwrap();
    eventually("all are frozen", async || sandbox.state("n1").unwrap() == ProcessState::Frozen)
        .await;
    let answer = held.query_one("SELECT 1", &[]);
    tokio::pin!(answer);
    assert!(
        timeout(Duration::from_millis(300), &mut answer).await.is_err(),
        "a frozen node answered"
    );
    assert!(
        tokio::net::TcpStream::connect(("127.0.0.1", sandbox.server_port("n1").unwrap()))
            .await
            .is_ok()
    );
    assert!(sandbox.stop("n1").await.unwrap_err().to_string().contains("thaw"));
    sandbox.thaw("n1").await.unwrap();
    assert_eq!(timeout(SOON, answer).await.unwrap().unwrap().get::<_, i32>(0), 1);

    sandbox.freeze_postmaster("n1").await.unwrap();
    eventually("the postmaster is", async || {
        sandbox.state("n1").unwrap() == ProcessState::PostmasterFrozen
    })
    .await;
    timeout(SOON, held.query_one("SELECT 1", &[])).await.unwrap().unwrap();
    sandbox.thaw("n1").await.unwrap();
    sandbox.sql("n1", "plain").await.unwrap();
}

#[tokio::test]
async fn a_partition_stops_replication_while_clients_still_reach_both() {
    let sandbox = Sandbox::builder().standbys(1).start().await.unwrap();
    write_words(&sandbox, "n1", 1).await;
    sandbox.wait_replayed().await.unwrap();
    sandbox.partition("n1", "n2").unwrap();
    assert_eq!(sandbox.faults().len(), 2);
    write_words(&sandbox, "n1", 1).await;
    for node in ["n1", "n2"] {
        let client = through_proxy(&sandbox, node).await;
        client.query_one("SELECT 1", &[]).await.unwrap();
    }
    // Rows of a healthy pair arrive within milliseconds.
    let arrived =
        timeout(Duration::from_millis(500), async { while rows(&sandbox, "n2").await < 2 {} })
            .await;
    assert!(arrived.is_err(), "a row crossed the partition");
    sandbox.heal();
    assert!(sandbox.faults().is_empty());
    eventually("the standby catches up", async || rows(&sandbox, "n2").await == 2).await;
}

#[tokio::test]
async fn a_node_cut_off_is_silent_to_all_and_runs_on() {
    let sandbox = Sandbox::builder().standbys(1).start().await.unwrap();
    sandbox.cut_off("n1").unwrap();
    let (host, port) = sandbox.endpoint("n1").unwrap();
    let login = login(&host, port, "app", sandbox.credentials().password("app").unwrap());
    assert!(
        timeout(Duration::from_millis(300), login).await.is_err(),
        "a blackholed node answered"
    );
    write_words(&sandbox, "n1", 1).await;
    sandbox.reconnect("n1").unwrap();
    sandbox.wait_replayed().await.unwrap();
    through_proxy(&sandbox, "n1").await;
}

#[tokio::test]
async fn an_old_primary_that_lives_on_is_rejoined_by_a_copy() {
    let sandbox = Sandbox::builder().standbys(1).start().await.unwrap();
    sandbox.promote("n2").await.unwrap();
    write_words(&sandbox, "n1", 5).await;
    assert!(sandbox.follow("n1", "n2").await.unwrap_err().to_string().contains("rejoin"));
    assert_eq!(sandbox.rejoin_from("n1", "n2", RejoinBy::Copy).await.unwrap(), Rejoined::Copied);
    let status = sandbox.status().await;
    let roles: Vec<_> =
        status.iter().map(|node| (node.role, node.timeline, node.follows.clone())).collect();
    assert_eq!(
        roles,
        [
            (Some(Role::Standby), Some(2), Some("n2".to_owned())),
            (Some(Role::Primary), Some(2), None)
        ]
    );
}

#[tokio::test]
async fn impostors_are_staged_a_foreign_cluster_and_a_restored_copy() {
    let sandbox = Sandbox::builder().standbys(2).start().await.unwrap();
    write_words(&sandbox, "n1", 3).await;
    sandbox.wait_replayed().await.unwrap();
    sandbox.clone_promoted("n2").await.unwrap();
    sandbox.freshly_initdb("n3").await.unwrap();
    let mut identities = Vec::new();
    for node in ["n1", "n2", "n3"] {
        let client = sandbox.sql(node, "herdsman").await.unwrap();
        let query = "SELECT pg_is_in_recovery(), (SELECT system_identifier FROM pg_control_system()), left(pg_walfile_name(pg_current_wal_lsn()), 8)";
        let row = client.query_one(query, &[]).await.unwrap();
        assert!(!row.get::<_, bool>(0), "{node}");
        identities.push((row.get::<_, i64>(1), row.get::<_, String>(2)));
    }
    let [n1, n2, n3] = &identities[..] else { panic!("three nodes") };
    assert_eq!((n1.0, n1.1.as_str(), n2.1.as_str()), (n2.0, "00000001", "00000002"));
    assert_ne!(n1.0, n3.0);
    assert_eq!(rows(&sandbox, "n2").await, 3);
    assert_eq!(rows(&sandbox, "n3").await, -1);
}

#[tokio::test]
async fn a_dropped_sandbox_leaves_no_process_and_no_folder() {
    let sandbox = Sandbox::builder().standbys(2).start().await.unwrap();
    let folder = sandbox.dir().to_path_buf();
    sandbox.freeze("n1").await.unwrap();
    // Its frozen children have no postmaster any more.
    sandbox.kill_postmaster("n1").await.unwrap();
    sandbox.freeze("n2").await.unwrap();
    assert!(!processes_in(&folder).is_empty());
    drop(sandbox);
    assert_eq!(processes_in(&folder), Vec::<String>::new());
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_sandbox_is_gone_after_a_panic_too() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let sandbox = Sandbox::builder().start().await.unwrap();
        tell.send(sandbox.dir().to_path_buf()).unwrap();
        panic!("on purpose");
    });
    let folder = told.await.unwrap();
    assert!(task.await.unwrap_err().is_panic());
    assert!(!folder.exists());
    assert_eq!(processes_in(&folder), Vec::<String>::new());
}

#[tokio::test]
async fn a_start_given_up_midway_leaves_nothing_behind() {
    let base = std::env::temp_dir().join(format!("herdsman-given-up-{}", std::process::id()));
    let start = Sandbox::builder().standbys(1).dir(&base).start();
    let midway = async {
        while !base.join("n1/data/postmaster.pid").exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        _ = start => panic!("the start was to be given up"),
        () = midway => {}
    }
    assert!(!base.exists());
    assert_eq!(processes_in(&base), Vec::<String>::new());
}

#[tokio::test]
async fn two_sandboxes_live_side_by_side() {
    let (one, two) = tokio::join!(
        Sandbox::builder().standbys(1).start(),
        Sandbox::builder().standbys(1).start()
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    write_words(&one, "n1", 7).await;
    one.wait_replayed().await.unwrap();
    assert_eq!(rows(&one, "n2").await, 7);
    assert_eq!(rows(&two, "n1").await, -1);
    drop(one);
    write_words(&two, "n1", 2).await;
    two.wait_replayed().await.unwrap();
    assert_eq!(rows(&two, "n2").await, 2);
}

#[tokio::test]
async fn roles_have_the_rights_they_are_named_for_and_passwords_are_asked_for() {
    let sandbox = Sandbox::builder().tls(true).start().await.unwrap();
    let herdsman = sandbox.sql("n1", "herdsman").await.unwrap();
    herdsman
        .batch_execute("CREATE TABLE beat (at timestamptz); SELECT * FROM pg_stat_wal_receiver")
        .await
        .unwrap();
    let plain = sandbox.sql("n1", "plain").await.unwrap();
    assert!(plain.batch_execute("CREATE TABLE mine ()").await.is_err());
    let (host, port) = sandbox.endpoint("n1").unwrap();
    assert!(login(&host, port, "app", "wrong").await.is_err());
    assert!(
        fs::read_to_string(sandbox.ca_file().unwrap())
            .unwrap()
            .starts_with("-----BEGIN CERTIFICATE")
    );
    let on: String = herdsman.query_one("SHOW ssl", &[]).await.unwrap().get(0);
    assert_eq!(on, "on");
    let config = sandbox.config_yaml(8080).unwrap();
    assert!(
        config.contains("sslmode: \"verify-full\"") && config.contains("n1: [\"127.0.0.1:"),
        "{config}"
    );
}

#[tokio::test]
async fn a_server_that_cannot_start_is_an_error_with_its_own_words() {
    let result = Sandbox::builder().setting("wal_level", "nonsense").start().await;
    let error = result.unwrap_err().one_line();
    assert!(error.starts_with("n1: ") && error.contains("wal_level"), "{error}");
    let error = Sandbox::builder().setting("a b", "1").start().await.unwrap_err().one_line();
    assert!(error.contains("cannot set \"a b\""), "{error}");
}

#[tokio::test]
async fn an_unknown_node_is_an_error_that_names_the_known_ones() {
    let sandbox = Sandbox::builder().start().await.unwrap();
    let error = sandbox.kill("n7").await.unwrap_err().to_string();
    assert_eq!(error, "there is no node \"n7\"; this sandbox has n1");
    assert!(sandbox.link("n1", "n1").is_err());
    assert_eq!(sandbox.client_proxy("n1").unwrap().fault(), Fault::Pass);
}

async fn through_proxy(sandbox: &Sandbox, node: &str) -> tokio_postgres::Client {
    let (host, port) = sandbox.endpoint(node).unwrap();
    login(&host, port, "app", sandbox.credentials().password("app").unwrap()).await.unwrap()
}

async fn login(
    host: &str,
    port: u16,
    user: &str,
    password: &str,
) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host(host).port(port).user(user).password(password).dbname("postgres");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
