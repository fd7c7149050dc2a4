//! A node of the simulation: rows and notes that outlive a crash, and a replica that does not.

use std::collections::BTreeMap;

use fastrand::Rng;

use crate::{
    Offset, Value,
    entry::{Attempt, Genesis},
    replica::{Act, Durable, Outcome, Replica, Rules, Settled, Step},
    writes::RowChange,
};

type Rows = BTreeMap<(String, Vec<Value>), Vec<Value>>;

/// When a node dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// Between two transactions.
    AfterData,
    /// In the middle of one, or, where the place is written down by itself, between the two.
    Between,
}

#[derive(Clone, Debug)]
struct Disk {
    rows: Rows,
    notes: Durable,
}

pub(super) struct Node {
    disk: Disk,
    replica: Replica,
    rules: Rules,
}

impl Node {
    pub(super) fn new(genesis: Genesis, first: &[u8], rules: Rules) -> Self {
        let replica = Replica::new(genesis, first);
        let (at, hash) = (replica.applied(), replica.hash());
        let settled = vec![Settled { at, hash, attempt: None, outcome: Outcome::Noted }];
        let catalogue = replica.catalogue().clone();
        let notes = Durable { genesis, applied: at, hash, catalogue, settled, fenced: None };
        let mut node = Self { disk: Disk { rows: Rows::new(), notes }, replica, rules };
        node.restart(&[first.to_vec()]);
        node
    }

    pub(super) fn applied(&self) -> Offset {
        self.disk.notes.applied
    }

    pub(super) fn rows(&self) -> &Rows {
        &self.disk.rows
    }

    pub(super) fn hash(&self) -> crate::ChainHash {
        self.disk.notes.hash
    }

    pub(super) fn read(&self, table: &str, id: i64) -> Option<Vec<Value>> {
        self.disk.rows.get(&(table.to_owned(), vec![Value::Int(id)])).cloned()
    }

    pub(super) fn has_name(&self, name: i64) -> bool {
        let taken = |((table, _), row): (&(String, Vec<Value>), &Vec<Value>)| {
            table == "taken" && row.get(1) == Some(&Value::Int(name))
        };
        self.disk.rows.iter().any(taken)
    }

    pub(super) fn any_of(&self, table: &str, rng: &mut Rng) -> Option<Vec<Value>> {
        let rows: Vec<_> = self.disk.rows.iter().filter(|((it, _), _)| it == table).collect();
        rng.choice(rows).map(|(_, row)| row.clone())
    }

    /// Starts again from what is on disk; whether it can.
    pub(super) fn restart(&mut self, log: &[Vec<u8>]) -> bool {
        let notes = &self.disk.notes;
        let (from, to) = (notes.tail_from(), notes.applied);
        let tail: Vec<(Offset, &Vec<u8>)> = (from.0..=to.0)
            .filter_map(|at| Some((Offset(at), log.get(usize::try_from(at).ok()?)?)))
            .collect();
        Replica::resume_under(notes, &tail, self.rules)
            .map(|replica| self.replica = replica)
            .is_ok()
    }

    /// Dies, and starts again.
    pub(super) fn crash(&mut self, when: Crash, log: &[Vec<u8>], apart: bool, entries: u8) -> bool {
        if when == Crash::Between && apart {
            let notes = self.disk.notes.clone();
            if self.step(log, false).is_some() {
                self.disk.notes = notes;
            }
        } else if when == Crash::Between {
            // A transaction that does not commit leaves nothing, of however many entries it is.
            let disk = self.disk.clone();
            for _ in 0..entries {
                self.step(log, false);
            }
            self.disk = disk;
        }
        self.restart(log)
    }

    /// Applies the next entry, if there is one.
    #[expect(clippy::type_complexity, reason = "one place, one use")]
    pub(super) fn step(
        &mut self,
        log: &[Vec<u8>],
        failing: bool,
    ) -> Option<Result<(Offset, Option<Attempt>, Outcome), String>> {
        let at = self.replica.applied().next();
        let body = log.get(usize::try_from(at.0).ok()?)?;
        let step = match self.replica.take(at, body) {
            Ok(step) => step,
            Err(fence) => return Some(Err(fence.to_string())),
        };
        if !failing && let Err(why) = self.apply(&step) {
            return Some(Err(why));
        }
        self.note(&step);
        Some(Ok((at, step.attempt, step.outcome)))
    }

    fn apply(&mut self, step: &Step) -> Result<(), String> {
        match &step.act {
            Act::Nothing => Ok(()),
            Act::Define(change) => {
                change.apply(&mut self.disk.notes.catalogue).map_err(|it| format!("{it:?}"))
            }
            Act::Rows(rows) => {
                for change in rows {
                    self.change(step.at, change)?;
                }
                Ok(())
            }
        }
    }

    fn change(&mut self, at: Offset, change: &RowChange) -> Result<(), String> {
        let rows = &mut self.disk.rows;
        if let Some(before) = &change.before {
            let key = (change.table.clone(), before.iter().take(1).cloned().collect());
            if rows.remove(&key).as_ref() != Some(before) {
                return Err(format!("entry {at}: {key:?} is not as it was"));
            }
        }
        if let Some(after) = &change.after {
            let key = (change.table.clone(), after.iter().take(1).cloned().collect());
            let name = after.get(1);
            let twice = |((table, _), row): (&(String, Vec<Value>), &Vec<Value>)| {
                table == "taken" && table == &change.table && row.get(1) == name
            };
            if rows.iter().any(twice) {
                return Err(format!("entry {at}: name {name:?} is taken twice"));
            }
            if rows.insert(key.clone(), after.clone()).is_some() {
                return Err(format!("entry {at}: {key:?} is there already"));
            }
        }
        Ok(())
    }

    fn note(&mut self, step: &Step) {
        let notes = &mut self.disk.notes;
        (notes.applied, notes.hash) = (step.at, step.hash);
        let &Step { at, hash, attempt, outcome, .. } = step;
        notes.settled.push(Settled { at, hash, attempt, outcome });
    }
}
