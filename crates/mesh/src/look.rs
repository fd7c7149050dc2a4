//! How far every member is, told by the members themselves: for who cannot ask the process that runs the mesh.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use herdsman_node::Lsn;

use crate::error::MeshError;
use crate::link::trouble::lost_slot;
use crate::names;
use crate::setup::{Member, MemberState, Setup};
use crate::stamp::NodeId;
use crate::status::{LinkStatus, Status, TargetStatus};
use crate::verify::session::{Session, members};

/// What one member says.
struct Told {
    /// Where its log ends.
    end: Lsn,
    /// Its clock, in microseconds since 1970.
    now: i64,
    /// Who applies there, and for how many seconds nothing has been heard of them.
    lease: Option<(String, f64)>,
    progress: BTreeMap<NodeId, Progress>,
    conflicts: u64,
    slots: BTreeMap<String, Slot>,
}

/// A slot a member keeps its log in.
struct Slot {
    /// Somebody reads it.
    read: bool,
    /// Why it has lost what it was to keep.
    lost: Option<String>,
}

const SLOTS: &str = "
    SELECT slot_name::text, active, CASE
        WHEN coalesce(to_jsonb(s) ->> 'invalidation_reason', 'wal_removed') = 'wal_removed' AND wal_status = 'lost'
        THEN 'its log was removed: it was further behind than max_slot_wal_keep_size'
        ELSE 'the server says `' || (to_jsonb(s) ->> 'invalidation_reason') || '`' END
    FROM pg_catalog.pg_replication_slots AS s WHERE database = current_database()";

struct Progress {
    lsn: Lsn,
    heartbeat: i64,
    rows: u64,
    transactions: u64,
}

/// A sign of life is written each second, and applied a moment later: less behind is not behind.
const BREATH: f64 = 2.0;
/// Silence, in seconds, after which nobody holds a lease any more.
const SILENCE: f64 = 15.0;

/// Asks every member. What cannot be asked is part of the answer.
///
/// # Errors
/// No member can be asked who the members are.
pub async fn look(setup: &Arc<Setup>) -> Result<Status, MeshError> {
    let members: Vec<Member> = members(setup)
        .await?
        .into_iter()
        .filter(|member| member.state != MemberState::Gone)
        .collect();
    let told = join_all(members.iter().map(|member| ask(setup, member))).await;
    let mut status = Status::default();
    for (target, here) in members.iter().zip(&told) {
        let mut seen = TargetStatus::default();
        match here {
            Err(error) => {
                seen.state = "unreachable".to_owned();
                seen.problem = Some(error.to_string());
            }
            Ok(here) => {
                seen.conflicts = here.conflicts;
                for (source, there) in members.iter().zip(&told) {
                    if let Some(progress) = here.progress.get(&source.id) {
                        let link = link(setup, target, source, progress, there.as_ref().ok());
                        // Its own changes are looked at again, not applied.
                        seen.rows += if source.id == target.id { 0 } else { link.rows };
                        seen.links.insert(source.name.to_string(), link);
                    }
                }
                let read = seen.links.values().any(|link| link.state == "streaming");
                let held = here.lease.as_ref().is_some_and(|(_, silent)| *silent < SILENCE);
                seen.state = if read && held { "working" } else { "stopped" }.to_owned();
                if seen.state == "stopped" {
                    seen.problem = Some("no process applies here; start `herdsman run`".to_owned());
                }
            }
        }
        status.targets.insert(target.name.to_string(), seen);
    }
    Ok(status)
}

fn link(
    setup: &Setup,
    target: &Member,
    from: &Member,
    progress: &Progress,
    source: Option<&Told>,
) -> LinkStatus {
    let mut link = LinkStatus {
        confirmed: progress.lsn,
        rows: progress.rows,
        transactions: progress.transactions,
        ..LinkStatus::default()
    };
    let Some(source) = source else {
        link.state = "failing".to_owned();
        link.problem = Some("the source cannot be asked".to_owned());
        return link;
    };
    link.state = "stopped".to_owned();
    if let Ok(name) = names::slot(&setup.config.name, target.id) {
        let lost = |reason| lost_slot(from, target, name.as_str(), reason).to_string();
        match source.slots.get(name.as_str()) {
            None => link.problem = Some(lost("it is not there")),
            Some(Slot { lost: Some(reason), .. }) => link.problem = Some(lost(reason)),
            Some(Slot { read: true, .. }) => link.state = "streaming".to_owned(),
            Some(_) => {}
        }
        if link.problem.is_some() {
            link.state = "failing".to_owned();
        }
    }
    link.sent = source.end;
    link.lag_bytes = source.end.0.saturating_sub(progress.lsn.0);
    let late = std::time::Duration::from_micros(
        u64::try_from(source.now.saturating_sub(progress.heartbeat)).unwrap_or(0),
    )
    .as_secs_f64();
    link.lag_seconds = if late < BREATH || progress.heartbeat == 0 { 0.0 } else { late };
    link
}

async fn ask(setup: &Arc<Setup>, member: &Member) -> Result<Told, MeshError> {
    let what = "say how far it is";
    let info = setup.nodes.get(&member.name).ok_or_else(|| {
        MeshError::refused(
            format!("node `{}` is a member and not in `hosts`", member.name),
            "add it there, or run `herdsman mesh remove`",
        )
    })?;
    let session = Session::open(&member.name, info).await?;
    let row = session
        .row(
            what,
            "SELECT (date_part('epoch', clock_timestamp()) * 1000000)::bigint, \
                    (SELECT count(*) FROM herdsman.conflicts)",
            &[],
        )
        .await?;
    let conflicts: i64 = session.get(what, &row, 1)?;
    let mut told = Told {
        end: session.position().await?,
        now: session.get(what, &row, 0)?,
        lease: None,
        progress: BTreeMap::new(),
        conflicts: u64::try_from(conflicts).unwrap_or(0),
        slots: BTreeMap::new(),
    };
    for row in &session.rows(what, SLOTS, &[]).await? {
        let slot = Slot { read: session.get(what, row, 1)?, lost: session.get(what, row, 2)? };
        told.slots.insert(session.get(what, row, 0)?, slot);
    }
    let lease =
        "SELECT holder, date_part('epoch', clock_timestamp() - renewed) FROM herdsman.lease";
    if let Some(row) = session.rows(what, lease, &[]).await?.first() {
        told.lease = Some((session.get(what, row, 0)?, session.get(what, row, 1)?));
    }
    let progress = "SELECT source, lsn::text, heartbeat, rows, transactions FROM herdsman.progress";
    for row in &session.rows(what, progress, &[]).await? {
        let count = |column| -> Result<u64, MeshError> {
            Ok(u64::try_from(session.get::<i64>(what, row, column)?).unwrap_or(0))
        };
        let progress = Progress {
            lsn: session.lsn(what, row, 1)?,
            heartbeat: session.get(what, row, 2)?,
            rows: count(3)?,
            transactions: count(4)?,
        };
        told.progress.insert(NodeId(session.get(what, row, 0)?), progress);
    }
    Ok(told)
}
