//! Looking at nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use herdsman_node::{Lsn, NodeName};
use herdsman_wal::{Session, WalError, publication, quote_identifier, slot};
use serde::Deserialize;
use tokio_postgres::Client;

use super::carrying::connect;
use super::found::{Facts, Found, FoundTable, GoneTable, Own, TableState};
use super::tables::{self, Chosen, ask};
use super::{Survey, queries};
use crate::error::MeshError;
use crate::names;
use crate::sequences;
use crate::setup::{Member, MemberState, Setup};
use crate::stamp::NodeId;
use crate::table::TableName;

/// What looking at one node may take: catalogues of thousands of tables included.
const LIMIT: Duration = Duration::from_secs(30);

/// Looks at every node of the configuration, at all of them at once.
///
/// # Errors
/// A node cannot be reached or asked; the error names it.
pub async fn survey(setup: &Arc<Setup>) -> Result<Survey, MeshError> {
    let (survey, mut failed) = survey_each(setup).await;
    // The first of the configuration: which of them is named does not depend on who was faster.
    let named = setup.config.nodes.iter().find_map(|node| failed.remove(node));
    named.map_or(Ok(survey), Err)
}

/// As [`survey`], and one node that cannot be looked at keeps nobody from looking at the others: why it cannot comes
/// beside what was found on them.
pub async fn survey_each(setup: &Arc<Setup>) -> (Survey, BTreeMap<NodeName, MeshError>) {
    let looking = setup
        .config
        .nodes
        .iter()
        .map(|node| async move { (node.clone(), look(setup, node).await) });
    let mut nodes: BTreeMap<NodeName, Found> = BTreeMap::new();
    let mut failed = BTreeMap::new();
    for (node, outcome) in join_all(looking).await {
        match outcome {
            Ok(found) => drop(nodes.insert(node, found)),
            Err(error) => drop(failed.insert(node, error)),
        }
    }
    let wanting = missing_elsewhere(&nodes);
    let asking = wanting
        .iter()
        .map(|(node, tables)| async move { (node.clone(), lacking(setup, node, tables).await) });
    for (node, outcome) in join_all(asking).await {
        match outcome {
            Ok(lacks) => {
                if let Some(found) = nodes.get_mut(&node) {
                    found.lacks = lacks;
                }
            }
            Err(error) => {
                nodes.remove(&node);
                failed.insert(node, error);
            }
        }
    }
    (Survey { nodes }, failed)
}

/// Looks at one node.
///
/// # Errors
/// It cannot be reached or asked, or did not answer in time.
pub async fn look(setup: &Setup, node: &NodeName) -> Result<Found, MeshError> {
    let looking = async {
        let session = connect(setup, node).await?;
        found(setup, node, &session).await
    };
    tokio::time::timeout(LIMIT, Box::pin(looking)).await.unwrap_or_else(|_| {
        let what = "looking at it".to_owned();
        Err(MeshError::TimedOut { node: node.clone(), what, seconds: LIMIT.as_secs() })
    })
}

#[derive(Default, Deserialize)]
struct Seen {
    schemas: BTreeSet<String>,
    member_of: BTreeSet<String>,
    roles: BTreeSet<String>,
    relations: BTreeSet<String>,
    functions: BTreeMap<String, String>,
    gone: BTreeMap<String, GoneTable>,
}

/// Looks at one node through a session, and within its transaction where one is open.
///
/// # Errors
/// It cannot be asked.
pub(crate) async fn found(
    setup: &Setup,
    node: &NodeName,
    session: &Session,
) -> Result<Found, MeshError> {
    let client = session.client();
    let facts: Vec<Facts> = ask(node, client, "read its settings", queries::FACTS).await?;
    let facts = facts.into_iter().next().unwrap_or_default();
    // An older catalogue lacks columns that are asked for; that it is too old is all there is to say.
    if facts.version < 150_000 {
        return Ok(Found { facts, ..Found::default() });
    }
    let seen: Vec<Seen> = ask(node, client, "look for the mesh's schemas", queries::OWN).await?;
    let seen = seen.into_iter().next().unwrap_or_default();
    let chosen = Chosen::new(setup)?;
    let wal = |source: WalError| MeshError::Wal { node: node.clone(), source: source.into() };
    let has = |relation: &str| seen.relations.contains(relation);
    let own: Vec<Own> = match has("mesh") {
        true => ask(node, client, "read who it is in the mesh", queries::MESH).await?,
        false => Vec::new(),
    };
    let mut tables = tables::read(node, client, &chosen).await?;
    rows_in(node, client, &mut tables).await?;
    let publication = names::publication(&setup.config.name)?;
    let failed = sql(node, "read the mesh's tables");
    let generated = client.query_opt(queries::GENERATED, &[&publication.as_str()]).await;
    let generated = generated.map_err(&failed)?.map(|row| row.try_get(0)).transpose();
    let mut progress = BTreeMap::new();
    if has("progress") {
        for row in client.query(queries::PROGRESS, &[]).await.map_err(&failed)? {
            let lsn: String = row.try_get(1).map_err(&failed)?;
            let lsn: Lsn = lsn.parse().unwrap_or_default();
            progress.insert(row.try_get(0).map_err(&failed)?, lsn);
        }
    }
    let mut prepared = BTreeMap::new();
    if has("tables") {
        for row in client.query(queries::PREPARED, &[]).await.map_err(&failed)? {
            let state = TableState {
                identity: row.try_get(1).map_err(&failed)?,
                spread: row.try_get(2).map_err(&failed)?,
            };
            prepared.insert(row.try_get(0).map_err(&failed)?, state);
        }
    }
    let members = if has("members") { known_members(node, client).await? } else { Vec::new() };
    let sequences = sequences::read(node, client, &tables).await?;
    let owner = |role: &String| facts.superuser || seen.member_of.contains(role);
    Ok(Found {
        foreign_schema: !has("mesh") && seen.schemas.contains(names::SCHEMA),
        own: own.into_iter().next(),
        members,
        prepared,
        tables,
        publication: publication::inspect(session, &publication).await.map_err(wal)?,
        slots: slot::list(session).await.map_err(wal)?,
        publishes_generated: generated.map_err(&failed)?.unwrap_or(false),
        progress,
        sequences,
        lacks: BTreeMap::new(),
        owners: seen.roles.iter().filter(|role| owner(role)).cloned().collect(),
        roles: seen.roles,
        schemas: seen.schemas,
        relations: seen.relations,
        functions: seen.functions,
        gone: seen.gone,
        facts,
    })
}

