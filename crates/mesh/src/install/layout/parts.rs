//! The SQL of the parts of columns: their table, and the trigger that writes down what users do.

use herdsman_wal::{quote_identifier, quote_literal};

use super::{Function, Trigger, dollars};
use crate::install::found::{FoundColumn, FoundIndex, FoundTable};
use crate::names::{self, BASE, CELL, NODE, PART_COLUMN, PART_OF, PART_SUM, PART_VALUE, STAMP};
use crate::parts::{Kept, Parts};
use crate::stamp::NodeId;
use crate::table::Table;

/// The trigger's name: it fires when everything else has had its say about the row.
pub(in crate::install) const TRIGGER: &str = "~herdsman_parts";

/// The table of a table's parts, as it will be found once it is made.
pub(in crate::install) fn table(of: &FoundTable, owner: &str) -> FoundTable {
    let name = names::parts(&of.table_name());
    let key = of.key();
    let own = [
        (PART_COLUMN, "text", "pg_catalog.text", true),
        (PART_OF, "smallint", "pg_catalog.int2", true),
        (PART_SUM, "numeric", "pg_catalog.numeric", false),
        (PART_VALUE, "text", "pg_catalog.text", false),
    ];
    let own = own.into_iter().map(|(name, sql_type, base, not_null)| FoundColumn {
        name: name.to_owned(),
        sql_type: sql_type.to_owned(),
        base: base.to_owned(),
        not_null,
        deterministic: true,
        ..FoundColumn::default()
    });
    let of_key = key.iter().map(|column| FoundColumn {
        identity: String::new(),
        default: None,
        not_null: true,
        ..(*column).clone()
    });
    let columns = (1_i16..).zip(of_key.chain(own));
    let columns: Vec<FoundColumn> =
        columns.map(|(number, column)| FoundColumn { number, ..column }).collect();
    let in_key: Vec<&FoundColumn> = columns.iter().take(key.len() + 2).collect();
    let names: Vec<String> = in_key.iter().map(|column| quote_identifier(&column.name)).collect();
    let index = FoundIndex {
        columns: in_key.iter().map(|column| column.number).collect(),
        unique: true,
        primary: true,
        immediate: true,
        valid: true,
        // Named by the server, which finds a name that is free.
        definition: format!("ALTER TABLE {} ADD PRIMARY KEY ({})", name.quoted(), names.join(", ")),
        ..FoundIndex::default()
    };
    FoundTable {
        schema: name.schema.to_string(),
        name: name.name.to_string(),
        kind: "r".to_owned(),
        persistence: "p".to_owned(),
        identity: "d".to_owned(),
        owner: owner.to_owned(),
        owned: true,
        columns,
        indexes: vec![index],
        ..FoundTable::default()
    }
}

/// The function of the trigger. What it writes is for nobody to write by hand, so it writes as its owner.
pub(in crate::install) fn function(table: &Table, parts: &Parts, node: NodeId) -> Function {
    let sql = Sql::new(table);
    let (inserted, updated) = (sql.inserted(parts, node), sql.updated(parts, node));
    let kept = Kept::of(table, parts).noted();
    let moved = sql.key.iter().map(|key| format!("OLD.{key} IS DISTINCT FROM NEW.{key}"));
    let moved = moved.collect::<Vec<_>>().join(" OR ");
    let body = format!(
        "
#variable_conflict use_column
BEGIN
  {kept}
  IF TG_OP = 'INSERT' OR {moved} THEN
{inserted}
  ELSE
{updated}
  END IF;
  RETURN NULL;
END"
    );
    let quoted = names::parts(&table.name).quoted();
    // As whoever applies writes values, and reads them back.
    let settings = "SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO' SET IntervalStyle = 'postgres' SET TimeZone = 'UTC' SET extra_float_digits = 1 SET bytea_output = 'hex'";
    let make = vec![
        format!(
            "CREATE OR REPLACE FUNCTION {quoted}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER {settings} AS {}",
            dollars(&body)
        ),
        format!("REVOKE ALL ON FUNCTION {quoted}() FROM PUBLIC"),
    ];
    Function { name: named(table), body, sql: make }
}

/// The trigger.
pub(in crate::install) fn trigger(table: &Table) -> Trigger {
    // AFTER, INSERT, UPDATE; for each row.
    const KIND: i16 = 1 | 4 | 16;
    Trigger {
        name: TRIGGER,
        kind: KIND,
        function: named(table),
        sql: format!(
            "CREATE OR REPLACE TRIGGER {} AFTER INSERT OR UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION {}()",
            quote_identifier(TRIGGER),
            table.name.quoted(),
            names::parts(&table.name).quoted()
        ),
    }
}

fn named(table: &Table) -> String {
    let name = names::parts(&table.name);
    format!("{}.{}", name.schema, name.name)
}

