//! The statements that read and write whole versions. Pure.

use herdsman_wal::{quote_identifier, quote_literal};

use crate::names::{self, NODE, SEEN, SEEN_NODE, STAMP};
use crate::table::Table;
use crate::verify::sql::{matches, same_key, wanted};

/// The statements of one table.
#[derive(Clone, Debug)]
pub(crate) struct Commands {
    /// Of keys (an array for each column): place, stamp and node of the row, of the tombstone, of what that deleted, and
    /// the written columns as text.
    pub(crate) read: String,
    /// Stamp and node of the last TRUNCATE.
    pub(crate) last_truncate: String,
    /// Takes tombstones: keys, stamps, nodes, seen stamps, seen nodes.
    pub(crate) tombstones: String,
    /// Takes rows: an array for each written column, stamps, nodes.
    pub(crate) rows: String,
    /// Has to come before that, with the same parameters; only where a column can be inserted and not updated.
    pub(crate) before_rows: Option<String>,
    /// Takes a TRUNCATE: stamp, node.
    pub(crate) truncate: String,
    /// Deletes rows older than the last TRUNCATE.
    pub(crate) after_truncate: String,
    /// Deletes rows of keys (an array for each column) that are older than their tombstone or the last TRUNCATE.
    pub(crate) sweep: String,
    /// The same for all keys.
    pub(crate) sweep_all: [String; 2],
    /// Rows that wait for a unique value ([`crate::names::own`]`("evicted")`) and are older than their tombstone, the last
    /// TRUNCATE, or a row that is there.
    pub(crate) sweep_waiting: [String; 3],
}

impl Commands {
    /// Writes them.
    pub(crate) fn of(table: &Table) -> Self {
        let (name, gone) = (table.name.quoted(), names::gone(&table.name));
        let rel = quote_literal(&table.name.to_string());
        let truncates = names::own("truncates");
        let values: Vec<String> = table
            .written()
            .map(|(_, column)| format!("t.{}::text", quote_identifier(&column.name)))
            .collect();
        let read = format!(
            "SELECT w.i, CASE WHEN t.tableoid IS NOT NULL THEN {} END, CASE WHEN t.tableoid IS NOT NULL THEN {} END, g.{STAMP}, g.{NODE}, g.{SEEN}, g.{SEEN_NODE}, {}
FROM {} LEFT JOIN ONLY {name} AS t ON {} LEFT JOIN {gone} AS g ON {}",
            table.time_of("t"),
            table.node_of("t"),
            values.join(", "),
            wanted(table),
            matches(table, "t", "w"),
            matches(table, "g", "w")
        );
        let newer = format!("(g.{STAMP}, g.{NODE}) > {}", table.version_of("t"));
        let truncate = format!(
            "INSERT INTO {truncates} AS g (rel, {STAMP}, {NODE}) VALUES ({rel}, $1, $2)
ON CONFLICT (rel) DO UPDATE SET {STAMP} = excluded.{STAMP}, {NODE} = excluded.{NODE}
WHERE (g.{STAMP}, g.{NODE}) < (excluded.{STAMP}, excluded.{NODE})"
        );
        let after_truncate = format!(
            "DELETE FROM ONLY {name} AS t USING {truncates} AS g WHERE g.rel = {rel} AND {newer}"
        );
        let sweep = format!(
            "DELETE FROM ONLY {name} AS t USING {} WHERE {}
AND (EXISTS (SELECT FROM {gone} AS g WHERE {} AND {newer}) OR EXISTS (SELECT FROM {truncates} AS g WHERE g.rel = {rel} AND {newer}))",
            wanted(table),
            matches(table, "t", "w"),
            same_key(table, "g", "t")
        );
        let sweep_all = [
            format!(
                "DELETE FROM ONLY {name} AS t USING {gone} AS g WHERE {} AND {newer}",
                same_key(table, "g", "t")
            ),
            after_truncate.clone(),
        ];
        Self {
            read,
            last_truncate: format!("SELECT {STAMP}, {NODE} FROM {truncates} WHERE rel = {rel}"),
            tombstones: tombstones(table, &gone),
            rows: given_rows(table),
            before_rows: clear(table, &given(table), "<="),
            truncate,
            after_truncate,
            sweep,
            sweep_all,
            sweep_waiting: waiting(table, &rel),
        }
    }
}

