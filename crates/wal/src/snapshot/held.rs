//! A snapshot that an ordinary connection keeps for others.

use herdsman_node::{Conninfo, Lsn, Tls};
use std::time::Duration;

use crate::snapshot::{SnapshotConnection, SnapshotError, SnapshotTable, table, writers};

/// A snapshot that others may read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Its name, for `SET TRANSACTION SNAPSHOT`.
    pub name: String,
    /// Where the stream goes on from: it tells every change that the snapshot does not show.
    pub consistent_point: Lsn,
}

/// A snapshot kept by an ordinary connection, for where a slot exists already: after an interruption, or when tables are
/// read without a new slot. It lives as long as this value.
#[derive(Debug)]
pub struct HeldSnapshot {
    exported: Exported,
    _connection: SnapshotConnection,
}

impl HeldSnapshot {
    /// Takes a snapshot that goes with a stream that tells everything after `consistent_point`, which must not lie ahead
    /// of the end of the server's log.
    ///
    /// Waits, for at most `limit`, until every transaction that has written to the tables is over. One of them may be in
    /// the log before `consistent_point` and still not be visible: then neither the stream nor the snapshot would tell it.
    ///
    /// # Errors
    /// [`SnapshotError`]; [`SnapshotError::Writers`] names who does not end.
    pub async fn take(
        info: &Conninfo,
        tls: &Tls,
        limit: Duration,
        tables: &[SnapshotTable],
        consistent_point: Lsn,
    ) -> Result<Self, SnapshotError> {
        let connection = SnapshotConnection::open(info, tls, limit).await?;
        refuse_standby(&connection).await?;
        connection.begin(None).await?;
        let mut oids = Vec::new();
        for listed in tables {
            let described = table::describe(&connection, listed).await?;
            oids.extend(described.iter().map(|table| table.relation.oid));
        }
        connection.commit().await?;
        writers::wait(&connection, &oids).await?;
        connection.begin(None).await?;
        let [name] = connection
            .texts("export a snapshot", "SELECT pg_catalog.pg_export_snapshot()")
            .await?;
        let exported = Exported { name, consistent_point };
        Ok(Self { exported, _connection: connection })
    }

    /// The snapshot.
    #[must_use]
    pub fn exported(&self) -> &Exported {
        &self.exported
    }
}

/// A standby's snapshots do not list what is under way.
pub(crate) async fn refuse_standby(connection: &SnapshotConnection) -> Result<(), SnapshotError> {
    let sql = "SELECT pg_catalog.pg_is_in_recovery()::text";
    let [standby] = connection.texts("say whether it is a standby", sql).await?;
    if standby == "true" {
        return Err(SnapshotError::Standby { endpoint: connection.endpoint().to_owned() });
    }
    Ok(())
}
