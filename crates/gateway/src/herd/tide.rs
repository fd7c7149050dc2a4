//! Read your writes: how far the log has come, sample by sample, and what a session may read. Pure.
//!
//! A sample asks the writer for its position and then the readers for theirs. Samples are numbered when they begin, so a
//! write that was acknowledged before a sample began is at or before the position it finds.

use herdsman::session::{Replayed, SessionToken, covers};
use herdsman_node::{Lsn, SystemId, Timeline};

use super::Causal;

/// The newest samples.
#[derive(Clone, Debug, Default)]
pub(crate) struct Water {
    /// The newest complete sample of the writer.
    pub(super) writer: Option<Mark>,
    /// How far each node has replayed, by one answer that its connection has outlived.
    pub(super) nodes: Vec<Option<Replayed>>,
}

/// Where the writer was in one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Number of the sample, from 1.
    pub(super) number: u64,
    pub(super) system_id: SystemId,
    pub(super) timeline: Timeline,
    /// On disk: covers writes that were acknowledged after their flush.
    pub(super) flushed: Lsn,
    /// In memory: covers those acknowledged before it, too.
    pub(super) inserted: Lsn,
}

impl Water {
    /// Whether a session may read on this node.
    pub(crate) fn covers(&self, node: usize, causal: &Causal) -> bool {
        if causal.after_sample > 0 {
            return false;
        }
        let Some(token) = &causal.token else { return true };
        let replayed = self.nodes.get(node).and_then(Option::as_ref);
        replayed.is_some_and(|replayed| covers(replayed, token))
    }

    /// Turns "written before sample n" into the position of sample n or a later one, if there is one by now.
    pub(crate) fn settle(&self, causal: &mut Causal) {
        let Some(mark) = self.writer.filter(|mark| mark.number >= causal.after_sample) else {
            return;
        };
        if causal.after_sample == 0 {
            return;
        }
        let token = SessionToken {
            system_id: mark.system_id,
            timeline: mark.timeline,
            lsn: if causal.early { mark.inserted } else { mark.flushed },
        };
        *causal = Causal {
            after_sample: 0,
            token: Some(causal.token.map_or(token, |known| known.max(token))),
            early: false,
        };
    }

    /// Takes in a sample of the writer. An older one than there is says nothing new.
    pub(super) fn mark(&mut self, mark: Mark) {
        if self.writer.is_none_or(|known| known.number < mark.number) {
            self.writer = Some(mark);
        }
    }

    /// Takes in how far a node has replayed; `None`: nobody knows any more.
    pub(super) fn replayed(&mut self, node: usize, replayed: Option<Replayed>) {
        if self.nodes.len() <= node {
            self.nodes.resize(node + 1, None);
        }
        if let Some(place) = self.nodes.get_mut(node) {
            *place = replayed;
        }
    }
}

impl Causal {
    /// Whether its reads must look where they go.
    #[inline]
    pub(crate) const fn needs(&self) -> bool {
        self.after_sample > 0 || self.token.is_some()
    }

    /// Notes a write acknowledged while `started` samples had begun. `early`: before it was on disk.
    pub(super) const fn write(&mut self, started: u64, early: bool) {
        // A write that is not settled yet may have been an early one; then the insert position is needed for both.
        self.early = early || (self.early && self.after_sample > 0);
        self.after_sample = started.saturating_add(1);
    }
}
