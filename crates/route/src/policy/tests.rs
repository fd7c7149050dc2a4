use std::time::Duration;

use herdsman_node::NodeName;
use herdsman_watch::MaxLag;
use proptest::prelude::*;
use tokio::time::Instant;

use super::balance::{Load, pick, stick};
use super::{Choice, Facts, Health, Lag, Part, Plan, Rules, Seat, Want, plan};
use crate::config::{Balance, Fallback};

fn rules() -> Rules {
    Rules { max_lag: MaxLag { bytes: Some(1000), time: None }, slow_start: Duration::from_secs(10) }
}

fn fact(name: &str, writer: bool, reader: bool) -> Facts {
    Facts {
        name: NodeName::new(name).unwrap(),
        health: Health::Online { returned: None },
        error: None,
        part: Part::Given { writer, reader },
        in_recovery: Some(!writer),
        lag: None,
        weight: 1,
        near: true,
    }
}

fn seen(name: &str, primary: bool, readable: bool) -> Facts {
    let part = Part::Seen { primary, readable, reason: "is fenced".to_owned() };
    Facts { part, ..fact(name, primary, !primary) }
}

fn nodes(seats: &[Seat]) -> Vec<usize> {
    seats.iter().map(|seat| seat.node).collect()
}

#[tokio::test(start_paused = true)]
async fn each_reason_keeps_a_node_out_and_is_told() {
    let now = Instant::now();
    let offline = Health::Offline { since: now };
    let dead = |fact: Facts| Facts { health: offline, error: Some("refused".to_owned()), ..fact };
    let late =
        Facts { lag: Some(Lag { bytes: 1001, time: Duration::ZERO }), ..fact("late", false, true) };
    let facts = [
        fact("w", true, false),
        dead(fact("dead", false, true)),
        late,
        fact("good", false, true),
        Facts { in_recovery: Some(true), ..fact("demoted", true, false) },
    ];
    let plan = plan(&facts, &rules(), now);
    assert_eq!((nodes(&plan.writers), nodes(&plan.readers)), (vec![0], vec![3]));
    for reason in
        ["dead is offline: refused", "late is 1001 bytes behind, max_lag is 1000", "w is no reader"]
    {
        assert!(plan.no_reader.contains(reason), "{} lacks {reason}", plan.no_reader);
    }
    assert!(
        plan.no_writer.contains("demoted is given as a writer, but is a standby"),
        "{}",
        plan.no_writer
    );
}

#[tokio::test(start_paused = true)]
async fn discovered_roles_are_the_topologys() {
    let now = Instant::now();
    let facts = [seen("p", true, true), seen("s", false, true), seen("f", false, false)];
    let plan = plan(&facts, &rules(), now);
    assert_eq!((nodes(&plan.writers), nodes(&plan.readers)), (vec![0], vec![1]));
    assert!(plan.no_reader.contains("f is fenced"), "{}", plan.no_reader);
}

