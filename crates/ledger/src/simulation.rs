//! Simulated schedules: several nodes, one log, and all that can go wrong between them.
//!
//! Clients append tags to lists (Elle's list-append model) and take names that are unique. Nodes lag, crash and start
//! again; appends are lost, land late, land twice, or land with their acknowledgement lost, after which the client
//! settles the matter with a CANCEL. At the end every node must hold the same rows, and the history must be one that a
//! single database could have produced, in the order of the log.

mod check;
mod database;

use std::collections::BTreeMap;

use fastrand::Rng;

use crate::{
    LogId, Offset, RequestId, Value,
    entry::{Attempt, Entry, Genesis},
    replica::{Outcome, Rules},
    table::{Catalogue, Column, Table, TableChange},
    writes::{Mode, RowChange, claims},
};
use database::{Crash, Node};

const LOG: LogId = LogId([9; 16]);
const LISTS: i64 = 12;
const NAMES: i64 = 3;

/// What is wrong with this world's Herdsman; nothing, unless a negative control says so.
#[derive(Clone, Copy, Debug)]
struct Defects {
    rules: Rules,
    /// Unique keys do not count as keys.
    no_uniques: bool,
    /// A SERIALIZABLE transaction's reads are not sent along.
    no_reads: bool,
    /// The base is read after the data, outside its snapshot.
    base_outside: bool,
    /// The place in the log is written down after the data, in a transaction of its own.
    offset_apart: bool,
    /// An I/O error is logged, and the node goes on.
    errors_skipped: bool,
}

const SOUND: Defects = Defects {
    rules: Rules { dedupe: true, certify: true, cancel: true, remember: true },
    no_uniques: false,
    no_reads: false,
    base_outside: false,
    offset_apart: false,
    errors_skipped: false,
};

/// A client's transaction, from its first attempt to the word it got.
#[derive(Clone, Debug)]
struct Transaction {
    request: RequestId,
    tag: String,
    /// What each attempt read, by the attempt's number from 1.
    reads: Vec<BTreeMap<i64, String>>,
    list: i64,
    /// The word the client got, and how long the log was then.
    told: Option<(Outcome, usize)>,
    /// How long the log was when it began.
    began: usize,
}

struct World {
    rng: Rng,
    defects: Defects,
    log: Vec<Vec<u8>>,
    /// What each node decided about each entry; the first word counts, and every other must be the same.
    outcomes: BTreeMap<Offset, (Option<Attempt>, Outcome)>,
    nodes: Vec<Node>,
    transactions: Vec<Transaction>,
    /// Sent, not there yet, and not known to be lost.
    parked: Vec<Vec<u8>>,
    open: Vec<Open>,
    trouble: Vec<String>,
}

/// An attempt whose client waits for word of it.
struct Open {
    transaction: usize,
    number: u32,
    /// No acknowledgement came.
    unknown: bool,
}

fn tables() -> [Table; 2] {
    let column = |name: &str, kind, nullable| Column { name: name.to_owned(), kind, nullable };
    let list = Table {
        name: "list".to_owned(),
        columns: vec![
            column("id", crate::Kind::Int64, false),
            column("tags", crate::Kind::Text { max: None }, false),
        ],
        key: vec![0],
        uniques: Vec::new(),
        references: Vec::new(),
    };
    let taken = Table {
        name: "taken".to_owned(),
        columns: vec![
            column("id", crate::Kind::Int64, false),
            column("name", crate::Kind::Int64, true),
        ],
        key: vec![0],
        uniques: vec![vec![1]],
        references: Vec::new(),
    };
    [list, taken]
}

impl World {
    fn new(seed: u64, defects: Defects) -> Self {
        // A window short enough to matter.
        let genesis = Genesis { log: LOG, window: 40, keys: 150 };
        let first = Entry::Genesis(genesis).encode(LOG).unwrap();
        let nodes = (0..3).map(|_| Node::new(genesis, &first, defects.rules)).collect();
        let mut world = Self {
            rng: Rng::with_seed(seed),
            defects,
            log: vec![first],
            outcomes: BTreeMap::new(),
            nodes,
            transactions: Vec::new(),
            parked: Vec::new(),
            open: Vec::new(),
            trouble: Vec::new(),
        };
        for (i, table) in tables().into_iter().enumerate() {
            let request = RequestId([u8::try_from(i).unwrap() + 200; 16]);
            let (attempt, base) = (Attempt { request, number: 1 }, Offset(0));
            let change = TableChange::Create(table);
            world.log.push(Entry::Define { attempt, base, change }.encode(LOG).unwrap());
        }
        for node in 0..world.nodes.len() {
            while world.step(node) {}
        }
        world
    }

