//! Rows whose foreign key points to nothing.
//!
//! Applying switches foreign keys off, as the rows of one transaction may lose to others one by one: a parent deleted on
//! one member while a child is inserted on another leaves the child alone, on all members alike.

use std::sync::Arc;
use std::time::Duration;

use herdsman_wal::quote_identifier;
use tokio_postgres::types::ToSql;

use super::compare::Key;
use super::scan::{passed, positions, transposed};
use super::session::{Seat, active};
use super::sql::{matches, text_of, wanted};
use crate::error::MeshError;
use crate::setup::Setup;
use crate::table::{ForeignKey, Table};

/// Rows of one table whose foreign key points to nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Orphans {
    /// Their table.
    pub table: String,
    /// The foreign key's name.
    pub foreign_key: String,
    /// The table it points to.
    pub to: String,
    /// How many; at most 10,000 are looked for at a time.
    pub rows: u64,
    /// The keys of the first of them.
    pub keys: Vec<Key>,
    /// How many were deleted.
    pub deleted: u64,
}

/// Rows that are looked for at a time.
const MOST: u32 = 10_000;
/// Keys that are told.
const TOLD: usize = 100;

/// Looks for orphans on the member of the lowest number, and, where `repair`, deletes them there by ordinary statements,
/// which spread like everybody's: one member does it, or several would stamp the same deletion.
///
/// # Errors
/// A member cannot be reached or asked, or the login may not delete.
pub async fn orphans(
    setup: &Arc<Setup>,
    patience: Duration,
    repair: bool,
) -> Result<Vec<Orphans>, MeshError> {
    let seats = active(setup).await?;
    let Some(elected) = seats.first() else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for table in &elected.tables {
        for foreign_key in &table.foreign_keys {
            let keys = alone(elected, table, foreign_key, None).await?;
            if !keys.is_empty() {
                found.push((table, foreign_key, keys));
            }
        }
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    // A parent may be on its way, in another stream than its child.
    let positions = positions(&seats).await?;
    passed(&seats, &positions, patience).await?;
    let mut orphans = Vec::new();
    for (table, foreign_key, keys) in found {
        let keys = alone(elected, table, foreign_key, Some(&keys)).await?;
        if keys.is_empty() {
            continue;
        }
        let deleted = if repair { delete(elected, table, foreign_key, &keys).await? } else { 0 };
        orphans.push(Orphans {
            table: table.name.to_string(),
            foreign_key: foreign_key.name.to_string(),
            to: foreign_key.to.to_string(),
            rows: u64::try_from(keys.len()).unwrap_or(u64::MAX),
            keys: keys.into_iter().take(TOLD).collect(),
            deleted,
        });
    }
    Ok(orphans)
}

/// That a row `t` points somewhere, and to nothing.
fn points_to_nothing(table: &Table, foreign_key: &ForeignKey) -> String {
    let names: Vec<String> = foreign_key
        .columns
        .iter()
        .filter_map(|at| table.columns.get(*at))
        .map(|column| format!("t.{}", quote_identifier(&column.name)))
        .collect();
    let set: Vec<String> = names.iter().map(|name| format!("{name} IS NOT NULL")).collect();
    let equal: Vec<String> = foreign_key
        .to_columns
        .iter()
        .zip(&names)
        .map(|(to, name)| format!("p.{} = {name}", quote_identifier(to)))
        .collect();
    format!(
        "{} AND NOT EXISTS (SELECT FROM {} AS p WHERE {})",
        set.join(" AND "),
        foreign_key.to.quoted(),
        equal.join(" AND ")
    )
}

async fn alone(
    seat: &Seat,
    table: &Table,
    foreign_key: &ForeignKey,
    among: Option<&[Key]>,
) -> Result<Vec<Key>, MeshError> {
    let what = "look for rows whose foreign key points to nothing";
    let texts: Vec<String> = table.key_columns().map(|column| text_of(column, "t", true)).collect();
    let mut sql = format!("SELECT {} FROM ONLY {} AS t", texts.join(", "), table.name.quoted());
    let columns = among.map(|keys| transposed(&keys.iter().collect::<Vec<_>>(), texts.len()));
    if columns.is_some() {
        sql.push_str(&format!(" JOIN {} ON {}", wanted(table), matches(table, "t", "w")));
    }
    sql.push_str(&format!(" WHERE {} LIMIT {MOST}", points_to_nothing(table, foreign_key)));
    let columns = columns.unwrap_or_default();
    let parameters: Vec<&(dyn ToSql + Sync)> =
        columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
    let rows = seat.session.rows(what, &sql, &parameters).await?;
    rows.iter()
        .map(|row| (0..texts.len()).map(|at| seat.session.get(what, row, at)).collect())
        .collect()
}

async fn delete(
    seat: &Seat,
    table: &Table,
    foreign_key: &ForeignKey,
    keys: &[Key],
) -> Result<u64, MeshError> {
    let columns = transposed(&keys.iter().collect::<Vec<_>>(), table.key.len());
    let parameters: Vec<&(dyn ToSql + Sync)> =
        columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
    let sql = format!(
        "DELETE FROM ONLY {} AS t USING {} WHERE {} AND {}",
        table.name.quoted(),
        wanted(table),
        matches(table, "t", "w"),
        points_to_nothing(table, foreign_key)
    );
    // The users' triggers run, and find what they find in any session.
    let what = "delete rows whose foreign key points to nothing";
    seat.session.run(what, "RESET search_path").await?;
    seat.session.execute(what, &sql, &parameters).await
}
