//! `SHOW STATS`, `STATS_TOTALS`, `STATS_AVERAGES` by database, and `TOTALS` of all.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::header;
use crate::admin::reply::{Cell, Column, Row};
use crate::admin::view::View;
use crate::stats::{Averages, Stretch, Totals};

pub(super) const STATS: &[Column] = header![
    t "database", i "total_server_assignment_count", i "total_xact_count", i "total_query_count", i "total_received",
    i "total_sent", i "total_xact_time", i "total_query_time", i "total_wait_time", i "total_client_parse_count",
    i "total_server_parse_count", i "total_bind_count", i "avg_server_assignment_count", i "avg_xact_count",
    i "avg_query_count", i "avg_recv", i "avg_sent", i "avg_xact_time", i "avg_query_time", i "avg_wait_time",
    i "avg_client_parse_count", i "avg_server_parse_count", i "avg_bind_count"
];

pub(super) const TOTALS: &[Column] = header![
    t "database", i "server_assignment_count", i "xact_count", i "query_count", i "bytes_received", i "bytes_sent",
    i "xact_time", i "query_time", i "wait_time", i "client_parse_count", i "server_parse_count", i "bind_count"
];

// The last three have another form than the others in PgBouncer too.
pub(super) const AVERAGES: &[Column] = header![
    t "database", i "server_assignment_count", i "xact_count", i "query_count", i "bytes_received", i "bytes_sent",
    i "xact_time", i "query_time", i "wait_time", i "avg_client_parse_count", i "avg_server_parse_count",
    i "avg_bind_count"
];

pub(super) const SUMS: &[Column] = header![t "name", i "value"];

/// Names in `SHOW TOTALS`, after `total_` and `avg_`, in the order of [`sums_of`] and [`averages_of`].
const NAMES: [&str; 11] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
];

pub(super) fn stats(view: &View) -> Vec<Row> {
    rows(view, |done| [sums_of(done.totals), averages_of(done.recent.averages())].concat())
}

pub(super) fn totals(view: &View) -> Vec<Row> {
    rows(view, |done| sums_of(done.totals).into())
}

pub(super) fn averages(view: &View) -> Vec<Row> {
    rows(view, |done| averages_of(done.recent.averages()).into())
}

pub(super) fn sums(view: &View) -> Vec<Row> {
    let mut all = Done::default();
    for done in by_database(view).values() {
        all.add(done.totals, done.recent);
    }
    let rows = |prefix: &'static str, values: [Cell; 11]| {
        let named = NAMES.into_iter().zip(values);
        named.map(move |(name, value)| vec![format!("{prefix}_{name}").into(), value])
    };
    let totals = rows("total", sums_of(all.totals));
    totals.chain(rows("avg", averages_of(all.recent.averages()))).collect()
}

#[derive(Clone, Copy, Default)]
struct Done {
    totals: Totals,
    recent: Stretch,
}

impl Done {
    fn add(&mut self, totals: Totals, recent: Stretch) {
        self.totals = self.totals.plus(totals);
        self.recent = self.recent.plus(recent);
    }
}

fn by_database(view: &View) -> BTreeMap<Arc<str>, Done> {
    let mut databases: BTreeMap<Arc<str>, Done> = BTreeMap::new();
    for pool in &view.pools {
        databases.entry(Arc::clone(&pool.database)).or_default().add(pool.totals, pool.recent);
    }
    databases
}

fn rows(view: &View, cells: impl Fn(&Done) -> Vec<Cell>) -> Vec<Row> {
    let row =
        |(database, done): (&Arc<str>, &Done)| [vec![Cell::from(database)], cells(done)].concat();
    by_database(view).iter().map(row).collect()
}

fn sums_of(totals: Totals) -> [Cell; 11] {
    [
        totals.assignments,
        totals.transactions,
        totals.queries,
        totals.received,
        totals.sent,
        totals.transaction_time,
        totals.query_time,
        totals.wait_time,
        totals.client_parses,
        totals.server_parses,
        totals.binds,
    ]
    .map(Cell::from)
}

fn averages_of(averages: Averages) -> [Cell; 11] {
    let rates = averages.per_second;
    [
        rates.assignments.into(),
        rates.transactions.into(),
        rates.queries.into(),
        rates.received.into(),
        rates.sent.into(),
        averages.transaction_time.into(),
        averages.query_time.into(),
        averages.wait_time.into(),
        rates.client_parses.into(),
        rates.server_parses.into(),
        rates.binds.into(),
    ]
}
