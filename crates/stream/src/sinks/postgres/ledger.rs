//! Which changes the target has. Pure.

use std::collections::HashMap;

use herdsman_node::Lsn;
use herdsman_wal::{Change, Kind, Source};

use super::is_read;
use crate::sink::{Batch, Position};

/// What the target says of this sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    /// How many batches were ever committed.
    pub(super) batch: i64,
    /// How far it is.
    pub(super) position: Option<Position>,
    /// The cluster that position belongs to.
    pub(super) system_id: Option<String>,
    /// Who committed the last batch.
    pub(super) writer: Option<String>,
}

/// A batch on its way to being committed.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    /// What [`Stored::batch`] will be.
    pub(super) number: i64,
    /// Where the sink will stand; `None` where the batch does not move it.
    pub(super) position: Option<Position>,
    /// Where it stood before.
    before: Option<Position>,
    /// The cluster that it is from.
    pub(super) system_id: Option<String>,
    /// The changes of it.
    ids: Vec<Id>,
    /// Those that were not taken, by their place in the batch, and why.
    rejected: Vec<(usize, String)>,
}

/// What tells a change from the others of its batch and of all before.
type Id = (Lsn, u64, Lsn, Kind);

/// What is left to be done of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// The changes to apply, by their place in the batch.
    pub(super) indexes: Vec<usize>,
    /// Those that were rejected when the rest of their batch was committed.
    pub(super) rejected_before: Vec<(usize, String)>,
}

/// How far the target is, and what is not yet known about that.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    stored: Stored,
    /// Who we are: another stream with the same name may have committed the batch of the same number.
    writer: String,
    /// Sent to be committed, and no answer yet.
    unknown: Option<Commit>,
    /// Committed, as was found out afterwards: whoever delivered it has not been told.
    untold: Option<Commit>,
}

impl Ledger {
    /// Nothing is known yet. `writer` is like no other.
    pub(super) fn new(writer: String) -> Self {
        Self { writer, ..Self::default() }
    }

    /// Who we are.
    pub(super) fn writer(&self) -> &str {
        &self.writer
    }

    /// The target was asked how far it is.
    pub(super) fn reopened(&mut self, stored: Stored) {
        if let Some(commit) = self.unknown.take() {
            let ours = stored.writer.as_ref() == Some(&self.writer);
            self.untold = (ours && commit.number == stored.batch).then_some(commit);
        }
        self.stored = stored;
    }

    /// How far it is, for whoever decides what to deliver. Where changes were rejected and nobody was told, that batch has
    /// to come once more: nothing of it is applied again.
    pub(super) fn position(&self) -> Option<Position> {
        match &self.untold {
            Some(commit) if !commit.rejected.is_empty() => commit.before,
            _ => self.stored.position,
        }
    }

    /// How many batches were committed.
    pub(super) fn batches(&self) -> i64 {
        self.stored.batch
    }

    /// Refuses changes of another cluster than the position's.
    pub(super) fn check_source(&self, source: &Source) -> Result<(), String> {
        let found = source.system_id.to_string();
        match &self.stored.system_id {
            Some(known) if *known != found => {
                Err(format!("its position belongs to cluster {known}, and the changes to {found}"))
            }
            _ => Ok(()),
        }
    }

    /// What became of this very batch, where it was committed and nobody was told.
    pub(super) fn outcome_of(&mut self, batch: &Batch) -> Option<Vec<(usize, String)>> {
        let commit = self.untold.take_if(|commit| commit.ids.iter().eq(ids(batch).iter()))?;
        Some(commit.rejected)
    }

    /// What is left to be done of a batch.
    pub(super) fn remaining(&self, batch: &Batch) -> Work {
        let mut work = Work::default();
        let untold: HashMap<Id, &str> = self.untold.iter().flat_map(Commit::rejected_ids).collect();
        for (index, change) in batch.changes.iter().enumerate() {
            if batch.position.is_none() || !self.covers(change) {
                work.indexes.push(index);
            } else if let Some(problem) = untold.get(&id(change)) {
                work.rejected_before.push((index, (*problem).to_owned()));
            }
        }
        work
    }

