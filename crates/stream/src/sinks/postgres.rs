//! The same tables on another PostgreSQL server, exactly once: how far the sink is stands in the same transaction as the
//! rows.
//!
//! # How it keeps its word
//! - A batch is one transaction, and its first statement moves the position and thereby locks it. A session of ours that
//!   was given up but still lives at the server either commits before the next one begins or not at all.
//! - Where the connection was lost during `COMMIT`, the number of the batch that the server has after reconnecting tells
//!   whether it was committed. What the position covers is never applied again.
//! - A row that the server will never take is rejected alone; everything else of its batch is committed with the
//!   position, and the row itself is kept in `rejected` beside the position, so that a crash before the dead letter is
//!   written loses nothing.
//! - What is wrong with a table rather than with a row (it is missing, a column is, a permission is) stops the sink until
//!   somebody mends it.
//!
//! Batches without a position (replays of dead letters) are applied whatever the position says, and leave it.

mod apply;
mod catalogue;
mod config;
mod fault;
mod group;
mod ledger;
mod pipeline;
mod plan;
mod session;
mod tables;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use herdsman_node::{Conninfo, Tls};
use herdsman_wal::{Change, Kind};
use tokio::sync::Mutex;

pub use config::{Attempt, Mode, OnSchemaChange, PostgresConfig};

use crate::sink::{Batch, DeliveryError, Order, Position, Sink, SinkError, Undelivered, Why};
use fault::sink_error;
use ledger::Ledger;
use session::Session;

/// Bound on saying goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// The sink.
#[derive(Debug)]
pub struct PostgresSink {
    settings: Arc<Settings>,
    state: Mutex<State>,
}

/// What does not change while it runs.
#[derive(Debug)]
struct Settings {
    name: String,
    info: Conninfo,
    tls: Tls,
    config: PostgresConfig,
    target: String,
}

#[derive(Debug)]
struct State {
    session: Option<Session>,
    ledger: Ledger,
}

impl PostgresSink {
    /// Builds the sink called `name`; nothing is opened yet. The name is what its position is stored under.
    ///
    /// # Errors
    /// [`SinkError`] where settings do not go together, or a password or certificate they name cannot be read.
    pub fn new(name: &str, config: &PostgresConfig) -> Result<Self, SinkError> {
        let wrong = |problem: String| SinkError {
            what: "set up",
            target: format!("sink `{name}`"),
            problem,
            advice: "correct its settings below `stream.sinks`",
            reopen: false,
        };
        let info = config.conninfo().map_err(wrong)?;
        config.check_tables().map_err(wrong)?;
        let tls = Tls::new(&info).map_err(|error| wrong(error.to_string()))?;
        let target = format!("PostgreSQL at {}/{}", info.endpoint(), info.dbname);
        let settings =
            Settings { name: name.to_owned(), info, tls, config: config.clone(), target };
        let writer = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let state = State { session: None, ledger: Ledger::new(writer) };
        Ok(Self { settings: Arc::new(settings), state: Mutex::new(state) })
    }

    async fn open_session(&self) -> Result<Option<Position>, SinkError> {
        let mut state = self.state.lock().await;
        state.session = None;
        let (session, stored) = Session::open(&self.settings).await?;
        state.ledger.reopened(stored);
        state.session = Some(session);
        Ok(state.ledger.position())
    }

    async fn deliver_batch(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let mut state = self.state.lock().await;
        // Taken out while it works: if this future is dropped, the session goes with it, in the middle of whatever it was
        // at, and the next delivery begins with `open`.
        let Some(mut session) = state.session.take() else {
            return Err(DeliveryError::Unavailable(sink_error(
                &self.settings.target,
                "deliver to",
                "there is no connection".to_owned(),
                "it will be made again",
                true,
            )));
        };
        let outcome = deliver_in(&mut session, &mut state.ledger, batch).await;
        match outcome {
            Ok(rejected) => {
                state.session = Some(session);
                if rejected.is_empty() { Ok(()) } else { Err(DeliveryError::Partly(rejected)) }
            }
            Err(error) => {
                if !error.reopen {
                    state.session = Some(session);
                }
                Err(DeliveryError::Unavailable(error))
            }
        }
    }
}

/// Delivers what has not been delivered and returns what the server will never take.
async fn deliver_in(
    session: &mut Session,
    ledger: &mut Ledger,
    batch: &Batch,
) -> Result<Vec<Undelivered>, SinkError> {
    if let Some(known) = ledger.outcome_of(batch) {
        return Ok(undelivered(session, known));
    }
    if let Some(first) = batch.changes.first() {
        ledger.check_source(&first.source).map_err(|problem| session.other_source(problem))?;
    }
    let work = ledger.remaining(batch);
    let mut rejected = work.rejected_before;
    if !work.indexes.is_empty() || ledger.moves(batch) {
        let new = apply::apply(session, ledger, batch, &work.indexes).await?;
        rejected.extend(new);
        rejected.sort_by_key(|(index, _)| *index);
    }
    Ok(undelivered(session, rejected))
}

fn undelivered(session: &Session, rejected: Vec<(usize, String)>) -> Vec<Undelivered> {
    let why = |problem| Why::Rejected(session.rejected(problem));
    rejected.into_iter().map(|(index, problem)| Undelivered { index, why: why(problem) }).collect()
}

#[async_trait]
impl Sink for PostgresSink {
    async fn open(&self) -> Result<Option<Position>, SinkError> {
        Box::pin(self.open_session()).await
    }

    async fn deliver(&self, batch: &Batch) -> Result<(), DeliveryError> {
        Box::pin(self.deliver_batch(batch)).await
    }

    async fn close(&self) {
        if let Some(session) = self.state.lock().await.session.take() {
            session.close(GOODBYE).await;
        }
    }

    fn order(&self) -> Order {
        Order::Total
    }
}

/// Whether the change is a row of a snapshot, which has no place in the order of commits.
fn is_read(change: &Change) -> bool {
    change.kind() == Kind::Read
}
