//! `mode: untouched` simulated: versions are commit times and nodes, nothing raises them above what was seen, and the member's
//! own deletions are known from its log only.
//!
//! Members write, read each other's logs in any order and from clocks that differ, and forget commit times. When everything
//! has arrived, all hold the same. Each rule switched off ends otherwise for some of the same schedules.

use std::collections::{BTreeMap, BTreeSet};

use crate::resolve::untouched::{Held, Wait, gives_way, wait};
use crate::{NodeId, Stamp};

const KEYS: u8 = 6;
const STEPS: usize = 120;
const SEEDS: u64 = 800;

/// What can be switched off.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// A version is applied once the clock is past it.
    wait: bool,
    /// Of equal versions the one that comes later is the later.
    order: bool,
    /// Members look at what they wrote themselves.
    own: bool,
    /// Deletions are kept.
    tombstones: bool,
    /// What may be older than something forgotten is refused.
    memory: bool,
}

const ALL: Rules = Rules { wait: true, order: true, own: true, tombstones: true, memory: true };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    stamp: Stamp,
    val: u32,
    local: bool,
    forgotten: bool,
}

/// What one transaction did, in the end: a truncation first, then a row or nothing for each key.
#[derive(Clone, Debug)]
struct Transaction {
    time: i64,
    truncates: bool,
    keys: BTreeMap<u8, Option<u32>>,
}

#[derive(Debug)]
struct Member {
    id: NodeId,
    skew: i64,
    rows: BTreeMap<u8, Row>,
    gone: BTreeMap<u8, Stamp>,
    emptied: Option<Stamp>,
    log: Vec<Transaction>,
    /// What of each log has been applied.
    read: Vec<usize>,
    /// Stamped and not yet to be seen by others: its keys are new ones, and locked.
    hidden: Option<Transaction>,
    /// Everything forgotten is not later than this.
    forgotten: i64,
}

#[derive(Debug)]
struct Mesh {
    rules: Rules,
    now: i64,
    members: Vec<Member>,
    random: fastrand::Rng,
    next: u32,
    operations: u64,
    /// A member refused something for what it has forgotten: it has to be filled anew.
    refused: bool,
}

impl Member {
    fn version(&self, row: &Row) -> Held {
        Held { stamp: (!row.forgotten).then_some(row.stamp), local: row.local }
    }

    fn stamp(&self, row: &Row) -> Stamp {
        self.version(row).stamp.unwrap_or(Stamp::new(0, self.id))
    }

    fn yields(&self, row: &Row, arriving: Stamp, rules: Rules) -> bool {
        let equal = !row.forgotten && row.stamp == arriving;
        gives_way(self.version(row), arriving, self.id) && (rules.order || !equal)
    }

    fn alive(&self, key: u8, stamp: Stamp) -> bool {
        self.gone.get(&key).is_none_or(|gone| *gone <= stamp)
            && self.emptied.is_none_or(|emptied| emptied <= stamp)
    }

    /// What others wrote, all of it at once.
    fn apply(&mut self, from: NodeId, work: &Transaction, rules: Rules) {
        let stamp = Stamp::new(work.time, from);
        if work.truncates {
            self.emptied = self.emptied.max(Some(stamp));
            let own = self.id;
            self.rows.retain(|_, row| {
                let known = if row.forgotten { Stamp::new(0, own) } else { row.stamp };
                // Of its own what is equal came after it, of another's before.
                known > stamp || (known == stamp && (from == own || !rules.order))
            });
        }
        for (key, val) in &work.keys {
            let held = self.rows.get(key).copied();
            let yields = held.is_none_or(|row| self.yields(&row, stamp, rules));
            match val {
                Some(val) if yields && self.alive(*key, stamp) => {
                    let row = Row { stamp, val: *val, local: false, forgotten: false };
                    self.rows.insert(*key, row);
                }
                Some(_) => {}
                None => {
                    if yields {
                        self.rows.remove(key);
                    }
                    if rules.tombstones {
                        let gone = self.gone.entry(*key).or_insert(stamp);
                        *gone = stamp.max(*gone);
                    }
                }
            }
        }
    }

