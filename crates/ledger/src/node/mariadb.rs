//! MariaDB as a node.

mod rows;

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{
    ConnectOptions as _, Either, Executor as _, Row as _, SqlSafeStr as _,
    mysql::{MySqlArguments, MySqlConnectOptions, MySqlConnection},
};

use rows::{cells, names, row, types};

use super::{
    Answer, Engine, Node, Room,
    dialect::{Dialect, Failure, Op, Purpose, Session, TOO_LONG, capture_insert, turned_away},
    driver::SqlNode,
};
use crate::{
    Value,
    table::{Column, OnDelete, Reference, Table},
    value::Kind,
};

/// How long a connection may take; a healthy server answers within milliseconds.
const CONNECT: Duration = Duration::from_secs(5);

/// An entry, and around it what its statement takes.
const PACKET_LEAST: i64 = 16 * 1024 * 1024;

/// The longest bytes that are read, in digits within a packet of the least size; no entry holds longer ones.
const BYTES_MOST: u32 = 8_388_000;

/// Same rows, same bytes: nothing is padded, folded or cut.
const TEXT: &str = "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin";

/// MariaDB that behaves as the standard says where it can be told to.
const SESSION: &str = "SET SESSION sql_mode = 'ANSI,TRADITIONAL,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,SIMULTANEOUS_ASSIGNMENT,IGNORE_SPACE', \
                       time_zone = '+00:00', autocommit = 1, innodb_snapshot_isolation = 1, tx_isolation = 'REPEATABLE-READ', foreign_key_checks = 1";

/// A MariaDB server, 10.11.8 or later (for `innodb_snapshot_isolation`), as a node. Its account needs everything on its
/// database.
#[must_use]
pub fn mariadb(name: &str, options: MySqlConnectOptions) -> Box<dyn Node> {
    Box::new(SqlNode::new(name, MariaDb { options: options.charset("utf8mb4") }))
}

struct MariaDb {
    options: MySqlConnectOptions,
}

struct MariaDbSession {
    connection: MySqlConnection,
    number: i64,
}

#[async_trait]
impl Dialect for MariaDb {
    type Session = MariaDbSession;
    /// The connection's number, which the server never gives twice.
    type Handle = i64;
    type Hold = MariaDbSession;

    fn engine(&self) -> Engine {
        Engine::MariaDb
    }

    async fn connect(&self, purpose: Purpose) -> Result<MariaDbSession, Failure> {
        let connected = tokio::time::timeout(CONNECT, self.options.connect()).await;
        let connection = connected
            .map_err(|_| Failure::Environmental(format!("no answer within {CONNECT:?}")))?
            .map_err(|error| failure(&error))?;
        let mut session = MariaDbSession { connection, number: 0 };
        session.command(SESSION).await?;
        session
            .command(match purpose {
                Purpose::Apply => {
                    "SET @herdsman_apply = 1, SESSION innodb_lock_wait_timeout = 2, lock_wait_timeout = 2, foreign_key_checks = 0"
                },
                Purpose::Capture => {
                    "SET @herdsman_capture = 1, SESSION innodb_lock_wait_timeout = 5, lock_wait_timeout = 5"
                }
            })
            .await?;
        let about = session.select("SELECT CONNECTION_ID(), @@max_allowed_packet", &[]).await?;
        let about: Vec<i64> =
            about.into_iter().flatten().flatten().filter_map(|it| it.parse().ok()).collect();
        let [number, packet] = about.as_slice() else {
            return Err(Failure::Environmental("it does not say who we are".to_owned()));
        };
        if *packet < PACKET_LEAST {
            return Err(Failure::Environmental(format!(
                "its max_allowed_packet is {packet}, and an entry of the log may need {PACKET_LEAST}: raise it"
            )));
        }
        session.number = *number;
        Ok(session)
    }

