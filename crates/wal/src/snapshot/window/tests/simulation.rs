//! A database with transactions, a log, a stream and a receiver, small enough to run through thousands of schedules.
//!
//! What is true of PostgreSQL here: a transaction is in the log before it is seen, and holds its locks until it is seen;
//! subtransactions take numbers; a snapshot shows what had ended; the stream delivers in the order of the log.

mod schedule;

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Accepted, Keep, Key, Lsn, Window, Xids};

use schedule::What;
pub(super) use schedule::{Rule, Settings, Step};

const KEYS: u8 = 6;
/// The number of the column that is large, and so is not told unless it changes.
const LARGE: u16 = 2;

/// A row: a small value and a large one. `None`: the receiver has never been told.
type Row = (Option<u32>, Option<u32>);
type Table = BTreeMap<u8, Row>;

#[derive(Clone, Debug)]
enum Change {
    /// The row as it is; without its large value where that has not changed.
    Told {
        key: u8,
        row: Row,
    },
    Moved {
        from: u8,
        to: u8,
        row: Row,
    },
    Gone {
        key: u8,
    },
    Emptied,
}

#[derive(Clone, Debug)]
struct Running {
    xid: u64,
    /// The last number it took for a subtransaction.
    last: u64,
    changes: Vec<Change>,
    logged: bool,
}

#[derive(Debug)]
struct Chunk {
    snapshot: Xids,
    rows: Vec<(u8, Row)>,
    /// Whether it was asked for by key.
    by_key: bool,
    /// Its last key, and whether it was a full page.
    last: Option<u8>,
    full: bool,
    /// Positions in the log before and after it was read.
    low: usize,
    high: usize,
}

#[derive(Debug)]
pub(super) struct Simulation {
    settings: Settings,
    next_xid: u64,
    /// The newest number that has ended.
    ended: u64,
    running: Vec<Running>,
    /// What each key was set to, by whom, in order.
    versions: BTreeMap<u8, Vec<(u64, Option<Row>)>>,
    locks: BTreeMap<u8, u64>,
    log: Vec<Running>,
    delivered: usize,
    /// The table after what was delivered.
    truth: Table,
    counter: u32,
    // From here on: what is tested, and the receiver.
    window: Option<Window>,
    /// Had written when observing began.
    writers: BTreeSet<u64>,
    after: Option<u8>,
    pages_done: bool,
    reading: Option<Chunk>,
    waiting: Option<Chunk>,
    receiver: Table,
}

impl Simulation {
    pub(super) fn run(settings: Settings, steps: &[Step]) -> Result<(), String> {
        let mut this = Self::new(settings);
        for (number, step) in steps.iter().enumerate() {
            if number == settings.observe_after {
                this.observe();
            }
            this.step(*step)?;
        }
        this.finish()
    }

    fn new(settings: Settings) -> Self {
        let rows = (0..KEYS).step_by(2).map(|key| (key, (Some(0), Some(0))));
        let truth: Table = rows.collect();
        let first = settings.first_xid;
        Self {
            settings,
            next_xid: first + 1,
            ended: first,
            running: Vec::new(),
            versions: truth.iter().map(|(key, row)| (*key, vec![(first, Some(*row))])).collect(),
            locks: BTreeMap::new(),
            log: Vec::new(),
            delivered: 0,
            truth,
            counter: 0,
            window: None,
            writers: BTreeSet::new(),
            after: None,
            pages_done: false,
            reading: None,
            waiting: None,
            receiver: Table::new(),
        }
    }

    fn observe(&mut self) {
        self.window = Some(Window::new(self.settings.most_keys));
        self.writers = self.locks.values().copied().collect();
    }

    fn step(&mut self, step: Step) -> Result<(), String> {
        let who = usize::from(step.who);
        match step.what {
            What::Begin if self.running.len() < 5 => self.begin(u64::from(step.who % 3)),
            What::Write => self.write(who, step),
            What::Log => self.log(who),
            What::Seen => self.seen(who),
            What::Abort => self.abort(who),
            What::Deliver => self.deliver(),
            What::Read => self.read(),
            What::Accept => self.accept(),
            What::Emit => self.emit()?,
            What::Begin => {}
        }
        Ok(())
    }

    fn begin(&mut self, subtransactions: u64) {
        let xid = self.next_xid;
        let last = xid + subtransactions;
        self.next_xid = last + 1;
        self.running.push(Running { xid, last, changes: Vec::new(), logged: false });
    }

    /// The running transaction meant by a number, among those that are in the log or not.
    fn pick(&self, who: usize, logged: bool) -> Option<usize> {
        let fitting: Vec<usize> =
            (0..self.running.len()).filter(|i| self.running[*i].logged == logged).collect();
        fitting.get(who % fitting.len().max(1)).copied()
    }

