//! Doing what a request asks for, so that a second time does no harm.
//!
//! A write has the id of its message. However often it is done – by two programs, or once more after one was killed before
//! it had answered – it commits once: the log says so. One that fails is called off in the log before that is told, so that
//! no other try of it commits later.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use herdsman_node::Backoff;
use tokio::time::{Instant, timeout_at};

use super::{
    answer::{self, Done, Fault, READ_BYTES_MOST, ROWS_MOST},
    message::{Asked, Read, Topic, only_reads},
};
use crate::{
    Offset,
    engine::{Committed, Ledger, RequestError, Settings},
    node::{Engine, Room, Sql, SqlError},
    table::TableChange,
};

/// Trouble of nodes and of the log is waited for.
const AGAIN: Backoff =
    Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(2) };
/// The longest error that is told; some engines repeat the statement in it.
const MESSAGE_CHARS_MOST: usize = 2000;

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct From {
    pub(super) topic: Topic,
    /// Its place in the topic; in that of the log, its entry.
    pub(super) at: Offset,
    /// What the same client's earlier requests have made.
    pub(super) seen: Offset,
}

/// Does requests at a ledger.
pub(super) struct Performer {
    ledger: Ledger,
    settings: Settings,
    turn: AtomicUsize,
}

/// What a request is, by its statements.
enum Work {
    Read,
    Write,
    Define(TableChange),
}

/// Why it is not done, and what is known of it.
enum Failure {
    /// For sure not by this try.
    Fault(Fault),
    /// A node's or the log's, or a statement's.
    Error(Option<String>, RequestError),
}

impl std::convert::From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Performer {
    pub(super) fn new(ledger: Ledger, settings: Settings) -> Self {
        Self { ledger, settings, turn: AtomicUsize::new(0) }
    }

