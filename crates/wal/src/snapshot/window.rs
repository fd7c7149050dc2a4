//! Which rows of a chunk may be handed on beside the stream, and when. Pure.
//!
//! # The problem
//! A chunk is read from the tables while the stream goes on. The two tell of the same rows and must be put into one
//! order. Positions in the log cannot do that alone: a transaction is in the log, and in the stream, **before** other
//! sessions see it – with a synchronous standby that does not answer, for as long as one likes. A chunk that is read
//! after the stream has told of a transaction may therefore still show the rows as they were before it (the DBLog
//! method, which compares positions, then brings the old row back for good). The other way round it holds: whatever a
//! snapshot shows was in the log before the snapshot was taken.
//!
//! # The rule
//! Let S be the snapshot of a chunk, `high` a position in the log taken after S, and D the transactions delivered when
//! the chunk is handed on: a prefix of the log.
//!
//! 1. **Wait** until D reaches `high`.
//! 2. **Leave out** of each row the columns that a transaction in D told which S does not show, and the whole row where
//!    that is all of them, or where such a transaction deleted or moved it. Whether S shows a transaction is asked of S
//!    itself: its number against `xmin`, `xmax` and the list of `pg_current_snapshot()`.
//! 3. **Before the first chunk**, wait until every transaction has ended that had written to the table when observing
//!    began ([`writers`](super::writers)).
//!
//! # Why it is right
//! *Claim: what is handed on of a row is what the row is after D.* Transactions that write the same key are in one order:
//! the next one gets its lock when the one before has ended, which is after it has become visible. So (a) they are in
//! the log in this order, and (b) if S shows one of them, it shows all before it. What the chunk has is the row after
//! all that S shows. By 1 all of those are in D. What D has beyond them S does not show, and comes after them by (b); 2
//! takes out exactly what those told. What is left was told by none of them, so it is the same after D.
//!
//! *Claim: no row is forgotten.* Say a row exists at the end and no chunk handed it on. Either D told all of it while we
//! observed – then the receiver has it, newer. Or it was not in the page in which its key lies: some transaction T that
//! this page's snapshot does not show wrote that key there. T was not delivered before observing began, because then it
//! had written to the table by then, and 3 waited for its end, so that the snapshot shows it. So it is observed, and
//! tells the row. It tells all of it, unless it moved the row from another key (an update of the key itself, where large
//! values are not sent): those keys are collected and [read once
//! more](Window::ask_again) at the end, in a snapshot that shows the move.
//!
//! *What is kept is bounded.* A transaction that some snapshot shows is shown by all later ones, so only transactions
//! delivered since the last chunk was read, or not visible in it, are kept. One that changed more than
//! [`MOST_KEYS`] rows is kept without its keys: a chunk that does not show it is [read again](Accepted::ReadAgain).

use std::collections::{BTreeMap, HashMap};

use herdsman_node::Lsn;

use super::xids::Xids;

/// Keys of one transaction that are remembered: at 100 bytes each this is 10 MB.
pub(crate) const MOST_KEYS: usize = 100_000;

/// A row's key, in a form of which only equality matters.
pub(crate) type Key = Box<[u8]>;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Window {
    most_keys: usize,
    /// Delivered, and not known to be visible to the next chunk.
    delivered: Vec<Delivered>,
    /// Being delivered.
    open: Option<Delivered>,
    pending: Option<Pending>,
    /// Everything before this has been delivered.
    passed: Lsn,
    /// Rows to be read once more, and who moved them there, where that was while we observed.
    again: BTreeMap<Key, Option<u32>>,
    /// Those of them that are being read.
    asked: Vec<(Key, Option<u32>)>,
}

/// A transaction, as far as it was delivered.
#[derive(Debug)]
struct Delivered {
    xid: u32,
    /// The columns of each changed row that it did not tell.
    untold: HashMap<Key, Columns>,
    /// It emptied the table.
    emptied: bool,
    /// It changed more rows than are remembered.
    overflowed: bool,
}

/// Column numbers, in order.
type Columns = Box<[u16]>;

/// A chunk that was read and not handed on.
#[derive(Debug)]
struct Pending {
    snapshot: Xids,
    high: Lsn,
    rows: HashMap<Key, usize>,
    keep: Vec<Keep>,
}

/// What of a row of a chunk is handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// The row.
    All,
    /// These columns of it (numbers in order); the stream has told newer values of the others.
    Columns(Box<[u16]>),
    /// Nothing: the stream has told something newer.
    Nothing,
}

/// What becomes of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Accepted {
    /// It waits for its time.
    Waits,
    /// It cannot be used; the same rows have to be read again.
    ReadAgain,
}

impl Window {
    /// Begins observing: from here on every delivery must be told.
    pub(crate) fn new(most_keys: usize) -> Self {
        Self {
            most_keys,
            delivered: Vec::new(),
            open: None,
            pending: None,
            passed: Lsn(0),
            again: BTreeMap::new(),
            asked: Vec::new(),
        }
    }

    /// A transaction begins to be delivered.
    pub(crate) fn begin(&mut self, xid: u32) {
        let untold = HashMap::new();
        self.open = Some(Delivered { xid, untold, emptied: false, overflowed: false });
    }

    /// It told a row: all columns but those in `untold`. The row is gone from this key where it was deleted or moved:
    /// then nothing is untold.
    pub(crate) fn told(&mut self, key: &[u8], untold: &[u16]) {
        let Some(open) = &mut self.open else { return };
        if let Some(pending) = &mut self.pending {
            pending.told(open.xid, key, untold);
        }
        open.told(key, untold, self.most_keys);
    }

