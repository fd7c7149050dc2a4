//! Watches one member for jobs of `mesh ddl`, and for tables that somebody alters by hand.

use std::sync::Arc;
use std::time::Duration;

use herdsman_node::NodeName;
use tokio::sync::watch;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::job::{Job, failed};
use crate::engine::roster;
use crate::error::MeshError;
use crate::names;
use crate::setup::Setup;

/// How often it is looked for jobs.
const PAUSE: Duration = Duration::from_millis(300);
/// Every so many looks the tables' form is looked at as well.
const FORM: u32 = 4;
/// Bound on each look.
const LIMIT: Duration = Duration::from_secs(5);

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The job that is not over.
    pub(crate) job: Option<Arc<Job>>,
    /// A number for the form of all tables that are prepared, once that is known.
    pub(crate) form: Option<(i64, i64)>,
}

/// Looks again and again.
pub(crate) async fn run(
    setup: Arc<Setup>,
    node: NodeName,
    seen: watch::Sender<Seen>,
    stop: CancellationToken,
) {
    let mut client: Option<Client> = None;
    let mut looks = 0_u32;
    loop {
        let looking = async {
            let there = match client.take().filter(|client| !client.is_closed()) {
                Some(client) => client,
                None => roster::connect(&setup, &node).await?,
            };
            let job = Job::current(&node, &there).await?.map(Arc::new);
            let form = match looks % FORM {
                0 => form(&node, &there).await?,
                _ => seen.borrow().form,
            };
            Ok::<_, MeshError>((there, Seen { job, form }))
        };
        match tokio::time::timeout(LIMIT, looking).await {
            Ok(Ok((there, now))) => {
                client = Some(there);
                seen.send_if_modified(|last| {
                    let new = *last != now;
                    *last = now;
                    new
                });
            }
            Ok(Err(error)) => tracing::debug!(%node, %error, "no look for jobs"),
            Err(_) => tracing::debug!(%node, "no look for jobs in time"),
        }
        looks = looks.wrapping_add(1);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn form(node: &NodeName, client: &Client) -> Result<Option<(i64, i64)>, MeshError> {
    let sql = format!(
        "SELECT count(*), coalesce(bit_xor(hashtextextended(concat_ws(' ', a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod), 0)), 0)
FROM {} AS t JOIN pg_class AS c ON c.relkind IN ('r', 'p') JOIN pg_namespace AS n ON n.oid = c.relnamespace AND {} = t.rel
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped",
        names::own("tables"),
        names::as_noted("n.nspname", "c.relname"),
    );
    let row = client.query_one(&sql, &[]).await;
    let row = row.map_err(|error| failed(node, "look at its tables' form", error))?;
    let what = |error| failed(node, "look at its tables' form", error);
    Ok(Some((row.try_get(0).map_err(what)?, row.try_get(1).map_err(what)?)))
}
