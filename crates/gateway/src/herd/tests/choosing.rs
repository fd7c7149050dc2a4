use proptest::prelude::*;

use super::*;

#[test]
fn each_target_goes_where_it_says() {
    let herd = Simulated::new(healthy(2), OPTIONS);
    let (w, r) = (Some((0, true)), Some((1, false)));
    let on_primary = Some((0, false));
    for (target, write, read) in [
        (Target::Split, w, r),
        (Target::Writer, w, on_primary),
        // What writes there is for the standby to refuse.
        (Target::Reader, r, r),
        (Target::Node(name("n1")), w, on_primary),
        (Target::Node(name("n2")), r, r),
        (Target::Writers, on_primary, on_primary),
    ] {
        assert_eq!(place(herd.choose(Want::Write, &target)), write, "write to {target:?}");
        assert_eq!(place(herd.choose(Want::Read, &target)), read, "read from {target:?}");
    }
    let unknown = Target::Node(name("n9"));
    assert_eq!(herd.choose(Want::Read, &unknown), Choice::Refuse);
}

#[test]
fn without_a_reader_reads_go_to_the_primary_and_writes_of_a_reader_nowhere() {
    let herd = Simulated::new(healthy(1), OPTIONS);
    assert_eq!(place(herd.choose(Want::Read, &Target::Split)), Some((0, false)));
    assert_eq!(place(herd.choose(Want::Read, &Target::Reader)), Some((0, false)));
    assert_eq!(herd.choose(Want::Write, &Target::Reader), Choice::Wait);
}

#[test]
fn nobody_is_written_to_without_proof_and_the_error_says_why() {
    let roles = [("n1", Role::Primary), ("n2", Role::Primary), ("n3", Role::Standby)];
    for (verdict, reason) in [
        (nobody(), "too few nodes agree"),
        (split_brain(&["n1", "n2"]), "two claim it"),
        (Verdict::default(), "no node has answered yet"),
    ] {
        let herd = Simulated::new(topology(verdict, &roles), OPTIONS);
        for target in [Target::Split, Target::Writer, Target::Node(name("n1"))] {
            assert_eq!(herd.choose(Want::Write, &target), Choice::Wait, "{target:?}: {reason}");
            let problem = herd.herd.problem(Want::Write, &target, None, &Causal::default());
            assert_eq!(problem.code, "57P03");
            assert!(problem.message.contains(reason), "{} lacks {reason}", problem.message);
        }
        // A standby refuses writes by itself, so it may be asked.
        assert_eq!(place(herd.choose(Want::Read, &Target::Split)), Some((2, false)));
    }
}

#[test]
fn whether_a_split_brain_is_read_in_is_a_setting() {
    let roles = [("n1", Role::Primary), ("n2", Role::Primary), ("n3", Role::Standby)];
    let options = Options { read_in_split_brain: false, ..OPTIONS };
    let herd = Simulated::new(topology(split_brain(&["n1", "n2"]), &roles), options);
    assert_eq!(herd.choose(Want::Read, &Target::Split), Choice::Wait);
    let problem = herd.herd.problem(Want::Read, &Target::Split, None, &Causal::default());
    assert!(problem.message.contains("two claim it"), "{}", problem.message);
    let herd = Simulated::new(topology(nobody(), &roles), options);
    assert_eq!(place(herd.choose(Want::Read, &Target::Split)), Some((2, false)));
}

#[test]
fn a_group_sees_its_own_nodes_only() {
    let herd = Simulated::new(healthy(3), OPTIONS);
    let group: Arc<[NodeName]> = [name("n3")].into();
    let choose = |want, target: &Target| {
        place(herd.choose_with(want, target, Some(&group), &mut Causal::default(), &[]))
    };
    assert_eq!(choose(Want::Read, &Target::Split), Some((2, false)));
    assert_eq!(choose(Want::Write, &Target::Split), None);
    assert_eq!(choose(Want::Read, &Target::Writers), None);
    let problem = herd.herd.problem(Want::Write, &Target::Split, Some(&group), &Causal::default());
    assert!(problem.message.contains("n1 is not in this group"), "{}", problem.message);
    let both: Arc<[NodeName]> = [name("n1"), name("n3")].into();
    let write =
        herd.choose_with(Want::Write, &Target::Split, Some(&both), &mut Causal::default(), &[]);
    assert_eq!(place(write), Some((0, true)));
}

