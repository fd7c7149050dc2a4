//! `delta` and `column_wise`: columns that are kept beside their rows ([`crate::parts`]), and what is shown of them.
//!
//! **Why it converges.** Cells and registers are versions like rows: of each the greater stamp is kept, which is a
//! semilattice, so members that have received the same hold the same. What a row shows of such a column is a function of
//! them and of nothing else: of cells the value, of registers the sum. Cells and registers never go, so a column that has
//! one anywhere has one everywhere in the end; one that has none shows what its row, the greatest version of it, holds.
//!
//! **Why no addition is lost or doubled.** A register has one writer. It does not say "plus 5" but "my changes come to 17":
//! one that comes twice or late adds nothing, one that overtakes others contains them.
//!
//! **What it means.** Two insertions of one key add up, like any two changes. Who inserts a key again sets its own register so
//! that the sum it knows of is what it inserted; what others were adding meanwhile is added to that.

use std::collections::BTreeMap;

use crate::stamp::{NodeId, Stamp};

/// A column whose changes add up: of each member the sum of its changes, and when it last changed.
///
/// ```
/// use herdsman_mesh::resolve::parts::Registers;
/// use herdsman_mesh::{NodeId, Stamp};
/// let mut here = Registers::default();
/// here.insert(Stamp::new(1, NodeId(1)), 100);
/// let mut there = here.clone();
/// here.add(Stamp::new(5, NodeId(1)), -30);
/// there.add(Stamp::new(4, NodeId(2)), 5);
/// here.join(&there);
/// here.join(&there);
/// assert_eq!(here.sum(), Some(75));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers(BTreeMap<NodeId, (Stamp, i128)>);

impl Registers {
    /// A row is inserted, of this value.
    pub fn insert(&mut self, at: Stamp, value: i128) {
        let of_others = self.0.iter().filter(|(node, _)| **node != at.node);
        let of_others: i128 = of_others.map(|(_, (_, sum))| sum).sum();
        self.0.insert(at.node, (at, value - of_others));
    }

    /// A row is updated by this much.
    pub fn add(&mut self, at: Stamp, difference: i128) {
        let (last, sum) = self.0.entry(at.node).or_insert((at, 0));
        (*last, *sum) = (at, *sum + difference);
    }

    /// Takes what another has more of.
    pub fn join(&mut self, other: &Self) {
        for (node, arriving) in &other.0 {
            let held = self.0.entry(*node).or_insert(*arriving);
            if held.0 < arriving.0 {
                *held = *arriving;
            }
        }
    }

    /// What the column shows; `None`: what its row holds.
    #[must_use]
    pub fn sum(&self) -> Option<i128> {
        (!self.0.is_empty()).then(|| self.0.values().map(|(_, sum)| sum).sum())
    }
}

/// Columns of which each keeps the value written last.
///
/// ```
/// use herdsman_mesh::resolve::parts::Cells;
/// use herdsman_mesh::{NodeId, Stamp};
/// let mut here = Cells::default();
/// here.insert(Stamp::new(1, NodeId(1)), &["ann", "leeds"]);
/// let mut there = here.clone();
/// here.update(Stamp::new(5, NodeId(1)), &["ann", "leeds"], &["anna", "leeds"]);
/// there.update(Stamp::new(4, NodeId(2)), &["ann", "leeds"], &["ann", "york"]);
/// here.join(&there);
/// assert_eq!(here.shown(&["ann", "leeds"]), ["anna", "york"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cells<V>(BTreeMap<usize, (Stamp, V)>);

impl<V: Clone + PartialEq> Cells<V> {
    /// A row is inserted: all are written.
    pub fn insert(&mut self, at: Stamp, values: &[V]) {
        self.0.extend(values.iter().enumerate().map(|(place, value)| (place, (at, value.clone()))));
    }

    /// A row is updated: those are written whose values differ.
    pub fn update(&mut self, at: Stamp, before: &[V], after: &[V]) {
        for (place, (before, after)) in before.iter().zip(after).enumerate() {
            if before != after {
                self.0.insert(place, (at, after.clone()));
            }
        }
    }

    /// Takes what another has more of.
    pub fn join(&mut self, other: &Self) {
        for (place, arriving) in &other.0 {
            let held = self.0.entry(*place).or_insert_with(|| arriving.clone());
            if held.0 < arriving.0 {
                held.clone_from(arriving);
            }
        }
    }

    /// What the columns show, where their row holds these.
    #[must_use]
    pub fn shown(&self, row: &[V]) -> Vec<V> {
        let cell = |(place, value): (usize, &V)| {
            self.0.get(&place).map_or_else(|| value.clone(), |(_, value)| value.clone())
        };
        row.iter().enumerate().map(cell).collect()
    }
}
