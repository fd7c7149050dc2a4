//! Running a client's transaction, to see what it would change.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;

use super::{Shared, guard, notes};
use crate::{
    Offset, Value,
    node::{
        Answer, Captured, NodeError, Room, Sql, SqlError, Transaction,
        dialect::{Ask, Dialect, Failure, Session as _, TOO_LONG, capture_table, next_rows},
        session::Rows,
        statement,
    },
    table::{Catalogue, Table},
    value::Kind,
    writes::{RowChange, fold},
};

pub(super) struct Running<D: Dialect> {
    /// Dropped in the middle, it is closed, and the engine rolls back.
    session: D::Session,
    seat: Seat<D>,
    base: Offset,
    catalogue: Catalogue,
    /// What the session had written before, of transactions that are over.
    written: Option<BTreeMap<String, i64>>,
    named: BTreeSet<String>,
    affected: u64,
    failed: bool,
    /// Something in it was taken back: what was written is more than what is left of it.
    taken_back: bool,
}

/// A transaction's place among those that are open.
struct Seat<D: Dialect> {
    shared: Arc<Shared<D>>,
    number: u64,
}

impl<D: Dialect> Drop for Seat<D> {
    fn drop(&mut self) {
        self.shared.clients.leave(self.number);
    }
}

impl<D: Dialect> Seat<D> {
    /// What a client is told whose transaction failed so: if it was ended by us, that it may try again.
    fn told(&self, error: SqlError) -> SqlError {
        if self.shared.clients.is_beaten(self.number) { beaten() } else { error }
    }
}

fn beaten() -> SqlError {
    let message = "an entry of the log had to wait for the transaction, which was ended for it";
    SqlError::Conflict(message.to_owned())
}

pub(super) async fn begin<D: Dialect>(
    shared: Arc<Shared<D>>,
) -> Result<Box<dyn Transaction>, SqlError> {
    let session = shared.capturing().await?;
    let begins = shared.dialect.begin_snapshot();
    Ok(Box::new(begin_on(shared, session, begins).await?))
}

/// Begins one on a session, with these statements. If that fails, the session is closed.
pub(super) async fn begin_on<D: Dialect>(
    shared: Arc<Shared<D>>,
    mut session: D::Session,
    begins: &[&str],
) -> Result<Running<D>, SqlError> {
    let dialect = &shared.dialect;
    let mut asks: Vec<Ask> = begins.iter().copied().map(Ask::command).collect();
    // In the snapshot of the data: a place read outside of it would let updates be lost.
    asks.extend([Ask::select(notes::PLACE), Ask::select(notes::CATALOGUE)]);
    asks.extend(dialect.written().map(Ask::select));
    // Nobody has to wait for it up to here; on SQLite, whoever does waits until the seat is taken.
    let mut told = session.together(asks).await.all()?.skip(begins.len());
    let number = shared.clients.enter(dialect.handle(&session));
    let seat = Seat { shared, number };
    let dialect = &seat.shared.dialect;
    let place = notes::place_of(&next_rows(&mut told))?;
    guard::check(&place, &seat.shared.token)?;
    if let Some(why) = place.fenced {
        return Err(NodeError::Diverged(why).into());
    }
    let base = place.applied;
    let catalogue = notes::catalogue_of(&next_rows(&mut told))?;
    let written = dialect.written().map(|_| written_of(next_rows(&mut told)));
    Ok(Running {
        session,
        seat,
        base,
        catalogue,
        written,
        named: BTreeSet::new(),
        affected: 0,
        failed: false,
        taken_back: false,
    })
}

#[async_trait]
impl<D: Dialect> Transaction for Running<D> {
    fn base(&self) -> Offset {
        self.base
    }

    async fn run_with(&mut self, sql: Sql<'_>, room: &mut Room) -> Result<Answer, SqlError> {
        if self.failed {
            // As PostgreSQL has it; the others would go on after an error, each in its way.
            let message = "the transaction failed, and nothing more can be run in it";
            return Err(self.seat.told(Failure::refused("25P02", message).into()));
        }
        self.failed = true;
        let dialect = &self.seat.shared.dialect;
        let said = statement::check(sql.text, dialect.engine(), &self.catalogue)?;
        let placed = statement::place(sql.text, sql.values, dialect.engine())?;
        let session = &mut self.session;
        let answer = async {
            dialect.check_calls(session, &said.calls).await?;
            session.statement(&placed.sql, &placed.values, room).await
        };
        let answer = answer.await.map_err(|failure| self.seat.told(failure.into()))?;
        // MariaDB's SLEEP has an answer also when it is ended.
        if self.seat.shared.clients.is_beaten(self.seat.number) {
            return Err(beaten());
        }
        self.named.extend(said.named);
        self.affected = self.affected.saturating_add(answer.affected);
        self.failed = false;
        Ok(answer)
    }

