//! Asks one node. Reads catalogues and statistics only.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use herdsman_node::{Conninfo, Tls};
use herdsman_wal::inspect::Session;
use herdsman_wal::publication::{self, TableFacts};
use herdsman_wal::{WalError, slot};
use tokio::time::Instant;

use crate::commands::doctor::evidence::{Clock, Seen, Server, ServerFacts, Unreached};

/// All of it may be asked by any role. What takes `pg_monitor` comes back null without it.
const FACTS: &str = "
select to_jsonb(f)::text from (select current_setting('server_version_num')::int as version,
  current_setting('server_version') as version_text, pg_is_in_recovery() as in_recovery,
  current_setting('wal_level') as wal_level, r.rolname as role, r.rolsuper as superuser,
  pg_has_role('pg_monitor', 'USAGE') as monitor,
  (select case when r.rolsuper or has_function_privilege('pg_read_file(text)', 'EXECUTE') then 'open'
      when bool_or(has_function_privilege(p.oid, 'EXECUTE') and has_schema_privilege(n.oid, 'USAGE')) then 'open'
      when count(*) > 0 then 'withheld' else 'missing' end
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'herdsman_monitor' and p.proname = 'timeline_history') as history,
  (select ssl from pg_stat_ssl where pid = pg_backend_pid()) as encrypted,
  current_setting('max_connections')::int as max_connections,
  current_setting('superuser_reserved_connections')::int
    + coalesce(current_setting('reserved_connections', true)::int, 0) as reserved,
  (select coalesce(sum(numbackends), 0) from pg_stat_database) as connections,
  current_setting('max_wal_senders')::int as max_senders, (select count(*) from pg_stat_replication) as senders,
  current_setting('max_replication_slots')::int as max_slots,
  current_setting('max_worker_processes')::int as max_workers,
  current_setting('max_logical_replication_workers')::int as max_apply_workers,
  (select count(*) from pg_subscription where subenabled) as subscriptions,
  current_setting('max_prepared_transactions')::int as max_prepared,
  current_setting('max_locks_per_transaction')::int as max_locks,
  (select case when setting::bigint >= 0 then setting::bigint * 1048576 end
    from pg_settings where name = 'max_slot_wal_keep_size') as keep_size,
  case when pg_is_in_recovery() then pg_is_wal_replay_paused() else false end as paused,
  (select status from pg_stat_wal_receiver) as receiver,
  (select case when count(c.oid) = 0
        then case when bool_or(has_schema_privilege(n.oid, 'CREATE')) then 'writable' else 'missing' end
      when bool_and(has_schema_privilege(n.oid, 'USAGE') and has_table_privilege(c.oid, 'SELECT')
        and has_table_privilege(c.oid, 'INSERT') and has_table_privilege(c.oid, 'UPDATE')) then 'writable'
      else 'closed' end
    from pg_namespace n left join pg_class c on c.relnamespace = n.oid and c.relname = 'pgr66_avc'
    where n.nspname = 'public') as heartbeat_table,
  has_function_privilege('pg_promote(boolean, integer)', 'EXECUTE') as may_promote,
  (select r.rolsuper or coalesce(bool_and(pg_has_role(c.oid, 'USAGE')), true) from pg_roles c
    where c.rolname = 'pg_checkpoint') as may_checkpoint
  from pg_roles r where r.rolname = current_user) f";

/// Tables whose updates or deletions are published, as the publications name them.
const PUBLISHED: &str = "
select p.pubname::text, t.schemaname::text, t.tablename::text
from pg_publication p join pg_publication_tables t on t.pubname = p.pubname
where p.pubupdate or p.pubdelete order by 1, 2, 3";

const NOW: &str = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";

/// A look at the clock is as good as its answer is fast: the best of so many.
const LOOKS: usize = 5;

/// Asks for all there is to know.
pub(super) async fn look(info: &Conninfo, limit: Duration) -> Seen {
    let endpoint = info.endpoint();
    let out = |kind, problem| Seen::Out(Unreached { kind, endpoint: endpoint.clone(), problem });
    let tls = match Tls::new(info) {
        Ok(tls) => tls,
        Err(error) => return out(None, error.to_string()),
    };
    match Session::connect(info, &tls, limit).await {
        Ok(session) => Seen::In(Box::new(Box::pin(ask(&session)).await)),
        Err(WalError::Connect(error)) => out(Some(error.kind), error.problem),
        Err(error) => out(Some(herdsman_node::ConnectErrorKind::Other), error.to_string()),
    }
}

async fn ask(session: &Session) -> Server {
    let mut server = Server::default();
    let mut unanswered = Vec::new();
    let mut note = |subject, error: WalError| unanswered.push((subject, error.to_string()));
    match facts(session).await {
        Ok(facts) => server.facts = facts,
        Err(error) => note("settings and rights", error),
    }
    match slot::list(session).await {
        Ok(slots) => server.slots = slots,
        Err(error) => note("replication slots", error),
    }
    // A standby's publications are its primary's.
    if !server.facts.in_recovery {
        match published(session).await {
            Ok(published) => server.published = published,
            Err(error) => note("publications", error),
        }
    }
    match clock(session).await {
        Ok(clock) => server.clock = clock,
        Err(error) => note("clock", error),
    }
    server.unanswered = unanswered;
    server
}

async fn facts(session: &Session) -> Result<ServerFacts, WalError> {
    let rows = session.rows("tell its settings and our rights", FACTS, &[]).await?;
    let text: Option<String> = rows.first().and_then(|row| row.try_get(0).ok());
    serde_json::from_str(text.as_deref().unwrap_or("null")).map_err(|error| WalError::Protocol {
        endpoint: session.endpoint().to_owned(),
        problem: format!("its answer about its settings cannot be read: {error}"),
    })
}

async fn published(session: &Session) -> Result<Vec<(String, TableFacts)>, WalError> {
    let rows = session.rows("list what it publishes", PUBLISHED, &[]).await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let tables = publication::list_tables(session).await?;
    let found = rows.iter().filter_map(|row| {
        let text = |column: usize| row.try_get::<_, String>(column).ok();
        let (schema, name) = (text(1)?, text(2)?);
        let table = tables.iter().find(|table| table.schema == schema && table.name == name)?;
        Some((text(0)?, table.clone()))
    });
    Ok(found.collect())
}

async fn clock(session: &Session) -> Result<Option<Clock>, WalError> {
    let mut best: Option<Clock> = None;
    for _ in 0..LOOKS {
        let (before, begun) = (SystemTime::now(), Instant::now());
        let rows = session.rows("tell the time", NOW, &[]).await?;
        let took = begun.elapsed();
        let theirs = rows.first().and_then(|row| row.try_get::<_, i64>(0).ok());
        let ours = before.duration_since(UNIX_EPOCH).ok().map(|since| since + took / 2);
        let ours = ours.and_then(|ours| i64::try_from(ours.as_micros()).ok());
        let within_micros = u64::try_from((took / 2).as_micros()).unwrap_or(u64::MAX);
        if let (Some(theirs), Some(ours)) = (theirs, ours)
            && best.is_none_or(|best| within_micros < best.within_micros)
        {
            best = Some(Clock { ahead_micros: theirs.saturating_sub(ours), within_micros });
        }
    }
    Ok(best)
}