    /// What went wrong, and how many transactions committed.
    fn run(mut self, actions: usize) -> (Vec<String>, usize) {
        for _ in 0..actions {
            self.act();
            if !self.trouble.is_empty() {
                return (self.trouble, 0);
            }
        }
        // What is still on its way arrives or does not; then everybody catches up.
        for late in std::mem::take(&mut self.parked) {
            if self.rng.bool() {
                self.log.push(late);
            }
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].restart(&self.log);
            while self.step(node) {}
        }
        self.hear(0);
        check::all(&mut self);
        let committed = self.outcomes.values().filter(|it| it.1 == Outcome::Committed).count();
        (self.trouble, committed)
    }

    fn act(&mut self) {
        let node = self.rng.usize(..self.nodes.len());
        match self.rng.u8(..20) {
            0..6 => self.begin(node),
            // The last node is a straggler.
            6..14 if node < 2 || self.rng.u8(..8) == 0 => {
                for _ in 0..self.rng.u8(1..8) {
                    self.step(node);
                }
            }
            14 => {
                let crash = if self.rng.bool() { Crash::AfterData } else { Crash::Between };
                let entries = self.rng.u8(1..8);
                if !self.nodes[node].crash(crash, &self.log, self.defects.offset_apart, entries) {
                    self.trouble.push("a node did not come back".to_owned());
                }
            }
            15 if !self.parked.is_empty() => {
                let late = self.parked.swap_remove(self.rng.usize(..self.parked.len()));
                self.log.push(late);
            }
            16 => self.cancel(),
            17 => {
                // A request by Kafka, which has no effect by itself, or whatever else.
                let foreign: [&[u8]; 2] =
                    [br#"{"messageId": "1", "sqlString": "SELECT 1"}"#, b"somebody else's record"];
                self.log.push(foreign[self.log.len() % 2].to_vec());
            }
            _ => self.hear(3),
        }
    }

    /// One entry on one node; whether there was one.
    fn step(&mut self, node: usize) -> bool {
        let failing = self.defects.errors_skipped && self.rng.u8(..50) == 0;
        let Some(stepped) = self.nodes[node].step(&self.log, failing) else { return false };
        match stepped {
            Ok((at, attempt, outcome)) => {
                let first = *self.outcomes.entry(at).or_insert((attempt, outcome));
                if first != (attempt, outcome) {
                    let what =
                        format!("entry {at}: node {node} says {outcome}, another {}", first.1);
                    self.trouble.push(what);
                }
                true
            }
            Err(why) => {
                self.trouble.push(format!("node {node}: {why}"));
                false
            }
        }
    }

    fn begin(&mut self, node: usize) {
        let number = self.transactions.len();
        let mut request = [0; 16];
        for (to, from) in request.iter_mut().zip(u64::try_from(number).unwrap().to_be_bytes()) {
            *to = from;
        }
        self.transactions.push(Transaction {
            request: RequestId(request),
            tag: format!("t{number}"),
            reads: Vec::new(),
            list: self.rng.i64(..LISTS),
            told: None,
            began: self.log.len(),
        });
        self.attempt(number, node);
    }

    /// Runs it on a node, and sends what it changed.
    fn attempt(&mut self, transaction: usize, node: usize) {
        let mut base = self.nodes[node].applied();
        let Transaction { request, tag, list, .. } = self.transactions[transaction].clone();
        let other = self.rng.i64(..LISTS);
        let read = |node: &Node, id| node.read("list", id).map_or(String::new(), |row| text(&row));
        let reads: BTreeMap<i64, String> =
            [list, other].into_iter().map(|id| (id, read(&self.nodes[node], id))).collect();
        let mut rows = vec![RowChange {
            table: "list".to_owned(),
            before: self.nodes[node].read("list", list),
            after: Some(vec![Value::Int(list), Value::Text(format!("{}{tag},", reads[&list]))]),
        }];
        // Some also take a name that is free, as far as they see.
        let name = self.rng.i64(..NAMES);
        if self.rng.bool() && !self.nodes[node].has_name(name) {
            let id = i64::try_from(transaction).unwrap();
            let after = Some(vec![Value::Int(id), Value::Int(name)]);
            rows.push(RowChange { table: "taken".to_owned(), before: None, after });
        } else if let Some(row) = self.nodes[node].any_of("taken", &mut self.rng) {
            rows.push(RowChange { table: "taken".to_owned(), before: Some(row), after: None });
        }
        let claims = self.claims(&rows, other);
        if self.defects.base_outside {
            self.step(node);
            base = self.nodes[node].applied();
        }
        let own = &mut self.transactions[transaction];
        own.reads.push(reads);
        let number = u32::try_from(own.reads.len()).unwrap();
        let attempt = Attempt { request, number };
        let entry = Entry::Write { attempt, base, claims, rows }.encode(LOG).unwrap();
        let unknown = self.send(entry);
        self.open.push(Open { transaction, number, unknown });
    }

    fn claims(&self, rows: &[RowChange], read: i64) -> Vec<crate::writes::Claim> {
        let mut catalogue =
            Catalogue(tables().into_iter().map(|it| (it.name.clone(), it)).collect());
        if self.defects.no_uniques {
            catalogue.0.values_mut().for_each(|table| table.uniques.clear());
        }
        let mut all = claims(rows, &[], &catalogue).unwrap();
        if !self.defects.no_reads {
            // The other list's key, as one that is read.
            let row = vec![Value::Int(read), Value::Text(String::new())];
            let touched = RowChange { table: "list".to_owned(), before: Some(row), after: None };
            let of_row = claims(&[touched], &[], &catalogue).unwrap();
            let reads = of_row.into_iter().filter(|it| it.mode == Mode::Write);
            all.extend(reads.map(|it| crate::writes::Claim { mode: Mode::Read, ..it }));
        }
        all
    }

    /// Hands an entry to the log. Whether the client does not know what became of it.
    fn send(&mut self, entry: Vec<u8>) -> bool {
        match self.rng.u8(..10) {
            0 => true,
            1 => {
                self.log.push(entry);
                true
            }
            2 => {
                self.parked.push(entry);
                true
            }
            3 => {
                self.log.push(entry.clone());
                // The client library sent it once more.
                if self.rng.bool() {
                    self.log.push(entry);
                } else {
                    self.parked.push(entry);
                };
                false
            }
            _ => {
                self.log.push(entry);
                false
            }
        }
    }

    /// A client that has no acknowledgement loses its patience.
    fn cancel(&mut self) {
        let unknown: Vec<usize> =
            self.open.iter().filter(|open| open.unknown).map(|open| open.transaction).collect();
        if let Some(transaction) = self.rng.choice(unknown) {
            let request = self.transactions[transaction].request;
            self.log.push(Entry::Cancel { request }.encode(LOG).unwrap());
        }
    }

    /// Clients hear what has become of their attempts, as soon as some node knows, and try again up to so many times.
    fn hear(&mut self, most: u32) {
        let open = std::mem::take(&mut self.open);
        for open in open {
            let own = &self.transactions[open.transaction];
            let mine = |attempt: &Option<Attempt>| {
                attempt.is_some_and(|it| {
                    it.request == own.request && (it.number == open.number || it.number == 0)
                })
            };
            let word = self.outcomes.values().find(|(attempt, _)| mine(attempt)).map(|it| it.1);
            let now = self.log.len();
            match word {
                None => self.open.push(open),
                Some(Outcome::Conflict) if open.number < most => {
                    let node = self.rng.usize(..self.nodes.len());
                    self.attempt(open.transaction, node);
                }
                Some(outcome) => self.transactions[open.transaction].told = Some((outcome, now)),
            }
        }
    }
}

