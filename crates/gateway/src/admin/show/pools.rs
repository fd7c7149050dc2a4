//! `SHOW POOLS`: one row for each database and user. `SHOW NODE_POOLS`: one for each of their nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::header;
use super::sockets::seconds_and_micros;
use crate::admin::reply::{Cell, Column, Row};
use crate::admin::view::{PoolView, View};
use crate::client::State;
use crate::config::PoolMode;
use crate::stats::{ServerCounts, Times};

pub(super) const POOLS: &[Column] = header![
    t "database", t "user", i "cl_active", i "cl_waiting", i "cl_active_cancel_req", i "cl_waiting_cancel_req",
    i "sv_active", i "sv_active_cancel", i "sv_being_canceled", i "sv_idle", i "sv_used", i "sv_tested", i "sv_login",
    i "maxwait", i "maxwait_us", t "pool_mode", t "load_balance_hosts"
];

pub(super) const NODE_POOLS: &[Column] = header![
    t "database", t "user", t "node", i "sv_active", i "sv_idle", i "sv_login", i "xact_count", i "query_count",
    i "error_count", i "bytes_received", i "bytes_sent", i "avg_xact_count", i "xact_p50", i "xact_p99", i "wait_count",
    i "wait_p50", i "wait_p99"
];

/// What the clients of one database and user do, and its connections on all nodes.
#[derive(Default)]
struct Sum {
    active: u64,
    waiting: u64,
    longest: Duration,
    servers: ServerCounts,
    mode: Option<PoolMode>,
}

pub(super) fn pools(view: &View) -> Vec<Row> {
    let mut sums: BTreeMap<(Arc<str>, Arc<str>), Sum> = BTreeMap::new();
    for client in &view.clients {
        let card = &client.0;
        let key = (Arc::clone(&card.pools.database), Arc::clone(&card.pools.user));
        let sum = sums.entry(key).or_default();
        let (state, since) = card.state();
        if state == State::Waiting {
            sum.waiting += 1;
            sum.longest = sum.longest.max(Duration::from_millis(view.now.saturating_sub(since)));
        } else {
            sum.active += 1;
        }
        if sum.mode.is_none() {
            sum.mode = Some(card.pools.rules.load().pool.mode);
        }
    }
    for pool in &view.pools {
        let sum = sums.entry((Arc::clone(&pool.database), Arc::clone(&pool.user))).or_default();
        sum.mode = Some(pool.mode);
        sum.servers = sum.servers.plus(pool.servers);
    }
    sums.into_iter().map(|((database, user), sum)| row(&database, &user, &sum)).collect()
}

fn row(database: &Arc<str>, user: &Arc<str>, sum: &Sum) -> Row {
    let (maxwait, maxwait_us) = seconds_and_micros(sum.longest);
    let ServerCounts { active, idle, login, being_cancelled } = sum.servers;
    vec![
        database.into(),
        user.into(),
        sum.active.into(),
        sum.waiting.into(),
        // Cancel requests go over connections of their own, which are no clients here.
        Cell::Int(0),
        Cell::Int(0),
        active.into(),
        Cell::Int(0),
        being_cancelled.into(),
        idle.into(),
        // Connections are looked at when they are taken, not set aside for it.
        Cell::Int(0),
        Cell::Int(0),
        login.into(),
        maxwait,
        maxwait_us,
        sum.mode.map(mode).into(),
        Cell::Null,
    ]
}

pub(super) fn mode(mode: PoolMode) -> &'static str {
    match mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
        PoolMode::Statement => "statement",
    }
}

pub(super) fn node_pools(view: View) -> impl Iterator<Item = Row> + Send + use<> {
    view.pools.into_iter().map(|pool: PoolView| {
        let percentile = |times: &Times, per_mille| Cell::from(times.percentile(per_mille));
        let ServerCounts { active, idle, login, .. } = pool.servers;
        vec![
            (&pool.database).into(),
            (&pool.user).into(),
            (&pool.node).into(),
            active.into(),
            idle.into(),
            login.into(),
            pool.totals.transactions.into(),
            pool.totals.queries.into(),
            pool.totals.errors.into(),
            pool.totals.received.into(),
            pool.totals.sent.into(),
            pool.recent.averages().per_second.transactions.into(),
            percentile(&pool.transaction, 500),
            percentile(&pool.transaction, 990),
            pool.wait.count().into(),
            percentile(&pool.wait, 500),
            percentile(&pool.wait, 990),
        ]
    })
}
