//! The members of a job: what they have noted, and what they are told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use herdsman_node::{Lsn, NodeName};
use herdsman_wal::Session;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

use super::POLL;
use super::job::{Change, Job, JobState, advance, failed};
use crate::error::MeshError;
use crate::names;
use crate::setup::Member;
use crate::stamp::NodeId;

/// How long a member may go on by itself when nothing is heard of who runs the job.
const UNHEARD: f64 = 10.0;
/// How often it is heard of.
const SAY: Duration = Duration::from_secs(2);
/// Bound on each question.
const LIMIT: Duration = Duration::from_secs(10);
/// A process that applies renews its lease every five seconds.
const ALIVE: f64 = 20.0;

/// Those, in the order of their numbers: what the first one notes is the decision.
pub(super) struct Crew {
    pub(super) id: i64,
    members: Vec<Member>,
    sessions: Vec<(NodeName, Session)>,
    /// The decision was sent, and no answer came.
    unknown: AtomicBool,
}

/// States that are before the decision.
const BEFORE: [JobState; 5] =
    [JobState::Wanted, JobState::Locked, JobState::Drain, JobState::Prepared, JobState::GivenUp];

impl Crew {
    pub(super) fn new(id: i64, members: Vec<Member>, sessions: Vec<(NodeName, Session)>) -> Self {
        Self { id, members, sessions, unknown: AtomicBool::new(false) }
    }

    fn each(&self) -> impl Iterator<Item = (&NodeName, &Client)> {
        self.sessions.iter().map(|(node, session)| (node, session.client()))
    }

    /// Asks all for the job.
    pub(super) async fn begin(
        &self,
        job: &Job,
        after: &BTreeMap<NodeName, Vec<String>>,
    ) -> Result<(), MeshError> {
        for (node, client) in self.each() {
            let own = Job { after: after.get(node).cloned().unwrap_or_default(), ..job.clone() };
            own.insert(node, client, UNHEARD).await?;
        }
        Ok(())
    }

    /// What all have noted.
    pub(super) async fn jobs(&self) -> Result<Vec<(NodeName, Option<Job>)>, MeshError> {
        let asking = self.each().map(|(node, client)| async move {
            let job = bounded(node, Job::find(node, client, self.id)).await?;
            Ok::<_, MeshError>((node.clone(), job))
        });
        futures_util::future::try_join_all(asking).await
    }

    /// Waits until all are there; else who is not. What only a change of the statements can help is an error.
    pub(super) async fn wait(
        &self,
        state: JobState,
        until: Instant,
        mut tell: impl FnMut(Vec<String>),
    ) -> Result<Option<String>, MeshError> {
        let mut said: Option<Instant> = None;
        loop {
            if said.is_none_or(|said| said.elapsed() > SAY) {
                self.say().await?;
                said = Some(Instant::now());
            }
            let jobs = self.jobs().await?;
            let mut waiting = Vec::new();
            for (node, job) in &jobs {
                let Some(job) = job else {
                    return Err(MeshError::refused(
                        format!("node `{node}` has lost job {} of `mesh ddl`", self.id),
                        "nothing was changed",
                    ));
                };
                if let (JobState::GivenUp, Some(problem)) = (job.state, &job.problem) {
                    return Err(MeshError::refused(problem.clone(), "nothing was changed"));
                }
                if job.state == JobState::GivenUp {
                    return Ok(Some(node.to_string()));
                }
                if job.state != state {
                    waiting.push(node.to_string());
                }
            }
            if waiting.is_empty() {
                return Ok(None);
            }
            if Instant::now() >= until {
                return Ok(Some(waiting.join(", ")));
            }
            tell(waiting);
            sleep(POLL).await;
        }
    }

    /// Tells that the job is still run.
    async fn say(&self) -> Result<(), MeshError> {
        let sql = format!(
            "UPDATE {} SET until = clock_timestamp() + make_interval(secs => $2) WHERE id = $1",
            names::own("ddl")
        );
        for (node, client) in self.each() {
            let saying = async {
                let said = client.execute(&sql, &[&self.id, &UNHEARD]).await;
                said.map_err(|error| failed(node, "say that `mesh ddl` goes on", error))
            };
            bounded(node, saying).await?;
        }
        Ok(())
    }

    /// Where each member's log ended when its tables were locked.
    pub(super) async fn positions(&self) -> Result<BTreeMap<NodeId, Lsn>, MeshError> {
        let jobs = self.jobs().await?;
        let members = self.members.iter().zip(jobs);
        Ok(members.filter_map(|(member, (_, job))| Some((member.id, job?.position?))).collect())
    }

