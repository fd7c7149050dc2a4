//! The gateway's: clients, pools, and how long they wait.

use std::fmt::Error;

use herdsman_gateway::{GatewayStatistics, PoolStatistics, Times};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use serde_json::{Value, json};

use super::write::{Histogram, Labels, Writer};

#[derive(Debug)]
pub(super) struct Gateway(pub(super) GatewayStatistics);

/// Bounds of the histograms in microseconds, powers of two from a sixteenth of a millisecond to about half a minute: what
/// the gateway's own buckets tell exactly.
const BOUNDS: std::ops::RangeInclusive<u32> = 6..=25;

impl Collector for Gateway {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut to = Writer(encoder);
        let clients = self.0.clients;
        let states = [
            ("login", clients.login),
            ("idle", clients.idle),
            ("waiting", clients.waiting),
            ("active", clients.active),
            ("in_transaction", clients.in_transaction),
        ];
        to.gauges(
            ("herdsman_gateway_clients", None),
            "Clients, by what they are doing",
            states.map(|(state, count)| (vec![("state", state)], count)),
        )?;
        self.servers(&mut to)?;
        self.work(&mut to)?;
        self.times(&mut to)
    }
}

impl Gateway {
    fn servers(&self, to: &mut Writer<'_>) -> Result<(), Error> {
        to.gauges(
            ("pgbouncer_pools_server_active_connections", None),
            "Server connections in the hands of a client",
            self.pools(|pool| pool.servers.active),
        )?;
        to.gauges(
            ("pgbouncer_pools_server_idle_connections", None),
            "Server connections that are free",
            self.pools(|pool| pool.servers.idle),
        )?;
        to.gauges(
            ("pgbouncer_pools_server_login_connections", None),
            "Server connections being opened",
            self.pools(|pool| pool.servers.login),
        )
    }

    fn work(&self, to: &mut Writer<'_>) -> Result<(), Error> {
        to.counters(
            ("pgbouncer_stats_sql_transactions_pooled", None),
            "Transactions",
            self.pools(|pool| pool.totals.transactions),
        )?;
        to.counters(
            ("pgbouncer_stats_queries_pooled", None),
            "Statements",
            self.pools(|pool| pool.totals.queries),
        )?;
        to.counters(
            ("herdsman_gateway_errors", None),
            "Errors that servers reported",
            self.pools(|pool| pool.totals.errors),
        )?;
        to.counters(
            ("pgbouncer_stats_received", Some(Unit::Bytes)),
            "From clients, passed on to servers",
            self.pools(|pool| pool.totals.received),
        )?;
        to.counters(
            ("pgbouncer_stats_sent", Some(Unit::Bytes)),
            "From servers, passed on to clients",
            self.pools(|pool| pool.totals.sent),
        )?;
        to.counters(
            ("pgbouncer_stats_queries_duration", Some(Unit::Seconds)),
            "Time in which servers worked on statements",
            self.pools(|pool| seconds(pool.totals.query_time)),
        )?;
        to.counters(
            ("pgbouncer_stats_server_in_transaction", Some(Unit::Seconds)),
            "Time spent in transactions",
            self.pools(|pool| seconds(pool.totals.transaction_time)),
        )?;
        to.counters(
            ("pgbouncer_stats_client_wait", Some(Unit::Seconds)),
            "Time clients waited for a server connection",
            self.pools(|pool| seconds(pool.totals.wait_time)),
        )
    }

    fn times(&self, to: &mut Writer<'_>) -> Result<(), Error> {
        to.histograms(
            ("herdsman_gateway_wait", Some(Unit::Seconds)),
            "How long a client waited for a server connection",
            self.histograms(|pool| &pool.wait),
        )?;
        to.histograms(
            ("herdsman_gateway_transaction", Some(Unit::Seconds)),
            "How long a transaction took",
            self.histograms(|pool| &pool.transaction),
        )
    }

    fn pools<V>(
        &self,
        value: impl Fn(&PoolStatistics) -> V,
    ) -> impl Iterator<Item = (Labels<'_>, V)> {
        self.0.pools.iter().map(move |pool| (labels(pool), value(pool)))
    }

    fn histograms(
        &self,
        times: impl Fn(&PoolStatistics) -> &Times,
    ) -> impl Iterator<Item = (Labels<'_>, Histogram)> {
        self.0.pools.iter().map(move |pool| {
            let times = times(pool);
            (labels(pool), (seconds(times.sum()), times.count(), buckets(times)))
        })
    }
}

/// What `/v2/overview` tells. Beside the percentiles of all times since the start are the counts that lead to them, so
/// that who asks twice can tell those of the time between.
pub(super) fn document(statistics: &GatewayStatistics) -> Value {
    let pools = statistics.pools.iter().map(|pool| {
        let mut told = serde_json::to_value(pool).unwrap_or_default();
        for (name, times) in [("wait", &pool.wait), ("transaction", &pool.transaction)] {
            if let Some(told) = told.get_mut(name).and_then(Value::as_object_mut) {
                told.insert("at_most".to_owned(), at_most(times));
            }
        }
        told
    });
    json!({"clients": statistics.clients, "pools": pools.collect::<Vec<_>>()})
}

/// How many took at most so many microseconds.
fn at_most(times: &Times) -> Value {
    let bounds = BOUNDS.map(|power| {
        let bound = (1_u64 << power) - 1;
        json!([bound, times.at_most(bound)])
    });
    bounds.collect()
}

fn labels(pool: &PoolStatistics) -> Labels<'_> {
    vec![("database", &pool.database), ("user", &pool.user), ("node", &pool.node)]
}

/// How many fell between each bound and the one before it.
fn buckets(times: &Times) -> Vec<(f64, u64)> {
    let mut below = 0;
    let mut buckets: Vec<_> = BOUNDS
        .map(|power| {
            let bound = 1_u64 << power;
            let within = times.at_most(bound - 1);
            let between = within - below;
            below = within;
            (seconds(bound), between)
        })
        .collect();
    buckets.push((f64::INFINITY, times.count() - below));
    buckets
}

fn seconds(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64()
}
