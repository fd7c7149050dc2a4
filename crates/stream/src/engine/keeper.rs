//! Saves the position, and only then lets it be acknowledged.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use herdsman_node::Lsn;
use herdsman_wal::Source;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::task::Done;
use crate::checkpoint::{Checkpoint, CheckpointError};

/// The position is saved no more often than this: each time costs the disk two flushes.
const PAUSE: Duration = Duration::from_millis(100);
/// Until the next try after the disk refused.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Keeper {
    checkpoint: Option<Arc<Checkpoint>>,
    saved: Lsn,
    acknowledged: Lsn,
    saving: bool,
    not_before: Option<Instant>,
    /// Which life of the position it is: what was begun before it was forgotten must not bring it back.
    life: Arc<Mutex<u64>>,
}

impl Keeper {
    pub(super) fn new(checkpoint: Option<Checkpoint>) -> Self {
        Self {
            checkpoint: checkpoint.map(Arc::new),
            saved: Lsn(0),
            acknowledged: Lsn(0),
            saving: false,
            not_before: None,
            life: Arc::default(),
        }
    }

    /// Whether the state folder is that of this stream.
    pub(super) fn check(&self, source: &Source) -> Result<(), CheckpointError> {
        self.checkpoint.as_ref().map_or(Ok(()), |checkpoint| checkpoint.load_for(source).map(drop))
    }

    pub(super) fn restart(&mut self) {
        (self.saved, self.acknowledged) = (Lsn(0), Lsn(0));
        self.saving = false;
    }

    /// Removes what is saved.
    pub(super) fn forget(&mut self) -> Result<(), CheckpointError> {
        self.restart();
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        *life += 1;
        self.checkpoint.as_ref().map_or(Ok(()), |checkpoint| checkpoint.forget())
    }

    pub(super) fn is_saving(&self) -> bool {
        self.saving
    }

    /// What may be acknowledged.
    pub(super) fn saved(&self) -> Option<Lsn> {
        (self.saved > Lsn(0)).then_some(self.saved)
    }

    /// What is to be acknowledged now, if anything is new.
    pub(super) fn acknowledge(&mut self, safe: Lsn) -> Option<Lsn> {
        if self.checkpoint.is_none() {
            self.saved = self.saved.max(safe);
        }
        if self.saved <= self.acknowledged {
            return None;
        }
        self.acknowledged = self.saved;
        Some(self.saved)
    }

    /// Begins to save if there is something new and it is time.
    pub(super) fn save(
        &mut self,
        now: Instant,
        safe: Lsn,
        source: &Arc<Source>,
        tasks: &mut JoinSet<Done>,
    ) {
        let Some(checkpoint) = &self.checkpoint else { return };
        if self.saving || safe <= self.saved || self.not_before.is_some_and(|time| now < time) {
            return;
        }
        self.saving = true;
        self.not_before = Some(now + PAUSE);
        let (checkpoint, source) = (Arc::clone(checkpoint), Arc::clone(source));
        let life = Arc::clone(&self.life);
        let begun_in = *life.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn_blocking(move || {
            let life = life.lock().unwrap_or_else(PoisonError::into_inner);
            if *life != begun_in {
                return Done::Saved { lsn: Lsn(0), result: Ok(()) };
            }
            Done::Saved { lsn: safe, result: checkpoint.save(&source, safe) }
        });
    }

    pub(super) fn take_in(&mut self, lsn: Lsn, result: Result<(), CheckpointError>) {
        self.saving = false;
        match result {
            Ok(()) => self.is_saved(lsn),
            Err(error) => {
                tracing::error!(%error, "nothing is acknowledged until the position can be saved");
                self.not_before = Some(Instant::now() + PAUSE_AFTER_FAILURE);
            }
        }
    }

    pub(super) fn is_saved(&mut self, lsn: Lsn) {
        self.saving = false;
        self.saved = self.saved.max(lsn);
    }

    /// Saves what is left to be saved, when no task is under way any more.
    pub(super) async fn save_last(
        &mut self,
        safe: Lsn,
        source: Option<&Arc<Source>>,
    ) -> Result<Lsn, CheckpointError> {
        if let (Some(checkpoint), Some(source), true) =
            (&self.checkpoint, source, safe > self.saved)
        {
            let (checkpoint, source) = (Arc::clone(checkpoint), Arc::clone(source));
            let saving = tokio::task::spawn_blocking(move || checkpoint.save(&source, safe));
            // Only a runtime that is being taken down stops it; then nothing has been saved.
            match saving.await {
                Ok(result) => result?,
                Err(_) => return Ok(self.saved),
            }
        }
        self.saved = self.saved.max(safe);
        Ok(self.saved)
    }

    pub(super) fn next_wake(&self, safe: Lsn) -> Option<Instant> {
        let due = self.checkpoint.is_some() && !self.saving && safe > self.saved;
        self.not_before.filter(|_| due)
    }
}
