//! Sequences of a node, and what of their numbers is in use.

use herdsman_node::NodeName;
use herdsman_wal::quote_identifier;
use tokio_postgres::Client;

use super::maths::width;
use crate::error::MeshError;
use crate::install::{FoundSequence, FoundTable, sequences_of};

/// Blocks that are looked at, the greatest first. Keys that are spread over more of them come from no sequence.
const MOST: usize = 10_000;

/// The sequences that these tables' columns take from.
pub(crate) async fn read(
    node: &NodeName,
    client: &Client,
    tables: &[FoundTable],
) -> Result<Vec<FoundSequence>, MeshError> {
    let mut sequences = sequences_of(node, client).await?;
    sequences.retain(|sequence| {
        tables
            .iter()
            .any(|table| table.schema == sequence.table_schema && table.name == sequence.table_name)
    });
    for sequence in &mut sequences {
        if !sequence.owned {
            continue;
        }
        let what = format!("read the sequence {}.{}", sequence.schema, sequence.name);
        let failed = |source| MeshError::Sql { node: node.clone(), what: what.clone(), source };
        // First what is used, then what comes next: a sequence that goes on meanwhile is ahead, not behind.
        let owned = |table: &&FoundTable| {
            table.owned
                && table.schema == sequence.table_schema
                && table.name == sequence.table_name
        };
        if sequence.indexed && tables.iter().any(|table| owned(&table)) {
            for sql in [used(sequence), first_blocks(sequence)] {
                let rows = client.query(&sql, &[]).await.map_err(failed)?;
                for row in rows {
                    sequence.used.push(row.try_get(0).map_err(failed)?);
                }
                // Only where the list ends before the beginning, the beginning has to be looked at by itself.
                if sequence.used.len() < MOST {
                    break;
                }
            }
        }
        let name = quoted(&sequence.schema, &sequence.name);
        let next = format!("SELECT last_value, is_called FROM {name}");
        let row = client.query_one(&next, &[]).await.map_err(failed)?;
        let (last, called): (i64, bool) =
            (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        sequence.next = if called { last.saturating_add(sequence.increment) } else { last };
    }
    Ok(sequences)
}

/// The greatest value of each block, from the greatest down: one look into the index for each.
fn used(sequence: &FoundSequence) -> String {
    let column = quote_identifier(&sequence.column);
    let table = quoted(&sequence.table_schema, &sequence.table_name);
    let width = width(&sequence.sql_type);
    format!(
        "WITH RECURSIVE used (value) AS (
           SELECT max({column})::bigint FROM {table}
           UNION ALL
           SELECT (SELECT max({column})::bigint FROM {table} WHERE {column} < ((used.value - 2) / {width}) * {width} + 2)
           FROM used WHERE used.value >= 2
         ) SELECT value FROM used WHERE value IS NOT NULL LIMIT {MOST}"
    )
}

/// The same of the blocks that are members' own.
fn first_blocks(sequence: &FoundSequence) -> String {
    let column = quote_identifier(&sequence.column);
    let table = quoted(&sequence.table_schema, &sequence.table_name);
    let width = width(&sequence.sql_type);
    format!(
        "SELECT value FROM generate_series(0, 1023) b (block) CROSS JOIN LATERAL (SELECT max({column})::bigint FROM {table}
           WHERE {column} BETWEEN b.block::bigint * {width} + 2 AND (b.block::bigint + 1) * {width} + 1) u (value)
         WHERE value IS NOT NULL"
    )
}

fn quoted(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_identifier(schema), quote_identifier(name))
}
