//! PostgreSQL as a node.

mod capture;
mod pipeline;
mod prepared;
mod statement;
mod wire;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use herdsman_node::{Conninfo, Tls};
use pipeline::Pipeline;
use prepared::Prepared;
use statement::Task;

use super::{
    Answer, Engine, Node, Room,
    dialect::{Counts, Dialect, Failure, Purpose, Session},
    driver::SqlNode,
    session::{Ask, Heard, Rows},
};
use crate::{
    Value,
    table::{Column, Table},
    value::Kind,
};
pub use wire::Wire;

/// What the lock is called by whom a database is driven: `herdsman` in eight bytes. PostgreSQL keeps it by database.
const HOLD: i64 = i64::from_be_bytes(*b"herdsman");

/// How long a connection may take; a healthy server answers within milliseconds.
const CONNECT: Duration = Duration::from_secs(5);

/// A PostgreSQL server, 15 or later, as a node. Its account must own the tables and be allowed to set
/// `session_replication_role` (a superuser, or `GRANT SET ON PARAMETER session_replication_role`).
#[must_use]
pub fn postgres(name: &str, info: Conninfo, tls: Tls) -> Box<dyn Node> {
    Box::new(SqlNode::new(name, Postgres { info, tls }))
}

/// How our own sessions are set, whatever the server, the database or the role has.
const OURS: &str = "SET timezone = 'UTC'; SET datestyle = 'ISO'; SET extra_float_digits = 1; SET standard_conforming_strings = on; \
                    SET client_encoding = 'UTF8'; SET client_min_messages = warning; SET synchronous_commit = on";

struct Postgres {
    info: Conninfo,
    tls: Tls,
}

struct PostgresSession {
    link: Link,
    process: i64,
    /// What reads and writes, where that is a task of its own.
    task: Option<Task>,
}

impl Postgres {
    async fn wire(&self) -> Result<Wire, Failure> {
        let raw = herdsman_node::raw::connect_raw(&self.info, &self.tls, CONNECT, &[]).await;
        let raw = raw.map_err(|error| Failure::Environmental(error.to_string()))?;
        Ok(Wire::new(raw, Arc::new(self.info.clone())))
    }
}

/// How a session is spoken to.
enum Link {
    /// By us alone.
    Client(Prepared),
    /// By us alone, all at once.
    Pipeline(Box<Pipeline>),
    /// By a client of ours as well, whose messages are passed on.
    Wire(Box<Wire>),
}

impl PostgresSession {
    /// As any client's transactions are run; and its number.
    async fn captures(&mut self) -> Result<(), Failure> {
        self.command("SET herdsman.capture = '0'; SET lock_timeout = '5s'; SET application_name = 'herdsman ledger client'")
            .await?;
        self.number().await
    }

    async fn number(&mut self) -> Result<(), Failure> {
        let rows = self.select("SELECT pg_backend_pid()::bigint", &[]).await?;
        self.process = numbers(&rows).first().copied().unwrap_or_default();
        Ok(())
    }

    fn client(&mut self) -> Result<&mut Prepared, Failure> {
        match &mut self.link {
            Link::Client(client) => Ok(client),
            Link::Pipeline(_) | Link::Wire(_) => {
                Err(Failure::Environmental("this connection takes no values".to_owned()))
            }
        }
    }
}

#[async_trait]
impl Dialect for Postgres {
    type Session = PostgresSession;
    /// The server's process.
    type Handle = i64;
    type Hold = PostgresSession;

    fn engine(&self) -> Engine {
        Engine::Postgres
    }

    async fn connect(&self, purpose: Purpose) -> Result<PostgresSession, Failure> {
        let connected = herdsman_node::connect(&self.info, &self.tls, CONNECT).await;
        let connection = connected.map_err(|error| Failure::Environmental(error.to_string()))?;
        let (client, driver) = connection.split(|_| {});
        let task = Some(Task::new(tokio::spawn(driver).abort_handle()));
        let link = Link::Client(Prepared::new(client));
        let mut session = PostgresSession { link, process: 0, task };
        session.command(OURS).await?;
        if purpose == Purpose::Capture {
            session.captures().await?;
            return Ok(session);
        }
        // A client's open transaction must not hold the log up in silence.
        session.command("SET session_replication_role = replica; SET lock_timeout = '2s'").await?;
        session.number().await?;
        Ok(session)
    }

