//! What an error of a stream means for a mesh, and what to do about it there.

use herdsman_node::{Lsn, NodeName};
use herdsman_wal::WalError;

use super::Link;
use super::reading::LIMIT;
use crate::engine::roster;
use crate::error::MeshError;
use crate::group::{GroupError, NO_KEY};
use crate::setup::Member;

/// Whether a table that is still there has a primary key. One that is not there any more has none for us either.
const HAS_KEY: &str = "
    SELECT EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid = pg_catalog.to_regclass($1) AND indisprimary)";

/// The one that was found, if it reads the slot still.
const END_READER: &str = "
    SELECT pg_catalog.pg_terminate_backend(active_pid) FROM pg_catalog.pg_replication_slots
    WHERE slot_name = $1::text AND active_pid = $2::bigint";

/// The error with the mesh's advice where its own is for a stream to somewhere else.
pub(super) fn explained(source: &Member, target: &Member, error: WalError) -> MeshError {
    match &error {
        WalError::SlotMissing { slot, .. } => lost_slot(source, target, slot, "it is not there"),
        WalError::SlotLost { slot, reason, .. } => lost_slot(source, target, slot, reason),
        _ => MeshError::Wal { node: source.name.clone(), source: error.into() },
    }
}

/// The slot that the source keeps the log in for the target is gone, and with it some of the log.
pub(crate) fn lost_slot(source: &Member, target: &Member, slot: &str, reason: &str) -> MeshError {
    let own = source.id == target.id;
    let (source, target) = (&source.name, &target.name);
    if own {
        return MeshError::refused(
            format!(
                "node `{source}`: replication slot `{slot}` is lost ({reason}), so `{source}` does not take the second look at its own changes that finds which of them others' changes have overtaken"
            ),
            "run `herdsman mesh up`, which makes the slot again, and then `herdsman mesh verify --repair`",
        );
    }
    MeshError::refused(
        format!(
            "node `{source}`: replication slot `{slot}` is lost ({reason}), so changes made on `{source}` do not reach `{target}` and some cannot be had from it any more"
        ),
        again(target),
    )
}

/// How a member comes back that has missed changes: what it wrote itself is not lost meanwhile.
pub(crate) fn again(target: &NodeName) -> String {
    format!(
        "let `{target}` be filled anew: `herdsman mesh remove {target}`, drop or empty its tables, `herdsman mesh add {target}`"
    )
}

/// Why a table seems to have no primary key: it has none, or whoever asked the source for it was not answered. The stream
/// itself does not tell, and goes on without the answer; another stream asks again.
pub(super) async fn without_key(link: &Link, error: GroupError) -> MeshError {
    let node = &link.source.name;
    let GroupError::NotPrepared { table, problem } = &error;
    if *problem != NO_KEY {
        return MeshError::Group { node: node.clone(), source: error };
    }
    let what = format!("looking up the primary key of table {table}");
    let asking = async {
        let client = roster::connect(&link.setup, node).await?;
        let (rel, failed) = (table.quoted(), |source| MeshError::Sql {
            node: node.clone(),
            what: format!("look up the primary key of table {table}"),
            source,
        });
        let row = client.query_one(HAS_KEY, &[&rel]).await.map_err(failed)?;
        row.try_get::<_, bool>(0).map_err(failed)
    };
    match tokio::time::timeout(LIMIT, asking).await {
        Ok(Ok(false)) => MeshError::Group { node: node.clone(), source: error },
        Ok(Err(error)) => error,
        Ok(Ok(true)) | Err(_) => {
            MeshError::TimedOut { node: node.clone(), what, seconds: LIMIT.as_secs() }
        }
    }
}

/// Ends whoever else reads the slot: the target's lease is ours, so that one is a process that hangs or was cut off, or what
/// is left of it. The server itself would notice only after `wal_sender_timeout`.
pub(super) async fn end_other_reader(link: &Link, error: &MeshError) {
    let MeshError::Wal { source, .. } = error else { return };
    let WalError::SlotActive { slot, pid, .. } = &**source else { return };
    let node = &link.source.name;
    let ending = async {
        let client = roster::connect(&link.setup, node).await?;
        let row = client.query_opt(END_READER, &[slot, &i64::from(*pid)]).await;
        row.map(|row| row.is_some()).map_err(|source| MeshError::Sql {
            node: node.clone(),
            what: format!("end the other reader of slot {slot}"),
            source,
        })
    };
    match tokio::time::timeout(LIMIT, ending).await {
        Ok(Ok(true)) => {
            tracing::warn!(%node, slot, pid, "ended another process's reading of the slot");
        }
        Ok(Ok(false)) | Err(_) => {}
        Ok(Err(error)) => {
            tracing::warn!(%node, slot, pid, %error, "another process's reading of the slot goes on");
        }
    }
}

/// The source's log ends before what was read from it.
pub(super) fn put_back(source: &Member, end: Lsn, handed: Lsn) -> MeshError {
    let source = &source.name;
    MeshError::refused(
        format!(
            "node `{source}`: its log ends at {end}, before {handed}, up to where its changes were applied elsewhere: it was put back to an earlier state or replaced"
        ),
        format!(
            "take it out with `herdsman mesh remove {source} --dead` and let it join again with `herdsman mesh add {source}`"
        ),
    )
}
