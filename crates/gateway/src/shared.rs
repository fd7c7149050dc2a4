//! What all of one gateway's tasks share.

mod rules;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use herdsman_config::Groups;
use herdsman_node::{Conninfo, NodeName};
use herdsman_watch::Watch;
use tokio_util::sync::CancellationToken;

use crate::admin::Desk;
use crate::auth::{Places, ServerLogin, Users};
use crate::catalogue::Classifiers;
use crate::client::Card;
use crate::config::GatewayConfig;
use crate::gateway::Setup;
use crate::herd::{Herd, Loss, Options, Sever};
use crate::ledger::LedgerDoor;
use crate::listen::Reception;
use crate::pool::{Pools, Rules};
use crate::wire::Problem;

pub(crate) use rules::client_bounds;

/// One gateway.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ArcSwap<GatewayConfig>,
    /// Named subsets of the nodes.
    pub(crate) groups: ArcSwap<Groups>,
    nodes: Arc<ArcSwap<BTreeMap<NodeName, Conninfo>>>,
    pub(crate) herd: Arc<Herd>,
    pub(crate) pools: Arc<Pools>,
    pub(crate) clients: Clients,
    /// What the console remembers.
    pub(crate) desk: Desk,
    /// What all logins share.
    pub(crate) reception: Reception,
    pub(crate) users: Users,
    /// Where all databases are one, that of a ledger.
    pub(crate) ledger: Option<Arc<LedgerDoor>>,
    /// What is known of each database's functions.
    pub(crate) classifiers: Classifiers,
    pub(crate) clock: Clock,
    /// Cancelled when nobody new is accepted any more; who has been may log in yet.
    pub(crate) closed: CancellationToken,
    /// Cancelled when nothing new is to begin.
    pub(crate) draining: CancellationToken,
    /// Cancelled when everybody has left.
    pub(crate) ended: CancellationToken,
}

impl Shared {
    /// # Errors
    /// What cannot be used, in words.
    pub(crate) fn new(setup: Setup) -> Result<Self, String> {
        let herd = Herd::new(&setup.nodes, setup.watch.clone(), Options::of(&setup.config));
        let nodes = Arc::new(ArcSwap::from_pointee(setup.nodes));
        let places = places(setup.watch, Arc::clone(&nodes));
        Ok(Self {
            users: Users::new(&setup.config, places).map_err(|error| error.to_string())?,
            reception: Reception::new(&setup.config).map_err(|error| error.to_string())?,
            pools: Arc::new(Pools::new(Arc::clone(&herd))),
            herd,
            config: ArcSwap::from_pointee(setup.config),
            groups: ArcSwap::from_pointee(setup.groups),
            nodes,
            clients: Clients::default(),
            desk: Desk::default(),
            ledger: None,
            classifiers: Classifiers::default(),
            clock: Clock::default(),
            closed: CancellationToken::new(),
            draining: CancellationToken::new(),
            ended: CancellationToken::new(),
        })
    }

    /// Begins to follow the watcher. Must be called inside a tokio runtime, once.
    pub(crate) fn start(&self) {
        let pools = Arc::clone(&self.pools);
        self.herd.start(Arc::new(Severing(pools)), &self.ended);
    }

    /// Goes on with another configuration.
    ///
    /// # Errors
    /// What cannot be used, in words; then everything is as it was.
    pub(crate) fn reload(&self, setup: Setup) -> Result<(), String> {
        // Whatever can fail comes first.
        self.reception.reload(&setup.config).map_err(|error| error.to_string())?;
        self.users.reload(&setup.config).map_err(|error| error.to_string())?;
        self.herd.reload(&setup.nodes, Options::of(&setup.config));
        self.nodes.store(Arc::new(setup.nodes));
        self.groups.store(Arc::new(setup.groups));
        self.config.store(Arc::new(setup.config));
        self.pools.reload(|set| {
            // Who is not listed may be one whom the servers know, and stays who it was.
            let login = match self.users.known(&set.user) {
                Some(user) => user.server_login(),
                None => set.rules.load().login.clone(),
            };
            self.rules(&set.database, &set.user, login).ok()
        });
        Ok(())
    }

    /// What holds for a database and user as clients name them, now; `login` is who that user is on the servers.
    ///
    /// # Errors
    /// There is no such database.
    pub(crate) fn rules(
        &self,
        database: &str,
        user: &str,
        login: ServerLogin,
    ) -> Result<Rules, Problem> {
        rules::rules(&self.config.load(), &self.groups.load(), database, user, login)
    }
}

/// Cuts connections for the herd.
#[derive(Debug)]
struct Severing(Arc<Pools>);

impl Sever for Severing {
    fn sever(&self, node: usize, loss: Loss, why: &str) {
        tracing::info!(node, ?loss, why, "cutting connections");
        self.0.sever(node, loss == Loss::Role);
    }
}

/// Where users may be looked up: the proven primary, then those who may be read.
fn places(watch: Watch, nodes: Arc<ArcSwap<BTreeMap<NodeName, Conninfo>>>) -> Places {
    Box::new(move || {
        let topology = watch.topology();
        let names = topology.primary().into_iter().chain(topology.readers());
        let nodes = nodes.load();
        names.filter_map(|name| nodes.get(name).cloned().map(Arc::new)).collect()
    })
}

/// Milliseconds since the gateway began, moved on by the janitor ten times a second: good enough for timeouts, and free
/// to read.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, millis: u64) {
        self.0.store(millis, Ordering::Relaxed);
    }
}

/// Every client there is.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    cards: Mutex<HashMap<u64, Arc<Card>>>,
    next: AtomicU64,
}

impl Clients {
    pub(crate) fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn add(&self, card: &Arc<Card>) {
        if let Ok(mut cards) = self.cards.lock() {
            cards.insert(card.id, Arc::clone(card));
        }
    }

    pub(crate) fn remove(&self, id: u64) {
        if let Ok(mut cards) = self.cards.lock() {
            cards.remove(&id);
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Card>> {
        self.cards.lock().map(|cards| cards.values().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn count(&self) -> usize {
        self.cards.lock().map(|cards| cards.len()).unwrap_or_default()
    }
}
