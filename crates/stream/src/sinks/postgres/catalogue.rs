//! What tables look like at the target, and making them look right.

use herdsman_wal::{Column, Relation, TypeKind, quote_identifier};
use tokio_postgres::{Client, Error};

use super::plan::{TargetColumn, TargetTable};

const TABLE: &str = "
    SELECT c.oid, c.relkind = 'p'
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1::text AND c.relname = $2::text AND c.relkind IN ('r', 'p')";

// The `=` of a type that came with an extension stands beside it; all others are the server's own.
const COLUMNS: &str = "
    SELECT a.attname::text, n.nspname::text, t.typname::text,
           a.attnotnull AND NOT a.atthasdef AND a.attidentity = '',
           a.attidentity = 'a', a.attgenerated <> '',
           CASE WHEN EXISTS (
               SELECT FROM pg_catalog.pg_operator o
               WHERE o.oprname = '=' AND o.oprnamespace = b.typnamespace AND o.oprleft = b.oid AND o.oprright = b.oid)
           THEN bn.nspname::text ELSE 'pg_catalog' END
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    JOIN pg_catalog.pg_type b ON b.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END
    JOIN pg_catalog.pg_namespace bn ON bn.oid = b.typnamespace
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum";

const INDEXES: &str = "
    SELECT i.indisprimary, ARRAY(
        SELECT a.attname::text
        FROM pg_catalog.unnest(i.indkey[0:i.indnkeyatts - 1]) k
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k)
    FROM pg_catalog.pg_index i
    WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate
      AND i.indpred IS NULL AND i.indexprs IS NULL";

/// What the table looks like there; `None` where there is none.
pub(super) async fn read(
    client: &Client,
    schema: &str,
    name: &str,
) -> Result<Option<TargetTable>, Error> {
    let Some(found) = client.query_opt(TABLE, &[&schema, &name]).await? else { return Ok(None) };
    let oid: u32 = found.try_get(0)?;
    let mut table = TargetTable {
        name: qualified(schema, name),
        partitioned: found.try_get(1)?,
        ..TargetTable::default()
    };
    for row in client.query(COLUMNS, &[&oid]).await? {
        let (schema, data_type): (String, String) = (row.try_get(1)?, row.try_get(2)?);
        table.columns.push(TargetColumn {
            name: row.try_get(0)?,
            data_type: qualified(&schema, &data_type),
            needed: row.try_get(3)?,
            identity_always: row.try_get(4)?,
            generated: row.try_get(5)?,
            equality: quote_identifier(row.try_get(6)?),
        });
    }
    for row in client.query(INDEXES, &[&oid]).await? {
        let columns: Vec<String> = row.try_get(1)?;
        if row.try_get(0)? {
            table.primary.clone_from(&columns);
        }
        table.unique.push(columns);
    }
    Ok(Some(table))
}

/// Creates the table as the relation describes it.
pub(super) async fn create(
    client: &Client,
    schema: &str,
    name: &str,
    relation: &Relation,
) -> Result<(), Error> {
    let mut parts = Vec::new();
    for column in &relation.columns {
        let data_type = type_for(client, column).await?;
        parts.push(format!("{} {data_type}", quote_identifier(&column.name)));
    }
    let key: Vec<String> = relation
        .columns
        .iter()
        .filter(|column| column.primary)
        .map(|column| quote_identifier(&column.name))
        .collect();
    if !key.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    // Asked first: `IF NOT EXISTS` needs the right to create even where there is nothing to do.
    let known = "SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1::text";
    if client.query_opt(known, &[&schema]).await?.is_none() {
        let sql = format!("CREATE SCHEMA IF NOT EXISTS {}", quote_identifier(schema));
        client.batch_execute(&sql).await?;
    }
    let table = qualified(schema, name);
    client
        .batch_execute(&format!("CREATE TABLE IF NOT EXISTS {table} ({})", parts.join(", ")))
        .await
}

/// Adds columns to a table.
pub(super) async fn add_columns(
    client: &Client,
    table: &str,
    columns: &[&Column],
) -> Result<(), Error> {
    let mut parts = Vec::new();
    for column in columns {
        let data_type = type_for(client, column).await?;
        parts.push(format!(
            "ADD COLUMN IF NOT EXISTS {} {data_type}",
            quote_identifier(&column.name)
        ));
    }
    client.batch_execute(&format!("ALTER TABLE {table} {}", parts.join(", "))).await
}

/// A column's type as the target knows it; `text`, which holds anything, where it knows none of that name.
async fn type_for(client: &Client, column: &Column) -> Result<String, Error> {
    let mut data_type = &*column.data_type;
    loop {
        let name = qualified(&data_type.schema, &data_type.name);
        // The server writes modifiers as each type reads them.
        let sql = "SELECT pg_catalog.format_type(pg_catalog.to_regtype($1::text), $2::int4)
                   WHERE pg_catalog.to_regtype($1::text) IS NOT NULL";
        let found = match data_type.schema.is_empty() {
            true => None,
            false => client.query_opt(sql, &[&name, &column.type_modifier]).await?,
        };
        match (found, &data_type.kind) {
            (Some(row), _) => return row.try_get(0),
            (None, TypeKind::Domain(base)) => data_type = base,
            (None, _) => return Ok("text".to_owned()),
        }
    }
}

fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_identifier(schema), quote_identifier(name))
}
