//! The operator's pin, the outside authority, and the policies.

use std::time::Duration;

use herdsman_node::{NodeName, SystemId, Timeline};

use super::super::world::name;
use super::{Herd, nodes};
use crate::Moment;
use crate::config::{Authority, LostStandbys, Pin, Quorum, SplitBrain};
use crate::topology::Why;

impl Herd {
    /// The operator pins this node.
    pub(super) fn pin(&mut self, node: &str, set: impl FnOnce(&mut Pin)) -> &mut Self {
        let mut pin = Pin { node: name(node), system_id: None, min_timeline: None, until: None };
        set(&mut pin);
        self.reconfigure(|config| config.pin = Some(pin))
    }

    pub(super) fn unpin(&mut self) -> &mut Self {
        self.reconfigure(|config| config.pin = None)
    }

    /// The authority says this just before the next looks.
    fn authority(&mut self, named: Option<&str>) -> &mut Self {
        self.judge.hear_authority(self.now, named.map(name));
        self
    }
}

fn split() -> Herd {
    let mut herd = Herd::healthy(3);
    herd.promote("n2").promote("n3").then("split n1 n2 n3");
    herd
}

fn with_authority() -> Herd {
    Herd::healthy_with(3, |config| {
        let (interval, timeout) = (Duration::from_secs(2), Duration::from_secs(1));
        config.authority = Some(Authority { command: Vec::new(), interval, timeout });
    })
}

#[test]
fn a_pin_wins_over_every_proof_and_fences_the_rest() {
    let mut herd = split();
    herd.pin("n1", |_| {}).then("n1 Pinned").with_fenced("n2 n3").stays("n1");
    let mut herd = Herd::healthy(3);
    herd.promote("n2").repoint("n3", "n2").then("n2 WitnessedPromotion").with_fenced("n1");
    herd.pin("n1", |_| {}).then("n1 Pinned").with_fenced("n2");
}

#[test]
fn a_pin_on_a_node_that_cannot_be_primary_holds() {
    let mut herd = Herd::healthy(3);
    herd.pin("n2", |_| {}).then("none Overruled").stays("none Overruled").with_reads("n2 n3");
    herd.pin("n9", |_| {}).then("none Overruled");
    assert!(herd.topology.verdict.reason().contains("n9 is pinned"));
    herd.kill("n1").pin("n1", |_| {}).then("none Overruled").start("n1").then("n1 Pinned");
}

#[test]
fn a_pin_is_bound_to_its_cluster_and_timeline() {
    let mut herd = split();
    herd.pin("n2", |pin| pin.min_timeline = Some(Timeline(3))).then("none Overruled");
    herd.pin("n2", |pin| pin.min_timeline = Some(Timeline(2))).then("n2 Pinned");
    herd.pin("n3", |pin| pin.system_id = Some(SystemId(1))).then("none Overruled");
    herd.pin("n3", |pin| pin.system_id = Some(super::super::world::OURS)).then("n3 Pinned");
}

#[test]
fn a_pin_expires() {
    let mut herd = Herd::healthy(3);
    herd.pin("n2", |_| {});
    let until = herd.now + Duration::from_secs(10);
    herd.judge.reconfigure(herd.config.clone(), nodes(3), Some(until));
    herd.pass(9).is("none Overruled");
    herd.pass(1).is("n1 Attested");
}

#[test]
fn a_node_that_was_pinned_away_does_not_come_back_when_the_pin_expires() {
    let mut herd = Herd::healthy(3);
    herd.promote("n2").repoint("n3", "n2").then("n2 WitnessedPromotion");
    herd.pin("n1", |_| {}).then("n1 Pinned").with_fenced("n2");
    herd.unpin().look().with_fenced("n2");
    assert_ne!(herd.topology.primary(), Some(&name("n2")));
    herd.rebuild("n2", "n1").rebuild("n3", "n1").then("n1 Attested").with_fenced("");
}

#[test]
fn an_authority_decides_a_split() {
    let mut herd = with_authority();
    herd.promote("n2").promote("n3").authority(Some("n3")).then("n3 Authority").with_fenced("n1");
}

#[test]
fn an_authority_that_names_a_standby_holds() {
    let mut herd = with_authority();
    herd.authority(Some("n1")).then("n1 Authority");
    herd.authority(Some("n2")).then("none Overruled").with_reads("n2 n3");
}

#[test]
fn an_authority_does_not_bring_back_what_was_left() {
    let mut herd = with_authority();
    herd.promote("n2").repoint("n3", "n2").then("n2 WitnessedPromotion");
    herd.authority(Some("n1")).then("none Overruled").with_fenced("n1");
}

