//! A real cluster with a watcher on it, and words to wait for what it should see.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use herdsman_node::{Conninfo, NodeName, Role};
use herdsman_sandbox::Sandbox;
use herdsman_watch::{
    AvailabilityConfig, Proof, Setup, Topology, Verdict, Watch, WatchConfig, Watcher, Why,
};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Long enough for a loaded machine; nothing asserts on time but to end a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) use herdsman_sandbox::on_each_version;

/// A cluster of `n1` (primary), `n2`, `n3`, … and its watcher.
pub(crate) struct Herd {
    pub(crate) sandbox: Sandbox,
    pub(crate) watcher: Watcher,
    _turn: SemaphorePermit<'static>,
}

/// Few clusters at a time: each is a dozen processes, and a starved server looks like a frozen one.
async fn turn() -> SemaphorePermit<'static> {
    static TURNS: OnceLock<Semaphore> = OnceLock::new();
    TURNS.get_or_init(|| Semaphore::new(2)).acquire().await.unwrap()
}

impl Herd {
    /// Starts a primary with `standbys` standbys and a watcher with default settings, and waits for the proof.
    pub(crate) async fn start(version: u32, standbys: usize) -> Self {
        Self::with(version, standbys, |_| {}).await
    }

    pub(crate) async fn with(
        version: u32,
        standbys: usize,
        adjust: impl FnOnce(&mut WatchConfig),
    ) -> Self {
        let turn = turn().await;
        let sandbox =
            Sandbox::builder().standbys(standbys).pg_version(version).start().await.unwrap();
        let watcher = watch(&sandbox, "herdsman", adjust);
        let herd = Self { sandbox, watcher, _turn: turn };
        herd.until("n1 is primary", |t| t.primary().is_some_and(|n| n.as_str() == "n1")).await;
        for standby in 2..2 + standbys {
            herd.until("all standbys are readable", |t| {
                t.readers().any(|n| n.as_str() == format!("n{standby}"))
            })
            .await;
        }
        herd
    }

    pub(crate) fn watch(&self) -> Watch {
        self.watcher.watch()
    }

    pub(crate) async fn until(
        &self,
        what: &str,
        seen: impl Fn(&Topology) -> bool,
    ) -> Arc<Topology> {
        until(&self.watch(), what, seen).await
    }

    /// Waits until `node` is the proven primary.
    pub(crate) async fn until_primary(&self, node: &str) -> Arc<Topology> {
        self.until(&format!("{node} is primary"), |t| {
            t.primary().is_some_and(|n| n.as_str() == node)
        })
        .await
    }

    /// Waits until nobody is primary for this reason.
    pub(crate) async fn until_none(&self, why: Why) -> Arc<Topology> {
        self.until(
            &format!("no primary, {why:?}"),
            |t| matches!(&t.verdict, Verdict::None { why: w, .. } if *w == why),
        )
        .await
    }

    /// Waits until `node` is seen in this role.
    pub(crate) async fn until_role(&self, node: &str, role: Role) -> Arc<Topology> {
        self.until(&format!("{node} is {role}"), |t| t.nodes[node].role == role).await
    }
}

/// A watcher on this sandbox, logging in as `role`.
pub(crate) fn watch(
    sandbox: &Sandbox,
    role: &str,
    adjust: impl FnOnce(&mut WatchConfig),
) -> Watcher {
    Watcher::start(setup(sandbox, role, adjust)).unwrap()
}

pub(crate) fn setup(sandbox: &Sandbox, role: &str, adjust: impl FnOnce(&mut WatchConfig)) -> Setup {
    let names = sandbox.node_names();
    let node = |name: &String| {
        (
            NodeName::new(name).unwrap(),
            Conninfo::from_pairs(sandbox.conninfo(name, role).unwrap()).unwrap(),
        )
    };
    let mut config = WatchConfig::default();
    for name in &names {
        let addresses = sandbox.replication_addresses(name).unwrap();
        config.replication_addresses.insert(NodeName::new(name).unwrap(), addresses);
    }
    adjust(&mut config);
    Setup {
        nodes: names.iter().map(node).collect(),
        watch: config,
        availability: AvailabilityConfig::default(),
    }
}

/// Waits until a topology looks as it should; panics with the last one when it never does.
pub(crate) async fn until(
    watch: &Watch,
    what: &str,
    seen: impl Fn(&Topology) -> bool,
) -> Arc<Topology> {
    let mut changes = watch.subscribe();
    let waiting = async {
        loop {
            let topology = Arc::clone(&changes.borrow_and_update());
            if seen(&topology) {
                return topology;
            }
            changes.changed().await.unwrap();
        }
    };
    match timeout(PATIENCE, waiting).await {
        Ok(topology) => topology,
        Err(_) => panic!("never seen within {PATIENCE:?}: {what}; last: {:#?}", watch.topology()),
    }
}

/// Watches for `span` that nothing forbidden is ever published.
pub(crate) async fn never_for(
    watch: &Watch,
    span: Duration,
    what: &str,
    forbidden: impl Fn(&Topology) -> bool,
) {
    let mut changes = watch.subscribe();
    let watching = async {
        loop {
            let topology = Arc::clone(&changes.borrow_and_update());
            assert!(!forbidden(&topology), "{what}: {topology:#?}");
            changes.changed().await.unwrap();
        }
    };
    let _elapsed = timeout(span, watching).await;
}

pub(crate) fn proof(topology: &Topology) -> Option<Proof> {
    match &topology.verdict {
        Verdict::Primary { proof, .. } => Some(*proof),
        _ => None,
    }
}
