//! What has to be done, and what stands in the way. Pure.

mod base;
mod differences;
mod fitness;
mod links;
mod members;
mod parts;
mod rights;
mod rows;
mod shapes;

use std::collections::{BTreeMap, BTreeSet};

use herdsman_node::NodeName;

use super::found::{Found, FoundTable};
use super::{Plan, Survey};
use crate::sequences;
use crate::setup::{Member, Setup};
use crate::stamp::NodeId;
use crate::table::TableName;

/// What a plan may do that it does not do by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Put together rows from before the mesh that several nodes have: of one key, the row of the node with the greater
    /// number stays.
    pub merge: bool,
    /// Nodes that are to become members of a mesh that is there already.
    pub joining: BTreeSet<NodeName>,
}

/// What a plan is made from, and as far as it has got.
pub(super) struct Planning<'a> {
    pub(super) setup: &'a Setup,
    pub(super) options: &'a Options,
    /// What was found; tables that the plan makes are added, as they will be.
    pub(super) nodes: BTreeMap<NodeName, Found>,
    /// The numbers of the nodes.
    pub(super) ids: BTreeMap<NodeName, NodeId>,
    /// All members there ever were, as they will be.
    pub(super) members: BTreeMap<NodeId, Member>,
    pub(super) plan: Plan,
}

/// Decides what has to be done. Planned again once it is done, there are no steps.
#[must_use]
pub fn plan(setup: &Setup, found: &Survey) -> Plan {
    plan_with(setup, found, &Options::default())
}

/// Decides what has to be done.
#[must_use]
pub fn plan_with(setup: &Setup, found: &Survey, options: &Options) -> Plan {
    let mut planning = Planning {
        setup,
        options,
        nodes: found.nodes.clone(),
        ids: BTreeMap::new(),
        members: BTreeMap::new(),
        plan: Plan::default(),
    };
    planning.rights();
    planning.count_members();
    if planning.plan.problems.is_empty() {
        planning.base();
        planning.publication();
        planning.links();
    }
    planning.tables();
    planning.plan
}

impl Planning<'_> {
    pub(super) fn problem(&mut self, problem: impl Into<String>) {
        let problem = problem.into();
        if !self.plan.problems.contains(&problem) {
            self.plan.problems.push(problem);
        }
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.plan.notes.contains(&note) {
            self.plan.notes.push(note);
        }
    }

    /// The nodes in the order of the configuration.
    pub(super) fn order(&self) -> Vec<NodeName> {
        let nodes = &self.setup.config.nodes;
        nodes.iter().filter(|node| self.nodes.contains_key(*node)).cloned().collect()
    }

    fn tables(&mut self) {
        self.check_patterns();
        let names: BTreeSet<TableName> = self
            .nodes
            .values()
            .flat_map(|found| &found.tables)
            .map(FoundTable::table_name)
            .collect();
        for name in &names {
            self.fitness(name);
            self.differences(name);
        }
        self.create_missing(&names);
        let parts = self.parts(&names);
        if !self.plan.problems.is_empty() {
            return;
        }
        for name in parts.union(&names) {
            self.rows(name);
        }
        // Where parts are kept before they are written.
        for name in parts.iter().chain(names.difference(&parts)) {
            self.shape(name);
        }
        self.take_out();
        let (steps, problems, notes) =
            sequences::steps(self.setup.config.sequences.kind, &self.nodes, &self.ids);
        self.plan.steps.extend(steps);
        self.plan.problems.extend(problems);
        self.plan.notes.extend(notes);
    }

    /// A table that is named and nowhere to be found is a slip.
    fn check_patterns(&mut self) {
        for pattern in &self.setup.config.tables {
            let Ok(glob) = herdsman_wal::Glob::new(pattern) else {
                self.problem(format!(
                    "`{pattern}` is no pattern for tables; write schema.table, such as public.*"
                ));
                continue;
            };
            let there = self.nodes.values().flat_map(|found| &found.tables);
            if there.into_iter().any(|table| glob.matches(&table.schema, &table.name)) {
                continue;
            }
            if glob.is_exact() {
                self.problem(format!(
                    "no node has a table `{pattern}`; make it on one of them, or take it out of `tables`"
                ));
            } else {
                self.note(format!("no table matches `{pattern}`"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
