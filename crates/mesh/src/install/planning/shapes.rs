//! Tables: made where they are missing, and given their columns, tombstones and triggers.

use std::collections::BTreeSet;

use herdsman_node::NodeName;
use herdsman_wal::{quote_identifier, quote_literal};

use super::Planning;
use crate::config::{Mode, PolicyConfig};
use crate::install::found::{Found, FoundTable, TableState};
use crate::install::{Step, ddl, layout, removing};
use crate::names::{self, NODE, STAMP};
use crate::parts::{self, Parts};
use crate::stamp::NodeId;
use crate::table::TableName;

impl Planning<'_> {
    /// Makes tables that some nodes lack as another node has them; foreign keys when all tables are there.
    pub(super) fn create_missing(&mut self, names: &BTreeSet<TableName>) {
        let mut foreign_keys = Vec::new();
        for name in names {
            let order = self.order();
            let holds = |node: &NodeName| {
                let found = self.nodes.get(node)?;
                found.tables.iter().find(|table| table.table_name() == *name).cloned()
            };
            let Some((donor, model)) = order.iter().find_map(|node| Some((node, holds(node)?)))
            else {
                continue;
            };
            let donor = donor.clone();
            let lacking: Vec<NodeName> =
                order.iter().filter(|node| holds(node).is_none()).cloned().collect();
            for node in lacking {
                let Some(found) = self.nodes.get(&node) else { continue };
                let creation = ddl::create(&model, &donor, &node, found);
                let made = ddl::as_made(&model, found, self.nodes.get(&donor));
                for problem in creation.problems {
                    self.problem(problem);
                }
                for note in creation.notes {
                    self.note(note);
                }
                let what = format!("make table {name} as `{donor}` has it");
                self.plan.steps.push(Step::new(&node, what, creation.sql));
                foreign_keys.push((node.clone(), model.clone()));
                if let Some(found) = self.nodes.get_mut(&node) {
                    found.schemas.insert(model.schema.clone());
                    found.tables.push(made.0);
                    found.sequences.extend(made.1);
                }
            }
        }
        for (node, model) in foreign_keys {
            let Some(found) = self.nodes.get(&node) else { continue };
            let (sql, notes) = ddl::foreign_keys(&model, &node, found);
            if !sql.is_empty() {
                let what = format!("give table {} its foreign keys", model.table_name());
                self.plan.steps.push(Step::new(&node, what, sql).on(&model.table_name()));
            }
            for note in notes {
                self.note(note);
            }
        }
    }

    /// One transaction for each node: columns, identity, tombstones, triggers, publication.
    pub(super) fn shape(&mut self, name: &TableName) {
        for node in self.order() {
            let Some(id) = self.ids.get(&node).copied() else { continue };
            let Some(found) = self.nodes.get(&node) else { continue };
            let Some(table) = found.tables.iter().find(|table| table.table_name() == *name) else {
                continue;
            };
            let mesh = &self.setup.config.name;
            let policy = parts::policy(&self.setup.config.policies, name);
            let shaped = match self.setup.config.mode {
                Mode::Columns => shaping(table, found, id, mesh, policy),
                Mode::Untouched => shaping_untouched(table, found, mesh),
            };
            match shaped {
                Err(problem) => self.problem(format!("node `{node}`, table {name}: {problem}")),
                Ok(sql) if sql.is_empty() => {}
                Ok(sql) => {
                    let what = match found.prepared.contains_key(&name.to_string()) {
                        true => format!("bring table {name} up to date"),
                        false => format!("take table {name} into the mesh"),
                    };
                    self.plan.steps.push(Step::new(&node, what, sql).on(name));
                }
            }
        }
    }

    /// Tables that the configuration does not mean any more.
    pub(super) fn take_out(&mut self) {
        let mut steps = Vec::new();
        for node in self.order() {
            let Some(found) = self.nodes.get(&node) else { continue };
            let Some(publication) = &found.publication else { continue };
            for table in &publication.spec.tables {
                let name = TableName::new(&table.schema, &table.name);
                let own = [names::SCHEMA, names::GONE].contains(&table.schema.as_str());
                let meant = found.tables.iter().any(|table| table.table_name() == name);
                if own || meant {
                    continue;
                }
                let what = format!("take table {name} out of the mesh: `tables` does not name it");
                let sql = removing::table(&name, found, &self.setup.config.name, false);
                steps.push(Step::new(&node, what, sql).on(&name));
            }
        }
        self.plan.steps.extend(steps);
    }
}

fn shaping(
    table: &FoundTable,
    found: &Found,
    id: NodeId,
    mesh: &str,
    policy: Option<&PolicyConfig>,
) -> Result<Vec<String>, String> {
    let name = table.table_name();
    let mut sql = Vec::new();
    let mut alterations = Vec::new();
    if table.column(STAMP).is_none() {
        alterations.push(format!("ADD COLUMN {STAMP} bigint NOT NULL DEFAULT 0"));
    }
    if table.column(NODE).is_none() {
        alterations.push(format!("ADD COLUMN {NODE} smallint NOT NULL DEFAULT {id}"));
    }
    if table.identity != "f" {
        alterations.push("REPLICA IDENTITY FULL".to_owned());
    }
    if !alterations.is_empty() {
        sql.push(format!("ALTER TABLE {} {}", name.quoted(), alterations.join(", ")));
    }
    sql.extend(tombstones(table, found)?);
    let gone_name = names::gone_name(&name);
    let function = layout::gone_function(table, id);
    let renewed = found.functions.get(&function.name) != Some(&function.body);
    if renewed {
        sql.extend(function.sql);
    }
    for trigger in layout::triggers(table) {
        let there = table.triggers.iter().any(|found| trigger.is(found));
        // A condition names the key's columns, as the function does.
        if !there || (renewed && trigger.name == "~herdsman_moved") {
            sql.push(trigger.sql);
        }
    }
    sql.extend(kept_in_parts(table, found, id, policy));
    sql.extend(published(table, found, mesh, Some(&gone_name))?);
    Ok(sql)
}

