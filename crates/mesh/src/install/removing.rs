//! Taking a node out: everything the mesh has added to it goes.

use herdsman_node::NodeName;
use herdsman_wal::{SlotName, quote_identifier, quote_literal};

use super::Step;
use super::found::Found;
use super::guarding::unguarded;
use super::layout;
use crate::names::{self, NODE, STAMP};
use crate::table::TableName;

/// The steps that take everything of the mesh from a node: triggers, publication, slots, origins, schemas, and, unless
/// `keep_columns`, the two columns. The engine must not be at work there any more: it holds slots and origin.
#[must_use]
pub fn removal(mesh: &str, node: &NodeName, found: &Found, keep_columns: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    for table in &found.tables {
        let name = table.table_name();
        if !found.prepared.contains_key(&name.to_string()) && !table.stamped() {
            continue;
        }
        let sql = self::table(&name, found, mesh, keep_columns);
        steps.push(Step::new(node, format!("take table {name} out of the mesh"), sql).on(&name));
    }
    // Tables that the configuration has ceased to name.
    let published = found.publication.iter().flat_map(|publication| &publication.spec.tables);
    for table in published {
        let name = TableName::new(&table.schema, &table.name);
        let own = [names::SCHEMA, names::GONE].contains(&table.schema.as_str());
        if own || found.tables.iter().any(|table| table.table_name() == name) {
            continue;
        }
        let sql = self::table(&name, found, mesh, keep_columns);
        steps.push(Step::new(node, format!("take table {name} out of the mesh"), sql).on(&name));
    }
    if let (Some(_), Ok(name)) = (&found.publication, names::publication(mesh)) {
        let sql = format!("DROP PUBLICATION IF EXISTS {}", quote_identifier(name.as_str()));
        steps.push(Step::new(node, "drop the publication", vec![sql]));
    }
    let prefix = format!("herdsman_{mesh}_to_");
    for slot in found.slots.iter().filter(|slot| slot.database_is_ours) {
        if slot.name.as_str().strip_prefix(&prefix).is_some_and(is_number) {
            let sql = drop_slot(&slot.name);
            steps.push(Step::singly(node, format!("drop the slot {}", slot.name), vec![sql]));
        }
    }
    let sql = origins(mesh);
    steps.push(Step::new(node, "forget where changes came from", vec![sql]));
    if found.own.is_some() {
        let sql = format!(
            "DROP SCHEMA IF EXISTS {}, {}, {} CASCADE",
            quote_identifier(names::PARTS),
            quote_identifier(names::GONE),
            quote_identifier(names::SCHEMA)
        );
        steps.push(Step::new(node, "drop the mesh's own schemas", vec![sql]));
    }
    steps
}

/// What takes one table out.
pub(super) fn table(
    name: &TableName,
    found: &Found,
    mesh: &str,
    keep_columns: bool,
) -> Vec<String> {
    let on = name.quoted();
    let mut sql = Vec::new();
    let published = found.publication.as_ref().map(|publication| &publication.spec.tables);
    let is_in = |schema: &str, table: &str| {
        published.is_some_and(|tables| tables.iter().any(|t| t.schema == schema && t.name == table))
    };
    let gone_name = names::gone_name(name);
    let going: Vec<String> = [
        is_in(&name.schema, &name.name).then(|| on.clone()),
        is_in(names::GONE, &gone_name).then(|| names::gone(name)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let (false, Ok(publication)) = (going.is_empty(), names::publication(mesh)) {
        let publication = quote_identifier(publication.as_str());
        sql.push(format!("ALTER PUBLICATION {publication} DROP TABLE {}", going.join(", ")));
    }
    for trigger in [
        "~herdsman_gone",
        "~herdsman_moved",
        "~herdsman_stamp",
        "~herdsman_truncate",
        layout::parts::TRIGGER,
    ] {
        sql.push(format!("DROP TRIGGER IF EXISTS {} ON {on}", quote_identifier(trigger)));
    }
    sql.push(unguarded(name));
    let was = found.prepared.get(&name.to_string()).map_or("d", |state| state.identity.as_str());
    let identity = match was {
        "f" => "FULL".to_owned(),
        "n" => "NOTHING".to_owned(),
        other => match other.strip_prefix("i:") {
            Some(index) => format!("USING INDEX {}", quote_identifier(index)),
            None => "DEFAULT".to_owned(),
        },
    };
    let mut alterations = vec![format!("REPLICA IDENTITY {identity}")];
    if !keep_columns {
        alterations.push(format!("DROP COLUMN IF EXISTS {STAMP}"));
        alterations.push(format!("DROP COLUMN IF EXISTS {NODE}"));
    }
    sql.push(format!("ALTER TABLE {on} {}", alterations.join(", ")));
    sql.push(format!("DROP FUNCTION IF EXISTS {}()", names::gone(name)));
    sql.push(format!("DROP TABLE IF EXISTS {}", names::gone(name)));
    if found.relations.contains("tables") {
        let rel = quote_literal(&name.to_string());
        sql.push(format!("DELETE FROM herdsman.tables WHERE rel = {rel}"));
    }
    if *name.schema == *names::PARTS {
        // With the trigger that fills it.
        sql.push(format!("DROP FUNCTION IF EXISTS {on}() CASCADE"));
        sql.push(format!("DROP TABLE IF EXISTS {on}"));
    }
    sql
}

/// Drops the origins. Whoever still applies there, as a process that has just come back to a node that had left, is sent away
/// first.
fn origins(mesh: &str) -> String {
    let pattern = quote_literal(&format!("^herdsman_{mesh}_[0-9]+(_copy)?$"));
    let lease = names::own("lease");
    format!(
        "DO $$
DECLARE
  origin text;
BEGIN
  FOR origin IN SELECT roname FROM pg_replication_origin WHERE roname ~ {pattern} LOOP
    FOR attempt IN 1..100 LOOP
      BEGIN
        PERFORM pg_replication_origin_drop(origin);
        EXIT;
      EXCEPTION WHEN object_in_use THEN
        IF attempt = 100 THEN
          RAISE;
        END IF;
        IF to_regclass({}) IS NOT NULL THEN
          PERFORM pg_stat_clear_snapshot();
          PERFORM pg_terminate_backend(a.pid) FROM pg_stat_activity AS a WHERE a.usename = current_user
            AND (a.pid IN (SELECT pid FROM {lease}) OR (a.application_name = 'herdsman mesh' AND a.datname = current_database()));
        END IF;
        PERFORM pg_sleep(0.05);
      END;
    END LOOP;
  END LOOP;
END $$",
        quote_literal(&lease)
    )
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Drops a slot. Whoever still reads from it, as a process that has not noticed yet that the node left, is sent away first.
fn drop_slot(name: &SlotName) -> String {
    format!(
        "DO $$
BEGIN
  FOR attempt IN 1..100 LOOP
    BEGIN
      PERFORM pg_drop_replication_slot('{name}');
      RETURN;
    EXCEPTION WHEN object_in_use THEN
      PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{name}';
      PERFORM pg_sleep(0.05);
    END;
  END LOOP;
  PERFORM pg_drop_replication_slot('{name}');
END $$"
    )
}