    fn write(&mut self, who: usize, step: Step) {
        let Some(index) = self.pick(who, false) else { return };
        let xid = self.running[index].xid;
        let (key, to) = (step.key % KEYS, step.other % KEYS);
        let mut free = |key: u8| *self.locks.entry(key).or_insert(xid) == xid;
        if !free(key) {
            return;
        }
        self.counter += 1;
        let value = Some(self.counter);
        let now = self.newest(key);
        let change = match (now, step.other / KEYS % 8) {
            (None, _) => Change::Told { key, row: (value, value) },
            (Some(_), 0) => Change::Gone { key },
            (Some(_), 1 | 2) => Change::Told { key, row: (value, value) },
            (Some(_), _) if self.settings.simple => Change::Told { key, row: (value, value) },
            (Some(_), 3) if (0..KEYS).all(|key| *self.locks.entry(key).or_insert(xid) == xid) => {
                Change::Emptied
            }
            (Some(_), 4 | 5) if to != key && *self.locks.entry(to).or_insert(xid) == xid => {
                match self.newest(to) {
                    Some(_) => Change::Gone { key: to },
                    None => Change::Moved { from: key, to, row: (value, None) },
                }
            }
            (Some(_), _) => Change::Told { key, row: (value, None) },
        };
        let mut set = |key: u8, row: Option<Row>| {
            self.versions.entry(key).or_default().push((xid, row));
        };
        let with_large =
            |row: Row, before: Option<Row>| (row.0, row.1.or(before.and_then(|b| b.1)));
        match change {
            Change::Told { key, row } => set(key, Some(with_large(row, now))),
            Change::Moved { from, to, row } => {
                set(from, None);
                set(to, Some(with_large(row, now)));
            }
            Change::Gone { key } => set(key, None),
            Change::Emptied => (0..KEYS).for_each(|key| set(key, None)),
        }
        self.running[index].changes.push(change);
    }

    /// The row as whoever holds its lock sees it.
    fn newest(&self, key: u8) -> Option<Row> {
        self.versions.get(&key)?.last()?.1
    }

    fn log(&mut self, who: usize) {
        let Some(index) = self.pick(who, false) else { return };
        self.running[index].logged = true;
        self.log.push(self.running[index].clone());
        if self.settings.seen_at_once {
            self.end(index);
        }
    }

    fn seen(&mut self, who: usize) {
        if let Some(index) = self.pick(who, true) {
            self.end(index);
        }
    }

    fn abort(&mut self, who: usize) {
        let Some(index) = self.pick(who, false) else { return };
        let xid = self.running[index].xid;
        self.versions.values_mut().for_each(|v| v.retain(|(by, _)| *by != xid));
        self.end(index);
    }

    fn end(&mut self, index: usize) {
        let over = self.running.remove(index);
        self.ended = self.ended.max(over.last);
        self.locks.retain(|_, by| *by != over.xid);
        self.writers.remove(&over.xid);
    }

    fn deliver(&mut self) {
        let Some(transaction) = self.log.get(self.delivered).cloned() else {
            // Idle.
            let end = Lsn(u64::try_from(self.delivered).unwrap());
            return self.window.iter_mut().for_each(|window| window.passed(end));
        };
        self.delivered += 1;
        if let Some(window) = &mut self.window {
            let low = transaction.xid & u64::from(u32::MAX);
            window.begin(u32::try_from(low).unwrap());
            for change in &transaction.changes {
                let untold = |row: &Row| if row.1.is_none() { vec![LARGE] } else { Vec::new() };
                match change {
                    Change::Told { key, row } => window.told(&[*key], &untold(row)),
                    Change::Moved { from, to, row } => window.moved(&[*from], &[*to], &untold(row)),
                    Change::Gone { key } => window.told(&[*key], &[]),
                    Change::Emptied => window.emptied(),
                }
            }
            window.commit(Lsn(u64::try_from(self.delivered).unwrap()));
        }
        for change in &transaction.changes {
            apply(&mut self.truth, change);
            if self.window.is_some() {
                apply(&mut self.receiver, change);
            }
        }
        self.leave_out_by_position(&transaction);
    }

    /// The rule of positions: what is told from the low position on is left out of the chunk.
    fn leave_out_by_position(&mut self, transaction: &Running) {
        let number = self.delivered - 1;
        let chunks = self.waiting.iter_mut().chain(&mut self.reading);
        if self.settings.rule == Rule::ByPosition {
            for chunk in chunks.filter(|chunk| chunk.low <= number) {
                for change in &transaction.changes {
                    let told = |key: u8| match change {
                        Change::Told { key: own, .. } | Change::Gone { key: own } => *own == key,
                        Change::Moved { from, to, .. } => [*from, *to].contains(&key),
                        Change::Emptied => true,
                    };
                    chunk.rows.retain(|(key, _)| !told(*key));
                }
            }
        }
    }

