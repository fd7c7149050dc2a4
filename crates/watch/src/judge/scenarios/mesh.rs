//! The members of a mesh: several primaries, and nothing wrong with it.

use std::collections::BTreeSet;

use herdsman_node::Role;

use super::*;
use crate::topology::Why;

fn mesh(size: usize, members: &[&str]) -> Herd {
    let members: BTreeSet<NodeName> = members.iter().map(|node| name(node)).collect();
    Herd::with(size, |config| config.mesh = members)
}

#[test]
fn every_member_is_a_primary_and_none_is_the_primary() {
    let mut herd = mesh(3, &["n1", "n2", "n3"]).primary("n1").primary("n2").primary("n3");
    // One of them was made from another's files, and so has its system identifier; one is a cluster of its own.
    herd.world.replace_by_stranger("n3");
    herd.pass(60);
    assert_eq!(herd.verdict(), "none Mesh");
    assert!(herd.topology.is_mesh() && herd.topology.primary().is_none());
    for node in ["n1", "n2", "n3"] {
        let view = herd.view(node);
        assert!(view.member && view.readable && !view.foreign && !view.fenced, "{node}: {view:?}");
        assert_eq!((view.role, view.reasons.as_slice()), (Role::Primary, &[][..]));
    }
    herd.kill("n1").pass(5);
    assert_eq!((herd.verdict(), herd.view("n1").role), ("none Mesh".to_owned(), Role::Unavailable));
    assert_eq!(herd.view("n2").role, Role::Primary);
    herd.start("n1").pass(5);
    assert!(herd.view("n1").readable, "nothing is held against a member that comes back");
}

#[test]
fn a_member_that_takes_no_writes_says_why() {
    let mut herd = mesh(3, &["n1", "n2"]).primary("n1").primary("n2").standby("n3").of("n1");
    herd.world.get_mut("n2").read_only = true;
    herd.pass(5);
    assert!(herd.view("n2").reasons[0].contains("refuses writes"), "{:?}", herd.view("n2"));
    let outsider = herd.view("n3");
    assert!(!outsider.member && !outsider.readable, "{outsider:?}");
    assert!(outsider.reasons[0].contains("no member of the mesh"), "{outsider:?}");
    herd.rebuild("n2", "n1").pass(5);
    assert!(herd.view("n2").reasons[0].contains("this is a standby"), "{:?}", herd.view("n2"));
}

#[test]
fn a_herd_that_becomes_a_mesh_and_back_is_judged_by_what_it_is() {
    let mut herd = Herd::healthy(2);
    herd.promote("n2").look();
    assert_ne!(herd.verdict(), "none Mesh");
    herd.reconfigure(|config| config.mesh = [name("n1"), name("n2")].into()).pass(2);
    assert_eq!(herd.verdict(), "none Mesh");
    assert!(herd.view("n1").readable && herd.view("n2").readable);
    herd.reconfigure(|config| config.mesh.clear()).pass(2);
    assert!(!matches!(herd.topology.verdict, Verdict::None { why: Why::Mesh, .. }));
}
