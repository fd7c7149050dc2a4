//! The smallest change from what a publication is to what it should be. Pure.

use super::{Operations, Publication, PublicationSpec, TableSpec};
use crate::{quote_identifier, quote_literal};

/// The statements that make `existing` into `wanted`, for one transaction; none where it is that already.
///
/// Row filters are compared as text, and the server writes them in its own way: one that was not copied from there is set
/// again, which [`create_or_alter`](super::create_or_alter) notices and takes back.
#[must_use]
pub fn plan(existing: Option<&Publication>, wanted: &PublicationSpec) -> Vec<String> {
    let name = quote_identifier(wanted.name.as_str());
    let Some(existing) = existing else { return vec![creation(&name, wanted)] };
    // No ALTER leads from or to FOR ALL TABLES. Within one transaction, nobody sees it gone.
    if existing.spec.all_tables != wanted.all_tables {
        return vec![format!("DROP PUBLICATION {name}"), creation(&name, wanted)];
    }
    let mut statements = Vec::new();
    let (have, want) = (&existing.spec.tables, &wanted.tables);
    let same_table = |a: &TableSpec, b: &TableSpec| a.schema == b.schema && a.name == b.name;
    let stays = |table: &TableSpec, others: &[TableSpec]| {
        others.iter().any(|other| same_table(table, other) && same_rows(table, other))
    };
    let going: Vec<String> = have.iter().filter(|t| !stays(t, want)).map(quoted).collect();
    let coming: Vec<String> = want.iter().filter(|t| !stays(t, have)).map(definition).collect();
    let schemas: Vec<String> = existing.schemas.iter().map(|s| quote_identifier(s)).collect();
    if !going.is_empty() {
        statements.push(format!("ALTER PUBLICATION {name} DROP TABLE {}", going.join(", ")));
    }
    if !schemas.is_empty() {
        let schemas = schemas.join(", ");
        statements.push(format!("ALTER PUBLICATION {name} DROP TABLES IN SCHEMA {schemas}"));
    }
    if !coming.is_empty() {
        statements.push(format!("ALTER PUBLICATION {name} ADD TABLE {}", coming.join(", ")));
    }
    // Filters on partitioned tables need the option on, so it is set before they come and unset after they are gone.
    let place = if wanted.via_partition_root { 0 } else { statements.len() };
    let options: Vec<String> = [
        (existing.spec.operations != wanted.operations).then(|| publish(wanted.operations)),
        (existing.spec.via_partition_root != wanted.via_partition_root)
            .then(|| via_root(wanted.via_partition_root)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !options.is_empty() {
        let options = options.join(", ");
        statements.insert(place, format!("ALTER PUBLICATION {name} SET ({options})"));
    }
    statements
}

fn creation(name: &str, wanted: &PublicationSpec) -> String {
    let tables: Vec<String> = wanted.tables.iter().map(definition).collect();
    let what = match () {
        () if wanted.all_tables => " FOR ALL TABLES".to_owned(),
        () if tables.is_empty() => String::new(),
        () => format!(" FOR TABLE {}", tables.join(", ")),
    };
    let options = [publish(wanted.operations), via_root(wanted.via_partition_root)].join(", ");
    format!("CREATE PUBLICATION {name}{what} WITH ({options})")
}

fn publish(operations: Operations) -> String {
    let named = [
        (operations.insert, "insert"),
        (operations.update, "update"),
        (operations.delete, "delete"),
        (operations.truncate, "truncate"),
    ];
    let named: Vec<&str> = named.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
    format!("publish = {}", quote_literal(&named.join(", ")).trim_start())
}

fn via_root(on: bool) -> String {
    format!("publish_via_partition_root = {on}")
}

fn quoted(table: &TableSpec) -> String {
    format!("{}.{}", quote_identifier(&table.schema), quote_identifier(&table.name))
}

fn definition(table: &TableSpec) -> String {
    let mut text = quoted(table);
    if let Some(columns) = &table.columns {
        let columns: Vec<String> = columns.iter().map(|c| quote_identifier(c)).collect();
        text.push_str(&format!(" ({})", columns.join(", ")));
    }
    if let Some(filter) = &table.row_filter {
        // The line ends keep a comment at the filter's end from swallowing the rest.
        text.push_str(&format!(" WHERE ({filter}\n)"));
    }
    text
}

fn same_rows(one: &TableSpec, other: &TableSpec) -> bool {
    let columns = |table: &TableSpec| {
        let mut columns = table.columns.clone();
        columns.iter_mut().for_each(|columns| columns.sort_unstable());
        columns
    };
    let filter = |table: &TableSpec| table.row_filter.as_deref().map(bare);
    columns(one) == columns(other) && filter(one) == filter(other)
}

/// A condition without the parentheses around all of it and with single spaces.
fn bare(filter: &str) -> String {
    let words: Vec<&str> = filter.split_whitespace().collect();
    let mut text = words.join(" ");
    while let Some(inner) = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
        if !closes_at_end(inner) {
            break;
        }
        text = inner.trim().to_owned();
    }
    text
}

/// Whether the parentheses within are complete, so that the ones around belong together.
fn closes_at_end(inner: &str) -> bool {
    let mut depth = 0_i32;
    for letter in inner.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            // What a quoted text holds is not counted right: then the parentheses just stay.
            '\'' | '"' => return false,
            _ => {}
        }
        if depth < 0 {
            return false;
        }
    }
    depth == 0
}

#[cfg(test)]
mod tests;
