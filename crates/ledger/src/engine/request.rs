//! A client's request, from its statements to the word it gets.

mod settling;

use std::time::Duration;

use tokio::time::Instant;
use tracing::{Instrument as _, field::Empty};

use super::{Committed, Condition, Ledger, Member, RequestError, waiting::Word};
use crate::{
    Offset, RequestId,
    entry::{Attempt, Entry, TooLarge},
    log::Unavailable,
    node::{Captured, Native, Room, Sql, SqlError, Transaction},
    replica::Outcome,
    table::TableChange,
    writes::claims,
};

/// How long who was beaten waits, at most and times the attempt, so that not all come back at once.
const BREATH_MS: u64 = 10;

/// A request's id, chosen at random.
#[must_use]
pub fn random_request() -> RequestId {
    RequestId(fastrand::u128(..).to_be_bytes())
}

impl Ledger {
    /// Runs a transaction of the given statements at a node and commits it. Beaten by others, it is run again.
    ///
    /// `scanned` are the tables that no other transaction may have changed meanwhile, also where this one has only read
    /// them: SERIALIZABLE. Without them it is snapshot isolation.
    ///
    /// # Errors
    /// See [`RequestError`]; but for [`RequestError::Unknown`] nothing was changed. Changes that take more than
    /// [`ENTRY_BYTES_MOST`](crate::entry::ENTRY_BYTES_MOST) (8 MiB: the rows before and after) are refused with SQLSTATE
    /// 54000 before they reach the log.
    pub async fn execute(
        &self,
        node: &str,
        request: RequestId,
        statements: &[&str],
        scanned: &[&str],
    ) -> Result<Committed, RequestError> {
        let statements = plain(statements);
        self.transact(node, request, Script::of(&statements), Reads::Tables(scanned)).await
    }

