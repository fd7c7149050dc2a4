//! Spreading rows that were there before the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use herdsman_node::NodeName;

use super::copying::{self, Copying, Item, Worker};
use super::marked::{HEAL, Marked};
use super::{merging, recent};
use crate::config::Mode;
use crate::error::MeshError;
use crate::install::{self, Copy};
use crate::setup::Setup;
use crate::table::{Table, TableName};
use crate::verify::session::{Session, members};

/// Connections that copy side by side.
pub(crate) const WORKERS: u16 = 2;

/// Copies what a plan says ([`crate::install::Plan::copies`]), while all members may be written, and notes on each source
/// that its rows are spread. Run again after an interruption it begins anew, which changes nothing of what is there.
///
/// # Errors
/// A node cannot be reached, or a statement failed.
pub async fn spread(
    setup: &Arc<Setup>,
    copies: &[Copy],
    mut tell: impl FnMut(&NodeName, &NodeName, &Copying),
) -> Result<(), MeshError> {
    let mut pairs: BTreeMap<(&NodeName, &NodeName), BTreeSet<&TableName>> = BTreeMap::new();
    for copy in copies {
        pairs.entry((&copy.from, &copy.to)).or_default().insert(&copy.table);
    }
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    if setup.config.mode == Mode::Untouched {
        // What comes first stays where there was nothing, and of rows that no server knows the time of it is to be the one
        // that stays everywhere.
        let members = members(setup).await?;
        let number = |node: &NodeName| members.iter().find(|m| m.name == *node).map(|m| m.id);
        pairs.sort_by_key(|((from, _), _)| std::cmp::Reverse(number(from)));
    }
    for ((from, to), tables) in pairs {
        one(setup, from, to, &tables, |copying| tell(from, to, copying)).await?;
    }
    let merged: BTreeSet<&TableName> =
        copies.iter().filter(|copy| copy.merged).map(|copy| &copy.table).collect();
    if setup.config.mode == Mode::Untouched && !merged.is_empty() {
        merging::merge(setup, &merged).await?;
    }
    let mut sources: BTreeMap<&NodeName, BTreeSet<&TableName>> = BTreeMap::new();
    for copy in copies {
        sources.entry(&copy.from).or_default().insert(&copy.table);
    }
    for (node, tables) in sources {
        let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
        let sql = "UPDATE herdsman.tables SET spread = true WHERE rel = ANY ($1)";
        open(setup, node).await?.execute("note what is copied", sql, &[&names]).await?;
    }
    Ok(())
}

async fn one(
    setup: &Arc<Setup>,
    from: &NodeName,
    to: &NodeName,
    names: &BTreeSet<&TableName>,
    tell: impl FnMut(&Copying),
) -> Result<(), MeshError> {
    let (source, target) = (open(setup, from).await?, open(setup, to).await?);
    let tables = install::tables(setup, from, &source.client).await?;
    let tables: Vec<&Table> = tables.iter().filter(|table| names.contains(&table.name)).collect();
    let untouched = setup.config.mode == Mode::Untouched;
    let beginning = if untouched { recent::beginning(&target).await? } else { 0 };
    let items: Vec<Item> = tables.iter().map(|table| recent::item(table, beginning)).collect();
    let what = "export a snapshot";
    // What was there before the mesh was committed long before, so that any snapshot shows it.
    source.run(what, "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
    let row = source.row(what, "SELECT pg_export_snapshot()", &[]).await?;
    let snapshot: String = source.get(what, &row, 0)?;
    let workers = workers(setup, &source, &target, &snapshot).await?;
    source.run(what, "COMMIT").await?;
    if let Some(worker) = workers.first().filter(|_| untouched) {
        recent::clocks(worker).await?;
    }
    copying::copy(&workers, &items, |_| None, tell).await?;
    if let Some(worker) = workers.first() {
        recent::rows(worker, &tables, beginning).await?;
        copying::sweep(&worker.target, &tables).await?;
    }
    for worker in workers {
        worker.target.close().await?;
    }
    Ok(())
}

/// Workers that read what the snapshot shows.
pub(crate) async fn workers(
    setup: &Setup,
    source: &Session,
    target: &Session,
    snapshot: &str,
) -> Result<Vec<Worker>, MeshError> {
    let mut workers = Vec::new();
    for lane in 1..=WORKERS {
        let (source, target) = (source.another().await?, target.another().await?);
        let target = Marked::of(target, &setup.config.name, HEAL + lane).await?;
        workers.push(Worker::new(source, target, snapshot).await?);
    }
    Ok(workers)
}

/// A session on a node of the configuration.
pub(crate) async fn open(setup: &Setup, node: &NodeName) -> Result<Session, MeshError> {
    let info = setup.nodes.get(node).ok_or_else(|| {
        MeshError::refused(
            format!("node `{node}` is not in the configuration"),
            "say in `hosts` how it is reached",
        )
    })?;
    Session::open(node, info).await
}
