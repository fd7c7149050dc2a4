//! Rows of a table once more while the stream goes on, for whoever asks with a word in the log.
//!
//! The word is a logical message, as heartbeats are: it reaches whoever reads the slot, wherever that runs, and stands
//! at one place in the log. [`Incremental`] finds out where each row belongs; here its rows are put between transactions.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use herdsman_node::{Conninfo, Lsn, Tls};
use herdsman_wal::snapshot::{
    ChunkRead, Incremental, IncrementalProgress, Rows, SnapshotConnection, SnapshotError,
    SnapshotTable,
};
use herdsman_wal::{Body, ChangeRef, Event, Source, Transaction, WalError};
use tokio::task::JoinHandle;

use crate::checkpoint::replace;
use crate::engine::{Events, Live};

/// What marks a message that asks for a table's rows; its content is `schema.table`.
pub const PREFIX: &str = "herdsman.snapshot.wanted";

/// What was asked for and is not done, in the state folder: a name a line.
const FILE: &str = "snapshots-wanted";
/// Rows read at once.
const PAGE: u32 = 2000;
const LIMIT: Duration = Duration::from_secs(30);
/// Tables that may wait; who asks for more is told in the log.
const MOST_WAITING: usize = 1000;

/// A stream with the rows of tables that somebody asked for.
pub(super) struct Again {
    live: Live,
    info: Conninfo,
    tls: Tls,
    wishes: Wishes,
    current: Option<Current>,
    starting: Option<JoinHandle<Result<Current, SnapshotError>>>,
    told: Told,
    /// End of the transaction that came last.
    end: Lsn,
    outside: bool,
}

/// What was asked for.
struct Wishes {
    /// The published tables, with what the publication leaves out of them.
    tables: Vec<SnapshotTable>,
    waiting: VecDeque<SnapshotTable>,
    /// The table that is read, by name.
    current: Option<String>,
    /// Where the names are kept, for who goes on after us.
    file: PathBuf,
}

/// The table that is read.
struct Current {
    table: String,
    incremental: Incremental,
    connection: Arc<SnapshotConnection>,
    reading: Option<JoinHandle<Result<ChunkRead, SnapshotError>>>,
    rows: u64,
}

/// Rows that are being told.
#[derive(Default)]
struct Told {
    rows: Option<(Rows, Arc<Transaction>)>,
    place: usize,
    begun: bool,
    ended: bool,
}

/// What to yield next.
enum Next {
    Live,
    Begin,
    Row(usize),
    End,
}

impl Again {
    /// Goes on with what was asked for before, as the state folder has it.
    pub(super) fn new(
        live: Live,
        info: Conninfo,
        tls: Tls,
        tables: Vec<SnapshotTable>,
        folder: &Path,
    ) -> Self {
        Self {
            live,
            info,
            tls,
            wishes: Wishes::load(tables, folder.join(FILE)),
            current: None,
            starting: None,
            told: Told::default(),
            end: Lsn(0),
            outside: true,
        }
    }

    pub(super) fn into_live(self) -> Live {
        self.live
    }

    /// Begins the next table that waits.
    fn begin_next(&mut self) {
        if self.current.is_some() || self.starting.is_some() {
            return;
        }
        let Some(table) = self.wishes.next() else { return };
        let (info, tls) = (self.info.clone(), self.tls.clone());
        let source = Arc::clone(Events::source(&self.live));
        self.starting = Some(tokio::spawn(async move {
            let connection = SnapshotConnection::open(&info, &tls, LIMIT).await?;
            let name = format!("{}.{}", table.schema, table.name);
            let progress = IncrementalProgress::default();
            let incremental = Incremental::new(&connection, table, source, PAGE, progress).await?;
            tracing::info!(table = name, "the rows of a table are delivered again");
            Ok(Current {
                table: name,
                incremental,
                connection: Arc::new(connection),
                reading: None,
                rows: 0,
            })
        }));
    }

