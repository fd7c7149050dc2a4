//! One batch, one transaction.

use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::config::Mode;
use super::fault::Fault;
use super::group::{Freedom, Group, Item, Step, Steps, steps};
use super::ledger::{Commit, Ledger};
use super::pipeline::{self, Request};
use super::plan::Shape;
use super::session::Session;
use crate::sink::{Batch, SinkError};

mod record;
mod trial;

/// How carefully a batch is applied: what is quick first, and what tells one bad row from the others after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Care {
    /// Everything at once; any refusal undoes all of it.
    Quick,
    /// Piece by piece, each of which can be undone.
    Pieces,
    /// And with deferred constraints checked at each piece, because they failed at the end.
    Immediate,
}

/// A change that was not taken, by its place in the batch, and why.
pub(super) type Rejected = (usize, String);

/// Applies these changes of the batch and commits them with the position. Returns those that will never be taken.
pub(super) async fn apply(
    session: &mut Session,
    ledger: &mut Ledger,
    batch: &Batch,
    indexes: &[usize],
) -> Result<Vec<Rejected>, SinkError> {
    let mut care = Care::Quick;
    let mut planned_again = false;
    loop {
        let outcome = Box::pin(attempt(session, ledger, batch, indexes, care)).await;
        let fault = match outcome {
            Ok(()) => return Ok(ledger.committed()),
            Err(fault) => fault,
        };
        let give_up = matches!(fault, Fault::Unavailable { .. }) || care == Care::Immediate;
        if give_up {
            // A transaction may be open, and the connection stays: only where nothing was begun.
            return Err(fault.into_sink_error(&session.settings.target));
        }
        ledger.failed();
        rollback(session).await.map_err(|f| f.into_sink_error(&session.settings.target))?;
        if matches!(fault, Fault::Structure(_)) && !planned_again {
            session.tables.forget();
            planned_again = true;
            continue;
        }
        care = if care == Care::Quick { Care::Pieces } else { Care::Immediate };
    }
}

async fn attempt(
    session: &mut Session,
    ledger: &mut Ledger,
    batch: &Batch,
    indexes: &[usize],
    care: Care,
) -> Result<(), Fault> {
    let config = session.settings.config.clone();
    if config.mode == Mode::Append {
        return append(session, ledger, batch, indexes).await;
    }
    session.tables.prepare(&session.client, &config, batch, indexes).await?;
    let quick = care == Care::Quick && session.as_replica;
    let freedom = if quick { Freedom::SameResult } else { Freedom::AsTheyCame };
    let Steps { steps, refused } = {
        let tables = &session.tables;
        steps(batch, indexes, freedom, |relation| tables.plan(relation))
    };
    let mut statements = Vec::with_capacity(steps.len());
    for step in &steps {
        statements.push(match step {
            Step::Rows(group) => {
                let (client, tables) = (&session.client, &mut session.tables);
                Some(tables.statement(client, &group.plan, &group.shape).await?)
            }
            Step::Truncate { .. } => None,
        });
    }
    let commit = ledger.commit_of(batch, refused);
    if care == Care::Quick {
        quickly(session, ledger, batch, commit, (&steps, &statements)).await
    } else {
        let immediate = care == Care::Immediate;
        trial::piecewise(session, ledger, batch, commit, (&steps, &statements), immediate).await
    }
}

