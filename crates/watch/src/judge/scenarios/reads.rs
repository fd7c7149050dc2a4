//! Who may be read.

use std::time::Duration;

use super::super::world::{Power, name};
use super::Herd;
use crate::config::{LagAlarm, MaxLag};

#[test]
fn a_standby_past_the_fork_is_not_read() {
    let mut herd = Herd::healthy(3);
    herd.promote("n2").write("n1", 0x500).look().repoint("n3", "n2").look().with_reads("");
    let reason = herd.view("n3").reasons.join("; ");
    assert!(reason.contains("it replayed timeline 1 past 0/1000000"), "{reason}");
    herd.rebuild("n3", "n2").look().with_reads("n3");
}

#[test]
fn a_standby_of_the_primary_that_was_left_is_not_read() {
    let mut herd = Herd::healthy(3);
    herd.promote("n2").write("n1", 0x500).then("n2 WitnessedPromotion").with_reads("");
    let reason = herd.view("n3").reasons.join("; ");
    assert!(reason.contains("n1"), "{reason}");
    herd.kill("n1").rebuild("n3", "n2").look().with_reads("n3");
}

#[test]
fn a_standby_left_behind_before_the_fork_is_read_for_a_while() {
    let mut herd = Herd::healthy(3);
    herd.world.get_mut("n3").upstream = None;
    herd.kill("n1").promote("n2").then("n2 WitnessedPromotion").with_reads("n3");
    herd.pass(6).with_reads("");
}

#[test]
fn a_split_brain_is_read_from_the_last_primarys_standbys() {
    let mut herd = Herd::healthy(5);
    herd.promote("n2").promote("n3").then("split n1 n2 n3").with_reads("n4 n5");
    herd.repoint("n5", "n2").look().with_reads("n4");
    herd.forget().then("split n1 n2 n3").with_reads("");
}

#[test]
fn a_primary_is_not_a_reader_of_its_own_but_may_be_read() {
    let mut herd = Herd::healthy(3);
    herd.look().with_reads("n2 n3");
    assert!(herd.view("n1").readable);
    herd.promote("n2").look();
    assert!(!herd.view("n1").readable && herd.view("n2").readable);
}

#[test]
fn a_standby_too_far_behind_is_not_read() {
    let limit = MaxLag { bytes: Some(0x1000), time: None };
    let mut herd = Herd::healthy_with(2, |config| config.max_lag = limit);
    herd.world.get_mut("n2").lagging = true;
    herd.write("n1", 0x1000).look().with_reads("n2").write("n1", 1).look().with_reads("");
    assert_eq!(herd.view("n2").lag.unwrap().bytes, 0x1001);
    herd.world.get_mut("n2").lagging = false;
    herd.look().with_reads("n2");

    let limit = MaxLag { bytes: None, time: Some(Duration::from_secs(3)) };
    let mut herd = Herd::healthy_with(2, |config| config.max_lag = limit);
    herd.pass(60).with_reads("n2").world.get_mut("n2").lagging = true;
    herd.write("n1", 0x10).pass(3).with_reads("n2").pass(1).with_reads("");
}

#[test]
fn a_standby_far_behind_is_told_of_until_it_has_caught_up_by_half() {
    let alarm = LagAlarm { bytes: Some(0x1000), time: None };
    let mut herd = Herd::healthy_with(2, |config| config.lag_alarm = alarm);
    let late = |herd: &mut Herd| herd.look().view("n2").lag_alarm;
    herd.world.get_mut("n2").lagging = true;
    herd.write("n1", 0x1000);
    assert!(!late(&mut herd));
    herd.write("n1", 1);
    assert!(late(&mut herd) && herd.view("n2").readable, "it is told of, and read all the same");
    herd.kill("n2");
    assert!(late(&mut herd), "who does not answer has not caught up");
    herd.start("n2").world.get_mut("n2").lagging = false;
    assert!(!late(&mut herd));

    herd.world.get_mut("n2").lagging = true;
    herd.write("n1", 0x2000);
    assert!(late(&mut herd));
    herd.kill("n1").promote("n2");
    assert!(!late(&mut herd), "a primary is behind nobody");
}

#[test]
fn how_long_a_node_takes_to_answer_is_smoothed_and_forgotten_with_it() {
    let mut herd = Herd::healthy(2);
    let told = |herd: &mut Herd| herd.look().view("n2").latency_seconds;
    assert_eq!(told(&mut herd), None);
    for (took, expected) in [(8, 0.008), (16, 0.010), (10, 0.010)] {
        herd.judge.hear_latency(&name("n2"), Duration::from_millis(took));
        assert!((told(&mut herd).unwrap() - expected).abs() < 1e-9, "{took}");
    }
    herd.kill("n2");
    assert_eq!(told(&mut herd), None);
    herd.start("n2");
    assert_eq!(told(&mut herd), None, "who is back is measured anew");
}

#[test]
fn a_node_that_was_away_is_read_after_enough_good_probes() {
    let mut herd = Herd::healthy_with(2, |config| config.healthy_checks = 3);
    herd.kill("n2").look().start("n2");
    herd.look().with_reads("").look().with_reads("").look().with_reads("n2");
}

#[test]
fn a_node_is_away_after_enough_bad_probes() {
    let mut herd = Herd::healthy_with(2, |config| config.unhealthy_checks = 3);
    herd.power("n1", Power::Frozen).power("n2", Power::Frozen);
    herd.then("n1 Attested").then("n1 Attested").with_reads("n2");
    herd.then("none NoClaimant").with_reads("");
    herd.power("n1", Power::On).then("n1 Attested");
    herd.kill("n1").then("none NoClaimant");
}

#[test]
fn a_node_that_comes_and_goes_is_not_read_for_a_while() {
    let mut herd = Herd::healthy(3);
    herd.pass(60);
    for _ in 0..3 {
        herd.look().with_reads("n2 n3").kill("n3").look().start("n3");
    }
    herd.look().with_reads("n2").pass(9).with_reads("n2").pass(1).with_reads("n2 n3");
    let mut herd = Herd::healthy_with(3, |config| config.damping.changes = 0);
    for _ in 0..20 {
        herd.look().with_reads("n2 n3").kill("n3").look().start("n3");
    }
}

#[test]
fn a_node_that_accepts_no_new_connections_is_not_used() {
    let mut herd = Herd::healthy(3);
    let shut = || Some("no new connections".to_owned());
    assert!(herd.judge.hear_door(herd.now, &name("n1"), shut()));
    herd.then("none NoClaimant");
    assert!(!herd.judge.hear_door(herd.now, &name("n1"), shut()));
    assert!(herd.judge.hear_door(herd.now, &name("n1"), None));
    herd.then("n1 Attested");
}