#[test]
fn the_writers_of_a_mesh_are_all_that_are_there_and_no_standby() {
    let roles = [
        ("n1", Role::Primary),
        ("n2", Role::Primary),
        ("n3", Role::Standby),
        ("n4", Role::Unavailable),
    ];
    let herd = Simulated::new(topology(nobody(), &roles), OPTIONS);
    for _ in 0..50 {
        let node = place(herd.choose(Want::Write, &Target::Writers));
        assert!(matches!(node, Some((0 | 1, false))), "{node:?}");
    }
    let again = |tried: &[usize]| {
        place(herd.choose_with(Want::Write, &Target::Writers, None, &mut Causal::default(), tried))
    };
    assert_eq!(again(&[0]), Some((1, false)));
    assert!(again(&[0, 1]).is_some(), "one may have come back");
}

#[test]
fn a_member_of_a_mesh_is_written_to_by_its_name_and_another_needs_proof() {
    let roles = [("n1", Role::Primary), ("n2", Role::Primary)];
    let mut topology = topology(nobody(), &roles);
    topology.nodes.get_mut("n1").unwrap().member = true;
    let herd = Simulated::new(topology, OPTIONS);
    let write = |node: &str| place(herd.choose(Want::Write, &Target::Node(name(node))));
    assert_eq!((write("n1"), write("n2")), (Some((0, false)), None));
}

#[test]
fn why_nothing_can_be_read_is_said_once() {
    let nodes = [("n1", Role::Primary), ("n2", Role::Primary), ("n3", Role::Unavailable)];
    let options = Options { read_in_split_brain: false, ..OPTIONS };
    let herd = Simulated::new(topology(split_brain(&["n1", "n2"]), &nodes), options);
    let problem = herd.herd.problem(Want::Read, &Target::Split, None, &Causal::default());
    for reason in ["two claim it", "n1 is", "n2 is", "n3 is"] {
        assert_eq!(problem.message.matches(reason).count(), 1, "{}", problem.message);
    }
}

#[test]
fn a_node_that_failed_is_tried_last() {
    let herd = Simulated::new(healthy(3), OPTIONS);
    let choose = |tried: &[usize]| {
        place(herd.choose_with(Want::Read, &Target::Split, None, &mut Causal::default(), tried))
    };
    assert_eq!(choose(&[1]), Some((2, false)));
    assert_eq!(choose(&[1, 2]), Some((0, false)), "the primary reads, too");
    assert!(matches!(choose(&[0, 1, 2]), Some((1 | 2, false))));
}

fn any_role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Primary), Just(Role::Standby), Just(Role::Unavailable)]
}

proptest! {
    /// Whatever is known, wanted and has failed: only the proven primary is written to, and only what may be read is read.
    #[test]
    fn a_write_goes_to_the_proven_primary_or_nowhere(
        roles in prop::collection::vec(any_role(), 1..5),
        verdict in 0..4_usize,
        holds in 0..2_usize,
        suspect in prop::option::of(0..5_usize),
        tried in prop::collection::vec(0..5_usize, 0..4),
        target in prop_oneof![Just(Target::Split), Just(Target::Writer), Just(Target::Reader)],
        write: bool,
    ) {
        let names: Vec<String> = (0..roles.len()).map(|n| format!("n{n}")).collect();
        let nodes: Vec<(&str, Role)> = names.iter().map(String::as_str).zip(roles.iter().copied()).collect();
        let claims = roles.first() == Some(&Role::Primary);
        let verdict = match verdict {
            0 if claims => primary("n0"),
            1 => split_brain(&["n0"]),
            _ => nobody(),
        };
        let proven = matches!(verdict, Verdict::Primary { .. });
        let herd = Simulated::new(topology(verdict, &nodes), OPTIONS);
        for _ in 0..holds {
            herd.herd.hold();
        }
        if let Some(node) = suspect {
            herd.herd.suspect(node);
        }
        let want = if write { Want::Write } else { Want::Read };
        let choice = herd.choose_with(want, &target, None, &mut Causal::default(), &tried);
        if let Choice::Node { node, writer, epoch } = choice {
            prop_assert_eq!(epoch, herd.herd.epoch(node));
            prop_assert!(suspect != Some(node), "in doubt");
            let on_primary = proven && node == 0;
            if on_primary {
                prop_assert!(holds == 0, "held");
            } else {
                prop_assert_eq!(roles[node], Role::Standby);
                prop_assert!(!writer);
            }
            prop_assert!(!(write && target != Target::Reader) || (on_primary && writer));
        } else if write && target != Target::Reader && proven && holds == 0 && suspect != Some(0) {
            prop_assert!(false, "there is a primary, and {choice:?}");
        }
    }
}
