//! Which transactions a snapshot shows.

use std::str::FromStr;

/// A snapshot as `pg_current_snapshot()` tells it, with transaction numbers that never wrap around.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Xids {
    /// Everything below has ended.
    pub(crate) oldest: u64,
    /// This and everything above had not ended.
    pub(crate) next: u64,
    /// What was under way between the two; top-level transactions only. In order.
    running: Vec<u64>,
}

impl Xids {
    /// Whether the snapshot shows what this transaction did, given that it was committed. For top-level transactions,
    /// which is what the stream tells: the list of a snapshot holds no subtransactions.
    pub(crate) fn shows(&self, xid: u64) -> bool {
        xid < self.oldest || (xid < self.next && self.running.binary_search(&xid).is_err())
    }

    /// The full number of a transaction of which the stream tells the low 32 bits.
    ///
    /// The server keeps every transaction that can still be of interest (under way, or waited for by a slot) within
    /// 2³¹ of its newest, and refuses new ones before it comes to that. So of all numbers with these low bits the one
    /// nearest to `next` is meant.
    pub(crate) fn full(&self, xid: u32) -> u64 {
        let [.., a, b, c, d] = self.next.to_be_bytes();
        let ahead = xid.wrapping_sub(u32::from_be_bytes([a, b, c, d])).cast_signed();
        self.next.saturating_add_signed(i64::from(ahead))
    }
}

/// The text is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a snapshot; expected xmin:xmax:xip,…")]
pub(crate) struct ParseXidsError(String);

impl FromStr for Xids {
    type Err = ParseXidsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let mut parts = text.split(':');
            let oldest = parts.next()?.parse().ok()?;
            let next = parts.next()?.parse().ok()?;
            let list = parts.next()?;
            let mut running: Vec<u64> = list
                .split(',')
                .filter(|xid| !xid.is_empty())
                .map(|xid| xid.parse().ok())
                .collect::<Option<_>>()?;
            running.sort_unstable();
            parts.next().is_none().then_some(Self { oldest, next, running })
        };
        read().ok_or_else(|| ParseXidsError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_shows_what_had_ended_when_it_was_taken() {
        let xids: Xids = "10:20:12,10".parse().unwrap();
        let shown: Vec<u64> = (5..25).filter(|xid| xids.shows(*xid)).collect();
        assert_eq!(shown, [5, 6, 7, 8, 9, 11, 13, 14, 15, 16, 17, 18, 19]);
        assert!("10:20:".parse::<Xids>().unwrap().shows(10));
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        for text in ["", "1", "1:2", "1:2:x", "1:2:3:4", "a:2:", "-1:2:"] {
            assert!(text.parse::<Xids>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_low_half_of_a_number_means_the_nearest_number() {
        let epoch = 1_u64 << 32;
        let at = |next: u64| Xids { oldest: next, next, running: Vec::new() };
        // Just after the counter went round, a transaction from before it, and the other way round.
        assert_eq!(at(5 * epoch + 3).full(u32::MAX), 5 * epoch - 1);
        assert_eq!(at(5 * epoch - 3).full(2), 5 * epoch + 2);
        assert_eq!(at(5 * epoch + 7).full(7), 5 * epoch + 7);
        assert_eq!(at(100).full(90), 90);
    }
}
