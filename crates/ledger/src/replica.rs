//! What each entry means to a node: the one pure rule that all nodes follow.
//!
//! A [`Replica`] takes the log's records in order and says, for each, what is to be done to the data and what the
//! outcome is. It asks nobody and owns no clock, so nodes that have read the same log have the same outcomes. What it
//! needs after a restart is what the node wrote down in the same transactions as its data ([`Durable`]), and the tail
//! of the log.
//!
//! - A request commits once, however often it is in the log. After a conflict, and only then, it may try again.
//! - An error that every node would have alike is an outcome. Trouble of one node alone is not: the edge tries again, for
//!   as long as it takes.
//! - What can only be if nodes have parted is a [`Fence`]: the node stops, says why, and serves nobody.

mod outcome;
mod resume;
mod rules;

use std::collections::{BTreeSet, HashMap, VecDeque};

use thiserror::Error;

pub use outcome::Outcome;
pub use resume::{Durable, Settled};
#[cfg(test)]
pub(crate) use rules::Rules;
#[cfg(not(test))]
use rules::Rules;

use crate::{
    certify::Window,
    entry::{Attempt, Entry, Genesis, NotAnEntry},
    identity::{ChainHash, Offset, RequestId},
    table::{Catalogue, TableChange},
    writes::{Claim, RowChange, claims_of_change},
};

/// What is to be done to the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing but to write down that it was done.
    Nothing,
    /// These rows change.
    Rows(Vec<RowChange>),
    /// A table changes.
    Define(TableChange),
}

/// What one record of the log means. The node does it and writes it down, in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The record's place.
    pub at: Offset,
    /// The log up to here.
    pub hash: ChainHash,
    /// Whose it is, if it is somebody's.
    pub attempt: Option<Attempt>,
    /// What came of it.
    pub outcome: Outcome,
    /// What is to be done.
    pub act: Act,
}

/// Why a node may not go on. It stays so until an operator has seen to it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fence {
    /// The log left something out, or went back.
    #[error("the log gave entry {found} where entry {expected} belongs")]
    Gap {
        /// What should have come.
        expected: Offset,
        /// What came.
        found: Offset,
    },
    /// Other nodes may have read it whole.
    #[error("entry {at}: {why}")]
    Unreadable {
        /// The entry.
        at: Offset,
        /// What is wrong with it.
        why: NotAnEntry,
    },
    /// The operator had an entry passed over that this node has applied.
    #[error(
        "entry {target} was skipped by entry {at}, after this node had applied it; rejoin the node"
    )]
    SkippedTooLate {
        /// The operator's entry.
        at: Offset,
        /// The entry that was skipped.
        target: Offset,
    },
    /// The node's notes do not belong to this log.
    #[error("the log is not the one this node has followed: {0}")]
    AnotherLog(String),
    /// The node's data or notes are not what the log made them.
    #[error("the node is not what the log made it: {0}")]
    Diverged(String),
}

/// A node's place in the log and all that its next decision depends on.
#[derive(Clone, Debug)]
pub struct Replica {
    genesis: Genesis,
    applied: Offset,
    hash: ChainHash,
    window: Window,
    catalogue: Catalogue,
    requests: Requests,
    /// Entries that the operator has had skipped, found further on in the log.
    excused: BTreeSet<Offset>,
    /// Entries that were skipped, as far back as the window goes.
    skipped: BTreeSet<Offset>,
    rules: Rules,
}

/// What is settled about requests, as far back as the window goes. Further back nothing need be known: whatever comes
/// again from there began before the window's floor and conflicts.
#[derive(Clone, Debug, Default)]
struct Requests {
    settled: HashMap<RequestId, (Offset, Outcome)>,
    order: VecDeque<(Offset, RequestId)>,
}

impl Replica {
    /// A node that has applied the genesis entry and nothing else.
    #[must_use]
    pub fn new(genesis: Genesis, genesis_entry: &[u8]) -> Self {
        Self {
            window: Window::new(&genesis),
            genesis,
            applied: Offset::GENESIS,
            hash: ChainHash::default().after(Offset::GENESIS, genesis_entry),
            catalogue: Catalogue::default(),
            requests: Requests::default(),
            excused: BTreeSet::new(),
            skipped: BTreeSet::new(),
            rules: Rules::default(),
        }
    }

    /// The last entry that was taken.
    #[must_use]
    pub fn applied(&self) -> Offset {
        self.applied
    }

    /// The log up to there.
    #[must_use]
    pub fn hash(&self) -> ChainHash {
        self.hash
    }

    /// The log's genesis.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The tables as they are there.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// How many keys and requests are remembered.
    #[must_use]
    pub fn remembered(&self) -> (usize, usize) {
        (self.window.len(), self.requests.settled.len())
    }

