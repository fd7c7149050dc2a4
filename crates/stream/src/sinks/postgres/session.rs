//! One connection to the target, made ready.

use std::sync::Arc;
use std::time::Duration;

use herdsman_node::{Lsn, connect};
use herdsman_wal::{quote_identifier, quote_literal};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error, Statement};
use tokio_util::task::AbortOnDropHandle;

use super::Settings;
use super::config::Attempt;
use super::fault::{Fault, sink_error};
use super::ledger::Stored;
use super::tables::Tables;
use crate::sink::{Position, SinkError};

/// How much longer than the server's own limit an answer is awaited, for the way there and back.
const GRACE: Duration = Duration::from_secs(5);

/// One connection to the target, made ready.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) settings: Arc<Settings>,
    pub(super) client: Client,
    pub(super) tables: Tables,
    /// Moves the position.
    pub(super) advance: Statement,
    /// Keeps rejected rows.
    pub(super) reject: Statement,
    /// Adds to the list of changes.
    pub(super) append: Statement,
    /// Whether foreign keys and triggers are off.
    pub(super) as_replica: bool,
    driver: AbortOnDropHandle<()>,
}

impl Session {
    /// Connects, makes ready what is missing, and asks how far the sink is. Waits until no other session of this sink has
    /// a transaction open.
    pub(super) async fn open(settings: &Arc<Settings>) -> Result<(Self, Stored), SinkError> {
        let config = &settings.config;
        let limit = config.connect_timeout;
        let opening = async {
            let connection = connect(&settings.info, &settings.tls, limit).await.map_err(|e| {
                let problem = format!("{} ({:?})", e.problem, e.kind);
                sink_error(&settings.target, "connect to", problem, e.kind.advice(), true)
            })?;
            let (client, driving) = connection.split(|_| {});
            let driver: JoinHandle<()> = tokio::spawn(async move {
                let end = driving.await;
                tracing::debug!(end, "the connection to the target ended");
            });
            let driver = AbortOnDropHandle::new(driver);
            make_ready(settings, client, driver).await.map_err(|fault| {
                let mut error = fault.into_sink_error(&settings.target);
                error.what = "open";
                error
            })
        };
        // Everything after the login waits for the server's own limits.
        let bound = limit + config.statement_timeout + GRACE;
        tokio::time::timeout(bound, Box::pin(opening)).await.unwrap_or_else(|_| {
            Err(sink_error(
                &settings.target,
                "open",
                format!("it did not answer within {bound:?}"),
                "check that the server is up and reachable",
                true,
            ))
        })
    }

    /// How long an answer may take.
    pub(super) fn patience(&self) -> Duration {
        self.settings.config.statement_timeout + GRACE
    }

    /// The error for a change that will never be taken.
    pub(super) fn rejected(&self, problem: String) -> SinkError {
        sink_error(
            &self.settings.target,
            "apply a change to",
            problem,
            "correct the row or the table there, then replay the dead letter",
            false,
        )
    }

    /// The error for changes of another cluster.
    pub(super) fn other_source(&self, problem: String) -> SinkError {
        sink_error(
            &self.settings.target,
            "deliver to",
            problem,
            "give the sink another name, or delete its row from the table `position` there and start with a snapshot",
            false,
        )
    }

    /// Says goodbye.
    pub(super) async fn close(self, limit: Duration) {
        let Self { client, driver, .. } = self;
        drop(client);
        // The driver ends once the server has been told.
        if tokio::time::timeout(limit, driver).await.is_err() {
            tracing::debug!("the target did not take our goodbye");
        }
    }
}

async fn make_ready(
    settings: &Arc<Settings>,
    client: Client,
    driver: AbortOnDropHandle<()>,
) -> Result<(Session, Stored), Fault> {
    let fault = |error: Error| Fault::of(&error);
    client.batch_execute(&session_settings(settings)).await.map_err(fault)?;
    let as_replica = become_replica(settings, &client).await?;
    let schema = quote_identifier(&settings.config.schema);
    ensure_tables(&client, &settings.config.schema).await.map_err(fault)?;
    mark_as_replicated(settings, &client).await?;
    let name = &settings.name;
    let insert = format!("INSERT INTO {schema}.position (sink) VALUES ($1) ON CONFLICT DO NOTHING");
    client.execute(&insert, &[name]).await.map_err(fault)?;
    // With a lock, for the sake of waiting: a session of ours that was given up may be just about to commit.
    let select = format!(
        "SELECT batch, commit_lsn::text, changes::text, system_id, writer FROM {schema}.position WHERE sink = $1 FOR UPDATE"
    );
    let row = client.query_one(&select, &[name]).await.map_err(fault)?;
    let stored = stored(&row).map_err(fault)?.ok_or_else(|| {
        Fault::lost(format!("the position of sink `{name}` in {schema}.position is not valid"))
    })?;
    let prepare = async |sql: String| client.prepare(&sql).await.map_err(fault);
    let advance = prepare(format!(
        "UPDATE {schema}.position SET batch = batch + 1, updated_at = now(),
             commit_lsn = coalesce($3::text::pg_lsn, commit_lsn), changes = coalesce($4::text::numeric, changes),
             system_id = coalesce($5::text, system_id), timeline = coalesce($6::text::int8, timeline), writer = $7
         WHERE sink = $1 AND batch = $2"
    ))
    .await?;
    let reject = prepare(format!(
        "INSERT INTO {schema}.rejected
             (sink, commit_lsn, ordinal, kind, table_schema, table_name, problem, content)
         SELECT $1, v.a::pg_lsn, v.b::numeric, v.c, v.d, v.e, v.f, v.g::json
         FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
              AS v(a, b, c, d, e, f, g)"
    ))
    .await?;
    let append = prepare(format!(
        "INSERT INTO {schema}.changes
             (sink, commit_lsn, ordinal, xid, committed_at, kind, table_schema, table_name, content)
         SELECT $1, v.a::pg_lsn, v.b::numeric, v.c::int8, '2000-01-01 00:00:00+00'::timestamptz + v.d::int8 * interval '1 microsecond', v.e, v.f, v.g, v.h::jsonb
         FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
              AS v(a, b, c, d, e, f, g, h)"
    ))
    .await?;
    let settings = Arc::clone(settings);
    let tables = Tables::default();
    let session = Session { settings, client, tables, advance, reject, append, as_replica, driver };
    Ok((session, stored))
}

