//! Who is in the way of what takes long.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Mutex;
use std::time::Duration;

use super::Target;
use crate::engine::roster;
use crate::error::MeshError;
use crate::status::TargetState;

/// What takes longer than this is looked into, again and again.
const LONG: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(5);

/// The session that holds the lease is the one that applies. What may not be seen of a session is left out.
const WHO: &str = "
    SELECT 'process ' || a.pid || coalesce(' of ' || a.usename::text, '')
           || coalesce(', ' || nullif(a.application_name, ''), '') || coalesce(', ' || a.state, '')
           || coalesce(', its transaction open for ' || date_trunc('second', clock_timestamp() - a.xact_start), '')
    FROM herdsman.lease l
    CROSS JOIN LATERAL unnest(pg_catalog.pg_blocking_pids(l.pid)) AS b (pid)
    JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid
    ORDER BY a.xact_start
    LIMIT 3";

/// Waits for some work, and shows in the status who is in its way where it takes long, or `waiting`: what
/// else it says it waits for.
pub(super) async fn watched<T>(
    target: &Target,
    waiting: &Mutex<Option<String>>,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        outcome = &mut work => return outcome,
        () = tokio::time::sleep(LONG) => {}
    }
    let outcome = tokio::select! {
        outcome = &mut work => outcome,
        never = Box::pin(looking(target, waiting)) => match never {},
    };
    target.board.set(TargetState::Working, None);
    outcome
}

async fn looking(target: &Target, waiting: &Mutex<Option<String>>) -> Infallible {
    loop {
        let told = waiting.lock().ok().and_then(|told| told.clone());
        let problem = match tokio::time::timeout(LIMIT, who(target)).await {
            _ if told.is_some() => told,
            Ok(Ok(who)) if !who.is_empty() => Some(format!(
                "node `{}`: what is applied waits for rows that are locked there by {}; it goes on once that ends",
                target.member.name,
                who.join(" and ")
            )),
            // It is large, or the node is slow, or it does not answer.
            _ => None,
        };
        target.board.set(TargetState::Working, problem);
        tokio::time::sleep(LONG).await;
    }
}

async fn who(target: &Target) -> Result<Vec<String>, MeshError> {
    let node = &target.member.name;
    let client = roster::connect(&target.setup, node).await?;
    let rows = client.query(WHO, &[]).await.map_err(|source| MeshError::Sql {
        node: node.clone(),
        what: "see who is in the way".to_owned(),
        source,
    })?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