    async fn capture(self: Box<Self>) -> Result<Captured, SqlError> {
        if self.failed {
            let message = "the transaction failed, and cannot commit";
            return Err(self.seat.told(Failure::refused("25P02", message).into()));
        }
        let shared = Arc::clone(&self.seat.shared);
        let (captured, session) = self.finish().await?;
        if let Some(session) = session {
            shared.give_back(session);
        }
        Ok(captured)
    }
}

impl<D: Dialect> Running<D> {
    /// Whether a statement may be run; and what it names is noted.
    pub(super) async fn check(&mut self, sql: &str) -> Result<(), SqlError> {
        let dialect = &self.seat.shared.dialect;
        let said = statement::check(sql, dialect.engine(), &self.catalogue)?;
        dialect.check_calls(&mut self.session, &said.calls).await?;
        self.named.extend(said.named);
        Ok(())
    }

    /// Says something of ours in it.
    pub(super) async fn command(&mut self, sql: &str) -> Result<(), SqlError> {
        let done = self.session.command(sql).await;
        done.map_err(|failure| self.seat.told(failure.into()))
    }

    pub(super) fn session(&mut self) -> &mut D::Session {
        &mut self.session
    }

    pub(super) fn is_beaten(&self) -> bool {
        self.seat.shared.clients.is_beaten(self.seat.number)
    }

    /// Something in it was taken back, by a savepoint.
    pub(super) fn take_back(&mut self) {
        self.taken_back = true;
    }

    /// Rolls back. The session, if it may be used again.
    pub(super) async fn roll_back(mut self) -> Option<D::Session> {
        let done = self.session.command("ROLLBACK").await;
        let Self { seat, session, .. } = self;
        (!seat.shared.clients.leave(seat.number) && done.is_ok()).then_some(session)
    }

    /// What it would change. The session, if it may be used again.
    pub(super) async fn finish(mut self) -> Result<(Captured, Option<D::Session>), SqlError> {
        let captured = self.changes().await.map_err(|error| self.seat.told(error))?;
        let rows = fold(captured, &self.catalogue)
            .map_err(|unfit| Failure::refused("22000", unfit.to_string()))?;
        let Self { seat, session, base, catalogue, named, .. } = self;
        let session = (!seat.shared.clients.leave(seat.number)).then_some(session);
        Ok((Captured { base, catalogue, rows, named: named.into_iter().collect() }, session))
    }

    /// What was captured; then the transaction is rolled back.
    async fn changes(&mut self) -> Result<Vec<RowChange>, SqlError> {
        let dialect = &self.seat.shared.dialect;
        let tables = || self.catalogue.0.values();
        let before = dialect.before_reading();
        let mut asks: Vec<Ask> = before.into_iter().map(Ask::command).collect();
        asks.extend(tables().map(|it| changes_in(dialect, it)));
        asks.extend(dialect.written().map(Ask::select));
        asks.push(Ask::command("ROLLBACK"));
        // Outside of the snapshot: nothing goes to the log from who has lost the node.
        asks.push(Ask::select(notes::PLACE));
        let told = self.session.together(asks).await.all()?;
        let mut told = told.skip(usize::from(before.is_some()));
        let mut captured = Vec::new();
        let mut counts = BTreeMap::new();
        for table in tables() {
            let rows = next_rows(&mut told);
            counts.insert(table.name.clone(), i64::try_from(rows.len()).unwrap_or(i64::MAX));
            for row in rows {
                captured.push(change_of(table, row)?);
            }
        }
        let written = dialect.written().map(|_| written_of(next_rows(&mut told)));
        let place = notes::place_of(&next_rows(&mut told.skip(1)))?;
        guard::check(&place, &self.seat.shared.token)?;
        if let (true, Some(before), Some(after)) = (self.taken_back, &self.written, &written) {
            counts = captures_written(before, after, counts.into_keys());
        }
        let missed = match (&self.written, &written) {
            (Some(before), Some(after)) => missed(before, after, &counts),
            _ => (captured.is_empty() && self.affected > 0).then(|| "a table".to_owned()),
        };
        let Some(table) = missed else { return Ok(captured) };
        let message = format!(
            "the transaction changed {table} in a way that was not captured: it does not belong to the ledger, or its changes were hidden; only the ledger's tables can be changed through it"
        );
        Err(Failure::refused("0A000", message).into())
    }
}

/// How many changes of each table were captured, also those that were taken back later.
fn captures_written(
    before: &BTreeMap<String, i64>,
    after: &BTreeMap<String, i64>,
    tables: impl Iterator<Item = String>,
) -> BTreeMap<String, i64> {
    let rows = |of: &BTreeMap<String, i64>, table: &str| {
        of.get(&capture_table(table)).copied().unwrap_or_default()
    };
    let written = |table: String| {
        let rows = rows(after, &table).saturating_sub(rows(before, &table));
        (table, rows)
    };
    tables.map(written).collect()
}

