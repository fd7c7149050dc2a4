//! A whole transaction in one go.

use std::{collections::BTreeSet, sync::Arc};

use super::{Begun, Running, Seat, changes::ending};
use crate::{
    Value,
    node::{
        Answer, Captured, NodeError, Sql, SqlError,
        dialect::{Ask, Dialect, Session as _, next_rows},
        driver::{Shared, keep},
        session::Told,
        statement,
    },
};

/// A whole transaction at once, where everything can be said before the first answer is there: what the tables are is
/// known, and no statement gives rows. `None` where it has to be run step by step; nothing has happened then.
pub(in crate::node::driver) async fn at_once<D: Dialect>(
    shared: &Arc<Shared<D>>,
    statements: &[Sql<'_>],
) -> Result<Option<(Vec<Answer>, Captured)>, SqlError> {
    let dialect = &shared.dialect;
    let Some(known) = shared.tables.known() else { return Ok(None) };
    let plain = |sql: &Sql<'_>| {
        // Of bytes it has to be known that they are wanted.
        dialect.is_plain_change(sql.text, !sql.values.is_empty())
            && !sql.values.iter().any(|value| matches!(value, Value::Bytes(_)))
    };
    if !statements.iter().all(plain) {
        return Ok(None);
    }
    let mut named = BTreeSet::new();
    for sql in statements {
        // Why not, is said in its place.
        let Ok(said) = statement::check(sql.text, dialect.engine(), &known.catalogue) else {
            return Ok(None);
        };
        if statement::place(sql.text, sql.values, dialect.engine()).is_err() {
            return Ok(None);
        }
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
    asks.extend(
        statements.iter().map(|sql| Ask::Statement(sql.text.to_owned(), sql.values.to_owned())),
    );
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
