//! The watcher's: who is what, and how far behind.

use std::fmt::Error;

use herdsman_node::{NodeName, Role};
use herdsman_watch::{NodeView, Topology, Verdict};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::write::{Labels, Writer, flag};

/// A topology with the ages of its evidence filled in.
#[derive(Debug)]
pub(super) struct Herd(pub(super) Topology);

const ROLES: [(Role, &str); 3] =
    [(Role::Primary, "primary"), (Role::Standby, "standby"), (Role::Unavailable, "unavailable")];

impl Collector for Herd {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut to = Writer(encoder);
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        to.gauges(("herdsman_build_info", None), "Which Herdsman this is", [(version, 1_u32)])?;
        self.verdict(&mut to)?;
        self.roles(&mut to)?;
        self.places(&mut to)
    }
}

impl Herd {
    fn verdict(&self, to: &mut Writer<'_>) -> Result<(), Error> {
        let state = match &self.0.verdict {
            Verdict::Primary { .. } => "primary",
            Verdict::SplitBrain { .. } => "split_brain",
            Verdict::None { .. } => "none",
        };
        let states = ["primary", "split_brain", "none"];
        to.gauges(
            ("herdsman_verdict", None),
            "1 for the verdict that holds: a proven primary, several nodes that claim the role, or nobody",
            states.map(|one| (vec![("state", one)], flag(one == state))),
        )?;
        to.counters(
            ("herdsman_primary_changes", None),
            "How often another node (or timeline) became the proven primary",
            [(Labels::new(), self.0.term)],
        )
    }

    fn roles(&self, to: &mut Writer<'_>) -> Result<(), Error> {
        let roles = self.nodes(|_, node| Some(node.role)).flat_map(|(labels, found)| {
            ROLES.map(|(role, name)| {
                let mut labels = labels.clone();
                labels.push(("role", name));
                (labels, flag(role == found))
            })
        });
        to.gauges(("herdsman_node_role", None), "1 for what a node is seen to be", roles)?;
        to.gauges(
            ("pg_up", None),
            "1 while the server answers",
            self.nodes(|_, node| Some(flag(node.answers()))),
        )?;
        to.gauges(
            ("pg_replication_is_replica", None),
            "1 for a server that is in recovery",
            self.nodes(|_, node| node.answers().then(|| flag(node.role == Role::Standby))),
        )?;
        to.gauges(
            ("herdsman_node_primary", None),
            "1 for the proven primary",
            self.nodes(|name, _| Some(flag(self.0.primary() == Some(name)))),
        )?;
        to.gauges(
            ("herdsman_node_readable", None),
            "1 while reads may be sent to the node",
            self.nodes(|_, node| Some(flag(node.readable))),
        )?;
        to.gauges(
            ("herdsman_node_fenced", None),
            "1 for an old primary that must not be used",
            self.nodes(|_, node| Some(flag(node.fenced))),
        )
    }

    fn places(&self, to: &mut Writer<'_>) -> Result<(), Error> {
        to.gauges(
            ("pg_replication_lag", Some(Unit::Seconds)),
            "Age of the oldest change the standby has not replayed; 0 when it has all",
            self.nodes(|_, node| node.lag.map(|lag| lag.seconds)),
        )?;
        to.gauges(
            ("pg_replication_lag", Some(Unit::Bytes)),
            "Log the standby has not replayed",
            self.nodes(|_, node| node.lag.map(|lag| lag.bytes)),
        )?;
        to.counters(
            ("herdsman_node_log_position", Some(Unit::Bytes)),
            "Where in the log the node is: written (primary) or replayed (standby)",
            self.nodes(|_, node| node.lsn.map(|lsn| lsn.0)),
        )?;
        to.gauges(
            ("herdsman_node_timeline", None),
            "The timeline the node writes or follows",
            self.nodes(|_, node| node.timeline.map(|timeline| timeline.0)),
        )?;
        to.gauges(
            ("herdsman_node_evidence_age", Some(Unit::Seconds)),
            "How long ago the node last told about itself",
            self.nodes(|_, node| node.evidence_age_seconds),
        )?;
        to.gauges(
            ("herdsman_node_latency", Some(Unit::Seconds)),
            "How long the node takes to answer the watcher, smoothed over a few answers",
            self.nodes(|_, node| node.latency_seconds),
        )
    }

    /// A sample for each node that has one.
    fn nodes<'a, V: 'a>(
        &'a self,
        mut value: impl FnMut(&'a NodeName, &'a NodeView) -> Option<V> + 'a,
    ) -> impl Iterator<Item = (Labels<'a>, V)> {
        self.0.nodes.iter().filter_map(move |(name, node)| {
            value(name, node).map(|value| (vec![("node", name.as_str())], value))
        })
    }
}
