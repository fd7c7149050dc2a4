//! Members come while the others are written, and so do tables with rows.

use std::sync::Arc;
use std::time::Duration;

use herdsman_mesh::config::Mode;
use herdsman_mesh::join::Progress;
use herdsman_mesh::{heal, install};
use tokio::time::sleep;

use crate::join::cut_off;
use crate::proof::{DEADLINE, mixed, three_of};
use crate::world::{World, Writers};

/// Three of them.
fn three_mixed() -> Option<Vec<u32>> {
    mixed().map(|majors| majors.into_iter().rev().take(3).collect())
}

async fn a_third_joins(majors: Option<Vec<u32>>) {
    let Some(majors) = majors else { return };
    let mut world = World::start_as(majors, 2, 20_000, Mode::Untouched).await;
    let mut writers = Writers::start(&world, &["n1", "n2"]).await;
    let joined = world.add("n3").await;
    assert!(joined.copied.rows > 0, "{joined:?}");
    writers.more(&world, "n3").await;
    sleep(Duration::from_secs(1)).await;
    let written = writers.stop().await;
    world.assert_equal().await;
    world.assert_all_there(&written).await;
    assert!(written.iter().any(|id| id.starts_with("n3-")));
    let states = "SELECT string_agg(DISTINCT state, ',') || count(*) FROM herdsman.members";
    for node in ["n1", "n3"] {
        assert_eq!(world.text(node, states).await.as_deref(), Some("active3"));
    }
    world.stop_engine().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_node_joins_two_that_are_written_on_15() {
    a_third_joins(three_of(15)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_node_joins_two_that_are_written_on_a_mix_of_versions() {
    a_third_joins(three_mixed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_was_cut_off_anywhere_goes_on() {
    let Some(majors) = three_of(18).or_else(|| three_of(15)) else { return };
    let mut world = World::start_as(majors, 2, 20_000, Mode::Untouched).await;
    let writers = Writers::start(&world, &["n1"]).await;
    let steps = |progress: &Progress| matches!(progress, Progress::Preparing(step) if step.what.contains("slot"));
    cut_off(&world, "n3", steps).await;
    cut_off(&world, "n3", |progress| matches!(progress, Progress::WaitingForDonor { .. })).await;
    cut_off(&world, "n3", |progress| matches!(progress, Progress::Copying(_))).await;
    cut_off(&world, "n3", |progress| matches!(progress, Progress::CatchingUp { .. })).await;
    let joined = world.add("n3").await;
    assert_eq!(joined.donor, None, "the copy was whole: {joined:?}");
    let written = writers.stop().await;
    world.assert_equal().await;
    world.assert_all_there(&written).await;
    world.stop_engine().await;
}

/// What `mesh up` does with a table of one member that has rows, while that is written.
async fn a_table_with_rows_joins(majors: Option<Vec<u32>>) {
    let Some(majors) = majors else { return };
    let world = World::start_as(majors, 3, 100, Mode::Untouched).await;
    let late = "CREATE TABLE late (id int PRIMARY KEY, v text);
                INSERT INTO late SELECT n, 'v' || n FROM generate_series(1, 3000) AS n";
    let client = world.app("n1").await;
    client.batch_execute(late).await.unwrap();
    let setup = Arc::new(world.setup());
    let (_, plan) = install::prepare(&setup, &install::Options::default()).await.unwrap();
    assert_eq!(plan.problems, Vec::<String>::new());
    install::carry_out(&setup, &plan, |_| {}).await.unwrap();
    // From here on it is in the mesh: what is written to it is later than any row that is copied.
    let changed =
        "UPDATE late SET v = 'changed' WHERE id <= 5; DELETE FROM late WHERE id BETWEEN 6 AND 10;
                   INSERT INTO late VALUES (9999, 'new')";
    client.batch_execute(changed).await.unwrap();
    // Not there yet: an insertion elsewhere of a key that is to come.
    world.app("n2").await.batch_execute("INSERT INTO late VALUES (11, 'elsewhere')").await.unwrap();
    heal::spread(&setup, &plan.copies, |_, _, _| {}).await.unwrap();
    world.assert_equal().await;
    let held = "SELECT concat_ws(' ', count(*), count(*) FILTER (WHERE v = 'changed'), string_agg(v, ' ' ORDER BY id)
                FILTER (WHERE id = 11 OR id > 3000)) FROM late";
    for node in &world.members {
        let found = world.text(node, held).await;
        assert_eq!(found.as_deref(), Some("2996 5 elsewhere new"), "{node}");
    }
    // Once more there is nothing to do.
    let (_, plan) = install::prepare(&setup, &install::Options::default()).await.unwrap();
    assert!(plan.steps.is_empty() && plan.copies.is_empty(), "{plan:?}");
    // And it is a table like any other.
    world.app("n3").await.batch_execute("UPDATE late SET v = 'n3' WHERE id = 11").await.unwrap();
    let arrived = "SELECT (v = 'n3')::text FROM late WHERE id = 11";
    let waiting = async {
        while world.text("n1", arrived).await.as_deref() != Some("true") {
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.expect("it arrives");
    let mut world = world;
    world.stop_engine().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_rows_is_spread_while_it_is_written_on_15() {
    a_table_with_rows_joins(three_of(15)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_rows_is_spread_while_it_is_written_on_a_mix_of_versions() {
    a_table_with_rows_joins(three_mixed()).await;
}
