//! What the members have recorded about conflicts: `herdsman.conflicts`, which each member keeps of what it applied.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use herdsman_wal::Glob;
use serde_json::Value;

use crate::error::MeshError;
use crate::setup::Setup;
use crate::table::TableName;
use crate::verify::session::{Seat, active};

/// A conflict as one member has recorded it. The same one may be recorded on several members: each decides by itself, and
/// all alike.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Conflict {
    /// Who recorded it.
    pub member: String,
    /// Its number there.
    pub id: i64,
    /// When, in UTC.
    pub at: String,
    /// The table, as `schema.table`.
    pub table: String,
    /// The row's key.
    pub key: Value,
    /// What met what.
    pub kind: String,
    /// Who won: `arriving` or `held`.
    pub winner: String,
    /// Why.
    pub why: String,
    /// What was there.
    pub held: Side,
    /// What came.
    pub arriving: Side,
}

/// One of the two versions of a conflict.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Side {
    /// The row; null where it was a deletion.
    pub row: Value,
    /// When it was written, in microseconds since 1970.
    pub stamp: Option<i64>,
    /// Where it was written: a member's name, or its number where that has left.
    pub node: Option<String>,
}

/// Which conflicts are wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Only those recorded within this time.
    pub since: Option<Duration>,
    /// At most so many, the last ones.
    pub limit: u32,
}

/// Reads what the members have recorded, and goes on where it stopped.
pub struct Reader {
    seats: Vec<(Seat, i64)>,
    tables: Option<Glob>,
    names: Vec<(i16, String)>,
}

/// The tables are filtered here, as a glob is not what the server knows; so many rows are asked for at a time.
const PAGE: i64 = 1000;

const SELECT: &str = "\
    SELECT id, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), rel, key::text, kind, winner, why, \
           held::text, held_stamp, held_node, arriving::text, arriving_stamp, arriving_node \
      FROM herdsman.conflicts";

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("tables", &self.tables).finish_non_exhaustive()
    }
}

impl Reader {
    /// Connects to the members.
    ///
    /// # Errors
    /// A member cannot be reached, or `tables` is no pattern.
    pub async fn open(setup: &Arc<Setup>, tables: Option<&str>) -> Result<Self, MeshError> {
        let tables = tables.map(Glob::new).transpose().map_err(|error| {
            MeshError::refused(error.to_string(), "write it as schema.table, such as public.*")
        })?;
        let seats = active(setup).await?;
        let names =
            seats.iter().map(|seat| (seat.member.id.0, seat.member.name.to_string())).collect();
        Ok(Self { seats: seats.into_iter().map(|seat| (seat, 0)).collect(), tables, names })
    }

    /// The last ones there are, the oldest first.
    ///
    /// # Errors
    /// A member cannot be asked.
    pub async fn last(&mut self, wanted: &Wanted) -> Result<Vec<Conflict>, MeshError> {
        let reads = self.seats.iter().map(|(seat, _)| async {
            let end: i64 = {
                let what = "count its conflicts";
                let row = seat
                    .session
                    .row(what, "SELECT coalesce(max(id), 0) FROM herdsman.conflicts", &[])
                    .await?;
                seat.session.get(what, &row, 0)?
            };
            let found = self.backwards(seat, wanted, end).await?;
            Ok::<_, MeshError>((end, found))
        });
        let read = try_join_all(reads).await?;
        let mut all = Vec::new();
        for ((_, last), (end, found)) in self.seats.iter_mut().zip(read) {
            *last = end;
            all.extend(found);
        }
        all.sort_by(|a, b| (&a.at, &a.member, a.id).cmp(&(&b.at, &b.member, b.id)));
        let surplus = all.len().saturating_sub(usize::try_from(wanted.limit).unwrap_or(usize::MAX));
        Ok(all.split_off(surplus))
    }

    /// Those recorded since the last call, the oldest first.
    ///
    /// # Errors
    /// A member cannot be asked.
    pub async fn next(&mut self) -> Result<Vec<Conflict>, MeshError> {
        let sql = format!("{SELECT} WHERE id > $1 ORDER BY id LIMIT {PAGE}");
        let reads = self.seats.iter().map(|(seat, last)| {
            let sql = &sql;
            async move { seat.session.rows("read its conflicts", sql, &[last]).await }
        });
        let read = try_join_all(reads).await?;
        let mut all = Vec::new();
        let mut ends = Vec::new();
        for ((seat, last), rows) in self.seats.iter().zip(read) {
            let mut end = *last;
            for row in &rows {
                let conflict = self.conflict(seat, row)?;
                end = conflict.id;
                if self.is_wanted(&conflict) {
                    all.push(conflict);
                }
            }
            ends.push(end);
        }
        for ((_, last), end) in self.seats.iter_mut().zip(ends) {
            *last = end;
        }
        all.sort_by(|a, b| (&a.at, &a.member, a.id).cmp(&(&b.at, &b.member, b.id)));
        Ok(all)
    }

    /// Pages through one member's records from `end` backwards, until there are enough.
    async fn backwards(
        &self,
        seat: &Seat,
        wanted: &Wanted,
        end: i64,
    ) -> Result<Vec<Conflict>, MeshError> {
        let limit = usize::try_from(wanted.limit).unwrap_or(usize::MAX);
        let since = wanted.since.map(|since| since.as_secs_f64());
        let sql = format!(
            "{SELECT} WHERE id <= $1 AND ($2::float8 IS NULL OR at >= now() - make_interval(secs => $2)) \
             ORDER BY id DESC LIMIT {PAGE}"
        );
        let mut found = Vec::new();
        let mut end = end;
        while found.len() < limit {
            let rows = seat.session.rows("read its conflicts", &sql, &[&end, &since]).await?;
            let full = i64::try_from(rows.len()).is_ok_and(|count| count == PAGE);
            for row in &rows {
                let conflict = self.conflict(seat, row)?;
                end = conflict.id - 1;
                if found.len() < limit && self.is_wanted(&conflict) {
                    found.push(conflict);
                }
            }
            if !full {
                break;
            }
        }
        Ok(found)
    }

    fn is_wanted(&self, conflict: &Conflict) -> bool {
        let Some(glob) = &self.tables else { return true };
        let table: Result<TableName, _> = conflict.table.parse();
        table.is_ok_and(|table| glob.matches(&table.schema, &table.name))
    }

    fn conflict(&self, seat: &Seat, row: &tokio_postgres::Row) -> Result<Conflict, MeshError> {
        let what = "tell its conflicts";
        let session = &seat.session;
        let json = |column| -> Result<Value, MeshError> {
            let text: Option<String> = session.get(what, row, column)?;
            Ok(text.map_or(Value::Null, |text| {
                serde_json::from_str(&text).unwrap_or(Value::String(text))
            }))
        };
        let side = |column: usize| -> Result<Side, MeshError> {
            let node: Option<i16> = session.get(what, row, column + 2)?;
            let name = |id: i16| {
                let known = self.names.iter().find(|(number, _)| *number == id);
                known.map_or_else(|| id.to_string(), |(_, name)| name.clone())
            };
            Ok(Side {
                row: json(column)?,
                stamp: session.get(what, row, column + 1)?,
                node: node.map(name),
            })
        };
        Ok(Conflict {
            member: seat.member.name.to_string(),
            id: session.get(what, row, 0)?,
            at: session.get(what, row, 1)?,
            table: session.get(what, row, 2)?,
            key: json(3)?,
            kind: session.get(what, row, 4)?,
            winner: session.get(what, row, 5)?,
            why: session.get(what, row, 6)?,
            held: side(7)?,
            arriving: side(10)?,
        })
    }
}
