//! What nobody needs any more goes: old conflict records, and tombstones that nothing older can come after.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use herdsman_wal::quote_identifier;
use tokio::sync::watch;
use tokio_postgres::Client;

use super::roster::{self, Roster};
use crate::error::MeshError;
use crate::names;
use crate::resolve::frontier::{MARGIN, frontier};
use crate::setup::{Member, Setup};
use crate::stamp::NodeId;
use crate::status::Board;

/// Not before everything has got going.
const FIRST: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(60);
/// Rows that go in one transaction, so that nobody waits for us for long.
const AT_ONCE: i64 = 5000;

/// Looks again and again, and tidies the members that this process applies changes to.
pub(crate) async fn run(
    setup: Arc<Setup>,
    board: Arc<Board>,
    roster: watch::Receiver<Arc<Roster>>,
) {
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        pause = PAUSE;
        let members = Arc::clone(&roster.borrow());
        if !members.members.is_empty() {
            round(&setup, &board, &members.members).await;
        }
    }
}

async fn round(setup: &Setup, board: &Board, members: &[Member]) {
    let mut clients = BTreeMap::new();
    let mut applied = BTreeMap::new();
    for member in members {
        // Without an answer of it, its part of the frontier is missing, and every tombstone stays.
        match look(setup, member).await {
            Ok((client, heartbeats)) => {
                let own = |(source, heartbeat)| ((member.id, source), heartbeat);
                applied.extend(heartbeats.into_iter().map(own));
                clients.insert(member.id, client);
            }
            Err(error) => tracing::debug!(node = %member.name, %error, "it is not tidied now"),
        }
    }
    let ids: Vec<NodeId> = members.iter().map(|member| member.id).collect();
    let below = frontier(&ids, &applied, MARGIN);
    for member in members.iter().filter(|member| board.target(&member.name).is_working()) {
        let Some(client) = clients.get(&member.id) else { continue };
        match tidy(setup, client, below).await {
            Ok(0) => {}
            Ok(rows) => tracing::debug!(node = %member.name, rows, "tidied"),
            Err(source) => {
                let error = failed(member, source);
                tracing::warn!(node = %member.name, %error, "old conflicts and tombstones stay for now");
            }
        }
    }
}

/// How far a member has heard of each.
async fn look(setup: &Setup, member: &Member) -> Result<(Client, Vec<(NodeId, i64)>), MeshError> {
    let client = roster::connect(setup, &member.name).await?;
    let asking = async {
        let set =
            "SET statement_timeout = '60s'; SET lock_timeout = '2s'; SET synchronous_commit = off";
        client.batch_execute(set).await?;
        let question = "SELECT source, coalesce(heartbeat, 0) FROM herdsman.progress";
        client.query(question, &[]).await
    };
    let rows = match tokio::time::timeout(PAUSE, asking).await {
        Ok(rows) => rows.map_err(|source| failed(member, source))?,
        Err(_) => {
            let what = "asking how far it is".to_owned();
            let (node, seconds) = (member.name.clone(), PAUSE.as_secs());
            return Err(MeshError::TimedOut { node, what, seconds });
        }
    };
    let heard = rows.iter().map(|row| (NodeId(row.get(0)), row.get(1))).collect();
    Ok((client, heard))
}

/// How many rows went.
async fn tidy(
    setup: &Setup,
    client: &Client,
    below: Option<i64>,
) -> Result<u64, tokio_postgres::Error> {
    let seconds = setup.config.keep_conflicts.as_secs_f64();
    let old = "at < clock_timestamp() - make_interval(secs => $1)";
    let mut rows = delete(client, &names::own("conflicts"), old, &seconds).await?;
    let Some(below) = below else { return Ok(rows) };
    let question = "SELECT tablename::text FROM pg_catalog.pg_tables WHERE schemaname = $1";
    for row in client.query(question, &[&names::GONE]).await? {
        let table: &str = row.get(0);
        let table = format!("{}.{}", quote_identifier(names::GONE), quote_identifier(table));
        let old = format!("{} < $1", quote_identifier(names::STAMP));
        rows += delete(client, &table, &old, &below).await?;
    }
    Ok(rows)
}

/// Deletes a part after another, as long as parts are whole.
async fn delete(
    client: &Client,
    table: &str,
    which: &str,
    value: &(dyn tokio_postgres::types::ToSql + Sync),
) -> Result<u64, tokio_postgres::Error> {
    let statement = format!(
        "DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE {which} LIMIT {AT_ONCE}))"
    );
    let mut all = 0;
    loop {
        let rows = client.execute(&statement, &[value]).await?;
        all += rows;
        if rows < AT_ONCE.unsigned_abs() {
            return Ok(all);
        }
    }
}

fn failed(member: &Member, source: tokio_postgres::Error) -> MeshError {
    MeshError::Sql { node: member.name.clone(), what: "tidy up".to_owned(), source }
}