    async fn hold(&self) -> Result<Option<MariaDbSession>, Failure> {
        let mut session = self.connect(Purpose::Apply).await?;
        // It may have nothing to do for days; and names of locks are the whole server's.
        session.command("SET SESSION wait_timeout = 31536000").await?;
        let got = "SELECT GET_LOCK(CONCAT('herdsman ', SHA1(DATABASE())), 0)";
        let got = session.select(got, &[]).await?;
        let got = got.first().and_then(|row| row.first()?.as_deref()) == Some("1");
        Ok(got.then_some(session))
    }

    async fn holds(&self, hold: &mut MariaDbSession) -> bool {
        hold.command("DO 1").await.is_ok()
    }

    fn handle(&self, session: &MariaDbSession) -> i64 {
        session.number
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(200)
    }

    async fn blockers(
        &self,
        helper: &mut MariaDbSession,
        applier: &i64,
        open: &[i64],
    ) -> Result<Vec<i64>, Failure> {
        let numbers = |rows: Vec<Vec<Option<String>>>| -> Vec<i64> {
            rows.into_iter().flatten().flatten().filter_map(|it| it.parse().ok()).collect()
        };
        let rows = "SELECT DISTINCT b.trx_mysql_thread_id FROM information_schema.innodb_lock_waits w \
                    JOIN information_schema.innodb_trx a ON a.trx_id = w.requesting_trx_id \
                    JOIN information_schema.innodb_trx b ON b.trx_id = w.blocking_trx_id WHERE a.trx_mysql_thread_id = ?";
        match helper.select(rows, &[Value::Int(*applier)]).await {
            Ok(found) if !found.is_empty() => return Ok(numbers(found)),
            Ok(_) => {}
            // Without the PROCESS privilege it does not say who: everybody gives way.
            Err(Failure::Refused { .. }) => return Ok(open.to_vec()),
            Err(failure) => return Err(failure),
        }
        // Nor does it say who has read a table that is to change.
        let state = "SELECT count(*) FROM information_schema.processlist WHERE id = ? AND state LIKE 'Waiting for%metadata lock'";
        let waits = numbers(helper.select(state, &[Value::Int(*applier)]).await?);
        Ok(if waits == [0] { Vec::new() } else { open.to_vec() })
    }

    async fn end(&self, helper: &mut MariaDbSession, client: &i64) -> Result<(), Failure> {
        /// There is no such connection any more.
        const GONE: &str = "1094";
        match helper.command(&format!("KILL CONNECTION {client}")).await {
            Err(Failure::Environmental(why)) if why.contains(GONE) => Ok(()),
            done => done,
        }
    }

    /// A stored function can set the variables that capturing hangs on, and write to other tables.
    async fn check_calls(
        &self,
        session: &mut MariaDbSession,
        calls: &[String],
    ) -> Result<(), Failure> {
        /// Built in, and often called; a word before a parenthesis that is no call.
        const KNOWN: [&str; 20] = [
            "count", "sum", "min", "max", "avg", "coalesce", "concat", "lower", "upper", "length",
            "round", "abs", "now", "cast", "in", "values", "exists", "and", "or", "if",
        ];
        for name in calls.iter().filter(|it| !KNOWN.contains(&it.as_str())) {
            let sql = "SELECT count(*) FROM information_schema.routines WHERE routine_name = ?";
            let found = session
                .select(sql, &[Value::Text(name.trim_start_matches('.').to_owned())])
                .await?;
            if found.first().and_then(|row| row.first()?.as_deref()) != Some("0") {
                let message = format!(
                    "stored function {name} could change what is not captured, and cannot be called in a ledger's transaction"
                );
                return Err(Failure::refused("0A000", message));
            }
        }
        Ok(())
    }

