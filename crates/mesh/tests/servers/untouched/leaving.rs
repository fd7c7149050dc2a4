//! Members leave, and are given up.

use std::time::Duration;

use herdsman_mesh::config::Mode;
use herdsman_mesh::leave;
use tokio::time::sleep;

use super::start;
use crate::leave::{TABLES, TRACES, given_up};
use crate::proof::three_of;
use crate::world::{World, Writers};

#[tokio::test(flavor = "multi_thread")]
async fn a_member_leaves_without_a_trace_while_the_others_are_written() {
    let Some(majors) = three_of(18).or_else(|| three_of(15)) else { return };
    let mut world = World::start_as(majors, 3, 2000, Mode::Untouched).await;
    let writers = Writers::start(&world, &["n1", "n2", "n3"]).await;
    sleep(Duration::from_secs(1)).await;
    // Who goes on writing there is turned away, and what was acknowledged before is kept.
    let left = world.remove("n3", leave::Options::default()).await;
    assert_eq!((left.id.0, left.slots), (3, 2), "{left:?}");
    let told = writers.refusal("n3").expect("who wrote there was turned away");
    assert!(told.contains("Connect to another member"), "{told}");
    let written = writers.stop().await;
    assert!(written.iter().any(|id| id.starts_with("n3-")));
    world.assert_equal().await;
    world.assert_all_there(&written).await;
    assert_eq!(world.text("n3", TRACES).await.as_deref(), Some("0 0 0 0 0 0"));
    world.stop_engine().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_one_had_received_from_a_lost_member_is_spread_on_15() {
    if let Some(majors) = three_of(15) {
        given_up(start(majors, TABLES).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_one_had_received_from_a_lost_member_is_spread_on_18() {
    if let Some(majors) = three_of(18) {
        given_up(start(majors, TABLES).await).await;
    }
}
