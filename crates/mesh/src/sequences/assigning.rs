//! Which member gives numbers of which block. Pure.

use std::collections::BTreeSet;

use super::maths::{Range, block_of, blocks, range};

/// Of `bigint`, the blocks below are members' own.
const OWN: i64 = 1024;

/// A member's sequence, as far as the choice depends on it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// The member's number.
    pub(super) member: i16,
    /// What the sequence gives next.
    pub(super) next: i64,
    /// What it begins with.
    pub(super) start: i64,
    /// The greatest it gives.
    pub(super) max: i64,
}

/// What a member is to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// From where to where.
    pub(super) range: Range,
    /// The least that no row has.
    pub(super) next: i64,
}

/// The block that a sequence is set to; none where the mesh has not set it.
pub(super) fn current(sql_type: &str, held: &Held) -> Option<i64> {
    let block = block_of(sql_type, held.max);
    let range = range(sql_type, block)?;
    (range.last == held.max && range.first == held.start).then_some(block)
}

/// Chooses for every member, in the order they come in: `used` are the greatest values of every block, on all nodes. None
/// for a member that nothing is left for.
pub(super) fn assign(sql_type: &str, members: &[Held], used: &[i64]) -> Vec<Option<Given>> {
    let mut taken: BTreeSet<i64> = BTreeSet::new();
    let mut given: Vec<Option<Given>> = vec![None; members.len()];
    // What is set stays set while it lasts.
    for (held, given) in members.iter().zip(&mut given) {
        let Some(block) = current(sql_type, held) else { continue };
        let outcome = fill(sql_type, block, Some(held.next), used);
        if outcome.is_some() && taken.insert(block) {
            *given = outcome;
        }
    }
    for held in members {
        // Also one that is used up is nobody else's.
        taken.extend(current(sql_type, held));
    }
    for (at, held) in members.iter().enumerate() {
        if given.get(at).is_some_and(Option::is_some) {
            continue;
        }
        let elsewhere: BTreeSet<i64> = members
            .iter()
            .enumerate()
            .filter(|(other, other_held)| *other != at && begun(other_held))
            .map(|(_, other)| block_of(sql_type, other.next))
            .collect();
        let outcome = choose(sql_type, held, &taken, &elsewhere, used);
        if let (Some((block, outcome)), Some(given)) = (outcome, given.get_mut(at)) {
            taken.insert(block);
            *given = Some(outcome);
        }
    }
    given
}

/// Whether a sequence has given a number already.
fn begun(held: &Held) -> bool {
    held.next > held.start
}

fn choose(
    sql_type: &str,
    held: &Held,
    taken: &BTreeSet<i64>,
    elsewhere: &BTreeSet<i64>,
    used: &[i64],
) -> Option<(i64, Given)> {
    let free = |block: &i64| !taken.contains(block) && !elsewhere.contains(block);
    let own = i64::from(held.member) - 1;
    if free(&own)
        && let Some(given) = fill(sql_type, own, Some(held.next), used)
    {
        return Some((own, given));
    }
    let filled: BTreeSet<i64> = used.iter().map(|value| block_of(sql_type, *value)).collect();
    let empty = |block: &i64| free(block) && !filled.contains(block);
    let all = blocks(sql_type);
    let found = if all > OWN { (OWN..all).find(empty) } else { (0..all).rev().find(empty) };
    found.and_then(|block| Some((block, fill(sql_type, block, None, used)?)))
}

