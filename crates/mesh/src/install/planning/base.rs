//! The mesh's own schema on each node.

use herdsman_node::NodeName;
use herdsman_wal::quote_literal;

use super::Planning;
use crate::apply::sample;
use crate::config::Mode;
use crate::install::found::Found;
use crate::install::{Step, layout};
use crate::setup::{Member, MemberState};
use crate::stamp::NodeId;

impl Planning<'_> {
    pub(super) fn base(&mut self) {
        for node in self.order() {
            let Some(id) = self.ids.get(&node).copied() else { continue };
            let Some(found) = self.nodes.get(&node) else { continue };
            let step = self.own_schema(&node, id, found);
            let members = self.member_rows(found);
            let first = found.own.is_none();
            match (first, step.is_empty() && members.is_empty()) {
                (_, true) => {}
                (true, false) => {
                    let what = format!(
                        "make the mesh's own schema, as member {id} of `{}`",
                        self.setup.config.name
                    );
                    let sql = step.into_iter().chain(members).collect();
                    self.plan.steps.push(Step::new(&node, what, sql));
                }
                (false, false) => {
                    if !step.is_empty() {
                        let what = "bring the mesh's own schema up to date";
                        self.plan.steps.push(Step::new(&node, what, step));
                    }
                    if !members.is_empty() {
                        let what = "note who the members are";
                        self.plan.steps.push(Step::new(&node, what, members));
                    }
                }
            }
        }
    }

    fn own_schema(&self, node: &NodeName, id: NodeId, found: &Found) -> Vec<String> {
        let mut sql = Vec::new();
        if found.own.is_none() {
            sql.extend(layout::schemas());
        }
        let missing =
            layout::relations().into_iter().filter(|(name, _)| !found.relations.contains(*name));
        let relations: Vec<String> = missing.map(|(_, make)| make.to_owned()).collect();
        if !relations.is_empty() {
            sql.extend(relations);
            sql.extend(layout::grants());
        }
        if found.own.is_none() {
            sql.push(layout::identity(&self.setup.config.name, id, node.as_str()));
        }
        let untouched = self.setup.config.mode == Mode::Untouched;
        let mut functions = layout::functions(id, untouched);
        if untouched {
            functions.extend(layout::untouched::functions(&self.setup.config.name, id));
            if !found.relations.contains(layout::untouched::RELATION) {
                // Before any slot: what is older than this was there before the mesh.
                sql.extend([layout::untouched::MAKE.to_owned(), sample(true)]);
            }
        }
        for function in functions {
            if found.functions.get(&function.name) != Some(&function.body) {
                sql.extend(function.sql);
            }
        }
        sql
    }

    /// Members that the node does not know, or knows by an old name.
    fn member_rows(&self, found: &Found) -> Vec<String> {
        let mut sql = Vec::new();
        // A name that is used again: the member that is gone gives it up first.
        for member in &found.members {
            let again = self.ids.get(&member.name).is_some_and(|id| *id != member.id);
            if again && member.state == MemberState::Gone {
                sql.push(format!(
                    "UPDATE herdsman.members SET name = {} WHERE node = {}",
                    quote_literal(&format!("{} ({})", member.name, member.id)),
                    member.id
                ));
            }
        }
        let unknown = |member: &&Member| found.members.iter().all(|known| known.id != member.id);
        for member in self.members.values().filter(unknown) {
            let again = self.ids.get(&member.name).is_some_and(|id| *id != member.id);
            let name = match again {
                true => format!("{} ({})", member.name, member.id),
                false => member.name.to_string(),
            };
            sql.push(format!(
                "INSERT INTO herdsman.members (node, name, state) VALUES ({}, {}, {})",
                member.id,
                quote_literal(&name),
                quote_literal(member.state.name())
            ));
        }
        sql
    }
}
