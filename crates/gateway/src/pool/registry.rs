//! Every pool of the gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connect::{Connect, Dial};
use super::set::{PoolSet, Rules};
use crate::herd::Herd;
use crate::wire::Problem;
use crate::wire::error::code;

/// How often it is looked whether every connection has come back.
const LOOK: Duration = Duration::from_millis(10);

/// Every pool set of the gateway, by database and user.
#[derive(Debug)]
pub(crate) struct Pools {
    connector: Arc<dyn Connect>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By database, then by user.
    sets: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Arc<PoolSet>>>,
    /// Databases that are paused; what is made later in them is too.
    paused: BTreeSet<String>,
    all_paused: bool,
    /// Databases that take no new clients.
    disabled: BTreeSet<String>,
}

impl Pools {
    /// None yet. They will connect to the nodes of `herd`.
    pub(crate) fn new(herd: Arc<Herd>) -> Self {
        Self::with_connector(Arc::new(Dial::new(move || herd.seats())))
    }

    /// With something else than the network.
    pub(crate) fn with_connector(connector: Arc<dyn Connect>) -> Self {
        Self { connector, inner: Mutex::default() }
    }

    /// The pools of a client that has just logged in. `rules` replace what was known: a login may bring newer keys.
    ///
    /// # Errors
    /// An operator has disabled the database.
    pub(crate) fn get_or_create(
        &self,
        database: &str,
        user: &str,
        rules: Rules,
    ) -> Result<Arc<PoolSet>, Problem> {
        let mut inner = self.lock();
        if inner.disabled.contains(database) {
            let problem = format!("database `{database}` is disabled by an operator");
            return Err(Problem::new(code::CANNOT_CONNECT_NOW, problem));
        }
        if let Some(set) = inner.sets.get(database).and_then(|users| users.get(user)) {
            let set = Arc::clone(set);
            drop(inner);
            set.change(rules);
            return Ok(set);
        }
        let paused = inner.all_paused || inner.paused.contains(database);
        let set = PoolSet::new(database, user, rules, Arc::clone(&self.connector), paused);
        let set = Arc::new(set);
        let users = inner.sets.entry(Arc::clone(&set.database)).or_default();
        users.insert(Arc::clone(&set.user), Arc::clone(&set));
        Ok(set)
    }

