//! Waiting until those who have written to a table are over.
//!
//! Whoever writes to a table holds a lock on it until its transaction has ended, and a transaction that is in the log but
//! not yet visible has not ended. So once every holder of now is gone, each transaction that was in the log before now
//! is visible, whatever kept it waiting. New writers do not matter and are not waited for.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

use crate::snapshot::{SnapshotConnection, SnapshotError};

/// Who holds a lock that comes with writing to these tables or their partitions. A prepared transaction has no process.
const WRITERS: &str = "
    SELECT DISTINCT l.virtualtransaction, coalesce('PID ' || l.pid, 'prepared transaction ' || l.virtualtransaction)
    FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'relation' AND l.granted
      AND l.mode IN ('RowExclusiveLock', 'AccessExclusiveLock')
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
      AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
      AND l.relation IN (SELECT unnest($1)
                         UNION SELECT p.relid FROM unnest($1) AS t, pg_catalog.pg_partition_tree(t) p)";

/// How often it is looked: most transactions are shorter.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until every transaction that has written to these tables (by `pg_class.oid`) and has not ended now, has.
pub(crate) async fn wait(
    connection: &SnapshotConnection,
    tables: &[u32],
) -> Result<(), SnapshotError> {
    let since = Instant::now();
    let mut left = list(connection, tables).await?;
    while !left.is_empty() {
        if since.elapsed() > connection.limit() {
            return Err(SnapshotError::Writers {
                endpoint: connection.endpoint().to_owned(),
                seconds: connection.limit().as_secs(),
                who: left.into_values().collect::<Vec<_>>().join(", "),
            });
        }
        sleep(PAUSE).await;
        let now = list(connection, tables).await?;
        left.retain(|transaction, _| now.contains_key(transaction));
    }
    Ok(())
}

async fn list(
    connection: &SnapshotConnection,
    tables: &[u32],
) -> Result<BTreeMap<String, String>, SnapshotError> {
    const WHAT: &str = "list who writes to a table";
    let rows = connection.query(WHAT, WRITERS, &[(&tables, Type::OID_ARRAY)]).await?;
    let read = |row| Ok((connection.field(row, 0, WHAT)?, connection.field(row, 1, WHAT)?));
    rows.iter().map(read).collect()
}
