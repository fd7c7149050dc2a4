//! The questions that members are asked about a table. Pure.

use herdsman_wal::{quote_identifier, quote_literal};

use super::compare::BUCKETS;
use crate::names::{self, NODE, STAMP};
use crate::table::{Column, Table};

/// The statements of one table.
#[derive(Clone, Debug)]
pub(crate) struct Questions {
    /// Buckets of the pages from `$1` up to `$2`: bucket, rows, sum of fingerprints, bytes.
    pub(crate) buckets: String,
    /// Rows of the buckets `$1`: the key's columns, then stamp, node, fingerprint.
    pub(crate) rows: String,
    /// What is held of the keys `$1`… (an array for each of the key's columns): the key's place among them, then stamp and
    /// node of the row, its fingerprint, stamp and node of the tombstone, and of the evicted row.
    pub(crate) held: String,
    /// Stamp and node of the last TRUNCATE.
    pub(crate) truncate: String,
    /// How many of its rows are evicted.
    pub(crate) evicted: String,
    /// Columns of the key.
    pub(crate) key: usize,
}

impl Questions {
    /// Writes them.
    pub(crate) fn of(table: &Table) -> Self {
        let (name, gone) = (table.name.quoted(), names::gone(&table.name));
        let rel = quote_literal(&table.name.to_string());
        let (row, key) = (row_text(table, "t"), key_text(table, "t"));
        let bucket = format!("(hashtextextended({key}, 1) & {})::int", BUCKETS - 1);
        // Without OFFSET 0 the text would be made once for each of its uses.
        let buckets = format!(
            "SELECT b, count(*), sum(hashtextextended(r, 0))::text, sum(octet_length(r))::bigint
FROM (SELECT {bucket} AS b, {row} AS r FROM ONLY {name} AS t
  WHERE t.ctid >= $1::text::tid AND t.ctid < $2::text::tid OFFSET 0) AS s GROUP BY b"
        );
        let keys: Vec<String> =
            table.key_columns().map(|column| text_of(column, "t", true)).collect();
        let rows = format!(
            "SELECT {}, {}, {}, hashtextextended({row}, 0) FROM ONLY {name} AS t WHERE {bucket} = ANY ($1)",
            keys.join(", "),
            table.time_of("t"),
            table.node_of("t"),
        );
        let held = held(table, &name, &gone, &rel, &row);
        let truncate =
            format!("SELECT {STAMP}, {NODE} FROM {} WHERE rel = {rel}", names::own("truncates"));
        let evicted = format!("SELECT count(*) FROM {} WHERE rel = {rel}", names::own("evicted"));
        Self { buckets, rows, held, truncate, evicted, key: keys.len() }
    }
}

fn held(table: &Table, name: &str, gone: &str, rel: &str, row: &str) -> String {
    let object: Vec<String> = table
        .key_columns()
        .enumerate()
        .map(|(at, column)| {
            format!("{}, w.k{at}::{}", quote_literal(&column.name), column.sql_type)
        })
        .collect();
    // Every table has it, and no row is without.
    let there = "t.tableoid IS NOT NULL";
    format!(
        "SELECT w.i, CASE WHEN {there} THEN {} END, CASE WHEN {there} THEN {} END, CASE WHEN {there} THEN hashtextextended({row}, 0) END,
  g.{STAMP}, g.{NODE}, e.{STAMP}, e.{NODE}
FROM {}
LEFT JOIN ONLY {name} AS t ON {}
LEFT JOIN {gone} AS g ON {}
LEFT JOIN {} AS e ON e.rel = {rel} AND e.key = jsonb_build_object({})",
        table.time_of("t"),
        table.node_of("t"),
        wanted(table),
        matches(table, "t", "w"),
        matches(table, "g", "w"),
        names::own("evicted"),
        object.join(", ")
    )
}

/// Keys given as an array for each column: what they are read from, as `w(k0, k1, …, i)`.
pub(crate) fn wanted(table: &Table) -> String {
    let count = table.key.len();
    let arrays: Vec<String> = (1..=count).map(|at| format!("${at}::text[]")).collect();
    let columns: Vec<String> = (0..count).map(|at| format!("k{at}")).collect();
    format!("unnest({}) WITH ORDINALITY AS w({}, i)", arrays.join(", "), columns.join(", "))
}

/// That the key of one relation is another's, which has it as text in `k0`, `k1`, ….
pub(crate) fn matches(table: &Table, here: &str, texts: &str) -> String {
    let equal: Vec<String> = table
        .key_columns()
        .enumerate()
        .map(|(at, column)| {
            let name = quote_identifier(&column.name);
            format!("{here}.{name} = {texts}.k{at}::{}", column.sql_type)
        })
        .collect();
    equal.join(" AND ")
}

/// The key's columns of two relations are the same.
pub(crate) fn same_key(table: &Table, here: &str, there: &str) -> String {
    let equal: Vec<String> = table
        .key_columns()
        .map(|column| {
            let name = quote_identifier(&column.name);
            format!("{here}.{name} = {there}.{name}")
        })
        .collect();
    equal.join(" AND ")
}

/// A row as one text: its columns by name, then its version. By name, as members may have made them in another order.
fn row_text(table: &Table, alias: &str) -> String {
    let mut columns: Vec<(&str, String)> = table
        .written()
        .map(|(at, column)| (&*column.name, text_of(column, alias, table.key.contains(&at))))
        .collect();
    columns.sort();
    let mut texts: Vec<String> = columns.into_iter().map(|(_, text)| text).collect();
    if !table.untouched {
        texts.extend([table.time_of(alias), table.node_of(alias)]);
    }
    format!("ROW({})::text COLLATE \"C\"", texts.join(", "))
}

fn key_text(table: &Table, alias: &str) -> String {
    let texts: Vec<String> =
        table.key_columns().map(|column| text_of(column, alias, true)).collect();
    format!("ROW({})::text COLLATE \"C\"", texts.join(", "))
}

/// A column as text. The same key must be the same text: 1.0 and 1.00 are one key.
pub(crate) fn text_of(column: &Column, alias: &str, of_key: bool) -> String {
    let name = format!("{alias}.{}", quote_identifier(&column.name));
    if of_key && column.sql_type.starts_with("numeric") && !column.sql_type.ends_with("[]") {
        return format!("trim_scale({name})::text");
    }
    format!("{name}::text")
}
