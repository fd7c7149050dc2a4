//! Which rows are visible where several claim the same value of a unique constraint besides the primary key.
//!
//! Versions of rows are joined by key, and two of different keys may claim one value. Removing the older for good would
//! not converge: if the younger later gives the value up, the older would live where it comes late and be gone where it
//! came early. So nothing is removed. The greatest version of every key is kept, visible in its table or in
//! `herdsman.evicted`, and which are visible is computed from them alone: the latest first, each unless one already
//! visible has one of its values. Members that hold the same versions therefore show the same rows, whatever they had
//! shown before.
//!
//! Rows that share no value, not even by way of others, do not matter to each other; so after a change only the rows
//! connected with it are looked at again. A change frees values and claims others: both count.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::Hash;

use crate::stamp::Stamp;

/// The greatest version of a row, and what it claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim<K, V> {
    /// The row's primary key.
    pub key: K,
    /// Its version.
    pub stamp: Stamp,
    /// Its values, each with the constraint it is of. A value with a NULL in it claims nothing and is left out.
    pub values: Vec<V>,
}

/// What has to be done so that the right rows are visible: hide first, then show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moves<K> {
    /// Visible rows to be put away, each with the key of the row that is in its way.
    pub hide: Vec<(K, K)>,
    /// Rows put away that may be seen again.
    pub show: Vec<K>,
}

/// The keys of the visible rows among these, which must be all that share values with one of them; and of each other
/// one the key of the row in its way.
///
/// ```
/// use herdsman_mesh::resolve::unique::{Claim, visible};
/// use herdsman_mesh::{NodeId, Stamp};
/// let claim = |key, micros, values: &[&'static str]| {
///     Claim { key, stamp: Stamp::new(micros, NodeId(1)), values: values.to_vec() }
/// };
/// // 2 is in 1's way, and 3 in 2's: 1 may be seen.
/// let rows = [claim(1, 5, &["a"]), claim(2, 6, &["a", "b"]), claim(3, 7, &["b"])];
/// let (visible, hidden) = visible(&rows);
/// assert_eq!(visible, [3, 1].into());
/// assert_eq!(hidden, [(2, 3)].into());
/// ```
#[must_use]
pub fn visible<K: Ord + Clone, V: Hash + Eq + Ord>(
    claims: &[Claim<K, V>],
) -> (BTreeSet<K>, BTreeMap<K, K>) {
    let mut latest: Vec<_> = claims.iter().collect();
    latest.sort_unstable_by(|one, two| (two.stamp, &two.key).cmp(&(one.stamp, &one.key)));
    let mut taken: BTreeMap<&V, &K> = BTreeMap::new();
    let (mut visible, mut hidden) = (BTreeSet::new(), BTreeMap::new());
    for claim in latest {
        if let Some(by) = claim.values.iter().find_map(|value| taken.get(value)) {
            hidden.insert(claim.key.clone(), (*by).clone());
        } else {
            taken.extend(claim.values.iter().map(|value| (value, &claim.key)));
            visible.insert(claim.key.clone());
        }
    }
    (visible, hidden)
}

/// What has to be done, given all rows that are connected with a change and which of them are visible now.
#[must_use]
pub fn settle<K: Ord + Clone, V: Hash + Eq + Ord>(
    claims: &[Claim<K, V>],
    is_visible: impl Fn(&K) -> bool,
) -> Moves<K> {
    let (visible, hidden) = visible(claims);
    Moves {
        hide: hidden.into_iter().filter(|(key, _)| is_visible(key)).collect(),
        show: visible.into_iter().filter(|key| !is_visible(key)).collect(),
    }
}

/// All rows connected with values that were freed or claimed. `claiming` finds the rows, visible or not, that claim a
/// value.
pub fn component<K: Ord + Clone, V: Hash + Eq + Clone>(
    values: impl IntoIterator<Item = V>,
    mut claiming: impl FnMut(&V) -> Vec<Claim<K, V>>,
) -> Vec<Claim<K, V>> {
    let mut waiting: Vec<V> = values.into_iter().collect();
    let mut looked: HashSet<V> = HashSet::new();
    let mut found: BTreeMap<K, Claim<K, V>> = BTreeMap::new();
    while let Some(value) = waiting.pop() {
        if looked.contains(&value) {
            continue;
        }
        for claim in claiming(&value) {
            waiting.extend(claim.values.iter().filter(|v| !looked.contains(v)).cloned());
            found.insert(claim.key.clone(), claim);
        }
        looked.insert(value);
    }
    found.into_values().collect()
}