fn waiting(table: &Table, rel: &str) -> [String; 3] {
    let below = format!("e.rel = {rel} AND (e.{STAMP}, e.{NODE})");
    let key: Vec<String> = table
        .key_columns()
        .map(|column| format!("g.{0} AS {0}", quote_identifier(&column.name)))
        .collect();
    let same = format!("e.key = (SELECT to_jsonb(k) FROM (SELECT {}) AS k)", key.join(", "));
    let evicted = names::own("evicted");
    let than = |held: &str, on: &str, less: &str| {
        format!(
            "DELETE FROM {evicted} AS e USING {held} AS g WHERE {on} AND {below} {less} (g.{STAMP}, g.{NODE})"
        )
    };
    [
        than(&names::gone(&table.name), &same, "<"),
        than(&names::own("truncates"), "g.rel = e.rel", "<"),
        // What is there waits for nothing: a copy that was broken off may have brought it both ways.
        match table.untouched {
            true => format!("DELETE FROM {evicted} AS e WHERE e.rel = {rel}"),
            false => than(&format!("ONLY {}", table.name.quoted()), &same, "<="),
        },
    ]
}

fn tombstones(table: &Table, gone: &str) -> String {
    let count = table.key.len();
    let names: Vec<String> =
        table.key_columns().map(|column| quote_identifier(&column.name)).collect();
    let names = names.join(", ");
    let (arrays, columns): (Vec<String>, Vec<String>) =
        (0..count).map(|at| (format!("${}::text[]", at + 1), format!("k{at}"))).unzip();
    let values: Vec<String> = table
        .key_columns()
        .enumerate()
        .map(|(at, column)| format!("w.k{at}::{}", column.sql_type))
        .collect();
    let (s, n, x, y) = (count + 1, count + 2, count + 3, count + 4);
    format!(
        "INSERT INTO {gone} AS g ({names}, {STAMP}, {NODE}, {SEEN}, {SEEN_NODE})
SELECT {}, w.s, w.n, w.x, w.y FROM unnest({}, ${s}::bigint[], ${n}::smallint[], ${x}::bigint[], ${y}::smallint[]) AS w({}, s, n, x, y)
ON CONFLICT ({names}) DO UPDATE SET {STAMP} = excluded.{STAMP}, {NODE} = excluded.{NODE},
  {SEEN} = excluded.{SEEN}, {SEEN_NODE} = excluded.{SEEN_NODE}
WHERE (g.{STAMP}, g.{NODE}) < (excluded.{STAMP}, excluded.{NODE})",
        values.join(", "),
        arrays.join(", "),
        columns.join(", ")
    )
}

/// Rows given as arrays, as a relation `w`. Also rows of a version that is there already are put in from it, as rows of one
/// version that are not the same are put right this way.
fn given(table: &Table) -> String {
    let written: Vec<_> = table.written().map(|(_, column)| column).collect();
    let (arrays, columns): (Vec<String>, Vec<String>) =
        (0..written.len()).map(|at| (format!("${}::text[]", at + 1), format!("c{at}"))).unzip();
    let casts: Vec<String> = written
        .iter()
        .enumerate()
        .map(|(at, column)| {
            format!("w.c{at}::{} AS {}", column.sql_type, quote_identifier(&column.name))
        })
        .collect();
    let (s, n) = (written.len() + 1, written.len() + 2);
    format!(
        "(SELECT {}, w.s AS {STAMP}, w.n AS {NODE} FROM unnest({}, ${s}::bigint[], ${n}::smallint[]) AS w({}, s, n)) AS w",
        casts.join(", "),
        arrays.join(", "),
        columns.join(", ")
    )
}

/// What puts in rows that are given as arrays ([`given`]).
fn given_rows(table: &Table) -> String {
    if !table.untouched {
        return upsert(table, &given(table), "<=");
    }
    // All of one version: who runs this commits at its time, as its node.
    let at = table.written().count();
    let version = format!("((${}::bigint[])[1], (${}::smallint[])[1])", at + 1, at + 2);
    let instead =
        format!("UPDATE SET {} WHERE {} <= {version}", set(table, &[]), table.version_of("t"));
    insert(table, &given(table), &format!("(w.{STAMP}, w.{NODE})"), &instead, &[])
}

