//! The SQL that settles which rows have values that are unique. Pure.
//!
//! A row waits as the texts of its columns: unlike `to_jsonb` of the row, that gives back every type as it was.

use herdsman_wal::quote_identifier;

use crate::apply::statements::cast;
use crate::names::{self, NODE, STAMP};
use crate::table::{Column, Table};

fn evicted() -> String {
    names::own("evicted")
}

/// A column of a row that waits, as its type.
fn waiting_value(alias: &str, column: &Column) -> String {
    let name = herdsman_wal::quote_literal(&column.name);
    format!("({alias}.row ->> {name})::{}", cast(&column.sql_type))
}

fn key_json(table: &Table) -> String {
    let key: Vec<String> = table
        .key_columns()
        .map(|column| format!("t.{0} AS {0}", quote_identifier(&column.name)))
        .collect();
    format!("(SELECT to_jsonb(r) FROM (SELECT {}) AS r)", key.join(", "))
}

/// For each unique constraint: that the row in `e` clashes with what `other` makes of a column.
fn equal(table: &Table, other: impl Fn(&Column) -> String) -> Vec<(String, String)> {
    let plain = table.uniques.iter().filter(|unique| unique.plain);
    plain
        .map(|unique| {
            let columns = unique.columns.iter().filter_map(|at| table.columns.get(*at));
            let equal: Vec<String> = columns
                .map(|column| format!("{} = {}", other(column), waiting_value("e", column)))
                .collect();
            (unique.name.to_string(), equal.join(" AND "))
        })
        .collect()
}

fn visible(column: &Column) -> String {
    format!("t.{}", quote_identifier(&column.name))
}

/// Rows that wait: key, time, node. Parameter: the table.
pub(super) fn waiting() -> String {
    format!("SELECT key::text, {STAMP}, {NODE} FROM {} WHERE rel = $1", evicted())
}

/// What a TRUNCATE has removed waits no longer. Parameter: the table.
pub(super) fn emptied() -> String {
    format!(
        "DELETE FROM {} AS e USING {} AS x WHERE e.rel = $1 AND x.rel = e.rel AND (e.{STAMP}, e.{NODE}) < (x.{STAMP}, x.{NODE})",
        evicted(),
        names::own("truncates")
    )
}

/// Visible rows that rows that wait clash with: the key of the one, key, time and node of the other. Parameter: the table.
pub(super) fn with_visible(table: &Table) -> Vec<String> {
    let equal = equal(table, visible).into_iter().map(|(_, equal)| {
        format!(
            "SELECT e.key::text, {}::text, t.{STAMP}, t.{NODE} FROM {} AS e JOIN {} AS t ON {equal} WHERE e.rel = $1 FOR UPDATE OF t",
            key_json(table),
            evicted(),
            table.name.quoted()
        )
    });
    equal.collect()
}

/// Rows that wait and clash with each other: both keys. Parameter: the table.
pub(super) fn with_waiting(table: &Table) -> Vec<String> {
    let equal = equal(table, |column| waiting_value("o", column)).into_iter().map(|(_, equal)| {
        format!(
            "SELECT e.key::text, o.key::text FROM {0} AS e JOIN {0} AS o ON o.rel = e.rel AND o.key > e.key AND {equal} WHERE e.rel = $1",
            evicted()
        )
    });
    equal.collect()
}

/// Records that rows that have arrived wait for others. Parameters: the table, their keys.
pub(super) fn arrived(table: &Table) -> Vec<String> {
    recorded(
        table,
        "e.key = ANY ($2::text[]::jsonb[])",
        |equal| format!("{equal} AND (t.{STAMP}, t.{NODE}) > (e.{STAMP}, e.{NODE})"),
        false,
    )
}

/// Records that visible rows make way for others. Parameters: the table, their keys, those of the others.
pub(super) fn displaced(table: &Table) -> Vec<String> {
    let those = format!(
        "e.key = ANY ($3::text[]::jsonb[]) AND {} = ANY ($2::text[]::jsonb[])",
        key_json(table)
    );
    recorded(table, &those, str::to_owned, true)
}

/// `arriving`: it wins, and what is recorded is the visible row's loss.
fn recorded(
    table: &Table,
    those: &str,
    on: impl Fn(&str) -> String,
    arriving: bool,
) -> Vec<String> {
    let (key, winner) =
        if arriving { (key_json(table), "arriving") } else { ("e.key".to_owned(), "held") };
    let held = format!("to_jsonb(t) - '{{{STAMP},{NODE}}}'::text[]");
    let each = equal(table, visible).into_iter().map(|(index, equal)| {
        format!(
            "INSERT INTO {} (rel, key, kind, winner, why, held, held_stamp, held_node, arriving, arriving_stamp, arriving_node)
SELECT $1, {key}, 'unique', '{winner}', 'later, in the unique index ' || {}, {held}, t.{STAMP}, t.{NODE}, e.row, e.{STAMP}, e.{NODE}
FROM {} AS e JOIN {} AS t ON {} WHERE e.rel = $1 AND {those}",
            names::own("conflicts"),
            herdsman_wal::quote_literal(&index),
            evicted(),
            table.name.quoted(),
            on(&equal)
        )
    });
    each.collect()
}

/// Records that a row is left out. Parameters: the table, its key, the index, its time and node.
pub(super) fn left_out() -> String {
    format!(
        "INSERT INTO {} (rel, key, kind, winner, why, arriving_stamp, arriving_node)
VALUES ($1, $2::text::jsonb, 'unique', 'held', 'first, in the unique index ' || $3, $4, $5)",
        names::own("conflicts")
    )
}

/// Visible rows make way. Parameters: the table, their keys.
pub(super) fn hide(table: &Table) -> String {
    let texts: Vec<String> = table
        .written()
        .map(|(_, column)| format!("t.{0}::text AS {0}", quote_identifier(&column.name)))
        .collect();
    let same: Vec<String> = table
        .key_columns()
        .map(|column| {
            let name = herdsman_wal::quote_literal(&column.name);
            format!("{} = (k.key ->> {name})::{}", visible(column), cast(&column.sql_type))
        })
        .collect();
    format!(
        "WITH hidden AS (
DELETE FROM {} AS t USING (SELECT unnest($2::text[])::jsonb AS key) AS k WHERE {}
RETURNING k.key, (SELECT to_jsonb(r) FROM (SELECT {}) AS r) AS row, t.{STAMP} AS s, t.{NODE} AS n
)
INSERT INTO {} (rel, key, row, {STAMP}, {NODE}, clash) SELECT $1, key, row, s, n, '' FROM hidden",
        table.name.quoted(),
        same.join(" AND "),
        texts.join(", "),
        evicted()
    )
}

/// Rows that waited come in. Parameters: the table, their keys.
pub(super) fn show(table: &Table) -> String {
    let columns: Vec<String> =
        table.written().map(|(_, column)| quote_identifier(&column.name)).collect();
    let values: Vec<String> =
        table.written().map(|(_, column)| waiting_value("e", column)).collect();
    format!(
        "WITH e AS (
DELETE FROM {} AS e USING (SELECT unnest($2::text[])::jsonb AS key) AS k WHERE e.rel = $1 AND e.key = k.key
RETURNING e.row, e.{STAMP}, e.{NODE}
)
INSERT INTO {} ({}, {STAMP}, {NODE}) OVERRIDING SYSTEM VALUE SELECT {}, e.{STAMP}, e.{NODE} FROM e",
        evicted(),
        table.name.quoted(),
        columns.join(", "),
        values.join(", ")
    )
}
