//! Statements are run on every member once, and taken back: what they do is seen before anything waits for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::try_join_all;
use herdsman_node::NodeName;
use herdsman_wal::{Session, quote_identifier, quote_literal};
use tokio_postgres::Client;

use super::job::failed;
use super::newcomers::{self, Columns};
use super::refusals;
use crate::config::Mode;
use crate::error::MeshError;
use crate::install::{self, Found, How, Plan, Survey};
use crate::names;
use crate::setup::Setup;
use crate::table::TableName;

/// What the statements do.
#[derive(Clone, Debug, Default)]
pub(super) struct Rehearsed {
    /// Tables of the mesh that they lock, in quotes.
    pub(super) tables: BTreeSet<String>,
    /// As whom they run.
    pub(super) role: Option<String>,
    /// What has to be run before them.
    pub(super) before: Vec<String>,
    /// By node, what has to be run after them.
    pub(super) after: BTreeMap<NodeName, Vec<String>>,
    pub(super) notes: Vec<String>,
}

/// One member's part.
struct Seen {
    before: Found,
    after: Found,
    tables: BTreeSet<String>,
    columns: Columns,
}

const SETTINGS: &str = "BEGIN; SET LOCAL lock_timeout = '3s'; SET LOCAL statement_timeout = '10min'; SET LOCAL TimeZone = 'UTC';
SET LOCAL DateStyle = 'ISO'; SET LOCAL IntervalStyle = 'postgres'";

/// Runs the statements on each of these nodes, one after the other, and takes them back.
pub(super) async fn rehearse(
    setup: &Arc<Setup>,
    sessions: &[(NodeName, Session)],
    statements: &[String],
    role: Option<&str>,
) -> Result<Rehearsed, MeshError> {
    let looking = sessions.iter().map(|(node, session)| async move {
        Ok::<_, MeshError>((node.clone(), install::found(setup, node, session).await?))
    });
    let mut befores: BTreeMap<NodeName, Found> = try_join_all(looking).await?.into_iter().collect();
    let survey = Survey { nodes: befores.clone() };
    refusals::unready(&install::plan(setup, &survey))?;
    let role = role.map(ToOwned::to_owned).or_else(|| owner(&befores));
    let mut rehearsed = Rehearsed { role, ..Rehearsed::default() };
    let mut seen = BTreeMap::new();
    for (node, session) in sessions {
        let Some(before) = befores.remove(node) else { continue };
        let outcome = on_one(setup, node, session, before, statements, &mut rehearsed).await;
        let back = session.client().batch_execute("ROLLBACK").await;
        let found = outcome?;
        back.map_err(|error| failed(node, "take the rehearsal back", error))?;
        seen.insert(node.clone(), found);
    }
    newcomers::alike(seen.iter().map(|(node, seen)| (node, &seen.columns)))?;
    let after: BTreeMap<_, _> =
        seen.iter().map(|(node, seen)| (node.clone(), seen.after.clone())).collect();
    let plan = install::plan(setup, &Survey { nodes: after });
    refusals::unfit(&plan)?;
    rehearsed.notes.clone_from(&plan.notes);
    for (node, seen) in &seen {
        rehearsed.tables.extend(seen.tables.iter().cloned());
        let mut sql = dropped(seen);
        sql.extend(steps(&plan, node)?);
        rehearsed.after.insert(node.clone(), sql);
    }
    Ok(rehearsed)
}

/// The one owner of all tables, where that is another role than ours.
fn owner(found: &BTreeMap<NodeName, Found>) -> Option<String> {
    let owners: BTreeSet<&String> =
        found.values().flat_map(|found| &found.tables).map(|table| &table.owner).collect();
    let owner = (*owners.first()?).clone();
    let may = |found: &Found| found.owners.contains(&owner) && found.facts.role != owner;
    (owners.len() == 1 && found.values().all(may)).then_some(owner)
}

