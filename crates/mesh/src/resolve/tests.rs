//! Tables of cases, and what must hold of any claims of values.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::answer::{Answer, Policy, answer};
use super::unique::{Claim, component, settle, visible};
use super::*;
use crate::stamp::NodeId;

fn at(micros: i64, node: i16) -> Stamp {
    Stamp::new(micros, NodeId(node))
}

fn row(stamp: Stamp, seen: Stamp) -> Version<&'static str> {
    Version { stamp, seen, row: Some("row") }
}

fn gone(stamp: Stamp, seen: Stamp) -> Version<&'static str> {
    Version { stamp, seen, row: None }
}

const NEW: Stamp = Stamp::NONE;

#[test]
fn the_greater_stamp_is_kept_and_of_equal_ones_the_greater_node() {
    let held = row(at(5, 2), NEW);
    for (arriving, verdict) in [
        (row(at(6, 1), NEW), Verdict::Apply),
        (row(at(5, 3), NEW), Verdict::Apply),
        (row(at(5, 2), NEW), Verdict::Keep),
        (gone(at(5, 2), NEW), Verdict::Keep),
        (row(at(5, 1), NEW), Verdict::Keep),
    ] {
        assert_eq!(join(Some(&held), &arriving), verdict, "{arriving:?}");
    }
    assert_eq!(join(Some(&gone(at(5, 2), NEW)), &held), Verdict::Apply);
}

