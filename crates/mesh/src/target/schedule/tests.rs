use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

/// A group of some rows that ends at a position, or does not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fake {
    rows: u64,
    end: Option<u64>,
}

impl Item for Fake {
    fn rows(&self) -> u64 {
        self.rows
    }

    fn end(&self) -> Option<Lsn> {
        self.end.map(Lsn)
    }
}

fn whole(rows: u64, end: u64) -> Fake {
    Fake { rows, end: Some(end) }
}

fn part(rows: u64) -> Fake {
    Fake { rows, end: None }
}

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Three sources, all of it on disk, at 0 ms.
fn schedule(most: usize) -> Schedule<Fake> {
    with_lanes(most, 1)
}

fn with_lanes(most: usize, lanes: usize) -> Schedule<Fake> {
    let mut schedule = Schedule::new(most, lanes);
    for source in [A, B, C] {
        schedule.add(source, Lsn(100), at(0));
    }
    schedule.applied(true, at(0));
    schedule
}

fn applies(schedule: &mut Schedule<Fake>, now: u64) -> Vec<(NodeId, Fake)> {
    match schedule.next(at(now)) {
        Step::Apply { lots, .. } => lots.into_iter().flatten().collect(),
        other => panic!("{other:?}"),
    }
}

fn lots(schedule: &mut Schedule<Fake>, now: u64) -> Vec<Lot<Fake>> {
    match schedule.next(at(now)) {
        Step::Apply { lots, .. } => lots,
        other => panic!("{other:?}"),
    }
}

fn confirmed(schedule: &Schedule<Fake>) -> Vec<u64> {
    schedule.confirmed().map(|(_, lsn)| lsn.0).collect()
}

#[test]
fn complete_groups_of_all_sources_go_together_up_to_the_bound() {
    let mut schedule = schedule(10);
    schedule.arrived(B, whole(3, 200));
    schedule.arrived(A, whole(4, 200));
    schedule.arrived(A, whole(3, 300));
    schedule.arrived(C, whole(9, 200));
    let groups = applies(&mut schedule, 1);
    assert_eq!(groups, [(A, whole(4, 200)), (A, whole(3, 300)), (B, whole(3, 200))]);
    schedule.applied(false, at(2));
    assert_eq!(applies(&mut schedule, 3), [(C, whole(9, 200))]);
}

#[test]
fn a_group_over_the_bound_goes_alone() {
    let mut schedule = schedule(10);
    schedule.arrived(A, whole(99, 200));
    schedule.arrived(B, whole(1, 200));
    assert_eq!(applies(&mut schedule, 1), [(A, whole(99, 200))]);
}

#[test]
fn the_source_that_began_the_last_round_comes_last() {
    let mut schedule = schedule(2);
    let mut first = Vec::new();
    for round in 0..6 {
        for source in [A, B, C] {
            schedule.arrived(source, whole(2, 200 + round));
        }
        first.push(applies(&mut schedule, round)[0].0);
        schedule.applied(false, at(round));
    }
    assert_eq!(first, [A, B, C, A, B, C]);
}

#[test]
fn a_part_of_a_transaction_goes_alone_and_only_its_rest_follows() {
    let mut schedule = schedule(10);
    schedule.arrived(A, part(5));
    schedule.arrived(B, whole(1, 200));
    assert_eq!(applies(&mut schedule, 1), [(A, part(5))]);
    schedule.applied(false, at(2));
    assert!(schedule.is_open());
    // Not even when something should be on disk.
    assert_eq!(schedule.next(at(999)), Step::Wait { until: None });
    schedule.arrived(A, whole(2, 300));
    schedule.arrived(A, whole(2, 400));
    assert_eq!(applies(&mut schedule, 1000), [(A, whole(2, 300))]);
    schedule.applied(false, at(1001));
    assert_eq!(applies(&mut schedule, 1002), [(B, whole(1, 200)), (A, whole(2, 400))]);
}

