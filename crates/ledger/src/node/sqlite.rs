//! SQLite as a node: a file on this machine.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use rusqlite::{
    Connection, ErrorCode, InterruptHandle, config::DbConfig, functions::FunctionFlags,
    types::ValueRef,
};

use super::{
    Answer, Engine, Node, Room,
    dialect::{Dialect, Failure, Op, Purpose, Session, capture_insert},
    driver::SqlNode,
    session::{Ask, Heard, Rows, Told},
};
use crate::{
    Value,
    table::{Column, Table},
    value::Kind,
    worker::Worker,
};

/// A function that only our connections have. The triggers call it, so nobody else can change a table; its name is all
/// that SQLite tells them.
const OURS: &str = "this_table_belongs_to_a_ledger_write_to_it_through_herdsman";

/// How long a client's transaction may hold up an entry.
const OPEN_MOST: Duration = Duration::from_secs(1);
/// How often a statement that runs is told to stop.
const INTERRUPT_EVERY: Duration = Duration::from_millis(10);
/// How many statements a connection keeps prepared.
const PREPARED_MOST: usize = 128;
/// How often rolling back is tried.
const ROLL_BACK_MOST: u32 = 1000;

/// An SQLite file as a node; it is made when it is not there.
///
/// There is one writer at a time: a client's transaction holds the log's entries up while it runs, though for no longer
/// than a second. Then it is ended, and its client told to try again.
#[must_use]
pub fn sqlite(name: &str, path: &Path) -> Box<dyn Node> {
    Box::new(SqlNode::new(name, Sqlite { path: path.to_path_buf() }))
}

struct Sqlite {
    path: PathBuf,
}

struct SqliteSession(Handle);

/// A connection on its thread. One that was ended does nothing any more: outside of its transaction its statements would
/// stay.
#[derive(Clone)]
struct Handle {
    worker: Worker,
    ended: Arc<AtomicBool>,
    interrupt: Arc<InterruptHandle>,
}

impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.ended, &other.ended)
    }
}

#[async_trait]
impl Dialect for Sqlite {
    type Session = SqliteSession;
    type Handle = Handle;
    /// Locked until it is closed.
    type Hold = File;

    fn engine(&self) -> Engine {
        Engine::Sqlite
    }

    async fn connect(&self, purpose: Purpose) -> Result<SqliteSession, Failure> {
        let path = self.path.clone();
        let opened = tokio::task::spawn_blocking(move || open(&path, purpose)).await;
        let connection = opened
            .map_err(|error| Failure::Environmental(error.to_string()))?
            .map_err(|error| failure(&error))?;
        let interrupt = Arc::new(connection.get_interrupt_handle());
        let worker = Worker::start("ledger-sqlite", connection)
            .map_err(|error| Failure::Environmental(error.to_string()))?;
        Ok(SqliteSession(Handle { worker, ended: Arc::default(), interrupt }))
    }

