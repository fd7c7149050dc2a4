//! What commands ask of a ledger, and what they are answered: by the program that runs it, or in their own process.

use std::collections::BTreeMap;
use std::time::Duration;

use herdsman_ledger::engine::request::random_request;
use herdsman_ledger::engine::{Committed, Condition, RequestError, Verified};
use herdsman_ledger::node::{self, Engine, Room, SqlError};
use herdsman_ledger::table::TableChange;
use herdsman_ledger::{Offset, RequestId, Value};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::door::{self, Unanswered};
use super::keeper::{Keeper, NotKept};
use super::lock::{self, Lock};
use super::status::Status;
use super::target::Setup;
use super::upkeep::{self, Upkeep, Upkept};
use crate::exit::{Exit, Failed};

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    Status,
    Sql(Sql),
    Verify { within: Duration },
    Skip { offset: u64 },
    Upkeep(Upkeep),
}

/// A transaction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Sql {
    /// Where it is run; who answers chooses where it is not said.
    pub(super) node: Option<String>,
    pub(super) request: String,
    pub(super) statements: Vec<String>,
    /// Of the one statement, where there is one.
    #[serde(default)]
    pub(super) params: Vec<String>,
    /// Whether what was committed elsewhere need not be seen.
    pub(super) stale: bool,
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Status(Status),
    Sql(Done),
    Verified(Verdict),
    Skipped(u64),
    Upkept(Upkept),
    Failed(Refusal),
}

/// A transaction that has committed, or has only read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) node: String,
    /// Its place in the log; none where it changed nothing.
    pub(super) entry: Option<u64>,
    /// Whether as many nodes have it as the configuration asks for.
    pub(super) acknowledged: bool,
    /// Of each statement; none of one that changed a table.
    pub(super) results: Vec<Told>,
}

/// What a statement answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) affected: u64,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Option<String>>>,
}

/// What nodes hold at one place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Verdict {
    pub(super) entry: u64,
    /// Whether all nodes were looked at, and hold the same.
    pub(super) alike: bool,
    pub(super) tables: Vec<TableSums>,
    /// Nodes that could not be looked at, and why.
    pub(super) absent: BTreeMap<String, String>,
}

/// What each node holds of a table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TableSums {
    pub(super) table: String,
    pub(super) alike: bool,
    /// By node; none where it has no such table.
    pub(super) nodes: BTreeMap<String, Option<Sum>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sum {
    pub(super) rows: u64,
    pub(super) sum: String,
}

/// Why something was not done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    /// Whether the ledger, and not the request, is to blame.
    pub(super) unavailable: bool,
    pub(super) message: String,
}

/// A command that found the program that runs just beginning or ending tries again for so long.
const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(50);
/// All that a node holds may be much.
const WHOLE_NODE: Duration = Duration::from_secs(24 * 60 * 60);

/// Has it done by the program that runs the ledger; where there is none, here.
///
/// # Errors
/// Nobody can do it, or it was refused.
pub(super) async fn ask(setup: &Setup, request: &Request) -> Result<Answer, Failed> {
    let deadline = Instant::now() + PATIENCE;
    let answer = loop {
        match door::call(&setup.socket, request, limit(setup, request)).await {
            Ok(answer) => break answer,
            Err(Unanswered::Nobody) => {}
            Err(Unanswered::Broken(why)) => return Err(lost(setup, request, &why)),
        }
        if let Some(_lock) = Lock::take(&setup.socket)? {
            tracing::debug!("nobody runs the ledger: it is done here");
            let keeper = Keeper::start(setup).await.map_err(|error| match error {
                NotKept::Yet(problem) => Exit::Unavailable.with(problem),
                NotKept::Ever(failed) => failed,
            })?;
            break Box::pin(answer(&keeper, request.clone())).await;
        }
        if Instant::now() >= deadline {
            return Err(Exit::Unavailable.with(format!(
                "another program has {} and does not answer at {}",
                lock::place(&setup.socket).display(),
                setup.socket.display()
            )));
        }
        tokio::time::sleep(AGAIN).await;
    };
    match answer {
        Answer::Failed(Refusal { unavailable, message }) => {
            Err(if unavailable { Exit::Unavailable } else { Exit::Failure }.with(message))
        }
        answer => Ok(answer),
    }
}

