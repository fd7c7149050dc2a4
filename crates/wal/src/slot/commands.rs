//! What is asked of the server about slots.

use std::time::Duration;

use herdsman_node::Lsn;
use serde::Deserialize;
use tokio_postgres::Row;

use super::{Decoding, Slot, WalStatus};
use crate::inspect::{self, Session};
use crate::{SlotName, WalError};

/// As JSON, since every version has columns of its own; `$1` null for all slots.
const SLOTS: &str = "
select to_jsonb(s)::text, (select to_jsonb(d)::text from pg_stat_replication_slots d where d.slot_name = s.slot_name),
  (s.database = current_database()) is true, pg_is_in_recovery(),
  (case when pg_is_in_recovery() then coalesce(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0')
    else pg_current_wal_lsn() end)::text
from pg_replication_slots s where $1::text is null or s.slot_name = $1 order by s.slot_name";

const DROP: &str = "select pg_drop_replication_slot($1)";
const ADVANCE: &str = "select end_lsn::text from pg_replication_slot_advance($1, $2::text::pg_lsn)";
/// From this version on, standbys can keep logical slots.
const FAILOVER_SINCE: u32 = 170_000;

/// What a new slot is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateOptions {
    /// Have standbys keep it too. Left out before PostgreSQL 17, and [`Created::failover`] says so.
    pub failover: bool,
    /// Have prepared transactions sent before they commit.
    pub two_phase: bool,
    /// Have it end with the session.
    pub temporary: bool,
    /// How long to wait for the transactions that are older than it.
    pub limit: Duration,
}

impl Default for CreateOptions {
    /// A plain slot; 30 s, which outlasts what an application's transactions should take.
    fn default() -> Self {
        let limit = Duration::from_secs(30);
        Self { failover: false, two_phase: false, temporary: false, limit }
    }
}

/// A slot was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// Every transaction that commits after this position will be sent.
    pub consistent_point: Lsn,
    /// Whether standbys keep it too. False where that was asked for and the server's version has no such thing.
    pub failover: bool,
}

/// Tells about one slot; none where there is no such slot.
///
/// # Errors
/// [`WalError`] when the server cannot be asked.
pub async fn inspect(session: &Session, slot: &SlotName) -> Result<Option<Slot>, WalError> {
    let rows =
        session.rows("look at its replication slots", SLOTS, &[&Some(slot.as_str())]).await?;
    rows.first().map(|row| read(session, row)).transpose()
}

/// Tells about all slots of the server, physical ones too, by name.
///
/// # Errors
/// [`WalError`] when the server cannot be asked.
pub async fn list(session: &Session) -> Result<Vec<Slot>, WalError> {
    let rows = session.rows("look at its replication slots", SLOTS, &[&None::<&str>]).await?;
    rows.iter().map(|row| read(session, row)).collect()
}

/// Makes a slot for pgoutput. A publication it is to be read with must be there already: see
/// [`publication::prepare`](crate::publication::prepare).
///
/// The server waits for every transaction that is older than the slot. When that takes longer than `options.limit`,
/// nothing is left behind. Dropped while it waits, it may leave the slot behind: the server goes on for up to
/// `options.limit`.
///
/// # Errors
/// [`WalError::TimedOut`] names the transactions that were in the way; [`WalError::Server`] when there is such a slot
/// already, none is free, or the role may not.
pub async fn create(
    session: &Session,
    slot: &SlotName,
    options: &CreateOptions,
) -> Result<Created, WalError> {
    const WHAT: &str = "create the replication slot";
    let CreateOptions { failover, two_phase, temporary, limit } = options;
    let failover = *failover && inspect::version(session).await? >= FAILOVER_SINCE;
    let more = if failover { ", true" } else { "" };
    let sql = format!(
        "select lsn::text from pg_create_logical_replication_slot($1, 'pgoutput', $2, $3{more})"
    );
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&slot.as_str(), temporary, two_phase];
    let rows = match session.rows_within(*limit, WHAT, &sql, &parameters).await {
        Err(WalError::TimedOut { endpoint, what, seconds, .. }) => {
            let advice = in_the_way(session).await;
            return Err(WalError::TimedOut { endpoint, what, seconds, advice });
        }
        rows => rows?,
    };
    let consistent_point = position(session, rows.first())?;
    Ok(Created { consistent_point, failover })
}

/// Drops a slot: the server stops keeping log for it, and what was not read is gone.
///
/// # Errors
/// [`WalError::SlotMissing`] and [`WalError::SlotActive`].
pub async fn drop(session: &Session, slot: &SlotName) -> Result<(), WalError> {
    let outcome = session.rows("drop the replication slot", DROP, &[&slot.as_str()]).await;
    match outcome {
        Ok(_) => Ok(()),
        Err(error) => Err(explained(session, slot, error).await),
    }
}

