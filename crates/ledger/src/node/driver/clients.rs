//! Clients' transactions that are open on a node, and who of them has to give way.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Open transactions, by the handles of their connections.
///
/// A transaction is either beaten or leaves, and which of the two is decided here: so nobody's connection is ended after
/// it was handed to the next client.
#[derive(Debug)]
pub(super) struct Clients<H>(Mutex<State<H>>);

#[derive(Debug)]
struct State<H> {
    next: u64,
    open: BTreeMap<u64, Client<H>>,
}

#[derive(Debug)]
struct Client<H> {
    handle: H,
    beaten: bool,
}

impl<H> Default for Clients<H> {
    fn default() -> Self {
        Self(Mutex::new(State { next: 0, open: BTreeMap::new() }))
    }
}

impl<H: Clone + PartialEq> Clients<H> {
    /// A transaction is open from now on; its number.
    pub(super) fn enter(&self, handle: H) -> u64 {
        let mut state = self.lock();
        let number = state.next;
        state.next = number.saturating_add(1);
        state.open.insert(number, Client { handle, beaten: false });
        number
    }

    /// It is open no more. Whether it was beaten: then its connection is not to be used again.
    pub(super) fn leave(&self, number: u64) -> bool {
        self.lock().open.remove(&number).is_some_and(|it| it.beaten)
    }

    /// Whether it has to give way.
    pub(super) fn is_beaten(&self, number: u64) -> bool {
        self.lock().open.get(&number).is_some_and(|it| it.beaten)
    }

    /// The connections of those that are open.
    pub(super) fn open(&self) -> Vec<H> {
        self.lock().open.values().map(|it| it.handle.clone()).collect()
    }

    /// Those of the connections that are of open transactions, which from now on are beaten.
    pub(super) fn beat(&self, handles: &[H]) -> Vec<H> {
        let mut state = self.lock();
        let beaten = state.open.values_mut().filter(|it| handles.contains(&it.handle));
        beaten
            .map(|it| {
                it.beaten = true;
                it.handle.clone()
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State<H>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_that_has_left_is_never_beaten_and_a_beaten_one_knows_when_it_leaves() {
        let clients = Clients::default();
        let (one, other) = (clients.enter("one"), clients.enter("other"));
        assert_eq!(clients.open(), ["one", "other"]);
        assert!(!clients.leave(one));
        assert_eq!(clients.beat(&["one", "other", "stranger"]), ["other"]);
        assert!(clients.is_beaten(other) && !clients.is_beaten(one));
        // The connection of the first is used again.
        let again = clients.enter("one");
        assert!(!clients.is_beaten(again));
        assert!(clients.leave(other) && !clients.leave(again));
        assert_eq!(clients.open(), [""; 0]);
    }
}