    /// Does it, or says why not.
    pub(super) async fn perform(&self, asked: &Asked, from: From) -> Result<Done, Fault> {
        let work = work(asked, from.topic)?;
        let writes = !matches!(work, Work::Read);
        // Whatever it waits for has this deadline itself; twice that is more than any of it takes.
        let deadline = Instant::now() + self.settings.deadline * 2;
        let mut failures = 0_u32;
        let failure = loop {
            let tried = timeout_at(deadline, self.attempt(asked, from, &work)).await;
            let failure = match tried {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(failure)) => failure,
                Err(_) if writes => {
                    Failure::Error(None, RequestError::Unknown(asked.ids.request()))
                }
                Err(_) => {
                    let why = format!("not answered within {:?}", self.settings.deadline * 2);
                    Fault::new("57014", why).into()
                }
            };
            failures = failures.saturating_add(1);
            let pause = AGAIN.pause(failures, fastrand::f64());
            if !is_passing(&failure) || Instant::now() + pause >= deadline {
                break failure;
            }
            tokio::time::sleep(pause).await;
        };
        match failure {
            Failure::Fault(fault) => Err(fault),
            Failure::Error(node, error) if writes && is_open(&error) => {
                self.call_off(asked, node, &error).await
            }
            Failure::Error(node, error) => Err(fault(node, &error)),
        }
    }

    async fn attempt(&self, asked: &Asked, from: From, work: &Work) -> Result<Done, Failure> {
        let node = self.choose(asked, matches!(work, Work::Read))?;
        let failed = |error| Failure::Error(Some(node.clone()), error);
        self.freshen(asked, from, &node).await?;
        if !matches!(work, Work::Read) {
            self.expect_recent(from, &node)?;
        }
        let statements = asked.text.statements();
        let request = asked.ids.request();
        let done = match work {
            Work::Read => return self.read(&node, &statements).await,
            Work::Write => {
                let room = Room::keeping(ROWS_MOST, READ_BYTES_MOST);
                self.ledger.execute_with(&node, request, &statements, room).await
            }
            Work::Define(change) => self.ledger.define(&node, request, change.clone()).await,
        };
        let Committed { at, answers, acknowledged, again } = done.map_err(failed)?;
        let at = match at {
            Some(at) => Some((at, again)),
            // Nothing to change: because it has been done already, or because there is nothing. The log knows.
            None => self.ledger.call_off(request).await.map_err(failed)?.map(|at| (at, true)),
        };
        let (at, again) = at.map_or((None, false), |(at, again)| (Some(at), again));
        let offset = at.unwrap_or(from.at).max(from.seen);
        let behind = !acknowledged;
        let node = Some(node.clone());
        Ok(Done { node, offset: Some(offset), answers, wrote: true, again, behind })
    }

    /// Runs it without writing anything, as often as the log ends the transaction for its own sake.
    async fn read(&self, node: &str, statements: &[Sql<'_>]) -> Result<Done, Failure> {
        let failed = |error: RequestError| Failure::Error(Some(node.to_owned()), error);
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.read_once(node, statements).await {
                Err(RequestError::Sql(SqlError::Conflict(_)))
                    if attempts < self.settings.attempts => {}
                Err(error) => return Err(failed(error)),
                Ok(Some(done)) => return Ok(done),
                Ok(None) => {
                    let why = "the request would write; what writes goes to the topic of the log";
                    let fault = Fault { node: Some(node.to_owned()), ..Fault::new("25006", why) };
                    return Err(fault.into());
                }
            }
        }
    }

    /// `None` if it would have written.
    async fn read_once(
        &self,
        node: &str,
        statements: &[Sql<'_>],
    ) -> Result<Option<Done>, RequestError> {
        let mut transaction = self.ledger.begin(node).await?;
        let offset = transaction.base();
        let mut room = Room::stopping_at(ROWS_MOST, READ_BYTES_MOST);
        let mut answers = Vec::with_capacity(statements.len());
        for sql in statements {
            let told = transaction.run_with(*sql, &mut room).await;
            let bounded = |error| if room.is_full() { answer::with_bounds(error) } else { error };
            answers.push(told.map_err(bounded)?);
        }
        let captured = transaction.capture().await?;
        let node = Some(node.to_owned());
        let done = Done { node, offset: Some(offset), answers, ..Done::default() };
        Ok(captured.rows.is_empty().then_some(done))
    }

    /// A node that follows the log: the one that was asked for; else of the engine whose dialect most people write. Reads
    /// take turns among those.
    fn choose(&self, asked: &Asked, read: bool) -> Result<String, Failure> {
        let status = self.ledger.status();
        if let Some(wanted) = &asked.node {
            if status.iter().any(|(name, ..)| name == wanted) {
                return Ok(wanted.clone());
            }
            let names: Vec<_> = status.iter().map(|(name, ..)| name.as_str()).collect();
            let why = format!("there is no such node here, expected one of {}", names.join(", "));
            return Err(Fault::new("42704", why).into());
        }
        let serving = self.ledger.serving();
        let best = serving.iter().map(|(_, engine)| rank(*engine)).min();
        let equal: Vec<_> =
            serving.iter().filter(|(_, engine)| Some(rank(*engine)) == best).collect();
        let turn = if read { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let chosen = turn.checked_rem(equal.len()).and_then(|at| equal.get(at));
        chosen.map(|(name, _)| name.clone()).ok_or_else(|| {
            let why = "no node follows the log".to_owned();
            Failure::Error(None, RequestError::Node("any".to_owned(), why))
        })
    }

    /// Waits until the node has what the request is to see.
    async fn freshen(&self, asked: &Asked, from: From, node: &str) -> Result<(), Failure> {
        let failed = |error| Failure::Error(Some(node.to_owned()), error);
        let after = asked.after.unwrap_or_default();
        let least = match (from.topic, asked.read) {
            // Everything before it in the log had committed before it, and nothing else had.
            (Topic::All, _) => {
                expect_known(after, from.at)?;
                from.at.max(from.seen)
            }
            (Topic::One, Read::Eventual) => return Ok(()),
            (Topic::One, Read::Session) => {
                self.expect_reachable(after, node).await?;
                after.max(from.seen)
            }
            (Topic::One, Read::Linearizable) => {
                self.ledger.barrier(node).await.map_err(failed)?;
                return Ok(());
            }
        };
        self.ledger.reached(node, least, self.settings.deadline).await.map_err(failed)
    }

    /// A place that the log does not have yet would be waited for in vain.
    async fn expect_reachable(&self, after: Offset, node: &str) -> Result<(), Failure> {
        if after <= self.applied(node) {
            return Ok(());
        }
        match self.ledger.end().await {
            Ok(end) => Ok(expect_known(after.next(), end)?),
            Err(error) => {
                let error = RequestError::Node(node.to_owned(), error.to_string());
                Err(Failure::Error(Some(node.to_owned()), error))
            }
        }
    }

    /// Ids are remembered for a window of entries. Of an older request it cannot be said any more whether it was done.
    fn expect_recent(&self, from: From, node: &str) -> Result<(), Failure> {
        let genesis = self.ledger.genesis();
        // Half of it is left for what comes while it is done.
        let last = from.at.0.saturating_add(genesis.window / 2);
        if self.applied(node).0 <= last {
            return Ok(());
        }
        let why = "it came too long ago to be done now: it is not known whether it had been done before; look before sending \
                   it anew";
        Err(Fault::new("08007", why).into())
    }

    fn applied(&self, node: &str) -> Offset {
        let status = self.ledger.status();
        let found = status.iter().find(|(name, ..)| name == node);
        found.map_or(Offset::GENESIS, |(_, _, status)| status.applied)
    }

    /// Makes sure that a write which has failed never commits; unless another try of it has.
    async fn call_off(
        &self,
        asked: &Asked,
        node: Option<String>,
        error: &RequestError,
    ) -> Result<Done, Fault> {
        match self.ledger.call_off(asked.ids.request()).await {
            Ok(Some(at)) => {
                Ok(Done { node, offset: Some(at), wrote: true, again: true, ..Done::default() })
            }
            // Refused by every node: that is settled, too.
            Ok(None) | Err(RequestError::Refused(_)) => Err(fault(node, error)),
            Err(unknown) => Err(fault(node, &unknown)),
        }
    }
}

/// What is asked for, and whether the topic is for that.
fn work(asked: &Asked, topic: Topic) -> Result<Work, Fault> {
    let statements = asked.text.statements();
    let mut changes = Vec::new();
    for statement in &statements {
        let change = TableChange::of_sql(statement.text);
        changes.extend(change.map_err(|error| fault(None, &error.into()))?);
    }
    match (changes.pop(), statements.as_slice()) {
        (Some(_), _) if topic == Topic::One => {
            Err(Fault::new("25006", "what changes a table goes to the topic of the log"))
        }
        (Some(_), [one]) if !one.values.is_empty() => {
            Err(Fault::new("08P01", "a statement that changes a table has no parameters"))
        }
        (Some(change), [_]) => Ok(Work::Define(change)),
        (Some(_), _) => {
            let why =
                "a statement that changes a table stands alone: it is a transaction of its own";
            Err(Fault::new("25001", why))
        }
        // Whether it does read only is seen when it has run.
        (None, _) if topic == Topic::One => Ok(Work::Read),
        (None, all) if all.iter().all(|sql| only_reads(sql.text)) => Ok(Work::Read),
        (None, _) => Ok(Work::Write),
    }
}

fn expect_known(after: Offset, end: Offset) -> Result<(), Fault> {
    if after <= end {
        return Ok(());
    }
    Err(Fault::new(
        "22023",
        "`after` is not a place that the log has: it is of another log, or made up",
    ))
}

fn rank(engine: Engine) -> u8 {
    match engine {
        Engine::Postgres => 0,
        Engine::MariaDb => 1,
        Engine::Sqlite => 2,
    }
}

/// Whether another try may get over it. What had been tried is known not to have been done.
fn is_passing(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Error(
            _,
            RequestError::Node(..)
                | RequestError::NotTaken(_)
                | RequestError::Sql(SqlError::Node(_))
        )
    )
}

