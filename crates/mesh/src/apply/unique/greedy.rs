//! Which of rows that clash are visible. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::stamp::Stamp;

/// A row that waits, or one that clashes with such a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// As JSON.
    pub(super) key: String,
    pub(super) stamp: Stamp,
    pub(super) visible: bool,
}

/// Rows, and which of them cannot be visible together.
#[derive(Debug, Default)]
pub(super) struct Clashes {
    rows: BTreeMap<String, Row>,
    pairs: BTreeMap<String, BTreeSet<String>>,
}

impl Clashes {
    pub(super) fn row(&mut self, row: Row) {
        self.rows.insert(row.key.clone(), row);
    }

    pub(super) fn clash(&mut self, one: &str, other: &str) {
        for (one, other) in [(one, other), (other, one)] {
            self.pairs.entry(one.to_owned()).or_default().insert(other.to_owned());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Keys of rows that must no longer be visible, and of those that must be from now on.
    pub(super) fn changes(&self) -> (Vec<String>, Vec<String>) {
        let mut latest: Vec<&Row> = self.rows.values().collect();
        latest.sort_by(|a, b| b.stamp.cmp(&a.stamp).then_with(|| a.key.cmp(&b.key)));
        let mut taken = BTreeSet::new();
        let (mut hide, mut show) = (Vec::new(), Vec::new());
        for row in latest {
            let rivals = self.pairs.get(&row.key);
            let free = !rivals.is_some_and(|rivals| rivals.iter().any(|key| taken.contains(key)));
            if free {
                taken.insert(&row.key);
            }
            match (free, row.visible) {
                (true, false) => show.push(row.key.clone()),
                (false, true) => hide.push(row.key.clone()),
                _ => {}
            }
        }
        (hide, show)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stamp::NodeId;

    /// Rows by key: stamp and the value that must be unique.
    type Held = BTreeMap<u8, (i64, u8)>;

    fn visible(all: &Held) -> BTreeSet<u8> {
        let mut latest: Vec<_> = all.iter().collect();
        latest.sort_by_key(|(_, (stamp, _))| std::cmp::Reverse(*stamp));
        let mut values = BTreeSet::new();
        latest
            .into_iter()
            .filter(|(_, (_, value))| values.insert(*value))
            .map(|(k, _)| *k)
            .collect()
    }

    /// What a node does: it puts in what is greater, and settles what clashes.
    fn node(order: &[(u8, i64, u8)]) -> (Held, BTreeSet<u8>) {
        let (mut all, mut shown) = (Held::new(), BTreeSet::new());
        for (key, stamp, value) in order {
            if all.get(key).is_some_and(|(held, _)| held >= stamp) {
                continue;
            }
            all.insert(*key, (*stamp, *value));
            shown.remove(key);
            let waiting: Vec<u8> = all.keys().copied().filter(|key| !shown.contains(key)).collect();
            let mut clashes = Clashes::default();
            let row = |key: &u8, visible| Row {
                key: key.to_string(),
                stamp: Stamp::new(all[key].0, NodeId(1)),
                visible,
            };
            for one in &waiting {
                clashes.row(row(one, false));
                for other in all.keys().filter(|other| *other != one && all[*other].1 == all[one].1)
                {
                    clashes.clash(&one.to_string(), &other.to_string());
                    clashes.row(row(other, shown.contains(other)));
                }
            }
            let (hide, show) = clashes.changes();
            for key in hide {
                shown.remove(&key.parse::<u8>().unwrap());
            }
            for key in show {
                shown.insert(key.parse::<u8>().unwrap());
            }
        }
        (all, shown)
    }

    proptest! {
        #[test]
        fn nodes_show_the_same_rows_whatever_the_order(
            versions in proptest::collection::vec((0..6_u8, 0..4_u8), 1..12),
            seed in any::<u64>(),
        ) {
            let versions: Vec<(u8, i64, u8)> =
                (0_i64..).zip(versions).map(|(stamp, (key, value))| (key, stamp, value)).collect();
            let (all, shown) = node(&versions);
            prop_assert_eq!(&shown, &visible(&all));
            let mut other = versions;
            fastrand::Rng::with_seed(seed).shuffle(&mut other);
            prop_assert_eq!(node(&other), (all, shown));
        }
    }
}
