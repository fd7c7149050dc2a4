//! Every kind of conflict, each forced by holding links, on three nodes of one version and on a mix of all.
//!
//! Of each: what every node holds in the end (stamps included), and what is recorded about it. `A`, `B` and `C` are the
//! first, the second and the last node.

pub(crate) mod case;
mod clocks;
mod deletes;
mod keys;
mod races;
mod uniques;
mod updates;

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

use self::case::Case;
use crate::proof::{Mesh, mixed, three_of};

/// All cases one after another in one mesh; all that fail are told.
async fn matrix(majors: Option<Vec<u32>>) {
    let Some(majors) = majors else { return };
    let mesh = Mesh::start(majors.clone(), &case::tables(&NAMES)).await;
    assert_eq!(all(&mesh, &NAMES).await, Vec::<&str>::new(), "on {majors:?}");
}

/// Those of these cases that fail.
pub(crate) async fn all(mesh: &Mesh, names: &[&'static str]) -> Vec<&'static str> {
    let wanted = std::env::var("HERDSMAN_CASE").ok();
    let mut failed = Vec::new();
    for name in names.iter().filter(|name| wanted.as_deref().is_none_or(|wanted| wanted == **name))
    {
        let case = Case::new(mesh, name);
        if AssertUnwindSafe(Box::pin(run(&case))).catch_unwind().await.is_err() {
            failed.push(*name);
        }
        mesh.release_all();
    }
    failed
}

pub(crate) const NAMES: [&str; 33] = [
    "a",
    "a2",
    "b",
    "b2",
    "c",
    "c2",
    "d",
    "d2",
    "d3",
    "d4",
    "e",
    "e2",
    "g",
    "g2",
    "g3",
    "g4",
    "h",
    "h2",
    "h3",
    "i",
    "j",
    "k0",
    "k1",
    "toast",
    "half",
    "twice",
    "unmade",
    "moved_back",
    "three",
    "race",
    "f",
    "f2",
    "f3",
];

async fn run(case: &Case<'_>) {
    match case.name {
        "a" => updates::the_later_of_two_updates_wins(case).await,
        "a2" => updates::rows_win_whole(case).await,
        "b" => updates::an_update_overtakes_its_insert(case).await,
        "b2" => updates::two_updates_arrive_the_wrong_way_round(case).await,
        "c" => deletes::a_later_update_survives_a_deletion(case).await,
        "c2" => deletes::a_later_deletion_survives_an_update(case).await,
        "d" => deletes::a_row_inserted_again_elsewhere_survives_its_late_deletion(case).await,
        "d2" => deletes::a_row_inserted_again_arrives_before_its_first_life(case).await,
        "d3" => deletes::deleted_here_and_replaced_there(case).await,
        "d4" => deletes::replaced_here_and_deleted_there_later(case).await,
        "e" => keys::the_same_key_inserted_twice(case).await,
        "e2" => {
            keys::of_rows_with_one_key_one_is_taken_with_the_number_it_was_given(case).await;
        }
        "g" => deletes::a_later_insert_survives_a_truncate(case).await,
        "g2" => deletes::an_update_survives_a_truncate_and_a_new_row(case).await,
        "g3" => deletes::a_later_truncate_removes_what_it_did_not_know(case).await,
        "g4" => deletes::a_truncate_that_comes_late_leaves_what_came_with_a_later_one(case).await,
        "h" => clocks::of_equal_stamps_the_greater_node_wins(case).await,
        "h2" => clocks::a_clock_behind_loses_nothing_that_knew_the_other(case).await,
        "h3" => clocks::a_clock_behind_deletes_and_inserts_again(case).await,
        "i" => updates::transfers_keep_rows_but_not_sums(case).await,
        "j" => keys::a_child_whose_parent_goes_elsewhere_stays(case).await,
        "k0" => keys::a_row_moved_here_and_updated_there_later_is_two(case).await,
        "k1" => keys::a_row_moved_later_takes_nothing_of_what_it_did_not_know(case).await,
        "toast" => updates::a_large_value_is_never_of_another_version(case).await,
        "half" => updates::a_transaction_half_overwritten(case).await,
        "twice" => updates::the_second_update_of_a_transaction_is_not_lost(case).await,
        "unmade" => deletes::what_a_transaction_made_and_unmade_is_nowhere(case).await,
        "moved_back" => keys::keys_changed_in_a_circle(case).await,
        "three" => updates::three_at_once(case).await,
        "race" => races::a_row_committed_after_its_deletion_arrived_goes_everywhere(case).await,
        "f" => uniques::of_two_rows_with_one_value_the_later_stays(case).await,
        "f2" => uniques::of_two_updates_to_one_value_the_later_stays(case).await,
        "f3" => uniques::an_evicted_row_comes_back_when_its_value_is_free(case).await,
        other => panic!("no case {other}"),
    }
}

/// What the case `race` would come to if nodes did not look at their own changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_look_at_its_own_changes_a_node_keeps_what_others_deleted() {
    let Some(majors) = three_of(18).or_else(|| three_of(15)) else { return };
    let mesh = Mesh::start(majors, &case::tables(&["race"])).await;
    for node in mesh.nodes() {
        mesh.cut(&node, &node);
    }
    let case = Case::new(&mesh, "race");
    races::insert_beside_a_deletion(&case).await;
    mesh.settle().await;
    let differences = mesh.differences("case_race", "id").await;
    assert_eq!(differences.len(), 1, "the test does not force what it is to show");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_end_alike_on_15() {
    matrix(three_of(15)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_end_alike_on_18() {
    matrix(three_of(18)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_end_alike_on_a_mix_of_versions() {
    matrix(mixed()).await;
}