/// Whether the log has not said yet that the request has not committed, and will not.
fn is_open(error: &RequestError) -> bool {
    !matches!(error, RequestError::Cancelled | RequestError::Refused(_) | RequestError::Unknown(_))
}

fn fault(node: Option<String>, error: &RequestError) -> Fault {
    let message = match error {
        RequestError::Unknown(_) => {
            "it is not known whether the request committed: send it again under the same `messageId`, which says so and does \
             nothing twice"
                .to_owned()
        }
        RequestError::Cancelled => {
            "the request has failed before, or was called off; nothing was changed. A new try needs a new `messageId`"
                .to_owned()
        }
        error => error.to_string(),
    };
    let message = message.chars().take(MESSAGE_CHARS_MOST).collect();
    Fault { node, state: error.sqlstate().to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requests::message::read;

    fn asked(sql: &[&str]) -> Asked {
        let body = serde_json::json!({"messageId": "1", "statements": sql}).to_string();
        read(body.as_bytes()).unwrap()
    }

    #[test]
    fn what_a_request_is_depends_on_its_statements_and_its_topic() {
        let of = |sql: &[&str], topic| match work(&asked(sql), topic) {
            Ok(Work::Read) => "read".to_owned(),
            Ok(Work::Write) => "write".to_owned(),
            Ok(Work::Define(_)) => "define".to_owned(),
            Err(fault) => fault.state,
        };
        let table = "CREATE TABLE t (id bigint PRIMARY KEY)";
        let cases: [(&[&str], &str, &str); 6] = [
            (&["SELECT 1", "TABLE t"], "read", "read"),
            (&["SELECT 1", "DELETE FROM t"], "write", "read"),
            (&["WITH x AS (SELECT 1) SELECT * FROM x"], "write", "read"),
            (&[table], "define", "25006"),
            (&[table, "SELECT 1"], "25001", "25006"),
            (&["CREATE VIEW v AS SELECT 1"], "0A000", "0A000"),
        ];
        for (sql, all, one) in cases {
            assert_eq!(of(sql, Topic::All), all, "{sql:?}");
            assert_eq!(of(sql, Topic::One), one, "{sql:?}");
        }
    }

    #[test]
    fn a_change_of_a_table_takes_no_values() {
        let body = r#"{"messageId": "1", "sqlString": "DROP TABLE t", "params": [1]}"#;
        let refused = work(&read(body.as_bytes()).unwrap(), Topic::All);
        assert!(matches!(refused, Err(Fault { state, .. }) if state == "08P01"));
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_is_settled_is_not_called_off() {
        let of = |error| Failure::Error(None, error);
        let node = RequestError::Node("a".to_owned(), "down".to_owned());
        let sql = RequestError::Sql(SqlError::Refused {
            state: "23505".to_owned(),
            message: String::new(),
        });
        assert!(is_open(&node) && is_open(&sql) && !is_open(&RequestError::Cancelled));
        assert!(is_passing(&of(node)) && !is_passing(&of(sql)));
        assert!(!is_passing(&of(RequestError::Conflict { attempts: 3 })));
    }
}
