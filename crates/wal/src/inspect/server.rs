//! Settings and privileges.

use std::collections::BTreeMap;
use std::time::Duration;

use herdsman_node::Lsn;
use serde::{Deserialize, Serialize};

use super::Session;
use crate::WalError;

/// What of the settings matters. Those that a version lacks, or that our role may not see, do not come back.
const SETTINGS: &str = "
select jsonb_object_agg(name, jsonb_build_object('value', setting, 'unit', coalesce(unit, '')))::text
from pg_settings where name = any(array['server_version_num', 'server_version', 'wal_level', 'max_replication_slots',
  'max_wal_senders', 'max_slot_wal_keep_size', 'max_wal_size', 'output_plugin_libraries', 'logical_decoding_work_mem',
  'wal_sender_timeout', 'synchronized_standby_slots', 'idle_replication_slot_timeout', 'sync_replication_slots',
  'hot_standby_feedback'])";

const STATE: &str = "
select to_jsonb(f)::text from (select pg_is_in_recovery() as in_recovery, r.rolname as role, r.rolsuper as superuser,
  r.rolreplication or exists (select from pg_roles m where m.rolname = 'rds_replication' and pg_has_role(m.oid, 'member'))
    as replication,
  current_database() as database, (select count(*) from pg_replication_slots) as used_slots,
  (select count(*) from pg_stat_replication) as used_senders,
  has_database_privilege(current_database(), 'CREATE') as may_create,
  has_function_privilege('pg_ls_waldir()', 'EXECUTE') as may_list_wal,
  (select coalesce(bool_or(has_function_privilege(oid, 'EXECUTE')), false) from pg_proc
    where proname = 'pg_logical_emit_message' and pronamespace = 'pg_catalog'::regnamespace
      and proargtypes[2] = 'text'::regtype) as may_emit,
  case when pg_is_in_recovery() then coalesce(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0')
    else pg_current_wal_lsn() end as wal_position
  from pg_roles r where r.rolname = current_user) f";

const WAL_SIZE: &str = "select coalesce(sum(size), 0)::bigint from pg_ls_waldir()";

/// One server's settings, limits and privileges, as far as logical replication depends on them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerFacts {
    /// Its version as a number: 150018 is 15.18.
    pub version: u32,
    /// Its version as it calls it.
    pub version_text: String,
    /// `minimal`, `replica` or `logical`.
    pub wal_level: String,
    /// How many slots it may have.
    pub max_replication_slots: u32,
    /// How many it has.
    pub used_slots: u32,
    /// How many processes may send its log.
    pub max_wal_senders: u32,
    /// How many do.
    pub used_senders: u32,
    /// Bytes of log that a slot may hold back before it is lost; none without such a limit.
    pub max_slot_wal_keep_size: Option<u64>,
    /// Bytes of log between checkpoints.
    pub max_wal_size: u64,
    /// Bytes the log takes on its disk; none where our role may not see it.
    pub wal_bytes: Option<u64>,
    /// The only output plugins it loads; none where any may be (versions without `output_plugin_libraries`).
    pub output_plugin_libraries: Option<Vec<String>>,
    /// Bytes of one transaction that decoding holds in memory.
    pub logical_decoding_work_mem: u64,
    /// How long it waits for a reader's sign of life; none for ever.
    pub wal_sender_timeout: Option<Duration>,
    /// Slots whose standbys must have everything before logical readers get it (PostgreSQL 17 and later).
    pub synchronized_standby_slots: Vec<String>,
    /// How long nobody may read a slot before it is lost (PostgreSQL 18 and later); none for ever.
    pub idle_replication_slot_timeout: Option<Duration>,
    /// Whether, as a standby, it copies failover slots (PostgreSQL 17 and later).
    pub sync_replication_slots: bool,
    /// Whether, as a standby, it tells the primary which rows it needs.
    pub hot_standby_feedback: bool,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// The role we are.
    pub role: String,
    /// Whether that role may do anything.
    pub superuser: bool,
    /// Whether that role may use replication.
    pub replication: bool,
    /// Whether that role may create publications in this database.
    pub may_create: bool,
    /// Whether that role may write messages into the log, as heartbeats are.
    pub may_emit: bool,
    /// The database we are in.
    pub database: String,
    /// The end of its log: written on a primary, received on a standby.
    pub wal_position: Lsn,
}

impl ServerFacts {
    /// Its major version, such as 15.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.version / 10_000
    }

    /// Whether our role may make, read and drop slots.
    #[must_use]
    pub fn may_replicate(&self) -> bool {
        self.superuser || self.replication
    }

    /// Whether it loads the output plugin `name`.
    #[must_use]
    pub fn allows_plugin(&self, name: &str) -> bool {
        self.output_plugin_libraries
            .as_ref()
            .is_none_or(|allowed| allowed.iter().any(|a| a == name))
    }
}