/// What rows show of columns that are to add up from now on, as registers of nobody's. They are as old as the rows, so
/// that of several members' the latest is kept; and no trigger makes them younger.
pub(in crate::install) fn base(table: &Table, parts: &Parts) -> Vec<String> {
    let sql = Sql::new(table);
    if parts.sums.is_empty() {
        return Vec::new();
    }
    let mut all = vec!["SET LOCAL session_replication_role = replica".to_owned()];
    for at in &parts.sums {
        let Some(column) = table.columns.get(*at) else { continue };
        let (name, literal) = (quote_identifier(&column.name), quote_literal(&column.name));
        let (keys, parts) = (sql.keys(""), &sql.parts);
        let same = sql.same("p", "t.");
        let known = format!(
            "SELECT sum(p.{PART_SUM}) FROM {parts} AS p WHERE {same} AND p.{PART_COLUMN} = {literal} AND p.{PART_OF} > {BASE}"
        );
        all.push(format!(
            "INSERT INTO {parts} AS held ({keys}, {PART_COLUMN}, {PART_OF}, {PART_SUM}, {STAMP}, {NODE})
SELECT {}, {literal}, {BASE}, t.{name} - coalesce(({known}), 0), t.{STAMP}, t.{NODE} FROM {} AS t
ON CONFLICT ({keys}, {PART_COLUMN}, {PART_OF}) DO UPDATE SET {PART_SUM} = excluded.{PART_SUM}, {STAMP} = excluded.{STAMP}, {NODE} = excluded.{NODE}
WHERE (held.{STAMP}, held.{NODE}) < (excluded.{STAMP}, excluded.{NODE})",
            sql.keys("t."),
            table.name.quoted(),
        ));
    }
    all.push("SET LOCAL session_replication_role = origin".to_owned());
    all
}

/// Pieces of SQL for a table and its parts.
struct Sql<'a> {
    table: &'a Table,
    parts: String,
    key: Vec<String>,
}

impl<'a> Sql<'a> {
    fn new(table: &'a Table) -> Self {
        let key = table.key_columns().map(|column| quote_identifier(&column.name)).collect();
        Self { table, parts: names::parts(&table.name).quoted(), key }
    }

    fn keys(&self, of: &str) -> String {
        self.key.iter().map(|key| format!("{of}{key}")).collect::<Vec<_>>().join(", ")
    }

    fn same(&self, a: &str, b: &str) -> String {
        self.key.iter().map(|key| format!("{a}.{key} = {b}{key}")).collect::<Vec<_>>().join(" AND ")
    }

    /// Columns at these places: quoted, and as literals.
    fn columns(&self, places: &[usize]) -> Vec<(String, String)> {
        let columns = places.iter().filter_map(|at| self.table.columns.get(*at));
        columns.map(|c| (quote_identifier(&c.name), quote_literal(&c.name))).collect()
    }

    /// Writes a part, unless it is there already; then does what `set` says.
    fn put(&self, what: &str, rows: &str, set: &str) -> String {
        let (keys, parts) = (self.keys(""), &self.parts);
        format!(
            "    INSERT INTO {parts} AS held ({keys}, {PART_COLUMN}, {PART_OF}, {what}) VALUES {rows}
    ON CONFLICT ({keys}, {PART_COLUMN}, {PART_OF}) DO UPDATE SET {set};"
        )
    }

    fn inserted(&self, parts: &Parts, node: NodeId) -> String {
        let new = self.keys("NEW.");
        let mut steps = Vec::new();
        for (name, literal) in self.columns(&parts.sums) {
            // So that the sum is what was inserted, whatever is left of an earlier row.
            let others = format!(
                "SELECT sum(p.{PART_SUM}) FROM {} AS p WHERE {} AND p.{PART_COLUMN} = {literal} AND p.{PART_OF} >= {BASE} AND p.{PART_OF} <> {node}",
                self.parts,
                self.same("p", "NEW.")
            );
            let row = format!("({new}, {literal}, {node}, NEW.{name} - coalesce(({others}), 0))");
            steps.push(self.put(PART_SUM, &row, &format!("{PART_SUM} = EXCLUDED.{PART_SUM}")));
        }
        let cells = self.columns(&parts.cells);
        if !cells.is_empty() {
            let row = |(name, literal): &(String, String)| {
                format!("({new}, {literal}, {CELL}, NEW.{name}::text)")
            };
            let rows: Vec<String> = cells.iter().map(row).collect();
            let set = format!("{PART_VALUE} = EXCLUDED.{PART_VALUE}");
            steps.push(self.put(PART_VALUE, &rows.join(", "), &set));
        }
        steps.join("\n")
    }

    fn updated(&self, parts: &Parts, node: NodeId) -> String {
        let new = self.keys("NEW.");
        let mut steps = Vec::new();
        for (name, literal) in self.columns(&parts.sums) {
            let row = format!("({new}, {literal}, {node}, NEW.{name}::numeric - OLD.{name})");
            let set = format!("{PART_SUM} = held.{PART_SUM} + EXCLUDED.{PART_SUM}");
            let put = self.put(PART_SUM, &row, &set);
            steps.push(format!("    IF NEW.{name} <> OLD.{name} THEN\n{put}\n    END IF;"));
        }
        for (name, literal) in self.columns(&parts.cells) {
            let row = format!("({new}, {literal}, {CELL}, NEW.{name}::text)");
            let set = format!("{PART_VALUE} = EXCLUDED.{PART_VALUE}");
            let put = self.put(PART_VALUE, &row, &set);
            steps.push(format!(
                "    IF NEW.{name}::text IS DISTINCT FROM OLD.{name}::text THEN\n{put}\n    END IF;"
            ));
        }
        if steps.is_empty() { "    NULL;".to_owned() } else { steps.join("\n") }
    }
}
