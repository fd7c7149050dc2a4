//! When everything there was has been delivered.

use std::time::Duration;

use herdsman_node::{Lsn, NodeName, Tls};
use herdsman_stream::engine::Stats;
use herdsman_stream::service::Phase;
use herdsman_wal::inspect::Session;
use tokio::sync::watch;

use super::target::LIMIT;
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
    let mark = loop {
        // The slot must be there before the mark is made, or the mark is not in it.
        let Some(node) = streams_from(&mut phase).await else {
            return std::future::pending().await;
        };
        match mark(config, &node).await {
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

/// The node it streams from, as soon as it does; `None` when it has ended.
async fn streams_from(phase: &mut watch::Receiver<Phase>) -> Option<NodeName> {
    loop {
        if let Phase::Streaming { node, .. } = &*phase.borrow_and_update() {
            return Some(node.clone());
        }
        phase.changed().await.ok()?;
    }
}

async fn mark(config: &Config, node: &NodeName) -> Result<Lsn, String> {
    let nodes = config.stream.nodes(&config.nodes);
    let info = nodes.get(node).ok_or_else(|| format!("{node} is not in the configuration"))?;
    let tls = Tls::new(info).map_err(|error| error.to_string())?;
    let session = Session::connect(info, &tls, LIMIT).await.map_err(|error| error.to_string())?;
    let row = match session.client().query_one(MARK, &[]).await {
        Ok(row) => row,
        Err(_) => session.client().query_one(END, &[]).await.map_err(|error| error.to_string())?,
    };
    let text: String = row.get(0);
    text.parse().map_err(|error: herdsman_node::ParseLsnError| error.to_string())
}
