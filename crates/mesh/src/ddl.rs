//! Altering tables on all members at one agreed point of every stream.
//!
//! The statements are first run on every member and taken back: what cannot be is refused before anything waits. Then a row
//! in each member's `herdsman.ddl` asks whoever applies there to lock the tables against writers. Once that is done on all,
//! each goes on applying, in the transaction that holds the locks, until it has what all members had written by then:
//! nothing of these tables is under way any more. In the same transaction it runs the statements, and commits when all have
//! come that far. The decision is one row: the first member's. Who comes back after it makes up for it; who runs the job
//! may be lost at any time, and it is undone before the decision, and completed after it.

mod crew;
pub(crate) mod job;
mod newcomers;
mod refusals;
mod rehearsal;
pub(crate) mod watch;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use herdsman_node::NodeName;
use tokio::time::{Instant, sleep};

use crate::error::MeshError;
use crate::install;
use crate::setup::{Member, MemberState, Setup};
use crate::verify::session::members;
use crew::Crew;
use job::Job;
pub use job::JobState;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The statements, in order: all in one transaction.
    pub statements: Vec<String>,
    /// As whom they run; `None`: the owner of the mesh's tables, where they have one in common, else the mesh's login.
    pub role: Option<String>,
    /// How long it may take; nothing is changed where it does not succeed within it.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { statements: Vec::new(), role: None, timeout: Duration::from_secs(60) }
    }
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "stage")]
pub enum Progress {
    /// The statements are run and taken back.
    Rehearsing,
    /// The tables are being locked.
    Locking {
        /// The members that have not.
        waiting: Vec<String>,
        /// Which attempt it is, from 1.
        attempt: i32,
    },
    /// What was written before is applied, and the statements are run.
    Draining {
        /// The members that have not.
        waiting: Vec<String>,
    },
    /// It is decided.
    Committing {
        /// The members that have not.
        waiting: Vec<String>,
    },
}

/// What was done.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Altered {
    /// The job's number.
    pub id: i64,
    /// The mesh's tables that were locked.
    pub tables: Vec<String>,
    /// How many attempts it took to lock them and to come to the end.
    pub attempts: i32,
    /// How long it took.
    pub seconds: f64,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// How long the locks of the first attempt may take, while those that are had already are held; each further attempt has as
/// much more.
const LOCKING: Duration = Duration::from_secs(4);
/// How long all may take to commit what is decided.
const COMMITTING: Duration = Duration::from_secs(20);
/// How often it is looked how far the members are.
const POLL: Duration = Duration::from_millis(60);
/// Before another attempt: the writers' turn.
const TURN: Duration = Duration::from_millis(500);

/// Runs statements on all members.
///
/// # Errors
/// Nothing was changed: a member cannot be reached, the statements cannot be run or would leave tables that cannot be in a
/// mesh, or it did not succeed in time. Or it is decided, and a member that was lost on the way will make up for it: the
/// error says so.
pub async fn run(
    setup: &Arc<Setup>,
    options: &Options,
    mut tell: impl FnMut(&Progress),
) -> Result<Altered, MeshError> {
    let begun = Instant::now();
    refusals::no_ddl(&options.statements)?;
    let all = everybody(setup).await?;
    let mut sessions = Vec::new();
    for member in &all {
        let session = install::connect(setup, &member.name).await?;
        install::lock(&member.name, &session).await?;
        let reset = session.client().batch_execute("RESET search_path").await;
        reset.map_err(|error| job::failed(&member.name, "prepare the session", error))?;
        sessions.push((member.name.clone(), session));
    }
    crew::ready(&sessions).await?;
    tell(&Progress::Rehearsing);
    let role = options.role.as_deref();
    let rehearsal = rehearsal::rehearse(setup, &sessions, &options.statements, role);
    let rehearsed = within(options.timeout, Box::pin(rehearsal)).await?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let id = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
    let tables: Vec<String> = rehearsed.tables.iter().cloned().collect();
    let crew = Crew::new(id, all, sessions);
    let job = Job {
        id,
        statements: options.statements.clone(),
        role: rehearsed.role.clone(),
        before: rehearsed.before.clone(),
        after: Vec::new(),
        tables: tables.clone(),
        state: JobState::Wanted,
        round: 0,
        position: None,
        positions: std::collections::BTreeMap::new(),
        problem: None,
        is_late: false,
    };
    let until = begun + options.timeout;
    let outcome = async {
        crew.begin(&job, &rehearsed.after).await?;
        attempts(&crew, until, &mut tell).await
    };
    let attempts = match outcome.await {
        Ok(attempts) => attempts,
        Err(error) if crew.may_be_decided() => {
            return Err(MeshError::refused(
                format!("whether job {id} takes effect is not known: {error}"),
                format!(
                    "the members settle it among themselves; see `herdsman mesh status`, then run `herdsman mesh ddl --retry {id}`"
                ),
            ));
        }
        Err(error) => {
            crew.give_up(&error.to_string()).await;
            return Err(error);
        }
    };
    crew.spread_decision().await;
    finish(&crew, &mut tell).await?;
    Ok(Altered {
        id,
        tables,
        attempts,
        seconds: begun.elapsed().as_secs_f64(),
        notes: rehearsed.notes,
    })
}

