//! Rows that were there before the mesh.

use herdsman_node::NodeName;

use super::Planning;
use crate::config::Mode;
use crate::install::Copy;
use crate::install::found::Found;
use crate::setup::MemberState;
use crate::table::TableName;

impl Planning<'_> {
    /// Refuses what nobody could put together, and notes which rows other nodes lack.
    pub(super) fn rows(&mut self, name: &TableName) {
        let mut with_rows = Vec::new();
        let mut fresh = Vec::new();
        for node in self.order() {
            let Some(found) = self.nodes.get(&node) else { continue };
            let Some(table) = found.tables.iter().find(|table| table.table_name() == *name) else {
                continue;
            };
            let prepared = found.prepared.contains_key(&name.to_string());
            if table.has_rows {
                with_rows.push(node.clone());
                if !prepared {
                    fresh.push(node.clone());
                }
            }
        }
        let merged = with_rows.len() > 1;
        if !fresh.is_empty() && merged && !self.options.merge {
            let named: Vec<String> = with_rows.iter().map(|node| format!("`{node}`")).collect();
            let stays = match self.setup.config.mode {
                Mode::Columns => "the row of the node with the greater number stays",
                Mode::Untouched => {
                    "the row that was committed last stays, or that of the node with the greater number where the servers do not know any more"
                }
            };
            self.problem(format!(
                "table {name} has rows on {}, and whether those are the same rows nobody can tell; empty it on all but one of them, or have the rows put together (`--merge`: of one key, {stays})",
                named.join(" and ")
            ));
        }
        let sources: Vec<NodeName> = self
            .order()
            .into_iter()
            .filter(|node| {
                fresh.contains(node) || self.nodes.get(node).is_some_and(|f| unspread(f, name))
            })
            .collect();
        for from in &sources {
            for to in self.order() {
                // What comes to a node that is joining is its donor's business.
                if *from != to && self.state(&to) == Some(MemberState::Active) {
                    let (table, from) = (name.clone(), from.clone());
                    let copy = Copy { table, from, to, merged };
                    self.plan.copies.push(copy);
                }
            }
        }
    }

    fn state(&self, node: &NodeName) -> Option<MemberState> {
        self.ids.get(node).and_then(|id| self.members.get(id)).map(|member| member.state)
    }
}

fn unspread(found: &Found, name: &TableName) -> bool {
    found.prepared.get(&name.to_string()).is_some_and(|state| !state.spread)
}
