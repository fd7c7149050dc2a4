//! Looks up what there is to show.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::command::Show;
use super::view::{ClientView, NodeSeat, PoolView, ServerView, View};
use crate::client::Card;
use crate::pool::{Pool, PoolSet, ServerIdentity, Use};
use crate::shared::Shared;
use crate::stats::{ClientCounts, GatewayStatistics, PoolStatistics, ServerCounts, Times};

/// What `show` needs of everything the gateway shares.
pub(super) fn view(shared: &Shared, show: Show) -> View {
    let sets = shared.pools.all();
    let now = shared.clock.now();
    let times = show == Show::NodePools;
    let clients = clients(shared);
    let servers = match show {
        Show::Servers | Show::Sockets => servers(shared, &sets, &clients),
        _ => Vec::new(),
    };
    let pools = sets
        .iter()
        .flat_map(|set| set.pools().into_iter().map(|pool| pool_view(set, &pool, now, times)));
    let pools = pools.collect();
    let (paused, disabled) = gates(shared, &sets);
    View {
        config: shared.config.load_full(),
        clients: clients.into_iter().map(ClientView).collect(),
        pools,
        servers,
        nodes: nodes(shared),
        topology: shared.herd.topology(),
        paused,
        disabled,
        held: shared
            .desk
            .is_held()
            .then(|| "HOLD; RESUME ends it".to_owned())
            .or_else(|| shared.herd.is_held().then(|| "a switchover is under way".to_owned())),
        suspended: shared.desk.is_suspended(),
        now,
    }
}

/// Everything that has been counted.
pub(crate) fn statistics(shared: &Shared) -> GatewayStatistics {
    let now = shared.clock.now();
    let mut counts = ClientCounts::default();
    for card in shared.clients.all() {
        counts.count(card.state().0);
    }
    let statistics = |view: PoolView| PoolStatistics {
        database: view.database.to_string(),
        user: view.user.to_string(),
        node: view.node.to_string(),
        servers: view.servers,
        totals: view.totals,
        averages: view.recent.averages(),
        wait: view.wait,
        transaction: view.transaction,
    };
    let sets = shared.pools.all();
    let pools = sets.iter().flat_map(|set| {
        set.pools().into_iter().map(|pool| statistics(pool_view(set, &pool, now, true)))
    });
    GatewayStatistics { clients: counts, pools: pools.collect() }
}

fn clients(shared: &Shared) -> Vec<Arc<Card>> {
    let mut clients = shared.clients.all();
    clients.sort_unstable_by_key(|card| card.id);
    clients
}

fn pool_view(set: &PoolSet, pool: &Pool, now: u64, times: bool) -> PoolView {
    let counts = pool.counts();
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let taken = |times: bool, of: &crate::stats::Histogram| {
        if times { of.snapshot() } else { Times::default() }
    };
    PoolView {
        database: Arc::clone(&set.database),
        user: Arc::clone(&set.user),
        node: Arc::clone(&pool.name),
        mode: set.rules.load().pool.mode,
        servers: ServerCounts {
            active: number(counts.active),
            idle: number(counts.idle),
            login: number(counts.opening),
            being_cancelled: number(counts.cancelling),
        },
        totals: pool.stats.totals(),
        recent: pool.stats.recently(now),
        wait: taken(times, &pool.stats.wait),
        transaction: taken(times, &pool.stats.transaction),
    }
}

fn servers(shared: &Shared, sets: &[Arc<PoolSet>], clients: &[Arc<Card>]) -> Vec<ServerView> {
    let owners: std::collections::HashMap<u64, u64> =
        clients.iter().filter_map(|card| Some((card.cancel.server()?, card.id))).collect();
    let closing = shared.desk.closing();
    let one = |set: &PoolSet, pool: &Pool, server: &ServerIdentity| ServerView {
        id: server.id,
        database: Arc::clone(&set.database),
        user: Arc::clone(&set.user),
        address: Some(server.conninfo.host.as_str().into()),
        port: server.conninfo.port,
        node: Arc::clone(&pool.name),
        state: match server.doing() {
            _ if server.is_being_cancelled() => "being_canceled",
            Use::Idle => "idle",
            Use::Taken | Use::Reader | Use::Writer => "active",
        },
        process: server.backend.map(|(process, _)| process),
        since: Some(server.since),
        client: owners.get(&server.id).copied(),
        close_needed: closing.contains(&server.id),
    };
    let mut servers = Vec::new();
    for set in sets {
        for pool in set.pools() {
            servers.extend(pool.servers().iter().map(|server| one(set, &pool, server)));
        }
    }
    servers.sort_unstable_by_key(|server| server.id);
    servers
}

fn nodes(shared: &Shared) -> Vec<NodeSeat> {
    let seats = shared.herd.seats();
    let node = |(index, seat): (usize, &crate::herd::Seat)| NodeSeat {
        name: seat.name.as_str().into(),
        host: seat.conninfo.host.as_str().into(),
        port: seat.conninfo.port,
        epoch: shared.herd.epoch(index),
    };
    let mut nodes: Vec<_> = seats.iter().enumerate().map(node).collect();
    nodes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    nodes
}

/// Databases that are paused, and those that are disabled, among those that are known.
fn gates(shared: &Shared, sets: &[Arc<PoolSet>]) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
    let config = shared.config.load();
    let mut names: BTreeSet<Arc<str>> =
        config.databases.keys().map(|name| name.as_str().into()).collect();
    names.extend(sets.iter().map(|set| Arc::clone(&set.database)));
    let mut paused: Vec<Arc<str>> =
        names.iter().filter(|name| shared.pools.is_paused(Some(name))).cloned().collect();
    if shared.pools.is_paused(None) {
        paused.push("*".into());
    }
    let disabled = names.into_iter().filter(|name| shared.pools.is_disabled(name));
    (paused, disabled.collect())
}