    /// What it wrote itself, come back to it: deletions are kept, and what they or others' are later than goes.
    fn look(&mut self, work: &Transaction, rules: Rules) {
        let deletions = Transaction {
            keys: work
                .keys
                .iter()
                .filter(|(_, val)| val.is_none())
                .map(|(k, v)| (*k, *v))
                .collect(),
            ..work.clone()
        };
        self.apply(self.id, &deletions, rules);
        for key in work.keys.keys() {
            if let Some(row) = self.rows.get(key)
                && !row.forgotten
                && !self.alive(*key, self.stamp(row))
            {
                self.rows.remove(key);
            }
        }
    }
}

impl Mesh {
    fn new(seed: u64, rules: Rules) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = random.usize(2..=4);
        let members = (1..).take(count).map(|id| Member {
            id: NodeId(id),
            skew: random.i64(-200..200),
            rows: BTreeMap::new(),
            gone: BTreeMap::new(),
            emptied: None,
            log: Vec::new(),
            read: vec![0; count],
            hidden: None,
            forgotten: 0,
        });
        let members = members.collect();
        Self { rules, now: 1000, members, random, next: 0, operations: 0, refused: false }
    }

    fn write(&mut self, at: usize) {
        self.operations += 1;
        let truncates = self.random.u32(..40) == 0;
        let mut keys = BTreeMap::new();
        for _ in 0..self.random.u32(1..=3) {
            self.next += 1;
            let gone = self.random.u32(..3) == 0;
            keys.insert(self.random.u8(..KEYS), (!gone).then_some(self.next));
        }
        let hides = self.random.u32(..6) == 0;
        let Some(member) = self.members.get_mut(at) else { return };
        if member.hidden.is_some() {
            return;
        }
        let time = self.now + member.skew;
        // Who deletes has to see the row.
        keys.retain(|key, val| val.is_some() || (member.rows.contains_key(key) && !truncates));
        let fresh = keys.iter().all(|(key, val)| val.is_some() && !member.rows.contains_key(key));
        let work = Transaction { time, truncates, keys };
        if hides && fresh && !truncates {
            member.hidden = Some(work);
        } else {
            member.commit(work);
        }
    }

    fn show(&mut self, at: usize) {
        if let Some(member) = self.members.get_mut(at)
            && let Some(work) = member.hidden.take()
        {
            member.commit(work);
        }
    }

    /// Reads the next transaction of a log, if it can be applied now; whether that was so.
    fn read(&mut self, from: usize, to: usize) -> bool {
        let (rules, now) = (self.rules, self.now);
        let Some(source) = self.members.get(from) else { return false };
        let (id, log) = (source.id, source.log.len());
        let Some(member) = self.members.get(to) else { return false };
        let Some(at) = member.read.get(from).copied().filter(|at| *at < log) else { return false };
        let Some(work) = self.members.get(from).and_then(|m| m.log.get(at)).cloned() else {
            return false;
        };
        let Some(member) = self.members.get_mut(to) else { return false };
        if from != to {
            if rules.wait && wait(now + member.skew, work.time) != Wait::Go {
                return false;
            }
            // A row that somebody is inserting is waited for; nobody sees it to delete it.
            let locked =
                |key: &u8| member.hidden.as_ref().is_some_and(|h| h.keys.contains_key(key));
            if work.keys.iter().any(|(key, val)| val.is_some() && locked(key)) {
                return false;
            }
            let forgotten = |key: &u8| member.rows.get(key).is_some_and(|row| row.forgotten);
            let any = work.truncates && member.rows.values().any(|row| row.forgotten);
            let late = work.time <= member.forgotten;
            if rules.memory && late && (any || work.keys.keys().any(forgotten)) {
                self.refused = true;
                return false;
            }
            member.apply(id, &work, rules);
        } else if rules.own {
            member.look(&work, rules);
        }
        if let Some(read) = member.read.get_mut(from) {
            *read += 1;
        }
        self.operations += 1;
        true
    }

    /// VACUUM freezes rows, and the server forgets the times of all transactions up to some moment. It does not before the
    /// member itself has read them: that takes it a moment, and VACUUM fifty million transactions.
    fn forget(&mut self, at: usize, back: i64) {
        if let Some(member) = self.members.get_mut(at)
            && member.read.get(at) == Some(&member.log.len())
        {
            let moment = self.now + member.skew - back;
            member.forgotten = member.forgotten.max(moment);
            for row in member.rows.values_mut() {
                row.forgotten |= row.stamp.micros <= moment;
            }
        }
    }

    fn run(mut self) -> Ended {
        let count = self.members.len();
        for _ in 0..STEPS {
            // Several things within one microsecond, now and then a long time.
            self.now += if self.random.u32(..3) == 0 { 0 } else { self.random.i64(0..60) };
            let (one, other) = (self.random.usize(..count), self.random.usize(..count));
            match self.random.u32(..20) {
                0..=6 => self.write(one),
                7 => self.show(one),
                8 => self.forget(one, self.random.clone().i64(800..4000)),
                _ => drop(self.read(one, other)),
            }
        }
        for at in 0..count {
            self.show(at);
        }
        // Everything arrives; of what is refused nobody says that it is alike.
        while !self.refused {
            self.now += 100;
            let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
            let pairs: Vec<(usize, usize)> = pairs.collect();
            let moved = pairs.iter().filter(|(from, to)| self.read(*from, *to)).count();
            let length = |of: usize| self.members.get(of).map_or(0, |member| member.log.len());
            let behind = |(from, to): &(usize, usize)| {
                let read = self.members.get(*to).and_then(|m| m.read.get(*from));
                read.is_some_and(|read| *read < length(*from))
            };
            if moved == 0 && !pairs.iter().any(behind) {
                break;
            }
        }
        let all: BTreeSet<Vec<(u8, u32)>> = self
            .members
            .iter()
            .map(|member| member.rows.iter().map(|(key, row)| (*key, row.val)).collect())
            .collect();
        Ended { operations: self.operations, refused: self.refused, alike: all.len() == 1 }
    }
}

