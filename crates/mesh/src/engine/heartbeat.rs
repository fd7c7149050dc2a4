//! A sign of life of each member, each second.
//!
//! It goes through every link like any other change. It tells the others that everything the member stamped before its
//! own stamp has come, keeps positions moving where nothing is written, and tells us where the member's log ends.

use std::sync::Arc;
use std::time::Duration;

use herdsman_node::Lsn;
use tokio_postgres::Client;
use tokio_postgres::types::PgLsn;

use super::{backoff, roster};
use crate::error::MeshError;
use crate::setup::{Member, Setup};
use crate::status::Board;

const PAUSE: Duration = Duration::from_secs(1);
/// Bound on one sign of life.
const LIMIT: Duration = Duration::from_secs(10);

/// A statement that runs may have stamped a row before its transaction had a number, and one that has a number may have
/// stamped rows long ago. What may not be seen (`pg_read_all_stats` is missing, `track_activities` is off) may be either. It is asked before the
/// prepared transactions: one that is being prepared is in one of the two at least.
const LOOK: &str = "
    SELECT (date_part('epoch', least(now(), min(a.xact_start))) * 1000000)::bigint,
           coalesce(bool_or(a.state = 'disabled' OR a.datid IS NOT NULL AND a.backend_type IS NULL), false),
           pg_current_wal_lsn()
    FROM pg_catalog.pg_stat_activity a
    WHERE a.pid <> pg_backend_pid()
      AND (a.backend_xid IS NOT NULL OR a.state IS NULL OR a.state NOT LIKE 'idle%')";

/// A prepared transaction does not tell when it began: the last sign of life from before stays until it has ended. Two
/// processes may both be at it: one is enough.
const SAY: &str = "
    INSERT INTO herdsman.heartbeats AS h (node, _herdsman_stamp, at)
    SELECT $1::smallint,
           CASE WHEN $3::boolean OR EXISTS (SELECT FROM pg_catalog.pg_prepared_xacts) THEN 0 ELSE $2::bigint END,
           clock_timestamp()
    ON CONFLICT (node) DO UPDATE
    SET _herdsman_stamp = greatest(h._herdsman_stamp, excluded._herdsman_stamp), at = excluded.at
    WHERE h.at < excluded.at - interval '0.7 s' OR h.at > excluded.at";

/// Writes signs of life until it is dropped.
pub(crate) async fn run(setup: Arc<Setup>, member: Member, board: Arc<Board>) {
    let mut failures = 0;
    loop {
        let error = beat(&setup, &member, &board, &mut failures).await;
        failures += 1;
        let node = &member.name;
        if failures == 1 {
            tracing::warn!(%node, %error, "no sign of life can be written");
        } else {
            tracing::debug!(%node, %error, failures, "still no sign of life");
        }
        tokio::time::sleep(backoff::pause(failures, true, fastrand::f64())).await;
    }
}

/// Until something is wrong, which it returns.
async fn beat(setup: &Setup, member: &Member, board: &Board, failures: &mut u32) -> MeshError {
    let late = || MeshError::TimedOut {
        node: member.name.clone(),
        what: "writing a sign of life".to_owned(),
        seconds: LIMIT.as_secs(),
    };
    let opening = async {
        let client = roster::connect(setup, &member.name).await?;
        // Nobody waits for it to be on disk; it is not sent before it is.
        let set =
            "SET synchronous_commit = off; SET statement_timeout = '10s'; SET lock_timeout = '5s'";
        client.batch_execute(set).await.map_err(|error| failed(member, error))?;
        Ok(client)
    };
    let client = match tokio::time::timeout(LIMIT, opening).await {
        Err(_) => return late(),
        Ok(Err(error)) => return error,
        Ok(Ok(client)) => client,
    };
    loop {
        match tokio::time::timeout(LIMIT, once(&client, member)).await {
            Err(_) => return late(),
            Ok(Err(error)) => return failed(member, error),
            Ok(Ok(end)) => board.set_end(&member.name, end),
        }
        *failures = 0;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn once(client: &Client, member: &Member) -> Result<Lsn, tokio_postgres::Error> {
    let row = client.query_one(LOOK, &[]).await?;
    let (stamp, hidden, end): (i64, bool, PgLsn) = (row.get(0), row.get(1), row.get(2));
    client.execute(SAY, &[&member.id.0, &stamp, &hidden]).await?;
    Ok(Lsn(end.into()))
}

fn failed(member: &Member, source: tokio_postgres::Error) -> MeshError {
    MeshError::Sql { node: member.name.clone(), what: "write a sign of life".to_owned(), source }
}