    async fn hold(&self) -> Result<Option<PostgresSession>, Failure> {
        let mut session = self.connect(Purpose::Apply).await?;
        // It may have nothing to do for days.
        let quiet = "SET idle_session_timeout = 0; SET application_name = 'herdsman ledger guard'";
        session.command(quiet).await?;
        let got = "SELECT pg_try_advisory_lock($1::text::bigint)::text";
        let got = session.select(got, &[Value::Int(HOLD)]).await?;
        let got = got.first().and_then(|row| row.first()?.as_deref()) == Some("true");
        Ok(got.then_some(session))
    }

    async fn holds(&self, hold: &mut PostgresSession) -> bool {
        hold.command("SELECT 1").await.is_ok()
    }

    async fn connect_pipeline(&self) -> Result<Option<PostgresSession>, Failure> {
        let pipeline = Pipeline::new(self.wire().await?);
        let link = Link::Pipeline(Box::new(pipeline));
        let mut session = PostgresSession { link, process: 0, task: None };
        session.command(OURS).await?;
        session.captures().await?;
        Ok(Some(session))
    }

    async fn connect_native(&self) -> Result<Option<PostgresSession>, Failure> {
        let link = Link::Wire(Box::new(self.wire().await?));
        let mut session = PostgresSession { link, process: 0, task: None };
        // What is read in statements is read as it is meant.
        session
            .command("SET standard_conforming_strings = on; SET client_encoding = 'UTF8'")
            .await?;
        session.captures().await?;
        Ok(Some(session))
    }

    fn before_capture(&self) -> Option<&'static str> {
        // Whatever the client has set meanwhile.
        Some("SET LOCAL statement_timeout = 0")
    }

    fn handle(&self, session: &PostgresSession) -> i64 {
        session.process
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(200)
    }

    async fn blockers(
        &self,
        helper: &mut PostgresSession,
        applier: &i64,
        _open: &[i64],
    ) -> Result<Vec<i64>, Failure> {
        let sql = "SELECT unnest(pg_blocking_pids($1::text::int))::bigint";
        Ok(numbers(&helper.select(sql, &[Value::Int(*applier)]).await?))
    }

    async fn end(&self, helper: &mut PostgresSession, client: &i64) -> Result<(), Failure> {
        // Not whoever has the number by now.
        let sql = "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity \
                   WHERE pid = $1::text::int AND application_name = 'herdsman ledger client'";
        helper.select(sql, &[Value::Int(*client)]).await.map(|_| ())
    }

    fn captured_at_once(&self) -> Option<&'static str> {
        Some(capture::READ)
    }

    fn counts(&self) -> Option<Counts> {
        Some(capture::COUNTS)
    }

    fn joins_values(&self) -> bool {
        true
    }

    fn is_plain_change(&self, sql: &str, has_values: bool) -> bool {
        statement::is_plain_change(sql, has_values)
    }

    fn begin_apply(&self) -> &'static str {
        "BEGIN"
    }

    fn begin_snapshot(&self) -> &'static [&'static str] {
        &["BEGIN ISOLATION LEVEL REPEATABLE READ"]
    }

    fn begin_read(&self) -> &'static [&'static str] {
        &["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"]
    }

    fn transactional_ddl(&self) -> bool {
        true
    }

    fn quote(&self, name: &str) -> String {
        format!("\"{}\"", name.replace('"', "\"\""))
    }

    fn value(&self, kind: Kind, number: usize) -> String {
        match kind {
            Kind::Bytes { .. } => format!("decode(${number}::text, 'hex')"),
            // The limit is checked by us; PostgreSQL's cast would cut.
            Kind::Text { .. } => format!("${number}::text"),
            kind => format!("${number}::text::{}", pg_type(kind)),
        }
    }

    fn text_of(&self, kind: Kind, column: &str) -> String {
        match kind {
            Kind::Bytes { .. } => format!("encode({column}, 'hex')"),
            // Whatever the session's zone and style of dates are: a client may have set them. Of infinity `to_char` makes
            // nothing, and of a year before Christ one after; PostgreSQL's own text of them is refused when it is read.
            Kind::Timestamp => format!(
                "CASE WHEN {column} AT TIME ZONE 'UTC' BETWEEN timestamp '0001-01-01' AND timestamp '9999-12-31 23:59:59.999999' \
                 THEN to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') ELSE {column}::text END"
            ),
            Kind::Date => format!(
                "CASE WHEN {column} BETWEEN date '0001-01-01' AND date '9999-12-31' \
                 THEN to_char({column}::timestamp, 'YYYY-MM-DD') ELSE {column}::text END"
            ),
            _ => format!("{column}::text"),
        }
    }

    fn same(&self) -> &'static str {
        "IS NOT DISTINCT FROM"
    }

    fn own_text(&self) -> &'static str {
        "text"
    }

    fn column(&self, column: &Column, _in_key: bool) -> String {
        let null = if column.nullable { "" } else { " NOT NULL" };
        let name = self.quote(&column.name);
        let check = match column.kind {
            Kind::Bytes { max: Some(max) } => format!(" CHECK (octet_length({name}) <= {max})"),
            _ => String::new(),
        };
        format!("{name} {}{null}{check}", pg_type(column.kind))
    }

    fn table_options(&self) -> &'static str {
        ""
    }

    fn captured(&self, kind: Kind) -> String {
        pg_type(kind)
    }

    fn triggers(&self, table: &Table) -> Vec<String> {
        capture::triggers(self, table)
    }

    fn drop_rest(&self, table: &str) -> Vec<String> {
        vec![format!("DROP FUNCTION IF EXISTS {}()", self.quote(&format!("_ledger_cap_{table}")))]
    }
}

