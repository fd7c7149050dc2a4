//! `SHOW DATABASES` and `SHOW USERS`.

use std::collections::BTreeSet;

use super::header;
use super::pools::mode;
use crate::admin::reply::{Cell, Column, Row};
use crate::admin::view::View;
use crate::config::Target;

pub(super) const DATABASES: &[Column] = header![
    t "name", t "host", i "port", t "database", t "force_user", i "pool_size", i "min_pool_size", i "reserve_pool_size",
    i "server_lifetime", t "pool_mode", t "load_balance_hosts", i "max_connections", i "current_connections",
    i "max_client_connections", i "current_client_connections", i "paused", i "disabled"
];

pub(super) const USERS: &[Column] = header![
    t "name", t "pool_size", t "reserve_pool_size", t "pool_mode", i "max_user_connections", i "current_connections",
    i "max_user_client_connections", i "current_client_connections"
];

/// The databases of the configuration, and those that are in use besides.
pub(super) fn databases(view: &View) -> Vec<Row> {
    let named = view.config.databases.keys().map(String::as_str);
    let used = view.pools.iter().map(|pool| &*pool.database);
    let entered = view.clients.iter().map(|client| &*client.0.pools.database);
    let names: BTreeSet<&str> = named.chain(used).chain(entered).collect();
    names.into_iter().map(|name| database(view, name)).collect()
}

fn database(view: &View, name: &str) -> Row {
    let entry = view.config.databases.get(name);
    let general = &view.config.pool;
    let pool = entry.map_or_else(|| general.clone(), |entry| general.with(&entry.pool));
    let open = view.pools.iter().filter(|pool| *pool.database == *name).map(|pool| pool.open());
    let clients = view.clients.iter().filter(|client| *client.0.pools.database == *name);
    // What the servers call it, where that is known.
    let first = clients.clone().next().map(|client| client.0.pools.rules.load().dbname.clone());
    let dbname = entry.and_then(|entry| entry.dbname.clone()).or(first);
    let (hosts, port) = hosts(view, entry.map(|entry| &entry.target));
    vec![
        name.to_owned().into(),
        hosts.into(),
        port.into(),
        dbname.unwrap_or_else(|| name.to_owned()).into(),
        Cell::Null,
        pool.size.into(),
        Cell::Int(0),
        Cell::Int(0),
        pool.server_lifetime.as_secs().into(),
        entry.and_then(|entry| entry.pool.mode).map(mode).into(),
        Cell::Null,
        // Each pool has its own bound, a database as such has none.
        Cell::Int(0),
        open.sum::<u64>().into(),
        entry
            .and_then(|entry| entry.max_clients)
            .unwrap_or(view.config.max_database_clients)
            .into(),
        clients.count().into(),
        view.is_paused(name).into(),
        view.is_disabled(name).into(),
    ]
}

/// The hosts a database may be on, and the port of the first.
fn hosts(view: &View, target: Option<&Target>) -> (String, Option<u16>) {
    let on = |name: &str| match target {
        Some(Target::Node(node)) => node.as_str() == name,
        _ => true,
    };
    let nodes: Vec<_> = view.nodes.iter().filter(|node| on(&node.name)).collect();
    let hosts: Vec<&str> = nodes.iter().map(|node| &*node.host).collect();
    (hosts.join(","), nodes.first().map(|node| node.port))
}

/// The users of the configuration, and those that are logged in besides.
pub(super) fn users(view: &View) -> Vec<Row> {
    let config = &view.config;
    let named = config.users.keys().chain(&config.admins).chain(&config.stats_users);
    let used = view.pools.iter().map(|pool| &*pool.user);
    let entered = view.clients.iter().map(|client| &*client.0.pools.user);
    let names: BTreeSet<&str> = named.map(String::as_str).chain(used).chain(entered).collect();
    names.into_iter().map(|name| user(view, name)).collect()
}

fn user(view: &View, name: &str) -> Row {
    let entry = view.config.users.get(name);
    let pool = entry.map(|user| &user.pool);
    let open = view.pools.iter().filter(|pool| *pool.user == *name).map(|pool| pool.open());
    let clients = view.clients.iter().filter(|client| *client.0.pools.user == *name).count();
    let size = pool.and_then(|pool| pool.size);
    vec![
        name.to_owned().into(),
        size.map_or_else(String::new, |size| size.to_string()).into(),
        "".into(),
        pool.and_then(|pool| pool.mode).map(mode).into(),
        Cell::Int(0),
        open.sum::<u64>().into(),
        entry.and_then(|user| user.max_clients).unwrap_or(view.config.max_user_clients).into(),
        clients.into(),
    ]
}
