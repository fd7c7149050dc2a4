//! Who is named when one, two or three nodes claim to be primary: the lettered scenarios of split brain research.

use std::time::Duration;

use herdsman_node::Lsn;

use super::super::world::Power;
use super::{Herd, Outcome, check};
use crate::evidence::Sender;
use crate::topology::Verdict;

/// A log archiver: it receives everything and replays nothing.
fn archiver() -> Sender {
    Sender {
        application_name: "pg_receivewal".to_owned(),
        streaming: true,
        age: Some(Duration::ZERO),
        ..Sender::default()
    }
}

/// Promoted beside a living primary, and the other standby moved over before it diverged.
fn taken_over(herd: &mut Herd) {
    herd.promote("n2").repoint("n3", "n2").write("n1", 0x500);
}

#[test]
fn a_healthy_herd_has_its_primary() {
    check(3, |_| {}, &Outcome { watched: "n1 Attested", fresh: "n1 Attested" });
}

#[test]
fn b_promotion_beside_a_living_primary_is_followed_when_it_was_seen_coming() {
    check(
        3,
        |herd| {
            herd.promote("n2").write("n1", 0x500);
        },
        &Outcome { watched: "n2 WitnessedPromotion", fresh: "split n1 n2" },
    );
}

#[test]
fn b_the_primary_that_was_left_is_fenced_until_it_is_seen_in_recovery() {
    let mut herd = Herd::healthy(3);
    herd.promote("n2").write("n1", 0x500).then("n2 WitnessedPromotion").with_fenced("n1");
    herd.pass(600).is("n2 Incumbent").with_fenced("n1");
    herd.kill("n1").pass(5).start("n1").stays("n2").with_fenced("n1");
    herd.rebuild("n1", "n2").rebuild("n3", "n2").then("n2 Attested").with_fenced("");
}

#[test]
fn c_standby_past_the_fork_does_not_confuse_the_verdict() {
    check(
        3,
        |herd| {
            herd.promote("n2").write("n1", 0x500).look().repoint("n3", "n2");
        },
        &Outcome { watched: "n2 Incumbent", fresh: "split n1 n2" },
    );
}

#[test]
fn d_taken_over_with_every_standby() {
    check(3, taken_over, &Outcome { watched: "n2 WitnessedPromotion", fresh: "n2 Unanimous" });
}

#[test]
fn e_the_old_primary_comes_back_and_writes_more_than_the_new_one() {
    check(
        3,
        |herd| {
            taken_over(herd);
            herd.kill("n1").pass(5).start("n1").write("n1", 0x500_0000);
        },
        &Outcome { watched: "n2 Attested", fresh: "n2 Unanimous" },
    );
}

#[test]
fn g_a_stranger_at_a_configured_address_is_not_looked_at() {
    check(
        3,
        |herd| {
            taken_over(herd);
            herd.look().world.replace_by_stranger("n1");
        },
        &Outcome { watched: "n2 Attested", fresh: "n2 Attested" },
    );
}

#[test]
fn g_a_stranger_that_answers_first_is_not_taken_for_the_cluster() {
    let mut herd = Herd::new(3).primary("n1").standby("n2").of("n1").primary("n3");
    herd.world.replace_by_stranger("n3");
    herd.hide("n1", true).hide("n2", true).then("none NoQuorum").stays("none NoQuorum");
    herd.hide("n1", false).then("none UnknownCluster").with_reads("");
    herd.hide("n2", false).then("n1 Attested").with_reads("n2");
    assert!(herd.view("n3").foreign && !herd.view("n1").foreign);
}

#[test]
fn g_two_nodes_of_two_clusters_are_not_told_apart() {
    let mut herd = Herd::new(2).primary("n1").primary("n2");
    herd.world.replace_by_stranger("n2");
    herd.then("none UnknownCluster").stays("none UnknownCluster");
    herd.reconfigure(|config| config.system_id = Some(super::super::world::OURS));
    herd.then("n1 Attested");
    assert!(herd.view("n2").foreign);
}

#[test]
fn h_a_restored_copy_that_never_followed_changes_nothing() {
    let mut herd = Herd::new(3).primary("n1").standby("n2").of("n1");
    herd.pass(60).is("n1 Attested");
    herd.world.restore_copy("n3", "n1");
    herd.then("n1 Incumbent").with_fenced("n3").with_reads("n2").stays("n1");
    herd.forget().then("split n1 n3").stays("split n1 n3");
}

