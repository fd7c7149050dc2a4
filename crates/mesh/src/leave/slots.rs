//! Dropping the slots of a member that is gone.

use std::sync::Arc;
use std::time::Duration;

use herdsman_node::NodeName;
use tokio::time::{Instant, sleep};

use super::set_state;
use crate::error::MeshError;
use crate::heal::existing::open;
use crate::names;
use crate::setup::{MemberState, Setup};
use crate::stamp::NodeId;
use crate::verify::session::{Seat, Session};

/// How long whoever reads a slot has to notice that the member is gone. The engine asks every 2 s.
const NOTICE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(200);

/// Notes that the member is gone and drops the slots the others have for it: how many, and the bytes of log they kept.
pub(super) async fn drop_for(
    setup: &Arc<Setup>,
    others: &[Seat],
    id: NodeId,
) -> Result<(u64, u64), MeshError> {
    // First, as whoever applies lets go of the slots when it learns of it.
    set_state(others, id, MemberState::Gone).await?;
    let name = names::slot(&setup.config.name, id)?;
    let (mut slots, mut freed) = (0, 0);
    for seat in others {
        if let Some(bytes) = drop_one(&seat.session, name.as_str()).await? {
            slots += 1;
            freed += bytes;
        }
    }
    Ok((slots, freed))
}

/// Waits until nobody reads the node's own slots nor applies there any more, and ends who still does.
pub(super) async fn wait_until_free(setup: &Arc<Setup>, node: &NodeName) -> Result<(), MeshError> {
    let session = open(setup, node).await?;
    // Its own list too: an engine that can reach nobody else goes by it.
    let gone = "UPDATE herdsman.members AS m SET state = 'gone' FROM herdsman.mesh AS own WHERE own.node = m.node";
    session.run("note that it is gone", gone).await?;
    let until = Instant::now() + NOTICE;
    loop {
        if busy(&session, &setup.config.name, Instant::now() >= until).await? == 0 {
            return Ok(());
        }
        if Instant::now() >= until + NOTICE {
            return Err(in_use(&session, "its slots, or applying there"));
        }
        sleep(POLL).await;
    }
}

/// Whether anybody reads the node's own slots, or applies there.
pub(super) async fn are_busy(session: &Session, mesh: &str) -> Result<bool, MeshError> {
    let what = "look whether it is in a mesh";
    let row = session.row(what, "SELECT to_regclass('herdsman.lease') IS NOT NULL", &[]).await?;
    Ok(session.get(what, &row, 0)? && busy(session, mesh, false).await? > 0)
}

/// How many sessions do, which may be ended at once.
async fn busy(session: &Session, mesh: &str, end: bool) -> Result<i64, MeshError> {
    let what = "look who reads its slots and applies there";
    let pattern = format!("^herdsman_{mesh}_to_[0-9]+$");
    let sql = "SELECT count(pg_terminate_backend(pid)) FILTER (WHERE $2), count(*) FROM (
  SELECT active_pid AS pid FROM pg_replication_slots WHERE slot_name ~ $1 AND active_pid IS NOT NULL
  UNION SELECT a.pid FROM pg_stat_activity AS a JOIN herdsman.lease AS l ON l.pid = a.pid WHERE a.usename = current_user) AS busy";
    let row = session.row(what, sql, &[&pattern, &end]).await?;
    session.get(what, &row, 1)
}

/// Drops a slot once nobody reads it; ends who still does after a while. The bytes it kept, or `None` without a slot.
async fn drop_one(session: &Session, name: &str) -> Result<Option<u64>, MeshError> {
    let what = "drop its slot for the member";
    let look =
        "SELECT active_pid, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint
FROM pg_replication_slots WHERE slot_name = $1";
    let until = Instant::now() + NOTICE;
    loop {
        let rows = session.rows(what, look, &[&name]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let reader: Option<i32> = session.get(what, row, 0)?;
        let bytes = u64::try_from(session.get::<i64>(what, row, 1)?).unwrap_or(0);
        match reader {
            None => match session.rows(what, "SELECT pg_drop_replication_slot($1)", &[&name]).await
            {
                Ok(_) => return Ok(Some(bytes)),
                // Somebody took it in between.
                Err(MeshError::Sql { source, .. })
                    if source.code().is_some_and(|code| code.code() == "55006") => {}
                Err(error) => return Err(error),
            },
            Some(pid) if Instant::now() >= until => {
                session.rows(what, "SELECT pg_terminate_backend($1)", &[&pid]).await?;
            }
            Some(_) => {}
        }
        if Instant::now() >= until + NOTICE {
            return Err(in_use(session, name));
        }
        sleep(POLL).await;
    }
}

fn in_use(session: &Session, slot: &str) -> MeshError {
    MeshError::refused(
        format!("node `{}`: somebody goes on reading {slot}", session.node),
        "stop the `herdsman run` that does not know of this, then run the same command again",
    )
}
