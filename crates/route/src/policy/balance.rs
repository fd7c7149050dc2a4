//! One of several nodes that would all do.

use super::Seat;
use crate::config::Balance;

/// How busy a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Statements it is carrying out for us.
    pub in_flight: u32,
    /// How long statements take there lately, in nanoseconds; 0 if unknown.
    pub latency: u64,
}

/// Picks one of `seats`, which must not be empty, and returns its node. `random` is a fresh random number, `turn` a
/// counter.
///
/// *Two choices* draws two nodes, each by its share, and takes the one with fewer statements in flight for its share.
/// A node at least twice as slow as the fastest is drawn that much less: differences below that, and below
/// 1 ms, say nothing, and to follow them would send everything to one node. It is never forgotten, so its recovery
/// is seen.
#[must_use]
pub fn pick(
    seats: &[Seat],
    balance: Balance,
    random: u64,
    turn: u64,
    load: impl Fn(usize) -> Load,
) -> usize {
    if let [only] = seats {
        return only.node;
    }
    let by_share = |seat: &Seat| u64::from(seat.share);
    match balance {
        Balance::TwoChoices => two_choices(seats, random, &load),
        Balance::Random => draw(seats, by_share, random).node,
        Balance::RoundRobin => {
            draw(
                seats,
                by_share,
                turn.wrapping_mul(u64::from(seats.first().map_or(1, |s| s.share))),
            )
            .node
        }
        Balance::LeastConnections => {
            let start = draw(seats, by_share, random);
            seats.iter().fold(start, |best, seat| lighter(best, *seat, &load, by_share)).node
        }
    }
}

/// The node a sticky key belongs to: rendezvous hashing, so that a node's absence moves only its own keys.
#[must_use]
pub fn stick(seats: &[Seat], key: u64) -> usize {
    let score = |seat: &&Seat| mix(key ^ mix(seat.node as u64));
    seats.iter().max_by_key(score).map_or(0, |seat| seat.node)
}

/// Times below this, in nanoseconds, count as this: a cold cache on one node must not turn it into a slow one.
const NOISE: u64 = 1_000_000;

fn two_choices(seats: &[Seat], random: u64, load: &impl Fn(usize) -> Load) -> usize {
    let latency = |seat: &Seat| load(seat.node).latency.max(NOISE);
    let fastest = seats.iter().map(latency).min().unwrap_or(NOISE);
    let pull = |seat: &Seat| {
        let (share, latency) = (u64::from(seat.share), latency(seat));
        if latency >= fastest.saturating_mul(2) {
            (share.saturating_mul(fastest) / latency).max(1)
        } else {
            share
        }
    };
    let first = draw(seats, pull, random);
    let rest = |seat: &Seat| if seat.node == first.node { 0 } else { pull(seat) };
    let second = draw(seats, rest, mix(random));
    lighter(first, second, load, pull).node
}

/// The one with fewer statements in flight for its pull; the first if they are even.
fn lighter(
    first: Seat,
    second: Seat,
    load: &impl Fn(usize) -> Load,
    pull: impl Fn(&Seat) -> u64,
) -> Seat {
    let weigh =
        |one: &Seat, other: &Seat| u128::from(load(one.node).in_flight) * u128::from(pull(other));
    if weigh(&first, &second) > weigh(&second, &first) { second } else { first }
}

/// Draws a seat with a chance in proportion to its pull.
fn draw(seats: &[Seat], pull: impl Fn(&Seat) -> u64, random: u64) -> Seat {
    let total: u64 = seats.iter().map(&pull).sum();
    let mut left = random.checked_rem(total).unwrap_or(0);
    for seat in seats {
        let own = pull(seat);
        if left < own {
            return *seat;
        }
        left -= own;
    }
    seats.first().copied().unwrap_or(Seat { node: 0, share: 1 })
}

/// A bijective scrambling of 64 bits (the finaliser of SplitMix64).
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
