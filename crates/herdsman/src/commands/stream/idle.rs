//! When everything there was has been delivered.

use std::time::Duration;

use herdsman_node::Lsn;
use herdsman_stream::engine::Stats;
use herdsman_stream::service::Phase;
use herdsman_wal::inspect::Session;
use tokio::sync::watch;

use super::target::{LIMIT, Target};
use crate::config::Config;

/// How often the numbers are looked at.
const GLANCE: Duration = Duration::from_millis(50);

/// A word into the log, with the position behind it: when that is handled, so is everything before. Where the role may
/// not write it, the end of the log has to do.
const MARK: &str = "SELECT pg_logical_emit_message(true, 'herdsman.heartbeat', '')::text";
const END: &str = "SELECT pg_current_wal_flush_lsn()::text";

/// Waits until what is in the log now has been handled by every sink. For ever where the server cannot be asked: the
/// stream itself says why.
pub(super) async fn reached(config: &Config, mut phase: watch::Receiver<Phase>, stats: Stats) {
    let streams = |phase: &Phase| matches!(phase, Phase::Streaming { .. });
    let mark = loop {
        // The slot must be there before the mark is made, or the mark is not in it.
        if phase.wait_for(streams).await.is_err() {
            return std::future::pending().await;
        }
        match mark(config).await {
            Ok(mark) => break mark,
            Err(problem) => {
                tracing::warn!(problem, "cannot tell where the log ends; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    };
    loop {
        let safe = stats.snapshot().safe.parse::<Lsn>().unwrap_or_default();
        if safe >= mark {
            return;
        }
        tokio::time::sleep(GLANCE).await;
    }
}

async fn mark(config: &Config) -> Result<Lsn, String> {
    let target = Target::of(config.clone()).await.map_err(|failed| failed.message)?;
    let session = Session::connect(&target.info, &target.tls, LIMIT)
        .await
        .map_err(|error| error.to_string())?;
    let row = match session.client().query_one(MARK, &[]).await {
        Ok(row) => row,
        Err(_) => session.client().query_one(END, &[]).await.map_err(|error| error.to_string())?,
    };
    let text: String = row.get(0);
    text.parse().map_err(|error: herdsman_node::ParseLsnError| error.to_string())
}