    /// What can be done between two transactions, without waiting.
    async fn between(&mut self) {
        self.begin_next();
        if self.starting.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(starting) = self.starting.take()
        {
            let problem = match starting.await {
                Ok(Ok(current)) => {
                    self.current = Some(current);
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(problem) = problem {
                tracing::error!(problem, "a table cannot be delivered again; ask once more");
                self.wishes.done();
            }
        }
        let Some(current) = &mut self.current else { return };
        let outcome = current.go_on().await;
        match outcome {
            Ok(rows) => {
                if let Some(rows) = rows {
                    current.rows += u64::try_from(rows.len()).unwrap_or(0);
                    self.told = Told::of(rows);
                } else if current.incremental.is_done() {
                    tracing::info!(
                        table = current.table,
                        rows = current.rows,
                        "all rows of the table are delivered again"
                    );
                    self.current = None;
                    self.wishes.done();
                }
            }
            Err(error) => {
                current.given_up(&error);
                self.current = None;
                self.wishes.done();
            }
        }
    }

    fn next_told(&mut self) -> Next {
        if self.told.ended {
            self.told = Told::default();
        }
        let Some((rows, _)) = &self.told.rows else { return Next::Live };
        if !self.told.begun {
            self.told.begun = true;
            return Next::Begin;
        }
        if self.told.place < rows.len() {
            self.told.place += 1;
            return Next::Row(self.told.place - 1);
        }
        self.told.ended = true;
        Next::End
    }
}

impl Current {
    fn given_up(&self, error: &SnapshotError) {
        tracing::error!(table = self.table, problem = %error, "a table is not delivered again to its end; ask once more");
    }

    /// Lets the snapshot see what the stream delivers.
    fn observe(&mut self, event: &Event<'_>) -> Result<(), SnapshotError> {
        match event {
            Event::Begin(transaction) => self.incremental.begin(transaction.xid),
            Event::Change(change) => self.incremental.change(change)?,
            Event::Commit { end_lsn, .. } => self.incremental.commit(*end_lsn),
            Event::Idle { wal_end } => self.incremental.passed(*wal_end),
            _ => {}
        }
        Ok(())
    }

    /// Takes in what was read, asks for more, and gives the rows whose place has come.
    async fn go_on(&mut self) -> Result<Option<Rows>, SnapshotError> {
        if self.reading.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(reading) = self.reading.take()
            && let Ok(read) = reading.await
        {
            self.incremental.accept(read?)?;
        }
        if self.reading.is_none()
            && let Some(query) = self.incremental.wanted()
        {
            let connection = Arc::clone(&self.connection);
            self.reading = Some(tokio::spawn(async move { query.run(&connection).await }));
        }
        Ok(self.incremental.emit())
    }
}

impl Told {
    fn of(rows: Rows) -> Self {
        let transaction = rows.iter().next().map(|row| Arc::clone(row.transaction));
        let rows = Some((rows, transaction.unwrap_or_default()));
        Self { rows, ..Self::default() }
    }
}

/// How often it is looked after while nothing comes from the stream.
const PACE: Duration = Duration::from_millis(20);

impl Events for Again {
    async fn next(&mut self) -> Result<Event<'_>, WalError> {
        let next = loop {
            match self.next_told() {
                Next::Live => {}
                told => break told,
            }
            if self.outside {
                self.between().await;
                if self.told.rows.is_some() {
                    continue;
                }
            }
            let busy = self.current.is_some() || self.starting.is_some() || self.wishes.waits();
            if !self.outside || !busy || self.live.is_ready_within(PACE).await {
                break Next::Live;
            }
        };
        let told = self.told.rows.as_ref();
        match next {
            Next::Live => {
                let event = self.live.next().await?;
                match &event {
                    Event::Begin(_) => self.outside = false,
                    Event::Commit { end_lsn, .. } => (self.outside, self.end) = (true, *end_lsn),
                    Event::Change(ChangeRef {
                        body: Body::Message { prefix, content }, ..
                    }) if *prefix == PREFIX => {
                        self.wishes.add(content);
                    }
                    _ => {}
                }
                if let Some(current) = &mut self.current
                    && let Err(error) = current.observe(&event)
                {
                    current.given_up(&error);
                    self.current = None;
                    self.wishes.done();
                }
                Ok(event)
            }
            Next::Begin => told.map(|(_, transaction)| Event::Begin(transaction)).ok_or_else(gone),
            Next::Row(index) => {
                let row = told.and_then(|(rows, transaction)| {
                    Some(ChangeRef {
                        source: Events::source(&self.live),
                        transaction,
                        ordinal: u64::try_from(index).unwrap_or(0),
                        lsn: transaction.commit_lsn,
                        body: Body::Read { table: rows.table(), new: rows.get(index)? },
                    })
                });
                row.map(Event::Change).ok_or_else(gone)
            }
            Next::End => {
                // It ends where the transaction before it does: acknowledged with that one, not before.
                let end_lsn = self.end;
                let end = told.map(|(_, transaction)| Event::Commit { transaction, end_lsn });
                end.ok_or_else(gone)
            }
        }
    }

    fn handled(&self, lsn: Lsn) {
        self.live.handled(lsn);
    }

    fn source(&self) -> &Arc<Source> {
        Events::source(&self.live)
    }
}

impl Wishes {
    fn load(tables: Vec<SnapshotTable>, file: PathBuf) -> Self {
        let mut wishes = Self { tables, waiting: VecDeque::new(), current: None, file };
        match std::fs::read_to_string(&wishes.file) {
            Ok(names) => names.lines().for_each(|name| wishes.add(name.as_bytes())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::error!(
                file = %wishes.file.display(), problem = %error,
                "which tables were to be delivered again cannot be read; ask once more"
            ),
        }
        wishes
    }

    fn next(&mut self) -> Option<SnapshotTable> {
        let table = self.waiting.pop_front()?;
        self.current = Some(format!("{}.{}", table.schema, table.name));
        Some(table)
    }

    /// The table that was read is done, or was given up.
    fn done(&mut self) {
        self.current = None;
        self.save();
    }

    fn save(&self) {
        let waiting = self.waiting.iter().map(|table| format!("{}.{}", table.schema, table.name));
        let names: String =
            self.current.clone().into_iter().chain(waiting).map(|name| name + "\n").collect();
        if let Err(error) = replace(&self.file, names.as_bytes()) {
            tracing::error!(
                file = %self.file.display(), problem = %error,
                "which tables are to be delivered again cannot be kept; ask once more after a restart"
            );
        }
    }

    /// Notes which table is asked for.
    fn add(&mut self, content: &[u8]) {
        let wanted = String::from_utf8_lossy(content);
        let named = |table: &&SnapshotTable| {
            wanted.split_once('.') == Some((table.schema.as_str(), table.name.as_str()))
        };
        match self.tables.iter().find(named) {
            Some(table) if self.waiting.len() < MOST_WAITING => {
                self.waiting.push_back(table.clone());
                self.save();
            }
            Some(_) => {
                tracing::error!(table = %wanted, "too many tables wait to be delivered again");
            }
            None => {
                tracing::error!(table = %wanted, "asked for the rows of a table that is not published");
            }
        }
    }

    fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// An invariant of this file: rows are told only while there are some.
fn gone() -> WalError {
    let problem = "rows that were being told are gone".to_owned();
    WalError::Protocol { endpoint: "the snapshot".to_owned(), problem }
}