    /// Whether the batch moves the position, be there anything left to be done or not.
    pub(super) fn moves(&self, batch: &Batch) -> bool {
        self.next(batch).is_some()
    }

    /// The commit of a batch, to be [begun](Self::begin) once all of it is applied.
    pub(super) fn commit_of(&self, batch: &Batch, rejected: Vec<(usize, String)>) -> Commit {
        let system_id = batch.changes.first().map(|change| change.source.system_id.to_string());
        Commit {
            number: self.stored.batch.saturating_add(1),
            position: self.next(batch),
            before: self.stored.position,
            system_id,
            ids: ids(batch),
            rejected,
        }
    }

    /// From here on it may be committed.
    pub(super) fn begin(&mut self, commit: Commit) {
        self.unknown = Some(commit);
    }

    /// It was not committed, for certain.
    pub(super) fn failed(&mut self) {
        self.unknown = None;
    }

    /// It was committed. Returns what was not taken.
    pub(super) fn committed(&mut self) -> Vec<(usize, String)> {
        let Some(commit) = self.unknown.take() else { return Vec::new() };
        self.stored.batch = commit.number;
        if commit.position.is_some() {
            self.stored.position = commit.position;
            self.stored.system_id = commit.system_id;
        }
        self.untold = None;
        commit.rejected
    }

    /// Rows of a snapshot are never covered: they have no place in the order of commits, and writing one again changes
    /// nothing.
    fn covers(&self, change: &Change) -> bool {
        let (commit_lsn, ordinal) = change.view().id();
        !is_read(change)
            && self.stored.position.is_some_and(|position| {
                commit_lsn < position.commit_lsn
                    || (commit_lsn == position.commit_lsn && ordinal < position.changes)
            })
    }

    /// Where the sink will stand after this batch. Rows of a snapshot alone do not move it, and it never goes back.
    fn next(&self, batch: &Batch) -> Option<Position> {
        let mut next = batch.position?;
        let moving = || batch.changes.iter().filter(|change| !is_read(change));
        moving().next()?;
        // Counted by ordinals, as `covers` compares them, whatever was left out between.
        let within = moving().filter(|change| change.transaction.commit_lsn == next.commit_lsn);
        let last = within.map(|change| change.ordinal.saturating_add(1)).max();
        next.changes = next.changes.max(last.unwrap_or(0));
        (Some(next) > self.stored.position).then_some(next)
    }
}

impl Commit {
    /// Adds what was not taken.
    pub(super) fn reject(&mut self, rejected: impl IntoIterator<Item = (usize, String)>) {
        self.rejected.extend(rejected);
    }

    /// What was not taken.
    pub(super) fn rejected(&self) -> &[(usize, String)] {
        &self.rejected
    }

    fn rejected_ids(&self) -> impl Iterator<Item = (Id, &str)> {
        self.rejected
            .iter()
            .filter_map(|(index, problem)| Some((*self.ids.get(*index)?, problem.as_str())))
    }
}

fn id(change: &Change) -> Id {
    let (commit_lsn, ordinal) = change.view().id();
    (commit_lsn, ordinal, change.lsn, change.kind())
}