#[tokio::test(start_paused = true)]
async fn a_node_of_unknown_lag_or_that_nobody_asked_yet_is_tried() {
    let now = Instant::now();
    let facts =
        [Facts { health: Health::Unknown, ..fact("r", false, true) }, fact("q", false, true)];
    assert_eq!(nodes(&plan(&facts, &rules(), now).readers), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn readers_of_our_zone_come_first_and_others_only_without_them() {
    let now = Instant::now();
    let facts = [
        fact("w", true, false),
        Facts { near: false, ..fact("far", false, true) },
        fact("near", false, true),
    ];
    let plan = plan(&facts, &rules(), now);
    let first = |seats: &[Seat]| seats.first().map_or(9, |seat| seat.node);
    let choose = |tried: &[usize]| plan.choose(Want::Read, Fallback::Writer, tried, None, first);
    assert_eq!(choose(&[]), Choice::Reader(2));
    assert_eq!(choose(&[2]), Choice::Reader(1));
    assert_eq!(choose(&[2, 1]), Choice::Writer(0));
    assert_eq!(choose(&[2, 1, 0]), Choice::Reader(2), "one may have come back");
}

#[test]
fn without_a_reader_the_fallback_decides() {
    let plan = Plan { writers: vec![Seat { node: 0, share: 100 }], ..Plan::default() };
    let choose = |fallback| plan.choose(Want::Read, fallback, &[], None, |seats| seats[0].node);
    assert_eq!(choose(Fallback::Writer), Choice::Writer(0));
    assert_eq!(choose(Fallback::Error), Choice::Refuse);
    assert_eq!(choose(Fallback::Wait), Choice::Wait);
    let nobody = Plan::default().choose(Want::Write, Fallback::Error, &[], None, |_| 0);
    assert_eq!(nobody, Choice::Wait);
}

#[test]
fn a_reader_that_has_not_replayed_the_session_is_passed_over() {
    let seat = |node| Seat { node, share: 100 };
    let plan = Plan {
        writers: vec![seat(0)],
        readers: vec![seat(1), seat(2)],
        near: 2,
        ..Plan::default()
    };
    let choose = |fit: &dyn Fn(usize) -> bool| {
        plan.choose(Want::Read, Fallback::Writer, &[], Some(fit), |seats| seats[0].node)
    };
    assert_eq!(choose(&|node| node == 2), Choice::Reader(2));
    assert_eq!(choose(&|_| false), Choice::Writer(0));
}

fn spread(balance: Balance, shares: &[u32], load: impl Fn(usize) -> Load + Copy) -> Vec<u32> {
    let seats: Vec<Seat> =
        shares.iter().enumerate().map(|(node, &share)| Seat { node, share }).collect();
    let mut counts = vec![0; seats.len()];
    let mut random = fastrand::Rng::with_seed(7);
    for turn in 0..10_000 {
        counts[pick(&seats, balance, random.u64(..), turn, load)] += 1;
    }
    counts
}

#[test]
fn equal_nodes_get_equal_shares_and_weights_are_kept() {
    let even = |_: usize| Load { in_flight: 0, latency: 100 };
    for balance in
        [Balance::TwoChoices, Balance::Random, Balance::RoundRobin, Balance::LeastConnections]
    {
        let counts = spread(balance, &[100, 100], even);
        assert!(
            counts.iter().all(|count| (4_700..5_300).contains(count)),
            "{balance:?} {counts:?}"
        );
        let counts = spread(balance, &[200, 100], even);
        assert!((6_300..7_000).contains(&counts[0]), "{balance:?} {counts:?}");
    }
}

#[test]
fn two_choices_avoids_the_busy_and_the_slow_but_never_forgets_them() {
    let busy = |node: usize| Load { in_flight: if node == 0 { 10 } else { 0 }, latency: 100 };
    assert_eq!(spread(Balance::TwoChoices, &[100, 100], busy)[0], 0);
    let slow = |node: usize| Load {
        in_flight: 0,
        latency: if node == 0 { 20_000_000 } else { 2_000_000 },
    };
    let counts = spread(Balance::TwoChoices, &[100, 100, 100], slow);
    assert!((100..900).contains(&counts[0]), "{counts:?}");
    let noise =
        |node: usize| Load { in_flight: 0, latency: if node == 0 { 900_000 } else { 100_000 } };
    assert!(spread(Balance::TwoChoices, &[100, 100], noise)[0] > 4_700);
}

#[test]
fn a_sticky_key_moves_only_when_its_node_goes() {
    let seat = |node| Seat { node, share: 100 };
    let (all, fewer) = ([seat(0), seat(1), seat(2)], [seat(0), seat(2)]);
    let mut per_node = [0; 3];
    for key in 0..3_000 {
        let node = stick(&all, key);
        per_node[node] += 1;
        if node != 1 {
            assert_eq!(stick(&fewer, key), node);
        }
    }
    assert!(per_node.iter().all(|&count| count > 850), "{per_node:?}");
}

#[test]
fn what_is_left_out_is_left_out_of_a_large_herd_too() {
    let readers: Vec<Seat> = (1..40).map(|node| Seat { node, share: 100 }).collect();
    let plan = Plan { near: readers.len(), readers, ..Plan::default() };
    let fit = |node: usize| node >= 38;
    let choose = |tried: &[usize]| {
        plan.choose(Want::Read, Fallback::Wait, tried, Some(&fit), |seats| {
            assert!(seats.iter().all(|seat| fit(seat.node)), "{seats:?}");
            seats[0].node
        })
    };
    assert_eq!(choose(&[]), Choice::Reader(38));
    assert_eq!(choose(&[38]), Choice::Reader(39));
    assert_eq!(choose(&[38, 39]), Choice::Wait);
}

proptest! {
    #[test]
    fn whatever_is_chosen_may_be_used(
        states in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), 0u64..2000), 1..6),
        tried in prop::collection::vec(0usize..6, 0..4),
        want in prop_oneof![Just(Want::Read), Just(Want::Write)],
        random in any::<u64>(),
        turn in any::<u64>(),
    ) {
        let now = Instant::now();
        let facts: Vec<Facts> = states.iter().enumerate().map(|(index, &(writer, reader, up, near, bytes))| Facts {
            health: if up { Health::Online { returned: Some(now) } } else { Health::Offline { since: now } },
            lag: Some(Lag { bytes, time: Duration::ZERO }),
            near,
            ..fact(&format!("n{index}"), writer, reader)
        }).collect();
        let plan = plan(&facts, &rules(), now);
        for balance in [Balance::TwoChoices, Balance::Random, Balance::RoundRobin, Balance::LeastConnections] {
            let load = |node: usize| Load { in_flight: u32::try_from(random % 7).unwrap(), latency: node as u64 * 100 };
            let choice = plan.choose(want, Fallback::Writer, &tried, None, |seats| pick(seats, balance, random, turn, load));
            let open = |node: usize| states[node].2 && !tried.contains(&node);
            match choice {
                Choice::Reader(node) => {
                    prop_assert_eq!(want, Want::Read);
                    prop_assert!(states[node].1 && states[node].2 && states[node].4 <= 1000);
                }
                Choice::Writer(node) => prop_assert!(states[node].0 && states[node].2),
                Choice::Wait => prop_assert!(!(0..states.len()).any(|node| states[node].0 && open(node))),
                Choice::Refuse => prop_assert!(false, "the fallback is the writer"),
            }
        }
    }
}
