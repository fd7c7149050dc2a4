//! Reading one chunk of an incremental snapshot.

use std::sync::Arc;
use std::time::Duration;

use herdsman_node::Lsn;

use crate::change::{Source, Transaction};
use crate::decode::Field;
use crate::snapshot::copy_text::{CopyText, CopyTextError};
use crate::snapshot::keys::Keys;
use crate::snapshot::table::{self, Described};
use crate::snapshot::xids::Xids;
use crate::snapshot::{Rows, SnapshotConnection, SnapshotError, SnapshotTable, writers};
use crate::{quote_identifier, quote_literal};

/// A chunk to be read.
#[derive(Clone, Debug)]
pub struct ChunkQuery {
    pub(crate) table: SnapshotTable,
    pub(crate) source: Arc<Source>,
    pub(crate) keys: Vec<Box<str>>,
    pub(crate) asked: Asked,
    pub(crate) page: u32,
    pub(crate) settled: bool,
    pub(crate) number: u64,
}

/// Which rows.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// The next ones after this key; from the beginning without one.
    After(Option<Vec<String>>),
    /// Those of these keys.
    Keys(Vec<Vec<String>>),
}

/// A chunk that was read.
#[derive(Debug)]
pub struct ChunkRead {
    pub(crate) rows: Rows,
    pub(crate) snapshot: Xids,
    pub(crate) high: Lsn,
    /// For a page: the key of its last row, and whether there may be more.
    pub(crate) last: Option<(Option<Vec<String>>, bool)>,
    pub(crate) number: u64,
}

/// Tells the place in the log, and gets the stream there even where nobody else writes.
const MARK: &str = "SELECT pg_catalog.pg_logical_emit_message(true, 'herdsman.snapshot', '')::text";

/// Before moved rows are looked for: by then most moves can be seen.
const PAUSE: Duration = Duration::from_millis(50);

impl ChunkQuery {
    /// Reads the chunk: its rows and the snapshot they are seen in, in one transaction, and then a place in the log. The
    /// first one waits before that until everyone has ended who had written to the table.
    ///
    /// Leaves a logical message with the prefix `herdsman.snapshot` in the log.
    ///
    /// # Errors
    /// [`SnapshotError`]; the same chunk can be read again.
    pub async fn run(&self, connection: &SnapshotConnection) -> Result<ChunkRead, SnapshotError> {
        const WHAT: &str = "tell its snapshot";
        if matches!(self.asked, Asked::Keys(_)) {
            // A move is waited for, perhaps for as long as a standby does not answer.
            tokio::time::sleep(PAUSE).await;
        }
        connection.begin(None).await?;
        if !self.settled {
            let described = describe_one(connection, &self.table).await?;
            connection.commit().await?;
            writers::wait(connection, &[described.relation.oid]).await?;
            connection.begin(None).await?;
        }
        let sql = "SELECT pg_current_snapshot()::text, pg_is_in_recovery()::text";
        let [text, standby] = connection.texts(WHAT, sql).await?;
        if standby == "true" {
            return Err(SnapshotError::Standby { endpoint: connection.endpoint().to_owned() });
        }
        let snapshot = text.parse().map_err(|_| connection.malformed(WHAT, "it is no snapshot"))?;
        let described = describe_one(connection, &self.table).await?;
        let key = Keys::of(&described.relation).ok();
        if key.is_none_or(|key| key.names() != self.keys.as_slice()) {
            let (endpoint, table) = (connection.endpoint().to_owned(), self.table.shown());
            return Err(SnapshotError::KeyChanged { endpoint, table });
        }
        let rows = self.rows(connection, &described).await?;
        connection.commit().await?;
        let high = mark(connection).await?;
        let last = match &self.asked {
            Asked::After(_) => Some(self.last(&rows)),
            Asked::Keys(_) => None,
        };
        Ok(ChunkRead { rows, snapshot, high, last, number: self.number })
    }

    async fn rows(
        &self,
        connection: &SnapshotConnection,
        described: &Described,
    ) -> Result<Rows, SnapshotError> {
        let relation = &described.relation;
        // Their place is known when they are emitted.
        let mut rows = Rows::new(&self.source, &Arc::new(Transaction::default()), relation);
        let mut text = CopyText::new(relation.columns.len());
        let table = self.table.shown();
        let wrong = |error: CopyTextError| {
            connection.malformed(&format!("read table `{table}`"), &error.to_string())
        };
        let sql = format!("COPY ({}) TO STDOUT", self.sql(described));
        let mut pieces = connection.copy(&table, &sql).await?;
        while let Some(bytes) = pieces.next().await? {
            text.push(&bytes, |row| rows.push(row)).map_err(wrong)?;
        }
        text.end().map_err(wrong)?;
        Ok(rows)
    }

    fn sql(&self, described: &Described) -> String {
        let relation = &described.relation;
        let name = format!(
            "{}{}.{}",
            if described.partitioned { "" } else { "ONLY " },
            quote_identifier(&relation.schema),
            quote_identifier(&relation.name)
        );
        let columns: Vec<String> = self.keys.iter().map(|name| quote_identifier(name)).collect();
        let types: Vec<&str> = self
            .keys
            .iter()
            .filter_map(|name| {
                described.sql_types.get(relation.column(name)?.0).map(String::as_str)
            })
            .collect();
        let value = |key: &Vec<String>| {
            let values = key.iter().zip(&types);
            let values = values.map(|(text, kind)| format!("{}::{kind}", quote_literal(text)));
            format!("ROW({})", values.collect::<Vec<_>>().join(", "))
        };
        let row = format!("ROW({})", columns.join(", "));
        match &self.asked {
            Asked::Keys(keys) => {
                let keys: Vec<String> = keys.iter().map(value).collect();
                described.select(&name, &[format!("{row} IN ({})", keys.join(", "))])
            }
            Asked::After(after) => {
                let after: Vec<String> =
                    after.iter().map(|after| format!("{row} > {}", value(after))).collect();
                let select = described.select(&name, &after);
                format!("{select} ORDER BY {} LIMIT {}", columns.join(", "), self.page)
            }
        }
    }

    fn last(&self, rows: &Rows) -> (Option<Vec<String>>, bool) {
        let text = |field: Field<'_>| field.text().unwrap_or_default().to_owned();
        let last = rows.tuples().last().map(|row| {
            let place = |name: &str| rows.table().column(name).map(|(place, _)| place);
            let places = self.keys.iter().filter_map(|name| place(name));
            places.filter_map(|place| row.get(place)).map(text).collect()
        });
        (last, u32::try_from(rows.len()).is_ok_and(|rows| rows >= self.page))
    }
}

/// A table that is published under one name.
pub(crate) async fn describe_one(
    connection: &SnapshotConnection,
    table: &SnapshotTable,
) -> Result<Described, SnapshotError> {
    let mut described = table::describe(connection, table).await?;
    match (described.pop(), described.is_empty()) {
        (Some(one), true) if one.partitioned || table.shown() == one.relation.to_string() => {
            Ok(one)
        }
        _ => Err(SnapshotError::NoKey {
            endpoint: connection.endpoint().to_owned(),
            table: table.shown(),
            problem: "its rows are published under its partitions' names, so that each has to be read by itself",
        }),
    }
}

/// A place in the log after everything that is visible now.
async fn mark(connection: &SnapshotConnection) -> Result<Lsn, SnapshotError> {
    const WHAT: &str = "mark a place in its log";
    let place = connection.write(WHAT, MARK).await?;
    place.parse().map_err(|_| connection.malformed(WHAT, "it is no place in a log"))
}
