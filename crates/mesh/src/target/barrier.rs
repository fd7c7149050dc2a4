//! A member's part in a job of `mesh ddl`.
//!
//! The one transaction that keeps all others from writing the tables is the one that goes on applying what the others wrote
//! before: when it has that of all of them, nothing of these tables is under way to here, and the statements run in it. It
//! is committed once all members have come so far.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;

use super::schedule::Step;
use super::session::Session;
use crate::apply::Alteration;
use crate::ddl::job::{Change, Job, JobState, advance};
use crate::engine::roster;
use crate::error::MeshError;
use crate::names;
use crate::status::TargetState;

/// How often it is looked how far the job is elsewhere.
const LOOK: Duration = Duration::from_millis(60);
/// After locks that were not to be had, the writers' turn, at least.
const TURN: u64 = 200;
/// Before what has failed is tried again.
const AGAIN: Duration = Duration::from_secs(3);
/// How long a job may be late before its end is decided without who runs it. Longer than any of its steps.
const LATE: Duration = Duration::from_secs(5);

/// How a member's part has ended, if not with the alteration.
enum Ended {
    Altered,
    /// It is another attempt's turn, or nobody's.
    GivenUp,
}

impl Session<'_> {
    /// Does what a job wants of this member now.
    pub(super) async fn job(&mut self) -> Result<(), MeshError> {
        if self.job_after.is_some_and(|after| after > Instant::now()) {
            return Ok(());
        }
        self.job_after = Some(Instant::now() + AGAIN);
        let node = &self.target.member.name;
        let client = match self.beside.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => roster::connect(&self.target.setup, node).await?,
        };
        self.go_on_with(&client).await?;
        self.beside = Some(client);
        Ok(())
    }

    async fn go_on_with(&mut self, client: &Client) -> Result<(), MeshError> {
        let node = &self.target.member.name;
        let Some(job) = Job::current(node, client).await? else { return Ok(()) };
        match job.state {
            JobState::Wanted if job.is_late => {
                let change = Change::to(JobState::GivenUp);
                advance(node, client, job.id, Some(job.round), &[JobState::Wanted], change).await?;
            }
            JobState::Wanted => {
                let turn = Duration::from_millis(TURN + fastrand::u64(0..=TURN));
                self.job_after = Some(Instant::now() + turn);
                self.take_part(client, &job).await?;
            }
            // Of a session that is over.
            JobState::Locked | JobState::Drain | JobState::Prepared => {
                match self.is_decided_elsewhere(&job).await {
                    Ok(true) => return self.make_up(client, &job).await,
                    Ok(false) => {}
                    // It is asked again, and changes are applied meanwhile.
                    Err(error) => {
                        let told = format!(
                            "`herdsman mesh ddl` {}: whether it is decided is not known: {error}",
                            job.id
                        );
                        self.target.board.set(TargetState::Working, Some(told));
                        return Ok(());
                    }
                }
                let from = [JobState::Locked, JobState::Drain, JobState::Prepared];
                let change = Change::to(JobState::GivenUp);
                advance(node, client, job.id, Some(job.round), &from, change).await?;
            }
            JobState::Commit => self.make_up(client, &job).await?,
            JobState::Done | JobState::GivenUp => {}
        }
        Ok(())
    }

    /// Whether another member has the job as decided.
    async fn is_decided_elsewhere(&self, job: &Job) -> Result<bool, MeshError> {
        let members = Arc::clone(&self.target.roster.borrow());
        for member in &members.members {
            if member.id == self.target.member.id {
                continue;
            }
            let client = roster::connect(&self.target.setup, &member.name).await?;
            let there = Job::find(&member.name, &client, job.id).await?;
            if there.is_some_and(|there| there.state.is_decided()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Alters what the others have altered while this member, or whoever applied there, was away. What comes in the older
    /// form afterwards is put into the newer one.
    async fn make_up(&mut self, client: &Client, job: &Job) -> Result<(), MeshError> {
        let node = &self.target.member.name;
        if !self.applier.hold(&job.tables).await? {
            return Ok(());
        }
        let outcome = match self.applier.alter(&alteration(job)).await {
            Ok(()) => self.applier.commit_held(&done(job)).await.map(drop),
            Err(error) => {
                self.applier.let_go().await?;
                Err(error)
            }
        };
        if let Err(error) = outcome {
            let problem =
                format!("`herdsman mesh ddl` {} is decided, and fails here: {error}", job.id);
            self.target.board.set(TargetState::Working, Some(problem.clone()));
            let change = Change { problem: Some(&problem), ..Change::to(JobState::Commit) };
            let from = [JobState::Commit, JobState::Prepared, JobState::Drain, JobState::Locked];
            advance(node, client, job.id, None, &from, change).await?;
            return Ok(());
        }
        tracing::info!(%node, job = job.id, "made up for `mesh ddl`");
        self.altered().await
    }

    /// Locks, applies, alters, commits.
    async fn take_part(&mut self, client: &Client, job: &Job) -> Result<(), MeshError> {
        let node = self.target.member.name.clone();
        if !self.applier.hold(&job.tables).await? {
            return Ok(());
        }
        let applied = self.applications;
        let told =
            format!("`herdsman mesh ddl` {}: tables are locked until all members agree", job.id);
        self.target.board.set(TargetState::Working, Some(told));
        let outcome = self.held(client, job).await;
        self.target.board.set(TargetState::Working, None);
        let problem = match outcome {
            Ok(Ended::Altered) => {
                tracing::info!(%node, job = job.id, "`mesh ddl` is done here");
                return self.altered().await;
            }
            Ok(Ended::GivenUp) => None,
            Err(error) => Some(error),
        };
        if let Some(error) = &problem {
            tracing::warn!(%node, job = job.id, %error, "`mesh ddl` does not come to its end here");
            // What may well succeed the next time is tried again.
            let told = (!error.is_transient()).then(|| error.to_string());
            let change = Change { problem: told.as_deref(), ..Change::to(JobState::GivenUp) };
            let from = [JobState::Wanted, JobState::Locked, JobState::Drain, JobState::Prepared];
            advance(&node, client, job.id, Some(job.round), &from, change).await?;
        }
        if applied == self.applications {
            return self.applier.let_go().await;
        }
        // What was applied in that transaction has to come again.
        Err(MeshError::TimedOut {
            node,
            what: "`mesh ddl`".to_owned(),
            seconds: self.begun.elapsed().as_secs(),
        })
    }

    /// All that happens while the transaction is held.
    async fn held(&mut self, client: &Client, job: &Job) -> Result<Ended, MeshError> {
        let node = self.target.member.name.clone();
        let position = Some(self.applier.position().await?);
        let change = Change { position, ..Change::to(JobState::Locked) };
        if !advance(&node, client, job.id, Some(job.round), &[JobState::Wanted], change).await? {
            return Ok(Ended::GivenUp);
        }
        let (mut prepared, mut late_since) = (false, None);
        let mut stay = Instant::now();
        loop {
            let now = Job::find(&node, client, job.id).await?;
            let Some(now) = now.filter(|now| now.round == job.round) else {
                return Ok(Ended::GivenUp);
            };
            match now.state {
                JobState::Locked | JobState::Drain | JobState::Prepared => {}
                JobState::Commit if prepared => {
                    self.applier.commit_held(&done(job)).await?;
                    return Ok(Ended::Altered);
                }
                _ => return Ok(Ended::GivenUp),
            }
            if self.target.stop.is_cancelled() {
                return Ok(Ended::GivenUp);
            }
            if now.is_late && late_since.get_or_insert_with(Instant::now).elapsed() > LATE {
                return self.end_late(client, job, prepared).await;
            }
            if prepared {
                if stay.elapsed() > AGAIN {
                    self.applier.stay().await?;
                    stay = Instant::now();
                }
                tokio::time::sleep(LOOK).await;
                continue;
            }
            // While others still try to lock, nothing is applied: it can be given up at no cost.
            if now.state != JobState::Drain {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            self.go_on(Instant::now() + LOOK).await?;
            if self.has_reached(&now) && !self.schedule.is_open() {
                self.applier.alter(&alteration(job)).await?;
                prepared = true;
                let change = Change::to(JobState::Prepared);
                let from = [JobState::Drain];
                if !advance(&node, client, job.id, Some(job.round), &from, change).await? {
                    return Ok(Ended::GivenUp);
                }
            }
        }
    }

    /// Nothing is heard of who runs the job: as the others have it, so it ends here.
    async fn end_late(
        &mut self,
        client: &Client,
        job: &Job,
        prepared: bool,
    ) -> Result<Ended, MeshError> {
        if prepared {
            match self.is_decided_elsewhere(job).await {
                Ok(true) => {
                    self.applier.commit_held(&done(job)).await?;
                    return Ok(Ended::Altered);
                }
                Ok(false) => {}
                // Writers have waited long enough: who answers later is asked later.
                Err(_) => return Ok(Ended::GivenUp),
            }
        }
        let node = &self.target.member.name;
        let from = [JobState::Locked, JobState::Drain, JobState::Prepared];
        let change = Change::to(JobState::GivenUp);
        advance(node, client, job.id, Some(job.round), &from, change).await?;
        Ok(Ended::GivenUp)
    }

    /// Applies what there is, and waits for more until then.
    async fn go_on(&mut self, until: Instant) -> Result<(), MeshError> {
        loop {
            while let Ok(said) = self.from_links.try_recv() {
                self.hear(said)?;
            }
            if let Step::Apply { lots, .. } = self.schedule.next(self.begun.elapsed()) {
                self.applications += 1;
                self.apply(lots, false).await?;
                continue;
            }
            if Instant::now() >= until {
                return Ok(());
            }
            self.hungry.send_if_modified(|hungry| !std::mem::replace(hungry, true));
            if let Ok(Some(said)) = tokio::time::timeout_at(until, self.from_links.recv()).await {
                self.hear(said)?;
            }
        }
    }

    fn has_reached(&self, job: &Job) -> bool {
        let mut positions = job.positions.iter();
        positions.all(|(source, position)| {
            self.schedule.applied_to(*source).is_some_and(|applied| applied >= *position)
        })
    }

    /// The tables have another form, and everything that was applied is on disk.
    async fn altered(&mut self) -> Result<(), MeshError> {
        self.done(true);
        self.job_after = None;
        self.applier.refresh(&self.target.setup).await?;
        self.look_again = (!self.parked.is_empty()).then(Instant::now);
        Ok(())
    }
}

fn alteration(job: &Job) -> Alteration<'_> {
    Alteration {
        before: &job.before,
        statements: &job.statements,
        role: job.role.as_deref(),
        after: &job.after,
    }
}

fn done(job: &Job) -> String {
    format!("UPDATE {} SET state = 'done', problem = NULL WHERE id = {}", names::own("ddl"), job.id)
}