/// All statements on their way at once, then the commit.
async fn quickly(
    session: &Session,
    ledger: &mut Ledger,
    batch: &Batch,
    commit: Commit,
    (steps, statements): (&[Step<'_>], &[Option<Statement>]),
) -> Result<(), Fault> {
    let beginning = Beginning::new(session, ledger, batch, &commit);
    let record = record::Rejections::new(session, batch, commit.rejected());
    let bound: Vec<Bound<'_>> =
        steps.iter().zip(statements).map(|(step, statement)| Bound::new(step, statement)).collect();
    let mut requests = beginning.requests(session);
    requests.extend(bound.iter().map(|bound| bound.request(session)));
    requests.extend(record.request(session));
    let answers = run(session, requests).await?;
    Beginning::check(&answers)?;
    for (step, answer) in steps.iter().zip(answers.iter().skip(Beginning::REQUESTS)) {
        if let (Step::Rows(group), Ok(count)) = (step, answer) {
            check_found(group, *count)?;
        }
    }
    finish(session, ledger, commit).await
}

/// Adds the changes to the list of changes.
async fn append(
    session: &Session,
    ledger: &mut Ledger,
    batch: &Batch,
    indexes: &[usize],
) -> Result<(), Fault> {
    let commit = ledger.commit_of(batch, Vec::new());
    let beginning = Beginning::new(session, ledger, batch, &commit);
    let entries = record::Entries::new(session, batch, indexes);
    let mut requests = beginning.requests(session);
    requests.push(entries.request(session));
    Beginning::check(&run(session, requests).await?)?;
    finish(session, ledger, commit).await
}

/// Commits. If no answer comes, the ledger knows that it is not known.
async fn finish(session: &Session, ledger: &mut Ledger, commit: Commit) -> Result<(), Fault> {
    ledger.begin(commit);
    let answers = run(session, vec![execute(session, "COMMIT")]).await?;
    drop(answers);
    Ok(())
}

/// What every transaction begins with: the position moves first, which locks it against any other session of this sink.
struct Beginning<'a> {
    parameters: Vec<Box<dyn ToSql + Sync + Send + 'a>>,
}

impl<'a> Beginning<'a> {
    const REQUESTS: usize = 2;

    fn new(session: &'a Session, ledger: &Ledger, batch: &Batch, commit: &Commit) -> Self {
        let position = commit.position;
        let timeline = batch.changes.first().map(|change| change.source.timeline.to_string());
        Self {
            parameters: vec![
                Box::new(session.settings.name.as_str()),
                Box::new(ledger.batches()),
                Box::new(position.map(|position| position.commit_lsn.to_string())),
                Box::new(position.map(|position| position.changes.to_string())),
                Box::new(position.and(commit.system_id.clone())),
                Box::new(position.and(timeline)),
                Box::new(ledger.writer().to_owned()),
            ],
        }
    }

    fn requests<'r>(&'r self, session: &'r Session) -> Vec<Request<'r>> {
        vec![
            execute(session, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"),
            prepared(session, &session.advance, &self.parameters),
        ]
    }

    fn check(answers: &[Result<u64, tokio_postgres::Error>]) -> Result<(), Fault> {
        match answers.get(1) {
            Some(Ok(1)) => Ok(()),
            _ => Err(Fault::Unavailable {
                problem: "another session has moved the sink's position meanwhile".to_owned(),
                advice: "run one stream with this sink's name at a time",
                reopen: true,
            }),
        }
    }
}

/// A step with its statement and parameters.
struct Bound<'a> {
    kind: BoundKind<'a>,
}

enum BoundKind<'a> {
    Rows(&'a Statement, Vec<Box<dyn ToSql + Sync + Send + 'a>>),
    Plain(&'a str),
    Nothing,
}

impl<'a> Bound<'a> {
    fn new(step: &'a Step<'a>, statement: &'a Option<Statement>) -> Self {
        let kind = match (step, statement) {
            (Step::Rows(group), Some(statement)) => {
                BoundKind::Rows(statement, parameters(&group.shape, &group.rows))
            }
            (Step::Truncate { sql, .. }, _) => BoundKind::Plain(sql),
            (Step::Rows(_), None) => BoundKind::Nothing,
        };
        Self { kind }
    }

    fn of_rows(statement: &'a Statement, shape: &Shape, rows: &'a [Item<'a>]) -> Self {
        Self { kind: BoundKind::Rows(statement, parameters(shape, rows)) }
    }

    fn request<'r>(&'r self, session: &'r Session) -> Request<'r> {
        match &self.kind {
            BoundKind::Rows(statement, parameters) => prepared(session, statement, parameters),
            BoundKind::Plain(sql) => execute(session, sql),
            BoundKind::Nothing => Box::pin(async { Ok(0) }),
        }
    }
}

/// The parameters of a statement: one list for each column, or the one row's values.
fn parameters<'a>(shape: &Shape, rows: &'a [Item<'a>]) -> Vec<Box<dyn ToSql + Sync + Send + 'a>> {
    let boxed = |value: Option<&'a str>| -> Box<dyn ToSql + Sync + Send + 'a> { Box::new(value) };
    let Some(first) = rows.first() else { return Vec::new() };
    if shape.is_single() {
        return first.values.iter().map(|value| boxed(*value)).collect();
    }
    let column = |n: usize| -> Box<dyn ToSql + Sync + Send + 'a> {
        let list: Vec<Option<&'a str>> =
            rows.iter().map(|row| row.values.get(n).copied().flatten()).collect();
        Box::new(list)
    };
    (0..first.values.len()).map(column).collect()
}

/// An update that finds no row would lose a change without a word.
fn check_found(group: &Group<'_>, count: u64) -> Result<(), Fault> {
    if group.shape.must_find() && count != group.rows.len() as u64 {
        return Err(Fault::Data(NOT_THERE.to_owned()));
    }
    Ok(())
}

const NOT_THERE: &str =
    "the row is not there, and the change does not tell all of it; take a snapshot of the table";

/// Runs requests; the first error that is not the consequence of another is returned.
async fn run(
    session: &Session,
    requests: Vec<Request<'_>>,
) -> Result<Vec<Result<u64, tokio_postgres::Error>>, Fault> {
    let limit = session.patience();
    let answers = pipeline::run(requests, limit)
        .await
        .map_err(|_| Fault::lost(format!("no answer came within {limit:?}")))?;
    let errors = || answers.iter().filter_map(|answer| answer.as_ref().err());
    let first = errors().find(|error| !Fault::is_aftermath(error)).or_else(|| errors().next());
    match first {
        Some(error) => Err(Fault::of(error)),
        None => Ok(answers),
    }
}

async fn rollback(session: &Session) -> Result<(), Fault> {
    run(session, vec![execute(session, "ROLLBACK")]).await.map(drop)
}

fn execute<'r>(session: &'r Session, sql: &'r str) -> Request<'r> {
    Box::pin(async move { session.client.batch_execute(sql).await.map(|()| 0) })
}

fn prepared<'r>(
    session: &'r Session,
    statement: &'r Statement,
    parameters: &'r [Box<dyn ToSql + Sync + Send + 'r>],
) -> Request<'r> {
    Box::pin(async move {
        let references = parameters.iter().map(|parameter| -> &(dyn ToSql + Sync) { &**parameter });
        session.client.execute_raw(statement, references).await
    })
}
