//! Cutting tables into pieces that are read one at a time. Pure.

use serde::{Deserialize, Serialize};

/// One piece of one table: which table of the snapshot, and which piece of it, both from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChunkId {
    /// `pg_class.oid` of the table, or of the partition, that holds the rows.
    pub table: u32,
    /// The piece's number in it, from 0.
    pub number: u32,
}

/// How one table is cut: into ranges of its pages, all of one length but the last, which has no end.
///
/// It has no end because the table grows while it is read. Rows in pages that are new are in no older snapshot, so
/// nothing is read twice or left out, whenever the pages were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Pages in one piece.
    pub pages_each: u32,
    /// Number of pieces, at least 1.
    pub pieces: u32,
}

impl Cut {
    /// Cuts a table of `pages` pages of `page_bytes` each into pieces of about `piece_bytes`.
    ///
    /// ```
    /// use herdsman_wal::snapshot::Cut;
    /// let cut = Cut::new(20_000, 8192, 64 << 20);
    /// assert_eq!((cut.pages_each, cut.pieces), (8192, 3));
    /// assert_eq!(cut.condition(1).unwrap(), "ctid >= '(8192,0)'::tid AND ctid < '(16384,0)'::tid");
    /// assert_eq!(cut.condition(2).unwrap(), "ctid >= '(16384,0)'::tid");
    /// // A small table is one piece, read whole.
    /// assert_eq!(Cut::new(7, 8192, 64 << 20).condition(0), None);
    /// ```
    #[must_use]
    pub fn new(pages: u32, page_bytes: u32, piece_bytes: u64) -> Self {
        let each = piece_bytes.checked_div(u64::from(page_bytes)).unwrap_or(u64::MAX).max(1);
        let pages_each = u32::try_from(each).unwrap_or(u32::MAX);
        Self { pages_each, pieces: pages.div_ceil(pages_each).max(1) }
    }

    /// The condition for the rows of this piece; `None` where it is the whole table.
    #[must_use]
    pub fn condition(&self, piece: u32) -> Option<String> {
        let page = |number: u32| u64::from(number) * u64::from(self.pages_each);
        let from = format!("ctid >= '({},0)'::tid", page(piece));
        let to = || format!("ctid < '({},0)'::tid", page(piece + 1));
        match (piece == 0, piece + 1 >= self.pieces) {
            (true, true) => None,
            (true, false) => Some(to()),
            (false, true) => Some(from),
            (false, false) => Some(format!("{from} AND {}", to())),
        }
    }

    /// Bytes in one piece, as far as that is known beforehand: what progress is measured by.
    #[must_use]
    pub fn bytes_of(&self, piece: u32, pages: u32, page_bytes: u32) -> u64 {
        let before = u64::from(piece) * u64::from(self.pages_each);
        let left = u64::from(pages).saturating_sub(before);
        let own =
            if piece + 1 >= self.pieces { left } else { left.min(u64::from(self.pages_each)) };
        own * u64::from(page_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The pages that a condition lets through.
    fn range(condition: Option<&str>) -> (u64, u64) {
        let (mut from, mut to) = (0, u64::MAX);
        for part in condition.into_iter().flat_map(|c| c.split(" AND ")) {
            let page = |rest: &str| rest.split_once(',').unwrap().0.parse().unwrap();
            match (part.strip_prefix("ctid >= '("), part.strip_prefix("ctid < '(")) {
                (Some(rest), None) => from = page(rest),
                (None, Some(rest)) => to = page(rest),
                _ => panic!("{part}"),
            }
        }
        (from, to)
    }

    proptest! {
        #[test]
        fn every_page_is_in_exactly_one_piece(pages in 0_u32..5_000_000, piece_bytes in 1_u64..1 << 40) {
            let cut = Cut::new(pages, 8192, piece_bytes.max(u64::from(pages) * 8192 / 500));
            let mut next = 0;
            for piece in 0..cut.pieces {
                let (from, to) = range(cut.condition(piece).as_deref());
                prop_assert_eq!(from, next);
                prop_assert!(to > from);
                next = to;
            }
            prop_assert_eq!(next, u64::MAX, "the last piece has no end");
            let bytes: u64 = (0..cut.pieces).map(|piece| cut.bytes_of(piece, pages, 8192)).sum();
            prop_assert_eq!(bytes, u64::from(pages) * 8192);
        }
    }
}