#[test]
fn h_a_copy_at_the_address_of_a_fenced_primary_changes_nothing() {
    let mut herd = Herd::healthy(3);
    taken_over(&mut herd);
    herd.pass(20).world.restore_copy("n1", "n2");
    herd.then("n2 Incumbent").with_fenced("n1").stays("n2");
}

#[test]
fn h_a_claimant_from_before_the_watch_is_not_taken_for_a_copy() {
    // The promotion was half a minute ago, the watcher has just started, and the new primary is seen a moment late.
    let mut herd = Herd::healthy(3);
    herd.promote("n2").write("n1", 0x500).hide("n2", true).forget().pass(1).is("n1 Attested");
    herd.hide("n2", false).then("split n1 n2").with_fenced("").stays("split n1 n2");
    herd.rebuild("n3", "n2").then("n2 Unanimous").with_fenced("n1");
}

#[test]
fn h_a_node_that_may_have_been_following_unseen_is_not_taken_for_a_copy() {
    let mut herd = Herd::healthy(3);
    herd.hide("n3", true).forget().pass(60).is("n1 Attested");
    herd.promote("n3").hide("n3", false).then("split n1 n3").with_fenced("");
    herd.repoint("n2", "n3").then("n3 Unanimous").with_fenced("n1");
}

#[test]
fn h_what_was_taken_for_a_copy_is_accepted_once_every_standby_follows() {
    let mut herd = Herd::new(3).primary("n1").standby("n2").of("n1");
    herd.pass(60).rebuild("n3", "n1").promote("n3").then("n1 Incumbent").with_fenced("n3");
    herd.repoint("n2", "n3").then("n3 Unanimous").with_fenced("n1").stays("n3");
}

#[test]
fn i_a_primary_that_refuses_writes_is_none() {
    check(
        3,
        |herd| herd.world.get_mut("n1").read_only = true,
        &Outcome { watched: "none ReadOnly", fresh: "none ReadOnly" },
    );
    let mut herd = Herd::healthy(3);
    herd.world.get_mut("n1").read_only = true;
    herd.look().with_reads("n2 n3").with_fenced("").world.get_mut("n1").read_only = false;
    herd.then("n1 Attested");
}

#[test]
fn i_a_promotion_that_refuses_writes_as_yet_ends_the_trust_in_the_old_primary() {
    let mut herd = Herd::healthy(3);
    herd.world.get_mut("n2").read_only = true;
    herd.promote("n2").then("none Unattested").stays("none Unattested");
    herd.world.get_mut("n2").read_only = false;
    herd.then("n2 WitnessedPromotion").with_fenced("n1");
}

#[test]
fn j_two_promotions_at_once_are_never_told_apart() {
    check(
        3,
        |herd| {
            herd.promote("n2").promote("n3");
        },
        &Outcome { watched: "split n1 n2 n3", fresh: "split n1 n2 n3" },
    );
    let mut herd = Herd::healthy(3);
    herd.promote("n2").promote("n3").kill("n1").then("split n2 n3").pass(7200).is("split n2 n3");
    herd.pin("n3", |_| {}).start("n1").then("n3 Pinned").with_fenced("n1 n2");
}

#[test]
fn j_one_of_two_promotions_falling_silent_does_not_prove_the_other() {
    let mut herd = Herd::healthy(3);
    herd.promote("n2").promote("n3").then("split n1 n2 n3");
    herd.power("n2", Power::Frozen).pass(3);
    assert!(!matches!(herd.topology.verdict, Verdict::Primary { .. }), "{}", herd.verdict());
    herd.rebuild("n2", "n3").then("n3 WitnessedPromotion");
}

#[test]
fn j_the_promotion_seen_second_ends_the_trust_in_the_first() {
    let mut herd = Herd::healthy(3);
    herd.hide("n3", true).promote("n2").promote("n3").then("n2 WitnessedPromotion");
    herd.hide("n3", false).then("split n2 n3").with_fenced("n1").stays("split n2 n3");
}

#[test]
fn k_a_promoted_cascade_keeps_its_followers() {
    let mut herd = Herd::new(3).primary("n1").standby("n2").of("n1").standby("n3").of("n2");
    herd.pass(10).is("n1 Attested");
    assert_eq!(herd.view("n3").follows.as_ref().unwrap().as_str(), "n2");
    herd.promote("n2").write("n1", 0x500).then("n2 WitnessedPromotion").with_reads("n3");
    herd.forget().then("n2 Unanimous").with_fenced("n1");
}

