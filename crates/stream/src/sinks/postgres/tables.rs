//! The tables seen so far, each with the plan for it and the statements prepared for that.

use std::collections::HashMap;
use std::sync::Arc;

use herdsman_wal::{Body, Column, Relation};
use tokio_postgres::{Client, Statement};

use super::catalogue;
use super::config::{OnSchemaChange, PostgresConfig};
use super::fault::Fault;
use super::plan::{Plan, Shape, SharedPlan, TargetTable};
use crate::sink::Batch;

/// Relations remembered at most: more come only from as many changes of tables, or from a reader that makes new ones all
/// the time.
const MOST_RELATIONS: usize = 4096;

/// Statements remembered at most; the server keeps as many.
const MOST_STATEMENTS: usize = 1024;

/// The tables seen so far.
#[derive(Default)]
pub(super) struct Tables {
    /// By address, which cannot be used again while the relation is kept here.
    plans: HashMap<usize, (Arc<Relation>, SharedPlan)>,
    statements: HashMap<(u64, Shape), Statement>,
    next_id: u64,
}

impl Tables {
    /// The plan for a relation that [`Tables::prepare`] has seen.
    pub(super) fn plan(&self, relation: &Relation) -> Option<SharedPlan> {
        let (_, plan) = self.plans.get(&address(relation))?;
        Some(SharedPlan::clone(plan))
    }

    /// Forgets everything: tables may look another way.
    pub(super) fn forget(&mut self) {
        self.plans.clear();
        self.statements.clear();
    }

    /// Plans for every table of the batch, and changes tables at the target as far as that is allowed.
    pub(super) async fn prepare(
        &mut self,
        client: &Client,
        config: &PostgresConfig,
        batch: &Batch,
        indexes: &[usize],
    ) -> Result<(), Fault> {
        for change in indexes.iter().filter_map(|&index| batch.changes.get(index)) {
            let view = change.view();
            if let Body::Truncate { tables, .. } = view.body {
                for table in tables {
                    self.prepare_one(client, config, table).await?;
                }
            } else if let Some(table) = view.table() {
                self.prepare_one(client, config, table).await?;
            }
        }
        Ok(())
    }

    async fn prepare_one(
        &mut self,
        client: &Client,
        config: &PostgresConfig,
        relation: &Arc<Relation>,
    ) -> Result<(), Fault> {
        if self.plans.contains_key(&address(relation)) {
            return Ok(());
        }
        if self.plans.len() >= MOST_RELATIONS {
            self.forget();
        }
        // After a reconnection everything is described anew, and mostly as before.
        let same = self.plans.values().find(|(known, _)| known == relation);
        let plan = match same {
            Some((_, plan)) => SharedPlan::clone(plan),
            None => {
                let target = Box::pin(table_for(client, config, relation)).await?;
                self.next_id += 1;
                Arc::new(Plan::new(self.next_id, relation, &target))
            }
        };
        if plan.columns.is_empty() {
            return Err(stop(
                format!("{} has no column of {relation}", plan.table),
                "correct `tables`, or create the table there with the same columns",
            ));
        }
        self.plans.insert(address(relation), (Arc::clone(relation), plan));
        Ok(())
    }

    /// The prepared statement of this form.
    pub(super) async fn statement(
        &mut self,
        client: &Client,
        plan: &Plan,
        shape: &Shape,
    ) -> Result<Statement, Fault> {
        let key = (plan.id, shape.clone());
        if let Some(known) = self.statements.get(&key) {
            return Ok(known.clone());
        }
        if self.statements.len() >= MOST_STATEMENTS {
            self.statements.clear();
        }
        let prepared = client.prepare(&plan.sql(shape)).await.map_err(|e| Fault::of(&e))?;
        self.statements.insert(key, prepared.clone());
        Ok(prepared)
    }
}

fn address(relation: &Relation) -> usize {
    std::ptr::from_ref(relation).addr()
}

/// The table at the target, with everything that the relation has and the settings ask for.
async fn table_for(
    client: &Client,
    config: &PostgresConfig,
    relation: &Relation,
) -> Result<TargetTable, Fault> {
    let (schema, name) = config.target_of(&relation.schema, &relation.name);
    let read = async || catalogue::read(client, &schema, &name).await.map_err(|e| Fault::of(&e));
    let mut table = read().await?;
    if table.is_none() && config.create_tables {
        tracing::info!(table = %format!("{schema}.{name}"), "creates the table at the target");
        catalogue::create(client, &schema, &name, relation)
            .await
            .map_err(|error| Fault::of(&error))?;
        table = read().await?;
    }
    let Some(table) = table else {
        return Err(stop(
            format!("there is no table {schema}.{name}"),
            "create it there, set the sink's `create_tables: true`, or leave the table out with `exclude`",
        ));
    };
    let lacking = |table: &TargetTable| -> Vec<Column> {
        let has = |column: &Column| table.columns.iter().any(|c| c.name == *column.name);
        relation.columns.iter().filter(|column| !has(column)).cloned().collect()
    };
    let missing = lacking(&table);
    if missing.is_empty() || config.on_schema_change == OnSchemaChange::Ignore {
        return Ok(table);
    }
    let names: Vec<String> = missing.iter().map(|column| format!("`{}`", column.name)).collect();
    let names = names.join(", ");
    if config.on_schema_change == OnSchemaChange::Error {
        return Err(stop(
            format!("{schema}.{name} lacks {names}"),
            "add what is missing there, or set the sink's `on_schema_change` to `add_columns` or `ignore`",
        ));
    }
    tracing::info!(table = %format!("{schema}.{name}"), columns = names, "adds columns at the target");
    catalogue::add_columns(client, &table.name, &missing.iter().collect::<Vec<_>>())
        .await
        .map_err(|error| Fault::of(&error))?;
    read().await?.ok_or_else(|| {
        stop(format!("{schema}.{name} vanished"), "find out who drops tables at the target")
    })
}

/// Somebody has to do something at the target; until then it is tried again on the same connection.
fn stop(problem: String, advice: &'static str) -> Fault {
    Fault::Unavailable { problem, advice, reopen: false }
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").field("plans", &self.plans.len()).finish_non_exhaustive()
    }
}
