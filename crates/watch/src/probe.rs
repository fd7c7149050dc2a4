//! What is asked of a node, and how the answer is read.
//!
//! One query, one round trip. Every function in it may be called by any role; without `pg_monitor` the receiver and
//! sender columns come back null, which is reported as blindness and never taken for absence.

use std::time::Duration;

use herdsman_node::{Conninfo, Lsn, NodeName, SystemId, Timeline, describe};
use serde::Deserialize;
use tokio_postgres::error::Severity;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use crate::evidence::{Branch, Evidence, Receiver, Sender};

const PROBE: &str = r"
select pg_is_in_recovery()::text as in_recovery,
  (select system_identifier::text from pg_control_system()) as system_id,
  case when pg_is_in_recovery() then null
    else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end as written_timeline,
  greatest((select timeline_id from pg_control_checkpoint()),
    (select min_recovery_end_timeline from pg_control_recovery()))::text as replayed_timeline,
  case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end::text as lsn,
  pg_last_wal_receive_lsn()::text as received,
  current_setting('default_transaction_read_only') as read_only,
  current_setting('server_version_num') as server_version,
  pg_has_role('pg_monitor', 'USAGE')::text as monitor,
  (select row_to_json(r)::text from (select status, sender_host, sender_port, received_tli, slot_name, conninfo
    from pg_stat_wal_receiver) r) as receiver,
  (select coalesce(json_agg(s), '[]')::text from (
    select r.application_name, r.state, r.replay_lsn::text, l.slot_name,
      extract(epoch from clock_timestamp() - r.reply_time)::float8 as age
    from pg_stat_replication r left join pg_replication_slots l on l.active_pid = r.pid
    limit 1000) s) as senders";

/// How this role may read history files on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HistoryAccess {
    /// By `herdsman_monitor.timeline_history()`, the function our documentation offers.
    Function,
    /// By `pg_read_file`.
    File,
    /// Not at all: positions are compared instead.
    Closed,
}

const HISTORY_ACCESS: &str = r"
select case when has_function_privilege(to_regprocedure('herdsman_monitor.timeline_history()'), 'EXECUTE') then 'function'
  when has_function_privilege('pg_read_file(text)', 'EXECUTE') then 'file' else 'closed' end as access";

/// A node's answer makes no sense, or the query failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("the probe query failed: {0}")]
    Query(String),
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("the probe's answer has no usable `{0}`; is this PostgreSQL 13 or later?")]
    Answer(&'static str),
}

/// Looks at a node once.
pub(crate) async fn probe(client: &Client) -> Result<Evidence, ProbeError> {
    let messages = client.simple_query(PROBE).await.map_err(|e| failed(&e))?;
    let row = messages.iter().find_map(|m| match m {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    read(row.ok_or(ProbeError::Answer("row"))?)
}

/// Makes the node answer with nothing but its state reports.
pub(crate) async fn pulse(client: &Client) -> Result<(), ProbeError> {
    client.simple_query("").await.map(drop).map_err(|e| failed(&e))
}

/// Tells a server that refuses the question from a session that is over.
fn failed(error: &tokio_postgres::Error) -> ProbeError {
    let over = error
        .as_db_error()
        .is_none_or(|db| matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic)));
    if over { ProbeError::Broken(describe(error)) } else { ProbeError::Query(describe(error)) }
}

/// Finds out how history files may be read.
pub(crate) async fn history_access(client: &Client) -> HistoryAccess {
    match client.query_one(HISTORY_ACCESS, &[]).await.map(|row| row.get::<_, String>(0)).as_deref()
    {
        Ok("function") => HistoryAccess::Function,
        Ok("file") => HistoryAccess::File,
        _ => HistoryAccess::Closed,
    }
}

/// Reads where `timeline` left its ancestors; empty where that may not be read.
pub(crate) async fn branches(
    client: &Client,
    access: HistoryAccess,
    timeline: Timeline,
) -> Vec<Branch> {
    let file = format!("{:08X}.history", timeline.0);
    let content: Option<String> = match access {
        HistoryAccess::Closed => None,
        HistoryAccess::Function => client
            .query_opt(
                "select content from herdsman_monitor.timeline_history() where name = $1",
                &[&file],
            )
            .await
            .ok()
            .flatten()
            .and_then(|row| row.get(0)),
        HistoryAccess::File => client
            .query_one("select pg_read_file($1)", &[&format!("pg_wal/{file}")])
            .await
            .ok()
            .and_then(|row| row.get(0)),
    };
    content.as_deref().map(read_history).unwrap_or_default()
}

/// Reads a history file: parent timeline, position, reason, separated by white space.
fn read_history(content: &str) -> Vec<Branch> {
    let branch = |line: &str| {
        let mut fields = line.split_whitespace();
        let parent = Timeline(fields.next()?.parse().ok()?);
        Some(Branch { parent, at: fields.next()?.parse().ok()? })
    };
    content.lines().filter_map(branch).collect()
}

#[derive(Deserialize)]
struct ReceiverRow {
    status: Option<String>,
    sender_host: Option<String>,
    sender_port: Option<u16>,
    received_tli: Option<u32>,
    slot_name: Option<String>,
    conninfo: Option<String>,
}

