//! What every set tells the `metrics` facade, if the application has installed a recorder.
//!
//! Published from the set's own counters twice a second, so that no statement pays for it and it does not matter whether
//! the recorder or the set comes first.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::set::Inner;
use crate::statistics::{NodeRole, Statistics};

/// Says what each metric is. Recorders keep the first description they get, so it may be said again.
pub(crate) fn describe() {
    describe_counter!("herdsman_route_queries_total", "Statements sent to the node.");
    describe_counter!(
        "herdsman_route_errors_total",
        "Errors the node or the way to it is to blame for."
    );
    describe_counter!(
        "herdsman_route_connection_errors_total",
        "Errors in which the connection failed."
    );
    describe_counter!(
        "herdsman_route_statement_errors_total",
        "Errors of the statements themselves."
    );
    describe_counter!(
        "herdsman_route_state_changes_total",
        "Times the node went offline or came back."
    );
    describe_gauge!("herdsman_route_online", "1 if the node answers, else 0.");
    describe_gauge!("herdsman_route_writer", "1 if the node is written to, else 0.");
    describe_gauge!("herdsman_route_reader", "1 if the node is read, else 0.");
    describe_gauge!("herdsman_route_in_flight", "Statements the node is carrying out.");
    describe_gauge!("herdsman_route_pool_connections", "Connections of the node's pool.");
    describe_gauge!(
        "herdsman_route_pool_idle_connections",
        "Connections of the node's pool that lie idle."
    );
    let latency = "Time below which the share `quantile` of all statements stayed.";
    describe_gauge!("herdsman_route_latency_seconds", Unit::Seconds, latency);
}

/// Publishes the set's statistics. Labels: `set` (the group's name, empty for the whole set) and `node`.
pub(crate) fn publish(inner: &Inner) {
    for (node, now) in Statistics::of(inner).nodes {
        let labels = [("set", inner.name.clone()), ("node", node.as_str().to_owned())];
        let role = |roles: [NodeRole; 2]| if roles.contains(&now.role) { 1.0 } else { 0.0 };
        counter!("herdsman_route_queries_total", &labels).absolute(now.query_count);
        counter!("herdsman_route_errors_total", &labels).absolute(now.error_count);
        counter!("herdsman_route_connection_errors_total", &labels)
            .absolute(now.connection_error_count);
        counter!("herdsman_route_statement_errors_total", &labels)
            .absolute(now.statement_error_count);
        counter!("herdsman_route_state_changes_total", &labels).absolute(now.state_changes);
        gauge!("herdsman_route_online", &labels).set(f64::from(u8::from(now.online)));
        gauge!("herdsman_route_writer", &labels).set(role([NodeRole::Writer, NodeRole::Both]));
        gauge!("herdsman_route_reader", &labels).set(role([NodeRole::Reader, NodeRole::Both]));
        gauge!("herdsman_route_in_flight", &labels).set(f64::from(now.in_flight));
        gauge!("herdsman_route_pool_connections", &labels).set(f64::from(now.pool_size));
        gauge!("herdsman_route_pool_idle_connections", &labels).set(f64::from(now.pool_idle));
        for (quantile, time) in [("0.5", now.latency_p50), ("0.99", now.latency_p99)] {
            let [set, node] = labels.clone();
            let labels = [set, node, ("quantile", quantile.to_owned())];
            if let Some(time) = time {
                gauge!("herdsman_route_latency_seconds", &labels).set(time.as_secs_f64());
            }
        }
    }
}
