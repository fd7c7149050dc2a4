//! Limits of servers and of this machine beside what the configuration would use.

use herdsman_api::Groups;
use herdsman_gateway::GatewayConfig;
use herdsman_gateway::config::{DatabaseConfig, Target, UserConfig};
use herdsman_node::NodeName;

use crate::codes::Code;
use crate::commands::doctor::evidence::ServerFacts;
use crate::commands::doctor::finding::Finding;
use crate::config::Config;

/// Connections of Herdsman itself to a node: the watcher's, the one that sees whether new ones are accepted, and a few of
/// the stream's or the mesh's.
const OWN: u64 = 5;
/// Files that the program opens besides: logs, listeners, the watcher's connections.
const OWN_FILES: u64 = 64;
/// Of a hundred connections, this many in use leave none for a bad minute.
const BUSY_PERCENT: u64 = 90;

/// What pools a gateway may have on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pools {
    count: u64,
    connections: u64,
}

pub(super) fn of_server(
    config: &Config,
    node: &NodeName,
    facts: &ServerFacts,
    slots: usize,
) -> Vec<Finding> {
    let pools = pools(&config.gateway, &config.groups, node);
    let slots = u64::try_from(slots).unwrap_or(u64::MAX);
    let mut found = vec![connections(pools, facts)];
    found.push(used(Code::Slots, "slots", "max_replication_slots", slots, facts.max_slots));
    found.push(used(Code::Senders, "senders", "max_wal_senders", facts.senders, facts.max_senders));
    found.extend(workers(facts));
    found
}

/// At least so many: databases and users that the file does not name come on top.
fn pools(gateway: &GatewayConfig, groups: &Groups, node: &NodeName) -> Pools {
    if gateway.listen.is_empty() {
        return Pools::default();
    }
    let any_database = DatabaseConfig::default();
    let any_user = UserConfig::default();
    let or_any = |empty: bool| usize::from(empty);
    let databases = gateway
        .databases
        .values()
        .chain([&any_database].into_iter().take(or_any(gateway.databases.is_empty())));
    let mut pools = Pools::default();
    for database in databases.filter(|database| goes_to(database, groups, node)) {
        let users = gateway
            .users
            .values()
            .chain([&any_user].into_iter().take(or_any(gateway.users.is_empty())));
        for user in users {
            let size = gateway.pool.with(&database.pool).with(&user.pool).size;
            pools.count += 1;
            pools.connections += u64::try_from(size).unwrap_or(u64::MAX / 1_000_000);
        }
    }
    pools
}

/// Any node of the group may become the writer or be read.
fn goes_to(database: &DatabaseConfig, groups: &Groups, node: &NodeName) -> bool {
    if let Target::Node(only) = &database.target {
        return only == node;
    }
    let group = database.group.as_deref().and_then(|group| groups.get(group));
    group.is_none_or(|members| members.contains(node))
}

fn connections(pools: Pools, facts: &ServerFacts) -> Finding {
    let subject = "connections";
    let free = facts.max_connections.saturating_sub(facts.reserved);
    let wanted = pools.connections + OWN;
    if wanted > free {
        let size = free.saturating_sub(OWN).checked_div(pools.count).unwrap_or(0).max(1);
        // Tens are what people choose.
        let enough = (wanted + facts.reserved).div_ceil(10) * 10;
        let lower = match pools.count {
            0 => String::new(),
            _ => format!(", or lower `gateway.pool.size` to {size}"),
        };
        return Finding::warning(
            Code::Connections,
            subject,
            format!(
                "the gateway's pools may take {} and Herdsman itself {OWN}; `max_connections` ({}) leaves {free} to ordinary roles",
                pools.connections, facts.max_connections
            ),
            format!(
                "run `ALTER SYSTEM SET max_connections = {enough}` and restart it, standbys before their primary{lower}"
            ),
        );
    }
    let says = format!("{} of {} in use", facts.connections, facts.max_connections);
    if facts.connections * 100 >= facts.max_connections * BUSY_PERCENT && facts.max_connections > 0
    {
        return Finding::warning(
            Code::Connections,
            subject,
            says,
            "close what is idle, have applications go through the gateway's pools, or raise `max_connections` and restart it",
        );
    }
    Finding::ok(Code::Connections, subject, format!("{says}; the pools may take {wanted}"))
}