fn pg_type(kind: Kind) -> String {
    match kind {
        Kind::Bytes { .. } => "bytea".to_owned(),
        kind => kind.to_string(),
    }
}

#[async_trait]
impl Session for PostgresSession {
    async fn command(&mut self, sql: &str) -> Result<(), Failure> {
        match &mut self.link {
            Link::Client(client) => client.command(sql).await,
            Link::Pipeline(pipeline) => pipeline.query(sql).await.map(drop),
            Link::Wire(wire) => wire.query(sql).await.map(drop),
        }
    }

    fn wire(&mut self) -> Option<&mut Wire> {
        match &mut self.link {
            Link::Client(_) | Link::Pipeline(_) => None,
            Link::Wire(wire) => Some(wire),
        }
    }

    async fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, Failure> {
        self.client()?.execute(sql, values).await
    }

    async fn select(&mut self, sql: &str, values: &[Value]) -> Result<Rows, Failure> {
        match (&mut self.link, values) {
            (Link::Wire(wire), []) => wire.query(sql).await,
            (Link::Pipeline(pipeline), []) => pipeline.query(sql).await,
            _ => self.client()?.select(sql, values).await,
        }
    }

    async fn together(&mut self, asks: Vec<Ask>) -> Heard {
        match &mut self.link {
            Link::Client(client) => client.together(&asks).await,
            Link::Pipeline(pipeline) => pipeline.together(&asks).await,
            Link::Wire(wire) => wire.together(&asks).await,
        }
    }

    async fn statement(
        &mut self,
        sql: &str,
        values: &[&Value],
        room: &mut Room,
    ) -> Result<Answer, Failure> {
        if let Some(task) = &mut self.task {
            task.set_busy(true);
        }
        let answer = statement::run(self.client()?.client(), sql, values, room).await;
        if let Some(task) = &mut self.task {
            // Where there was no room, there is more to come, and nobody reads it.
            task.set_busy(answer.is_err() && room.is_full());
        }
        answer
    }
}

/// The first column, of numbers.
fn numbers(rows: &[Vec<Option<String>>]) -> Vec<i64> {
    rows.iter().filter_map(|row| row.first()?.as_deref()?.parse().ok()).collect()
}

/// Which errors another try may get over. What the data, the schema or the statement is to blame for stays.
fn failure(error: &tokio_postgres::Error) -> Failure {
    let Some(error) = error.as_db_error() else {
        return Failure::Environmental(herdsman_node::describe(error));
    };
    failed(error.code().code(), error.message().to_owned())
}

fn failed(state: &str, message: String) -> Failure {
    match state.get(..2) {
        Some("40") => Failure::Conflict(message),
        // Another transaction holds the row.
        _ if state == "55P03" => Failure::Conflict(message),
        Some(
            "0A" | "21" | "22" | "23" | "26" | "2B" | "2F" | "34" | "38" | "39" | "42" | "44"
            | "54" | "P0" | "25",
        ) => Failure::refused(state, message),
        _ => Failure::Environmental(format!("{message} (SQLSTATE {state})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_statement_or_the_data_is_to_blame_for_is_refused_and_trouble_is_tried_again() {
        let failed = |state| failed(state, "why".to_owned());
        // The last one: a value that is too long for an index, or more than a transaction may change.
        for state in ["23505", "22P02", "42703", "25P02", "54000"] {
            assert_eq!(failed(state), Failure::refused(state, "why"));
        }
        for state in ["40001", "40P01", "55P03"] {
            assert_eq!(failed(state), Failure::Conflict("why".to_owned()));
        }
        for state in ["53100", "53200", "57P01", "08006", "58030", "XX000"] {
            assert!(matches!(failed(state), Failure::Environmental(_)), "{state}");
        }
    }
}