#[test]
fn a_conflict_is_what_its_writer_did_not_know() {
    use Verdict::{Apply, Keep};
    let old = at(3, 1);
    for (name, held, replaced, arriving, expected) in [
        ("an update of it", row(at(5, 1), old), vec![], row(at(7, 2), at(5, 1)), None),
        (
            "an update of what it replaced",
            row(at(5, 1), old),
            vec![],
            row(at(7, 2), old),
            Some((Apply, true)),
        ),
        ("a later one of the same writer", row(at(5, 1), old), vec![], row(at(7, 1), NEW), None),
        (
            "an update of a later one of its writer",
            row(at(5, 1), old),
            vec![],
            row(at(9, 2), at(7, 1)),
            None,
        ),
        (
            "an update of a third's",
            row(at(5, 1), old),
            vec![],
            row(at(9, 2), at(7, 3)),
            Some((Apply, false)),
        ),
        ("a late one", row(at(9, 2), NEW), vec![at(5, 1)], row(at(5, 1), old), None),
        (
            "a late one, not seen",
            row(at(9, 2), NEW),
            vec![at(4, 3)],
            row(at(5, 1), old),
            Some((Keep, true)),
        ),
        (
            "a late one, unknown",
            row(at(9, 2), NEW),
            vec![],
            row(at(5, 1), old),
            Some((Keep, false)),
        ),
        ("an insertion after a deletion", gone(at(5, 1), old), vec![], row(at(7, 2), NEW), None),
        (
            "an update of what was deleted",
            gone(at(5, 1), old),
            vec![old],
            row(at(7, 2), old),
            Some((Apply, true)),
        ),
        ("a deletion after a deletion", gone(at(5, 1), old), vec![], gone(at(7, 2), old), None),
        (
            "a deletion before an insertion",
            row(at(9, 2), NEW),
            vec![NEW],
            gone(at(5, 1), old),
            None,
        ),
        ("itself", row(at(5, 1), old), vec![], row(at(5, 1), old), None),
    ] {
        let found = conflict(&held, &replaced, &arriving).map(|c| (c.verdict, c.sure));
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn changes_taken_together_have_seen_what_the_first_of_the_unbroken_run_has() {
    let first = row(at(5, 1), at(3, 2));
    let next = first.clone().then(gone(at(7, 1), at(5, 1))).then(row(at(9, 1), NEW));
    assert_eq!((next.stamp, next.seen), (at(9, 1), at(3, 2)), "deleted and inserted again");
    let next = first.clone().then(row(at(9, 1), at(8, 2)));
    assert_eq!((next.stamp, next.seen), (at(9, 1), at(8, 2)), "another's came between");
    let next = gone(at(9, 1), at(5, 1)).then(row(at(8, 1), NEW));
    assert_eq!(next.row, None, "an insertion that was stamped before the deletion");
}

#[test]
fn a_truncation_knew_what_its_member_had_been_told_of() {
    assert!(!truncated_unseen(at(9, 1), Some(5), at(5, 2)));
    assert!(truncated_unseen(at(9, 1), Some(5), at(6, 2)));
    assert!(truncated_unseen(at(9, 1), None, at(1, 2)));
    assert!(!truncated_unseen(at(9, 1), None, at(6, 1)), "its own");
    assert!(!truncated_unseen(at(9, 1), None, at(10, 2)), "later than it");
}

#[test]
fn a_handler_answers_only_where_it_would_have_something_else() {
    let longer = |older: Option<&&'static str>, newer: Option<&&'static str>| {
        [older, newer].into_iter().flatten().copied().max_by_key(|row| row.len())
    };
    let version = |micros, row| Version { stamp: at(micros, 1), seen: NEW, row };
    let policy = Policy::Handler(&longer);
    let (short, long) = (version(5, Some("a")), version(6, Some("abc")));
    assert_eq!(answer(&short, &long, &policy), None);
    assert_eq!(answer(&long, &short, &policy), Some(Answer::Write("abc")));
    let none = |_: Option<&&'static str>, _: Option<&&'static str>| None;
    assert_eq!(answer(&short, &long, &Policy::Handler(&none)), Some(Answer::Delete));
}

#[test]
fn the_more_important_node_answers_and_the_less_important_one_does_not() {
    let order = [NodeId(2), NodeId(1)];
    let policy = Policy::NodePriority(&order);
    let (one, two, three) = (row(at(5, 1), NEW), row(at(5, 2), NEW), row(at(5, 3), NEW));
    assert_eq!(answer(&two, &one, &policy), None, "the same row");
    let one = Version { row: Some("other"), ..one };
    assert_eq!(answer(&two, &one, &policy), Some(Answer::Write("row")));
    assert_eq!(answer(&one, &two, &policy), None);
    assert_eq!(answer(&one, &three, &policy), Some(Answer::Write("other")));
    assert_eq!(answer(&gone(at(4, 2), NEW), &one, &policy), Some(Answer::Delete));
}

type Rows = BTreeMap<u8, (Stamp, Vec<(u8, u8)>)>;

fn claims(rows: &Rows) -> Vec<Claim<u8, (u8, u8)>> {
    let claim = |(key, (stamp, values)): (&u8, &(Stamp, Vec<_>))| Claim {
        key: *key,
        stamp: *stamp,
        values: values.clone(),
    };
    rows.iter().map(claim).collect()
}

proptest! {
    /// Looking again only at what is connected with each change ends where looking at everything does.
    #[test]
    fn settling_what_is_connected_with_a_change_is_settling_everything(
        changes in prop::collection::vec((0..8_u8, prop::option::of((0..5_u8, 0..5_u8)), any::<bool>()), 1..60),
    ) {
        let (mut rows, mut shown) = (Rows::new(), BTreeSet::new());
        for (time, (key, values, both)) in (1..).zip(changes) {
            let stamp = at(time / 2, i16::from(both));
            let values = values.map(|(one, two)| if both { vec![(0, one), (1, two)] } else { vec![(0, one)] });
            let before = rows.remove(&key).map(|(_, values)| values).unwrap_or_default();
            if let Some(values) = &values {
                rows.insert(key, (stamp, values.clone()));
                shown.insert(key);
            } else {
                shown.remove(&key);
            }
            let all = claims(&rows);
            let claiming = |value: &(u8, u8)| {
                all.iter().filter(|claim| claim.values.contains(value)).cloned().collect()
            };
            let connected = component(before.into_iter().chain(values.into_iter().flatten()), claiming);
            let moves = settle(&connected, |key| shown.contains(key));
            for (key, _) in moves.hide {
                shown.remove(&key);
            }
            shown.extend(moves.show);
            prop_assert_eq!(&shown, &visible(&all).0);
        }
    }
}
