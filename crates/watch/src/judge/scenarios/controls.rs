//! Each rule of the judge is needed: with it switched off, a case of the tables ends with a wrong primary.

use super::super::Rules;
use super::super::world::Power;
use super::Herd;

/// A healthy herd watched by a judge without one rule.
fn careless(size: usize, switch: fn(&mut Rules)) -> Herd {
    Herd::healthy(size).without(switch)
}

#[test]
fn without_the_fence_the_old_primary_comes_back() {
    // The operator takes the role from n2 and gives it back to n1; n2 was not rebuilt, and n3 still follows it.
    let story = |herd: &mut Herd| {
        herd.promote("n2").repoint("n3", "n2").look().pin("n1", |_| {}).look().unpin().look();
    };
    let mut sound = Herd::healthy(3);
    story(&mut sound);
    sound.is("none Unattested").with_fenced("n2");
    let mut careless = careless(3, |rules| rules.fence = false);
    story(&mut careless);
    careless.is("n2 Unanimous");
}

#[test]
fn without_going_forward_only_a_node_on_an_old_timeline_is_accepted() {
    let story = |herd: &mut Herd| {
        herd.promote("n2").write("n1", 0x1000).look().world.get_mut("n1").in_recovery = true;
        herd.look().kill("n2").look().world.get_mut("n1").in_recovery = false;
        herd.world.rebuild("n3", "n1");
        herd.look();
    };
    let mut sound = Herd::healthy(3);
    story(&mut sound);
    sound.is("none Fenced");
    let mut careless = careless(3, |rules| rules.forward_only = false);
    story(&mut careless);
    careless.is("n1 Attested");
}

#[test]
fn without_attestation_a_lone_old_primary_is_accepted() {
    let story = |herd: &mut Herd| {
        herd.promote("n2").repoint("n3", "n2").hide("n2", true).hide("n3", true).forget().look();
    };
    let mut sound = Herd::healthy(3);
    story(&mut sound);
    sound.is("none NoQuorum");
    let mut careless = careless(3, |rules| rules.attest = false);
    story(&mut careless);
    careless.is("n1 Attested");
}

#[test]
fn without_the_lease_a_frozen_primary_is_still_named() {
    let mut careless = careless(3, |rules| rules.lease = false);
    careless.power("n1", Power::Frozen).pass(60).is("n1 Attested");
}

#[test]
fn without_witnesses_a_restored_copy_takes_over() {
    let story = |herd: &mut Herd| {
        herd.pass(60).world.restore_copy("n3", "n1");
        herd.look();
    };
    let herd = || Herd::new(3).primary("n1").standby("n2").of("n1");
    let mut sound = herd();
    story(&mut sound);
    sound.is("n1 Incumbent");
    let mut careless = herd().without(|rules| rules.witness = false);
    story(&mut careless);
    careless.is("n3 WitnessedPromotion");
}

#[test]
fn without_keeping_writes_a_lagging_standby_takes_over() {
    let mut careless = careless(3, |rules| rules.keep_writes = false);
    careless.world.get_mut("n2").lagging = true;
    careless.write("n1", 0x300).look().promote("n2").then("n2 WitnessedPromotion");
}

#[test]
fn without_the_filter_a_stranger_is_accepted() {
    let story = |herd: &mut Herd| {
        herd.kill("n1").kill("n2").look().world.replace_by_stranger("n2");
        herd.start("n2").world.get_mut("n2").timeline = herdsman_node::Timeline(2);
        herd.look();
    };
    let mut sound = Herd::healthy(2);
    story(&mut sound);
    sound.is("none NoClaimant");
    let mut careless = careless(2, |rules| rules.filter_foreign = false);
    story(&mut careless);
    careless.is("n2 WitnessedPromotion");
}

#[test]
fn without_waiting_for_all_the_first_to_answer_wins() {
    let story = |herd: &mut Herd| {
        herd.promote("n2").forget();
        for node in ["n1", "n3"] {
            let node = super::name(node);
            let sighting = herd.sighting(&node);
            herd.judge.observe(herd.now, &node, sighting);
        }
        herd.topology = herd.judge.judge(herd.now);
    };
    let mut sound = Herd::healthy(3);
    story(&mut sound);
    sound.is("none Starting");
    let mut careless = careless(3, |rules| rules.wait_for_all = false);
    story(&mut careless);
    careless.is("n1 Attested");
}