fn session_settings(settings: &Settings) -> String {
    let millis = settings.config.statement_timeout.as_millis();
    // Found by key, whatever the planner thought of the table when it was empty and the plan was made. Nobody else's
    // functions and operators are found by accident. What text looks like does not depend on the role's settings. What is
    // acknowledged is on disk there.
    format!(
        "SET search_path = '';
         SET statement_timeout = {millis}; SET lock_timeout = {millis};
         SET idle_in_transaction_session_timeout = {};
         SET plan_cache_mode = force_generic_plan; SET jit = off;
         SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
         SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET xmloption = 'content';
         SET standard_conforming_strings = on; SET check_function_bodies = off;
         SELECT pg_catalog.set_config('synchronous_commit', 'on', false)
         WHERE pg_catalog.current_setting('synchronous_commit') = 'off';",
        millis.saturating_mul(2).min(86_400_000)
    )
}

/// Turns triggers and foreign keys off for this session, as a subscription's worker does: the source has seen to them.
async fn become_replica(settings: &Settings, client: &Client) -> Result<bool, Fault> {
    if settings.config.replica_role == Attempt::Never {
        return Ok(false);
    }
    match client.batch_execute("SET session_replication_role = replica").await {
        Ok(()) => Ok(true),
        Err(error) if is_refusal(&error) => {
            tracing::info!(
                sink = settings.name,
                "the target's role may not set session_replication_role: triggers and foreign keys fire there"
            );
            Ok(false)
        }
        Err(error) => Err(Fault::of(&error)),
    }
}

/// Marks what this session writes as replicated, so that a stream that reads the target can tell.
async fn mark_as_replicated(settings: &Settings, client: &Client) -> Result<(), Fault> {
    if settings.config.origin == Attempt::Never {
        return Ok(());
    }
    let name = quote_literal(&format!("herdsman_{}", settings.name));
    let sql = format!(
        "SELECT pg_catalog.pg_replication_origin_create({name})
         WHERE pg_catalog.pg_replication_origin_oid({name}) IS NULL;
         SELECT pg_catalog.pg_replication_origin_session_setup({name})"
    );
    match client.batch_execute(&sql).await {
        Ok(()) => Ok(()),
        Err(error) if is_refusal(&error) => {
            tracing::info!(
                sink = settings.name,
                "the target's role may not set a replication origin: a stream that reads the target takes these rows for its own"
            );
            Ok(())
        }
        Err(error) => Err(Fault::of(&error)),
    }
}

/// The role may not, or the server is not set up for it.
fn is_refusal(error: &Error) -> bool {
    error.code().is_some_and(|code| matches!(code.code(), "42501" | "55000" | "53400"))
}

/// Creates the sink's own tables where they are missing.
async fn ensure_tables(client: &Client, schema: &str) -> Result<(), Error> {
    let known =
        "SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname = $1::text AND c.relname = 'position'";
    if client.query_opt(known, &[&schema]).await?.is_some() {
        return Ok(());
    }
    let schema = quote_identifier(schema);
    // One at a time: two that create the same table at once fail instead of one finding it.
    let sql = format!(
        "BEGIN;
         SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('herdsman_stream'));
         CREATE SCHEMA IF NOT EXISTS {schema};
         CREATE TABLE IF NOT EXISTS {schema}.rejected (
             id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(),
             sink text NOT NULL, commit_lsn pg_lsn NOT NULL, ordinal numeric(20) NOT NULL, kind text NOT NULL,
             table_schema text, table_name text, problem text NOT NULL, content json);
         CREATE TABLE IF NOT EXISTS {schema}.changes (
             sink text NOT NULL, commit_lsn pg_lsn NOT NULL, ordinal numeric(20) NOT NULL, xid bigint NOT NULL,
             committed_at timestamptz NOT NULL, seen_at timestamptz NOT NULL DEFAULT now(), kind text NOT NULL,
             table_schema text, table_name text, content jsonb NOT NULL);
         CREATE TABLE IF NOT EXISTS {schema}.position (
             sink text PRIMARY KEY, commit_lsn pg_lsn, changes numeric(20), batch bigint NOT NULL DEFAULT 0,
             system_id text, timeline bigint, writer text, updated_at timestamptz NOT NULL DEFAULT now());
         COMMIT"
    );
    client.batch_execute(&sql).await
}

/// Reads a row of `position`; `None` where it is not one that we wrote.
fn stored(row: &tokio_postgres::Row) -> Result<Option<Stored>, Error> {
    let (lsn, changes): (Option<String>, Option<String>) = (row.try_get(1)?, row.try_get(2)?);
    let position = match lsn.zip(changes) {
        None => None,
        Some((lsn, changes)) => {
            let (Ok(commit_lsn), Ok(changes)) = (lsn.parse::<Lsn>(), changes.parse()) else {
                return Ok(None);
            };
            Some(Position { commit_lsn, changes })
        }
    };
    let (batch, system_id, writer) = (row.try_get(0)?, row.try_get(3)?, row.try_get(4)?);
    Ok(Some(Stored { batch, position, system_id, writer }))
}
