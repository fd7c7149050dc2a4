//! Who came before whom, and whether anybody came before himself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use super::Anomaly;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Ww,
    Wr,
    Rw,
    Rt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) kind: Kind,
}

pub(super) struct Graph {
    /// By where they begin.
    edges: Vec<Vec<Edge>>,
}

impl Graph {
    pub(super) fn new(count: usize, all: BTreeSet<Edge>) -> Self {
        let mut edges = vec![Vec::new(); count];
        for edge in all {
            edges[edge.from].push(edge);
        }
        Self { edges }
    }

    /// The anomaly that takes least, with a cycle of it.
    pub(super) fn anomaly(&self) -> Option<(Anomaly, String)> {
        let named = |anomaly| move |cycle: Vec<Edge>| (anomaly, told(&cycle));
        if let Some(found) = self.cycle(Kind::Ww).map(named(Anomaly::G0)) {
            return Some(found);
        }
        if let Some(found) = self.cycle(Kind::Wr).map(named(Anomaly::G1c)) {
            return Some(found);
        }
        if let Some(cycle) = self.cycle(Kind::Rw) {
            let single = self.single().map(named(Anomaly::GSingle));
            return single.or_else(|| Some((Anomaly::G2, told(&cycle))));
        }
        self.cycle(Kind::Rt).map(named(Anomaly::RealTime))
    }

    /// A cycle of edges up to this kind.
    fn cycle(&self, most: Kind) -> Option<Vec<Edge>> {
        let allowed = || self.edges.iter().flatten().filter(|it| it.kind <= most);
        let mut before = vec![0_usize; self.edges.len()];
        allowed().for_each(|edge| before[edge.to] += 1);
        let mut free: Vec<usize> = (0..before.len()).filter(|it| before[*it] == 0).collect();
        let mut left: BTreeSet<usize> = (0..before.len()).collect();
        while let Some(first) = free.pop() {
            left.remove(&first);
            for edge in self.edges[first].iter().filter(|it| it.kind <= most) {
                before[edge.to] -= 1;
                if before[edge.to] == 0 {
                    free.push(edge.to);
                }
            }
        }
        // Whoever is left has somebody before him who is left, too.
        let start = *left.first()?;
        let back: BTreeMap<usize, Edge> = allowed()
            .filter(|it| left.contains(&it.from) && left.contains(&it.to))
            .map(|edge| (edge.to, *edge))
            .collect();
        let (mut at, mut seen) = (start, BTreeSet::new());
        while seen.insert(at) {
            at = back[&at].from;
        }
        let (end, mut cycle) = (at, Vec::new());
        loop {
            cycle.push(back[&at]);
            at = back[&at].from;
            if at == end {
                break;
            }
        }
        cycle.reverse();
        Some(cycle)
    }

    /// A cycle with one read of what was overwritten, and else only writes and reads of what was written.
    fn single(&self) -> Option<Vec<Edge>> {
        let reads = self.edges.iter().flatten().filter(|it| it.kind == Kind::Rw);
        reads.into_iter().find_map(|read| {
            let mut way = self.way(read.to, read.from)?;
            way.insert(0, *read);
            Some(way)
        })
    }

    fn way(&self, from: usize, to: usize) -> Option<Vec<Edge>> {
        let mut came: BTreeMap<usize, Edge> = BTreeMap::new();
        let mut next = VecDeque::from([from]);
        while let Some(at) = next.pop_front() {
            for edge in self.edges[at].iter().filter(|it| it.kind <= Kind::Wr) {
                if edge.to != from && !came.contains_key(&edge.to) {
                    came.insert(edge.to, *edge);
                    next.push_back(edge.to);
                }
            }
        }
        let (mut at, mut way) = (to, Vec::new());
        while at != from {
            let edge = came.get(&at)?;
            way.push(*edge);
            at = edge.from;
        }
        way.reverse();
        Some(way)
    }
}

fn told(cycle: &[Edge]) -> String {
    let mut text = String::new();
    for edge in cycle {
        write!(text, "T{} -{:?}-> ", edge.from, edge.kind).unwrap();
    }
    write!(text, "T{}", cycle[0].from).unwrap();
    text
}