    fn begin_apply(&self) -> &'static str {
        "START TRANSACTION"
    }

    fn begin_snapshot(&self) -> &'static [&'static str] {
        &["START TRANSACTION WITH CONSISTENT SNAPSHOT"]
    }

    fn begin_read(&self) -> &'static [&'static str] {
        &["START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"]
    }

    fn transactional_ddl(&self) -> bool {
        false
    }

    fn quote(&self, name: &str) -> String {
        format!("`{}`", name.replace('`', "``"))
    }

    fn value(&self, kind: Kind, _number: usize) -> String {
        match kind {
            Kind::Bool => "(? = 'true')".to_owned(),
            Kind::Decimal { precision, scale } => {
                format!("CAST(? AS DECIMAL({precision},{scale}))")
            }
            Kind::Date => "CAST(? AS DATE)".to_owned(),
            Kind::Timestamp => "CAST(? AS DATETIME(6))".to_owned(),
            Kind::Uuid => "CAST(? AS UUID)".to_owned(),
            // Compared as the column's collation has it, and numbers are bound as numbers.
            Kind::Text { .. }
            | Kind::Bytes { .. }
            | Kind::Json
            | Kind::Int32
            | Kind::Int64
            | Kind::Float => "?".to_owned(),
        }
    }

    fn text_of(&self, kind: Kind, column: &str) -> String {
        match kind {
            // HEX of more than fits a packet would be NULL, without a word.
            Kind::Bytes { .. } => format!(
                "CASE WHEN OCTET_LENGTH({column}) > {BYTES_MOST} THEN '{TOO_LONG}' ELSE LOWER(HEX({column})) END"
            ),
            Kind::Timestamp => format!("DATE_FORMAT({column}, '%Y-%m-%d %H:%i:%s.%f')"),
            Kind::Date => format!("DATE_FORMAT({column}, '%Y-%m-%d')"),
            Kind::Decimal { .. } | Kind::Uuid | Kind::Bool => format!("CAST({column} AS CHAR)"),
            Kind::Text { .. } | Kind::Json | Kind::Int32 | Kind::Int64 | Kind::Float => {
                column.to_owned()
            }
        }
    }

    fn same(&self) -> &'static str {
        "<=>"
    }

    fn own_text(&self) -> &'static str {
        "longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"
    }

    fn column(&self, column: &Column, in_key: bool) -> String {
        let name = self.quote(&column.name);
        let null = if column.nullable { "" } else { " NOT NULL" };
        match column.kind {
            Kind::Text { max: Some(max) } if in_key => {
                format!("{name} varchar({max}) {TEXT}{null}")
            }
            // A row of long varchars would be longer than MariaDB's rows may be.
            Kind::Text { max: Some(max) } => {
                format!("{name} longtext {TEXT}{null} CHECK (char_length({name}) <= {max})")
            }
            Kind::Bytes { max: Some(max) } if in_key => format!("{name} varbinary({max}){null}"),
            Kind::Bytes { max: Some(max) } => {
                format!("{name} longblob{null} CHECK (octet_length({name}) <= {max})")
            }
            Kind::Json => {
                format!("{name} {}{null} CHECK (json_valid({name}))", self.captured(Kind::Json))
            }
            kind => format!("{name} {}{null}", self.captured(kind)),
        }
    }

    fn table_options(&self) -> &'static str {
        " ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"
    }

    fn numbered(&self) -> &'static str {
        "seq bigint AUTO_INCREMENT PRIMARY KEY"
    }

    fn captured(&self, kind: Kind) -> String {
        match kind {
            Kind::Bool => "boolean".to_owned(),
            Kind::Int32 => "int".to_owned(),
            Kind::Int64 => "bigint".to_owned(),
            Kind::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
            Kind::Float => "double".to_owned(),
            Kind::Text { max: Some(max @ 0..=255) } => format!("varchar({max}) {TEXT}"),
            Kind::Text { .. } => format!("longtext {TEXT}"),
            Kind::Bytes { .. } => "longblob".to_owned(),
            Kind::Date => "date".to_owned(),
            Kind::Timestamp => "datetime(6)".to_owned(),
            Kind::Uuid => "uuid".to_owned(),
            Kind::Json => "longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin".to_owned(),
        }
    }

    fn triggers(&self, table: &Table) -> Vec<String> {
        let quote = |name: &str| self.quote(name);
        let message = turned_away(&table.name).replace('\'', "''");
        Op::ALL
            .iter()
            .map(|op| {
                format!(
                    "CREATE OR REPLACE TRIGGER {} AFTER {} ON {} FOR EACH ROW BEGIN IF @herdsman_apply IS NULL THEN \
                     IF @herdsman_capture IS NULL THEN SIGNAL SQLSTATE '25006' SET MESSAGE_TEXT = '{message}'; END IF; \
                     {}; END IF; END",
                    quote(&format!("_ledger_{}_{}", op.letter(), table.name)),
                    op.word(),
                    quote(&table.name),
                    capture_insert(&quote, table, *op)
                )
            })
            .collect()
    }

    /// The engine's cascades run no triggers, and what they change would not be captured.
    fn on_delete(&self, _what: OnDelete) -> &'static str {
        ""
    }

    fn cascade(&self, parent: &Table, children: &[(&Table, &Reference)]) -> Vec<String> {
        let name = self.quote(&format!("_ledger_c_{}", parent.name));
        let follow: Vec<String> =
            children.iter().filter_map(|(child, it)| self.follow(parent, child, it)).collect();
        if follow.is_empty() {
            return vec![format!("DROP TRIGGER IF EXISTS {name}")];
        }
        vec![format!(
            "CREATE OR REPLACE TRIGGER {name} BEFORE DELETE ON {} FOR EACH ROW BEGIN IF @herdsman_apply IS NULL THEN {} END IF; END",
            self.quote(&parent.name),
            follow.concat()
        )]
    }
}