    /// As [`Ledger::execute`] without `scanned`, of statements with values, and with room for what they return.
    ///
    /// # Errors
    /// As of [`Ledger::execute`]; and with SQLSTATE 08P01 or 42P18 where values and parameters do not match.
    pub async fn execute_with(
        &self,
        node: &str,
        request: RequestId,
        statements: &[Sql<'_>],
        room: Room,
    ) -> Result<Committed, RequestError> {
        self.transact(node, request, Script { statements, room }, Reads::Tables(&[])).await
    }

    /// As [`Ledger::execute`], SERIALIZABLE: no other transaction may have changed, since this one's snapshot, any table of
    /// the ledger that its statements name. One that changes nothing itself has read the data as they were at one place
    /// in the log, and is serializable there.
    ///
    /// A view or function hides which tables it reads; a transaction that uses one names them itself, in
    /// [`Ledger::execute`]'s `scanned`.
    ///
    /// # Errors
    /// As of [`Ledger::execute`].
    pub async fn execute_serializable(
        &self,
        node: &str,
        request: RequestId,
        statements: &[&str],
    ) -> Result<Committed, RequestError> {
        let statements = plain(statements);
        self.transact(node, request, Script::of(&statements), Reads::Named).await
    }

    /// As those who collect spans see it: where it ran, how it ended, and nothing of what it said.
    async fn transact(
        &self,
        node: &str,
        request: RequestId,
        script: Script<'_>,
        reads: Reads<'_>,
    ) -> Result<Committed, RequestError> {
        let span = tracing::debug_span!(
            target: "otel",
            "ledger transaction",
            herdsman.node = node,
            herdsman.statements = script.statements.len(),
            herdsman.offset = Empty,
            otel.status_code = Empty,
        );
        let running = Box::pin(self.run_until_it_commits(node, request, script, reads));
        let outcome = running.instrument(span.clone()).await;
        match &outcome {
            Ok(Committed { at: Some(at), .. }) => {
                span.record("herdsman.offset", tracing::field::display(at));
            }
            Ok(_) => {}
            Err(_) => {
                span.record("otel.status_code", "ERROR");
            }
        }
        outcome
    }

    async fn run_until_it_commits(
        &self,
        node: &str,
        request: RequestId,
        script: Script<'_>,
        reads: Reads<'_>,
    ) -> Result<Committed, RequestError> {
        let deadline = Instant::now() + self.shared.settings.deadline;
        let mut seat = self.shared.waiting.sit(request);
        let attempts = self.shared.settings.attempts;
        for number in 1..=attempts {
            let member = self.healthy(node)?;
            let Ok(Ok(turn)) = tokio::time::timeout_at(deadline, member.running.acquire()).await
            else {
                let why = "others run there, and have not ended in time; try again";
                return Err(RequestError::Node(node.to_owned(), why.to_owned()));
            };
            let ran = member.node.run(script.statements, script.room).await;
            drop(turn);
            match ran {
                Ok((answers, captured)) => {
                    if captured.rows.is_empty() {
                        return Ok(Committed { answers, ..read_only() });
                    }
                    let entry = entry_of(Attempt { request, number }, captured, reads)?;
                    let word = self
                        .settle(
                            &mut seat,
                            Some(node),
                            &entry,
                            Attempt { request, number },
                            deadline,
                        )
                        .await?;
                    if let Some((at, again)) = committed(word)? {
                        let acknowledged = self.acknowledged(node, at, deadline).await;
                        return Ok(Committed { at: Some(at), answers, acknowledged, again });
                    }
                }
                Err(SqlError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
            if Instant::now() >= deadline {
                return Err(RequestError::Conflict { attempts: number });
            }
            let breath = fastrand::u64(0..=BREATH_MS.saturating_mul(u64::from(number)));
            tokio::time::sleep(Duration::from_millis(breath)).await;
        }
        Err(RequestError::Conflict { attempts })
    }

    /// Begins a transaction whose statements come one by one. It is committed by [`Ledger::commit`].
    ///
    /// # Errors
    /// The node is not fit, or does not begin one.
    pub async fn begin(&self, node: &str) -> Result<Box<dyn Transaction>, RequestError> {
        Ok(self.healthy(node)?.node.begin().await?)
    }

    /// Commits a transaction that was begun at this node. Beaten by others, it is for the client to run it again.
    ///
    /// # Errors
    /// See [`RequestError`]; but for [`RequestError::Unknown`] nothing was changed.
    pub async fn commit(
        &self,
        node: &str,
        request: RequestId,
        transaction: Box<dyn Transaction>,
        scanned: &[&str],
    ) -> Result<Committed, RequestError> {
        self.commit_reading(node, request, transaction, Reads::Tables(scanned)).await
    }

    /// As [`Ledger::commit`], SERIALIZABLE as of [`Ledger::execute_serializable`].
    ///
    /// # Errors
    /// As of [`Ledger::commit`].
    pub async fn commit_serializable(
        &self,
        node: &str,
        request: RequestId,
        transaction: Box<dyn Transaction>,
    ) -> Result<Committed, RequestError> {
        self.commit_reading(node, request, transaction, Reads::Named).await
    }

    async fn commit_reading(
        &self,
        node: &str,
        request: RequestId,
        transaction: Box<dyn Transaction>,
        reads: Reads<'_>,
    ) -> Result<Committed, RequestError> {
        let captured = transaction.capture().await?;
        self.commit_changes(node, request, captured, reads).await
    }

    /// A client's own connection to a node, in PostgreSQL's protocol. What its transactions have changed is committed by
    /// [`Ledger::commit_captured`].
    ///
    /// # Errors
    /// The node is not fit, or is of an engine that does not speak it (SQLSTATE 0A000).
    pub async fn native(&self, node: &str) -> Result<Box<dyn Native>, RequestError> {
        let native = self.healthy(node)?.node.native().await?;
        native.ok_or_else(|| refused("0A000", format!("node {node:?} is no PostgreSQL server")))
    }

    /// As [`Ledger::commit`], of what was captured already; `serializable` as of [`Ledger::commit_serializable`].
    ///
    /// # Errors
    /// As of [`Ledger::commit`].
    pub async fn commit_captured(
        &self,
        node: &str,
        request: RequestId,
        captured: Captured,
        serializable: bool,
    ) -> Result<Committed, RequestError> {
        let reads = if serializable { Reads::Named } else { Reads::Tables(&[]) };
        self.commit_changes(node, request, captured, reads).await
    }

    async fn commit_changes(
        &self,
        node: &str,
        request: RequestId,
        captured: Captured,
        reads: Reads<'_>,
    ) -> Result<Committed, RequestError> {
        let deadline = Instant::now() + self.shared.settings.deadline;
        if captured.rows.is_empty() {
            return Ok(read_only());
        }
        let mut seat = self.shared.waiting.sit(request);
        let entry = entry_of(Attempt { request, number: 1 }, captured, reads)?;
        let word = self
            .settle(&mut seat, Some(node), &entry, Attempt { request, number: 1 }, deadline)
            .await?;
        let Some((at, again)) = committed(word)? else {
            return Err(RequestError::Conflict { attempts: 1 });
        };
        let acknowledged = self.acknowledged(node, at, deadline).await;
        Ok(Committed { at: Some(at), answers: Vec::new(), acknowledged, again })
    }

    /// Changes a table, on every node.
    ///
    /// # Errors
    /// See [`RequestError`]; but for [`RequestError::Unknown`] nothing was changed.
    pub async fn define(
        &self,
        node: &str,
        request: RequestId,
        change: TableChange,
    ) -> Result<Committed, RequestError> {
        let deadline = Instant::now() + self.shared.settings.deadline;
        if let TableChange::Create(table) = &change {
            table.check().map_err(|unfit| refused("42P16", unfit.to_string()))?;
        }
        let mut seat = self.shared.waiting.sit(request);
        let attempts = self.shared.settings.attempts;
        for number in 1..=attempts {
            let base = self.healthy(node)?.status.borrow().applied;
            let attempt = Attempt { request, number };
            let entry = Entry::Define { attempt, base, change: change.clone() };
            let word = self
                .settle(&mut seat, Some(node), &entry, Attempt { request, number }, deadline)
                .await?;
            if let Some((at, again)) = committed(word)? {
                let acknowledged = self.acknowledged(node, at, deadline).await;
                return Ok(Committed { at: Some(at), answers: Vec::new(), acknowledged, again });
            }
        }
        Err(RequestError::Conflict { attempts })
    }

    /// Waits until a node has everything that was committed before this was called: what it then reads is linearizable.
    ///
    /// # Errors
    /// The log or the node does not answer in time.
    pub async fn barrier(&self, node: &str) -> Result<Offset, RequestError> {
        let deadline = Instant::now() + self.shared.settings.deadline;
        let request = random_request();
        let mut seat = self.shared.waiting.sit(request);
        let entry = Entry::Barrier { attempt: Attempt { request, number: 1 } };
        let word =
            self.settle(&mut seat, None, &entry, Attempt { request, number: 1 }, deadline).await?;
        self.reached(node, word.at, deadline.saturating_duration_since(Instant::now())).await?;
        Ok(word.at)
    }

    /// Calls a request off, so that it never commits any more, however often it is tried; unless it has committed already.
    /// `Some` says where.
    ///
    /// # Errors
    /// [`RequestError::Unknown`] if the log or the nodes do not say in time; [`RequestError::Refused`] if every node had
    /// refused it before.
    pub async fn call_off(&self, request: RequestId) -> Result<Option<Offset>, RequestError> {
        let deadline = Instant::now() + self.shared.settings.deadline;
        let mut seat = self.shared.waiting.sit(request);
        let word = self
            .settle(
                &mut seat,
                None,
                &Entry::Cancel { request },
                Attempt { request, number: 0 },
                deadline,
            )
            .await?;
        match committed(word) {
            Ok(at) => Ok(at.map(|(at, _)| at)),
            Err(RequestError::Cancelled) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where the log ends: the place of the next entry.
    ///
    /// # Errors
    /// The log does not answer.
    pub async fn end(&self) -> Result<Offset, Unavailable> {
        self.shared.log.end().await
    }

    /// An operator's word that an entry which no node can apply is to be passed over by all.
    ///
    /// # Errors
    /// A node has applied it, or the log does not take the word.
    pub async fn skip(&self, target: Offset) -> Result<Offset, RequestError> {
        for member in &self.shared.members {
            if member.status.borrow().applied >= target {
                let why = format!("it has applied entry {target}, which can be skipped no more");
                return Err(RequestError::Node(member.node.name().to_owned(), why));
            }
        }
        let body = self.encode(&Entry::Skip { target })?;
        self.shared
            .log
            .append(body)
            .await
            .map_err(|error| RequestError::NotTaken(error.to_string()))
    }

    /// A node that may be asked.
    pub(super) fn healthy(&self, name: &str) -> Result<&Member, RequestError> {
        let member = self.shared.member(name)?;
        let status = member.status.borrow();
        match &status.condition {
            Condition::Fenced(why) => Err(RequestError::Node(name.to_owned(), why.clone())),
            Condition::Starting => {
                Err(RequestError::Node(name.to_owned(), "it is starting".to_owned()))
            }
            Condition::Troubled(why) if status.driven => {
                Err(RequestError::Node(name.to_owned(), why.clone()))
            }
            Condition::Following | Condition::Troubled(_) => Ok(member),
        }
    }

    pub(super) fn encode(&self, entry: &Entry) -> Result<Vec<u8>, RequestError> {
        let too_large = |error: TooLarge| refused("54000", error.to_string());
        entry.encode(self.shared.genesis.log).map_err(too_large)
    }
}

/// A transaction's statements, and how much of what they return is kept.
#[derive(Clone, Copy)]
struct Script<'s> {
    statements: &'s [Sql<'s>],
    room: Room,
}

impl<'s> Script<'s> {
    fn of(statements: &'s [Sql<'s>]) -> Self {
        Self { statements, room: Room::unlimited() }
    }
}

fn plain<'s>(statements: &[&'s str]) -> Vec<Sql<'s>> {
    statements.iter().map(|text| Sql::from(*text)).collect()
}

