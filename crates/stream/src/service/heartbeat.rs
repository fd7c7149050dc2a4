//! A word into the log now and then, so that a slot whose tables are quiet does not hold the log back.
//!
//! The word is a logical message within a transaction: it takes no table, needs no place in the publication, and comes
//! back through the stream, which then stands behind it. Outside of a transaction it would be sent even when nothing
//! else of what wrote it is, and would not reach the disk by itself.

use std::time::Duration;

use herdsman_node::{Conninfo, Tls};
use herdsman_wal::Session;
use tokio_util::sync::CancellationToken;

/// What marks our messages: they are not delivered.
pub(super) const PREFIX: &str = "herdsman.heartbeat";

const SAY: &str = "SELECT pg_logical_emit_message(true, $1, '')";
/// A standby cannot write, and has nothing to say.
const IS_STANDBY: &str = "SELECT pg_is_in_recovery()";
const LIMIT: Duration = Duration::from_secs(10);

/// Says a word each `pause` until told to stop. What goes wrong is logged once, until it goes right again.
pub(super) async fn run(info: Conninfo, tls: Tls, pause: Duration, stop: CancellationToken) {
    let mut fine = true;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        match say(&info, &tls).await {
            Ok(()) => fine = true,
            Err(problem) if fine => {
                fine = false;
                tracing::warn!(%problem, "no heartbeat: while nothing is written to the published tables, the slot may hold back log that it does not need");
            }
            Err(_) => {}
        }
    }
}

pub(super) async fn say(info: &Conninfo, tls: &Tls) -> Result<(), herdsman_wal::WalError> {
    let session = Session::connect(info, tls, LIMIT).await?;
    let standby = session.rows("tell its role", IS_STANDBY, &[]).await?;
    if standby.first().is_some_and(|row| row.get(0)) {
        return Ok(());
    }
    session.rows("write a heartbeat", SAY, &[&PREFIX]).await.map(drop)
}
