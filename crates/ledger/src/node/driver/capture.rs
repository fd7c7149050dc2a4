//! Running a client's transaction, to see what it would change.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;

use super::{Shared, guard, keep, notes, tables::Known};
use crate::{
    Offset, Value,
    node::{
        Answer, Captured, NodeError, SqlError, Transaction,
        dialect::{Ask, Dialect, Failure, Session as _, TOO_LONG, capture_table, next_rows},
        session::{Rows, Told},
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
    known: Arc<Known>,
    /// What the session had written before, of transactions that are over; none where the engine does not tell.
    written: Vec<i64>,
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
    let known = shared.tables.known();
    let mut asks: Vec<Ask> = begins.iter().copied().map(Ask::command).collect();
    // In the snapshot of the data: a place read outside of it would let updates be lost.
    asks.push(Ask::select(known.as_ref().map_or(notes::PLACE, |it| &it.place)));
    // Nobody has to wait for it up to here; on SQLite, whoever does waits until the seat is taken.
    let mut told = session.together(asks).await.all()?.skip(begins.len());
    let number = shared.clients.enter(shared.dialect.handle(&session));
    let seat = Seat { shared, number };
    let begun = Begun::of(&next_rows(&mut told), &seat.shared.token)?;
    let (known, written) = match known.filter(|it| begun.fits(it)) {
        Some(known) => (known, begun.written),
        None => {
            let Shared { dialect, tables, .. } = &*seat.shared;
            let known = tables.learn(&begun.place, dialect, &mut session).await?;
            let again = session.select(&known.place, &[]).await?;
            (known, Begun::of(&again, &seat.shared.token)?.written)
        }
    };
    Ok(Running {
        session,
        seat,
        base: begun.place.applied,
        known,
        written,
        named: BTreeSet::new(),
        affected: 0,
        failed: false,
        taken_back: false,
    })
}

/// What a transaction is told at its beginning.
struct Begun {
    place: notes::Place,
    newest: Option<String>,
    written: Vec<i64>,
}

impl Begun {
    /// The node is to be ours, and fit.
    fn of(rows: &Rows, token: &str) -> Result<Self, SqlError> {
        let place = notes::place_of(rows)?;
        guard::check(place.guard.as_ref(), token)?;
        if let Some(why) = place.fenced {
            return Err(NodeError::Diverged(why).into());
        }
        let more = rows.first().and_then(|row| row.get(notes::PLACE_COLUMNS..));
        let (newest, written) = match more {
            Some([newest, written]) => (newest.clone(), counts_of(written.as_deref())),
            _ => (None, Vec::new()),
        };
        Ok(Self { place, newest, written })
    }

    fn fits(&self, known: &Known) -> bool {
        known.fits(&self.place, self.newest.as_deref())
    }
}

/// A whole transaction at once, where everything can be said before the first answer is there: what the tables are is
/// known, and no statement gives rows. `None` where it has to be run step by step; nothing has happened then.
pub(super) async fn at_once<D: Dialect>(
    shared: &Arc<Shared<D>>,
    statements: &[&str],
) -> Result<Option<(Vec<Answer>, Captured)>, SqlError> {
    let dialect = &shared.dialect;
    let Some(known) = shared.tables.known() else { return Ok(None) };
    if statements.iter().any(|sql| !dialect.is_plain_change(sql)) {
        return Ok(None);
    }
    let mut named = BTreeSet::new();
    for sql in statements {
        // Why not, is said in its place.
        let Ok(said) = statement::check(sql, dialect.engine(), &known.catalogue) else {
            return Ok(None);
        };
        named.extend(said.named);
    }
    // Whether the log waits for it is known from its first lock on.
    let idle = shared.idle_pipelines().pop();
    let session = match idle {
        Some(session) => Some(session),
        None => dialect.connect_pipeline().await?,
    };
    let Some(mut session) = session else { return Ok(None) };
    let number = shared.clients.enter(dialect.handle(&session));
    let seat = Seat { shared: Arc::clone(shared), number };
    let begins = dialect.begin_snapshot();
    let mut asks: Vec<Ask> = begins.iter().copied().map(Ask::command).collect();
    asks.push(Ask::select(&known.place));
    asks.extend(statements.iter().map(|sql| Ask::Statement((*sql).to_owned())));
    asks.extend(ending(None, &known, dialect));
    let mut told = match session.together(asks).await.all() {
        Ok(told) => told.skip(begins.len()),
        Err(failure) => match seat.told(failure.into()) {
            // A connection that waited too long, perhaps; step by step it is tried again.
            SqlError::Node(NodeError::Environmental(_)) => {
                shared.idle_pipelines().clear();
                return Ok(None);
            }
            error => return Err(error),
        },
    };
    let begun = Begun::of(&next_rows(&mut told), &shared.token)?;
    let affected: Vec<u64> = told
        .by_ref()
        .take(statements.len())
        .map(|it| if let Told::Changed(rows) = it { rows } else { 0 })
        .collect();
    if !begun.fits(&known) {
        // It has been rolled back.
        if !shared.clients.leave(number) {
            keep(&mut shared.idle_pipelines(), session);
        }
        return Ok(None);
    }
    let running = Running {
        session,
        seat,
        base: begun.place.applied,
        known,
        written: begun.written,
        named,
        affected: affected.iter().sum(),
        failed: false,
        taken_back: false,
    };
    let captured = running.changes_of(told).map_err(|error| running.seat.told(error))?;
    let (captured, session) = running.end(captured)?;
    if let Some(session) = session {
        keep(&mut shared.idle_pipelines(), session);
    }
    let answers = affected.into_iter().map(|affected| Answer { affected, ..Answer::default() });
    Ok(Some((answers.collect(), captured)))
}

/// What is asked at the end of a transaction, which is then rolled back.
fn ending<D: Dialect>(before: Option<&str>, known: &Known, dialect: &D) -> Vec<Ask> {
    let mut asks: Vec<Ask> = before.into_iter().map(Ask::command).collect();
    match dialect.captured_at_once() {
        Some(_) => asks.push(Ask::select(&known.captured)),
        None => asks.extend(known.catalogue.0.values().map(|it| changes_in(dialect, it))),
    }
    asks.push(Ask::command("ROLLBACK"));
    // Outside of the snapshot: nothing goes to the log from who has lost the node.
    asks.push(Ask::select(notes::GUARD));
    asks
}

#[async_trait]
impl<D: Dialect> Transaction for Running<D> {
    fn base(&self) -> Offset {
        self.base
    }

    async fn run(&mut self, sql: &str) -> Result<Answer, SqlError> {
        if self.failed {
            // As PostgreSQL has it; the others would go on after an error, each in its way.
            let message = "the transaction failed, and nothing more can be run in it";
            return Err(self.seat.told(Failure::refused("25P02", message).into()));
        }
        self.failed = true;
        let dialect = &self.seat.shared.dialect;
        let said = statement::check(sql, dialect.engine(), &self.known.catalogue)?;
        let session = &mut self.session;
        let answer = async {
            dialect.check_calls(session, &said.calls).await?;
            session.statement(sql).await
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
        let (captured, session) = self.finish(None).await?;
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
        let said = statement::check(sql, dialect.engine(), &self.known.catalogue)?;
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

    /// What it would change; `before` is said before it is asked. The session, if it may be used again.
    pub(super) async fn finish(
        mut self,
        before: Option<&str>,
    ) -> Result<(Captured, Option<D::Session>), SqlError> {
        let asks = ending(before, &self.known, &self.seat.shared.dialect);
        let told = self.session.together(asks).await.all();
        let told = told.map_err(SqlError::from);
        let captured = told
            .and_then(|told| self.changes_of(told.skip(usize::from(before.is_some()))))
            .map_err(|error| self.seat.told(error))?;
        self.end(captured)
    }

    fn end(self, captured: Vec<RowChange>) -> Result<(Captured, Option<D::Session>), SqlError> {
        let Self { seat, session, base, known, named, .. } = self;
        let catalogue = Arc::clone(&known.catalogue);
        let rows = fold(captured, &catalogue)
            .map_err(|unfit| Failure::refused("22000", unfit.to_string()))?;
        let session = (!seat.shared.clients.leave(seat.number)).then_some(session);
        Ok((Captured { base, catalogue, rows, named: named.into_iter().collect() }, session))
    }

    /// What was captured, as of the answers to [`ending`].
    fn changes_of(&self, mut told: impl Iterator<Item = Told>) -> Result<Vec<RowChange>, SqlError> {
        let catalogue = &self.known.catalogue;
        let mut captured = Vec::new();
        let mut written = Vec::new();
        if self.seat.shared.dialect.captured_at_once().is_some() {
            for row in next_rows(&mut told) {
                let mut cells = row.into_iter();
                for line in cells.next().flatten().unwrap_or_default().lines() {
                    captured.push(change_of_line(catalogue, line)?);
                }
                written = counts_of(cells.next().flatten().as_deref());
            }
        } else {
            for table in catalogue.0.values() {
                for row in next_rows(&mut told) {
                    captured.push(change_of_row(table, &row)?);
                }
            }
        }
        let guard = notes::guard_of(&next_rows(&mut told.skip(1)));
        guard::check(guard.as_ref(), &self.seat.shared.token)?;
        let missed = if self.known.relations.is_empty() {
            (captured.is_empty() && self.affected > 0).then(|| "a table".to_owned())
        } else {
            let changed = self.written.iter().zip(&written).map(|(before, after)| after - before);
            let relations = self.known.relations.iter().map(String::as_str);
            missed(relations.zip(changed), catalogue, &captured, self.taken_back)
        };
        let Some(table) = missed else { return Ok(captured) };
        let message = format!(
            "the transaction changed {table} in a way that was not captured: it does not belong to the ledger, or its changes were hidden; only the ledger's tables can be changed through it"
        );
        Err(Failure::refused("0A000", message).into())
    }
}

/// A table of which more rows were written than captured. What was taken back was written, too, and is captured no more:
/// then only strangers can be told.
fn missed<'r>(
    written: impl Iterator<Item = (&'r str, i64)>,
    catalogue: &Catalogue,
    captured: &[RowChange],
    taken_back: bool,
) -> Option<String> {
    let most = |table: &str| {
        if taken_back && catalogue.0.contains_key(table) {
            return i64::MAX;
        }
        let rows = captured.iter().filter(|it| it.table == table).count();
        i64::try_from(rows).unwrap_or(i64::MAX)
    };
    let mut beyond = written.filter(|(table, rows)| *rows > 0 && *rows > most(table));
    beyond.next().map(|(table, _)| format!("table {table}"))
}

/// Rows by relation, as of [`Counts`](crate::node::dialect::Counts).
fn counts_of(text: Option<&str>) -> Vec<i64> {
    let text = text.unwrap_or_default().trim_matches(['{', '}']);
    text.split(',').map(|it| it.parse().unwrap_or_default()).collect()
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

/// A row of a capture table.
fn change_of_row(table: &Table, row: &[Option<String>]) -> Result<RowChange, SqlError> {
    let (op, cells) = row.split_first().ok_or_else(unreadable)?;
    let (before, after) = cells.split_at_checked(table.columns.len()).ok_or_else(unreadable)?;
    let op = op.as_deref().unwrap_or_default();
    let side = |there: bool, cells| there.then(|| row_of(table, cells)).transpose();
    let (before, after) = (side(op != "i", before)?, side(op != "d", after)?);
    Ok(RowChange { table: table.name.clone(), before, after })
}

/// A line of what was captured at once.
fn change_of_line(catalogue: &Catalogue, line: &str) -> Result<RowChange, SqlError> {
    let cells: Vec<Option<String>> = serde_json::from_str(line).map_err(|_| unreadable())?;
    let [Some(table), Some(op), cells @ ..] = cells.as_slice() else { return Err(unreadable()) };
    let table = catalogue.0.get(table).ok_or_else(unreadable)?;
    let before = if op == "i" { 0 } else { table.columns.len() };
    let (before, after) = cells.split_at_checked(before).ok_or_else(unreadable)?;
    let side = |there: bool, cells: &[Option<String>]| match cells.len() {
        0 if !there => Ok(None),
        columns if there && columns == table.columns.len() => row_of(table, cells).map(Some),
        _ => Err(unreadable()),
    };
    let (before, after) = (side(op != "i", before)?, side(op != "d", after)?);
    Ok(RowChange { table: table.name.clone(), before, after })
}

fn unreadable() -> SqlError {
    NodeError::Environmental("what its triggers have captured cannot be read".to_owned()).into()
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
    use crate::table::Column;

    fn catalogue() -> Catalogue {
        let column = |name: &str, kind| Column { name: name.to_owned(), kind, nullable: true };
        let table = Table {
            name: "account".to_owned(),
            columns: vec![column("id", Kind::Int64), column("name", Kind::Text { max: None })],
            key: vec![0],
            uniques: Vec::new(),
            references: Vec::new(),
        };
        Catalogue([(table.name.clone(), table)].into())
    }

    #[test]
    fn lines_give_the_rows_before_and_after() {
        let of = |line: &str| change_of_line(&catalogue(), line).map(|it| (it.before, it.after));
        let row = |id, name: &str| Some(vec![Value::Int(id), Value::Text(name.to_owned())]);
        assert_eq!(of(r#"["account","i","1","a\n\"b"]"#), Ok((None, row(1, "a\n\"b"))));
        assert_eq!(of(r#"["account","u","1","a","2","b"]"#), Ok((row(1, "a"), row(2, "b"))));
        let null = Some(vec![Value::Int(1), Value::Null]);
        assert_eq!(of(r#"["account","d","1",null]"#), Ok((null, None)));
        for bad in [
            r#"["account","u","1","a"]"#,
            r#"["account","i","1"]"#,
            r#"["account","d","1","a","2","b"]"#,
            r#"["other","d","1","a"]"#,
            r#"["account"]"#,
            "[",
        ] {
            assert_eq!(of(bad), Err(unreadable()), "{bad}");
        }
    }

    #[test]
    fn rows_that_were_written_and_not_captured_are_missed() {
        let change = change_of_line(&catalogue(), r#"["account","i","1","a"]"#).unwrap();
        let missed = |written: &[(&str, i64)], captured: usize, taken_back| {
            let captured = vec![change.clone(); captured];
            super::missed(written.iter().copied(), &catalogue(), &captured, taken_back)
        };
        assert_eq!(missed(&[("account", 2), ("other", 0)], 2, false), None);
        assert_eq!(missed(&[("account", 3)], 2, false).as_deref(), Some("table account"));
        assert_eq!(
            missed(&[("account", 1), ("other", 1)], 1, false).as_deref(),
            Some("table other")
        );
        assert_eq!(
            missed(&[("_ledger_state", 1)], 1, false).as_deref(),
            Some("table _ledger_state")
        );
        assert_eq!(missed(&[("account", 3)], 1, true), None, "two were taken back");
        assert_eq!(missed(&[("other", 1)], 1, true).as_deref(), Some("table other"));
        assert_eq!(counts_of(Some("{1,0,7}")), [1, 0, 7]);
    }
}
