//! Tables of a node, read from its catalogue.

use std::collections::BTreeSet;

use herdsman_node::NodeName;
use herdsman_wal::Glob;
use serde::de::DeserializeOwned;
use tokio_postgres::Client;

use super::found::FoundTable;
use super::queries;
use crate::error::MeshError;
use crate::names;
use crate::setup::Setup;
use crate::table::TableName;

/// The patterns of the configuration.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) wanted: Vec<Glob>,
    excluded: Vec<Glob>,
}

impl Chosen {
    pub(super) fn new(setup: &Setup) -> Result<Self, MeshError> {
        let globs = |patterns: &[String]| {
            patterns.iter().map(|pattern| Glob::new(pattern)).collect::<Result<Vec<_>, _>>()
        };
        let advice = "write tables of `mesh:` as schema.table, such as public.*";
        let wrong =
            |error: herdsman_wal::InvalidGlob| MeshError::refused(error.to_string(), advice);
        let config = &setup.config;
        Ok(Self {
            wanted: globs(&config.tables).map_err(wrong)?,
            excluded: globs(&config.exclude).map_err(wrong)?,
        })
    }

    pub(super) fn includes(&self, schema: &str, name: &str) -> bool {
        let any = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(schema, name));
        any(&self.wanted) && !any(&self.excluded)
    }
}

/// The tables that are meant, without a look at their rows.
pub(super) async fn read(
    node: &NodeName,
    client: &Client,
    chosen: &Chosen,
) -> Result<Vec<FoundTable>, MeshError> {
    let tables: Vec<FoundTable> = ask(node, client, "read its tables", queries::TABLES).await?;
    let (parts, tables): (Vec<_>, Vec<_>) =
        tables.into_iter().partition(|table| table.schema == names::PARTS);
    let mut meant: Vec<FoundTable> =
        tables.into_iter().filter(|table| chosen.includes(&table.schema, &table.name)).collect();
    let known: BTreeSet<TableName> =
        meant.iter().map(|table| names::parts(&table.table_name())).collect();
    meant.extend(parts.into_iter().filter(|table| known.contains(&table.table_name())));
    Ok(meant)
}

/// Asks for rows of one JSON value each.
pub(super) async fn ask<T: DeserializeOwned>(
    node: &NodeName,
    client: &Client,
    what: &str,
    sql: &str,
) -> Result<Vec<T>, MeshError> {
    let failed = |source| MeshError::Sql { node: node.clone(), what: what.to_owned(), source };
    let rows = client.query(sql, &[]).await.map_err(failed)?;
    let mut values = Vec::with_capacity(rows.len());
    for row in rows {
        let text: String = row.try_get(0).map_err(failed)?;
        let value = serde_json::from_str(&text).map_err(|error| {
            let problem =
                format!("node `{node}`: failed to {what}: its answer cannot be read: {error}");
            MeshError::refused(problem, "please report it with the server's version")
        })?;
        values.push(value);
    }
    Ok(values)
}
