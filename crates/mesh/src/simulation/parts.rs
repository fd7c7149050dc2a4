//! Rows with columns that are kept beside them: members insert, update and delete, send what they wrote late, in any order
//! between writers and more than once, and must show the same in the end, with not one addition lost or doubled.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::node::id;
use crate::next_time;
use crate::resolve::parts::{Cells, Registers};
use crate::stamp::Stamp;

const KEYS: u8 = 4;
/// Rows of this key are never deleted: all that was ever added counts.
const KEPT: u8 = 0;

/// What a member holds of a key.
#[derive(Clone, Debug, Default, PartialEq)]
struct Key {
    /// The greatest version of the row; without values it is a tombstone.
    at: Option<Stamp>,
    row: Option<([u8; 2], i128)>,
    cells: Cells<u8>,
    sum: Registers,
}

impl Key {
    fn join(&mut self, other: &Self) {
        if self.at < other.at {
            (self.at, self.row) = (other.at, other.row);
        }
        self.cells.join(&other.cells);
        self.sum.join(&other.sum);
        self.mend();
    }

    /// As the applier does: what is shown takes the place of what came with the row.
    fn mend(&mut self) {
        if let Some((values, sum)) = &mut self.row {
            let shown = self.cells.shown(values.as_slice());
            values.copy_from_slice(&shown);
            *sum = self.sum.sum().unwrap_or(*sum);
        }
    }

    /// What a user does; returns how much was added.
    fn write(&mut self, rng: &mut Rng, at: Stamp, kept: bool) -> i128 {
        let mut added = 0;
        match self.row {
            Some(_) if !kept && rng.u8(..8) == 0 => self.row = None,
            Some((before, sum)) => {
                let mut after = before;
                after[rng.usize(..2)] = rng.u8(..);
                self.cells.update(at, &before, &after);
                if rng.bool() {
                    added = rng.i128(-100..100);
                    self.sum.add(at, added);
                }
                self.row = Some((after, sum + added));
            }
            None => {
                let row = ([rng.u8(..), rng.u8(..)], rng.i128(-100..100));
                self.cells.insert(at, &row.0);
                self.sum.insert(at, row.1);
                (self.row, added) = (Some(row), row.1);
            }
        }
        self.at = Some(at);
        added
    }
}

#[derive(Default)]
struct Member {
    keys: BTreeMap<u8, Key>,
    floor: i64,
    log: Vec<(u8, Key)>,
    applied: Vec<usize>,
}

fn run(seed: u64, operations: usize) {
    let mut rng = Rng::with_seed(seed);
    let members = rng.usize(3..=5);
    let member = || Member { applied: vec![0; members], ..Member::default() };
    let mut nodes: Vec<Member> = (0..members).map(|_| member()).collect();
    let skews: Vec<_> = (0..members).map(|_| rng.i64(-500..500)).collect();
    let (mut done, mut step, mut all) = (0, 0, 0);
    while done < operations {
        step += 1;
        let n = rng.usize(..members);
        if rng.bool() {
            let key = rng.u8(..KEYS);
            let node = &mut nodes[n];
            let held = node.keys.entry(key).or_default();
            // Before the first of them has come nobody inserts it twice: then all are changes of one row.
            if key == KEPT && held.row.is_none() && n != 0 {
                continue;
            }
            let last = held.at.map(|at| at.micros);
            let (micros, floor) = next_time(
                step + skews[n],
                node.floor,
                last.map(|micros| Stamp::new(micros, id(n))),
            );
            node.floor = floor.max(micros);
            let added = held.write(&mut rng, Stamp::new(micros, id(n)), key == KEPT);
            all += if key == KEPT { added } else { 0 };
            let written = held.clone();
            node.log.push((key, written));
            done += 1;
        } else {
            receive(&mut nodes, n, &mut rng, false);
        }
    }
    for n in 0..members {
        receive(&mut nodes, n, &mut rng, true);
    }
    for pair in nodes.windows(2) {
        assert_eq!(pair[0].keys, pair[1].keys, "seed {seed}");
    }
    if let Some(kept) = nodes[0].keys.get(&KEPT) {
        assert_eq!(kept.row.map(|(_, sum)| sum), Some(all), "seed {seed}");
    }
}

fn receive(nodes: &mut [Member], t: usize, rng: &mut Rng, all: bool) {
    for s in (0..nodes.len()).filter(|s| *s != t).collect::<Vec<_>>() {
        let (from, there) = (nodes[t].applied[s], nodes[s].log.len());
        let to = if all { there } else { rng.usize(from..=there).min(from + 8) };
        // Some come again.
        let from = from - rng.usize(0..4).min(from);
        let coming = nodes[s].log[from..to].to_vec();
        let floor = nodes[s].floor;
        let target = &mut nodes[t];
        for (key, arriving) in coming {
            target.floor = target.floor.max(floor);
            target.keys.entry(key).or_default().join(&arriving);
        }
        target.applied[s] = to;
    }
}

#[test]
fn what_is_kept_beside_rows_is_shown_alike_and_sums_are_exact() {
    (0..80).for_each(|seed| run(seed, 400));
}
