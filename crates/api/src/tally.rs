//! What the API itself has done: for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;

/// What the doors of the API have seen, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApiStatistics {
    /// Requests that were answered since the start, by the hundreds of their status: `answers[1]` are 200 to 299.
    pub answers: [u64; 5],
    /// Connections that are open.
    pub connections: u64,
    /// Agent checks that were answered since the start.
    pub agent_checks: u64,
}

/// Counts. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    answers: [AtomicU64; 5],
    connections: AtomicU64,
    agent_checks: AtomicU64,
}

/// One open connection.
pub(crate) struct Opened(Arc<Counts>);

impl Tally {
    /// A connection is open until what this gives is dropped.
    pub(crate) fn open(&self) -> Opened {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
        Opened(Arc::clone(&self.0))
    }

    pub(crate) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(count) = self.0.answers.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn agent_answered(&self) {
        self.0.agent_checks.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> ApiStatistics {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ApiStatistics {
            answers: self.0.answers.each_ref().map(read),
            connections: read(&self.0.connections),
            agent_checks: read(&self.0.agent_checks),
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_hundreds_and_connections_while_they_are_open() {
        let tally = Tally::default();
        let (one, two) = (tally.open(), tally.open());
        for status in [StatusCode::OK, StatusCode::NO_CONTENT, StatusCode::SERVICE_UNAVAILABLE] {
            tally.answered(status);
        }
        tally.agent_answered();
        drop(one);
        let read = tally.read();
        assert_eq!((read.answers, read.connections), ([0, 2, 0, 0, 1], 1));
        assert_eq!(read.agent_checks, 1);
        drop(two);
        assert_eq!(tally.read().connections, 0);
    }
}