    /// All of them, by database and user.
    pub(crate) fn all(&self) -> Vec<Arc<PoolSet>> {
        self.lock().sets.values().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Puts new rules in place; `None` where the configuration has the database or the user no more. Certificates are
    /// read again for new connections.
    pub(crate) fn reload(&self, rules: impl Fn(&PoolSet) -> Option<Rules>) {
        self.connector.reload();
        for set in self.all() {
            set.forget_welcomes();
            match rules(&set) {
                Some(rules) => set.change(rules),
                None => {
                    self.forget(&set);
                    set.remove();
                }
            }
        }
    }

    /// Closes what has been idle for too long, is too old, too many, or closed by the server; and forgets pools that
    /// nobody uses. `now` is the coarse clock's. Meant to be called a few times a second.
    pub(crate) fn sweep(&self, now: u64) {
        for set in self.all() {
            for pool in set.pools() {
                pool.sweep(now);
            }
        }
        let unused = |set: &Arc<PoolSet>| {
            Arc::strong_count(set) == 1 && set.pools().iter().all(|pool| pool.is_empty())
        };
        let mut inner = self.lock();
        for users in inner.sets.values_mut() {
            users.retain(|_, set| !unused(set));
        }
        inner.sets.retain(|_, users| !users.is_empty());
    }

    /// Gives up the connections to a node: idle ones are closed, and of those in use all, or with `only_writers` those
    /// taken to write, are shut from outside, so that their clients' tasks wake up. Those who wait for one choose again.
    pub(crate) fn sever(&self, node: usize, only_writers: bool) {
        for set in self.all() {
            set.forget_welcomes();
            for pool in set.pools().iter().filter(|pool| pool.node == node) {
                pool.sever(only_writers);
            }
        }
    }

    /// Has every connection of a database (`None`: of all) replaced by a new one: idle ones now, others as they come back.
    pub(crate) fn reconnect(&self, database: Option<&str>) {
        self.connector.reload();
        for set in self.of(database) {
            set.forget_welcomes();
            for pool in set.pools() {
                pool.change(|state, todo| {
                    state.renew(todo);
                    state.pump(todo);
                });
            }
        }
    }

    /// Hands out no more connections of a database (`None`: of all): whoever needs one waits.
    pub(crate) fn pause(&self, database: Option<&str>) {
        let mut inner = self.lock();
        match database {
            Some(database) => {
                inner.paused.insert(database.to_owned());
            }
            None => inner.all_paused = true,
        }
        drop(inner);
        for set in self.of(database) {
            set.pause(true);
        }
    }

    /// Hands out connections again, as far as nothing else stands against it: while everything is paused, a database that
    /// is resumed only loses its own pause. `None` ends every pause. Whether there was one to end.
    pub(crate) fn resume(&self, database: Option<&str>) -> bool {
        let mut inner = self.lock();
        let was_paused = match database {
            Some(database) => inner.paused.remove(database),
            None => {
                let any = inner.all_paused || !inner.paused.is_empty();
                inner.all_paused = false;
                inner.paused.clear();
                any
            }
        };
        let all_paused = inner.all_paused;
        drop(inner);
        if was_paused && !all_paused {
            for set in self.of(database) {
                set.pause(false);
            }
        }
        was_paused
    }

    /// Whether the database (`None`: everything) has been paused by itself.
    pub(crate) fn has_own_pause(&self, database: Option<&str>) -> bool {
        let inner = self.lock();
        database.map_or(inner.all_paused, |database| inner.paused.contains(database))
    }

    /// Whether the database (`None`: everything) is paused.
    pub(crate) fn is_paused(&self, database: Option<&str>) -> bool {
        let inner = self.lock();
        inner.all_paused || database.is_some_and(|database| inner.paused.contains(database))
    }

    /// Waits until every connection of a paused database (`None`: of all) has come back, and closes them.
    pub(crate) async fn come_back(&self, database: Option<&str>) {
        loop {
            let pools: Vec<_> = self.of(database).iter().flat_map(|set| set.pools()).collect();
            let counts = pools.iter().map(|pool| pool.counts());
            if counts.map(|counts| counts.active + counts.opening).sum::<usize>() == 0 {
                for pool in pools {
                    pool.close_idle();
                }
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Pauses a database and ends every connection of it, in use or not.
    pub(crate) fn kill(&self, database: &str) {
        self.pause(Some(database));
        for set in self.of(Some(database)) {
            for pool in set.pools() {
                pool.sever(false);
            }
        }
    }

    /// Takes no new clients of a database.
    pub(crate) fn disable(&self, database: &str) {
        self.lock().disabled.insert(database.to_owned());
    }

    /// Takes new clients of a database again.
    pub(crate) fn enable(&self, database: &str) {
        self.lock().disabled.remove(database);
    }

    /// Whether a database takes no new clients.
    pub(crate) fn is_disabled(&self, database: &str) -> bool {
        self.lock().disabled.contains(database)
    }

    fn of(&self, database: Option<&str>) -> Vec<Arc<PoolSet>> {
        let inner = self.lock();
        let sets =
            inner.sets.iter().filter(|(name, _)| database.is_none_or(|wanted| wanted == &***name));
        sets.flat_map(|(_, users)| users.values()).cloned().collect()
    }

    fn forget(&self, set: &PoolSet) {
        let mut inner = self.lock();
        if let Some(users) = inner.sets.get_mut(&set.database) {
            users.remove(&set.user);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
