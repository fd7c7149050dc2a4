//! The followers guard's expectation, and the values that are told.

use proptest::prelude::*;

use super::*;
use crate::herd::guard::{self, Followers};

fn loss(millis: u64) -> guard::Loss {
    guard::Loss { at: Moment::from_millis(millis), version: millis }
}

fn told(pids: &[i32]) -> Option<Vec<i32>> {
    Some(pids.to_vec())
}

#[test]
fn nothing_is_told_before_the_first_look_is_confirmed() {
    let mut followers = Followers::default();
    followers.look(&[1, 2], loss(1), |_| true);
    assert_eq!(followers.value(), None, "what the verdict rests on may be older than the look");
    followers.look(&[1, 2], loss(2), |since| since == loss(1));
    assert_eq!(followers.value(), told(&[1, 2]));
}

#[test]
fn after_one_that_goes_nothing_is_told_until_that_is_confirmed() {
    let mut followers = Followers::default();
    followers.look(&[1, 2], loss(1), |_| true);
    followers.look(&[1, 2], loss(2), |_| true);
    followers.look(&[1], loss(3), |_| true);
    assert_eq!(followers.value(), None, "by a look of its own, never at once");
    followers.look(&[1], loss(4), |_| false);
    assert_eq!(followers.value(), None);
    followers.look(&[1], loss(5), |since| since == loss(3));
    assert_eq!(followers.value(), told(&[1]));
}

#[test]
fn a_new_one_is_expected_at_once_and_one_in_the_place_of_another_is_not() {
    let mut followers = Followers::default();
    followers.look(&[1], loss(1), |_| true);
    followers.look(&[1], loss(2), |_| true);
    followers.look(&[1, 5], loss(3), |_| false);
    assert_eq!(followers.value(), told(&[1, 5]));
    followers.look(&[1, 6], loss(4), |_| false);
    assert_eq!(followers.value(), None);
    // It was back before anybody was asked.
    followers.look(&[1, 5, 6], loss(5), |_| false);
    assert_eq!(followers.value(), told(&[1, 5, 6]));
}

#[test]
fn another_loss_is_to_be_confirmed_anew() {
    let mut followers = Followers::default();
    followers.look(&[1, 2, 3], loss(1), |_| true);
    followers.look(&[1, 2, 3], loss(2), |_| true);
    followers.look(&[1, 2], loss(3), |_| false);
    followers.look(&[1], loss(4), |since| since == loss(3));
    assert_eq!(followers.value(), None, "only the first loss was looked into");
    followers.look(&[1], loss(5), |since| since == loss(4));
    assert_eq!(followers.value(), told(&[1]));
}

proptest! {
    /// Whatever comes and goes: nobody leaves the expectation but by a confirmation of a loss that includes it.
    #[test]
    fn the_expectation_shrinks_only_by_confirmation(
        looks in prop::collection::vec((prop::collection::btree_set(1..6_i32, 0..5), any::<bool>()), 1..40),
    ) {
        let mut followers = Followers::default();
        let mut last: Option<Vec<i32>> = None;
        let mut confirmed_since = false;
        for (index, (found, confirmed)) in looks.iter().enumerate() {
            let found: Vec<i32> = found.iter().copied().collect();
            followers.look(&found, loss(index as u64), |at| {
                assert!(at.version < index as u64, "a look confirms itself");
                confirmed_since |= *confirmed;
                *confirmed
            });
            if let Some(now) = followers.value() {
                let shrank = last.iter().flatten().any(|pid| !now.contains(pid));
                prop_assert!(!shrank || confirmed_since);
                prop_assert!(now == found, "what is told is there");
                (last, confirmed_since) = (Some(now), false);
            }
        }
    }
}

#[test]
fn a_loss_is_confirmed_by_newer_evidence_of_every_node() {
    let since = guard::Loss { at: Moment::from_millis(100), version: 1 };
    let fresh = |topology: &mut Topology, node: &str, millis: u64| {
        topology.nodes.get_mut(node).unwrap().evidence_at = Some(Moment::from_millis(millis));
    };
    let base = || {
        let mut topology = Topology { version: 2, ..healthy(3) };
        for node in ["n1", "n2", "n3"] {
            fresh(&mut topology, node, 101);
        }
        for node in ["n2", "n3"] {
            topology.nodes.get_mut(node).unwrap().follows = Some("n1".parse().unwrap());
        }
        topology
    };
    assert!(guard::confirms(&base(), "n1", since));
    assert!(!guard::confirms(&base(), "n2", since), "it is not the primary");
    for node in ["n1", "n2", "n3"] {
        let mut stale = base();
        fresh(&mut stale, node, 100);
        assert!(!guard::confirms(&stale, "n1", since), "{node} was not looked at since");
    }
    let mut claims = base();
    claims.nodes.get_mut("n3").unwrap().role = Role::Primary;
    assert!(!guard::confirms(&claims, "n1", since), "another claims to be it");
    let mut detached = base();
    detached.nodes.get_mut("n3").unwrap().follows = None;
    assert!(!guard::confirms(&detached, "n1", since), "it may be on its way to be promoted");
    fresh(&mut detached, "n3", 5200);
    assert!(guard::confirms(&detached, "n1", since), "it has not been promoted for long");
    let mut gone = base();
    fresh(&mut gone, "n3", 5);
    gone.nodes.get_mut("n3").unwrap().error = Some("refused".to_owned());
    assert!(guard::confirms(&gone, "n1", since), "it cannot be reached");
    assert!(!guard::confirms(&Topology { version: 1, ..base() }, "n1", since));
    assert!(!guard::confirms(&Topology { verdict: nobody(), ..base() }, "n1", since));
}