#[derive(Deserialize)]
struct SenderRow {
    application_name: Option<String>,
    state: Option<String>,
    replay_lsn: Option<Lsn>,
    slot_name: Option<String>,
    age: Option<f64>,
}

fn read(row: &SimpleQueryRow) -> Result<Evidence, ProbeError> {
    let text = |name: &'static str| row.try_get(name).ok().flatten();
    let need = |name: &'static str| text(name).ok_or(ProbeError::Answer(name));
    let in_recovery = need("in_recovery")? == "true";
    let blind = need("monitor")? != "true";
    let receiver: Option<ReceiverRow> =
        text("receiver").and_then(|json| serde_json::from_str(json).ok());
    let receiver = receiver.filter(|_| in_recovery).map(ReceiverRow::into_receiver);
    let senders: Vec<SenderRow> =
        serde_json::from_str(need("senders")?).map_err(|_| ProbeError::Answer("senders"))?;
    let written = text("written_timeline").and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let replayed = text("replayed_timeline").and_then(|t| t.parse().ok());
    let received = receiver.as_ref().and_then(|r| r.timeline).map(|t| t.0);
    let timeline = if in_recovery { received.max(replayed) } else { written };
    Ok(Evidence {
        system_id: need("system_id")?
            .parse::<SystemId>()
            .map_err(|_| ProbeError::Answer("system_id"))?,
        in_recovery,
        timeline: Timeline(timeline.ok_or(ProbeError::Answer("timeline"))?),
        // A standby that has replayed nothing yet has no position.
        lsn: text("lsn").and_then(|t| t.parse().ok()).unwrap_or_default(),
        received: text("received").and_then(|t| t.parse().ok()),
        read_only: need("read_only")? == "on",
        receiver,
        senders: senders.into_iter().map(SenderRow::into_sender).collect(),
        branches: Vec::new(),
        server_version: need("server_version")?
            .parse()
            .map_err(|_| ProbeError::Answer("server_version"))?,
        blind,
    })
}

impl ReceiverRow {
    fn into_receiver(self) -> Receiver {
        let pairs = self
            .conninfo
            .as_deref()
            .and_then(|text| Conninfo::pairs(text).ok())
            .unwrap_or_default();
        let named = |key: &str| pairs.get(key).filter(|v| !v.is_empty()).cloned();
        Receiver {
            streaming: self.status.as_deref() == Some("streaming"),
            host: self.sender_host.unwrap_or_default(),
            port: self.sender_port.unwrap_or_default(),
            timeline: self.received_tli.map(Timeline),
            slot: self.slot_name,
            application_name: named("application_name")
                .or_else(|| named("fallback_application_name")),
        }
    }
}

impl SenderRow {
    fn into_sender(self) -> Sender {
        Sender {
            application_name: self.application_name.unwrap_or_default(),
            streaming: self.state.as_deref() == Some("streaming"),
            replayed: self.replay_lsn,
            age: self.age.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()),
            slot: self.slot_name,
        }
    }
}

/// Addresses under which a node may appear in a standby's `primary_conninfo`: as configured, and as its host name
/// resolves.
pub(crate) async fn resolve(info: &Conninfo, limit: Duration) -> Vec<String> {
    let host = info.hostaddr.map_or_else(|| info.host.clone(), |address| address.to_string());
    match tokio::time::timeout(limit, tokio::net::lookup_host((host, info.port))).await {
        Ok(Ok(found)) => found.take(16).map(|a| format!("{}:{}", a.ip(), a.port())).collect(),
        _ => Vec::new(),
    }
}

/// The addresses the configuration gives a node.
pub(crate) fn configured_addresses(
    name: &NodeName,
    info: &Conninfo,
    extra: &std::collections::BTreeMap<NodeName, Vec<String>>,
) -> Vec<String> {
    let mut addresses = vec![format!("{}:{}", info.host, info.port)];
    addresses.extend(info.hostaddr.map(|address| format!("{address}:{}", info.port)));
    addresses.extend(extra.get(name).into_iter().flatten().cloned());
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_file_tells_where_each_timeline_was_left() {
        let content = "1\t0/59ACB60\tno recovery target specified\n\n2\t1/0\tbefore 2026-11-21 01:00:00+00\nrubbish\n";
        let at = |parent, at: &str| Branch { parent: Timeline(parent), at: at.parse().unwrap() };
        assert_eq!(read_history(content), [at(1, "0/59ACB60"), at(2, "1/0")]);
        assert_eq!(read_history(""), []);
    }

    #[test]
    fn a_receiver_is_read_with_the_name_it_presents() {
        let row = ReceiverRow {
            status: Some("streaming".to_owned()),
            sender_host: Some("db1".to_owned()),
            sender_port: Some(5432),
            received_tli: Some(2),
            slot_name: None,
            conninfo: Some(
                "user=r password=******** fallback_application_name=n2 host=db1".to_owned(),
            ),
        };
        let receiver = row.into_receiver();
        assert_eq!(receiver.application_name.as_deref(), Some("n2"));
        assert!(receiver.streaming);
    }
}
