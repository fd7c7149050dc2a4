//! Which statements are slow (`slow_query`). Where the log is off, nothing here costs anything.

use std::time::Duration;

use tokio::time::Instant;

use crate::pool::PoolSet;
use crate::stats;

/// Bytes of a statement that are kept until it is known how long it takes.
const KEPT: usize = 4096;

/// The statement under way.
#[derive(Debug, Default)]
pub(super) struct SlowWatch {
    began: Option<Instant>,
    text: String,
}

impl SlowWatch {
    /// A statement begins.
    pub(super) fn begin(&mut self, text: Option<&str>) {
        self.began = Some(Instant::now());
        self.text.clear();
        let text = text.unwrap_or_default();
        let end = (0..=KEPT.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        self.text.push_str(text.get(..end.unwrap_or_default()).unwrap_or_default());
    }

    /// Everything has been answered.
    pub(super) fn end(&mut self, limit: Option<Duration>, node: &str, pools: &PoolSet) {
        let (Some(began), Some(limit)) = (self.began.take(), limit) else { return };
        let took = began.elapsed();
        if took >= limit {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            stats::slow(self.text.as_bytes(), micros, node, &pools.database, &pools.user);
        }
    }

    /// Whether a statement is under way.
    pub(super) fn is_on(&self) -> bool {
        self.began.is_some()
    }
}
