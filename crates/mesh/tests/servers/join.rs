//! Nodes become members while the others are written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use herdsman_mesh::join::{self, Progress};
use herdsman_mesh::leave;
use herdsman_sandbox::tested_versions;
use tokio::time::sleep;

use crate::proof::{DEADLINE, mixed, name, soak};
use crate::world::{World, Writers};

async fn a_fourth_joins(majors: Vec<u32>) {
    let rows = if soak() { 60_000 } else { 20_000 };
    let mut world = World::start(majors, 3, rows).await;
    let mut writers = Writers::start(&world, &["n1", "n2", "n3"]).await;
    sleep(Duration::from_millis(500)).await;
    let joined = world.add("n4").await;
    assert!(joined.copied.rows > u64::from(rows) * 5 / 6, "{joined:?}");
    writers.more(&world, "n4").await;
    sleep(Duration::from_secs(1)).await;
    // While they write, and when they have ended.
    world.assert_equal().await;
    let written = writers.stop().await;
    world.assert_equal().await;
    world.assert_all_there(&written).await;
    assert!(written.iter().any(|id| id.starts_with("n4-")));
    let states = "SELECT string_agg(DISTINCT state, ',') || count(*) FROM herdsman.members";
    for node in ["n1", "n4"] {
        assert_eq!(world.text(node, states).await.as_deref(), Some("active4"));
    }
    let left = "SELECT to_regclass('herdsman.copied')::text";
    assert_eq!(world.text("n4", left).await, None);
    world.stop_engine().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_node_joins_three_that_are_written_on_15() {
    if tested_versions().contains(&15) {
        a_fourth_joins(vec![15; 4]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_node_joins_three_that_are_written_on_18() {
    if tested_versions().contains(&18) {
        a_fourth_joins(vec![18; 4]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_grows_to_five_and_shrinks_again_while_it_is_written() {
    let Some(mut majors) = mixed() else { return };
    majors.resize(5, *majors.last().unwrap());
    let mut world = World::start(majors, 2, 3000).await;
    let mut writers = Writers::start(&world, &["n1", "n2"]).await;
    for node in ["n3", "n4", "n5"] {
        world.add(node).await;
        writers.more(&world, node).await;
        sleep(Duration::from_millis(300)).await;
    }
    world.assert_equal().await;
    for node in ["n1", "n4"] {
        writers.end(node);
        sleep(Duration::from_millis(300)).await;
        let left = world.remove(node, leave::Options::default()).await;
        assert_eq!(left.slots, u64::try_from(world.members.len()).unwrap(), "{left:?}");
    }
    // One that has left may come back, as somebody else.
    world.app("n1").await.batch_execute("DROP TABLE old, log, acc").await.unwrap();
    let again = world.add("n1").await;
    assert_eq!(again.id.0, 6);
    let written = writers.stop().await;
    world.members.sort();
    let report = world.verify().await;
    assert_eq!(report.verdict, herdsman_mesh::verify::Verdict::Equal, "{report:#?}");
    world.assert_all_there(&written).await;
    world.stop_engine().await;
}

/// Joins, and is cut off at the first progress of this kind.
pub(crate) async fn cut_off(world: &World, node: &str, at: fn(&Progress) -> bool) {
    let setup = Arc::new(world.setup());
    let options = join::Options { patience: DEADLINE, ..join::Options::default() };
    let reached = AtomicBool::new(false);
    let node = name(node);
    let joining = join::add(&setup, &node, &options, |progress| {
        if at(progress) {
            reached.store(true, Ordering::Relaxed);
        }
    });
    let mut joining = std::pin::pin!(joining);
    loop {
        tokio::select! {
            biased;
            () = sleep(Duration::from_millis(1)), if reached.load(Ordering::Relaxed) => return,
            joined = &mut joining => {
                joined.unwrap();
                panic!("it was not to get that far");
            }
            () = sleep(Duration::from_millis(5)) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_was_cut_off_anywhere_goes_on() {
    if !tested_versions().contains(&18) {
        return;
    }
    let mut world = World::start(vec![18; 3], 2, 150_000).await;
    let writers = Writers::start(&world, &["n1", "n2"]).await;
    let steps = |progress: &Progress| matches!(progress, Progress::Preparing(step) if step.what.contains("slot"));
    cut_off(&world, "n3", steps).await;
    cut_off(&world, "n3", |progress| matches!(progress, Progress::WaitingForDonor { .. })).await;
    cut_off(&world, "n3", |progress| {
        matches!(progress, Progress::Copying(copying) if copying.fraction > 0.2 && copying.done < copying.tables)
    })
    .await;
    // While nothing is applied, the last step cannot end.
    cut_off(&world, "n3", |progress| matches!(progress, Progress::CatchingUp { .. })).await;
    let joined = world.add("n3").await;
    assert_eq!(joined.donor, None, "the copy was whole: {joined:?}");
    let written = writers.stop().await;
    world.assert_equal().await;
    world.assert_all_there(&written).await;
    world.stop_engine().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_donor_has_yet_to_sweep_does_not_come_back_and_new_stamps_are_above_all_that_came()
{
    if !tested_versions().contains(&18) {
        return;
    }
    let mut world = World::start(vec![18; 3], 2, 100).await;
    world
        .app("n1")
        .await
        .batch_execute("INSERT INTO acc VALUES (1, 'ahead'), (2, 'emptied')")
        .await
        .unwrap();
    // Its look at its own log is past these rows before what empties them is there: from then on nothing leads it to them.
    world.seen_by_itself("n1").await;
    // As the donor is when its own look at its log is late, and its clock was an hour ahead; nothing of it is sent on.
    let root = world.sandbox.sql("n1", "postgres").await.unwrap();
    root.batch_execute("SELECT pg_replication_origin_create('past the mesh'), pg_replication_origin_session_setup('past the mesh'); SET session_replication_role = replica").await.unwrap();
    let ahead = "(date_part('epoch', now()) * 1000000)::bigint + 3600000000";
    root.batch_execute(&format!(
        "BEGIN; INSERT INTO herdsman_gone.\"public.old\" (id, _herdsman_stamp, _herdsman_node, _herdsman_seen, _herdsman_seen_node)
         SELECT 3, _herdsman_stamp + 1, 2, 0, 1 FROM old WHERE id = 3;
         INSERT INTO herdsman.truncates (rel, _herdsman_stamp, _herdsman_node) SELECT 'public.acc', _herdsman_stamp + 1, 2 FROM acc WHERE id = 2;
         UPDATE acc SET _herdsman_stamp = {ahead} WHERE id = 1; COMMIT"
    ))
    .await
    .unwrap();
    let held = "SELECT (SELECT count(*) FROM old WHERE id = 3) || ' ' || string_agg(v, ' ' ORDER BY id) FROM acc";
    assert_eq!(world.text("n1", held).await.as_deref(), Some("1 ahead emptied"));
    let joined = world.add("n3").await;
    assert_eq!(joined.donor.as_deref(), Some("n1"));
    assert_eq!(world.text("n3", held).await.as_deref(), Some("0 ahead"));
    world.app("n3").await.batch_execute("INSERT INTO acc VALUES (3, 'new')").await.unwrap();
    let above = "SELECT (n._herdsman_stamp > a._herdsman_stamp)::text FROM acc AS n, acc AS a WHERE n.id = 3 AND a.id = 1";
    assert_eq!(world.text("n3", above).await.as_deref(), Some("true"));
    world.stop_engine().await;
}
