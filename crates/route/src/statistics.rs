//! What each node has done and how it is, as values an application can use.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use herdsman_node::NodeName;

use crate::health::Health;
use crate::set::Inner;

/// Statistics of a set, by node.
///
/// Printed, it is one line in the form Go prints a map: name, and in braces whether the node is online, how many
/// statements it was sent, how many errors it is to blame for, and how many of those were of the connection.
///
/// ```text
/// map[read0:{true 91214 3 0} write:{true 234 0 0}]
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Statistics {
    /// Every node of the set.
    pub nodes: BTreeMap<NodeName, NodeStatistics>,
}

/// Statistics of one node, since the set was built.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NodeStatistics {
    /// Whether it answers. A node that nobody has asked yet is not online.
    pub online: bool,
    /// What it is used for now.
    pub role: NodeRole,
    /// Statements sent to it.
    pub query_count: u64,
    /// Errors that it, or the way to it, is to blame for. A statement's own errors are not held against it.
    pub error_count: u64,
    /// Those of them in which the connection failed.
    pub connection_error_count: u64,
    /// Errors of the statements themselves: syntax, violated constraints, and the like.
    pub statement_error_count: u64,
    /// Statements it is carrying out.
    pub in_flight: u32,
    /// Connections of its pool.
    pub pool_size: u32,
    /// Connections of its pool that lie idle.
    pub pool_idle: u32,
    /// How long half of all statements took at most; none before the first.
    pub latency_p50: Option<Duration>,
    /// How long 99 of 100 statements took at most.
    pub latency_p99: Option<Duration>,
    /// How far it has written or replayed, where it may be asked.
    pub position: Option<herdsman_node::Lsn>,
    /// What last went wrong with it.
    pub last_error: Option<String>,
    /// How often it went offline or came back.
    pub state_changes: u64,
}

/// What a node is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeRole {
    /// It is written to.
    Writer,
    /// It is read.
    Reader,
    /// It is written to and read.
    Both,
    /// Neither, for now.
    None,
}

impl Statistics {
    pub(crate) fn of(inner: &Inner) -> Self {
        let plan = inner.plan.load();
        let nodes = inner.members.iter().enumerate().map(|(index, member)| {
            let counters = &member.counters;
            let seen = member.pulse.seen();
            let epoch = member.epoch();
            let [latency_p50, latency_p99] = counters.quantiles([0.5, 0.99]);
            let statistics = NodeStatistics {
                online: matches!(seen.health, Health::Online { .. }),
                role: match (plan.writes(index), plan.reads(index)) {
                    (true, true) => NodeRole::Both,
                    (true, false) => NodeRole::Writer,
                    (false, true) => NodeRole::Reader,
                    (false, false) => NodeRole::None,
                },
                query_count: counters.queries.load(Relaxed),
                error_count: counters.errors.load(Relaxed),
                connection_error_count: counters.connection_errors.load(Relaxed),
                statement_error_count: counters.statement_errors.load(Relaxed),
                in_flight: counters.in_flight.load(Relaxed),
                pool_size: epoch.as_ref().map_or(0, |epoch| epoch.pool.size()),
                pool_idle: epoch.as_ref().map_or(0, |epoch| epoch.idle()),
                latency_p50,
                latency_p99,
                position: seen.position.map(|position| position.lsn),
                last_error: counters.last_error(),
                state_changes: counters.state_changes.load(Relaxed),
            };
            (member.name.clone(), statistics)
        });
        Self { nodes: nodes.collect() }
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("map[")?;
        for (index, (name, node)) in self.nodes.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            let NodeStatistics { online, query_count, error_count, connection_error_count, .. } =
                node;
            write!(f, "{name}:{{{online} {query_count} {error_count} {connection_error_count}}}")?;
        }
        f.write_str("]")
    }
}
