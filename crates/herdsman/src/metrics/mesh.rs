//! The mesh's: how far every member is with what every other wrote.

use std::fmt::Error;
use std::sync::Arc;

use herdsman_mesh::status::{LinkStatus, Status, TargetStatus};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::write::{Labels, Writer, flag};

#[derive(Debug)]
pub(super) struct Mesh(pub(super) Arc<Status>);

impl Collector for Mesh {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut to = Writer(encoder);
        to.gauges(
            ("herdsman_mesh_target_working", None),
            "1 while this process applies to the member",
            self.targets(|target| flag(target.state == "working")),
        )?;
        to.counters(
            ("herdsman_mesh_conflicts", None),
            "Conflicts recorded on the member",
            self.targets(|target| target.conflicts),
        )?;
        to.gauges(
            ("herdsman_mesh_link_streaming", None),
            "1 while what the source writes comes to the target",
            self.links(|link| flag(link.state == "streaming")),
        )?;
        to.gauges(
            ("herdsman_mesh_link_lag", Some(Unit::Bytes)),
            "Log of the source that is not applied to the target",
            self.links(|link| link.lag_bytes),
        )?;
        to.gauges(
            ("herdsman_mesh_link_lag", Some(Unit::Seconds)),
            "Age of the oldest change that is not applied; where nothing is heard, of the last word",
            self.links(|link| link.lag_seconds),
        )?;
        to.counters(
            ("herdsman_mesh_link_rows", None),
            "Changes applied",
            self.links(|link| link.rows),
        )?;
        to.counters(
            ("herdsman_mesh_link_transactions", None),
            "Transactions applied",
            self.links(|link| link.transactions),
        )
    }
}

impl Mesh {
    fn targets<V>(
        &self,
        value: impl Fn(&TargetStatus) -> V,
    ) -> impl Iterator<Item = (Labels<'_>, V)> {
        let targets = self.0.targets.iter();
        targets.map(move |(name, target)| (vec![("node", name.as_str())], value(target)))
    }

    fn links<V>(&self, value: impl Fn(&LinkStatus) -> V) -> impl Iterator<Item = (Labels<'_>, V)> {
        let links = self.0.targets.iter().flat_map(|(target, status)| {
            status.links.iter().map(move |(source, link)| (target, source, link))
        });
        links.map(move |(target, source, link)| {
            (vec![("source", source.as_str()), ("target", target.as_str())], value(link))
        })
    }
}