#[test]
fn what_is_more_than_one_transaction_takes_fills_the_lanes_in_the_order_it_came() {
    let mut schedule = with_lanes(10, 3);
    for end in [200, 300, 400, 500] {
        schedule.arrived(A, whole(9, end));
    }
    schedule.arrived(B, whole(1, 200));
    let expected = [
        vec![(A, whole(9, 200)), (B, whole(1, 200))],
        vec![(A, whole(9, 300))],
        vec![(A, whole(9, 400))],
    ];
    assert_eq!(lots(&mut schedule, 1), expected);
    schedule.applied(true, at(2));
    assert_eq!(confirmed(&schedule), [400, 200, 100]);
    assert_eq!(lots(&mut schedule, 3), [vec![(A, whole(9, 500))]]);
}

#[test]
fn nothing_is_applied_beside_a_part_of_a_transaction() {
    let mut schedule = with_lanes(10, 3);
    schedule.arrived(A, whole(9, 200));
    schedule.arrived(A, part(5));
    schedule.arrived(B, whole(9, 200));
    schedule.arrived(B, whole(9, 300));
    let expected = [vec![(A, whole(9, 200))], vec![(B, whole(9, 200))], vec![(B, whole(9, 300))]];
    assert_eq!(lots(&mut schedule, 1), expected);
    schedule.applied(false, at(2));
    schedule.arrived(B, whole(9, 400));
    schedule.arrived(C, whole(9, 200));
    // Whoever's turn it is: the part goes alone, and before it what fits.
    let mut all = Vec::new();
    while !schedule.is_open() {
        let step = lots(&mut schedule, 3);
        let parts = step.iter().flatten().filter(|(_, group)| group.end.is_none()).count();
        assert!(parts == 0 || step == [vec![(A, part(5))]], "{step:?}");
        all.extend(step);
        schedule.applied(false, at(4));
    }
    assert!(all.contains(&vec![(A, part(5))]), "{all:?}");
}

#[test]
fn a_part_waits_for_what_has_been_taken_together() {
    let mut schedule = schedule(10);
    schedule.arrived(A, whole(1, 200));
    schedule.arrived(A, part(5));
    schedule.arrived(B, whole(1, 200));
    assert_eq!(applies(&mut schedule, 1), [(A, whole(1, 200)), (B, whole(1, 200))]);
    schedule.applied(false, at(2));
    assert_eq!(applies(&mut schedule, 3), [(A, part(5))]);
}

#[test]
fn under_load_one_commit_in_a_while_is_on_disk_and_all_before_it_with_it() {
    let mut schedule = schedule(1);
    let mut durable = Vec::new();
    for now in (0..=300).step_by(30) {
        schedule.arrived(A, whole(1, 200 + now));
        let Step::Apply { durable: wanted, .. } = schedule.next(at(now)) else { panic!() };
        if wanted {
            durable.push(now);
        }
        schedule.applied(wanted, at(now));
    }
    // The first that was not on disk was committed at 0, then at 150.
    assert_eq!(durable, [120, 270]);
    assert_eq!(confirmed(&schedule), [470, 100, 100]);
}

#[test]
fn at_rest_what_is_not_on_disk_is_put_there() {
    let mut schedule = schedule(1);
    assert_eq!(schedule.next(at(0)), Step::Wait { until: None });
    schedule.arrived(B, whole(1, 200));
    applies(&mut schedule, 5);
    schedule.applied(false, at(10));
    assert_eq!(confirmed(&schedule), [100, 100, 100]);
    assert_eq!(schedule.next(at(20)), Step::Wait { until: Some(at(110)) });
    assert_eq!(schedule.next(at(110)), Step::Flush);
    schedule.applied(true, at(115));
    assert_eq!(confirmed(&schedule), [100, 200, 100]);
    assert_eq!(schedule.next(at(999)), Step::Wait { until: None });
}

