//! What outlives changes of primary, of configuration and of the watcher itself.

use super::super::Judge;
use super::super::world::{OURS, THEIRS};
use super::{Herd, nodes};

fn taken_over(size: usize) -> Herd {
    let mut herd = Herd::healthy(size);
    herd.promote("n2");
    for i in 3..=size {
        herd.repoint(&format!("n{i}"), "n2");
    }
    herd.then("n2 WitnessedPromotion").with_fenced("n1");
    herd
}

#[test]
fn a_restarted_watcher_still_refuses_the_old_primary() {
    for size in [2, 3] {
        let mut herd = taken_over(size);
        herd.kill("n2").restart().then("none Fenced").with_fenced("n1").stays("none Fenced");
        herd.start("n2").then("n2 Attested");
    }
}

#[test]
fn a_restarted_watcher_has_witnessed_nothing_meanwhile() {
    let mut herd = Herd::healthy(3);
    herd.restart().promote("n2").then("split n1 n2").stays("split n1 n2").with_fenced("");
    herd.repoint("n3", "n2").then("n2 Unanimous").with_fenced("n1");
}

#[test]
fn memory_survives_its_text() {
    let mut herd = taken_over(3);
    herd.pass(3);
    let memory = herd.judge.memory();
    let text = serde_json::to_string(memory).unwrap();
    let back: super::Memory = serde_json::from_str(&text).unwrap();
    assert_eq!(back.fences, memory.fences);
    assert_eq!(back.standbys, memory.standbys);
    assert_eq!((back.term, back.system_id), (2, Some(OURS)));
    assert_eq!(back.incumbent.unwrap().flushed, memory.incumbent.as_ref().unwrap().flushed);
}

#[test]
fn another_configuration_keeps_fences_and_version() {
    let mut herd = taken_over(3);
    let version = herd.topology.version;
    herd.reconfigure(|config| config.quorum = crate::config::Quorum::Any);
    herd.kill("n2").then("none Fenced").with_fenced("n1");
    assert!(herd.topology.version > version);
    assert_eq!(herd.topology.term, 2);
}

#[test]
fn a_node_taken_out_of_the_configuration_is_not_missed() {
    let mut herd = taken_over(3);
    herd.judge.reconfigure(herd.config.clone(), nodes(2), None);
    herd.then("n2 Attested");
    assert!(!herd.topology.nodes.contains_key("n3"));
    herd.judge.reconfigure(herd.config.clone(), nodes(3), None);
    herd.then("n2 Attested").with_fenced("n1");
}

#[test]
fn another_cluster_by_configuration_starts_a_new_memory() {
    let mut herd = taken_over(2);
    herd.pass(3);
    herd.world.replace_by_stranger("n1");
    herd.world.rebuild("n2", "n1");
    herd.then("none NoClaimant");
    assert!(herd.view("n1").foreign);
    herd.reconfigure(|config| config.system_id = Some(THEIRS)).then("n1 Attested").with_fenced("");
    assert_eq!((herd.topology.term, herd.topology.system_id), (3, Some(THEIRS)));
    let memory = herd.judge.memory().clone();
    herd.config.system_id = Some(OURS);
    let judge = Judge::new(herd.config.clone(), nodes(2), memory, None);
    assert_eq!(judge.memory().incumbent, None);
}

#[test]
fn a_fenced_node_seen_in_recovery_is_trusted_again() {
    let mut herd = taken_over(3);
    herd.rebuild("n1", "n2").then("n2 Attested").with_fenced("").with_reads("n1 n3");
    herd.promote("n1").repoint("n3", "n1").then("n1 WitnessedPromotion").with_fenced("n2");
}

#[test]
fn a_stranger_in_recovery_lifts_no_fence() {
    let mut herd = taken_over(3);
    herd.world.replace_by_stranger("n1");
    herd.world.get_mut("n1").in_recovery = true;
    herd.look();
    assert!(herd.judge.memory().fences.contains_key("n1"));
}

#[test]
fn a_fenced_node_that_came_back_unseen_is_redeemed_by_its_followers() {
    // It was rebuilt, promoted and followed while the watcher could not see it.
    for zombie in [false, true] {
        let mut herd = taken_over(3);
        herd.hide("n1", true).pass(3).rebuild("n1", "n2").promote("n1").repoint("n3", "n1");
        if zombie {
            herd.hide("n1", false).then("n1 Unanimous").with_fenced("n2").stays("n1");
        } else {
            herd.rebuild("n2", "n1").hide("n1", false).then("n1 Attested").with_fenced("");
        }
    }
    // With nobody behind either of them, nothing tells which is true.
    let mut herd = taken_over(2);
    herd.hide("n1", true).pass(3).rebuild("n1", "n2").promote("n1").hide("n1", false);
    herd.then("split n1 n2").stays("split n1 n2");
}

#[test]
fn an_older_timeline_is_not_accepted_even_of_a_node_that_is_not_fenced() {
    // The old primary is started as a standby, without a rewind, and then as a primary again.
    let mut herd = taken_over(2);
    herd.write("n1", 0x1000).world.get_mut("n1").in_recovery = true;
    herd.look().with_fenced("").kill("n2").world.get_mut("n1").in_recovery = false;
    herd.then("none Fenced").stays("none Fenced");
}

#[test]
fn versions_and_terms_only_grow() {
    let mut herd = Herd::healthy(3);
    let (version, term) = (herd.topology.version, herd.topology.term);
    assert_eq!(term, 1);
    herd.look();
    assert_eq!((herd.topology.version, herd.topology.term), (version + 1, 1));
    herd.promote("n2").look();
    assert_eq!((herd.topology.version, herd.topology.term), (version + 2, 2));
    herd.kill("n2").pass(5).start("n2").look();
    assert_eq!(herd.topology.term, 2);
}