    /// It moved a row from one key to another.
    pub(crate) fn moved(&mut self, from: &[u8], to: &[u8], untold: &[u16]) {
        self.told(from, &[]);
        self.told(to, untold);
        if !untold.is_empty() {
            self.again.insert(to.into(), self.open.as_ref().map(|open| open.xid));
        }
    }

    /// The row of this key has to be read once more, as was found before observing began.
    pub(crate) fn read_again(&mut self, key: &[u8]) {
        self.again.insert(key.into(), None);
    }

    /// It emptied the table.
    pub(crate) fn emptied(&mut self) {
        let Some(open) = &mut self.open else { return };
        open.emptied = true;
        if let Some(pending) = &mut self.pending {
            pending.apply(open);
        }
    }

    /// Its delivery is complete, and with it everything before `end`.
    pub(crate) fn commit(&mut self, end: Lsn) {
        let touched = |d: &Delivered| !d.untold.is_empty() || d.emptied || d.overflowed;
        self.delivered.extend(self.open.take().filter(touched));
        self.passed(end);
    }

    /// Everything before this has been delivered.
    pub(crate) fn passed(&mut self, position: Lsn) {
        self.passed = self.passed.max(position);
    }

    /// Where the stream is known to stand.
    pub(crate) fn position(&self) -> Lsn {
        self.passed
    }

    /// A chunk was read: the keys of its rows, the snapshot it was read in, and a position taken after that.
    pub(crate) fn accept(
        &mut self,
        snapshot: Xids,
        high: Lsn,
        keys: impl IntoIterator<Item = Key>,
    ) -> Accepted {
        self.delivered.retain(|d| !snapshot.shows(snapshot.full(d.xid)));
        let unseen = self.delivered.iter().chain(&self.open);
        let overflowed = |d: &Delivered| d.overflowed && !snapshot.shows(snapshot.full(d.xid));
        if unseen.clone().any(overflowed) {
            return Accepted::ReadAgain;
        }
        let (mut rows, mut keep) = (HashMap::new(), Vec::new());
        for key in keys {
            rows.insert(key, keep.len());
            keep.push(Keep::All);
        }
        let mut pending = Pending { snapshot, high, rows, keep };
        for delivered in unseen {
            pending.apply(delivered);
        }
        // The move has to be seen where the row is looked for.
        for (key, mover) in &self.asked {
            if mover.is_some_and(|xid| !pending.snapshot.shows(pending.snapshot.full(xid))) {
                self.again.entry(key.clone()).or_insert(*mover);
            }
        }
        self.pending = Some(pending);
        Accepted::Waits
    }

    /// What of each row of the chunk is to be handed on now, in the order they were told; `None` until it is time.
    pub(crate) fn take(&mut self) -> Option<Vec<Keep>> {
        let due = self.open.is_none() && self.pending.as_ref()?.high <= self.passed;
        if !due {
            return None;
        }
        self.asked.clear();
        self.pending.take().map(|pending| pending.keep)
    }

    /// Whether a chunk waits for its time.
    pub(crate) fn waits(&self) -> bool {
        self.pending.is_some()
    }

    /// Keys of rows to be read once more, at most so many: the same ones until that has been done.
    pub(crate) fn ask_again(&mut self, most: usize) -> Vec<Key> {
        if self.asked.is_empty() {
            self.asked = std::iter::from_fn(|| self.again.pop_first()).take(most).collect();
        }
        self.asked.iter().map(|(key, _)| key.clone()).collect()
    }

    /// Keys of all rows to be read once more.
    pub(crate) fn again(&self) -> impl Iterator<Item = &Key> {
        self.asked.iter().map(|(key, _)| key).chain(self.again.keys())
    }

    #[cfg(test)]
    pub(crate) fn remembers(&self) -> usize {
        self.delivered.len()
    }
}

impl Delivered {
    fn told(&mut self, key: &[u8], untold: &[u16], most: usize) {
        if let Some(before) = self.untold.get_mut(key) {
            *before = both(before, untold);
        } else if self.untold.len() < most && !self.overflowed {
            self.untold.insert(key.into(), untold.into());
        } else {
            self.overflowed = true;
            self.untold = HashMap::new();
        }
    }
}

impl Pending {
    fn told(&mut self, xid: u32, key: &[u8], untold: &[u16]) {
        if self.snapshot.shows(self.snapshot.full(xid)) {
            return;
        }
        if let Some(keep) = self.rows.get(key).and_then(|row| self.keep.get_mut(*row)) {
            keep.without(untold);
        }
    }

    fn apply(&mut self, delivered: &Delivered) {
        for (key, untold) in &delivered.untold {
            self.told(delivered.xid, key, untold);
        }
        if delivered.emptied && !self.snapshot.shows(self.snapshot.full(delivered.xid)) {
            self.keep.fill(Keep::Nothing);
        }
    }
}

impl Keep {
    /// Leaves out what was told: all but `untold`.
    fn without(&mut self, untold: &[u16]) {
        let left = match self {
            Self::All => untold.into(),
            Self::Columns(columns) => both(columns, untold),
            Self::Nothing => return,
        };
        *self = if left.is_empty() { Self::Nothing } else { Self::Columns(left) };
    }
}

fn both(one: &[u16], other: &[u16]) -> Columns {
    one.iter().copied().filter(|column| other.contains(column)).collect()
}

#[cfg(test)]
mod tests;