/// Moves a slot forward without reading it: changes before `to` are never sent. Returns where it stands then, which is
/// further back where nothing was committed in between.
///
/// # Errors
/// [`WalError::SlotMissing`] and [`WalError::SlotActive`]; [`WalError::Server`] when `to` is behind it already.
pub async fn advance(session: &Session, slot: &SlotName, to: Lsn) -> Result<Lsn, WalError> {
    let what = "advance the replication slot";
    match session.rows(what, ADVANCE, &[&slot.as_str(), &to.to_string()]).await {
        Ok(rows) => position(session, rows.first()),
        Err(error) => Err(explained(session, slot, error).await),
    }
}

/// The error that says what of the slot is in the way, where the server's code tells.
async fn explained(session: &Session, slot: &SlotName, error: WalError) -> WalError {
    let WalError::Server { sqlstate, .. } = &error else { return error };
    let (endpoint, name) = (session.endpoint().to_owned(), slot.to_string());
    match sqlstate.as_str() {
        "42704" => WalError::SlotMissing { endpoint, slot: name },
        "55006" => match inspect(session, slot).await {
            Ok(Some(Slot { active_pid: Some(pid), .. })) => {
                WalError::SlotActive { endpoint, slot: name, pid }
            }
            _ => error,
        },
        _ => error,
    }
}

async fn in_the_way(session: &Session) -> String {
    match inspect::oldest_transactions(session).await {
        Ok(oldest) if !oldest.is_empty() => {
            let named: Vec<String> = oldest.iter().take(3).map(ToString::to_string).collect();
            let named = named.join(", and ");
            format!(
                "; it has to wait for every transaction that is older, such as {named}; end it or let it end, then try again"
            )
        }
        // There, positions of the log decide, and a quiet primary writes none.
        Ok(_) if inspect::on_standby(session).await.unwrap_or(false) => {
            "; a standby has to wait until the primary logs what runs there: run `select pg_log_standby_snapshot()` on the primary".to_owned()
        }
        Ok(_) => "; what it waited for seems to be over, try again".to_owned(),
        Err(_) => String::new(),
    }
}

fn position(session: &Session, row: Option<&Row>) -> Result<Lsn, WalError> {
    let unreadable = |problem: String| session.senseless("a position in its log", problem);
    let row = row.ok_or_else(|| unreadable("no row".to_owned()))?;
    let text: String = row.try_get(0).map_err(|e| unreadable(e.to_string()))?;
    text.parse().map_err(|e: herdsman_node::ParseLsnError| unreadable(e.to_string()))
}

/// A row of `pg_replication_slots`; columns that an old version lacks are none.
#[derive(Deserialize)]
struct Seen {
    slot_name: SlotName,
    plugin: Option<String>,
    database: Option<String>,
    temporary: bool,
    active_pid: Option<u32>,
    restart_lsn: Option<Lsn>,
    confirmed_flush_lsn: Option<Lsn>,
    wal_status: Option<WalStatus>,
    safe_wal_size: Option<i64>,
    two_phase: Option<bool>,
    failover: Option<bool>,
    synced: Option<bool>,
    invalidation_reason: Option<String>,
    conflicting: Option<bool>,
}

fn read(session: &Session, row: &Row) -> Result<Slot, WalError> {
    let unreadable = |problem: String| session.senseless("its replication slots", problem);
    let text = |at: usize| row.try_get::<_, String>(at).map_err(|e| unreadable(e.to_string()));
    let flag = |at: usize| row.try_get::<_, bool>(at).map_err(|e| unreadable(e.to_string()));
    let seen: Seen = serde_json::from_str(&text(0)?).map_err(|e| unreadable(e.to_string()))?;
    let decoding: Option<String> = row.try_get(1).map_err(|e| unreadable(e.to_string()))?;
    let decoding: Option<Decoding> = decoding
        .map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|e| unreadable(e.to_string()))?;
    Ok(Slot {
        name: seen.slot_name,
        plugin: seen.plugin,
        database: seen.database,
        database_is_ours: flag(2)?,
        temporary: seen.temporary,
        active_pid: seen.active_pid,
        restart: seen.restart_lsn,
        confirmed: seen.confirmed_flush_lsn,
        wal_status: seen.wal_status,
        safe_wal_size: seen.safe_wal_size,
        two_phase: seen.two_phase.unwrap_or(false),
        failover: seen.failover.unwrap_or(false),
        synced: seen.synced.unwrap_or(false),
        on_standby: flag(3)?,
        invalidation_reason: seen.invalidation_reason,
        conflicting: seen.conflicting.unwrap_or(false),
        wal_position: position_of(&text(4)?).map_err(unreadable)?,
        decoding,
    })
}

fn position_of(text: &str) -> Result<Lsn, String> {
    text.parse().map_err(|e: herdsman_node::ParseLsnError| e.to_string())
}