/// How long an answer may take: each of its parts has a limit of its own.
fn limit(setup: &Setup, request: &Request) -> Duration {
    let deadline = setup.config.deadline;
    match request {
        Request::Status => Duration::from_secs(30),
        Request::Verify { within } => deadline + *within + PATIENCE,
        Request::Sql(_) | Request::Skip { .. } => deadline * 4 + PATIENCE,
        Request::Upkeep(Upkeep::Fence { .. } | Upkeep::Trim { .. }) => deadline * 4 + PATIENCE,
        Request::Upkeep(_) => WHOLE_NODE,
    }
}

/// It was asked, and no answer came.
fn lost(setup: &Setup, request: &Request, why: &str) -> Failed {
    let place = setup.socket.display();
    match request {
        Request::Sql(sql) => Exit::Failure.with(format!(
            "the program at {place} gave no answer ({why}): it is not known whether the transaction committed (SQLSTATE \
             08007); the same command with `--request {}` says so, and does nothing twice",
            sql.request
        )),
        _ => Exit::Unavailable.with(format!("the program at {place} gave no answer: {why}")),
    }
}

/// Does it here.
pub(super) async fn answer(keeper: &Keeper, request: Request) -> Answer {
    let done = match request {
        Request::Status => return Answer::Status(super::status::of(keeper).await),
        Request::Sql(sql) => self::sql(keeper, &sql).await.map(Answer::Sql),
        Request::Verify { within } => verify(keeper, within).await.map(Answer::Verified),
        Request::Skip { offset } => {
            keeper.all_started().await;
            let skipped = keeper.ledger.skip(Offset(offset)).await;
            return told(skipped.map(|at| Answer::Skipped(at.0)));
        }
        Request::Upkeep(upkeep) => {
            return told(upkeep::perform(keeper, upkeep).await.map(Answer::Upkept));
        }
    };
    done.unwrap_or_else(|error| Answer::Failed(refusal(&error)))
}

/// What is about a node: it is there, and is not as it should be.
fn told(done: Result<Answer, RequestError>) -> Answer {
    done.unwrap_or_else(|error| {
        Answer::Failed(match error {
            RequestError::Node(node, why) => {
                Refusal { unavailable: false, message: format!("{node}: {why}") }
            }
            error => refusal(&error),
        })
    })
}

async fn sql(keeper: &Keeper, sql: &Sql) -> Result<Done, RequestError> {
    let request = RequestId::parse(&sql.request).unwrap_or_else(random_request);
    let node = keeper.choose(sql.node.as_deref()).await?;
    let refused = |state: &str, message: String| {
        RequestError::from(SqlError::Refused { state: state.to_owned(), message })
    };
    let values: Result<Vec<_>, _> = sql.params.iter().map(Value::text).collect();
    let values = values.map_err(|unfit| refused("22021", unfit.to_string()))?;
    let statements: Vec<_> =
        sql.statements.iter().map(|text| node::Sql { text, values: &values }).collect();
    let ledger = &keeper.ledger;
    let mut changes = Vec::new();
    for statement in &statements {
        changes.extend(TableChange::of_sql(statement.text)?);
    }
    let done = match (changes.pop(), statements.as_slice()) {
        (Some(_), [_]) if !values.is_empty() => {
            let message = "a statement that changes a table has no parameters";
            return Err(refused("08P01", message.to_owned()));
        }
        (Some(change), [_]) => ledger.define(&node, request, change).await,
        (Some(_), _) => {
            let message =
                "a statement that changes a table stands alone: it is a transaction of its own";
            return Err(refused("25001", message.to_owned()));
        }
        (None, statements) => {
            if !sql.stale {
                ledger.barrier(&node).await.map_err(|error| keeper.with_trouble(&node, error))?;
            }
            ledger.execute_with(&node, request, statements, Room::unlimited()).await
        }
    };
    let Committed { at, answers, acknowledged, again: _ } =
        done.map_err(|error| keeper.with_trouble(&node, error))?;
    let result = |it: herdsman_ledger::node::Answer| Told {
        affected: it.affected,
        columns: it.columns,
        rows: it.rows,
    };
    let results = answers.into_iter().map(result).collect();
    Ok(Done { node, entry: at.map(|at| at.0), acknowledged, results })
}

async fn verify(keeper: &Keeper, within: Duration) -> Result<Verdict, RequestError> {
    keeper.all_started().await;
    keeper.ledger.verify(within).await.map(verdict)
}

