//! What differs is found, and put right.

use std::sync::Arc;

use herdsman_mesh::verify::{self, Options, Verdict};

use super::start;
use crate::proof::{DEADLINE, Mesh, mixed, three_of};

/// As somebody would who goes past the mesh: it is written, and nothing is sent on.
async fn forge(mesh: &Mesh, node: &str, statements: &str) {
    let begin = "SELECT pg_replication_origin_create('past the mesh'), pg_replication_origin_session_setup('past the mesh')";
    let end =
        "SELECT pg_replication_origin_session_reset(), pg_replication_origin_drop('past the mesh')";
    let root = mesh.root(node).await;
    for sql in [begin, statements, end] {
        root.batch_execute(sql).await.unwrap();
    }
}

async fn verified(mesh: &Mesh, repair: bool) -> verify::Report {
    let options = Options { repair, patience: DEADLINE, ..Options::default() };
    verify::run(&Arc::new(mesh.setup.clone()), &options, |_| {}).await.unwrap()
}

async fn found_and_repaired(majors: Option<Vec<u32>>) {
    let Some(majors) = majors else { return };
    let mesh = start(majors, "CREATE TABLE t (id int PRIMARY KEY, v text, big text)").await;
    mesh.on(
        "n1",
        "INSERT INTO t SELECT n, 'v', repeat('x', 3000) FROM generate_series(1, 3000) AS n",
    )
    .await;
    mesh.settle().await;
    mesh.on("n3", "UPDATE t SET v = 'n3' WHERE id % 10 = 0").await;
    mesh.settle().await;
    assert_eq!(verified(&mesh, false).await.verdict, Verdict::Equal);

    // Of a row that was changed past the mesh the change is the latest version there is. What was deleted so, or is as it
    // was long ago, comes back.
    forge(&mesh, "n2", "UPDATE t SET v = 'forged' WHERE id = 7; DELETE FROM t WHERE id IN (8, 10)")
        .await;
    forge(&mesh, "n1", "INSERT INTO t VALUES (9999, 'extra', '')").await;
    let past = "BEGIN; SELECT pg_replication_origin_xact_setup('0/1', '2020-01-01'); UPDATE t SET v = 'stale' WHERE id = 20; COMMIT";
    forge(&mesh, "n3", past).await;
    let found = verified(&mesh, false).await;
    let table = found.tables.iter().find(|table| table.table == "public.t").unwrap();
    assert_eq!(
        (found.verdict, table.differing, table.uncertain),
        (Verdict::Differs, 5, 0),
        "{found:#?}"
    );
    let repaired = verified(&mesh, true).await;
    assert_eq!(repaired.verdict, Verdict::Repaired, "{repaired:#?}");
    assert_eq!(verified(&mesh, false).await.verdict, Verdict::Equal);
    // The same versions, too: so that whatever comes later is decided alike.
    assert_eq!(mesh.differences("t", "id").await, Vec::<String>::new());
    let held = "SELECT string_agg(v, ' ' ORDER BY id) FROM t WHERE id IN (7, 8, 10, 20, 9999)";
    for node in mesh.nodes() {
        let found = mesh.ask(&node, held).await;
        assert_eq!(found.as_deref(), Some("forged v n3 n3 extra"), "{node}");
    }
    mesh.stop_engine().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nothing_sends_is_found_and_put_right_on_15() {
    found_and_repaired(three_of(15)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nothing_sends_is_found_and_put_right_on_a_mix_of_versions() {
    found_and_repaired(mixed()).await;
}