fn text(row: &[Value]) -> String {
    row.get(1).and_then(Value::to_text).unwrap_or_default()
}

const ACTIONS: usize = 300;

#[test]
fn whatever_happens_nodes_stay_alike_and_the_history_is_serial() {
    let seeds = std::env::var("HERDSMAN_SOAK").map_or(60_u64, |_| 20_000);
    let mut all = 0;
    for seed in 0..seeds {
        let (trouble, committed) = World::new(seed, SOUND).run(ACTIONS);
        assert!(trouble.is_empty(), "seed {seed}: {trouble:?}");
        all += committed;
    }
    // Where nothing commits, nothing is proved. Of 300 actions about 90 begin a transaction.
    assert!(all > 25 * usize::try_from(seeds).unwrap(), "only {all} transactions committed");
}

/// Each rule, taken out, lets something happen that must not.
#[test]
fn every_rule_is_necessary() {
    let without = |spoil: fn(&mut Defects)| {
        let mut defects = SOUND;
        spoil(&mut defects);
        defects
    };
    let controls: [(&str, Defects); 9] = [
        ("a request commits once", without(|it| it.rules.dedupe = false)),
        ("first committer wins", without(|it| it.rules.certify = false)),
        ("what is called off stays so", without(|it| it.rules.cancel = false)),
        ("who wrote what outlives a restart", without(|it| it.rules.remember = false)),
        ("unique keys count", without(|it| it.no_uniques = true)),
        ("reads count where SERIALIZABLE asks", without(|it| it.no_reads = true)),
        ("the base is of the data's snapshot", without(|it| it.base_outside = true)),
        ("data and place are written together", without(|it| it.offset_apart = true)),
        ("an I/O error is not passed over", without(|it| it.errors_skipped = true)),
    ];
    for (rule, defects) in controls {
        let found = (0..200).find(|seed| !World::new(*seed, defects).run(ACTIONS).0.is_empty());
        assert!(found.is_some(), "nothing went wrong without the rule that {rule}");
    }
}
