//! Blocks and steps of numbers. Pure.

/// Numbers from `first` to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The least.
    pub first: i64,
    /// The greatest.
    pub last: i64,
}

impl Range {
    /// Whether it has this number.
    #[must_use]
    pub const fn contains(self, number: i64) -> bool {
        self.first <= number && number <= self.last
    }
}

/// The greatest number of a type.
#[must_use]
pub fn greatest(sql_type: &str) -> i64 {
    match sql_type {
        "smallint" => i64::from(i16::MAX),
        "integer" => i64::from(i32::MAX),
        _ => i64::MAX,
    }
}

/// How many numbers a block of a type has.
#[must_use]
pub fn width(sql_type: &str) -> i64 {
    match sql_type {
        "smallint" => i64::from(i16::MAX) / 16,
        "integer" => i64::from(i32::MAX) / 16,
        _ => i64::from(i32::MAX),
    }
}

/// How many whole blocks a type has.
#[must_use]
pub fn blocks(sql_type: &str) -> i64 {
    (greatest(sql_type) - 1) / width(sql_type)
}

/// A block of a type; none beyond the last.
///
/// ```
/// use herdsman_mesh::sequences::range;
/// let firsts: Vec<i64> = (0..3).filter_map(|block| Some(range("bigint", block)?.first)).collect();
/// assert_eq!(firsts, [2, 2_147_483_649, 4_294_967_296]);
/// assert_eq!(range("integer", 16), None);
/// ```
#[must_use]
pub fn range(sql_type: &str, block: i64) -> Option<Range> {
    let width = width(sql_type);
    let inside = (0..blocks(sql_type)).contains(&block);
    inside.then(|| Range { first: block * width + 2, last: (block + 1) * width + 1 })
}

/// The block that a number is in; what is below 2 counts as the first one's.
pub(super) fn block_of(sql_type: &str, number: i64) -> i64 {
    if number < 2 { 0 } else { (number - 2) / width(sql_type) }
}

/// The step for interleaved keys of members up to this number, where that many as `now` is in use: a power of two with
/// room to grow.
#[must_use]
pub fn step(greatest_member: i16, now: Option<i64>) -> i64 {
    let members = i64::from(greatest_member.max(1));
    match now {
        Some(now) if now > members && now.count_ones() == 1 && now >= 8 => now,
        _ => {
            let mut step = 8;
            while step < members * 2 {
                step *= 2;
            }
            step
        }
    }
}

/// The least number above `after` that member `member` may give in steps of `step`; none beyond the greatest there is.
#[must_use]
pub fn interleaved(member: i16, step: i64, after: i64) -> Option<i64> {
    let remainder = i64::from(member).rem_euclid(step);
    let from = after.max(0).checked_add(1)?;
    let ahead = (remainder - from.rem_euclid(step)).rem_euclid(step);
    from.checked_add(ahead)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPES: [&str; 3] = ["smallint", "integer", "bigint"];

    #[test]
    fn the_first_keys_are_those_of_the_example() {
        let first = |block| range("bigint", block).unwrap().first;
        assert_eq!([first(0), first(1), first(2)], [2, 2_147_483_649, 4_294_967_296]);
    }

    #[test]
    fn small_types_have_sixteen_blocks_and_no_more() {
        for sql_type in ["smallint", "integer"] {
            assert_eq!(blocks(sql_type), 16);
            assert!(range(sql_type, 15).unwrap().last <= greatest(sql_type));
            assert_eq!(range(sql_type, 16), None);
        }
        assert_eq!(range("integer", -1), None);
    }

    proptest! {
        #[test]
        fn blocks_do_not_overlap_and_leave_no_gap(at in 0_usize..3, block in 0_i64..4_000_000_000) {
            let sql_type = TYPES[at];
            let block = block % (blocks(sql_type) - 1);
            let (this, next) = (range(sql_type, block).unwrap(), range(sql_type, block + 1).unwrap());
            prop_assert_eq!(this.last + 1, next.first);
            prop_assert!(this.first < this.last && next.last <= greatest(sql_type));
            prop_assert_eq!(this.last - this.first + 1, width(sql_type));
        }

        #[test]
        fn every_number_is_in_the_block_it_is_said_to_be_in(at in 0_usize..3, number in 2_i64..) {
            let sql_type = TYPES[at];
            let number = number % (greatest(sql_type) - 16) + 2;
            if let Some(range) = range(sql_type, block_of(sql_type, number)) {
                prop_assert!(range.contains(number));
            } else {
                // The few numbers that no whole block is left of.
                prop_assert!(number > self::range(sql_type, blocks(sql_type) - 1).unwrap().last);
            }
        }

        #[test]
        fn no_two_members_interleave_into_the_same_number(
            one in 1_i16..500, other in 1_i16..500, after in 0_i64..1_000_000, steps in 0_i64..1000,
        ) {
            prop_assume!(one != other);
            let step = step(one.max(other), None);
            let (a, b) = (interleaved(one, step, after).unwrap(), interleaved(other, step, after).unwrap());
            prop_assert!(a > after && b > after && a <= after + step);
            prop_assert_ne!((a + steps * step).rem_euclid(step), b.rem_euclid(step));
        }

        #[test]
        fn a_step_with_room_is_kept(member in 1_i16..1023) {
            let chosen = step(member, None);
            prop_assert!(chosen >= 2 * i64::from(member) && chosen >= 8);
            prop_assert_eq!(step(member + 1, Some(chosen)), chosen);
        }
    }
}
