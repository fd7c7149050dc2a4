//! Batches: the statements for them, their parameters, and what is remembered of them.

use super::late::apart;
use super::params::{Param, Versions};
use super::statements::Kind;
use super::tables::{NotReady, Ready};
use super::{Applier, LIMIT};
use crate::config::Mode;
use crate::error::MeshError;
use crate::group::{Group, TableBatch};
use crate::stamp::{NodeId, Stamp};

impl Applier {
    /// A statement for a batch's rows or tombstones.
    pub(super) async fn ready(
        &mut self,
        group: &Group,
        batch: &TableBatch,
        tombstones: bool,
        kind: Kind,
    ) -> Result<Option<Ready>, MeshError> {
        let rows = if tombstones { batch.tombstones() } else { batch.rows() };
        let Some(rows) = rows else { return Ok(None) };
        let ready = self.tables.ready(&self.session.client, batch.gone(), rows, kind);
        match tokio::time::timeout(LIMIT, ready).await {
            Ok(Ok(ready)) => Ok(Some(ready)),
            Ok(Err(problem)) => Err(self.not_ready(group, batch, problem)),
            Err(_) => Err(self.session.timed_out("prepare a statement", LIMIT)),
        }
    }

    fn not_ready(&self, group: &Group, batch: &TableBatch, problem: NotReady) -> MeshError {
        let (here, there) = (&self.member.name, self.name(group.source));
        let table = match batch.rows().or(batch.tombstones()) {
            Some(rows) if batch.rows().is_some() => rows.relation().to_string(),
            _ => batch.gone().to_owned(),
        };
        match problem {
            NotReady::NoTable => MeshError::refused(
                format!(
                    "changes of table {table} come from node `{there}`, and node `{here}` does not have it in the mesh"
                ),
                "create it there and run `herdsman mesh up`",
            ),
            NotReady::Column(missing) => {
                let (with, without) =
                    if missing.here { (here.as_str(), there) } else { (there, here.as_str()) };
                MeshError::refused(
                    format!(
                        "column `{}` of table {table} is on node `{with}` and not on node `{without}`",
                        missing.column
                    ),
                    "make the table the same on both, with `herdsman mesh ddl` on all nodes at once",
                )
            }
            NotReady::Sql(kind, source) => {
                self.session.failed(&format!("{} of {table}", kind.what()), source)
            }
        }
    }

    pub(super) fn name(&self, node: NodeId) -> &str {
        self.names.get(&node).map_or("?", String::as_str)
    }

    /// The parameters of a statement for these versions.
    pub(super) fn params<'b>(
        &self,
        batch: &TableBatch,
        versions: &'b Versions<'_>,
        tombstones: bool,
        kind: Kind,
        places: &[usize],
    ) -> Vec<Param<'b>> {
        let mut params = versions.params(places, kind.pairs());
        let overtaken = || {
            let numbers = versions.numbers();
            self.late.overtaken(batch.gone(), versions.rows, tombstones, &numbers)
        };
        match kind {
            Kind::Bury => {
                let held = if self.late.is_needed() {
                    overtaken()
                } else {
                    vec![Stamp::NONE; versions.len()]
                };
                let (micros, nodes) = apart(&held);
                params.push(Param::Longs(micros.into()));
                params.push(Param::Shorts(nodes.into()));
            }
            // What the writer saw says nothing of a held row that is later; that its writer knew this one does.
            Kind::Take | Kind::Clash if self.late.is_needed() => {
                let held = overtaken();
                if held.iter().any(|stamp| *stamp != Stamp::NONE) {
                    let seen = versions.numbers();
                    let seen = seen.iter().map(|row| versions.rows.seen(*row));
                    let seen: Vec<Stamp> =
                        held.iter().zip(seen).map(|(held, seen)| seen.max(*held)).collect();
                    let (micros, nodes) = apart(&seen);
                    let at = params.len().saturating_sub(2);
                    params.truncate(at);
                    params.push(Param::Longs(micros.into()));
                    params.push(Param::Shorts(nodes.into()));
                }
            }
            _ => {}
        }
        if kind.records() && self.mode == Mode::Untouched {
            params.push(versions.images());
        }
        params
    }

    /// These are committed: what their writers had seen may be asked for.
    pub(super) fn remember(&mut self, groups: &[Group]) {
        if !self.late.is_needed() {
            return;
        }
        for group in groups.iter().filter(|group| group.source != self.member.id) {
            for batch in &group.tables {
                if let Some(rows) = batch.rows() {
                    self.late.applied(batch.gone(), rows, &Versions::new(rows).numbers());
                }
            }
        }
    }
}