/// Asks a server for its facts.
///
/// # Errors
/// [`WalError`] when it cannot be asked.
pub async fn inspect(session: &Session) -> Result<ServerFacts, WalError> {
    let settings: Settings = ask(session, "tell its settings", SETTINGS).await?;
    let state: State = ask(session, "tell its state", STATE).await?;
    let wal_bytes = match state.may_list_wal {
        true => {
            session.rows("tell the size of its log", WAL_SIZE, &[]).await?.first().and_then(|row| {
                row.try_get::<_, i64>(0).ok().and_then(|bytes| u64::try_from(bytes).ok())
            })
        }
        false => None,
    };
    let (version, wal_level) = (settings.number("server_version_num"), settings.text("wal_level"));
    if version.is_none() || wal_level.is_empty() {
        return Err(session.senseless("its settings", "it tells neither version nor wal_level"));
    }
    Ok(ServerFacts {
        version: version.and_then(|v| u32::try_from(v).ok()).unwrap_or(0),
        version_text: settings.text("server_version"),
        wal_level,
        max_replication_slots: settings.count("max_replication_slots"),
        used_slots: state.used_slots,
        max_wal_senders: settings.count("max_wal_senders"),
        used_senders: state.used_senders,
        max_slot_wal_keep_size: settings.bytes("max_slot_wal_keep_size"),
        max_wal_size: settings.bytes("max_wal_size").unwrap_or(0),
        wal_bytes,
        output_plugin_libraries: settings.list("output_plugin_libraries"),
        logical_decoding_work_mem: settings.bytes("logical_decoding_work_mem").unwrap_or(0),
        wal_sender_timeout: settings.duration("wal_sender_timeout"),
        synchronized_standby_slots: settings.list("synchronized_standby_slots").unwrap_or_default(),
        idle_replication_slot_timeout: settings.duration("idle_replication_slot_timeout"),
        sync_replication_slots: settings.text("sync_replication_slots") == "on",
        hot_standby_feedback: settings.text("hot_standby_feedback") == "on",
        in_recovery: state.in_recovery,
        role: state.role,
        superuser: state.superuser,
        replication: state.replication,
        may_create: state.may_create,
        may_emit: state.may_emit,
        database: state.database,
        wal_position: state.wal_position,
    })
}

/// The server's version as a number: 150018 is 15.18.
///
/// # Errors
/// [`WalError`] when it cannot be asked.
pub async fn version(session: &Session) -> Result<u32, WalError> {
    let sql = "select to_jsonb(current_setting('server_version_num')::int)::text";
    ask(session, "tell its version", sql).await
}

/// Whether the server is a standby.
///
/// # Errors
/// [`WalError`] when it cannot be asked.
pub async fn on_standby(session: &Session) -> Result<bool, WalError> {
    let sql = "select to_jsonb(pg_is_in_recovery())::text";
    ask(session, "tell whether it is a standby", sql).await
}

/// Runs a query that answers with one JSON value.
async fn ask<T: serde::de::DeserializeOwned>(
    session: &Session,
    what: &'static str,
    sql: &str,
) -> Result<T, WalError> {
    let rows = session.rows(what, sql, &[]).await?;
    let text: Option<String> = rows.first().and_then(|row| row.try_get(0).ok());
    let text = text.ok_or_else(|| session.senseless("itself", "it is empty"))?;
    serde_json::from_str(&text).map_err(|e| session.senseless("itself", e))
}

#[derive(Deserialize)]
struct State {
    in_recovery: bool,
    role: String,
    superuser: bool,
    replication: bool,
    database: String,
    used_slots: u32,
    used_senders: u32,
    may_create: bool,
    may_list_wal: bool,
    may_emit: bool,
    wal_position: Lsn,
}

#[derive(Deserialize)]
struct Settings(BTreeMap<String, Setting>);

#[derive(Deserialize)]
struct Setting {
    value: String,
    unit: String,
}

impl Settings {
    fn text(&self, name: &str) -> String {
        self.0.get(name).map(|setting| setting.value.clone()).unwrap_or_default()
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.0.get(name)?.value.parse().ok()
    }

    fn count(&self, name: &str) -> u32 {
        self.number(name).and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
    }

    /// None for -1, which stands for no limit.
    fn bytes(&self, name: &str) -> Option<u64> {
        let number = u64::try_from(self.number(name)?).ok()?;
        let unit = match self.0.get(name)?.unit.as_str() {
            "8kB" => 8 << 10,
            "kB" => 1 << 10,
            "MB" => 1 << 20,
            "GB" => 1 << 30,
            _ => 1,
        };
        Some(number.saturating_mul(unit))
    }

    /// None for 0, which stands for no limit.
    fn duration(&self, name: &str) -> Option<Duration> {
        let number = u64::try_from(self.number(name)?).ok().filter(|number| *number > 0)?;
        let milliseconds = match self.0.get(name)?.unit.as_str() {
            "min" => number.saturating_mul(60_000),
            "s" => number.saturating_mul(1000),
            _ => number,
        };
        Some(Duration::from_millis(milliseconds))
    }

    /// A list of names; none when there is no such setting.
    fn list(&self, name: &str) -> Option<Vec<String>> {
        let names =
            self.0.get(name)?.value.split(',').map(|n| n.trim().trim_matches('"').to_owned());
        Some(names.filter(|name| !name.is_empty()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_with_their_units_and_words_for_no_limit() {
        let text = r#"{
            "max_slot_wal_keep_size": {"value": "-1", "unit": "MB"},
            "max_wal_size": {"value": "1024", "unit": "MB"},
            "wal_sender_timeout": {"value": "60000", "unit": "ms"},
            "idle_replication_slot_timeout": {"value": "0", "unit": "s"},
            "output_plugin_libraries": {"value": "pgoutput, \"test_decoding\"", "unit": ""},
            "synchronized_standby_slots": {"value": "", "unit": ""}}"#;
        let settings: Settings = serde_json::from_str(text).unwrap();
        assert_eq!(settings.bytes("max_slot_wal_keep_size"), None);
        assert_eq!(settings.bytes("max_wal_size"), Some(1 << 30));
        assert_eq!(settings.duration("wal_sender_timeout"), Some(Duration::from_secs(60)));
        assert_eq!(settings.duration("idle_replication_slot_timeout"), None);
        assert_eq!(
            settings.list("output_plugin_libraries"),
            Some(vec!["pgoutput".to_owned(), "test_decoding".to_owned()])
        );
        assert_eq!(settings.list("synchronized_standby_slots"), Some(vec![]));
        assert_eq!(settings.list("no_such_setting"), None);
    }
}