impl Member {
    fn commit(&mut self, work: Transaction) {
        let stamp = Stamp::new(work.time, self.id);
        if work.truncates {
            self.rows.clear();
        }
        for (key, val) in &work.keys {
            match val {
                Some(val) => {
                    let row = Row { stamp, val: *val, local: true, forgotten: false };
                    self.rows.insert(*key, row);
                }
                None => drop(self.rows.remove(key)),
            }
        }
        self.log.push(work);
    }
}

struct Ended {
    operations: u64,
    refused: bool,
    alike: bool,
}

/// Schedules of which some are refused, and seldom.
fn different(rules: Rules, seeds: std::ops::Range<u64>) -> (Vec<u64>, u64, u64) {
    let (mut different, mut operations, mut refused) = (Vec::new(), 0, 0);
    for seed in seeds {
        let ended = Mesh::new(seed, rules).run();
        operations += ended.operations;
        refused += u64::from(ended.refused);
        if !ended.alike && !ended.refused {
            different.push(seed);
        }
    }
    (different, operations, refused)
}

#[test]
fn untouched_tables_end_alike_whatever_the_clocks_and_links_do() {
    let (different, operations, refused) = different(ALL, 0..SEEDS);
    assert_eq!(different, Vec::<u64>::new());
    assert!(operations >= 50_000, "{operations}");
    assert!(refused < SEEDS / 10, "{refused} of {SEEDS} were refused: too few are proven");
}

#[test]
fn each_rule_of_untouched_tables_is_needed() {
    let without = [
        ("waiting for the clock", Rules { wait: false, ..ALL }),
        ("the order of a log", Rules { order: false, ..ALL }),
        ("a look at its own", Rules { own: false, ..ALL }),
        ("tombstones", Rules { tombstones: false, ..ALL }),
        ("the memory's bound", Rules { memory: false, ..ALL }),
    ];
    for (what, rules) in without {
        let shows = |seed: u64| !different(rules, seed..seed + 1).0.is_empty();
        assert!((0..10 * SEEDS).any(shows), "nothing shows that {what} is needed");
    }
}
