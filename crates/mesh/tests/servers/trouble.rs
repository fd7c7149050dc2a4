//! What is told of links that cannot go on, and that they go on when they can.

use std::sync::Arc;

use herdsman_mesh::engine::Engine;
use herdsman_mesh::look::look;
use herdsman_mesh::status::Status;
use tokio::time::timeout;

use crate::harness::{BOTH, TABLES, all_flow, until_status};
use crate::proof::{DEADLINE, Mesh, three_of, up};

/// What is wrong with a link, where it is said to fail.
pub(crate) fn problem(status: &Status, source: &str, target: &str) -> String {
    let link = status.targets.get(target).and_then(|target| target.links.get(source));
    let failing = link.filter(|link| link.state == "failing");
    failing.and_then(|link| link.problem.clone()).unwrap_or_default()
}

/// A node drops what it kept for others, as it may be told to when its disk fills.
async fn invalidated(majors: Vec<u32>) {
    let mesh = Mesh::prepared(majors, TABLES, |_| {}).await;
    let root = mesh.root("n1").await;
    root.batch_execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'").await.unwrap();
    root.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    mesh.on("n1", "INSERT INTO log VALUES ('before', 'n1', 1)").await;
    let lost = "SELECT bool_and(wal_status = 'lost') FROM pg_replication_slots";
    timeout(DEADLINE, async {
        while mesh.ask("n1", lost).await.as_deref() != Some("t") {
            mesh.on(
                "n1",
                "INSERT INTO acc VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET n = acc.n + 1",
            )
            .await;
            root.batch_execute("SELECT pg_switch_wal()").await.unwrap();
            root.batch_execute("CHECKPOINT").await.unwrap();
        }
    })
    .await
    .expect("slots are lost");
    root.batch_execute("ALTER SYSTEM RESET max_slot_wal_keep_size").await.unwrap();
    root.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let engine = Engine::start(mesh.setup.clone()).unwrap();
    let told = |status: &Status| {
        let others = ["n2", "n3"].into_iter().zip([2, 3]).all(|(node, id)| {
            let problem = problem(status, "n1", node);
            problem.contains(&format!("`herdsman_mesh_to_{id}` is lost ("))
                && problem.contains(&format!("`herdsman mesh remove {node}`"))
                && problem.contains(&format!("`herdsman mesh add {node}`"))
        });
        let own = problem(status, "n1", "n1");
        others
            && own.contains("`herdsman_mesh_to_1` is lost (")
            && own.contains("`herdsman mesh up`")
    };
    until_status(&engine, "the loss is told", told).await;
    // Who asks the members is told the same.
    let setup = Arc::new(mesh.setup.clone());
    let status = look(&setup).await.unwrap();
    assert!(told(&status), "{status:#?}");
    // The others go on.
    mesh.on("n2", "INSERT INTO log VALUES ('n2', 'n2', 1)").await;
    for node in ["n1", "n3"] {
        mesh.until(node, "SELECT count(*) FROM log WHERE id = 'n2'", "1").await;
    }
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_a_node_gave_up_are_named_with_what_to_do_on_15() {
    if let Some(majors) = three_of(15) {
        invalidated(majors).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_a_node_gave_up_are_named_with_what_to_do_on_18() {
    if let Some(majors) = three_of(18) {
        invalidated(majors).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_for_a_look_at_ones_own_is_made_again_by_mesh_up() {
    let Some(majors) = three_of(18) else { return };
    let mesh = Mesh::prepared(majors, TABLES, |_| {}).await;
    let root = mesh.root("n1").await;
    root.batch_execute("SELECT pg_drop_replication_slot('herdsman_mesh_to_1')").await.unwrap();
    let engine = Engine::start(mesh.setup.clone()).unwrap();
    until_status(&engine, "the loss is told", |status| {
        problem(status, "n1", "n1").contains("`herdsman mesh up`")
    })
    .await;
    up(&mesh.setup).await;
    until_status(&engine, "all flows", |status| all_flow(status, 3)).await;
    mesh.on("n1", "INSERT INTO log VALUES ('a', 'n1', 1)").await;
    mesh.settle().await;
    mesh.assert_equal(&BOTH).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_could_not_be_looked_up_is_not_taken_for_none() {
    let Some(majors) = three_of(18) else { return };
    let mesh = Mesh::prepared(majors, TABLES, |_| {}).await;
    let engine = Engine::start(mesh.setup.clone()).unwrap();
    until_status(&engine, "all flows", |status| all_flow(status, 3)).await;
    let root = mesh.root("n1").await;
    // As if it were too busy to answer.
    root.batch_execute("REVOKE SELECT ON pg_catalog.pg_index FROM PUBLIC").await.unwrap();
    mesh.on("n1", "INSERT INTO log VALUES ('a', 'n1', 1)").await;
    until_status(&engine, "what failed is told", |status| {
        let problem = problem(status, "n1", "n2");
        problem.contains("failed to look up the primary key of table public.log")
            && !problem.contains("no primary key")
    })
    .await;
    root.batch_execute("GRANT SELECT ON pg_catalog.pg_index TO PUBLIC").await.unwrap();
    for node in ["n2", "n3"] {
        mesh.until(node, "SELECT count(*) FROM log", "1").await;
    }
    // Without a key it is another matter.
    mesh.on("n1", "ALTER TABLE acc DROP CONSTRAINT acc_pkey").await;
    mesh.on("n1", "INSERT INTO acc VALUES (1, 'x')").await;
    until_status(&engine, "that there is no key is told", |status| {
        let problem = problem(status, "n1", "n2");
        problem.contains("public.acc") && problem.contains("has no primary key")
    })
    .await;
    mesh.on("n1", "ALTER TABLE acc ADD PRIMARY KEY (id)").await;
    mesh.settle().await;
    mesh.assert_equal(&BOTH).await;
    engine.stop().await;
}