    /// Says that the log has an operator's [`Entry::Skip`] for this entry, further on.
    pub fn excuse(&mut self, target: Offset) {
        if target > self.applied {
            self.excused.insert(target);
        }
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// The node may not go on. The replica is as it was.
    pub fn take(&mut self, at: Offset, body: &[u8]) -> Result<Step, Fence> {
        let expected = self.applied.next();
        if at != expected {
            return Err(Fence::Gap { expected, found: at });
        }
        let skip = self.excused.contains(&at);
        let entry = match Entry::decode(body, self.genesis.log) {
            _ if skip => None,
            Ok(entry) => Some(entry),
            Err(NotAnEntry::Foreign) => None,
            Err(why) => return Err(Fence::Unreadable { at, why }),
        };
        let (attempt, outcome, act) = match entry {
            None if skip => (None, Outcome::Skipped, Act::Nothing),
            None => (None, Outcome::Noted, Act::Nothing),
            Some(entry) => self.judge(at, entry)?,
        };
        let step = Step { at, hash: self.hash.after(at, body), attempt, outcome, act };
        self.settle(at, step.hash, step.attempt, step.outcome);
        Ok(step)
    }

    fn judge(
        &mut self,
        at: Offset,
        entry: Entry,
    ) -> Result<(Option<Attempt>, Outcome, Act), Fence> {
        Ok(match entry {
            Entry::Write { attempt, base, claims, rows } => {
                let outcome = self.certify(at, attempt, base, &claims);
                let committed = outcome == Outcome::Committed;
                (Some(attempt), outcome, if committed { Act::Rows(rows) } else { Act::Nothing })
            }
            Entry::Define { attempt, base, change } => {
                let (outcome, act) = self.define(at, attempt, base, change);
                (Some(attempt), outcome, act)
            }
            Entry::Statement { attempt, .. } => {
                let outcome = self.earlier(attempt).unwrap_or(Outcome::Refused(*b"0A000"));
                (Some(attempt), outcome, Act::Nothing)
            }
            Entry::Barrier { attempt } => {
                (Some(attempt), self.earlier(attempt).unwrap_or(Outcome::Noted), Act::Nothing)
            }
            Entry::Cancel { request } => {
                let attempt = Attempt { request, number: 0 };
                (Some(attempt), self.earlier(attempt).unwrap_or(Outcome::Cancelled), Act::Nothing)
            }
            Entry::Skip { target } if target < at && !self.skipped.contains(&target) => {
                return Err(Fence::SkippedTooLate { at, target });
            }
            Entry::Skip { .. } | Entry::Trim { .. } | Entry::Member { .. } | Entry::Genesis(_) => {
                (None, Outcome::Noted, Act::Nothing)
            }
        })
    }

    fn certify(&mut self, at: Offset, attempt: Attempt, base: Offset, claims: &[Claim]) -> Outcome {
        if let Some(earlier) = self.earlier(attempt) {
            return earlier;
        }
        if base >= at {
            // It cannot have seen what is not there yet.
            return Outcome::Refused(*b"XX000");
        }
        if self.rules.certify && !self.window.admits(base, claims) {
            return Outcome::Conflict;
        }
        self.window.record(at, claims);
        Outcome::Committed
    }

    fn define(
        &mut self,
        at: Offset,
        attempt: Attempt,
        base: Offset,
        change: TableChange,
    ) -> (Outcome, Act) {
        let mut catalogue = self.catalogue.clone();
        let claims = claims_of_change(&change);
        let changed = change.apply(&mut catalogue);
        let before = self.window.clone();
        let outcome = self.certify(at, attempt, base, &claims);
        match (outcome, changed) {
            (Outcome::Committed, Ok(())) => {
                self.catalogue = catalogue;
                (outcome, Act::Define(change))
            }
            (Outcome::Committed, Err(refused)) => {
                self.window = before;
                (refused.into(), Act::Nothing)
            }
            _ => (outcome, Act::Nothing),
        }
    }

    /// What is settled already about a request.
    fn earlier(&self, attempt: Attempt) -> Option<Outcome> {
        if !self.rules.dedupe {
            return None;
        }
        let (at, outcome) = self.requests.settled.get(&attempt.request)?;
        Some(match outcome {
            Outcome::Committed => Outcome::Duplicate(*at),
            other => *other,
        })
    }

    /// Moves to `at`, remembers and forgets.
    fn settle(&mut self, at: Offset, hash: ChainHash, attempt: Option<Attempt>, outcome: Outcome) {
        self.applied = at;
        self.hash = hash;
        self.window.advance(at);
        self.excused.remove(&at);
        if outcome == Outcome::Skipped {
            self.skipped.insert(at);
        }
        let counts = outcome.is_final() && (self.rules.cancel || outcome != Outcome::Cancelled);
        if let Some(attempt) = attempt.filter(|_| counts) {
            self.requests.settled.entry(attempt.request).or_insert((at, outcome));
            self.requests.order.push_back((at, attempt.request));
        }
        let forgotten = Offset(at.0.saturating_sub(self.genesis.window));
        self.skipped = self.skipped.split_off(&forgotten.next());
        while let Some((oldest, request)) = self.requests.order.front().copied()
            && oldest <= forgotten
        {
            self.requests.order.pop_front();
            if self.requests.settled.get(&request).is_some_and(|(first, _)| *first == oldest) {
                self.requests.settled.remove(&request);
            }
        }
    }
}

#[cfg(test)]
mod tests;