#[test]
fn l_a_primary_whose_synchronous_standbys_all_left_is_left_too() {
    // Its writes hang, but `synchronous_commit = local` would still be acknowledged.
    check(
        5,
        |herd| {
            herd.promote("n2");
            for node in ["n3", "n4", "n5"] {
                herd.repoint(node, "n2");
            }
        },
        &Outcome { watched: "n2 WitnessedPromotion", fresh: "n2 Unanimous" },
    );
}

#[test]
fn m_a_frozen_primary_is_none_until_it_thaws() {
    let mut herd = Herd::healthy(3);
    herd.power("n1", Power::Frozen).then("none NoClaimant").stays("none NoClaimant");
    herd.with_reads("n2 n3").power("n1", Power::On).then("n1 Attested").with_fenced("");
}

#[test]
fn m_a_primary_that_nobody_looks_at_expires() {
    let mut herd = Herd::healthy(3);
    let lease = herd.config.lease();
    herd.topology = herd.judge.judge(herd.now + lease);
    herd.is("n1 Attested");
    herd.topology = herd.judge.judge(herd.now + lease + Duration::from_millis(1));
    herd.is("none NoClaimant").with_reads("");
}

#[test]
fn p_a_log_archiver_is_no_standby() {
    let mut herd = Herd::healthy(3);
    taken_over(&mut herd);
    herd.world.get_mut("n1").strangers.push(archiver());
    herd.then("n2 WitnessedPromotion").forget().then("n2 Unanimous");
    herd.kill("n2").kill("n3").forget().then("none NoQuorum");
}

#[test]
fn f2_an_idle_herd_reports_rarely_and_is_still_attested() {
    let mut herd = Herd::healthy(3);
    for node in ["n2", "n3"] {
        herd.world.get_mut(node).silence = Duration::from_secs(23);
    }
    herd.forget().then("n1 Attested").with_reads("n2 n3");
    for node in ["n2", "n3"] {
        herd.world.get_mut(node).silence = Duration::from_secs(26);
    }
    herd.forget().then("none Unattested");
}

#[test]
fn a_promotion_an_hour_after_the_primary_died_is_accepted() {
    let mut herd = Herd::healthy(2);
    herd.kill("n1").pass(3600).is("none NoClaimant").with_reads("n2");
    herd.promote("n2").then("n2 WitnessedPromotion");
    herd.start("n1").stays("n2").with_fenced("n1");
}

#[test]
fn a_standby_that_had_left_long_before_its_promotion_proves_nothing() {
    let mut herd = Herd::healthy(3);
    herd.world.get_mut("n2").upstream = None;
    herd.pass(60).is("n1 Attested");
    herd.promote("n2").then("split n1 n2").stays("split n1 n2").with_fenced("");
}

#[test]
fn a_lagging_standby_promoted_beside_the_primary_is_held() {
    let mut herd = Herd::healthy(3);
    herd.world.get_mut("n2").lagging = true;
    herd.write("n1", 0x300).look().promote("n2").then("split n1 n2").stays("split n1 n2");
    assert!(herd.topology.verdict.reason().contains("n2 lacks 768 bytes"));
}

#[test]
fn a_lagging_standby_promoted_after_the_primary_died_would_lose_writes() {
    for size in [2, 3] {
        let mut herd = Herd::healthy(size);
        herd.world.get_mut("n2").lagging = true;
        herd.write("n1", 0x300).look().kill("n1").promote("n2").then("none LostWrites");
        assert!(herd.topology.verdict.reason().contains("n2 was promoted without 768 bytes"));
        herd.stays("none LostWrites").write("n2", 0x1_0000).stays("none LostWrites");
        herd.pin("n2", |_| {}).then("n2 Pinned").start("n1").look().with_fenced("n1");
        herd.unpin().stays("n2");
    }
}

#[test]
fn half_a_record_at_a_pages_end_is_no_loss() {
    for (received, verdict) in [(0x2000, "n2 WitnessedPromotion"), (0x1f00, "none LostWrites")] {
        let mut herd = Herd::healthy(2);
        let n2 = herd.world.get_mut("n2");
        (n2.lagging, n2.half_record) = (true, received);
        herd.write("n1", 0x2000).look().kill("n1").promote("n2").then(verdict);
    }
    // In the middle of a page a flush ends with a whole record.
    let mut herd = Herd::healthy(2);
    let n2 = herd.world.get_mut("n2");
    (n2.lagging, n2.half_record) = (true, 0x300);
    herd.write("n1", 0x300).look().kill("n1").promote("n2").then("none LostWrites");
}

