//! Which changes of a batch have an order among them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use herdsman_wal::Change;

use crate::lanes::{Key, Touch, touch};

/// Splits a batch into groups: changes of different groups have nothing to do with each other. Each group, and the
/// changes within it, are in the order of the batch.
pub(super) fn split(changes: &[Arc<Change>]) -> Vec<Vec<usize>> {
    let touched: Vec<_> = changes.iter().map(|change| touch(change)).collect();
    let whole: HashSet<Key> = touched.iter().flat_map(whole_tables).cloned().collect();
    let mut sets = Sets { parents: (0..changes.len()).collect() };
    let mut first: HashMap<Key, usize> = HashMap::new();
    for (index, touch) in touched.into_iter().enumerate() {
        for key in keys(touch, &whole) {
            let with = *first.entry(key).or_insert(index);
            sets.join(with, index);
        }
    }
    let mut groups: Vec<Vec<usize>> = vec![Vec::new(); changes.len()];
    for index in 0..changes.len() {
        let set = sets.find(index);
        if let Some(group) = groups.get_mut(set) {
            group.push(index);
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

fn whole_tables(touch: &Touch) -> &[Key] {
    match touch {
        Touch::Tables(tables) => tables,
        Touch::Rows { .. } | Touch::Alone(_) => &[],
    }
}

/// What a change shares with others: with rows the table too, where something touches all of it.
fn keys(touch: Touch, whole: &HashSet<Key>) -> Vec<Key> {
    match touch {
        Touch::Tables(tables) => tables,
        Touch::Alone(key) => vec![key],
        Touch::Rows { table, first, second } => {
            let table = Some(table).filter(|table| whole.contains(table));
            [Some(first), second, table].into_iter().flatten().collect()
        }
    }
}

/// Disjoint sets, each named by its smallest member.
struct Sets {
    parents: Vec<usize>,
}

impl Sets {
    fn find(&mut self, mut index: usize) -> usize {
        while let Some(&parent) = self.parents.get(index)
            && parent != index
        {
            let above = self.parents.get(parent).copied().unwrap_or(parent);
            if let Some(slot) = self.parents.get_mut(index) {
                *slot = above;
            }
            index = above;
        }
        index
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.find(one), self.find(other));
        if let Some(slot) = self.parents.get_mut(one.max(other)) {
            *slot = one.min(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::fixture::{insert, message, table, transaction, truncate, update};

    #[test]
    fn changes_that_share_a_key_directly_or_through_others_are_one_group() {
        let (tx, users, others) = (transaction(10), table("users"), table("others"));
        let changes = [
            insert(&tx, 0, &users, "a"),
            insert(&tx, 1, &users, "b"),
            insert(&tx, 2, &users, "c"),
            update(&tx, 3, &users, Some("a"), "b"),
            insert(&tx, 4, &others, "a"),
            message(&tx, 5, "note"),
        ];
        assert_eq!(split(&changes), [vec![0, 1, 3], vec![2], vec![4], vec![5]]);
    }

    #[test]
    fn what_touches_a_table_is_one_group_with_all_its_rows() {
        let (tx, users, others) = (transaction(10), table("users"), table("others"));
        let changes = [
            insert(&tx, 0, &users, "a"),
            insert(&tx, 1, &others, "a"),
            truncate(&tx, 2, std::slice::from_ref(&users)),
            insert(&tx, 3, &users, "b"),
        ];
        assert_eq!(split(&changes), [vec![0, 2, 3], vec![1]]);
    }
}