fn ids(batch: &Batch) -> Vec<Id> {
    batch.changes.iter().map(|change| id(change)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use herdsman_node::{SystemId, Timeline};
    use herdsman_wal::{Body, ChangeRef, Transaction};

    use super::*;

    fn change(commit_lsn: u64, ordinal: u64) -> Arc<Change> {
        let source = Arc::new(Source {
            system_id: SystemId(1),
            timeline: Timeline(1),
            database: "d".into(),
            slot: "s".into(),
        });
        let transaction =
            Arc::new(Transaction { commit_lsn: Lsn(commit_lsn), ..Transaction::default() });
        let body = Body::Message { prefix: "", content: b"" };
        let (source, transaction) = (&source, &transaction);
        Arc::new(ChangeRef { source, transaction, ordinal, lsn: Lsn(ordinal), body }.into())
    }

    fn batch(ids: &[(u64, u64)], position: Option<(u64, u64)>) -> Batch {
        Batch {
            changes: ids.iter().map(|&(lsn, ordinal)| change(lsn, ordinal)).collect(),
            position: position.map(|(lsn, changes)| Position { commit_lsn: Lsn(lsn), changes }),
        }
    }

    fn at(batch: i64, lsn: u64, changes: u64) -> Stored {
        let position = Some(Position { commit_lsn: Lsn(lsn), changes });
        Stored { batch, position, system_id: Some("1".to_owned()), writer: Some("w".to_owned()) }
    }

    #[test]
    fn what_the_position_covers_is_left_out() {
        let mut ledger = Ledger::new("w".to_owned());
        ledger.reopened(at(3, 10, 2));
        let again = [(9, 7), (10, 0), (10, 1), (10, 2), (11, 0)];
        assert_eq!(ledger.remaining(&batch(&again, Some((11, 1)))).indexes, [3, 4]);
        // Nothing is left to be done, and all of the transaction is known to have come.
        let (known, whole) =
            (batch(&[(10, 1)], Some((10, 2))), batch(&[(10, 1)], Some((10, u64::MAX))));
        assert_eq!(ledger.remaining(&whole).indexes, [0; 0]);
        assert!(ledger.moves(&whole) && !ledger.moves(&known));
        assert_eq!(ledger.remaining(&batch(&again, None)).indexes, [0, 1, 2, 3, 4], "a replay");
    }

    #[test]
    fn a_batch_whose_commit_was_not_answered_is_told_from_one_that_failed() {
        for committed in [true, false] {
            let mut ledger = Ledger::new("w".to_owned());
            ledger.reopened(at(3, 10, 2));
            let sent = batch(&[(10, 2), (11, 0)], Some((11, 1)));
            ledger.begin(ledger.commit_of(&sent, vec![(1, "no".to_owned())]));
            ledger.reopened(if committed { at(4, 11, 1) } else { at(3, 10, 2) });
            let expected = committed.then(|| vec![(1, "no".to_owned())]);
            assert_eq!(ledger.position(), at(0, 10, 2).position, "it has to come again");
            assert_eq!(ledger.outcome_of(&sent), expected);
            assert_eq!(ledger.outcome_of(&sent), None, "told once");
        }
    }

    #[test]
    fn a_rejected_change_is_rejected_again_in_another_batch() {
        let mut ledger = Ledger::new("w".to_owned());
        ledger.reopened(Stored::default());
        let sent = batch(&[(10, 0), (10, 1)], Some((10, 2)));
        ledger.begin(ledger.commit_of(&sent, vec![(1, "no".to_owned())]));
        ledger.reopened(at(1, 10, 2));
        let other = batch(&[(10, 0), (10, 1), (11, 0)], Some((11, u64::MAX)));
        assert_eq!(ledger.outcome_of(&other), None);
        let work = ledger.remaining(&other);
        assert_eq!((work.indexes, work.rejected_before), (vec![2], vec![(1, "no".to_owned())]));
    }

    #[test]
    fn the_position_counts_by_ordinals_and_never_goes_back() {
        let mut ledger = Ledger::new("w".to_owned());
        let position = |ledger: &Ledger, batch: &Batch| {
            ledger.commit_of(batch, Vec::new()).position.map(|p| (p.commit_lsn.0, p.changes))
        };
        let gaps = batch(&[(10, 3), (10, 7)], Some((10, 2)));
        assert_eq!(position(&ledger, &gaps), Some((10, 8)));
        assert_eq!(
            position(&ledger, &batch(&[(10, 3)], Some((10, u64::MAX)))),
            Some((10, u64::MAX))
        );
        ledger.reopened(at(1, 20, 0));
        assert_eq!(position(&ledger, &gaps), None);
        assert_eq!(position(&ledger, &batch(&[(30, 0)], None)), None);
    }

    #[test]
    fn another_cluster_is_refused() {
        let mut ledger = Ledger::new("w".to_owned());
        let source = change(1, 1).source.clone();
        assert_eq!(ledger.check_source(&source), Ok(()));
        ledger.reopened(Stored { system_id: Some("2".to_owned()), ..Stored::default() });
        assert!(ledger.check_source(&source).is_err());
    }
}
