//! PostgreSQL as a node.

mod capture;
mod pipeline;
mod prepared;
mod wire;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use herdsman_node::{Conninfo, Tls};
use pipeline::Pipeline;
use prepared::Prepared;

use super::{
    Answer, Engine, Node,
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
        tokio::spawn(driver);
        let mut session = PostgresSession { link: Link::Client(Prepared::new(client)), process: 0 };
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
        let mut session = PostgresSession { link: Link::Pipeline(Box::new(pipeline)), process: 0 };
        session.command(OURS).await?;
        session.captures().await?;
        Ok(Some(session))
    }

    async fn connect_native(&self) -> Result<Option<PostgresSession>, Failure> {
        let wire = self.wire().await?;
        let mut session = PostgresSession { link: Link::Wire(Box::new(wire)), process: 0 };
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

    fn is_plain_change(&self, sql: &str) -> bool {
        is_plain_change(sql)
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

    async fn statement(&mut self, sql: &str) -> Result<Answer, Failure> {
        let client = self.client()?.client();
        if is_plain_change(sql) {
            // At once; a second statement in the text is refused here, too.
            let affected = client.execute_typed(sql, &[]).await.map_err(|error| failure(&error))?;
            return Ok(Answer { affected, ..Answer::default() });
        }
        // Prepared: a second statement in the text is refused.
        let statement = client.prepare(sql).await.map_err(|error| failure(&error))?;
        if !statement.params().is_empty() {
            return Err(Failure::refused(
                "0A000",
                "a statement with parameters is not supported here",
            ));
        }
        if statement.columns().is_empty() {
            let affected =
                client.execute(&statement, &[]).await.map_err(|error| failure(&error))?;
            return Ok(Answer { affected, ..Answer::default() });
        }
        let columns = statement.columns().iter().map(|it| it.name().to_owned()).collect();
        let types = statement.columns().iter().map(|it| type_name(it.type_().name())).collect();
        // In text, whatever the types are.
        let messages = client.simple_query(sql).await.map_err(|error| failure(&error))?;
        let mut answer = Answer { columns, types, ..Answer::default() };
        for message in messages {
            match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => {
                    answer
                        .rows
                        .push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect());
                }
                // Of `INSERT … RETURNING` and the like.
                tokio_postgres::SimpleQueryMessage::CommandComplete(count) if !is_query(sql) => {
                    answer.affected = count;
                }
                _ => {}
            }
        }
        Ok(answer)
    }
}

/// A type as people write it.
fn type_name(catalog: &str) -> String {
    match catalog {
        "bool" => "boolean",
        "int2" => "smallint",
        "int4" => "integer",
        "int8" => "bigint",
        "float4" => "real",
        "float8" => "double precision",
        "bpchar" => "character",
        other => other,
    }
    .to_owned()
}

fn is_query(sql: &str) -> bool {
    begins_with(sql, &["SELECT", "VALUES", "TABLE", "WITH"])
}

/// Whether a statement surely gives no rows and has no parameters, and so need not be asked about before it is run.
fn is_plain_change(sql: &str) -> bool {
    begins_with(sql, &["INSERT", "UPDATE", "DELETE"])
        && !sql.contains('$')
        && !sql.to_ascii_lowercase().contains("returning")
}

fn begins_with(sql: &str, words: &[&str]) -> bool {
    let word: String = sql.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    words.iter().any(|it| word.eq_ignore_ascii_case(it))
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
            | "P0" | "25",
        ) => Failure::refused(state, message),
        _ => Failure::Environmental(format!("{message} (SQLSTATE {state})")),
    }
}

#[cfg(test)]
mod tests {
    use super::is_plain_change;

    #[test]
    fn only_what_surely_gives_no_rows_is_run_without_asking() {
        for (sql, plain) in [
            ("UPDATE a SET b = 1", true),
            (" insert into a values (1)", true),
            ("DELETE FROM a", true),
            ("DELETE FROM a Returning b", false),
            ("UPDATE a SET b = $1", false),
            ("UPDATE a SET b = 'returning'", false),
            ("WITH a AS (SELECT 1) INSERT INTO b SELECT * FROM a", false),
            ("SELECT 1", false),
            ("-- UPDATE\nSELECT 1", false),
            ("", false),
        ] {
            assert_eq!(is_plain_change(sql), plain, "{sql}");
        }
    }
}