    fn snapshot(&self) -> Xids {
        let next = self.ended + 1;
        let running: Vec<u64> =
            self.running.iter().map(|r| r.xid).filter(|xid| *xid < next).collect();
        let oldest = running.iter().copied().min().unwrap_or(next);
        let list: Vec<String> = running.iter().map(u64::to_string).collect();
        format!("{oldest}:{next}:{}", list.join(",")).parse().unwrap()
    }

    fn read(&mut self) {
        let Some(window) = &mut self.window else { return };
        let gate = self.settings.rule == Rule::WithoutWaiting || self.writers.is_empty();
        let over = self.pages_done && self.settings.rule == Rule::WithoutReadingAgain;
        if !gate || over || self.reading.is_some() || self.waiting.is_some() {
            return;
        }
        let asked = self.pages_done.then(|| window.ask_again(self.settings.page));
        let snapshot = self.snapshot();
        let seen = |key: &u8| {
            let versions = self.versions.get(key)?;
            let shown = versions.iter().rev().find(|(by, _)| snapshot.shows(*by))?;
            shown.1.map(|row| (*key, row))
        };
        let rows: Vec<(u8, Row)> = match &asked {
            Some(keys) => keys.iter().filter_map(|key| seen(&key[0])).collect(),
            None => (0..KEYS)
                .filter(|key| self.after.is_none_or(|after| *key > after))
                .filter_map(|key| seen(&key))
                .take(self.settings.page)
                .collect(),
        };
        let (low, high) = (self.log.len(), self.log.len());
        let (last, full) = (rows.last().map(|(key, _)| *key), rows.len() == self.settings.page);
        let by_key = asked.is_some();
        self.reading = Some(Chunk { snapshot, rows, by_key, last, full, low, high });
    }

    fn accept(&mut self) {
        let Some(chunk) = self.reading.take() else { return };
        let Some(window) = &mut self.window else { return };
        let keys: Vec<Key> = chunk.rows.iter().map(|(key, _)| [*key].into()).collect();
        let high = Lsn(u64::try_from(chunk.high).unwrap());
        if window.accept(chunk.snapshot.clone(), high, keys) == Accepted::Waits {
            self.waiting = Some(chunk);
        }
    }

    fn emit(&mut self) -> Result<(), String> {
        let Some(window) = &mut self.window else { return Ok(()) };
        let Some(keep) = window.take() else { return Ok(()) };
        let chunk = self.waiting.take().ok_or("handed on what was not read")?;
        if !chunk.by_key {
            self.pages_done = !chunk.full;
            self.after = chunk.last.or(self.after);
        }
        let by_position = self.settings.rule == Rule::ByPosition;
        for (index, (key, row)) in chunk.rows.iter().enumerate() {
            let keep = if by_position { &Keep::All } else { &keep[index] };
            match keep {
                Keep::Nothing => continue,
                Keep::All => *self.receiver.entry(*key).or_default() = *row,
                Keep::Columns(_) => self.receiver.entry(*key).or_default().1 = row.1,
            }
            let truth = self.truth.get(key).copied();
            let small = *keep == Keep::All;
            let right = truth.is_some_and(|t| t.1 == row.1 && (!small || t.0 == row.0));
            if !right {
                return Err(format!("row {key} was handed on as {row:?}, and is {truth:?}"));
            }
        }
        Ok(())
    }

    /// Lets everything end, and compares.
    fn finish(mut self) -> Result<(), String> {
        if self.window.is_none() {
            self.observe();
        }
        while self.pick(0, false).is_some() {
            self.log(0);
        }
        while self.pick(0, true).is_some() {
            self.seen(0);
        }
        for _ in 0..1000 {
            self.deliver();
            self.read();
            self.accept();
            self.emit()?;
            let window = self.window.as_ref().ok_or("nobody observes")?;
            let again =
                self.settings.rule != Rule::WithoutReadingAgain && window.again().next().is_some();
            if self.pages_done && !again && !window.waits() && self.delivered == self.log.len() {
                break;
            }
        }
        let seen = |key: &u8| Some((*key, self.newest(*key)?));
        let table: Table = (0..KEYS).filter_map(|key| seen(&key)).collect();
        if self.truth != table {
            return Err("the simulation itself is wrong".to_owned());
        }
        if self.receiver == table {
            Ok(())
        } else {
            Err(format!("the receiver has {:?} instead of {table:?}", self.receiver))
        }
    }
}

/// What a receiver does that takes a change for the whole truth about its row.
fn apply(table: &mut Table, change: &Change) {
    match change {
        Change::Told { key, row } => {
            let entry = table.entry(*key).or_default();
            *entry = (row.0, row.1.or(entry.1));
        }
        Change::Moved { from, to, row } => {
            let before = table.remove(from).unwrap_or_default();
            table.insert(*to, (row.0, row.1.or(before.1)));
        }
        Change::Gone { key } => {
            table.remove(key);
        }
        Change::Emptied => table.clear(),
    }
}
