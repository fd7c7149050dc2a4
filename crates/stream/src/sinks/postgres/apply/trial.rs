//! Piece by piece: what the server refuses is halved until the one row is found.

use std::ops::Range;

use tokio_postgres::Statement;

use super::{Beginning, Bound, NOT_THERE, Rejected, execute, finish, record, run};
use crate::sink::Batch;
use crate::sinks::postgres::fault::Fault;
use crate::sinks::postgres::group::{Group, Item, Step, whole_row};
use crate::sinks::postgres::ledger::{Commit, Ledger};
use crate::sinks::postgres::pipeline::Request;
use crate::sinks::postgres::plan::Shape;
use crate::sinks::postgres::session::Session;

/// Applies each step so that it can be undone alone, and commits what could be applied.
pub(super) async fn piecewise(
    session: &mut Session,
    ledger: &mut Ledger,
    batch: &Batch,
    mut commit: Commit,
    (steps, statements): (&[Step<'_>], &[Option<Statement>]),
    immediate: bool,
) -> Result<(), Fault> {
    let beginning = Beginning::new(session, ledger, batch, &commit);
    let mut requests = beginning.requests(session);
    if immediate {
        requests.push(execute(session, "SET CONSTRAINTS ALL IMMEDIATE"));
    }
    Beginning::check(&run(session, requests).await?)?;
    drop(beginning);
    for (step, statement) in steps.iter().zip(statements) {
        match (step, statement) {
            (Step::Rows(group), Some(statement)) => {
                let rejected = Box::pin(halve(session, batch, group, statement)).await?;
                commit.reject(rejected);
            }
            (Step::Truncate { index, .. }, _) => {
                let bound = Bound::new(step, statement);
                let outcome = tried(session, bound.request(session), |_| Ok(())).await?;
                commit.reject(outcome.err().map(|problem| (*index, problem)));
            }
            (Step::Rows(_), None) => {}
        }
    }
    let record = record::Rejections::new(session, batch, commit.rejected());
    if let Some(request) = record.request(session) {
        run(session, vec![request]).await?;
    }
    finish(session, ledger, commit).await
}

/// Applies a group, in halves where it is refused.
async fn halve(
    session: &mut Session,
    batch: &Batch,
    group: &Group<'_>,
    statement: &Statement,
) -> Result<Vec<Rejected>, Fault> {
    let mut rejected = Vec::new();
    let mut ranges: Vec<Range<usize>> = Vec::new();
    ranges.push(0..group.rows.len());
    while let Some(range) = ranges.pop() {
        let Some(rows) = group.rows.get(range.clone()).filter(|rows| !rows.is_empty()) else {
            continue;
        };
        let Err(problem) = part(session, group, statement, rows).await? else { continue };
        if let [row] = rows {
            let problem = if problem == NOT_THERE {
                insert_instead(session, batch, group, row).await?.err()
            } else {
                Some(problem)
            };
            rejected.extend(problem.map(|problem| (row.index, problem)));
            continue;
        }
        let middle = range.start + rows.len() / 2;
        // The first half is on top: the order within a table stays.
        ranges.push(middle..range.end);
        ranges.push(range.start..middle);
    }
    Ok(rejected)
}

async fn part(
    session: &Session,
    group: &Group<'_>,
    statement: &Statement,
    rows: &[Item<'_>],
) -> Result<Result<(), String>, Fault> {
    let bound = Bound::of_rows(statement, &group.shape, rows);
    let count = rows.len();
    tried(session, bound.request(session), |found| {
        if group.shape.must_find() && found != count as u64 {
            return Err(NOT_THERE.to_owned());
        }
        Ok(())
    })
    .await
}

/// The row of an update is not there: the whole of it is written, where the change tells it.
async fn insert_instead(
    session: &mut Session,
    batch: &Batch,
    group: &Group<'_>,
    row: &Item<'_>,
) -> Result<Result<(), String>, Fault> {
    let change = batch.changes.get(row.index);
    let Some(item) = change.and_then(|change| whole_row(&group.plan, change, row.index)) else {
        return Ok(Err(NOT_THERE.to_owned()));
    };
    let (client, tables) = (&session.client, &mut session.tables);
    let statement = tables.statement(client, &group.plan, &Shape::Upsert).await?;
    let rows = [item];
    let bound = Bound::of_rows(&statement, &Shape::Upsert, &rows);
    tried(session, bound.request(session), |_| Ok(())).await
}

/// Runs a request that can be undone, and undoes it where it is refused. The inner result says why.
async fn tried(
    session: &Session,
    request: Request<'_>,
    check: impl FnOnce(u64) -> Result<(), String>,
) -> Result<Result<(), String>, Fault> {
    const NAME: &str = "herdsman";
    let savepoint = format!("SAVEPOINT {NAME}");
    let outcome = match run(session, vec![execute(session, &savepoint), request]).await {
        Ok(answers) => check(answers.into_iter().nth(1).and_then(Result::ok).unwrap_or(0)),
        Err(Fault::Data(problem) | Fault::Structure(problem)) => Err(problem),
        Err(fault) => return Err(fault),
    };
    let end = match outcome {
        Ok(()) => format!("RELEASE {NAME}"),
        Err(_) => format!("ROLLBACK TO {NAME}; RELEASE {NAME}"),
    };
    run(session, vec![execute(session, &end)]).await?;
    Ok(outcome)
}
