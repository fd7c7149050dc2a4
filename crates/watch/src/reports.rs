//! What other parts of the program have seen, told to all who follow what happens.

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};

use crate::Event;

/// Events that wait for one who follows; each takes them at once, and who reports is bounded in how often it does.
const WAITING: usize = 1024;

/// Where events are handed in.
#[derive(Clone, Debug)]
pub(crate) struct Desk(Sender<Event>);

/// Follows what is reported, from the moment it was asked for.
#[derive(Debug)]
pub struct Reports(Receiver<Event>);

impl Desk {
    pub(crate) fn new() -> Self {
        Self(Sender::new(WAITING))
    }

    pub(crate) fn report(&self, event: Event) {
        // Nobody follows: nobody has to be told.
        let _followers = self.0.send(event);
    }

    pub(crate) fn follow(&self) -> Reports {
        Reports(self.0.subscribe())
    }
}

impl Reports {
    /// The next event; never, once nobody can report any more. Nothing is lost where the future is dropped.
    pub async fn next(&mut self) -> Event {
        loop {
            match self.0.recv().await {
                Ok(event) => return event,
                Err(RecvError::Lagged(events)) => {
                    tracing::warn!(events, "too many reports at once: some are not told");
                }
                Err(RecvError::Closed) => return std::future::pending().await,
            }
        }
    }

    /// Whether both follow the same program.
    #[must_use]
    pub fn same_source(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use herdsman_node::NodeName;

    use super::*;

    #[tokio::test]
    async fn whoever_follows_is_told_in_order_and_goes_on_where_it_was_too_slow() {
        let desk = Desk::new();
        let event = |conflicts| {
            let node = NodeName::new("n1").unwrap();
            Event::Conflict { node, conflicts, total: conflicts }
        };
        desk.report(event(0));
        let mut reports = desk.follow();
        desk.report(event(1));
        desk.report(event(2));
        assert_eq!((reports.next().await, reports.next().await), (event(1), event(2)));
        for number in 0..=u64::try_from(WAITING).unwrap() {
            desk.report(event(number));
        }
        assert_eq!(reports.next().await, event(1), "the oldest is gone, and only that");
        assert!(reports.same_source(&desk.clone().follow()));
        assert!(!reports.same_source(&Desk::new().follow()));
    }
}
