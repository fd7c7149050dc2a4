//! What all logins of a gateway share: the certificate, the keys for cancelling, and how many clients there are.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwapOption;

use super::tls::{Identity, TlsError};
use crate::cancel::Cancels;
use crate::config::GatewayConfig;

/// Sockets beyond the clients that are allowed: for cancel requests, for the console, and for telling the others that
/// there is no room.
const SPARE: usize = 1_000;

/// What all logins share.
#[derive(Debug, Default)]
pub(crate) struct Reception {
    identity: ArcSwapOption<Identity>,
    pub(crate) cancels: Arc<Cancels>,
    sockets: Arc<AtomicUsize>,
    clients: Arc<AtomicUsize>,
    of_pools: Arc<Mutex<HashMap<PoolName, usize>>>,
}

/// Database and user.
type PoolName = (Arc<str>, Arc<str>);

/// One of those counted, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

/// One client of a pool set, until it is dropped.
#[derive(Debug)]
pub(super) struct PoolPlace {
    counts: Arc<Mutex<HashMap<PoolName, usize>>>,
    name: PoolName,
}

impl Reception {
    /// # Errors
    /// [`TlsError`] where the certificate cannot be used.
    pub(crate) fn new(config: &GatewayConfig) -> Result<Self, TlsError> {
        let reception = Self::default();
        reception.reload(config)?;
        Ok(reception)
    }

    /// Reads the certificate again. Clients that are there keep theirs.
    ///
    /// # Errors
    /// [`TlsError`] where it cannot be used: the one we have stays.
    pub(crate) fn reload(&self, config: &GatewayConfig) -> Result<(), TlsError> {
        let identity = config.tls.as_ref().map(Identity::load).transpose()?;
        self.identity.store(identity.map(Arc::new));
        Ok(())
    }

    pub(super) fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.load_full()
    }

    /// A place for a socket, whatever it wants. `None`: so many are open that nothing is read from this one.
    pub(super) fn socket(&self, max_clients: usize) -> Option<Place> {
        take(&self.sockets, max_clients.saturating_add(SPARE))
    }

    /// A place for a client.
    pub(super) fn client(&self, max_clients: usize) -> Option<Place> {
        take(&self.clients, max_clients)
    }

    /// A place for a client of a database and user; `most` as in the configuration, where 0 is no bound.
    pub(super) fn client_of(
        &self,
        database: &Arc<str>,
        user: &Arc<str>,
        most: usize,
    ) -> Option<PoolPlace> {
        let name = (Arc::clone(database), Arc::clone(user));
        let mut counts = self.of_pools.lock().ok()?;
        let count = counts.entry(name.clone()).or_default();
        if most > 0 && *count >= most {
            return None;
        }
        *count += 1;
        Some(PoolPlace { counts: Arc::clone(&self.of_pools), name })
    }
}

fn take(count: &Arc<AtomicUsize>, most: usize) -> Option<Place> {
    let one_more = |count| (count < most).then_some(count + 1);
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
    Some(Place(Arc::clone(count)))
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for PoolPlace {
    fn drop(&mut self) {
        let Ok(mut counts) = self.counts.lock() else { return };
        if let Some(count) = counts.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_when_clients_leave() {
        let reception = Reception::default();
        let one = reception.client(2);
        let two = reception.client(2);
        assert!(one.is_some() && two.is_some());
        assert!(reception.client(2).is_none());
        drop(one);
        assert!(reception.client(2).is_some());
    }

    #[test]
    fn a_lower_bound_holds_for_those_who_come_later() {
        let reception = Reception::default();
        let three: Vec<_> = (0..3).map(|_| reception.client(3)).collect();
        assert!(reception.client(2).is_none());
        drop(three);
        assert!(reception.client(2).is_some());
    }

    #[test]
    fn each_database_and_user_is_counted_apart() {
        let reception = Reception::default();
        let of = |database: &str, user: &str, most| {
            reception.client_of(&Arc::from(database), &Arc::from(user), most)
        };
        let first = of("app", "ann", 1);
        assert!(first.is_some());
        assert!(of("app", "ann", 1).is_none());
        assert!(of("app", "bob", 1).is_some());
        assert!(of("other", "ann", 1).is_some());
        assert!(of("app", "ann", 0).is_some(), "0 is no bound");
        drop(first);
        assert!(of("app", "ann", 1).is_some());
        assert!(reception.of_pools.lock().unwrap().is_empty());
    }
}