    async fn hold(&self) -> Result<Option<File>, Failure> {
        // Not the database itself, which others may read.
        let mut name = self.path.clone().into_os_string();
        name.push(".driver");
        let path = PathBuf::from(name);
        let trouble = |error: &dyn std::fmt::Display| {
            Failure::Environmental(format!("{}: {error}", path.display()))
        };
        let opened = File::options().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(|error| trouble(&error))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(trouble(&error)),
        }
    }

    async fn holds(&self, _hold: &mut File) -> bool {
        true
    }

    fn handle(&self, session: &SqliteSession) -> Handle {
        session.0.clone()
    }

    fn patience(&self) -> Duration {
        OPEN_MOST
    }

    /// There is one writer at a time: whoever is open is the one.
    async fn blockers(
        &self,
        _helper: &mut SqliteSession,
        _applier: &Handle,
        open: &[Handle],
    ) -> Result<Vec<Handle>, Failure> {
        Ok(open.to_vec())
    }

    async fn end(&self, _helper: &mut SqliteSession, client: &Handle) -> Result<(), Failure> {
        client.end().await;
        Ok(())
    }

    fn begin_apply(&self) -> &'static str {
        "BEGIN IMMEDIATE"
    }

    fn begin_snapshot(&self) -> &'static [&'static str] {
        // A transaction that begins as a reader could not become a writer once something was applied.
        &["BEGIN IMMEDIATE"]
    }

    fn begin_read(&self) -> &'static [&'static str] {
        &["BEGIN"]
    }

    fn transactional_ddl(&self) -> bool {
        true
    }

    fn quote(&self, name: &str) -> String {
        format!("\"{}\"", name.replace('"', "\"\""))
    }

    fn value(&self, kind: Kind, number: usize) -> String {
        match kind {
            Kind::Bytes { .. } => format!("unhex(?{number})"),
            Kind::Bool => format!("(?{number} = 'true')"),
            _ => format!("?{number}"),
        }
    }

    fn text_of(&self, _kind: Kind, column: &str) -> String {
        column.to_owned()
    }

    fn same(&self) -> &'static str {
        "IS"
    }

    fn own_text(&self) -> &'static str {
        "text"
    }

    fn column(&self, column: &Column, _in_key: bool) -> String {
        let name = self.quote(&column.name);
        let null = if column.nullable { "" } else { " NOT NULL" };
        format!("{name} {}{null}{}", sqlite_type(column.kind), check(column.kind, &name))
    }

    fn table_options(&self) -> &'static str {
        " STRICT"
    }

    fn numbered(&self) -> &'static str {
        "seq integer PRIMARY KEY"
    }

    fn captured(&self, kind: Kind) -> String {
        sqlite_type(kind).to_owned()
    }

    fn triggers(&self, table: &Table) -> Vec<String> {
        let quote = |name: &str| self.quote(name);
        let mut all = Vec::new();
        for op in Op::ALL {
            let name = quote(&format!("_ledger_{}_{}", op.letter(), table.name));
            all.push(format!("DROP TRIGGER IF EXISTS {name}"));
            all.push(format!(
                "CREATE TRIGGER {name} AFTER {} ON {} FOR EACH ROW BEGIN SELECT {OURS}(); {}; END",
                op.word(),
                quote(&table.name),
                capture_insert(&quote, table, op)
            ));
        }
        all
    }
}

fn open(path: &Path, purpose: Purpose) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(PREPARED_MOST);
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA recursive_triggers = ON; PRAGMA case_sensitive_like = ON;",
    )?;
    match purpose {
        Purpose::Apply => {
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
            // Asked where the transaction ran, and cascades are in the log.
            connection.execute_batch("PRAGMA foreign_keys = OFF")?;
        }
        Purpose::Capture => {
            connection.execute_batch("PRAGMA foreign_keys = ON")?;
            connection.create_scalar_function(OURS, 0, FunctionFlags::SQLITE_UTF8, |_| Ok(1))?;
        }
    }
    Ok(connection)
}

/// How a kind is stored. Texts of digits where SQLite has nothing exact.
fn sqlite_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool | Kind::Int32 | Kind::Int64 => "INTEGER",
        Kind::Float => "REAL",
        Kind::Bytes { .. } => "BLOB",
        Kind::Decimal { .. }
        | Kind::Text { .. }
        | Kind::Date
        | Kind::Timestamp
        | Kind::Uuid
        | Kind::Json => "TEXT",
    }
}

/// What SQLite would take and others would not.
fn check(kind: Kind, name: &str) -> String {
    match kind {
        Kind::Bool => format!(" CHECK ({name} IN (0, 1))"),
        Kind::Int32 => format!(" CHECK ({name} BETWEEN -2147483648 AND 2147483647)"),
        Kind::Text { max: Some(max) } | Kind::Bytes { max: Some(max) } => {
            format!(" CHECK (length({name}) <= {max})")
        }
        Kind::Json => format!(" CHECK (json_valid({name}))"),
        _ => String::new(),
    }
}

