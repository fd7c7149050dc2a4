//! Whether a recorded history is strictly serializable: could one database that does one transaction after the other, each
//! between its beginning and its end, have answered so?
//!
//! Transactions append values to lists and read them, as Kingsbury's and Alvaro's Elle (VLDB 2020) has them do. A list that is
//! read says in which order it was written, so who came before whom follows from the reads alone: ww (wrote what the other
//! wrote after), wr (wrote what the other read), rw (read what the other wrote after), and rt (ended before the other
//! began). A cycle of those is an anomaly, named after the least that it takes.

mod graph;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use graph::{Edge, Graph, Kind};

/// One thing that a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// To the list of this key. Nobody else appends the same value to it.
    Append { key: i64, value: i64 },
    /// What the list had.
    Read { key: i64, found: Vec<i64> },
}

/// What its client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Committed,
    /// It surely did not commit.
    Failed,
    /// It may have; nothing that it read is known.
    Unknown,
}

#[derive(Clone, Debug)]
pub(crate) struct Txn {
    pub(crate) ops: Vec<Op>,
    pub(crate) fate: Fate,
    /// When, by one clock of all.
    pub(crate) began: u64,
    pub(crate) ended: u64,
}

/// What no strictly serializable database does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Anomaly {
    /// A value that nobody appended.
    Unwritten,
    /// A value that is there twice.
    Twice,
    /// A transaction that does not see what it did or saw itself.
    Internal,
    /// Of two reads neither is the beginning of the other.
    Incompatible,
    /// A value of a transaction that failed was read.
    G1a,
    /// A value was read that its transaction had not finished with.
    G1b,
    /// A cycle of writes.
    G0,
    /// A cycle of writes and reads of what was written.
    G1c,
    /// A cycle with one read of what was overwritten: a lost update, a read skew.
    GSingle,
    /// One with several: a write skew.
    G2,
    /// A cycle only with what was over before the other began: a stale read.
    RealTime,
}

/// What is wrong, with an example of each. Nothing, if it is strictly serializable.
pub(crate) fn check(history: &[Txn]) -> BTreeMap<Anomaly, String> {
    let mut found = BTreeMap::new();
    let writers = writers(history);
    let mut longest: BTreeMap<i64, &[i64]> = BTreeMap::new();
    let mut reads = Vec::new();
    for (number, txn) in history.iter().enumerate().filter(|(_, it)| it.fate == Fate::Committed) {
        for (key, list) in whole_reads(txn) {
            if longest.get(&key).is_none_or(|known| known.len() < list.len()) {
                longest.insert(key, list);
            }
        }
        match outer_reads(txn) {
            Ok(of_others) => reads.extend(of_others.into_iter().map(|(k, v)| (number, k, v))),
            Err(why) => drop(found.insert(Anomaly::Internal, format!("T{number}: {why}"))),
        }
    }
    for (number, txn) in history.iter().enumerate().filter(|(_, it)| it.fate == Fate::Committed) {
        for (key, list) in whole_reads(txn) {
            if !longest[&key].starts_with(list) {
                let why = format!("T{number} read {list:?} of {key}, others {:?}", longest[&key]);
                found.insert(Anomaly::Incompatible, why);
            }
        }
    }
    values(history, &writers, &longest, &reads, &mut found);
    if found
        .keys()
        .any(|it| matches!(it, Anomaly::Unwritten | Anomaly::Twice | Anomaly::Incompatible))
    {
        // There is no one order of writes to look for cycles in.
        return found;
    }
    let graph = graph(history, &writers, &longest, &reads);
    found.extend(graph.anomaly());
    found
}

/// Who appended what, and whether it was the last that it appended to the key.
type Writers = BTreeMap<(i64, i64), (usize, bool)>;

fn writers(history: &[Txn]) -> Writers {
    let mut writers = Writers::new();
    for (number, txn) in history.iter().enumerate() {
        let mut last = BTreeMap::new();
        for op in &txn.ops {
            if let Op::Append { key, value } = op {
                let before = writers.insert((*key, *value), (number, true));
                assert!(before.is_none(), "{value} is appended to {key} twice");
                if let Some(earlier) = last.insert(*key, *value) {
                    writers.insert((*key, earlier), (number, false));
                }
            }
        }
    }
    writers
}

fn whole_reads(txn: &Txn) -> impl Iterator<Item = (i64, &[i64])> {
    txn.ops.iter().filter_map(|op| match op {
        Op::Read { key, found } => Some((*key, found.as_slice())),
        Op::Append { .. } => None,
    })
}