async fn on_one(
    setup: &Arc<Setup>,
    node: &NodeName,
    session: &Session,
    before: Found,
    statements: &[String],
    rehearsed: &mut Rehearsed,
) -> Result<Seen, MeshError> {
    let tables = run(node, session, &before, statements, rehearsed).await?;
    let client = session.client();
    let what = "see what the statements do";
    let wrong = |error| failed(node, what, error);
    let oids: Vec<i64> = tables.keys().copied().collect();
    // Before the catalogue is read, which locks tables itself.
    let locked = "SELECT DISTINCT relation::bigint FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'
AND mode NOT IN ('AccessShareLock', 'RowShareLock') AND relation::bigint = ANY ($1)";
    let locked = client.query(locked, &[&oids]).await.map_err(wrong)?;
    let mut held = BTreeSet::new();
    for row in locked {
        let oid: i64 = row.try_get(0).map_err(wrong)?;
        if let Some(table) = tables.get(&oid) {
            held.insert(table.name.quoted());
        }
    }
    let named = format!(
        "SELECT c.oid::bigint, {} FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid::bigint = ANY ($1)",
        names::as_noted("n.nspname", "c.relname")
    );
    for row in client.query(&named, &[&oids]).await.map_err(wrong)? {
        let (oid, now): (i64, String) =
            (row.try_get(0).map_err(wrong)?, row.try_get(1).map_err(wrong)?);
        if let Some(table) = tables.get(&oid).filter(|table| table.name.to_string() != now) {
            return Err(refusals::renamed(&table.name, &now));
        }
    }
    if setup.config.mode == Mode::Untouched {
        stays(node, client, &tables).await?;
        // What is applied while they are locked gets one version: whatever may come with it is locked as well.
        held.extend(tables.values().map(|table| table.name.quoted()));
    }
    let columns = newcomers::read(node, client, &tables).await?;
    let after = install::found(setup, node, session).await?;
    refusals::changed(node, &before, &after)?;
    Ok(Seen { before, after, tables: held, columns })
}

/// That no table is written anew.
async fn stays(node: &NodeName, client: &Client, tables: &Known) -> Result<(), MeshError> {
    let wrong = |error| failed(node, "see which tables are written anew", error);
    let sql = "SELECT oid::bigint, pg_relation_filenode(oid)::bigint FROM pg_class WHERE oid::bigint = ANY ($1)";
    let oids: Vec<i64> = tables.keys().copied().collect();
    for row in client.query(sql, &[&oids]).await.map_err(wrong)? {
        let (oid, file): (i64, i64) =
            (row.try_get(0).map_err(wrong)?, row.try_get(1).map_err(wrong)?);
        if let Some(table) = tables.get(&oid).filter(|table| table.file != file) {
            return Err(refusals::rewritten(&table.name));
        }
    }
    Ok(())
}

/// Tables of the mesh by their numbers.
pub(super) type Known = BTreeMap<i64, Before>;

/// A table before the statements.
pub(super) struct Before {
    pub(super) name: TableName,
    /// The number of its last column.
    pub(super) last: i16,
    /// The number of its file: another one, once it is rewritten.
    pub(super) file: i64,
}

