//! Giving all that a node holds to another, and taking it.

use tokio::sync::mpsc;

use super::{
    apply::{self, cascade, create, drop_alone},
    checksum, notes,
};
use crate::{
    ChainHash, Offset, Value,
    entry::Genesis,
    node::{
        NodeError,
        dialect::{Dialect, Failure, Session as _},
    },
    replica::Durable,
    snapshot::{NOBODY_TAKES, Part},
    table::TableChange,
};

/// How many bytes of rows make a part, about; a single row may be more.
const PART_BYTES: usize = 1024 * 1024;
/// What a node says of itself until it has taken all.
const LOADING: &str =
    "a snapshot was being loaded and did not come to its end; join the node again";

/// Everything, in one snapshot.
pub(super) async fn give<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    to: &mpsc::Sender<Part>,
) -> Result<(), NodeError> {
    let send = async |part| {
        let gone = |_| NodeError::Environmental(NOBODY_TAKES.to_owned());
        to.send(part).await.map_err(gone)
    };
    for sql in dialect.begin_read() {
        session.command(sql).await.map_err(Failure::while_applying)?;
    }
    let durable = notes::read(dialect, session).await?;
    if let Some(why) = durable.fenced {
        return Err(NodeError::Diverged(why));
    }
    let tables: Vec<_> = durable.catalogue.0.values().cloned().collect();
    send(Part::Begin(Box::new(durable))).await?;
    for table in tables {
        let mut after: Vec<Value> = Vec::new();
        loop {
            let (page, more) = checksum::page(dialect, session, &table, &after).await?;
            if let Some(last) = page.last() {
                after = table.key_of(last).into_iter().cloned().collect();
            }
            let mut rows = Vec::new();
            let mut bytes = 0_usize;
            for row in page {
                bytes = bytes.saturating_add(row.iter().map(size).sum());
                rows.push(row);
                if bytes >= PART_BYTES {
                    bytes = 0;
                    let rows = std::mem::take(&mut rows);
                    send(Part::Rows { table: table.name.clone(), rows }).await?;
                }
            }
            if !rows.is_empty() {
                send(Part::Rows { table: table.name.clone(), rows }).await?;
            }
            if !more {
                break;
            }
        }
    }
    send(Part::End).await
}

fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) | Value::Json(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 16,
    }
}

/// Takes the first part, and fences the node: until the last step of [`fill`] is done it is none, and joining can be begun
/// again.
pub(super) async fn begin<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    genesis: &Genesis,
    first: ChainHash,
    parts: &mut mpsc::Receiver<Part>,
) -> Result<Box<Durable>, NodeError> {
    let Some(Part::Begin(durable)) = parts.recv().await else { return Err(early()) };
    if durable.genesis != *genesis {
        return Err(NodeError::Diverged(format!(
            "the snapshot is of log {}, and the node is to follow {}",
            durable.genesis.log, genesis.log
        )));
    }
    notes::install(dialect, session, genesis, first).await?;
    notes::fence_anew(dialect, session, LOADING).await.map_err(Failure::while_applying)?;
    Ok(durable)
}

fn early() -> NodeError {
    NodeError::Environmental("the snapshot ended early".to_owned())
}

/// Lets go of what the node holds, and takes what comes instead.
pub(super) async fn fill<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    durable: &Durable,
    parts: &mut mpsc::Receiver<Part>,
) -> Result<Offset, NodeError> {
    let own = notes::catalogue(dialect, session).await.map_err(Failure::while_applying)??;
    // Who refers to another goes before it, and comes after it.
    for name in own.parents_first().into_iter().rev().map(|it| &it.name) {
        for sql in drop_alone(dialect, name) {
            session.command(&sql).await.map_err(Failure::while_applying)?;
        }
        notes::define(dialect, session, name, None).await.map_err(Failure::while_applying)?;
    }
    for table in durable.catalogue.parents_first() {
        apply::refuse_strangers(dialect, session, &TableChange::Create(table.clone())).await?;
        // Written down before it is there, so that another try knows it for ours.
        notes::define(dialect, session, &table.name, Some(table))
            .await
            .map_err(Failure::while_applying)?;
        for sql in create(dialect, table, &durable.catalogue) {
            session.command(&sql).await.map_err(Failure::while_applying)?;
        }
    }
    for table in durable.catalogue.0.values() {
        for sql in cascade(dialect, table, &durable.catalogue) {
            session.command(&sql).await.map_err(Failure::while_applying)?;
        }
    }
    loop {
        match parts.recv().await.ok_or_else(early)? {
            Part::Rows { table, rows } => {
                let table = durable.catalogue.0.get(&table);
                let table = table.ok_or_else(|| {
                    NodeError::Environmental("the snapshot has rows of no table".to_owned())
                })?;
                session.command(dialect.begin_apply()).await.map_err(Failure::while_applying)?;
                apply::insert(dialect, session, table, &rows).await?;
                session.command("COMMIT").await.map_err(Failure::while_applying)?;
            }
            Part::End => break,
            Part::Begin(_) => return Err(early()),
        }
    }
    notes::become_like(dialect, session, durable).await.map_err(Failure::while_applying)?;
    Ok(durable.applied)
}