/// The members as a node knows them; empty where it is none.
///
/// # Errors
/// The statement failed.
pub(super) async fn members(node: &NodeName, client: &Client) -> Result<Vec<Member>, MeshError> {
    let there = "select to_regclass('herdsman.members') is not null";
    let failed = sql(node, "look for the mesh's members");
    let row = client.query_one(there, &[]).await.map_err(&failed)?;
    if !row.try_get::<_, bool>(0).map_err(&failed)? {
        return Ok(Vec::new());
    }
    known_members(node, client).await
}

async fn known_members(node: &NodeName, client: &Client) -> Result<Vec<Member>, MeshError> {
    let failed = sql(node, "read the mesh's members");
    let mut members = Vec::new();
    for row in client.query(queries::MEMBERS, &[]).await.map_err(&failed)? {
        let (id, name): (i16, String) =
            (row.try_get(0).map_err(&failed)?, row.try_get(1).map_err(&failed)?);
        let state: String = row.try_get(2).map_err(&failed)?;
        let unreadable = |problem: String| {
            let problem = format!("node `{node}`: herdsman.members cannot be read: {problem}");
            MeshError::refused(problem, "mend that row by hand, as the other members have it")
        };
        members.push(Member {
            id: NodeId(id),
            name: NodeName::new(&name).map_err(|error| unreadable(error.to_string()))?,
            state: state_named(&state)
                .ok_or_else(|| unreadable(format!("`{state}` is no state of a member")))?,
        });
    }
    Ok(members)
}

fn state_named(word: &str) -> Option<MemberState> {
    use MemberState::{Active, Gone, Joining, Leaving};
    [Joining, Active, Leaving, Gone].into_iter().find(|state| state.name() == word)
}

/// Notes of each table whether it has rows. One that may not be read is left as without; that it is not ours is a problem
/// of its own.
async fn rows_in(
    node: &NodeName,
    client: &Client,
    tables: &mut [FoundTable],
) -> Result<(), MeshError> {
    let asking =
        tables.iter_mut().filter(|table| table.owned && table.kind == "r").map(|table| async {
            let from = table.table_name().quoted();
            let row = client.query_one(&format!("select exists (select from {from})"), &[]).await?;
            table.has_rows = row.try_get(0)?;
            Ok(())
        });
    let failed = sql(node, "look whether its tables have rows");
    join_all(asking).await.into_iter().collect::<Result<(), _>>().map_err(failed)
}

/// By node, the tables it lacks and another node has, with what they are made of.
fn missing_elsewhere(
    nodes: &BTreeMap<NodeName, Found>,
) -> BTreeMap<NodeName, BTreeMap<TableName, Vec<String>>> {
    let mut missing = BTreeMap::new();
    for (node, found) in nodes {
        let there: BTreeSet<TableName> = found.tables.iter().map(FoundTable::table_name).collect();
        let others = nodes.values().flat_map(|other| &other.tables);
        let lacking: BTreeMap<TableName, Vec<String>> = others
            .filter(|table| !there.contains(&table.table_name()))
            .map(|table| (table.table_name(), table.needs.clone()))
            .collect();
        if !lacking.is_empty() && found.facts.version >= 150_000 {
            missing.insert(node.clone(), lacking);
        }
    }
    missing
}

async fn lacking(
    setup: &Setup,
    node: &NodeName,
    tables: &BTreeMap<TableName, Vec<String>>,
) -> Result<BTreeMap<TableName, Vec<String>>, MeshError> {
    let failed = sql(node, "look for types and functions");
    let session = connect(setup, node).await?;
    let mut lacks = BTreeMap::new();
    for (table, needs) in tables {
        let missing = match session.client().query_one(queries::LACKING, &[needs]).await {
            Ok(row) => row.try_get(0).map_err(&failed)?,
            // A function one of whose argument types is missing is an error for some versions.
            Err(error) if error.as_db_error().is_some() => needs.clone(),
            Err(error) => return Err(failed(error)),
        };
        lacks.insert(table.clone(), missing);
    }
    Ok(lacks)
}

/// The error of a statement that was to do `what`.
pub(super) fn sql(node: &NodeName, what: &str) -> impl Fn(tokio_postgres::Error) -> MeshError {
    let (node, what) = (node.clone(), what.to_owned());
    move |source| MeshError::Sql { node: node.clone(), what: what.clone(), source }
}

/// A name in quotes, for [`super::ddl`] and [`super::planning`] alike.
pub(super) fn quoted(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_identifier(schema), quote_identifier(name))
}