/// Where nothing is added to the table: its deletions are kept beside it, and its log says all of a row.
fn shaping_untouched(table: &FoundTable, found: &Found, mesh: &str) -> Result<Vec<String>, String> {
    let mut sql = Vec::new();
    if table.identity != "f" {
        let name = table.table_name().quoted();
        sql.push(format!("ALTER TABLE {name} REPLICA IDENTITY FULL"));
    }
    sql.extend(tombstones(table, found)?);
    sql.extend(published(table, found, mesh, None)?);
    Ok(sql)
}

/// Publishes a table, with its tombstones where those are sent, and notes that it is in the mesh.
fn published(
    table: &FoundTable,
    found: &Found,
    mesh: &str,
    gone_name: Option<&str>,
) -> Result<Vec<String>, String> {
    let (name, mut sql) = (table.table_name(), Vec::new());
    let publication = names::publication(mesh).map_err(|error| error.to_string())?;
    let is_in = |schema: &str, table: &str| {
        found.publication.as_ref().is_some_and(|publication| {
            publication.spec.tables.iter().any(|t| t.schema == schema && t.name == table)
        })
    };
    let mut coming = Vec::new();
    if !is_in(&table.schema, &table.name) {
        coming.push(name.quoted());
    }
    if gone_name.is_some_and(|gone| !is_in(names::GONE, gone)) {
        coming.push(names::gone(&name));
    }
    if !coming.is_empty() {
        sql.push(format!(
            "ALTER PUBLICATION {} ADD TABLE {}",
            quote_identifier(publication.as_str()),
            coming.join(", ")
        ));
    }
    if !found.prepared.contains_key(&name.to_string()) {
        // Under the lock that the columns needed: what has no stamp now was there before.
        sql.push(format!(
            "INSERT INTO herdsman.tables (rel, identity, spread) VALUES ({}, {}, NOT EXISTS (SELECT FROM {}))",
            quote_literal(&name.to_string()),
            quote_literal(&TableState::identity_of(table)),
            name.quoted()
        ));
    }
    Ok(sql)
}

/// The trigger that writes down the parts of columns, and what they begin with.
fn kept_in_parts(
    table: &FoundTable,
    found: &Found,
    id: NodeId,
    policy: Option<&PolicyConfig>,
) -> Vec<String> {
    let shown = table.table();
    let parts = Parts::of(&shown, policy);
    if parts.is_empty() {
        return Vec::new();
    }
    let (function, trigger) =
        (layout::parts::function(&shown, &parts, id), layout::parts::trigger(&shown));
    let renewed = found.functions.get(&function.name) != Some(&function.body);
    let there = table.triggers.iter().any(|found| trigger.is(found));
    let mut sql = Vec::new();
    if renewed {
        sql.extend(function.sql);
    }
    if !there {
        sql.push(trigger.sql);
    }
    if renewed || !there {
        sql.extend(layout::parts::base(&shown, &parts));
    }
    sql
}

/// The table of tombstones, made or changed to what the key is now.
fn tombstones(table: &FoundTable, found: &Found) -> Result<Vec<String>, String> {
    let name = table.table_name();
    let gone = names::gone(&name);
    let Some(there) = found.gone.get(&names::gone_name(&name)) else {
        return Ok(layout::gone_table(table));
    };
    let key = table.key();
    if key.len() != there.key.len() {
        let was: Vec<&str> = there.key.iter().map(|(name, _)| name.as_str()).collect();
        return Err(format!(
            "its primary key was ({}) when it came into the mesh, and what was deleted is remembered by that; set the key back, or take the table out with `exclude`, `herdsman mesh up`, and in again",
            was.join(", ")
        ));
    }
    let mut sql = Vec::new();
    for (column, (old, old_type)) in key.iter().zip(&there.key) {
        let new = quote_identifier(&column.name);
        if column.name != *old {
            sql.push(format!(
                "ALTER TABLE {gone} RENAME COLUMN {} TO {new}",
                quote_identifier(old)
            ));
        }
        if column.sql_type != *old_type {
            sql.push(format!(
                "ALTER TABLE {gone} ALTER COLUMN {new} TYPE {} USING {new}::{}",
                column.sql_type, column.sql_type
            ));
        }
    }
    if !there.full_identity {
        sql.push(format!("ALTER TABLE {gone} REPLICA IDENTITY FULL"));
    }
    if !there.by_time {
        sql.push(layout::by_time(&gone));
    }
    Ok(sql)
}

impl TableState {
    fn identity_of(table: &FoundTable) -> String {
        match &table.identity_index {
            Some(index) if table.identity == "i" => format!("i:{index}"),
            _ => table.identity.clone(),
        }
    }
}
