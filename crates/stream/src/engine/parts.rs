//! What an engine is made of, and what it leaves.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use herdsman_node::Lsn;
use herdsman_wal::{Change, ChangeRef};

use crate::checkpoint::Checkpoint;
use crate::config::{BatchConfig, RetryConfig};
use crate::dead_letter::DeadLetters;
use crate::error::StreamError;
use crate::sink::Sink;

/// What is done to each change before it is handed out; nothing is handed out where it gives nothing back.
///
/// An error stops the stream: nothing may be delivered that a broken rule was to hide.
pub type Transform =
    Box<dyn FnMut(ChangeRef<'_>) -> Result<Option<Change>, StreamError> + Send + Sync>;

/// What an engine is made of.
pub struct Parts {
    /// The sinks with their names.
    pub sinks: Vec<(String, Arc<dyn Sink>)>,
    /// How changes are put together, and how much may wait.
    pub batch: BatchConfig,
    /// How failed deliveries are tried again.
    pub retry: RetryConfig,
    /// Where the position is kept; the slot alone knows it where there is none.
    pub checkpoint: Option<Checkpoint>,
    /// Where changes go that no sink takes; without, such a change stops its key for good.
    pub dead_letters: Option<DeadLetters>,
    /// What is done to each change before it is handed out.
    pub transform: Option<Transform>,
    /// How long deliveries may go on after the shutdown has begun.
    pub grace: Duration,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            sinks: Vec::new(),
            batch: BatchConfig::default(),
            retry: RetryConfig::default(),
            checkpoint: None,
            dead_letters: None,
            transform: None,
            grace: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sinks: Vec<_> = self.sinks.iter().map(|(name, _)| name).collect();
        f.debug_struct("Parts")
            .field("sinks", &sinks)
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

/// How a stream ended that was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Everything before this position is handled by all sinks, saved and acknowledged; 0 where nothing was.
    pub safe: Lsn,
    /// Deliveries that were given up when the grace was over. They come again.
    pub undelivered: usize,
}
