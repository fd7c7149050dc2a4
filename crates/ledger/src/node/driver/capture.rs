//! Running a client's transaction, to see what it would change.

mod at_once;
mod changes;

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;

pub(super) use at_once::at_once;
pub(super) use changes::row_of;
use changes::{counts_of, ending};

use super::{Shared, guard, notes, tables::Known};
use crate::{
    Offset,
    node::{
        Answer, Captured, NodeError, Room, Sql, SqlError, Transaction,
        dialect::{Ask, Dialect, Failure, Session as _, next_rows},
        session::Rows,
        statement,
    },
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
        let said = statement::check(sql.text, dialect.engine(), &self.known.catalogue)?;
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
}