fn verdict(verified: Verified) -> Verdict {
    let mut tables: BTreeMap<String, BTreeMap<String, Option<Sum>>> = BTreeMap::new();
    for (node, sums) in &verified.nodes {
        for (table, sum) in sums {
            let [first, second] = sum.sum;
            let sum = Sum { rows: sum.rows, sum: format!("{first:032x}{second:032x}") };
            let nodes = tables.entry(table.clone()).or_insert_with(|| {
                verified.nodes.keys().map(|node| (node.clone(), None)).collect()
            });
            nodes.insert(node.clone(), Some(sum));
        }
    }
    let tables = tables.into_iter().map(|(table, nodes)| {
        let first = nodes.values().next();
        TableSums { table, alike: nodes.values().all(|sum| Some(sum) == first), nodes }
    });
    let alike = verified.alike() && verified.absent.is_empty();
    Verdict { entry: verified.at.0, alike, tables: tables.collect(), absent: verified.absent }
}

fn refusal(error: &RequestError) -> Refusal {
    let unavailable = matches!(
        error,
        RequestError::Node(..) | RequestError::NotTaken(_) | RequestError::Sql(SqlError::Node(_))
    );
    let state = error.sqlstate();
    let message = match error {
        RequestError::Refused(state) => {
            format!("{} (SQLSTATE {state})", meaning(state).unwrap_or("every node refuses it"))
        }
        RequestError::Unknown(request) => format!(
            "it is not known whether the transaction committed (SQLSTATE {state}); the same command with `--request {request}` \
             says so, and does nothing twice"
        ),
        error => error.to_string(),
    };
    let told = message.contains(state);
    Refusal {
        unavailable,
        message: if told { message } else { format!("{message} (SQLSTATE {state})") },
    }
}

/// What a refusal means that every node decides alike.
fn meaning(state: &str) -> Option<&'static str> {
    Some(match state {
        "42P01" => "there is no such table",
        "42P07" => "there is a table of that name already",
        "42701" => "the table has a column of that name already",
        "42P16" => "not every engine can hold such a table",
        _ => return None,
    })
}

impl Keeper {
    /// Waits until each node has been asked where it is, or until the deadline.
    pub(super) async fn all_started(&self) {
        let deadline = Instant::now() + self.config.deadline;
        let starting =
            || self.ledger.status().iter().any(|(_, _, it)| it.condition == Condition::Starting);
        while starting() && Instant::now() < deadline {
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The node that was asked for; else one that follows the log, of the engine whose dialect most people write.
    pub(super) async fn choose(&self, wanted: Option<&str>) -> Result<String, RequestError> {
        let deadline = Instant::now() + self.config.deadline;
        loop {
            let status = self.ledger.status();
            let condition = |it: &str| {
                status.iter().find(|(name, ..)| name == it).map(|(_, _, it)| &it.condition)
            };
            let starting = || status.iter().any(|(_, _, it)| it.condition == Condition::Starting);
            let chosen = match wanted {
                Some(name) if condition(name) != Some(&Condition::Starting) => {
                    return Ok(name.to_owned());
                }
                Some(_) => None,
                None if starting() => None,
                None => best(self.ledger.serving()),
            };
            if let Some(chosen) = chosen {
                return Ok(chosen);
            }
            if Instant::now() >= deadline || (wanted.is_none() && !starting()) {
                let why = "no node follows the log; `herdsman ledger status` says why".to_owned();
                return Err(RequestError::Node(wanted.unwrap_or("any").to_owned(), why));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// With what is wrong with the node, where it did not come so far.
    fn with_trouble(&self, node: &str, error: RequestError) -> RequestError {
        let status = self.ledger.status();
        let condition =
            status.iter().find(|(name, ..)| name == node).map(|(_, _, it)| &it.condition);
        match (error, condition) {
            (RequestError::Node(name, why), Some(Condition::Troubled(trouble))) => {
                RequestError::Node(name, format!("{why}: {trouble}"))
            }
            (error, _) => error,
        }
    }
}

/// Of these the one whose engine most people write for.
fn best(serving: Vec<(String, Engine)>) -> Option<String> {
    let rank = |engine: Engine| match engine {
        Engine::Postgres => 0,
        Engine::MariaDb => 1,
        Engine::Sqlite => 2,
    };
    let best = serving.into_iter().min_by_key(|(name, engine)| (rank(*engine), name.clone()));
    best.map(|(name, _)| name)
}

#[cfg(test)]
mod tests;