/// What a transaction saw of others: of each key the first read, less what it had appended itself.
fn outer_reads(txn: &Txn) -> Result<Vec<(i64, Vec<i64>)>, String> {
    let mut own: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    let mut seen: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    let mut outer = Vec::new();
    for op in &txn.ops {
        match op {
            Op::Append { key, value } => match seen.get_mut(key) {
                Some(list) => list.push(*value),
                None => own.entry(*key).or_default().push(*value),
            },
            Op::Read { key, found } => {
                if let Some(expected) = seen.get(key) {
                    if expected != found {
                        return Err(format!("it read {found:?} of {key}, and knew {expected:?}"));
                    }
                    continue;
                }
                let own = own.get(key).map_or(&[][..], Vec::as_slice);
                let Some(of_others) = found.strip_suffix(own) else {
                    return Err(format!("it read {found:?} of {key}, and had appended {own:?}"));
                };
                outer.push((*key, of_others.to_vec()));
                seen.insert(*key, found.clone());
            }
        }
    }
    Ok(outer)
}

/// What can be told of single values.
fn values(
    history: &[Txn],
    writers: &Writers,
    longest: &BTreeMap<i64, &[i64]>,
    reads: &[(usize, i64, Vec<i64>)],
    found: &mut BTreeMap<Anomaly, String>,
) {
    for (key, list) in longest {
        let mut once = BTreeSet::new();
        for value in *list {
            if !once.insert(value) {
                found.insert(Anomaly::Twice, format!("{value} in {key}: {list:?}"));
            }
            match writers.get(&(*key, *value)) {
                None => drop(found.insert(Anomaly::Unwritten, format!("{value} in {key}"))),
                Some((writer, _)) if history[*writer].fate == Fate::Failed => {
                    found.insert(Anomaly::G1a, format!("{value} of T{writer}, which failed"));
                }
                Some(_) => {}
            }
        }
    }
    for (reader, key, list) in reads {
        let writer = list.last().and_then(|value| writers.get(&(*key, *value)));
        if let Some((writer, false)) = writer
            && writer != reader
        {
            let why = format!("T{reader} read {list:?} of {key}, of which T{writer} wrote on");
            found.insert(Anomaly::G1b, why);
        }
    }
}

fn graph(
    history: &[Txn],
    writers: &Writers,
    longest: &BTreeMap<i64, &[i64]>,
    reads: &[(usize, i64, Vec<i64>)],
) -> Graph {
    let writer = |key: i64, value: i64| writers.get(&(key, value)).map(|(writer, _)| *writer);
    let mut edges = BTreeSet::new();
    let mut add = |from: usize, to: usize, kind| {
        if from != to {
            edges.insert(Edge { from, to, kind });
        }
    };
    // Who committed and is in no list comes after all that was read.
    let mut after: BTreeMap<i64, BTreeSet<usize>> = BTreeMap::new();
    let mut part: BTreeSet<usize> = BTreeSet::new();
    for ((key, value), (number, _)) in writers {
        let read = longest.get(key).is_some_and(|list| list.contains(value));
        let committed = history[*number].fate == Fate::Committed;
        if committed && !read {
            after.entry(*key).or_default().insert(*number);
        }
        if committed || read {
            part.insert(*number);
        }
    }
    for (key, list) in longest {
        let order: Vec<usize> = list.iter().filter_map(|value| writer(*key, *value)).collect();
        for pair in order.windows(2) {
            add(pair[0], pair[1], Kind::Ww);
        }
        for later in after.get(key).into_iter().flatten() {
            order.last().into_iter().for_each(|last| add(*last, *later, Kind::Ww));
        }
    }
    for (reader, key, list) in reads {
        part.insert(*reader);
        if let Some(writer) = list.last().and_then(|value| writer(*key, *value)) {
            add(writer, *reader, Kind::Wr);
        }
        match longest.get(key).and_then(|all| all.get(list.len())) {
            Some(next) => writer(*key, *next).into_iter().for_each(|it| add(*reader, it, Kind::Rw)),
            None => {
                after.get(key).into_iter().flatten().for_each(|it| add(*reader, *it, Kind::Rw));
            }
        }
    }
    for (from, to) in real_time(history, &part) {
        add(from, to, Kind::Rt);
    }
    Graph::new(history.len(), edges)
}

/// Who was over before whom, less what follows from the rest.
fn real_time(history: &[Txn], part: &BTreeSet<usize>) -> Vec<(usize, usize)> {
    let mut events = Vec::new();
    for number in part {
        let txn = &history[*number];
        events.push((txn.began, 1, *number));
        if txn.fate == Fate::Committed {
            events.push((txn.ended, 0, *number));
        }
    }
    events.sort_unstable();
    let mut edges = Vec::new();
    let mut frontier: Vec<usize> = Vec::new();
    for (_, begins, number) in events {
        if begins == 1 {
            edges.extend(frontier.iter().map(|before| (*before, number)));
        } else {
            frontier.retain(|before| history[*before].ended >= history[number].began);
            frontier.push(number);
        }
    }
    edges
}