/// The next number in a block, after what is used of it anywhere and what its sequence has given; none where it is full.
fn fill(sql_type: &str, block: i64, next: Option<i64>, used: &[i64]) -> Option<Given> {
    let range = range(sql_type, block)?;
    let after = used.iter().filter(|value| range.contains(**value)).max().map(|value| value + 1);
    // One that stands behind its own end has used all of it up.
    let next = next.filter(|next| range.contains(*next) || *next == range.last + 1);
    let next = after.into_iter().chain(next).max().unwrap_or(range.first);
    (next <= range.last).then_some(Given { range, next })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fresh(member: i16) -> Held {
        Held { member, next: 1, start: 1, max: i64::MAX }
    }

    #[test]
    fn members_of_a_new_mesh_take_their_own_blocks() {
        let given = assign("bigint", &[fresh(1), fresh(2), fresh(3)], &[]);
        let next: Vec<i64> = given.iter().map(|given| given.unwrap().next).collect();
        assert_eq!(next, [2, 2_147_483_649, 4_294_967_296]);
    }

    #[test]
    fn keys_from_before_the_mesh_are_gone_on_from() {
        let old = Held { next: 1001, ..fresh(1) };
        let given = assign("bigint", &[old, fresh(2)], &[1000]);
        assert_eq!(given[0].unwrap().next, 1001);
        assert_eq!(given[1].unwrap().next, 2_147_483_649);
    }

    #[test]
    fn a_block_in_which_another_sequence_stands_is_not_taken() {
        let old = Held { next: 1001, ..fresh(2) };
        let given = assign("bigint", &[fresh(1), old], &[1000]);
        assert_eq!(given[0].unwrap().range, range("bigint", 1024).unwrap());
        assert_eq!(given[1].unwrap().range, range("bigint", 1).unwrap());
    }

    #[test]
    fn sequences_that_the_example_has_set_itself_stay_where_they_are() {
        let set =
            |member: i16| Held { next: i64::from(member - 1) * 2_147_483_647 + 2, ..fresh(member) };
        let given = assign("bigint", &[set(1), set(2), set(3)], &[]);
        let next: Vec<i64> = given.iter().map(|given| given.unwrap().next).collect();
        assert_eq!(next, [2, 2_147_483_649, 4_294_967_296]);
    }

    #[test]
    fn a_full_block_gives_way_to_an_empty_one() {
        let own = range("integer", 0).unwrap();
        let old = Held { member: 1, next: own.last + 1, start: own.first, max: own.last };
        let given = assign("integer", &[old, fresh(2)], &[own.last]);
        assert_eq!(given[0].unwrap().range, range("integer", 15).unwrap());
    }

    #[test]
    fn the_seventeenth_member_finds_no_integers_left() {
        let members: Vec<Held> = (1..=17).map(fresh).collect();
        let given = assign("integer", &members, &[]);
        assert!(given[..16].iter().all(Option::is_some));
        assert_eq!(given[16], None);
    }

    proptest! {
        #[test]
        fn no_two_members_ever_hold_the_same_numbers(
            at in 0_usize..3,
            members in prop::collection::vec((1_i64..3_000, 0_i64..40), 1..9),
            used in prop::collection::vec((0_i64..16, 0_i64..3_000), 0..8),
        ) {
            let sql_type = ["smallint", "integer", "bigint"][at];
            let held: Vec<Held> = members.iter().enumerate().map(|(place, (next, block))| {
                let set = range(sql_type, *block);
                let (start, max) = set.map_or((1, i64::MAX), |range| (range.first, range.last));
                Held { member: i16::try_from(place).unwrap() + 1, next: start + next % 2000, start, max }
            }).collect();
            let used: Vec<i64> = used.iter().filter_map(|(block, more)| {
                let range = range(sql_type, *block)?;
                Some((range.first + more).min(range.last))
            }).collect();
            let given = assign(sql_type, &held, &used);
            for (one, other) in given.iter().enumerate().flat_map(|(at, one)| {
                given[at + 1..].iter().map(move |other| (one, other))
            }) {
                if let (Some(one), Some(other)) = (one, other) {
                    prop_assert!(one.range.last < other.range.first || other.range.last < one.range.first);
                }
            }
            for given in given.iter().flatten() {
                prop_assert!(given.range.contains(given.next));
                prop_assert!(used.iter().all(|value| !given.range.contains(*value) || *value < given.next));
            }
            // Once set, everything stays as it is.
            let set: Vec<Held> = held.iter().zip(&given).map(|(held, given)| match given {
                Some(given) => Held { next: given.next, start: given.range.first, max: given.range.last, ..held.clone() },
                None => held.clone(),
            }).collect();
            prop_assert_eq!(assign(sql_type, &set, &used), given);
        }
    }
}
