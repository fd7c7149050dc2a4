//! Negative controls: with a rule switched off some schedule must go wrong, or the simulation proves nothing about it.

use super::{Rules, Tally, simulate};

/// Schedules that are tried where the one that is named goes right.
const SEEDS: u64 = 10_000;

/// This schedule must go wrong without the rule, in a way that is spoken of like this. It may go right once schedules have
/// changed: then others are tried, which takes minutes where few need the rule, and another is to be named.
#[track_caller]
#[expect(clippy::print_stderr, reason = "somebody should put the other one here")]
fn is_needed(switch: fn(&mut Rules), seed: u64, complaint: &str) {
    simulate(seed, Rules::ALL).unwrap_or_else(|wrong| panic!("{wrong}"));
    let mut rules = Rules::ALL;
    switch(&mut rules);
    let fails = |seed: &u64| simulate(*seed, rules).is_err_and(|wrong| wrong.contains(complaint));
    if !fails(&seed) {
        let other = (0..SEEDS).find(fails);
        assert!(other.is_some(), "no schedule needs this rule");
        eprintln!("schedule {seed} does not need this rule any more; {other:?} does");
    }
}

#[test]
fn deletions_must_be_remembered() {
    is_needed(|rules| rules.tombstones = false, 1, ", not None");
}

#[test]
fn a_tombstone_must_not_be_replaced_by_an_older_one() {
    is_needed(|rules| rules.conditional_tombstones = false, 1, ", not None");
}

#[test]
fn rows_must_be_held_against_tombstones() {
    is_needed(|rules| rules.check_rows = false, 0, ", not None");
}

#[test]
fn a_member_must_join_its_own_changes() {
    is_needed(|rules| rules.self_stream = false, 16, ", not None");
}

#[test]
fn a_member_must_join_its_own_tombstones() {
    is_needed(|rules| rules.own_tombstones = false, 2, ", not None");
}

#[test]
fn one_session_must_apply_what_comes_from_all() {
    is_needed(|rules| rules.one_session = false, 3, ", not None");
}

#[test]
fn lanes_must_have_no_key_in_common() {
    is_needed(|rules| rules.lanes_apart = false, 884, ", not None");
}

#[test]
fn a_truncation_must_not_go_beside_anything() {
    is_needed(|rules| rules.truncates_alone = false, 2144, ", not None");
}

#[test]
fn what_goes_in_lanes_must_be_committed_in_its_order() {
    is_needed(|rules| rules.lanes_in_order = false, 49, "is None");
}

#[test]
fn stamps_must_be_above_what_the_member_has_seen() {
    is_needed(|rules| rules.floor = false, 0, "below its tombstone");
}

#[test]
fn stamps_must_move_the_floor_while_the_clock_is_behind() {
    is_needed(|rules| rules.moving_floor = false, 0, "below its tombstone");
}

#[test]
fn a_truncation_must_be_above_what_it_removes() {
    is_needed(|rules| rules.truncate_above = false, 852, "on no record");
}

#[test]
fn versions_of_one_microsecond_must_be_told_apart_by_node() {
    is_needed(|rules| rules.ties_by_node = false, 6, "is Some");
}

#[test]
fn conflicts_must_be_found_by_who_had_seen_what() {
    is_needed(|rules| rules.exact = false, 2, "on no record");
}

#[test]
fn rows_put_away_must_be_seen_again() {
    is_needed(|rules| rules.reevaluate = false, 0, "are visible");
}

#[test]
fn tombstones_must_stay_until_everybody_has_everything_older() {
    is_needed(|rules| rules.frontier = false, 0, "its deletion forgotten");
}

#[test]
fn a_joining_member_must_hold_the_frontier_back() {
    is_needed(|rules| rules.joiners_hold_back = false, 3936, "its deletion forgotten");
}

#[test]
fn a_copy_must_wait_for_what_the_slots_leave_out() {
    is_needed(|rules| rules.donor_waits = false, 6, "differ");
}

#[test]
fn a_copy_must_be_put_in_order() {
    is_needed(|rules| rules.sweep_copy = false, 1563, ", not None");
}

#[test]
fn what_only_some_have_of_a_lost_member_must_be_spread() {
    is_needed(|rules| rules.heals = false, 68, "not Some");
}

/// Without it nothing is lost; but records would be worth nothing, for most would be of no conflict.
#[test]
fn changes_taken_together_must_have_seen_what_the_first_of_them_has() {
    let wrong = |rules: Rules| {
        let mut total = Tally::default();
        for seed in 0..60 {
            if let Ok(tally) = simulate(seed, rules) {
                total.add(&tally);
            }
        }
        let wrong = total.false_sure + total.false_unsure;
        (1000 * wrong).checked_div(total.conflicts).unwrap()
    };
    let (on, off) = (wrong(Rules::ALL), wrong(Rules { runs: false, ..Rules::ALL }));
    assert!(on + 20 < off, "in a thousand records {on} are of no conflict, and {off} without");
}
