//! What stands in the way of a stream, or soon will, each with what to do about it.
//!
//! [`gather`] asks the server, reading catalogues only: it consumes nothing, decodes nothing and changes nothing.
//! [`findings`] draws the conclusions. The decisions are in the second, which is pure.

mod failover;
mod gather;
mod report;
mod server;
mod slot;
mod tables;

use herdsman_node::Lsn;
use herdsman_wal::inspect::ServerFacts;
use herdsman_wal::publication::{Publication, TableFacts};
use herdsman_wal::slot::Slot;
use herdsman_wal::{Glob, InvalidGlob, PublicationName, SlotName};
use serde::Serialize;

pub use gather::{diagnose, gather};
pub(crate) use report::size;
pub use report::{Finding, Level, Report};

use crate::StreamConfig;
use crate::config::LagGuardConfig;

/// What is to be streamed: the part of the configuration that a diagnosis depends on.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The slot.
    pub slot: SlotName,
    /// The publication.
    pub publication: PublicationName,
    /// The tables to deliver.
    pub tables: Vec<Glob>,
    /// Those to leave out.
    pub exclude: Vec<Glob>,
    /// Whether what is missing is made when the stream starts.
    pub create: bool,
    /// Whether standbys are to keep the slot too.
    pub failover: bool,
    /// Whether heartbeats are to be written.
    pub heartbeat: bool,
    /// When to warn of log that is held back.
    pub lag_guard: LagGuardConfig,
    /// Up to where changes are known to be handled.
    pub handled: Option<Lsn>,
}

/// What was found out.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// `host:port` that was asked.
    pub endpoint: String,
    /// Questions that were not answered, and why; a connection that could not be made is one of them.
    pub unanswered: Vec<(&'static str, String)>,
    /// Settings and privileges; none where the server could not be asked.
    pub server: Option<ServerFacts>,
    /// All slots of the server; none where they could not be asked for.
    pub slots: Option<Vec<Slot>>,
    /// The publication; none where there is none.
    pub publication: Option<Publication>,
    /// All tables that can be published; none where they could not be asked for.
    pub tables: Option<Vec<TableFacts>>,
}

impl Wanted {
    /// What a configuration asks for, for a stream that has handled everything up to `handled`.
    ///
    /// # Errors
    /// [`InvalidGlob`] for the first pattern that is none.
    pub fn of(config: &StreamConfig, handled: Option<Lsn>) -> Result<Self, InvalidGlob> {
        let globs = |patterns: &[String]| {
            patterns.iter().map(|p| Glob::new(p)).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            slot: config.slot.clone(),
            publication: config.publication.clone(),
            tables: globs(&config.tables)?,
            exclude: globs(&config.exclude)?,
            create: config.create,
            failover: config.failover,
            heartbeat: config.heartbeat.is_some(),
            lag_guard: config.lag_guard.clone(),
            handled,
        })
    }
}

impl Facts {
    /// The slot of this name.
    #[must_use]
    pub fn slot(&self, name: &SlotName) -> Option<&Slot> {
        self.slots.iter().flatten().find(|slot| slot.name == *name)
    }
}

/// Draws the conclusions, in the order in which somebody would put things right.
#[must_use]
pub fn findings(wanted: &Wanted, facts: &Facts) -> Vec<Finding> {
    let mut found: Vec<Finding> = facts
        .unanswered
        .iter()
        .map(|(subject, problem)| Finding::fail(subject, problem.clone(), None))
        .collect();
    let Some(server) = &facts.server else { return found };
    server::findings(wanted, facts, server, &mut found);
    tables::findings(wanted, facts, server, &mut found);
    slot::findings(wanted, facts, server, &mut found);
    failover::findings(wanted, facts, server, &mut found);
    found
}

#[cfg(test)]
mod tests;