#[test]
fn an_authoritys_word_goes_stale() {
    let mut herd = with_authority();
    herd.authority(Some("n2")).pass(5).is("none Overruled");
    herd.look().is("n1 Attested");
    herd.authority(None).then("n1 Attested");
}

#[track_caller]
fn first_verdict(size: usize, following: usize, quorum: Quorum) -> String {
    let mut herd = Herd::with(size, |config| config.quorum = quorum).primary("n1");
    for i in 0..following {
        herd = herd.standby(&format!("n{}", i + 2)).of("n1");
    }
    herd.look().verdict()
}

#[test]
fn the_quorum_decides_how_many_must_agree() {
    // (nodes, standbys that follow, accepted by: auto, majority, any, none)
    let table = [
        (1, 0, [true, true, false, true]),
        (2, 0, [true, false, false, true]),
        (2, 1, [true, true, true, true]),
        (3, 0, [false, false, false, true]),
        (3, 1, [true, true, true, true]),
        (5, 1, [false, false, true, true]),
        (5, 2, [true, true, true, true]),
    ];
    for (size, following, accepted) in table {
        let quorums = [Quorum::Auto, Quorum::Majority, Quorum::Any, Quorum::None];
        for (quorum, accepted) in quorums.into_iter().zip(accepted) {
            let expected = if accepted { "n1 Attested" } else { "none NoQuorum" };
            let verdict = first_verdict(size, following, quorum);
            assert_eq!(verdict, expected, "{size} nodes, {following} follow, {quorum:?}");
        }
    }
}

#[test]
fn a_primary_without_its_standbys_is_kept_or_held() {
    let mut keep = Herd::healthy(3);
    keep.kill("n2").kill("n3").then("n1 Incumbent").stays("n1");
    let mut hold = Herd::healthy_with(3, |config| config.lost_standbys = LostStandbys::Hold);
    hold.kill("n2").then("n1 Attested").kill("n3").then("none NoQuorum").stays("none NoQuorum");
    hold.start("n2").then("n1 Attested");
}

#[test]
fn a_detached_standby_counts_against_a_first_primary_for_a_while() {
    let mut herd = Herd::new(3).primary("n1").standby("n2").of("n1").standby("n3").of("n1");
    herd.world.get_mut("n3").upstream = None;
    herd.then("none Unattested").pass(4).is("none Unattested");
    herd.pass(1).is("n1 Attested");
}

#[test]
fn the_predecessors_rule_names_nobody_while_two_claim() {
    let mut herd = Herd::healthy_with(3, |config| config.split_brain = SplitBrain::None);
    herd.promote("n2").repoint("n3", "n2").then("split n1 n2").stays("split n1 n2");
    for node in ["n1", "n2"] {
        assert_eq!(herd.view(node).role, herdsman_node::Role::Primary, "{node}");
    }
    herd.kill("n1").then("n2 WitnessedPromotion").start("n1").then("split n1 n2");
    assert_eq!(herd.view("n1").role, herdsman_node::Role::Primary);
    assert!(herd.view("n1").fenced);
    herd.kill("n2").then("none Fenced").stays("none Fenced");
}

#[test]
fn the_first_verdict_waits_until_every_node_was_tried() {
    let mut herd = Herd::healthy(3);
    herd.forget();
    let see = |herd: &mut Herd, node: &str| {
        let sighting = herd.sighting(&name(node));
        herd.judge.observe(herd.now, &name(node), sighting);
        herd.topology = herd.judge.judge(herd.now);
    };
    herd.topology = herd.judge.judge(herd.now);
    for node in ["n1", "n2"] {
        assert_eq!(herd.is("none Starting").topology.system_id.is_some(), node == "n2");
        see(&mut herd, node);
    }
    herd.is("none Starting").kill("n3");
    see(&mut herd, "n3");
    herd.is("n1 Attested");
}

#[test]
fn unknown_nodes_are_not_listened_to() {
    let mut herd = Herd::healthy(2);
    let (stranger, sighting): (NodeName, _) = (name("n7"), herd.sighting(&name("n1")));
    herd.judge.observe(herd.now, &stranger, sighting);
    herd.judge.hear_addresses(&stranger, vec!["n7:1".to_owned()]);
    herd.judge.hear_heartbeat(&stranger, crate::topology::Heartbeat::Missing);
    assert_eq!(herd.look().topology.nodes.len(), 2);
    let nobody = crate::topology::Verdict::None { why: Why::Starting, reason: String::new() };
    assert_ne!(herd.topology.verdict, nobody);
    assert!(herd.now > Moment::default());
}
