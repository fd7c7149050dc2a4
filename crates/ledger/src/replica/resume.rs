//! Going on after a restart.

use super::{Fence, Outcome, Replica, Requests, Rules};
use crate::{
    certify::Window,
    entry::{Attempt, Entry, Genesis},
    identity::{ChainHash, Offset},
    table::Catalogue,
    writes::claims_of_change,
};

/// What came of one entry, as the node wrote it down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The entry.
    pub at: Offset,
    /// The log up to there.
    pub hash: ChainHash,
    /// Whose it was.
    pub attempt: Option<Attempt>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a node has written down in the same transactions as its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durable {
    /// The log it follows.
    pub genesis: Genesis,
    /// The last entry in its data.
    pub applied: Offset,
    /// The log up to there.
    pub hash: ChainHash,
    /// Its tables.
    pub catalogue: Catalogue,
    /// What came of the entries of the window, oldest first; older ones may be there.
    pub settled: Vec<Settled>,
    /// Why it may not go on, if that was found.
    pub fenced: Option<String>,
}

impl Durable {
    /// The first entry that [`Replica::resume`] needs to see again.
    #[must_use]
    pub fn tail_from(&self) -> Offset {
        Offset(self.applied.0.saturating_sub(self.genesis.window)).next()
    }
}

impl Replica {
    /// A node as it was, from its notes and the log's records from [`Durable::tail_from`] to the last it applied.
    ///
    /// # Errors
    /// The notes are not of this log, or not whole.
    pub fn resume(durable: &Durable, tail: &[(Offset, impl AsRef<[u8]>)]) -> Result<Self, Fence> {
        Self::resume_under(durable, tail, Rules::default())
    }

    pub(crate) fn resume_under(
        durable: &Durable,
        tail: &[(Offset, impl AsRef<[u8]>)],
        rules: Rules,
    ) -> Result<Self, Fence> {
        if let Some(why) = &durable.fenced {
            return Err(Fence::Diverged(why.clone()));
        }
        let mut replica = Self {
            window: Window::new(&durable.genesis),
            genesis: durable.genesis,
            applied: durable.applied,
            hash: durable.hash,
            catalogue: durable.catalogue.clone(),
            requests: Requests::default(),
            excused: std::collections::BTreeSet::new(),
            skipped: std::collections::BTreeSet::new(),
            rules,
        };
        let from = durable.tail_from();
        let mut notes = durable.settled.iter().skip_while(|note| note.at < from);
        let before = from.0.checked_sub(1).and_then(|before| {
            durable.settled.iter().find(|note| note.at.0 == before).map(|note| note.hash)
        });
        let mut hash = before;
        let mut at = from;
        for (found, body) in tail {
            let note =
                notes.next().filter(|note| note.at == at && *found == at).ok_or_else(|| {
                    Fence::Diverged(format!(
                        "its notes on entry {at}, or the entry itself, are missing"
                    ))
                })?;
            replica.recall(note, body.as_ref(), hash)?;
            hash = Some(note.hash);
            at = at.next();
        }
        if at != durable.applied.next() || hash.is_some_and(|hash| hash != durable.hash) {
            return Err(Fence::Diverged(format!(
                "its notes do not lead to entry {}",
                durable.applied
            )));
        }
        Ok(replica)
    }

    /// Takes an entry that was decided before.
    fn recall(
        &mut self,
        note: &Settled,
        body: &[u8],
        before: Option<ChainHash>,
    ) -> Result<(), Fence> {
        let at = note.at;
        if before.is_some_and(|before| before.after(at, body) != note.hash) {
            return Err(Fence::AnotherLog(format!("entry {at} is not what this node applied")));
        }
        if note.outcome == Outcome::Committed && self.rules.remember {
            match Entry::decode(body, self.genesis.log) {
                Ok(Entry::Write { claims, .. }) => self.window.record(at, &claims),
                Ok(Entry::Define { change, .. }) => {
                    self.window.record(at, &claims_of_change(&change));
                }
                _ => {
                    return Err(Fence::AnotherLog(format!(
                        "this node committed entry {at}, which is no transaction"
                    )));
                }
            }
        }
        self.settle(at, note.hash, note.attempt, note.outcome);
        Ok(())
    }
}