impl MariaDb {
    /// What becomes of the rows that refer to one that goes.
    fn follow(&self, parent: &Table, child: &Table, reference: &Reference) -> Option<String> {
        let key = parent.key_at(parent.key_named(&reference.key)?)?;
        let name_in =
            |table: &Table, at: &usize| table.columns.get(*at).map(|it| self.quote(&it.name));
        let own: Vec<String> =
            reference.columns.iter().filter_map(|at| name_in(child, at)).collect();
        let theirs = key.iter().filter_map(|at| name_in(parent, at));
        let found: Vec<String> =
            own.iter().zip(theirs).map(|(own, theirs)| format!("{own} = OLD.{theirs}")).collect();
        let (child, found) = (self.quote(&child.name), found.join(" AND "));
        match reference.on_delete {
            OnDelete::Refuse => None,
            OnDelete::Cascade => Some(format!("DELETE FROM {child} WHERE {found}; ")),
            OnDelete::SetNull => {
                let sets: Vec<String> = own.iter().map(|it| format!("{it} = NULL")).collect();
                Some(format!("UPDATE {child} SET {} WHERE {found}; ", sets.join(", ")))
            }
        }
    }
}

impl MariaDbSession {
    fn arguments<'v>(
        values: impl IntoIterator<Item = &'v Value>,
    ) -> Result<MySqlArguments, Failure> {
        use sqlx::Arguments as _;
        let mut arguments = MySqlArguments::default();
        for value in values {
            let added = match value {
                Value::Int(number) => arguments.add(*number),
                Value::Float(bits) => arguments.add(f64::from_bits(*bits)),
                // As they are: twice the digits would not fit a packet.
                Value::Bytes(bytes) => arguments.add(bytes.as_slice()),
                other => arguments.add(other.to_text()),
            };
            added.map_err(|error| Failure::Environmental(error.to_string()))?;
        }
        Ok(arguments)
    }
}

#[async_trait]
impl Session for MariaDbSession {
    async fn command(&mut self, sql: &str) -> Result<(), Failure> {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        self.connection
            .execute(sqlx::raw_sql(sql))
            .await
            .map(|_| ())
            .map_err(|error| failure(&error))
    }