/// Completes a job that is decided, or does one again that was given up.
///
/// # Errors
/// There is no such job, or as [`run`].
pub async fn retry(
    setup: &Arc<Setup>,
    id: i64,
    timeout: Duration,
    mut tell: impl FnMut(&Progress),
) -> Result<Altered, MeshError> {
    let begun = Instant::now();
    let all = everybody(setup).await?;
    let mut sessions = Vec::new();
    for member in &all {
        sessions.push((member.name.clone(), install::connect(setup, &member.name).await?));
    }
    let crew = Crew::new(id, all, sessions);
    let jobs = crew.jobs().await?;
    let Some((_, job)) = jobs.iter().find_map(|(node, job)| Some((node, job.as_ref()?))) else {
        return Err(MeshError::refused(
            format!("no member knows a job {id} of `mesh ddl`"),
            "see `SELECT id, state, statements FROM herdsman.ddl` on the members",
        ));
    };
    let decided =
        jobs.iter().any(|(_, job)| job.as_ref().is_some_and(|job| job.state.is_decided()));
    if !decided {
        let options =
            Options { statements: job.statements.clone(), role: job.role.clone(), timeout };
        drop(crew);
        return Box::pin(run(setup, &options, tell)).await;
    }
    crew.spread_decision().await;
    finish(&crew, &mut tell).await?;
    Ok(Altered {
        id,
        tables: job.tables.clone(),
        attempts: job.round + 1,
        seconds: begun.elapsed().as_secs_f64(),
        notes: Vec::new(),
    })
}

/// Locks and drains, again and again, until it is decided. Which attempt it was, from 1.
async fn attempts(
    crew: &Crew,
    until: Instant,
    tell: &mut impl FnMut(&Progress),
) -> Result<i32, MeshError> {
    let mut round = 0;
    loop {
        let why = match attempt(crew, round, until, tell).await? {
            None => return Ok(round + 1),
            Some(why) => why,
        };
        if Instant::now() + TURN >= until {
            return Err(MeshError::refused(
                format!("the members did not come to one point in time: {why}"),
                "nothing was changed; try again when there are fewer long transactions on these tables, or with a longer `--timeout`",
            ));
        }
        tracing::info!(job = crew.id, round, why, "another attempt of `mesh ddl`");
        crew.again(round).await?;
        round += 1;
        sleep(TURN).await;
    }
}

/// One attempt; why it has failed, if it may succeed another time.
async fn attempt(
    crew: &Crew,
    round: i32,
    until: Instant,
    tell: &mut impl FnMut(&Progress),
) -> Result<Option<String>, MeshError> {
    let longer = LOCKING.saturating_mul(u32::try_from(round + 1).unwrap_or(1));
    let patience = until.min(Instant::now() + longer);
    let locking = |waiting: Vec<String>| Progress::Locking { waiting, attempt: round + 1 };
    let locked = crew.wait(JobState::Locked, patience, |waiting| tell(&locking(waiting))).await?;
    if let Some(why) = locked {
        return Ok(Some(format!("its tables could not be locked on {why}")));
    }
    let positions = crew.positions().await?;
    crew.drain(round, &positions).await?;
    let draining = |waiting: Vec<String>| Progress::Draining { waiting };
    let ready = crew.wait(JobState::Prepared, until, |waiting| tell(&draining(waiting))).await?;
    if let Some(why) = ready {
        return Ok(Some(format!("what was written before was not applied on {why}")));
    }
    // From here on it takes effect.
    Ok((!crew.decide(round).await?).then(|| "a member has given up".to_owned()))
}

/// Waits until all have done what is decided.
async fn finish(crew: &Crew, tell: &mut impl FnMut(&Progress)) -> Result<(), MeshError> {
    let until = Instant::now() + COMMITTING;
    let mut last;
    loop {
        last = match crew.jobs().await {
            Ok(jobs) => {
                let waiting: Vec<String> = jobs
                    .iter()
                    .filter(|(_, job)| job.as_ref().is_none_or(|job| job.state != JobState::Done))
                    .map(|(node, job)| {
                        let problem = job.as_ref().and_then(|job| job.problem.clone());
                        problem.map_or_else(|| node.to_string(), |why| format!("{node} ({why})"))
                    })
                    .collect();
                if waiting.is_empty() {
                    return Ok(());
                }
                tell(&Progress::Committing { waiting: waiting.clone() });
                waiting.join(", ")
            }
            Err(error) => error.to_string(),
        };
        if Instant::now() >= until {
            return Err(MeshError::refused(
                format!("job {} is decided, and not done everywhere yet: {last}", crew.id),
                format!(
                    "that member makes up for it once changes are applied there again; what the others write in the new form waits until then (see `herdsman mesh status`); `herdsman mesh ddl --retry {}` waits for it",
                    crew.id
                ),
            ));
        }
        sleep(POLL).await;
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, MeshError>>,
) -> Result<T, MeshError> {
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(MeshError::refused(
            format!("running the statements for a try took longer than {} s", limit.as_secs()),
            "nothing was changed; use a longer `--timeout`: tables that are rewritten take their time, twice",
        )),
    }
}

/// The members, all of whom must take writes.
async fn everybody(setup: &Arc<Setup>) -> Result<Vec<Member>, MeshError> {
    let mut all = members(setup).await?;
    all.retain(|member| member.state != MemberState::Gone);
    all.sort_by_key(|member| member.id);
    if let Some(other) = all.iter().find(|member| member.state != MemberState::Active) {
        return Err(MeshError::refused(
            format!("node `{}` is {}", other.name, other.state.name()),
            "wait until that has ended",
        ));
    }
    let nodes: Vec<&NodeName> = setup.config.nodes.iter().collect();
    if let Some(stranger) = nodes.iter().find(|node| !all.iter().any(|m| m.name == ***node)) {
        return Err(MeshError::refused(
            format!("node `{stranger}` of `mesh.nodes` is no member"),
            "run `herdsman mesh up` or `herdsman mesh add` first",
        ));
    }
    Ok(all)
}
