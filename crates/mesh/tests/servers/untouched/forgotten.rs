//! Commit times that a server has forgotten, as all rows there were frozen.

use std::time::Duration;

use herdsman_mesh::status::Status;
use herdsman_mesh::verify::Verdict;
use herdsman_node::{Conninfo, Tls, connect};
use tokio::time::{Instant, sleep, timeout};

use super::start;
use crate::proof::{DEADLINE, Mesh, three_of};
use crate::world::{World, Writers};

/// Runs a statement in a database of a node.
async fn in_database(sandbox: &herdsman_sandbox::Sandbox, node: &str, database: &str, sql: &str) {
    let pairs = sandbox.conninfo(node, "postgres").unwrap();
    let mut info = Conninfo::from_pairs(pairs).unwrap();
    info.dbname = database.into();
    let tls = Tls::new(&info).unwrap();
    let (client, driving) = connect(&info, &tls, DEADLINE).await.unwrap().split(|_| {});
    tokio::spawn(driving);
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{node}: {database}: {error:?}"));
}

/// Freezes all that a server holds, so that it forgets the commit times of all that has ended. Its slots have to come along:
/// they hold back what may be forgotten.
async fn freeze(sandbox: &herdsman_sandbox::Sandbox, node: &str, forgotten: &str) {
    let root = sandbox.sql(node, "postgres").await.unwrap();
    root.batch_execute("UPDATE pg_database SET datallowconn = true").await.unwrap();
    let until = Instant::now() + DEADLINE;
    loop {
        root.batch_execute("CHECKPOINT").await.unwrap();
        for database in ["template0", "template1", "postgres"] {
            in_database(sandbox, node, database, "VACUUM (FREEZE)").await;
        }
        if root.query_one(forgotten, &[]).await.unwrap().get(0) {
            return;
        }
        assert!(Instant::now() < until, "{node}: nothing is forgotten");
        sleep(Duration::from_millis(300)).await;
    }
}

const FORGOTTEN: &str =
    "SELECT bool_and(pg_xact_commit_timestamp(xmin) IS NULL) FROM t WHERE id < 10";
const HELD: &str = "SELECT string_agg(v, ' ' ORDER BY id) FROM t";

async fn two(tables: &str) -> Option<Mesh> {
    let majors = three_of(15).or_else(|| three_of(18))?;
    Some(start(majors.into_iter().take(2).collect(), tables).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_frozen_everywhere_gives_way_to_what_is_written_then() {
    let Some(mesh) = two("CREATE TABLE t (id int PRIMARY KEY, v text)").await else { return };
    mesh.on("n1", "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')").await;
    mesh.on("n2", "INSERT INTO t VALUES (4, 'd'), (5, 'e')").await;
    mesh.settle().await;
    for node in ["n1", "n2"] {
        freeze(&mesh.sandbox, node, FORGOTTEN).await;
    }
    // It takes a moment until that is noticed.
    let noticed = "SELECT count(*) > 0 FROM herdsman.memory WHERE NOT base AND pg_xact_commit_timestamp(xid::text::xid8::xid) IS NOT NULL";
    for node in ["n1", "n2"] {
        mesh.until(node, noticed, "t").await;
    }
    mesh.on("n2", "UPDATE t SET v = 'A' WHERE id = 1; DELETE FROM t WHERE id = 2").await;
    mesh.on("n1", "UPDATE t SET v = 'D' WHERE id = 4; DELETE FROM t WHERE id = 5").await;
    mesh.settle().await;
    for node in ["n1", "n2"] {
        assert_eq!(mesh.ask(node, HELD).await.as_deref(), Some("A c D"), "{node}");
        let conflicts = mesh.ask(node, "SELECT count(*) FROM herdsman.conflicts").await;
        assert_eq!(conflicts.as_deref(), Some("0"), "{node}");
    }
    mesh.stop_engine().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_older_than_what_is_forgotten_waits_until_somebody_has_decided() {
    let Some(mesh) = two("CREATE TABLE t (id int PRIMARY KEY, v text)").await else { return };
    mesh.on("n1", "INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    mesh.settle().await;
    mesh.hold("n1", "n2");
    mesh.on("n1", "UPDATE t SET v = 'older' WHERE id = 1").await;
    mesh.on("n2", "UPDATE t SET v = 'newer' WHERE id = 1").await;
    mesh.carried("n2", "n1").await;
    freeze(&mesh.sandbox, "n2", FORGOTTEN).await;
    mesh.release("n1", "n2");
    let told = |status: &Status| {
        let problem = status.targets.get("n2").and_then(|target| target.problem.clone());
        problem.is_some_and(|problem| problem.contains("PostgreSQL has forgotten when"))
    };
    let mut status = mesh.status();
    timeout(DEADLINE, status.wait_for(|now| told(now)))
        .await
        .expect("the status tells it")
        .unwrap();
    assert_eq!(mesh.ask("n2", HELD).await.as_deref(), Some("newer b"));
    // Written again it is later than what waits, and all goes on.
    mesh.on("n2", "UPDATE t SET v = v WHERE id = 1").await;
    mesh.settle().await;
    for node in ["n1", "n2"] {
        assert_eq!(mesh.ask(node, HELD).await.as_deref(), Some("newer b"), "{node}");
    }
    mesh.stop_engine().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_members_whose_rows_are_frozen() {
    let Some(majors) = three_of(15).or_else(|| three_of(18)) else { return };
    let mode = herdsman_mesh::config::Mode::Untouched;
    let mut world = World::start_as(majors, 2, 3000, mode).await;
    let forgotten = "SELECT bool_and(pg_xact_commit_timestamp(xmin) IS NULL) FROM old";
    freeze(&world.sandbox, "n1", forgotten).await;
    let writers = Writers::start(&world, &["n1"]).await;
    let joined = world.add("n3").await;
    assert!(joined.copied.rows > 0, "{joined:?}");
    let written = writers.stop().await;
    let report = world.verify().await;
    assert_eq!(report.verdict, Verdict::Equal, "{report:#?}");
    world.assert_all_there(&written).await;
    world.stop_engine().await;
}
