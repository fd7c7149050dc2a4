//! Columns that statements add: what they are filled with must be the same on all members.

use std::collections::BTreeMap;

use herdsman_node::NodeName;
use herdsman_wal::quote_identifier;
use tokio_postgres::Client;

use super::job::failed;
use super::rehearsal::Known;
use crate::error::MeshError;

/// What a new column of a table is filled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// Nothing, or it is computed from the row.
    Plain,
    /// This value.
    Value(String),
    /// Each row with a value of its own.
    Each,
}

/// Those, by table and column.
pub(super) type Columns = BTreeMap<(String, String), Column>;

/// The new columns of tables that were there before, by table and column.
pub(super) async fn read(
    node: &NodeName,
    client: &Client,
    known: &Known,
) -> Result<Columns, MeshError> {
    let wrong = |error| failed(node, "look at new columns", error);
    let sql = "SELECT a.attrelid::bigint, a.attnum, a.attname::text, a.attmissingval::text,
(a.atthasdef OR a.attidentity <> '') AND a.attgenerated = '' AND NOT a.atthasmissing, pg_relation_filenode(a.attrelid)::bigint
FROM pg_attribute AS a WHERE a.attrelid::bigint = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped";
    let oids: Vec<i64> = known.keys().copied().collect();
    let mut columns = BTreeMap::new();
    for row in client.query(sql, &[&oids]).await.map_err(wrong)? {
        let (oid, number): (i64, i16) =
            (row.try_get(0).map_err(wrong)?, row.try_get(1).map_err(wrong)?);
        let Some(table) = known.get(&oid).filter(|table| number > table.last) else { continue };
        let (name, file): (String, i64) =
            (row.try_get(2).map_err(wrong)?, row.try_get(5).map_err(wrong)?);
        let value: Option<String> = row.try_get(3).map_err(wrong)?;
        let column = match value {
            Some(value) => Column::Value(value),
            // What the rows hold is not noted where they were written anew.
            None if row.try_get(4).map_err(wrong)? && file != table.file => {
                let column = quote_identifier(&name);
                let sql = format!(
                    "SELECT min({column}::text), max({column}::text) FROM {}",
                    table.name.quoted()
                );
                let row = client.query_one(&sql, &[]).await.map_err(wrong)?;
                let (least, most): (Option<String>, Option<String>) =
                    (row.try_get(0).map_err(wrong)?, row.try_get(1).map_err(wrong)?);
                match (least, most) {
                    (Some(least), Some(most)) if least == most => Column::Value(least),
                    (None, None) => Column::Plain,
                    _ => Column::Each,
                }
            }
            None => Column::Plain,
        };
        columns.insert((table.name.to_string(), name), column);
    }
    Ok(columns)
}

/// That all members fill them alike.
pub(super) fn alike<'a>(
    members: impl Iterator<Item = (&'a NodeName, &'a Columns)>,
) -> Result<(), MeshError> {
    let mut first: Option<(&NodeName, &Columns)> = None;
    for (node, columns) in members {
        for ((table, column), filled) in columns {
            let other = first.and_then(|(_, known)| known.get(&(table.clone(), column.clone())));
            if *filled == Column::Each || other.is_some_and(|other| other != filled) {
                let problem = match first.filter(|_| *filled != Column::Each) {
                    Some((before, _)) => format!(
                        "new column \"{column}\" of table {table} would be filled with other values on node `{node}` than on node `{before}`"
                    ),
                    None => format!(
                        "new column \"{column}\" of table {table} would be filled with values that each node makes up for itself"
                    ),
                };
                return Err(MeshError::refused(
                    problem,
                    "nothing was changed; add the column without that default (`ADD COLUMN …, ALTER COLUMN … SET DEFAULT …` in one ALTER TABLE), and fill it with an UPDATE on one node",
                ));
            }
        }
        first.get_or_insert((node, columns));
    }
    Ok(())
}