impl SqliteSession {
    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let gone = || Failure::Environmental("its thread has ended".to_owned());
        let ended = Arc::clone(&self.0.ended);
        let unless_ended = move |connection: &mut Connection| {
            (!ended.load(Ordering::Acquire)).then(|| job(connection))
        };
        let done = self.0.worker.run(unless_ended).await.ok_or_else(gone)?;
        let over = || Failure::Environmental("its transaction was ended".to_owned());
        done.ok_or_else(over)?.map_err(|error| failure(&error))
    }
}

impl Handle {
    /// Rolls back what is open, in the middle of a statement if need be.
    async fn end(&self) {
        self.ended.store(true, Ordering::Release);
        let rolled_back = self.worker.run(|connection| {
            // An interruption may still hit this one.
            for _ in 0..ROLL_BACK_MOST {
                if connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok() {
                    break;
                }
            }
        });
        let interrupt = async {
            loop {
                self.interrupt.interrupt();
                tokio::time::sleep(INTERRUPT_EVERY).await;
            }
        };
        tokio::select! {
            _ = rolled_back => {}
            () = interrupt => {}
        }
    }
}

fn bound(value: &Value) -> rusqlite::types::Value {
    match value {
        Value::Int(number) => rusqlite::types::Value::Integer(*number),
        Value::Float(bits) => rusqlite::types::Value::Real(f64::from_bits(*bits)),
        other => other.to_text().map_or(rusqlite::types::Value::Null, rusqlite::types::Value::Text),
    }
}

/// A client's value: as it is, and not as our own statements read it.
fn given(value: &Value) -> rusqlite::types::Value {
    match value {
        Value::Bool(value) => rusqlite::types::Value::Integer(i64::from(*value)),
        Value::Bytes(bytes) => rusqlite::types::Value::Blob(bytes.clone()),
        other => bound(other),
    }
}

#[async_trait]
impl Session for SqliteSession {
    async fn command(&mut self, sql: &str) -> Result<(), Failure> {
        let sql = sql.to_owned();
        self.run(move |connection| connection.execute_batch(&sql)).await
    }

    async fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, Failure> {
        let sql = sql.to_owned();
        let values: Vec<_> = values.iter().map(bound).collect();
        self.run(move |connection| execute(connection, &sql, values)).await
    }

    async fn select(&mut self, sql: &str, values: &[Value]) -> Result<Rows, Failure> {
        let sql = sql.to_owned();
        let values: Vec<_> = values.iter().map(bound).collect();
        self.run(move |connection| select(connection, &sql, values)).await
    }

    /// One way to the connection's thread and back.
    async fn together(&mut self, asks: Vec<Ask>) -> Heard {
        let done = self.run(move |connection| {
            let mut heard = Heard::default();
            for ask in asks {
                let told = match ask {
                    Ask::Command(sql) => connection.execute_batch(&sql).map(|()| Told::Done),
                    Ask::Execute(sql, values) => {
                        execute(connection, &sql, values.iter().map(bound)).map(Told::Changed)
                    }
                    Ask::Select(sql, values) => {
                        select(connection, &sql, values.iter().map(bound)).map(Told::Rows)
                    }
                    Ask::Statement(sql, values) => {
                        let values = values.iter().map(given).collect();
                        match said(connection, &sql, values, &mut Room::unlimited()) {
                            Ok(Ok(answer)) => Ok(Told::Changed(answer.affected)),
                            Ok(Err(failure)) => {
                                heard.failed = Some(failure);
                                break;
                            }
                            Err(error) => Err(error),
                        }
                    }
                };
                if !heard.hear(told.map_err(|error| failure(&error))) {
                    break;
                }
            }
            Ok(heard)
        });
        done.await.unwrap_or_else(|failure| Heard { failed: Some(failure), ..Heard::default() })
    }

