//! A member: what its tables hold, what its log says, and what is open on it.

use std::rc::Rc;

use super::history::Id;
use crate::resolve::Recent;
use crate::stamp::{NodeId, Stamp};

/// Tables. The second has a unique constraint besides its primary key.
pub(super) const TABLES: usize = 3;
/// Keys of each.
pub(super) const KEYS: usize = 7;
/// Keys of all: the place of a key in what follows.
pub(super) const SPOTS: usize = TABLES * KEYS;
/// The table with the unique constraint.
pub(super) const UNIQUE: usize = 1;

pub(super) const fn table(spot: usize) -> usize {
    spot / KEYS
}

pub(super) const fn spots(table: usize) -> std::ops::Range<usize> {
    table * KEYS..(table + 1) * KEYS
}

pub(super) fn id(node: usize) -> NodeId {
    NodeId(i16::try_from(node).unwrap() + 1)
}

pub(super) fn place(node: NodeId) -> usize {
    usize::try_from(node.0).unwrap() - 1
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: Id,
    pub(super) stamp: Stamp,
    /// A value of the unique constraint; 0 is NULL.
    pub(super) value: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) id: Id,
    pub(super) stamp: Stamp,
    pub(super) seen: Stamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Truncate {
    /// Its place among the emptied.
    pub(super) id: usize,
    pub(super) stamp: Stamp,
    /// How far its writer's member had got with each other.
    pub(super) knew: Rc<[i64]>,
}

/// What the log says.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Row { spot: usize, row: Row, seen: Stamp },
    Gone { spot: usize, gone: Gone },
    Truncate { table: usize, truncate: Truncate },
    Heartbeat(i64),
}

/// How far a member has got with another's log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Transactions applied.
    pub(super) at: usize,
    pub(super) heartbeat: Option<i64>,
}

/// A record of a conflict.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// `None`: a truncation.
    pub(super) winner: Option<Id>,
    pub(super) loser: Option<Id>,
    pub(super) sure: bool,
    pub(super) unique: bool,
}

/// What is in the tables: what a crash throws back to the last commit on disk.
#[derive(Clone)]
pub(super) struct State {
    pub(super) rows: [Option<Row>; SPOTS],
    pub(super) evicted: [Option<Row>; SPOTS],
    pub(super) gone: [Option<Gone>; SPOTS],
    pub(super) truncates: [Option<Truncate>; TABLES],
    pub(super) floor: i64,
    pub(super) progress: Vec<Option<Progress>>,
    pub(super) records: usize,
    /// The version last held of each key, for the history.
    pub(super) last: [Option<Id>; SPOTS],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Its slots are being made and it is copied.
    Joining,
    Active,
    /// Lost, and not all have what some have of it.
    Lost,
    /// Nobody misses it.
    Forgotten,
}

pub(super) struct Node {
    pub(super) life: Life,
    /// What its clock is ahead of the true time.
    pub(super) skew: i64,
    /// Whether its clock has been set back.
    pub(super) set_back: bool,
    /// Its clock's last reading's coarse part, and readings since.
    pub(super) reading: (i64, i64),
    pub(super) state: State,
    /// What a crash throws it back to, where that is not what it has now.
    pub(super) on_disk: Option<Box<State>>,
    pub(super) log: Vec<Vec<Change>>,
    pub(super) open: Vec<Local>,
    pub(super) recent: Recent<usize>,
    pub(super) records: Vec<Record>,
    /// Transactions of each member that have come in, applied or not.
    pub(super) received: Vec<usize>,
    /// Until when nothing of each comes in.
    pub(super) cut: Vec<i64>,
    /// For joining: from where each member's changes will come.
    pub(super) slots: Vec<Option<usize>>,
    pub(super) beaten: i64,
    /// What has to be written over versions that won.
    pub(super) answers: Vec<(usize, Stamp, bool)>,
}

/// A transaction of a user.
#[derive(Clone, Default)]
pub(super) struct Local {
    pub(super) began: i64,
    pub(super) left: u8,
    pub(super) changes: Vec<Change>,
    /// Rows as it sees them where it has changed them.
    pub(super) rows: Vec<(usize, Option<Row>)>,
    pub(super) last: Vec<(usize, Id)>,
    pub(super) emptied: Vec<usize>,
    /// An insertion that has its stamp and waits.
    pub(super) waiting: Option<(usize, Stamp)>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            rows: [None; SPOTS],
            evicted: [None; SPOTS],
            gone: [None; SPOTS],
            truncates: [const { None }; TABLES],
            floor: 0,
            progress: Vec::new(),
            records: 0,
            last: [None; SPOTS],
        }
    }

    /// The greatest time of anything in the tables.
    pub(super) fn newest(&self) -> i64 {
        let rows = self.rows.iter().chain(&self.evicted).flatten().map(|row| row.stamp.micros);
        let gone = self.gone.iter().flatten().map(|gone| gone.stamp.micros);
        let emptied = self.truncates.iter().flatten().map(|truncate| truncate.stamp.micros);
        rows.chain(gone).chain(emptied).max().unwrap_or(0)
    }
}

impl Node {
    pub(super) fn new(skew: i64, memory: usize) -> Self {
        Self {
            life: Life::Active,
            skew,
            set_back: false,
            reading: (0, 0),
            state: State::new(),
            on_disk: None,
            log: Vec::new(),
            open: Vec::new(),
            recent: Recent::new(memory),
            records: Vec::new(),
            received: Vec::new(),
            cut: Vec::new(),
            slots: Vec::new(),
            beaten: 0,
            answers: Vec::new(),
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        matches!(self.life, Life::Joining | Life::Active)
    }

    /// Whether a user's transaction other than this one has changed the key, or its table as a whole.
    pub(super) fn is_locked(&self, spot: usize, but: usize) -> bool {
        let others = self.open.iter().enumerate().filter(|(at, _)| *at != but);
        others.into_iter().any(|(_, local)| local.holds(spot))
    }

    /// Whether a visible row of another key has the value, or will have it, or had it until a transaction that is open.
    pub(super) fn is_taken(&self, spot: usize, value: u8, mine: usize) -> bool {
        if value == 0 || table(spot) != UNIQUE {
            return false;
        }
        spots(UNIQUE).filter(|other| *other != spot).any(|other| {
            let seen_by_me = self.open[mine].row(other);
            let row = seen_by_me.unwrap_or(self.state.rows[other]);
            let theirs = self.open.iter().filter_map(|local| local.row(other)).flatten();
            row.into_iter().chain(theirs).any(|row| row.value == value)
                || seen_by_me.is_none()
                    && self.state.rows[other].is_some_and(|row| row.value == value)
        })
    }
}

impl Local {
    pub(super) fn holds(&self, spot: usize) -> bool {
        self.rows.iter().any(|(at, _)| *at == spot) || self.emptied.contains(&table(spot))
    }

    pub(super) fn touches(&self, of: usize) -> bool {
        self.rows.iter().any(|(at, _)| table(*at) == of) || self.emptied.contains(&of)
    }

    /// The row as this transaction has made it, if it has.
    pub(super) fn row(&self, spot: usize) -> Option<Option<Row>> {
        self.rows.iter().rev().find(|(at, _)| *at == spot).map(|(_, row)| *row)
    }
}