async fn run(
    node: &NodeName,
    session: &Session,
    before: &Found,
    statements: &[String],
    rehearsed: &mut Rehearsed,
) -> Result<Known, MeshError> {
    let client = session.client();
    loop {
        let settings = client.batch_execute(SETTINGS).await;
        settings.map_err(|error| failed(node, "begin a rehearsal", error))?;
        let known = known(node, session, before).await?;
        let running = async {
            for sql in &rehearsed.before {
                client.batch_execute(sql).await.map_err(|error| (sql.clone(), error))?;
            }
            if let Some(role) = &rehearsed.role {
                let sql = format!("SET LOCAL ROLE {}", quote_identifier(role));
                client.batch_execute(&sql).await.map_err(|error| (sql.clone(), error))?;
            }
            for sql in statements {
                // By the extended protocol, which takes one statement at a time.
                let ran = client.execute(sql.as_str(), &[]).await;
                ran.map_err(|error| (sql.clone(), error))?;
            }
            let sql = "SET LOCAL ROLE NONE";
            client.batch_execute(sql).await.map_err(|error| (sql.to_owned(), error))
        };
        let Err((sql, error)) = running.await else { return Ok(known) };
        // A trigger of ours whose condition names the key: it is made again afterwards.
        let ours = moved_triggers(&known, statements);
        let unsupported = error.code().is_some_and(|code| code.code() == "0A000");
        if unsupported && rehearsed.before.is_empty() && !ours.is_empty() {
            let back = client.batch_execute("ROLLBACK").await;
            back.map_err(|error| failed(node, "take the rehearsal back", error))?;
            rehearsed.before = ours;
            continue;
        }
        return Err(refusals::failed(node, &sql, error));
    }
}

/// Drops that trigger of all tables that the statements seem to name.
fn moved_triggers(known: &Known, statements: &[String]) -> Vec<String> {
    let texts: Vec<String> = statements.iter().map(|text| text.to_lowercase()).collect();
    let named = known.values().filter(|table| {
        let name = table.name.name.to_lowercase();
        texts.iter().any(|text| text.contains(&name))
    });
    named
        .map(|table| {
            format!("DROP TRIGGER IF EXISTS \"~herdsman_moved\" ON {}", table.name.quoted())
        })
        .collect()
}

async fn known(node: &NodeName, session: &Session, before: &Found) -> Result<Known, MeshError> {
    let wrong = |error| failed(node, "look at its tables", error);
    let sql = format!(
        "SELECT c.oid::bigint, {noted}, (SELECT max(attnum) FROM pg_attribute WHERE attrelid = c.oid), pg_relation_filenode(c.oid)::bigint
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND {noted} = ANY ($1)",
        noted = names::as_noted("n.nspname", "c.relname")
    );
    let prepared: Vec<&str> = before.prepared.keys().map(String::as_str).collect();
    let mut known = Known::new();
    for row in session.client().query(&sql, &[&prepared]).await.map_err(wrong)? {
        let name: String = row.try_get(1).map_err(wrong)?;
        if let Ok(name) = name.parse() {
            let (last, file) = (row.try_get(2).map_err(wrong)?, row.try_get(3).map_err(wrong)?);
            known.insert(row.try_get(0).map_err(wrong)?, Before { name, last, file });
        }
    }
    Ok(known)
}

/// What is left of tables that are dropped.
fn dropped(seen: &Seen) -> Vec<String> {
    let there: BTreeSet<String> =
        seen.after.tables.iter().map(|table| table.table_name().to_string()).collect();
    let mut sql = Vec::new();
    for table in &seen.before.tables {
        let name = table.table_name();
        let noted = name.to_string();
        if there.contains(&noted) || !seen.before.prepared.contains_key(&noted) {
            continue;
        }
        let gone = names::gone(&name);
        sql.push(format!("DROP TABLE IF EXISTS {gone}"));
        sql.push(format!("DROP FUNCTION IF EXISTS {gone}()"));
        for own in ["tables", "truncates", "evicted"] {
            let (own, rel) = (names::own(own), quote_literal(&noted));
            sql.push(format!("DELETE FROM {own} WHERE rel = {rel}"));
        }
    }
    sql
}

/// The statements of a plan for one node.
fn steps(plan: &Plan, node: &NodeName) -> Result<Vec<String>, MeshError> {
    let mut sql = Vec::new();
    for step in plan.steps.iter().filter(|step| step.node == *node) {
        if step.how != How::Together {
            return Err(refusals::not_together(step));
        }
        sql.extend(step.sql.iter().cloned());
    }
    Ok(sql)
}