/// What a transaction has read that others may not have changed.
#[derive(Clone, Copy)]
enum Reads<'r> {
    /// These tables.
    Tables(&'r [&'r str]),
    /// Every table that its statements named.
    Named,
}

fn entry_of(attempt: Attempt, captured: Captured, reads: Reads<'_>) -> Result<Entry, RequestError> {
    let Captured { base, catalogue, rows, named } = captured;
    let scanned: Vec<String> = match reads {
        Reads::Tables(tables) => tables.iter().map(|it| (*it).to_owned()).collect(),
        Reads::Named => named,
    };
    let claims =
        claims(&rows, &scanned, &catalogue).map_err(|unfit| refused("42P01", unfit.to_string()))?;
    Ok(Entry::Write { attempt, base, claims, rows })
}

/// One that changed nothing.
fn read_only() -> Committed {
    Committed { at: None, answers: Vec::new(), acknowledged: true, again: false }
}

/// Where it committed, and whether it had before; `None` if it may try again.
fn committed(word: Word) -> Result<Option<(Offset, bool)>, RequestError> {
    match word.outcome {
        Outcome::Committed => Ok(Some((word.at, false))),
        Outcome::Duplicate(of) => Ok(Some((of, true))),
        Outcome::Conflict => Ok(None),
        Outcome::Cancelled => Err(RequestError::Cancelled),
        Outcome::Refused(state) => {
            Err(RequestError::Refused(String::from_utf8_lossy(&state).into_owned()))
        }
        // A request under the id of something that was no transaction.
        Outcome::Noted | Outcome::Skipped => Err(RequestError::Refused("XX000".to_owned())),
    }
}

fn refused(state: &str, message: String) -> RequestError {
    SqlError::Refused { state: state.to_owned(), message }.into()
}