    async fn statement(
        &mut self,
        sql: &str,
        values: &[&Value],
        room: &mut Room,
    ) -> Result<Answer, Failure> {
        let (sql, mut left) = (sql.to_owned(), *room);
        let values: Vec<_> = values.iter().map(|it| given(it)).collect();
        let done = self.run(move |connection| {
            let answer = said(connection, &sql, values, &mut left)?;
            Ok((answer, left))
        });
        let (answer, left) = done.await?;
        *room = left;
        answer
    }
}

/// A client's statement.
fn said(
    connection: &Connection,
    sql: &str,
    values: Vec<rusqlite::types::Value>,
    room: &mut Room,
) -> rusqlite::Result<Result<Answer, Failure>> {
    let before = connection.total_changes();
    // A second statement in the text is refused.
    let mut statement = connection.prepare(sql)?;
    for (at, value) in values.into_iter().enumerate() {
        statement.raw_bind_parameter(at + 1, value)?;
    }
    let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let types = vec!["unknown".to_owned(); columns.len()];
    let mut answer = Answer { columns, types, ..Answer::default() };
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        note_types(row, &mut answer.types)?;
        let row = cells(row, answer.columns.len())?;
        if let Err(failure) = room.take(&mut answer, row) {
            return Ok(Err(failure));
        }
    }
    drop(rows);
    drop(statement);
    // The last statement's own changes, without those of triggers; of a query, somebody else's.
    let changed = connection.total_changes() != before;
    answer.affected = if changed { connection.changes() } else { 0 };
    Ok(Ok(answer))
}

fn execute(
    connection: &Connection,
    sql: &str,
    values: impl IntoIterator<Item = rusqlite::types::Value>,
) -> rusqlite::Result<u64> {
    let changed = connection.prepare_cached(sql)?.execute(rusqlite::params_from_iter(values))?;
    Ok(u64::try_from(changed).unwrap_or(u64::MAX))
}

fn select(
    connection: &Connection,
    sql: &str,
    values: impl IntoIterator<Item = rusqlite::types::Value>,
) -> rusqlite::Result<Rows> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    let count = rows.as_ref().map_or(0, |statement| statement.column_count());
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(cells(row, count)?);
    }
    Ok(all)
}

/// In SQLite a value has a type, and a column has none: what a column's first value is of, which is not null, is taken for
/// the type of all.
fn note_types(row: &rusqlite::Row<'_>, types: &mut [String]) -> rusqlite::Result<()> {
    for (i, name) in types.iter_mut().enumerate().filter(|(_, name)| *name == "unknown") {
        match row.get_ref(i)? {
            ValueRef::Null => {}
            ValueRef::Integer(_) => "bigint".clone_into(name),
            ValueRef::Real(_) => "double precision".clone_into(name),
            ValueRef::Text(_) => "text".clone_into(name),
            ValueRef::Blob(_) => "bytea".clone_into(name),
        }
    }
    Ok(())
}

fn cells(row: &rusqlite::Row<'_>, count: usize) -> rusqlite::Result<Vec<Option<String>>> {
    let cell = |i| {
        Ok(match row.get_ref(i)? {
            ValueRef::Null => None,
            ValueRef::Integer(number) => Some(number.to_string()),
            ValueRef::Real(number) => Some(number.to_string()),
            ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
            ValueRef::Blob(bytes) => Some(crate::identity::hex_of(bytes)),
        })
    };
    (0..count).map(cell).collect()
}

/// Which errors another try may get over.
fn failure(error: &rusqlite::Error) -> Failure {
    let message = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => Failure::refused("23000", message),
        Some(ErrorCode::TypeMismatch) => Failure::refused("22000", message),
        Some(ErrorCode::TooBig) => Failure::refused("54000", message),
        Some(ErrorCode::Unknown) => Failure::refused("42000", message),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Failure::Conflict(format!("{message}: another program or transaction holds the file"))
        }
        Some(_) => Failure::Environmental(message),
        None => Failure::refused("42000", message),
    }
}
