//! All pools of one database and user.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::Pool;
use super::connect::Connect;

/// How many different settings' answers are kept for clients that log in.
const WELCOMES: usize = 256;

/// What a server reported to a session: names and values.
pub(crate) type Reported = Arc<[(Box<str>, Box<str>)]>;

/// All pools of one database and user. Lives as long as anybody uses it; `rules` follow the configuration.
#[derive(Debug)]
pub(crate) struct PoolSet {
    /// The database as clients name it.
    pub(crate) database: Arc<str>,
    /// The user as clients name it.
    pub(crate) user: Arc<str>,
    /// What the configuration says of them, now.
    pub(crate) rules: Arc<ArcSwap<Rules>>,
    /// How often they have changed.
    revision: AtomicU64,
    connector: Arc<dyn Connect>,
    /// By the node's index. Read without a lock; replaced under `growing`.
    pools: ArcSwap<Vec<Option<Arc<Pool>>>>,
    growing: Mutex<Growing>,
    gone: AtomicBool,
    welcomes: Mutex<Welcomes>,
}

/// What the configuration says of one database and user, put together.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) pool: crate::config::PoolConfig,
    pub(crate) target: crate::config::Target,
    /// Nodes of the group, by name; `None`: all.
    pub(crate) group: Option<Arc<[herdsman_node::NodeName]>>,
    /// The database on the servers.
    pub(crate) dbname: String,
    /// Who to be there, and how to prove it.
    pub(crate) login: crate::auth::ServerLogin,
    /// Prepared statements kept per server connection.
    pub(crate) prepared_statements: usize,
    pub(crate) session_state: crate::config::SessionState,
    pub(crate) write_guard: crate::config::WriteGuard,
    /// Statements that take longer are logged.
    pub(crate) slow_query: Option<std::time::Duration>,
}

/// What a pool made now begins with.
#[derive(Debug)]
struct Growing {
    paused: bool,
}

/// Answers to clients that log in, by the id of their settings.
#[derive(Debug, Default)]
struct Welcomes {
    /// With when each was last used.
    kept: Vec<(u64, AtomicU64, Reported)>,
    uses: AtomicU64,
}

impl PoolSet {
    pub(crate) fn new(
        database: &str,
        user: &str,
        rules: Rules,
        connector: Arc<dyn Connect>,
        paused: bool,
    ) -> Self {
        Self {
            database: database.into(),
            user: user.into(),
            rules: Arc::new(ArcSwap::from_pointee(rules)),
            revision: AtomicU64::new(0),
            connector,
            pools: ArcSwap::default(),
            growing: Mutex::new(Growing { paused }),
            gone: AtomicBool::new(false),
            welcomes: Mutex::default(),
        }
    }

    /// The pool on a node, by the node's index; made where there is none yet.
    #[inline]
    pub(crate) fn pool(&self, node: usize) -> Arc<Pool> {
        if let Some(Some(pool)) = self.pools.load().get(node) {
            return Arc::clone(pool);
        }
        self.grow(node)
    }

    /// The pools there are.
    pub(crate) fn pools(&self) -> Vec<Arc<Pool>> {
        self.pools.load().iter().flatten().cloned().collect()
    }

    /// Puts other rules in place: sizes and times count at once, another login or database for new connections, which
    /// replace the old ones as these come back.
    pub(crate) fn change(&self, rules: Rules) {
        let old = self.rules.swap(Arc::new(rules));
        self.revision.fetch_add(1, Ordering::Release);
        let new = self.rules.load();
        let other = old.dbname != new.dbname || old.login.user != new.login.user;
        for pool in self.pools() {
            pool.change(|state, todo| {
                state.limits = (&new.pool).into();
                if other {
                    state.renew(todo);
                }
                state.pump(todo);
            });
        }
        if other {
            self.forget_welcomes();
        }
    }

    /// Changes after `rules` have: who looks at them often can tell without taking hold of them. To be read before them.
    #[inline]
    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// What a server reported to a session with the settings of this id, if that is still known.
    pub(crate) fn welcomed(&self, settings: u64) -> Option<Reported> {
        let welcomes = self.welcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, used, reported) = welcomes.kept.iter().find(|(id, ..)| *id == settings)?;
        used.store(welcomes.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(Arc::clone(reported))
    }

    /// Keeps what a server reported to a session with these settings, for the next that has them.
    pub(crate) fn keep_welcome(&self, settings: u64, reported: Reported) {
        let mut welcomes = self.welcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let used = AtomicU64::new(welcomes.uses.fetch_add(1, Ordering::Relaxed));
        welcomes.kept.retain(|(id, ..)| *id != settings);
        if welcomes.kept.len() >= WELCOMES {
            let last_used =
                |(_, used, _): &(u64, AtomicU64, Reported)| used.load(Ordering::Relaxed);
            let oldest = welcomes.kept.iter().enumerate().min_by_key(|(_, kept)| last_used(kept));
            if let Some(oldest) = oldest.map(|(index, _)| index) {
                welcomes.kept.swap_remove(oldest);
            }
        }
        welcomes.kept.push((settings, used, reported));
    }

    /// Has the next client's answer asked for again.
    pub(crate) fn forget_welcomes(&self) {
        self.welcomes.lock().unwrap_or_else(PoisonError::into_inner).kept.clear();
    }

    /// The configuration has it no more: what is idle is closed, and nobody gets another connection.
    pub(super) fn remove(&self) {
        let growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        self.gone.store(true, Ordering::Release);
        drop(growing);
        for pool in self.pools() {
            pool.remove();
        }
    }

    /// Stops or resumes handing out connections.
    pub(super) fn pause(&self, paused: bool) {
        let mut growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        growing.paused = paused;
        drop(growing);
        for pool in self.pools() {
            pool.pause(paused);
        }
    }

    fn grow(&self, node: usize) -> Arc<Pool> {
        let growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pools = Vec::clone(&self.pools.load());
        if pools.len() <= node {
            pools.resize(node + 1, None);
        }
        let Some(place) = pools.get_mut(node) else {
            return self.make(node, growing.paused);
        };
        let pool = place.get_or_insert_with(|| self.make(node, growing.paused)).clone();
        self.pools.store(Arc::new(pools));
        pool
    }

    fn make(&self, node: usize, paused: bool) -> Arc<Pool> {
        let pool = Pool::new(
            node,
            &self.database,
            Arc::clone(&self.rules),
            Arc::clone(&self.connector),
            paused,
        );
        let pool = Arc::new(pool);
        if self.gone.load(Ordering::Acquire) {
            pool.remove();
        }
        pool
    }
}
