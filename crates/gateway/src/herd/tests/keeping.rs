use super::*;

fn roles(roles: &[Role]) -> Vec<(String, Role)> {
    roles.iter().enumerate().map(|(index, role)| (format!("n{}", index + 1), *role)).collect()
}

fn with(verdict: Verdict, list: &[Role]) -> Topology {
    let nodes = roles(list);
    let nodes: Vec<(&str, Role)> =
        nodes.iter().map(|(name, role)| (name.as_str(), *role)).collect();
    topology(verdict, &nodes)
}

#[tokio::test]
async fn epochs_change_with_the_role_and_with_nothing_else() {
    let herd = Simulated::new(healthy(2), OPTIONS);
    let (_cuts, _running) = herd.start();
    let before = herd.herd.epoch(0);
    herd.publish(healthy(2)).await;
    herd.herd.hold();
    herd.herd.suspect(0);
    assert_eq!(herd.herd.epoch(0), before, "what runs may go on");
    herd.publish(with(nobody(), &[Role::Primary, Role::Standby])).await;
    let lost = herd.herd.epoch(0);
    assert_ne!(lost, before);
    herd.publish(healthy(2)).await;
    let again = herd.herd.epoch(0);
    assert!(again != lost && again != before, "what was leased before is not good again");
    // The same node, another term: it was another's meanwhile.
    herd.publish(Topology { term: 3, ..healthy(2) }).await;
    assert_ne!(herd.herd.epoch(0), again);
    let other = herd.herd.epoch(1);
    herd.herd.retire(1);
    assert_ne!(herd.herd.epoch(1), other);
}

#[tokio::test]
async fn what_is_lost_is_cut_and_no_more() {
    let herd = Simulated::new(healthy(3), OPTIONS);
    let (cuts, _running) = herd.start();
    herd.publish(healthy(3)).await;
    assert_eq!(cuts.take(), []);
    // In doubt: those who write are cut off, those who read are not.
    herd.publish(with(nobody(), &[Role::Primary, Role::Standby, Role::Standby])).await;
    until(|| !cuts.0.lock().unwrap().is_empty()).await;
    assert_eq!(cuts.take(), [(0, Loss::Role)]);
    herd.publish(healthy(3)).await;
    assert_eq!(cuts.take(), [], "who begins to be primary loses nobody");
    // Gone for good, and another in its place.
    herd.publish(with(primary("n2"), &[Role::Unavailable, Role::Primary, Role::Standby])).await;
    until(|| !cuts.0.lock().unwrap().is_empty()).await;
    assert_eq!(cuts.take(), [(0, Loss::Node)]);
    assert_eq!(place(herd.choose(Want::Write, &Target::Split)), Some((1, true)));
    herd.publish(with(primary("n2"), &[Role::Unavailable, Role::Primary, Role::Unavailable])).await;
    until(|| !cuts.0.lock().unwrap().is_empty()).await;
    assert_eq!(cuts.take(), [(2, Loss::Node)]);
}

#[tokio::test]
async fn holds_are_counted_and_reads_go_on() {
    let herd = Simulated::new(healthy(2), OPTIONS);
    let mut changes = herd.herd.changes();
    changes.borrow_and_update();
    assert_eq!(herd.herd.hold(), 1);
    assert!(changes.has_changed().unwrap());
    assert_eq!(herd.herd.hold(), 2);
    assert_eq!(herd.herd.resume(), 1);
    assert_eq!(herd.choose(Want::Write, &Target::Split), Choice::Wait);
    assert!(herd.herd.is_held());
    let problem = herd.herd.problem(Want::Write, &Target::Split, None, &Causal::default());
    assert!(problem.message.contains("held by an operator"), "{}", problem.message);
    assert_eq!(place(herd.choose(Want::Read, &Target::Split)), Some((1, false)));
    assert_eq!(herd.herd.resume(), 0);
    assert_eq!(herd.herd.resume(), 0, "one too many does no harm");
    assert_eq!(place(herd.choose(Want::Write, &Target::Split)), Some((0, true)));
}

