//! The slow-query log's call site: what is written, and how often at most.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

/// Lines per second. A server that has become slow makes every statement slow; the log must not be the next thing to
/// fill up.
const PER_SECOND: u64 = 20;
/// Bytes of a statement in the log.
const LONGEST: usize = 2000;
/// Bytes of a statement that are looked at: enough for [`LONGEST`] unless it is mostly literals.
const LOOKED_AT: usize = 64 * 1024;

/// Counts what was written in this second.
#[derive(Debug, Default)]
struct Limit {
    /// The second since 1970.
    second: AtomicU64,
    written: AtomicU64,
    suppressed: AtomicU64,
}

impl Limit {
    const fn new() -> Self {
        Self {
            second: AtomicU64::new(0),
            written: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Whether one more may be written; then with how many were not since the last that was.
    fn admit(&self, second: u64) -> Option<u64> {
        if self.second.swap(second, Relaxed) != second {
            self.written.store(0, Relaxed);
        }
        if self.written.fetch_add(1, Relaxed) < PER_SECOND {
            return Some(self.suppressed.swap(0, Relaxed));
        }
        self.suppressed.fetch_add(1, Relaxed);
        None
    }
}

/// Writes a statement that took `micros` to the log, without its literals. No more than a few per second are written;
/// the next line says how many were left out.
pub(crate) fn slow(text: &[u8], micros: u64, node: &str, database: &str, user: &str) {
    static LIMIT: Limit = Limit::new();
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let Some(suppressed) = LIMIT.admit(since_1970.map_or(0, |time| time.as_secs())) else { return };
    let looked_at = text.get(..LOOKED_AT).unwrap_or(text);
    let statement = crate::slow::normalise(&String::from_utf8_lossy(looked_at), LONGEST);
    let took = Duration::from_micros(micros);
    tracing::warn!(
        target: "herdsman_gateway::slow",
        node, database, user, ?took, suppressed, statement, "slow statement"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_off_each_second_and_counted() {
        let limit = Limit::new();
        let admitted = (0..100).filter(|_| limit.admit(7).is_some()).count();
        assert_eq!(admitted as u64, PER_SECOND);
        assert_eq!(
            limit.admit(8),
            Some(100 - PER_SECOND),
            "the next line tells how many are missing"
        );
        assert_eq!(limit.admit(8), Some(0));
    }
}
