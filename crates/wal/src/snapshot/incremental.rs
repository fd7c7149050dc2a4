//! Reading a table again while the stream goes on.

use std::sync::Arc;

use herdsman_node::Lsn;
use serde::{Deserialize, Serialize};

use crate::change::{Body, ChangeRef, Source};
use crate::decode::{Field, TupleWriter};
use crate::snapshot::chunk::{Asked, ChunkQuery, ChunkRead};
use crate::snapshot::copying::shown_before;
use crate::snapshot::held::refuse_standby;
use crate::snapshot::keys::{Keys, join, split};
use crate::snapshot::rows::only;
use crate::snapshot::window::{Accepted, Keep, MOST_KEYS, Window};
use crate::snapshot::{Rows, SnapshotConnection, SnapshotError, SnapshotTable, chunk};

/// Reads one table, a page of keys at a time, while the stream goes on, and puts its rows into the stream's order: each
/// one is, at its place, what the row is after all that the stream has delivered so far.
///
/// Feed it everything the stream delivers, from the moment it is made, in its order: [`begin`](Self::begin),
/// [`change`](Self::change), [`commit`](Self::commit), and [`passed`](Self::passed) for the stream's idle positions.
/// Beside that, [run](ChunkQuery::run) each query that it [wants](Self::wanted) in a task of its own and
/// [hand over](Self::accept) what was read; between transactions, hand on what it [emits](Self::emit). The stream must
/// deliver transactions when they are committed, not when they are prepared, and send values as text.
///
/// Rows are to be taken as the whole truth (upsert); a column that is [`Unchanged`](Field::Unchanged) in one has been told
/// by the stream already, newer. Rows that the receiver has and the table has not are not told of.
#[derive(Debug)]
pub struct Incremental {
    table: SnapshotTable,
    source: Arc<Source>,
    page: u32,
    oid: u32,
    keys: Keys,
    window: Window,
    /// Those who had written before observing began are over.
    settled: bool,
    after: Option<Vec<String>>,
    pages_done: bool,
    /// Which query is due.
    number: u64,
    waiting: Option<ChunkRead>,
    ordinal: u64,
    rows: u64,
    scratch: TupleWriter,
}

/// How far an incremental snapshot is. Save it once the rows emitted before are durable, and before the stream is told
/// that anything delivered after them is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncrementalProgress {
    /// The key up to which rows have been emitted, as text, column by column.
    pub after: Option<Vec<String>>,
    /// Whether the end of the table was reached, and only `again` is left.
    pub pages_done: bool,
    /// Keys of rows that have to be read once more.
    pub again: Vec<Vec<String>>,
    /// Rows emitted so far.
    pub rows: u64,
}

impl Incremental {
    /// Looks at the table, and begins to observe: **whatever the stream delivers from now on must be told to it.** Reads
    /// pages of `page` rows; goes on after `progress`.
    ///
    /// # Errors
    /// [`SnapshotError::NoKey`] where the stream does not tell which row is which; [`SnapshotError::Standby`]; others as
    /// for every question to the server.
    pub async fn new(
        connection: &SnapshotConnection,
        table: SnapshotTable,
        source: Arc<Source>,
        page: u32,
        progress: IncrementalProgress,
    ) -> Result<Self, SnapshotError> {
        refuse_standby(connection).await?;
        connection.begin(None).await?;
        let described = chunk::describe_one(connection, &table).await?;
        connection.commit().await?;
        let relation = &described.relation;
        let keys = Keys::of(relation).map_err(|problem| SnapshotError::NoKey {
            endpoint: connection.endpoint().to_owned(),
            table: table.shown(),
            problem,
        })?;
        let mut window = Window::new(MOST_KEYS);
        for key in &progress.again {
            window.read_again(
                &join(key.iter().map(|text| Some(text.as_bytes()))).unwrap_or_default(),
            );
        }
        Ok(Self {
            oid: relation.oid,
            table,
            source,
            page: page.max(1),
            keys,
            window,
            settled: false,
            after: progress.after,
            pages_done: progress.pages_done,
            number: 0,
            waiting: None,
            ordinal: 0,
            rows: progress.rows,
            scratch: TupleWriter::default(),
        })
    }

    /// A transaction begins to be delivered.
    pub fn begin(&mut self, xid: u32) {
        self.window.begin(xid);
    }

