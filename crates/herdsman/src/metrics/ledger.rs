//! The ledger's: how far each node is with the log.

use std::collections::BTreeMap;
use std::fmt::Error;

use herdsman_ledger::engine::Tally;
use herdsman_ledger::node::Engine;
use herdsman_ledger::requests::RequestTally;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use serde_json::{Value, json};

use super::write::{Labels, Writer, flag};

/// A ledger that runs, at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct LedgerNumbers {
    /// The place of the next entry, as far as it is known.
    pub(crate) end: Option<u64>,
    pub(crate) nodes: Vec<LedgerNode>,
    /// Of requests by Kafka, where they are answered.
    pub(crate) requests: Option<RequestTally>,
}

/// One node of it.
#[derive(Clone, Debug)]
pub(crate) struct LedgerNode {
    pub(crate) name: String,
    pub(crate) engine: Engine,
    pub(crate) applied: u64,
    pub(crate) following: bool,
    pub(crate) fenced: bool,
    /// Seconds since the first entry came that it lacks.
    pub(crate) behind: f64,
    pub(crate) tally: Tally,
}

#[derive(Debug)]
pub(super) struct Ledger(pub(super) LedgerNumbers);

impl Collector for Ledger {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut to = Writer(encoder);
        let end = self.0.end;
        to.gauges(
            ("herdsman_ledger_end_entry", None),
            "Place of the next entry of the log",
            end.map(|end| (Vec::new(), end)),
        )?;
        to.gauges(
            ("herdsman_ledger_node_applied_entry", None),
            "Last entry in the node's data",
            self.nodes(|node| node.applied),
        )?;
        to.gauges(
            ("herdsman_ledger_node_lag_entries", None),
            "Entries of the log that the node lacks",
            end.into_iter().flat_map(|end| {
                self.nodes(move |node| end.saturating_sub(node.applied).saturating_sub(1))
            }),
        )?;
        to.gauges(
            ("herdsman_ledger_node_lag", Some(Unit::Seconds)),
            "Age of the first entry that the node lacks",
            self.nodes(|node| node.behind),
        )?;
        to.gauges(
            ("herdsman_ledger_node_following", None),
            "1 while the node follows the log",
            self.nodes(|node| flag(node.following)),
        )?;
        to.gauges(
            ("herdsman_ledger_node_fenced", None),
            "1 while the node may not go on until an operator has seen to it",
            self.nodes(|node| flag(node.fenced)),
        )?;
        to.counters(
            ("herdsman_ledger_transactions", None),
            "Transactions that the node has read, by what came of them",
            self.0.nodes.iter().flat_map(|node| {
                outcomes(&node.tally).map(|(outcome, count)| {
                    (vec![("node", node.name.as_str()), ("outcome", outcome)], count)
                })
            }),
        )?;
        let Some(RequestTally { done, failed, unreadable }) = self.0.requests else {
            return Ok(());
        };
        let requests = [("done", done), ("failed", failed), ("unreadable", unreadable)];
        to.counters(
            ("herdsman_ledger_requests", None),
            "Requests that came by Kafka, by what came of them",
            requests.map(|(outcome, count)| (vec![("outcome", outcome)], count)),
        )
    }
}

impl Ledger {
    fn nodes<V>(&self, value: impl Fn(&LedgerNode) -> V) -> impl Iterator<Item = (Labels<'_>, V)> {
        self.0.nodes.iter().map(move |node| {
            (vec![("node", node.name.as_str()), ("engine", engine(node.engine))], value(node))
        })
    }
}

fn engine(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => "postgres",
        Engine::MariaDb => "mariadb",
        Engine::Sqlite => "sqlite",
    }
}

impl LedgerNumbers {
    /// For the dashboard: numbers and states, nothing that a server said.
    pub(super) fn document(&self) -> Value {
        let node = |node: &LedgerNode| {
            let state = match (node.fenced, node.following) {
                (true, _) => "fenced",
                (false, true) => "following",
                (false, false) => "troubled",
            };
            let lacking = |end: u64| end.saturating_sub(node.applied).saturating_sub(1);
            let transactions: BTreeMap<_, _> = outcomes(&node.tally).into();
            json!({
                "name": node.name, "engine": node.engine.to_string(), "state": state, "applied": node.applied,
                "lag_entries": self.end.map(lacking), "lag_seconds": node.behind, "transactions": transactions,
            })
        };
        json!({ "end": self.end, "nodes": self.nodes.iter().map(node).collect::<Vec<_>>() })
    }
}

fn outcomes(tally: &Tally) -> [(&'static str, u64); 6] {
    [
        ("committed", tally.committed),
        ("conflict", tally.conflict),
        ("cancelled", tally.cancelled),
        ("refused", tally.refused),
        ("duplicate", tally.duplicate),
        ("skipped", tally.skipped),
    ]
}
