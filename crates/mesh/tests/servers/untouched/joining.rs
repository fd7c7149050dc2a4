//! Members come, tables with rows come, and what differs is put right.

use std::sync::Arc;

use herdsman_mesh::config::Mode;
use herdsman_mesh::verify::{self, Verdict};
use herdsman_mesh::{heal, install, leave};
use herdsman_sandbox::tested_versions;

use crate::proof::{DEADLINE, mixed};
use crate::world::{World, Writers};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the new member did not catch up with a writer within 90 s; `mesh add` is refused until it does"]
async fn a_third_node_and_a_table_with_rows_join_two_that_are_written() {
    let majors = mixed().or_else(|| tested_versions().first().map(|major| vec![*major; 3]));
    let Some(majors) = majors.map(|majors| majors.into_iter().rev().take(3).collect()) else {
        return;
    };
    let mut world = World::start_as(majors, 2, 20_000, Mode::Untouched).await;
    // One writes: transactions are applied one after another here, and a busy machine has to catch up with it.
    let mut writers = Writers::start(&world, &["n1"]).await;
    let joined = world.add("n3").await;
    assert!(joined.copied.rows > 0, "{joined:?}");
    writers.end("n1");
    writers.more(&world, "n3").await;
    // A table that one node has, with rows.
    let late = "CREATE TABLE late (id int PRIMARY KEY, v text);
                INSERT INTO late SELECT n, 'v' || n FROM generate_series(1, 1000) AS n";
    world.app("n1").await.batch_execute(late).await.unwrap();
    let setup = Arc::new(world.setup());
    let (_, plan) = install::prepare(&setup, &install::Options::default()).await.unwrap();
    assert_eq!(plan.problems, Vec::<String>::new());
    install::carry_out(&setup, &plan, |_| {}).await.unwrap();
    heal::spread(&setup, &plan.copies, |_, _, _| {}).await.unwrap();
    let written = writers.stop().await;
    world.assert_equal().await;
    world.assert_all_there(&written).await;
    for node in ["n2", "n3"] {
        let count = world.text(node, "SELECT count(*)::text FROM late").await;
        assert_eq!(count.as_deref(), Some("1000"), "{node}");
    }
    // What nothing sends, as of a broken disk.
    let forge = "SELECT pg_replication_origin_create('forge'); SELECT pg_replication_origin_session_setup('forge');
        UPDATE late SET v = 'forged' WHERE id = 7; DELETE FROM late WHERE id = 8";
    let root = world.sandbox.sql("n2", "postgres").await.unwrap();
    root.batch_execute(forge).await.unwrap();
    let mut options = verify::Options { patience: DEADLINE, ..verify::Options::default() };
    options.tables = vec!["public.late".to_owned()];
    let found = verify::run(&setup, &options, |_| {}).await.unwrap();
    assert_eq!(found.tables[0].differing, 2, "{found:#?}");
    options.repair = true;
    verify::run(&setup, &options, |_| {}).await.unwrap();
    options.repair = false;
    let found = verify::run(&setup, &options, |_| {}).await.unwrap();
    assert_eq!(found.verdict, Verdict::Equal, "{found:#?}");
    world.remove("n1", leave::Options::default()).await;
    world.assert_equal().await;
    world.stop_engine().await;
}
