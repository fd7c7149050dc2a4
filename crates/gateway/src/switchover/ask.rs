//! Questions to nodes over the watcher's login.

use std::time::Duration;

use herdsman_node::{Lsn, Tls, connect, describe};
use tokio::time::timeout;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::herd::Seat;

/// How long connecting to a node, or an answer, may take.
const LIMIT: Duration = Duration::from_secs(3);

/// Where a standby is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub(super) received: Lsn,
    pub(super) replayed: Lsn,
    /// It has a connection to its primary.
    pub(super) streams: bool,
}

pub(super) async fn position(client: &Client) -> Result<Position, String> {
    let sql = "SELECT pg_last_wal_receive_lsn()::text, pg_last_wal_replay_lsn()::text, \
         (SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming')::text";
    let row = first(client, sql).await?;
    let lsn = |index: usize| {
        let text: Option<&str> = row.get(index).and_then(Option::as_deref);
        text.and_then(|lsn| lsn.parse::<Lsn>().ok()).unwrap_or_default()
    };
    let streams = row.get(2).and_then(Option::as_deref) != Some("0");
    Ok(Position { received: lsn(0), replayed: lsn(1), streams })
}

/// A connection of our own, over the watcher's login.
pub(super) async fn open(seat: &Seat) -> Result<Client, String> {
    let tls = Tls::new(&seat.conninfo).map_err(|error| error.to_string())?;
    let connection = connect(&seat.conninfo, &tls, LIMIT)
        .await
        .map_err(|error| format!("{}: {error}", seat.name))?;
    let (client, driver) = connection.split(|_| ());
    tokio::spawn(driver);
    Ok(client)
}

/// The first row of an answer.
pub(super) async fn first(client: &Client, sql: &str) -> Result<Vec<Option<String>>, String> {
    let answer = timeout(LIMIT, client.simple_query(sql))
        .await
        .map_err(|_| format!("no answer within {LIMIT:?}"))?
        .map_err(|error| describe(&error))?;
    let row = answer.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect())
        }
        _ => None,
    });
    row.ok_or_else(|| "no row came back".to_owned())
}
