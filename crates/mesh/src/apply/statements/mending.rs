//! Columns that are kept in parts: what their rows show.

use herdsman_wal::{quote_identifier, quote_literal};

use super::{Statements, cast, list};
use crate::names::{self, BASE, CELL, PART_COLUMN, PART_OF, PART_SUM, PART_VALUE};
use crate::parts::bounds;
use crate::table::{Column, Table};

impl Statements<'_> {
    /// Locks the rows of the batch's keys in `mended`, so that what is read next of their parts is the last word.
    pub(super) fn lock_mended(&self, mended: &Table) -> String {
        let order = list(mended.key_columns(), |c| format!("t.{}", quote_identifier(&c.name)));
        format!(
            "SELECT FROM {} JOIN {} AS t ON {} ORDER BY {order} FOR UPDATE OF t",
            keys(mended),
            mended.name.quoted(),
            same(mended, "t", |at, _| format!("v.c{at}")),
        )
    }

    /// Has the rows of the batch's keys in `mended` show what their parts come to.
    pub(super) fn mend(&self, mended: &Table) -> String {
        update(
            mended,
            &format!(
                "{} JOIN {} AS t ON {}",
                keys(mended),
                mended.name.quoted(),
                same(mended, "t", |at, _| format!("v.c{at}"))
            ),
        )
    }
}

/// Has all rows of a table show what their parts come to.
pub(crate) fn mend_all(mended: &Table) -> String {
    update(mended, &format!("{} AS t", mended.name.quoted()))
}

/// The keys of the batch: those of a table of parts begin with the key of the table it belongs to.
fn keys(mended: &Table) -> String {
    let columns = mended.key_columns().enumerate();
    let columns: Vec<String> = columns
        .map(|(at, column)| format!("unnest(${})::{} AS c{at}", at + 1, cast(&column.sql_type)))
        .collect();
    format!("(SELECT DISTINCT {}) AS v", columns.join(", "))
}

fn same(mended: &Table, other: &str, of: impl Fn(usize, &str) -> String) -> String {
    let columns = mended.key_columns().enumerate().map(|(at, column)| {
        let name = quote_identifier(&column.name);
        format!("{other}.{name} = {}", of(at, &name))
    });
    columns.collect::<Vec<_>>().join(" AND ")
}

/// `rows`: what to take, with the table as `t`. Rows that show the right values are left alone.
fn update(mended: &Table, rows: &str) -> String {
    let (mut looks, mut shown) = (Vec::new(), Vec::new());
    for (at, column) in places(mended, &mended.parts.sums) {
        let of = quote_literal(&column.name);
        looks.push(format!(
            "sum(p.{PART_SUM}) FILTER (WHERE p.{PART_COLUMN} = {of} AND p.{PART_OF} >= {BASE}) AS s{at}"
        ));
        let name = quote_identifier(&column.name);
        let bounded = match bounds(&column.sql_type) {
            Some((least, most)) if !most.is_empty() => {
                format!("greatest({least}, least({most}, p.s{at}))")
            }
            _ => format!("p.s{at}"),
        };
        let value = format!("{bounded}::{}", column.sql_type);
        shown.push((
            name.clone(),
            at,
            format!("CASE WHEN p.s{at} IS NULL THEN t.{name} ELSE {value} END"),
        ));
    }
    for (at, column) in places(mended, &mended.parts.cells) {
        let of =
            format!("p.{PART_COLUMN} = {} AND p.{PART_OF} = {CELL}", quote_literal(&column.name));
        looks.push(format!("bool_or(true) FILTER (WHERE {of}) AS h{at}"));
        looks.push(format!("max(p.{PART_VALUE}) FILTER (WHERE {of}) AS w{at}"));
        let name = quote_identifier(&column.name);
        let value = format!("p.w{at}::{}", cast(&column.sql_type));
        shown.push((name.clone(), at, format!("CASE WHEN p.h{at} THEN {value} ELSE t.{name} END")));
    }
    let key = list(mended.key_columns(), |c| format!("t.{}", quote_identifier(&c.name)));
    let join = |part: &dyn Fn(&(String, usize, String)) -> String, by: &str| {
        shown.iter().map(part).collect::<Vec<_>>().join(by)
    };
    format!(
        "UPDATE {} AS t SET {} FROM (
  SELECT {key}, {} FROM {rows} CROSS JOIN LATERAL (
    SELECT {} FROM {} AS p WHERE {}) AS p
) AS x WHERE {} AND ({})",
        mended.name.quoted(),
        join(&|(name, at, _)| format!("{name} = x.x{at}"), ", "),
        join(&|(_, at, value)| format!("{value} AS x{at}"), ", "),
        looks.join(", "),
        names::parts(&mended.name).quoted(),
        same(mended, "p", |_, name| format!("t.{name}")),
        same(mended, "t", |_, name| format!("x.{name}")),
        join(&|(name, at, _)| format!("t.{name}::text IS DISTINCT FROM x.x{at}::text"), " OR "),
    )
}

fn places<'t>(table: &'t Table, at: &'t [usize]) -> impl Iterator<Item = (usize, &'t Column)> {
    at.iter().filter_map(|at| Some((*at, table.columns.get(*at)?)))
}