#[test]
fn a_loss_is_noticed_where_history_may_not_be_read() {
    let mut herd = Herd::healthy(2);
    herd.world.get_mut("n2").shows_history = false;
    herd.world.get_mut("n2").lagging = true;
    herd.write("n1", 0x300).look().kill("n1").promote("n2").then("none LostWrites");
    // What the new primary writes later does not bring back what it lacked at first sight.
    herd.write("n2", 0x1_0000).stays("none LostWrites");
}

#[test]
fn a_rival_that_falls_silent_does_not_give_the_role_back() {
    let mut herd = Herd::healthy(3);
    herd.world.get_mut("n2").lagging = true;
    herd.write("n1", 0x300).look().promote("n2").then("split n1 n2");
    herd.power("n2", Power::Frozen).pass(3).is("none Unattested").stays("none Unattested");
    herd.power("n2", Power::On).then("split n1 n2");
    // Stopping the wrong one is the operator's way out.
    herd.kill("n2").then("n1 Attested").start("n2").then("split n1 n2");
    herd.rebuild("n2", "n1").then("n1 Attested").with_fenced("");
}

#[test]
fn a_loss_is_accepted_once_another_node_follows() {
    let mut herd = Herd::healthy(3);
    herd.world.get_mut("n2").lagging = true;
    herd.write("n1", 0x300).look().kill("n1").promote("n2").then("none LostWrites");
    herd.rebuild("n3", "n2").then("n2 Attested").start("n1").stays("n2").with_fenced("n1");
}

#[test]
fn a_branch_that_never_held_the_last_timeline_lost_all_of_it() {
    let mut herd = Herd::healthy(2);
    herd.promote("n2").then("n2 WitnessedPromotion").write("n1", 0x10_0000).look();
    herd.kill("n2").kill("n1").look();
    // The old primary is started as a standby and promoted twice: two timelines ahead, and beside the last one.
    herd.start("n1").world.get_mut("n1").in_recovery = true;
    herd.look().promote("n1").promote("n1").world.get_mut("n1").branches.remove(1);
    herd.then("none LostWrites").stays("none LostWrites");
}

#[test]
fn a_planned_switchover_fences_nobody_and_can_go_back() {
    let mut herd = Herd::healthy(3);
    herd.kill("n1").look().promote("n2").rebuild("n1", "n2").repoint("n3", "n2");
    herd.then("n2 WitnessedPromotion").with_fenced("").then("n2 Attested");
    herd.kill("n2").look().promote("n1").rebuild("n2", "n1").repoint("n3", "n1");
    herd.then("n1 WitnessedPromotion").with_fenced("").stays("n1").with_reads("n2 n3");
}

#[test]
fn a_primary_behind_the_watchers_back_is_betrayed_by_its_standby() {
    // The watcher cannot see the new primary, but a standby already receives its timeline.
    let mut herd = Herd::healthy(3);
    herd.hide("n2", true).pass(1).promote("n2").repoint("n3", "n2").then("none Unattested");
    herd.stays("none Unattested");
    assert!(herd.topology.verdict.reason().contains("n3"), "{}", herd.topology.verdict);
    herd.hide("n2", false).then("n2 Unanimous").with_fenced("n1");
}

#[test]
fn reasons_name_the_nodes() {
    let mut herd = Herd::healthy(3);
    let reason = |herd: &Herd| herd.topology.verdict.reason().to_owned();
    assert_eq!(reason(&herd), "2 of 2 standbys that answer follow it, and it says so too");
    herd.kill("n1").look();
    assert_eq!(
        reason(&herd),
        "n1, the last primary, does not answer, and nobody else accepts writes"
    );
    herd.start("n1").promote("n2").look();
    assert_eq!(
        reason(&herd),
        "it was promoted while following n1 and its history shows that nothing acknowledged was lost"
    );
    herd.kill("n2").look();
    assert_eq!(
        reason(&herd),
        "n1 claims timeline 1, which was left for timeline 2; it is fenced until it has been seen in recovery"
    );
    herd.start("n2").forget().look();
    assert_eq!(
        reason(&herd),
        "n1 on timeline 1 and n2 on timeline 2 both accept writes: no proof tells which is true"
    );
    assert_eq!(herd.world.get("n1").lsn, Lsn(0x100_0000));
}
