//! What all logins of a gateway share: the certificate, the keys for cancelling, and how many clients there are.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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
    counts: Arc<Mutex<Counts>>,
}

/// How many clients there are of each kind that is there at all.
type Counts = HashMap<Kind, usize>;

/// What clients are counted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// A database and a user, as clients name them.
    Pool(Arc<str>, Arc<str>),
    /// A database, as the servers name it.
    Database(Arc<str>),
    User(Arc<str>),
    Address(IpAddr),
}

/// Who a client is and where it goes, with the most there may be of each; 0 is no bound.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    /// As clients name it.
    pub(super) database: Arc<str>,
    /// As the servers name it.
    pub(super) dbname: Arc<str>,
    pub(super) user: Arc<str>,
    pub(super) of_pool: usize,
    pub(super) of_database: usize,
    pub(super) of_user: usize,
}

/// Which bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Pool,
    Database,
    User,
}

/// One of those counted, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

/// One client where it is counted, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    counts: Arc<Mutex<Counts>>,
    database: Arc<str>,
    dbname: Arc<str>,
    user: Arc<str>,
}

/// One socket of an address, until it is dropped.
#[derive(Debug)]
pub(super) struct AddressPlace {
    counts: Arc<Mutex<Counts>>,
    of: IpAddr,
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

    /// A place for a client of a database and user.
    ///
    /// # Errors
    /// Which bound is reached.
    pub(super) fn seat(&self, claim: &Claim) -> Result<Seat, Full> {
        let Claim { database, dbname, user, of_pool, of_database, of_user } = claim;
        let [pool, of, by] = kinds(database, dbname, user);
        let bounds = [
            (pool, *of_pool, Full::Pool),
            (of, *of_database, Full::Database),
            (by, *of_user, Full::User),
        ];
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (kind, most, full) in &bounds {
            if *most > 0 && counts.get(kind).is_some_and(|count| count >= most) {
                return Err(*full);
            }
        }
        for (kind, _, _) in bounds {
            *counts.entry(kind).or_default() += 1;
        }
        let counts = Arc::clone(&self.counts);
        let [database, dbname, user] = [database, dbname, user].map(Arc::clone);
        Ok(Seat { counts, database, dbname, user })
    }

    /// A place for a socket of this address; `most` as in the configuration, where 0 is no bound.
    pub(super) fn address(&self, address: IpAddr, most: usize) -> Option<AddressPlace> {
        let of = network(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(Kind::Address(of)).or_default();
        if most > 0 && *count >= most {
            return None;
        }
        *count += 1;
        Some(AddressPlace { counts: Arc::clone(&self.counts), of })
    }
}

/// What one who connects cannot easily have several of: an address of IPv4, a network of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
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

fn kinds(database: &Arc<str>, dbname: &Arc<str>, user: &Arc<str>) -> [Kind; 3] {
    [
        Kind::Pool(Arc::clone(database), Arc::clone(user)),
        Kind::Database(Arc::clone(dbname)),
        Kind::User(Arc::clone(user)),
    ]
}

fn leave(counts: &Mutex<Counts>, kinds: impl IntoIterator<Item = Kind>) {
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    for kind in kinds {
        if let Some(count) = counts.get_mut(&kind) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&kind);
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        leave(&self.counts, kinds(&self.database, &self.dbname, &self.user));
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        leave(&self.counts, [Kind::Address(self.of)]);
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

    fn claim(database: &str, user: &str, [of_pool, of_database, of_user]: [usize; 3]) -> Claim {
        let (database, user) = (Arc::from(database), Arc::from(user));
        let dbname = Arc::clone(&database);
        Claim { database, dbname, user, of_pool, of_database, of_user }
    }

    #[test]
    fn each_database_and_user_is_counted_apart() {
        let reception = Reception::default();
        let of =
            |database: &str, user: &str, most| reception.seat(&claim(database, user, [most, 0, 0]));
        let first = of("app", "ann", 1);
        assert!(first.is_ok());
        assert_eq!(of("app", "ann", 1).unwrap_err(), Full::Pool);
        assert!(of("app", "bob", 1).is_ok());
        assert!(of("other", "ann", 1).is_ok());
        assert!(of("app", "ann", 0).is_ok(), "0 is no bound");
        drop(first);
        assert!(of("app", "ann", 1).is_ok());
        assert!(reception.counts.lock().unwrap().is_empty());
    }

    #[test]
    fn a_database_and_a_user_have_bounds_of_their_own() {
        let reception = Reception::default();
        let of = |database: &str, user: &str| reception.seat(&claim(database, user, [0, 2, 3]));
        let in_app = [of("app", "ann").unwrap(), of("app", "bob").unwrap()];
        assert_eq!(of("app", "ann").unwrap_err(), Full::Database);
        // Under another name it is the same database.
        let alias = Claim { database: "app_ro".into(), ..claim("app", "zoe", [0, 2, 3]) };
        assert_eq!(reception.seat(&alias).unwrap_err(), Full::Database);
        let others = [of("other", "ann").unwrap(), of("third", "ann").unwrap()];
        assert_eq!(of("fourth", "ann").unwrap_err(), Full::User);
        assert!(of("fourth", "bob").is_ok());
        drop(in_app);
        assert!(of("fourth", "ann").is_ok());
        drop(others);
        assert!(reception.counts.lock().unwrap().is_empty(), "who was refused was not counted");
    }

    #[test]
    fn an_address_of_ipv4_and_a_network_of_ipv6_are_counted() {
        let reception = Reception::default();
        let of = |address: &str| reception.address(address.parse().unwrap(), 1);
        let here = [of("10.0.0.1").unwrap(), of("2001:db8::1").unwrap()];
        for taken in ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::2"] {
            assert!(of(taken).is_none(), "{taken}");
        }
        for free in ["10.0.0.2", "2001:db8:0:1::1"] {
            assert!(of(free).is_some(), "{free}");
        }
        drop(here);
        assert!(of("10.0.0.1").is_some());
        assert!(reception.counts.lock().unwrap().is_empty());
    }
}