    /// One change of it is delivered. Changes of other tables are passed over.
    ///
    /// # Errors
    /// [`SnapshotError::NoKey`] where the change does not tell which row it is about.
    pub fn change(&mut self, change: &ChangeRef<'_>) -> Result<(), SnapshotError> {
        if let Body::Truncate { tables, .. } = change.body {
            if tables.iter().any(|table| table.oid == self.oid) {
                self.window.emptied();
            }
            return Ok(());
        }
        let Some(relation) = change.table().filter(|table| table.oid == self.oid) else {
            return Ok(());
        };
        self.keys.look_at(relation);
        let no_key = || SnapshotError::NoKey {
            endpoint: change.source.database.to_string(),
            table: self.table.shown(),
            problem: "a change does not tell the columns of its key as text",
        };
        let old = change.old_row().map(|row| self.keys.key(row)).transpose();
        let old = old.map_err(|_| no_key())?;
        let Some(new) = change.new_row() else {
            if let (Body::Delete { .. }, Some(old)) = (change.body, old) {
                self.window.told(&old, &[]);
            }
            return Ok(());
        };
        let key = self.keys.key(new).map_err(|_| no_key())?;
        let untold = self.keys.untold(new);
        match old {
            Some(old) if old != key => self.window.moved(&old, &key, untold),
            _ => self.window.told(&key, untold),
        }
        Ok(())
    }

    /// The transaction is delivered whole, and with it everything before `end_lsn`.
    pub fn commit(&mut self, end_lsn: Lsn) {
        self.window.commit(end_lsn);
    }

    /// The stream has delivered everything before `position` (an idle stream says so).
    pub fn passed(&mut self, position: Lsn) {
        self.window.passed(position);
    }

    /// What has to be read next; `None` while a chunk waits to be emitted, and at the end. The same is wanted again, as
    /// often as reading it fails, until it has been handed over.
    pub fn wanted(&mut self) -> Option<ChunkQuery> {
        if self.waiting.is_some() {
            return None;
        }
        let asked = if self.pages_done {
            let keys = self.window.ask_again(usize::try_from(self.page).unwrap_or(1));
            if keys.is_empty() {
                return None;
            }
            Asked::Keys(keys.iter().map(|key| split(key)).collect())
        } else {
            Asked::After(self.after.clone())
        };
        Some(ChunkQuery {
            table: self.table.clone(),
            source: Arc::clone(&self.source),
            keys: self.keys.names().to_vec(),
            asked,
            page: self.page,
            settled: self.settled,
            number: self.number,
        })
    }

    /// Takes what was read. It may have to be read again: then the same is [wanted](Self::wanted) once more.
    ///
    /// # Errors
    /// [`SnapshotError::NotAsked`] for anything but what was wanted last.
    pub fn accept(&mut self, read: ChunkRead) -> Result<(), SnapshotError> {
        if read.number != self.number || self.waiting.is_some() {
            return Err(SnapshotError::NotAsked { table: self.table.shown() });
        }
        self.number += 1;
        self.settled = true;
        let places = self.keys.places(read.rows.table());
        let keys = read.rows.tuples().map(|row| {
            join(places.iter().map(|place| row.get(*place).and_then(Field::bytes)))
                .unwrap_or_default()
        });
        match self.window.accept(read.snapshot.clone(), read.high, keys) {
            Accepted::Waits => self.waiting = Some(read),
            Accepted::ReadAgain => tracing::debug!(
                table = self.table.shown(),
                "a chunk is read again: a large transaction is not visible yet"
            ),
        }
        Ok(())
    }

    /// Rows to be handed on now, before anything else the stream delivers. `None` while there are none; ask after each
    /// commit, each idle position and each chunk handed over.
    pub fn emit(&mut self) -> Option<Rows> {
        let keep = self.window.take()?;
        let read = self.waiting.take()?;
        if let Some((last, full)) = read.last {
            self.pages_done = !full;
            self.after = last.or(self.after.take());
        }
        let transaction = Arc::new(shown_before(self.window.position()));
        let relation = read.rows.table();
        let mut rows = Rows::new(&self.source, &transaction, relation);
        let ids = self.keys.ids(relation);
        let key = self.keys.places(relation);
        for (row, keep) in read.rows.tuples().zip(keep) {
            match keep {
                Keep::All => rows.push(row),
                Keep::Nothing => {}
                Keep::Columns(columns) => {
                    let kept = |place: usize| {
                        let told = ids.get(place).is_some_and(|id| columns.contains(id));
                        told || key.contains(&place)
                    };
                    only(row, kept, &mut self.scratch);
                    rows.push(self.scratch.tuple());
                }
            }
        }
        rows.number(self.ordinal);
        let count = u64::try_from(rows.len()).unwrap_or(0);
        self.ordinal += count;
        self.rows += count;
        (!rows.is_empty()).then_some(rows)
    }

    /// Whether every row has been emitted. A row that moves afterwards is the stream's business alone.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.pages_done && !self.window.waits() && self.window.again().next().is_none()
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> IncrementalProgress {
        IncrementalProgress {
            after: self.after.clone(),
            pages_done: self.pages_done,
            again: self.window.again().map(|key| split(key)).collect(),
            rows: self.rows,
        }
    }
}