/// A table of which more rows were written than captured. Capturing itself writes one for each.
fn missed(
    before: &BTreeMap<String, i64>,
    after: &BTreeMap<String, i64>,
    captured: &BTreeMap<String, i64>,
) -> Option<String> {
    let written = after.iter().map(|(table, rows)| {
        (table, rows.saturating_sub(before.get(table).copied().unwrap_or_default()))
    });
    let own = |table: &str| captured.keys().any(|it| capture_table(it) == *table);
    let most = |table: &str| captured.get(table).copied().unwrap_or_default();
    let mut beyond = written.filter(|(table, rows)| !own(table) && *rows > most(table));
    beyond.next().map(|(table, _)| format!("table {table}"))
}

/// Rows by table, as [`Dialect::written`] gives them.
fn written_of(rows: Rows) -> BTreeMap<String, i64> {
    let of = |row: Vec<Option<String>>| match <[_; 2]>::try_from(row) {
        Ok([Some(table), Some(rows)]) => Some((table, rows.parse().unwrap_or(i64::MAX))),
        _ => None,
    };
    rows.into_iter().filter_map(of).collect()
}

/// The query for the changes of a table that were captured.
fn changes_in<D: Dialect>(dialect: &D, table: &Table) -> Ask {
    let side = |prefix: &str| {
        let column = |it: &crate::table::Column| {
            dialect.text_of(it.kind, &dialect.quote(&format!("{prefix}_{}", it.name)))
        };
        table.columns.iter().map(column).collect::<Vec<_>>().join(", ")
    };
    let capture = dialect.quote(&capture_table(&table.name));
    Ask::select(&format!("SELECT op, {}, {} FROM {capture} ORDER BY seq", side("o"), side("n")))
}

fn change_of(table: &Table, row: Vec<Option<String>>) -> Result<RowChange, SqlError> {
    let mut cells = row.into_iter();
    let op = cells.next().flatten().unwrap_or_default();
    let mut side = |there: bool| -> Result<Option<Vec<Value>>, SqlError> {
        let texts: Vec<Option<String>> = cells.by_ref().take(table.columns.len()).collect();
        if !there {
            return Ok(None);
        }
        row_of(table, &texts).map(Some)
    };
    let before = side(op != "i")?;
    let after = side(op != "d")?;
    Ok(RowChange { table: table.name.clone(), before, after })
}

/// A row as an engine gave it.
pub(super) fn row_of(table: &Table, texts: &[Option<String>]) -> Result<Vec<Value>, SqlError> {
    let value = |(column, text): (&crate::table::Column, &Option<String>)| {
        let Some(text) = text else { return Ok(Value::Null) };
        if matches!(column.kind, Kind::Bytes { .. }) && text == TOO_LONG {
            let message = format!(
                "{}.{}: longer than an entry of the log may be; split the value",
                table.name, column.name
            );
            return Err(Failure::refused("54000", message).into());
        }
        Value::of_text(column.kind, text).map_err(|unfit| {
            let message = format!("{}.{}: {unfit}", table.name, column.name);
            SqlError::from(Failure::refused("22000", message))
        })
    };
    table.columns.iter().zip(texts).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_were_written_and_not_captured_are_missed() {
        let map = |pairs: &[(&str, i64)]| -> BTreeMap<String, i64> {
            pairs.iter().map(|(table, rows)| ((*table).to_owned(), *rows)).collect()
        };
        let missed =
            |before, after, captured| super::missed(&map(before), &map(after), &map(captured));
        let captured = &[("account", 2), ("other", 0)];
        assert_eq!(missed(&[], &[("account", 2), ("_ledger_cap_account", 2)], captured), None);
        assert_eq!(missed(&[("account", 5)], &[("account", 7)], captured), None);
        assert_eq!(missed(&[], &[("account", 3)], captured).as_deref(), Some("table account"));
        assert_eq!(missed(&[], &[("other", 1)], captured).as_deref(), Some("table other"));
        assert_eq!(missed(&[], &[("strangers", 1)], captured).as_deref(), Some("table strangers"));
        assert_eq!(missed(&[("strangers", 1)], &[("strangers", 1)], captured), None);
        assert!(missed(&[], &[("_ledger_state", 1)], captured).is_some());
    }

    #[test]
    fn what_was_taken_back_counts_as_captured_where_it_was_captured() {
        let map = |pairs: &[(&str, i64)]| -> BTreeMap<String, i64> {
            pairs.iter().map(|(table, rows)| ((*table).to_owned(), *rows)).collect()
        };
        let before = map(&[("account", 1), ("_ledger_cap_account", 1)]);
        let after = map(&[("account", 4), ("_ledger_cap_account", 4)]);
        let counts = captures_written(&before, &after, ["account".to_owned()].into_iter());
        assert_eq!(missed(&before, &after, &counts), None);
        let hidden = map(&[("account", 4), ("_ledger_cap_account", 2)]);
        let counts = captures_written(&before, &hidden, ["account".to_owned()].into_iter());
        assert_eq!(missed(&before, &hidden, &counts).as_deref(), Some("table account"));
    }
}