    pub(super) async fn drain(
        &self,
        round: i32,
        positions: &BTreeMap<NodeId, Lsn>,
    ) -> Result<(), MeshError> {
        let change = Change { positions: Some(positions), ..Change::to(JobState::Drain) };
        self.all(Some(round), &[JobState::Locked], change).await
    }

    /// Another attempt.
    pub(super) async fn again(&self, round: i32) -> Result<(), MeshError> {
        let change = Change { again: true, ..Change::to(JobState::Wanted) };
        self.all(Some(round), &BEFORE, change).await
    }

    async fn all(
        &self,
        round: Option<i32>,
        from: &[JobState],
        change: Change<'_>,
    ) -> Result<(), MeshError> {
        for (node, client) in self.each() {
            bounded(node, advance(node, client, self.id, round, from, change)).await?;
        }
        Ok(())
    }

    /// Decides. Whether it is: not if the first member has given up meanwhile.
    pub(super) async fn decide(&self, round: i32) -> Result<bool, MeshError> {
        let Some((node, client)) = self.each().next() else { return Ok(false) };
        let change = Change::to(JobState::Commit);
        self.unknown.store(true, Ordering::Relaxed);
        let prepared = [JobState::Prepared];
        let deciding = advance(node, client, self.id, Some(round), &prepared, change);
        let decided = bounded(node, deciding).await?;
        self.unknown.store(false, Ordering::Relaxed);
        Ok(decided)
    }

    /// Whether nobody here can say if it is decided.
    pub(super) fn may_be_decided(&self) -> bool {
        self.unknown.load(Ordering::Relaxed)
    }

    /// Tells all what is decided. Who cannot be told will ask.
    pub(super) async fn spread_decision(&self) {
        if let Err(error) = self.all_that_can(&BEFORE, Change::to(JobState::Commit)).await {
            tracing::warn!(job = self.id, %error, "not all members know yet that `mesh ddl` is decided");
        }
    }

    /// Undoes it, unless it is decided.
    pub(super) async fn give_up(&self, why: &str) {
        let change = Change { problem: Some(why), ..Change::to(JobState::GivenUp) };
        if let Err(error) = self.all_that_can(&BEFORE, change).await {
            tracing::warn!(job = self.id, %error, "not all members know yet that `mesh ddl` is given up");
        }
    }

    async fn all_that_can(&self, from: &[JobState], change: Change<'_>) -> Result<(), MeshError> {
        let telling = self.each().map(|(node, client)| {
            bounded(node, advance(node, client, self.id, None, from, change))
        });
        let mut outcome = Ok(());
        for told in futures_util::future::join_all(telling).await {
            outcome = outcome.and(told.map(drop));
        }
        outcome
    }
}

/// That somebody applies on every member, and no other job is under way.
pub(super) async fn ready(sessions: &[(NodeName, Session)]) -> Result<(), MeshError> {
    for (node, session) in sessions {
        let client = session.client();
        if let Some(job) = Job::current(node, client).await? {
            return Err(MeshError::refused(
                format!(
                    "node `{node}`: job {} of `mesh ddl` is not over ({})",
                    job.id,
                    job.state.name()
                ),
                format!("wait for it, or see to it with `herdsman mesh ddl --retry {}`", job.id),
            ));
        }
        let what = "see whether changes are applied";
        let sql = format!(
            "SELECT coalesce((SELECT renewed > clock_timestamp() - make_interval(secs => $1) FROM {}), false)",
            names::own("lease")
        );
        let row = client.query_one(&sql, &[&ALIVE]).await;
        let row = row.map_err(|error| failed(node, what, error))?;
        if !row.try_get::<_, bool>(0).map_err(|error| failed(node, what, error))? {
            return Err(MeshError::refused(
                format!("nobody applies changes on node `{node}`"),
                "nothing was changed; start `herdsman run` first: it is what alters the tables",
            ));
        }
    }
    Ok(())
}

async fn bounded<T>(
    node: &NodeName,
    asking: impl Future<Output = Result<T, MeshError>>,
) -> Result<T, MeshError> {
    timeout(LIMIT, asking).await.unwrap_or_else(|_| {
        let what = "a question of `mesh ddl`".to_owned();
        Err(MeshError::TimedOut { node: node.clone(), what, seconds: LIMIT.as_secs() })
    })
}
