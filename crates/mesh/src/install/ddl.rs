//! Making a table on one node as another node has it.

use std::collections::BTreeSet;

use herdsman_node::NodeName;
use herdsman_wal::quote_identifier;

use super::found::{Found, FoundColumn, FoundSequence, FoundTable, OwnedSequence};
use super::surveying::quoted;

/// What makes a table, and what keeps it from being made.
#[derive(Default)]
pub(super) struct Creation {
    pub(super) sql: Vec<String>,
    pub(super) problems: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// What makes `model` of `donor` on `node`; without its foreign keys.
pub(super) fn create(
    model: &FoundTable,
    donor: &NodeName,
    node: &NodeName,
    found: &Found,
) -> Creation {
    let name = model.table_name();
    let mut made = Creation::default();
    let by_hand = format!(
        "load the schema first: pg_dump --schema-only --no-publications of `{donor}`, without the schemas herdsman and herdsman_gone"
    );
    let lacks = found.lacks.get(&name).map(Vec::as_slice).unwrap_or_default();
    if !lacks.is_empty() {
        made.problems.push(format!(
            "node `{node}` lacks table {name}, and {} that it is made of; {by_hand}",
            lacks.join(", ")
        ));
    }
    let triggers: Vec<&str> = model
        .triggers
        .iter()
        .filter(|trigger| !trigger.name.starts_with("~herdsman_"))
        .map(|trigger| trigger.name.as_str())
        .collect();
    if model.policies || !triggers.is_empty() {
        let what = if model.policies { "row security" } else { "triggers of its own" };
        made.problems
            .push(format!("node `{node}` lacks table {name}, which has {what}; {by_hand}"));
    }
    let quoted_name = name.quoted();
    if !found.schemas.contains(&model.schema) {
        made.sql.push(format!("CREATE SCHEMA IF NOT EXISTS {}", quote_identifier(&model.schema)));
    }
    let serials = || model.sequences.iter().filter(|sequence| sequence.kind == "a");
    for sequence in serials() {
        let sequence_name = quoted(&sequence.schema, &sequence.name);
        made.sql.push(format!(
            "CREATE SEQUENCE IF NOT EXISTS {sequence_name} AS {}",
            sequence.sql_type
        ));
    }
    let columns: Vec<String> =
        model.user_columns().map(|column| definition(column, &model.sequences)).collect();
    made.sql.push(format!("CREATE TABLE {quoted_name} (\n  {}\n)", columns.join(",\n  ")));
    let constraint = |name: &str, definition: &str| {
        format!("ALTER TABLE {quoted_name} ADD CONSTRAINT {} {definition}", quote_identifier(name))
    };
    for index in &model.indexes {
        made.sql.push(match (&index.constraint, &index.constraint_definition) {
            (Some(name), Some(definition)) => constraint(name, definition),
            _ => index.definition.clone(),
        });
    }
    for check in model.constraints.iter().filter(|constraint| constraint.kind == "c") {
        made.sql.push(constraint(&check.name, &check.definition));
    }
    for sequence in serials() {
        let (sequence_name, column) =
            (quoted(&sequence.schema, &sequence.name), quote_identifier(&sequence.column));
        made.sql.push(format!("ALTER SEQUENCE {sequence_name} OWNED BY {quoted_name}.{column}"));
    }
    rights(model, node, found, &mut made);
    made
}

/// Its owner and privileges, as far as the node has those roles.
fn rights(model: &FoundTable, node: &NodeName, found: &Found, made: &mut Creation) {
    let name = model.table_name();
    let mut unknown = BTreeSet::new();
    let table = (format!("TABLE {}", name.quoted()), &model.grants);
    let sequences = model.sequences.iter().map(|sequence| {
        (format!("SEQUENCE {}", quoted(&sequence.schema, &sequence.name)), &sequence.grants)
    });
    for (what, grants) in std::iter::once(table).chain(sequences) {
        for (role, privilege) in grants {
            let to = match role.as_str() {
                "" => "PUBLIC".to_owned(),
                role if found.roles.contains(role) => quote_identifier(role),
                role => {
                    unknown.insert(role);
                    continue;
                }
            };
            made.sql.push(format!("GRANT {privilege} ON {what} TO {to}"));
        }
    }
    if found.owners.contains(&model.owner) {
        // Sequences of columns go with it.
        if model.owner != found.facts.role {
            let owner = quote_identifier(&model.owner);
            made.sql.push(format!("ALTER TABLE {} OWNER TO {owner}", name.quoted()));
        }
    } else {
        unknown.insert(&model.owner);
    }
    if !unknown.is_empty() {
        let roles: Vec<String> = unknown.iter().map(|role| format!("\"{role}\"")).collect();
        made.notes.push(format!(
            "table {name} is made on node `{node}` without what roles {} own or may do with it: they are not there, or not ours to give",
            roles.join(", ")
        ));
    }
}

/// A column as CREATE TABLE takes it.
fn definition(column: &FoundColumn, sequences: &[OwnedSequence]) -> String {
    let mut text = format!("{} {}", quote_identifier(&column.name), column.sql_type);
    if let Some(collation) = &column.collation {
        text.push_str(&format!(" COLLATE {collation}"));
    }
    let expression = column.default.as_deref().unwrap_or("NULL");
    match (column.generated.as_str(), column.identity.as_str()) {
        ("s", _) => text.push_str(&format!(" GENERATED ALWAYS AS ({expression}) STORED")),
        ("v", _) => text.push_str(&format!(" GENERATED ALWAYS AS ({expression}) VIRTUAL")),
        (_, "") => {
            if let Some(default) = &column.default {
                text.push_str(&format!(" DEFAULT {default}"));
            }
        }
        (_, identity) => {
            let kind = if identity == "a" { "ALWAYS" } else { "BY DEFAULT" };
            let own = sequences.iter().find(|s| s.kind == "i" && s.column == column.name);
            let named = own
                .map(|s| format!(" (SEQUENCE NAME {})", quoted(&s.schema, &s.name)))
                .unwrap_or_default();
            text.push_str(&format!(" GENERATED {kind} AS IDENTITY{named}"));
        }
    }
    if column.not_null {
        text.push_str(" NOT NULL");
    }
    text
}

/// The table and its sequences as they will be found once they are made.
pub(super) fn as_made(
    model: &FoundTable,
    found: &Found,
    donor: Option<&Found>,
) -> (FoundTable, Vec<FoundSequence>) {
    let mut table = model.clone();
    table.columns.retain(|column| {
        ![crate::names::STAMP, crate::names::NODE].contains(&column.name.as_str())
    });
    table.triggers.clear();
    table.identity = "d".to_owned();
    table.identity_index = None;
    table.owned = true;
    table.has_rows = false;
    if !found.owners.contains(&table.owner) {
        table.owner.clone_from(&found.facts.role);
    }
    let of_table = |sequence: &&FoundSequence| {
        sequence.table_schema == model.schema && sequence.table_name == model.name
    };
    let fresh = |sequence: &FoundSequence| FoundSequence {
        owned: true,
        start: 1,
        min: 1,
        max: crate::sequences::greatest(&sequence.sql_type),
        increment: 1,
        cache: 1,
        cycle: false,
        next: 1,
        used: Vec::new(),
        ..sequence.clone()
    };
    let sequences = donor.map(|donor| donor.sequences.iter().filter(of_table).map(fresh).collect());
    (table, sequences.unwrap_or_default())
}

/// The foreign keys of a table that was made; those that point outside of the mesh are left out and named.
pub(super) fn foreign_keys(
    model: &FoundTable,
    node: &NodeName,
    found: &Found,
) -> (Vec<String>, Vec<String>) {
    let (mut sql, mut notes) = (Vec::new(), Vec::new());
    for key in model.constraints.iter().filter(|constraint| constraint.kind == "f") {
        let (schema, name) = (key.to_schema.as_deref(), key.to_name.as_deref());
        let there = found.tables.iter().any(|table| {
            Some(table.schema.as_str()) == schema && Some(table.name.as_str()) == name
        });
        if there {
            sql.push(format!(
                "ALTER TABLE {} ADD CONSTRAINT {} {}",
                model.table_name().quoted(),
                quote_identifier(&key.name),
                key.definition
            ));
        } else {
            notes.push(format!(
                "table {} is made on node `{node}` without its foreign key \"{}\": it points to a table outside of the mesh",
                model.table_name(),
                key.name
            ));
        }
    }
    (sql, notes)
}