#[tokio::test]
async fn an_operators_resume_does_not_end_a_switchovers_hold() {
    let herd = Simulated::new(healthy(2), OPTIONS);
    assert!(herd.herd.begin_switching());
    assert!(!herd.herd.begin_switching(), "one at a time");
    herd.herd.switching(true);
    herd.herd.resume();
    assert_eq!(herd.choose(Want::Write, &Target::Split), Choice::Wait);
    herd.herd.end_switching();
    assert_eq!(place(herd.choose(Want::Write, &Target::Split)), Some((0, true)));
    assert!(herd.herd.begin_switching());
}

#[tokio::test]
async fn a_suspect_is_not_used_until_it_has_been_seen_since() {
    let herd = Simulated::new(healthy(2), OPTIONS);
    let (_cuts, _running) = herd.start();
    herd.herd.suspect(0);
    herd.herd.suspect(1);
    assert_eq!(herd.choose(Want::Write, &Target::Split), Choice::Wait);
    assert_eq!(herd.choose(Want::Read, &Target::Split), Choice::Wait);
    let problem = herd.herd.problem(Want::Write, &Target::Split, None, &Causal::default());
    assert!(problem.message.contains("failed a connection"), "{}", problem.message);
    // Evidence from before says nothing.
    herd.publish(healthy(2)).await;
    assert_eq!(herd.choose(Want::Write, &Target::Split), Choice::Wait);
    let mut fresh = healthy(2);
    let later = Moment(Duration::from_secs(3600));
    fresh.nodes.get_mut("n1").unwrap().evidence_at = Some(later);
    herd.publish(fresh).await;
    assert_eq!(place(herd.choose(Want::Write, &Target::Split)), Some((0, true)));
    assert_eq!(place(herd.choose(Want::Read, &Target::Split)), Some((0, false)), "n2 was not seen");
}

#[tokio::test]
async fn seats_keep_their_places_over_reloads() {
    let herd = Simulated::new(healthy(2), OPTIONS);
    let (cuts, _running) = herd.start();
    let info: Conninfo = "host=127.0.0.1 port=1 user=u".parse().unwrap();
    let nodes: BTreeMap<NodeName, Conninfo> =
        [(name("n0"), info.clone()), (name("n2"), info)].into();
    herd.herd.reload(&nodes, OPTIONS);
    let names: Vec<String> = herd.herd.seats().iter().map(|seat| seat.name.to_string()).collect();
    assert_eq!(names, ["n1", "n2", "n0"]);
    // The topology has n1 still, but it is none of ours any more.
    assert_eq!(herd.choose(Want::Write, &Target::Split), Choice::Wait);
    assert_eq!(place(herd.choose(Want::Read, &Target::Split)), Some((1, false)));
    assert_eq!(cuts.take(), [(0, Loss::Node)]);
}

#[tokio::test]
async fn those_who_wait_are_counted_and_told() {
    let herd = Simulated::new(with(nobody(), &[Role::Primary]), OPTIONS);
    let (_cuts, _running) = herd.start();
    let first = herd.herd.queue(1).expect("there is a place");
    assert!(herd.herd.queue(1).is_none(), "no more than that");
    assert_eq!(herd.herd.waiting(), 1);
    let mut changes = herd.herd.changes();
    changes.borrow_and_update();
    herd.publish(healthy(1)).await;
    assert!(changes.has_changed().unwrap());
    drop(first);
    assert_eq!(herd.herd.waiting(), 0);
    // Progress alone wakes nobody.
    changes.borrow_and_update();
    let mut progress = healthy(1);
    progress.nodes.get_mut("n1").unwrap().lsn = Some(Lsn(100));
    herd.publish(progress).await;
    assert!(!changes.has_changed().unwrap());
}
