//! Whether a table is the same on all nodes that have it.

use std::collections::{BTreeMap, BTreeSet};

use super::Planning;
use crate::install::found::{FoundColumn, FoundTable};
use crate::table::TableName;

impl Planning<'_> {
    pub(super) fn differences(&mut self, name: &TableName) {
        let mut tables = Vec::new();
        for node in self.order() {
            let Some(found) = self.nodes.get(&node) else { continue };
            if let Some(table) = found.tables.iter().find(|table| table.table_name() == *name) {
                tables.push((node, table.clone()));
            }
        }
        let Some(((first, model), others)) = tables.split_first() else { return };
        for (node, table) in others {
            for difference in differing(model, table) {
                self.problem(format!(
                    "table {name} is not the same on `{first}` and `{node}`: {difference}; make them alike"
                ));
            }
            let (here, there) = (constraints(model), constraints(table));
            let only = |of: &BTreeSet<&str>, not: &BTreeSet<&str>| -> Vec<String> {
                of.difference(not).map(|definition| format!("`{definition}`")).collect()
            };
            for (at, others) in [(first, only(&here, &there)), (node, only(&there, &here))] {
                if !others.is_empty() {
                    self.note(format!(
                        "table {name}: only node `{at}` has {}; a row that another one takes may be refused there",
                        others.join(", ")
                    ));
                }
            }
        }
    }
}

fn differing(model: &FoundTable, table: &FoundTable) -> Vec<String> {
    let columns = |table: &FoundTable| -> BTreeMap<String, FoundColumn> {
        table.user_columns().map(|column| (column.name.clone(), column.clone())).collect()
    };
    let (here, there) = (columns(model), columns(table));
    let mut differences = Vec::new();
    for (name, column) in &here {
        match there.get(name) {
            None => differences.push(format!("column \"{name}\" is missing on the latter")),
            Some(other) => differences.extend(column_differs(column, other)),
        }
    }
    for name in there.keys().filter(|name| !here.contains_key(*name)) {
        differences.push(format!("column \"{name}\" is missing on the former"));
    }
    let key = |table: &FoundTable| -> Vec<String> {
        table.key().iter().map(|column| column.name.clone()).collect()
    };
    if key(model) != key(table) {
        differences.push(format!(
            "the primary key is ({}) and ({})",
            key(model).join(", "),
            key(table).join(", ")
        ));
    }
    let (uniques, other_uniques) = (uniques(model), uniques(table));
    if uniques != other_uniques {
        let told = |uniques: &BTreeSet<String>| {
            let all: Vec<&str> = uniques.iter().map(String::as_str).collect();
            if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
        };
        differences.push(format!(
            "besides the primary key, {} is unique on the former and {} on the latter",
            told(&uniques),
            told(&other_uniques)
        ));
    }
    differences
}

fn column_differs(here: &FoundColumn, there: &FoundColumn) -> Option<String> {
    let name = &here.name;
    if here.sql_type != there.sql_type {
        return Some(format!("column \"{name}\" is {} and {}", here.sql_type, there.sql_type));
    }
    if here.not_null != there.not_null {
        return Some(format!("column \"{name}\" may be NULL on one of them only"));
    }
    if here.generated != there.generated {
        return Some(format!("column \"{name}\" is computed on one of them only"));
    }
    None
}

/// What is unique, as column names; expressions by their definition.
fn uniques(table: &FoundTable) -> BTreeSet<String> {
    let unique = |index: &&crate::install::found::FoundIndex| {
        !index.primary && (index.unique || index.exclusion)
    };
    let told = |index: &crate::install::found::FoundIndex| {
        let names: Vec<String> =
            table.numbered(&index.columns).iter().map(|column| column.name.clone()).collect();
        let rest = match index.is_plain() {
            true => String::new(),
            // Names of indexes may differ, and what comes behind USING may not.
            false => index
                .definition
                .split_once(" USING ")
                .map_or_else(|| index.definition.clone(), |(_, rest)| format!(" {rest}")),
        };
        format!("({}){rest}", names.join(", "))
    };
    table.indexes.iter().filter(unique).map(told).collect()
}

fn constraints(table: &FoundTable) -> BTreeSet<&str> {
    table.constraints.iter().map(|constraint| constraint.definition.as_str()).collect()
}