#[test]
fn what_a_member_shows_at_first_need_not_be_on_its_disk() {
    let mut schedule: Schedule<Fake> = Schedule::new(1, 1);
    schedule.add(A, Lsn(100), at(0));
    assert_eq!(confirmed(&schedule), [0]);
    assert_eq!(schedule.next(at(100)), Step::Flush);
    schedule.applied(true, at(101));
    assert_eq!(confirmed(&schedule), [100]);
}

#[test]
fn a_flush_that_did_not_reach_the_disk_is_asked_for_again_later() {
    let mut schedule: Schedule<Fake> = Schedule::new(1, 1);
    schedule.add(A, Lsn(100), at(0));
    assert_eq!(schedule.next(at(100)), Step::Flush);
    schedule.applied(false, at(101));
    assert_eq!(schedule.next(at(102)), Step::Wait { until: Some(at(201)) });
    assert_eq!(confirmed(&schedule), [0]);
}

#[test]
fn a_stream_that_breaks_within_a_transaction_takes_back_what_is_not_applied_of_it() {
    let mut schedule = schedule(10);
    schedule.arrived(A, whole(1, 200));
    schedule.arrived(A, part(5));
    assert_eq!(schedule.broken_within(A), (1, false));
    schedule.arrived(A, whole(7, 300));
    assert_eq!(applies(&mut schedule, 1), [(A, whole(1, 200)), (A, whole(7, 300))]);
    schedule.applied(false, at(2));
    schedule.arrived(A, part(5));
    applies(&mut schedule, 3);
    schedule.applied(false, at(4));
    assert_eq!(schedule.broken_within(A), (0, true));
}

#[test]
fn a_source_that_goes_takes_its_groups_along() {
    let mut schedule = schedule(10);
    schedule.arrived(A, whole(1, 200));
    schedule.arrived(B, whole(1, 200));
    assert!(!schedule.remove(A));
    schedule.arrived(A, whole(1, 300));
    assert_eq!(applies(&mut schedule, 1), [(B, whole(1, 200))]);
    assert_eq!(confirmed(&schedule), [100, 100]);
}

/// What happens to a schedule from outside.
#[derive(Clone, Debug)]
enum Happens {
    /// A transaction of a source comes, in so many parts before its end.
    Comes {
        source: u8,
        parts: u8,
        rows: u64,
    },
    Time(u64),
    /// The next step is done; a commit may reach the disk although nobody asked.
    Step {
        lucky: bool,
    },
    /// The server goes down, and comes back with what was on its disk, or more.
    Crash {
        kept: bool,
    },
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0..3_u8, 0..3_u8, 1..30_u64)
            .prop_map(|(source, parts, rows)| Happens::Comes { source, parts, rows }),
        2 => (1..80_u64).prop_map(Happens::Time),
        6 => any::<bool>().prop_map(|lucky| Happens::Step { lucky }),
        1 => any::<bool>().prop_map(|kept| Happens::Crash { kept }),
    ]
}

/// The member, its sources and their slots, played.
struct World {
    schedule: Schedule<Fake>,
    now: u64,
    /// Of each source: the ends of all its transactions, with their groups.
    written: BTreeMap<NodeId, Vec<(u64, Vec<Fake>)>>,
    /// What is applied, in order: visible, and on disk.
    visible: BTreeMap<NodeId, Vec<u64>>,
    disk: BTreeMap<NodeId, Vec<u64>>,
    confirmed: BTreeMap<NodeId, u64>,
    open: Option<NodeId>,
}

const MOST: usize = 40;
const LANES: usize = 3;

impl World {
    fn new() -> Self {
        let sources = [A, B, C];
        let none = || sources.into_iter().map(|source| (source, Vec::new())).collect();
        let mut world = Self {
            schedule: Schedule::new(MOST, LANES),
            now: 0,
            written: sources.into_iter().map(|source| (source, Vec::new())).collect(),
            visible: none(),
            disk: none(),
            confirmed: sources.into_iter().map(|source| (source, 0)).collect(),
            open: None,
        };
        world.begin();
        world
    }