/// What puts in rows from before any version, read from `from`, where nothing is known of their keys.
pub(crate) fn fill(table: &Table, from: &str) -> String {
    insert(table, from, "(0, 0)", "NOTHING", &[])
}

/// What an update of a row takes from the one that was to be inserted.
fn set(table: &Table, own: &[&str]) -> String {
    let columns = table.written().filter(|(_, column)| !column.identity_always);
    let columns = columns.map(|(_, column)| quote_identifier(&column.name));
    let all = columns.chain(own.iter().map(|own| (*own).to_owned()));
    all.map(|name| format!("{name} = excluded.{name}")).collect::<Vec<_>>().join(", ")
}

/// Inserts what is not below a tombstone or TRUNCATE that is newer than `version`, and does `instead` where the key is there.
fn insert(table: &Table, from: &str, version: &str, instead: &str, own: &[&str]) -> String {
    let rel = quote_literal(&table.name.to_string());
    let columns = table.written().map(|(_, column)| quote_identifier(&column.name));
    let names: Vec<String> = columns.chain(own.iter().map(|own| (*own).to_owned())).collect();
    let values: Vec<String> = names.iter().map(|name| format!("w.{name}")).collect();
    let key: Vec<String> =
        table.key_columns().map(|column| quote_identifier(&column.name)).collect();
    let newer = format!("(g.{STAMP}, g.{NODE}) > {version}");
    format!(
        "INSERT INTO {} AS t ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {from}
WHERE NOT EXISTS (SELECT FROM {} AS g WHERE {} AND {newer})
AND NOT EXISTS (SELECT FROM {} AS g WHERE g.rel = {rel} AND {newer})
ON CONFLICT ({}) DO {instead}",
        table.name.quoted(),
        names.join(", "),
        values.join(", "),
        names::gone(&table.name),
        same_key(table, "g", "w"),
        names::own("truncates"),
        key.join(", "),
    )
}

/// What puts rows in that are read from `from`, a relation `w` with the table's written columns and the mesh's two, where
/// nothing newer is held; `below` is `<`, or `<=` to write over rows of the same version.
pub(crate) fn upsert(table: &Table, from: &str, below: &str) -> String {
    let own = [STAMP, NODE];
    let instead = format!(
        "UPDATE SET {} WHERE (t.{STAMP}, t.{NODE}) {below} (excluded.{STAMP}, excluded.{NODE})",
        set(table, &own)
    );
    insert(table, from, &format!("(w.{STAMP}, w.{NODE})"), &instead, &own)
}

/// What makes room for rows that [`upsert`] puts in from the same relation, where a column can be inserted and not updated
/// (`GENERATED ALWAYS AS IDENTITY`): the older rows are deleted.
pub(crate) fn clear(table: &Table, from: &str, below: &str) -> Option<String> {
    table.written().any(|(_, column)| column.identity_always).then(|| {
        format!(
            "DELETE FROM ONLY {} AS t USING {from} WHERE {} AND {} {below} (w.{STAMP}, w.{NODE})",
            table.name.quoted(),
            same_key(table, "t", "w"),
            table.version_of("t")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Column, TableName};

    fn table(identity_always: bool) -> Table {
        let column = |name: &str, identity_always| Column {
            name: name.into(),
            sql_type: "bigint".into(),
            nullable: false,
            generated: false,
            identity_always,
        };
        Table {
            name: TableName::new("public", "t"),
            columns: vec![column("id", false), column("n", identity_always)],
            key: vec![0],
            uniques: Vec::new(),
            foreign_keys: Vec::new(),
            stamped: true,
            full_identity: true,
            parts: crate::parts::Parts::default(),
            untouched: false,
        }
    }

    #[test]
    fn a_column_that_cannot_be_updated_is_inserted_after_the_older_row_is_deleted() {
        let plain = Commands::of(&table(false));
        assert!(plain.rows.contains("\"n\" = excluded.\"n\"") && plain.before_rows.is_none());
        let always = Commands::of(&table(true));
        assert!(!always.rows.contains("\"n\" = excluded.\"n\""), "{}", always.rows);
        assert!(always.before_rows.unwrap().starts_with("DELETE FROM ONLY \"public\".\"t\""));
    }
}
