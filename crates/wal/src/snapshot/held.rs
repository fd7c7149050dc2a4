//! A snapshot for where a slot exists already.

use std::time::Duration;

use herdsman_node::{Conninfo, Lsn, Tls};

use crate::snapshot::{SnapshotConnection, SnapshotError};
use crate::{CreateSlot, Replication, SlotName, SlotSnapshot, WalError};

/// A snapshot that others may read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Its name, for `SET TRANSACTION SNAPSHOT`.
    pub name: String,
    /// It shows every transaction whose commit is logged before this place, and no other.
    pub consistent_point: Lsn,
}

/// A snapshot that a temporary slot was made for: after an interruption, or where tables are read without a new slot. The
/// slot's only use is that its snapshot is one of a place in the log. One that an ordinary connection takes
/// (`pg_export_snapshot()`) is not: what is logged may not be visible yet, and so neither the stream from any one place,
/// nor the snapshot, may tell it.
///
/// It lives as long as this value, or until [`Snapshot::start`](crate::snapshot::Snapshot::start) has returned: then it
/// can be dropped.
#[derive(Debug)]
pub struct HeldSnapshot {
    exported: Exported,
    _connection: Replication,
}

impl HeldSnapshot {
    /// Makes a temporary slot of this name, and its snapshot. Needs the right to replicate, and waits, for at most `limit`,
    /// until every transaction that is open now is over.
    ///
    /// # Errors
    /// [`WalError`], as for every slot.
    pub async fn take(
        info: &Conninfo,
        tls: &Tls,
        slot: &SlotName,
        limit: Duration,
    ) -> Result<Self, WalError> {
        let mut connection = Replication::connect(info, tls, limit).await?;
        let snapshot = SlotSnapshot::Export;
        let options = CreateSlot { temporary: true, snapshot, limit, ..CreateSlot::default() };
        let created = connection.create_slot(slot, &options).await?;
        let Some(name) = created.snapshot else {
            return Err(WalError::Protocol {
                endpoint: info.endpoint(),
                problem: "a slot was made without the snapshot that was asked for".to_owned(),
            });
        };
        let exported = Exported { name, consistent_point: created.consistent_point };
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
