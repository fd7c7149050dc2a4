//! Whether a history is one that a single database could have produced.

use std::collections::{BTreeMap, BTreeSet};

use super::{LOG, World, text};
use crate::{
    Offset,
    entry::Entry,
    replica::{Outcome, Replica},
};

pub(super) fn all(world: &mut World) {
    let found = [alike(world), serial(world), told(world), bounded(world)];
    world.trouble.extend(found.into_iter().flatten());
}

/// Every node holds the same rows.
fn alike(world: &World) -> Vec<String> {
    let (first, others) = world.nodes.split_first().unwrap();
    let alike = others.iter().all(|it| it.rows() == first.rows() && it.hash() == first.hash());
    let whole = first.applied().0 + 1 == u64::try_from(world.log.len()).unwrap();
    [(alike, "nodes differ"), (whole, "a node did not read the log to its end")]
        .into_iter()
        .filter(|(good, _)| !good)
        .map(|(_, what)| what.to_owned())
        .collect()
}

/// In the order of the log, every committed transaction read what those before it had written, and each committed once.
/// What was acknowledged before another began comes before it.
fn serial(world: &World) -> Vec<String> {
    let mut trouble = Vec::new();
    let mut lists: BTreeMap<i64, String> = BTreeMap::new();
    let mut committed = BTreeSet::new();
    for (at, (attempt, outcome)) in &world.outcomes {
        let Some(attempt) = attempt.filter(|_| *outcome == Outcome::Committed) else { continue };
        let own = world.transactions.iter().find(|it| it.request == attempt.request);
        let Some(own) = own else { continue };
        if !committed.insert(attempt.request) {
            trouble.push(format!("{} committed twice", own.tag));
        }
        let reads = usize::try_from(attempt.number - 1).ok().and_then(|at| own.reads.get(at));
        for (list, seen) in reads.into_iter().flatten() {
            let is = lists.get(list).cloned().unwrap_or_default();
            if is != *seen {
                trouble.push(format!(
                    "{} at {at} read {seen:?} in list {list}, which is {is:?}",
                    own.tag
                ));
            }
        }
        lists.entry(own.list).or_default().push_str(&format!("{},", own.tag));
        if at.0 < u64::try_from(own.began).unwrap() {
            trouble.push(format!("{} is in the log before it began", own.tag));
        }
    }
    let node = world.nodes.first().unwrap();
    for list in 0..super::LISTS {
        let is = node.read("list", list).map_or(String::new(), |row| text(&row));
        let should = lists.remove(&list).unwrap_or_default();
        if is != should {
            trouble.push(format!("list {list} is {is:?} and should be {should:?}"));
        }
    }
    trouble
}

/// What clients were told is so, and stays so.
fn told(world: &World) -> Vec<String> {
    let mut trouble = Vec::new();
    let node = world.nodes.first().unwrap();
    for own in &world.transactions {
        let Some((outcome, when)) = own.told else { continue };
        let list = node.read("list", own.list).map_or(String::new(), |row| text(&row));
        let times = list.split(',').filter(|tag| *tag == own.tag).count();
        let wanted = match outcome {
            Outcome::Committed | Outcome::Duplicate(_) => 1,
            _ => 0,
        };
        if times != wanted {
            trouble
                .push(format!("{} was told {outcome}, and is in its list {times} times", own.tag));
        }
        if when < own.began {
            trouble.push(format!("{} was told before it began", own.tag));
        }
    }
    trouble
}

/// What a replica remembers does not grow with the log.
fn bounded(world: &World) -> Vec<String> {
    let genesis = Entry::decode_genesis(&world.log[0]).unwrap();
    let mut replica = Replica::new(genesis, &world.log[0]);
    assert_eq!(genesis.log, LOG);
    for (at, body) in world.log.iter().enumerate().skip(1) {
        let Ok(_) = replica.take(Offset(u64::try_from(at).unwrap()), body) else { break };
        let (keys, requests) = replica.remembered();
        if keys > 150 || requests > 40 {
            return vec![format!("it remembers {keys} keys and {requests} requests at {at}")];
        }
    }
    Vec::new()
}