fn used(code: Code, subject: &str, setting: &str, used: u64, max: u64) -> Finding {
    let says = format!("{used} of {max} in use ({setting})");
    if used < max {
        return Finding::ok(code, subject, says);
    }
    let enough = used.max(max) + 5;
    let fix = format!(
        "take away what nobody needs, or run `ALTER SYSTEM SET {setting} = {enough}` and restart it, standbys before their primary"
    );
    Finding::warning(code, subject, format!("{says}: no standby or stream can be added"), fix)
}

/// Each subscription takes a worker, and all of them together one more.
fn workers(facts: &ServerFacts) -> Option<Finding> {
    if facts.subscriptions == 0 {
        return None;
    }
    let room = facts.max_apply_workers.min(facts.max_workers.saturating_sub(1));
    let says = format!("{} for subscriptions, of which there are {}", room, facts.subscriptions);
    if facts.subscriptions <= room {
        return Some(Finding::ok(Code::Workers, "workers", says));
    }
    let wanted = facts.subscriptions + 1;
    let fix = format!(
        "run `ALTER SYSTEM SET max_logical_replication_workers = {wanted}` and `ALTER SYSTEM SET max_worker_processes = {}`, and restart it",
        facts.max_workers.max(wanted + 4)
    );
    Some(Finding::warning(Code::Workers, "workers", format!("{says}: some stand still"), fix))
}

/// Each client and each connection to a server is an open file.
pub(super) fn open_files(config: &Config, limit: Option<u64>) -> Option<Finding> {
    let gateway = &config.gateway;
    if gateway.listen.is_empty() {
        return None;
    }
    let servers: u64 =
        config.nodes.keys().map(|node| pools(gateway, &config.groups, node).connections).sum();
    let clients = u64::try_from(gateway.max_clients).unwrap_or(u64::MAX / 2);
    files(clients, servers + OWN_FILES, limit)
}

fn files(clients: u64, others: u64, limit: Option<u64>) -> Option<Finding> {
    let wanted = clients.saturating_add(others);
    let Some(limit) = limit else {
        return Some(Finding::ok(Code::OpenFiles, "open files", "not limited"));
    };
    if limit >= wanted {
        let says = format!("{limit} may be open, {wanted} are needed at most");
        return Some(Finding::ok(Code::OpenFiles, "open files", says));
    }
    let lower = match limit.saturating_sub(others) {
        0 => String::new(),
        room => format!(", or lower `gateway.max_clients` to {room}"),
    };
    Some(Finding::warning(
        Code::OpenFiles,
        "open files",
        format!(
            "what is started from here may open {limit}; {clients} clients (`gateway.max_clients`) and the rest need {wanted}"
        ),
        format!(
            "start it after `ulimit -n {wanted}`, or with `LimitNOFILE={wanted}` in its systemd unit{lower}"
        ),
    ))
}

/// Clients that come at once, as after a restart, wait at the socket: the gateway lets this many, and the kernel no more than
/// its own limit.
const WAITING: u64 = 4096;

pub(super) fn waiting(config: &Config, limit: Option<u64>) -> Option<Finding> {
    let (gateway, limit) = (&config.gateway, limit?);
    if gateway.listen.is_empty() {
        return None;
    }
    let wanted = u64::try_from(gateway.max_clients).unwrap_or(u64::MAX).min(WAITING);
    let subject = "waiting clients";
    if limit >= wanted {
        let says = format!("{limit} may wait to be let in, {wanted} are to be expected at most");
        return Some(Finding::ok(Code::WaitingClients, subject, says));
    }
    let says = format!(
        "the kernel lets {limit} clients wait to be let in (net.core.somaxconn), and {wanted} may come at once: some are refused or are let in late"
    );
    let fix = format!(
        "run `sysctl -w net.core.somaxconn={wanted}`, keep it in /etc/sysctl.d, and start Herdsman again"
    );
    Some(Finding::warning(Code::WaitingClients, subject, says, fix))
}

#[cfg(test)]
mod tests;
