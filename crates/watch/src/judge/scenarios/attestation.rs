//! Who is believed to follow whom.

use super::super::world::name;
use super::Herd;
use crate::evidence::Sender;

/// A fresh watcher's look at a primary, `n2` and `n3` after `set` changed something.
fn fresh(set: impl FnOnce(&mut Herd)) -> Herd {
    let mut herd = Herd::healthy(3);
    set(&mut herd);
    herd.forget().look();
    herd
}

fn follows(herd: &Herd, node: &str) -> Option<String> {
    herd.view(node).follows.as_ref().map(ToString::to_string)
}

#[test]
fn an_unknown_address_is_no_obstacle_when_one_node_lists_the_standby() {
    let mut herd = fresh(|herd| {
        herd.world.get_mut("n2").calls_upstream = Some("10.0.0.7".to_owned());
    });
    assert_eq!(follows(herd.is("n1 Attested"), "n2").as_deref(), Some("n1"));
    let mut herd = fresh(|herd| {
        let standby = herd.world.get_mut("n2");
        (standby.uses_slot, standby.calls_upstream) = (false, Some("10.0.0.7".to_owned()));
    });
    assert_eq!(follows(herd.is("n1 Attested"), "n2").as_deref(), Some("n1"), "by its name");
}

#[test]
fn a_slot_on_one_side_only_is_no_match() {
    let mut herd = Herd::healthy(3);
    herd.judge.observe(herd.now, &name("n1"), {
        let mut evidence = herd.world.evidence("n1");
        evidence.senders[0].slot = None;
        crate::evidence::Sighting::Seen(Box::new(evidence))
    });
    herd.topology = herd.judge.judge(herd.now);
    assert_eq!(follows(&herd, "n2"), None);
}

#[test]
fn a_standby_of_a_node_that_does_not_live_is_detached() {
    let mut herd = Herd::healthy(3);
    // n1 is frozen: its standbys still say `streaming`, and a restored copy lists a slot of the same name.
    herd.power("n1", super::Power::Frozen).look();
    assert_eq!(follows(&herd, "n2"), None);
    let row = Sender { replayed: Some(herd.world.get("n2").lsn), ..row("n2") };
    herd.world.rebuild("n3", "n1");
    herd.world.promote("n3");
    herd.world.get_mut("n3").strangers.push(row);
    herd.look();
    assert_eq!(follows(&herd, "n2"), None, "it names n1, whose address is known");
}

fn row(slot: &str) -> Sender {
    Sender {
        application_name: slot.to_owned(),
        streaming: true,
        slot: Some(slot.to_owned()),
        ..Sender::default()
    }
}

#[test]
fn two_upstreams_that_list_the_same_standby_are_no_proof() {
    let herd = fresh(|herd| {
        herd.world.get_mut("n2").calls_upstream = Some("10.0.0.7".to_owned());
        let replayed = Some(herd.world.get("n2").lsn);
        herd.world.get_mut("n3").strangers.push(Sender { replayed, ..row("n2") });
    });
    assert_eq!(follows(&herd, "n2"), None);
    assert_eq!(herd.verdict(), "none Unattested");
}

#[test]
fn learnt_addresses_are_used() {
    let mut herd = Herd::healthy(3);
    herd.world.get_mut("n2").calls_upstream = Some("10.0.0.7".to_owned());
    let replayed = Some(herd.world.get("n2").lsn);
    herd.world.get_mut("n3").strangers.push(Sender { replayed, ..row("n2") });
    herd.forget().judge.hear_addresses(&name("n1"), vec!["10.0.0.7:5432".to_owned()]);
    herd.then("n1 Attested");
    assert_eq!(follows(&herd, "n2").as_deref(), Some("n1"));
}

#[test]
fn a_follower_that_is_catching_up_or_has_said_nothing_is_no_witness() {
    for spoil in [|s: &mut Sender| s.streaming = false, |s: &mut Sender| s.replayed = None] {
        let mut herd = Herd::healthy(2);
        let mut evidence = herd.world.evidence("n1");
        spoil(&mut evidence.senders[0]);
        herd.judge.observe(
            herd.now,
            &name("n1"),
            crate::evidence::Sighting::Seen(Box::new(evidence)),
        );
        herd.topology = herd.judge.judge(herd.now);
        assert_eq!(follows(&herd, "n2"), None);
    }
}

#[test]
fn a_cascaded_standby_attests_through_its_upstream() {
    let mut herd = Herd::new(3).primary("n1").standby("n2").of("n1").standby("n3").of("n2");
    herd.then("n1 Attested").with_reads("n2 n3");
    assert!(herd.topology.verdict.reason().starts_with("2 of 2 standbys"));
    herd.kill("n2").forget().then("none Unattested");
}

#[test]
fn a_circle_of_standbys_follows_nobody() {
    let mut herd = Herd::new(3).primary("n1").standby("n2").of("n1").standby("n3").of("n2");
    herd.repoint("n2", "n3").then("none Unattested");
    assert_eq!(follows(&herd, "n2").as_deref(), Some("n3"));
    assert_eq!(follows(&herd, "n3").as_deref(), Some("n2"));
}

#[test]
fn without_pg_monitor_nobody_is_seen_following_and_the_reason_says_so() {
    let mut herd = fresh(|herd| {
        for node in ["n1", "n2", "n3"] {
            herd.world.get_mut(node).blind = true;
        }
    });
    herd.is("n1 Attested").with_reads("n2 n3");
    assert!(herd.topology.verdict.reason().ends_with("their word cannot be checked"));
    assert!(herd.view("n2").reasons[0].contains("GRANT pg_monitor"));
    herd.promote("n2").then("split n1 n2").stays("split n1 n2");
    herd.kill("n1").then("n2 Attested").start("n1").stays("n2").with_fenced("n1");
}

#[test]
fn a_blind_standby_on_a_newer_timeline_is_not_behind_an_older_one() {
    let mut herd = Herd::healthy(3);
    for node in ["n1", "n2", "n3"] {
        herd.world.get_mut(node).blind = true;
    }
    herd.promote("n2").repoint("n3", "n2").hide("n2", true).forget();
    herd.then("none Unattested").stays("none Unattested");
}