    async fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, Failure> {
        let arguments = Self::arguments(values)?;
        let query = sqlx::query_with(sqlx::AssertSqlSafe(sql.to_owned()).into_sql_str(), arguments);
        self.connection
            .execute(query)
            .await
            .map(|done| done.rows_affected())
            .map_err(|error| failure(&error))
    }

    async fn select(
        &mut self,
        sql: &str,
        values: &[Value],
    ) -> Result<Vec<Vec<Option<String>>>, Failure> {
        let arguments = Self::arguments(values)?;
        let query = sqlx::query_with(sqlx::AssertSqlSafe(sql.to_owned()).into_sql_str(), arguments);
        let rows = self.connection.fetch_all(query).await.map_err(|error| failure(&error))?;
        rows.iter().map(row).collect()
    }

    async fn statement(
        &mut self,
        sql: &str,
        values: &[&Value],
        room: &mut Room,
    ) -> Result<Answer, Failure> {
        use futures_util::TryStreamExt as _;
        // What it has for true and false.
        let (yes, no) = (Value::Int(1), Value::Int(0));
        let values = values.iter().map(|value| match value {
            Value::Bool(true) => &yes,
            Value::Bool(false) => &no,
            other => *other,
        });
        let arguments = Self::arguments(values)?;
        // Prepared: a second statement in the text is refused.
        let text = sqlx::AssertSqlSafe(sql.to_owned()).into_sql_str();
        let query = sqlx::query_with(text, arguments).persistent(false);
        let mut results = self.connection.fetch_many(query);
        let mut answer = Answer::default();
        while let Some(result) = results.try_next().await.map_err(|error| failure(&error))? {
            match result {
                Either::Left(done) => {
                    answer.affected = answer.affected.saturating_add(done.rows_affected());
                }
                Either::Right(one) => {
                    if answer.columns.is_empty() {
                        answer.columns = names(one.columns());
                        answer.types = types(one.columns());
                    }
                    room.take(&mut answer, cells(&one, true)?)?;
                }
            }
        }
        drop(results);
        if answer.columns.is_empty() && answer.affected == 0 {
            // Columns without rows are told when a statement is prepared, and then only.
            let sql = sqlx::AssertSqlSafe(sql.to_owned()).into_sql_str();
            let prepared = self.connection.prepare(sql).await.map_err(|error| failure(&error))?;
            answer.columns = names(sqlx::Statement::columns(&prepared));
            answer.types = types(sqlx::Statement::columns(&prepared));
        }
        Ok(answer)
    }
}

/// Which errors another try may get over.
fn failure(error: &sqlx::Error) -> Failure {
    /// Deadlock, a row that changed since the snapshot, and one that another transaction holds.
    const CONFLICTS: [u16; 3] = [1213, 1020, 1205];
    /// Values that do not fit, which have no class of their own.
    const REFUSED: [u16; 5] = [1364, 1366, 4025, 1292, 1300];
    let Some(error) = error.as_database_error() else {
        return Failure::Environmental(error.to_string());
    };
    let number =
        error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>().map_or(0, |it| it.number());
    let (state, message) =
        (error.code().unwrap_or_default().into_owned(), error.message().to_owned());
    if CONFLICTS.contains(&number) {
        return Failure::Conflict(message);
    }
    let class = state.get(..2);
    // Too many connections, and a table that is locked, are in class 42 or 08 by chance or by design.
    if REFUSED.contains(&number)
        || matches!(class, Some("21" | "22" | "23" | "25" | "42" | "44" | "45" | "0A"))
    {
        let state = if state == "HY000" { "22000".to_owned() } else { state };
        return Failure::Refused { state, message };
    }
    Failure::Environmental(format!("{message} (error {number}, SQLSTATE {state})"))
}