    /// A session begins: sources send again what was not confirmed, without what is applied.
    fn begin(&mut self) {
        self.schedule = Schedule::new(MOST, LANES);
        self.open = None;
        for (source, transactions) in &self.written {
            let applied = self.visible[source].last().copied().unwrap_or(0);
            assert!(self.confirmed[source] <= applied, "a slot has forgotten what is not applied");
            self.schedule.add(*source, Lsn(applied), at(self.now));
            for (_, groups) in transactions.iter().filter(|(end, _)| *end > applied) {
                for group in groups {
                    self.schedule.arrived(*source, group.clone());
                }
            }
        }
    }

    fn comes(&mut self, source: NodeId, parts: u8, rows: u64) {
        let transactions = self.written.get_mut(&source).unwrap();
        let end = transactions.last().map_or(0, |(end, _)| *end) + 10;
        let mut groups = vec![part(rows); usize::from(parts)];
        groups.push(whole(rows, end));
        for group in &groups {
            self.schedule.arrived(source, group.clone());
        }
        transactions.push((end, groups));
    }

    fn step(&mut self, lucky: bool) -> bool {
        let durable = match self.schedule.next(at(self.now)) {
            Step::Wait { .. } => return false,
            Step::Flush => {
                assert!(self.open.is_none(), "a flush within a transaction");
                true
            }
            Step::Apply { lots, durable } => {
                assert!(lots.len() <= LANES && (lots.len() == 1 || self.open.is_none()));
                let beside = lots.len() > 1;
                let mut on_disk = durable || lucky;
                for lot in &lots {
                    on_disk &= self.apply(lot, durable || lucky);
                    assert!(!beside || self.open.is_none(), "a part beside others: {lots:?}");
                }
                on_disk
            }
        };
        if durable {
            self.disk.clone_from(&self.visible);
        }
        self.schedule.applied(durable, at(self.now));
        for (source, position) in self.schedule.confirmed() {
            let disk = self.disk[&source].last().copied().unwrap_or(0);
            assert!(position.0 <= disk, "{source} may forget {position}, and {disk} is on disk");
            self.confirmed.insert(source, position.0);
        }
        true
    }

    fn apply(&mut self, groups: &[(NodeId, Fake)], durable: bool) -> bool {
        let whole = groups.iter().all(|(_, group)| group.end.is_some());
        assert!(whole || groups.len() == 1, "a part is not alone: {groups:?}");
        assert!(self.open.is_none_or(|open| groups.iter().all(|(source, _)| *source == open)));
        assert!(self.open.is_none() || groups.len() == 1);
        let rows: u64 = groups.iter().map(|(_, group)| group.rows).sum();
        assert!(groups.len() == 1 || rows <= MOST as u64, "too much at once: {groups:?}");
        self.open = None;
        for (source, group) in groups {
            match group.end {
                Some(end) => self.visible.get_mut(source).unwrap().push(end),
                None => self.open = Some(*source),
            }
        }
        whole && durable
    }

    fn crash(&mut self, kept: bool) {
        if !kept {
            self.visible.clone_from(&self.disk);
        }
        self.begin();
    }
}

proptest! {
    #[test]
    fn every_transaction_is_applied_once_in_order_and_nothing_is_forgotten_too_early(
        story in prop::collection::vec(happens(), 1..200)
    ) {
        let mut world = World::new();
        for event in story {
            match event {
                Happens::Comes { source, parts, rows } => {
                    world.comes([A, B, C][usize::from(source)], parts, rows);
                }
                Happens::Time(millis) => world.now += millis,
                Happens::Step { lucky } => drop(world.step(lucky)),
                Happens::Crash { kept } => world.crash(kept),
            }
        }
        // In the end everything is applied, on disk and confirmed.
        while world.step(false) {}
        world.now += 100;
        while world.step(false) {}
        for (source, transactions) in &world.written {
            let ends: Vec<u64> = transactions.iter().map(|(end, _)| *end).collect();
            prop_assert_eq!(&world.visible[source], &ends);
            prop_assert_eq!(world.confirmed[source], ends.last().copied().unwrap_or(0));
        }
    }
}
