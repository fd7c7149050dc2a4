//! What takes longer than an answer may: begun, and asked for later.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use herdsman_api::ControlRefusal;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Jobs that are under way, and the last ones that ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Jobs(Arc<Mutex<All>>);

#[derive(Debug, Default)]
struct All {
    last: u64,
    jobs: BTreeMap<u64, Job>,
}

#[derive(Debug)]
struct Job {
    verb: &'static str,
    /// Who began it, as the log has it.
    by: String,
    state: State,
    begun: Instant,
    /// How far it is, in the verb's own shape.
    progress: Value,
    result: Value,
    problem: Option<String>,
    work: Option<AbortHandle>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Running,
    Done,
    Failed,
}

/// Says how far a job is.
#[derive(Clone, Debug)]
pub(super) struct Teller {
    jobs: Jobs,
    id: u64,
}

/// Jobs that have ended and can still be asked for.
const KEPT: usize = 100;

impl Jobs {
    /// Begins one for somebody, unless one is under way: they change, or read, the same tables.
    ///
    /// # Errors
    /// Which one is under way.
    pub(super) fn begin<W>(
        &self,
        verb: &'static str,
        by: &str,
        work: impl FnOnce(Teller) -> W,
    ) -> Result<Value, ControlRefusal>
    where
        W: Future<Output = Result<Value, String>> + Send + 'static,
    {
        let id = {
            let mut all = self.lock();
            if let Some((id, job)) = all.jobs.iter().find(|(_, job)| job.state == State::Running) {
                let why = format!("job {id} (`{}`) is under way; wait for its end", job.verb);
                return Err(ControlRefusal::Busy(why));
            }
            while all.jobs.len() >= KEPT {
                all.jobs.pop_first();
            }
            all.last += 1;
            let id = all.last;
            let job = Job {
                verb,
                by: by.to_owned(),
                state: State::Running,
                begun: Instant::now(),
                progress: Value::Null,
                result: Value::Null,
                problem: None,
                work: None,
            };
            all.jobs.insert(id, job);
            id
        };
        let jobs = self.clone();
        let work = Box::pin(work(Teller { jobs: self.clone(), id }));
        let work = tokio::spawn(work);
        if let Some(job) = self.lock().jobs.get_mut(&id) {
            job.work = Some(work.abort_handle());
        }
        tokio::spawn(async move {
            let outcome = work.await;
            let outcome = outcome.unwrap_or_else(|error| Err(format!("it ended badly: {error}")));
            // One that was ended has said so.
            if let Some(job) = jobs.lock().jobs.get_mut(&id)
                && job.state == State::Running
            {
                match outcome {
                    Ok(result) => (job.state, job.result) = (State::Done, result),
                    Err(problem) => (job.state, job.problem) = (State::Failed, Some(problem)),
                }
                tracing::info!(id, verb, by = job.by, state = ?job.state, problem = job.problem, "a job of the mesh ended");
            }
        });
        tracing::info!(id, verb, by, "a job of the mesh began");
        Ok(json!({"job": id}))
    }

    /// Ends the job that is under way, where it is of this verb.
    pub(super) fn end(&self, verb: &str, why: &str) {
        let mut all = self.lock();
        let running = all.jobs.values_mut().find(|job| job.state == State::Running);
        if let Some(job) = running.filter(|job| job.verb == verb) {
            (job.state, job.problem) = (State::Failed, Some(why.to_owned()));
            if let Some(work) = job.work.take() {
                work.abort();
            }
        }
    }

    /// What is known of one.
    ///
    /// # Errors
    /// There is none of this number.
    pub(super) fn find(&self, id: u64) -> Result<Value, ControlRefusal> {
        let all = self.lock();
        let job = all.jobs.get(&id).ok_or_else(|| {
            ControlRefusal::Missing(format!("there is no job {id}; the last {KEPT} are kept"))
        })?;
        Ok(json!({
            "job": id,
            "verb": job.verb,
            "by": job.by,
            "state": job.state,
            "seconds": job.begun.elapsed().as_secs_f64(),
            "progress": job.progress,
            "result": job.result,
            "problem": job.problem,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Teller {
    /// Says it.
    pub(super) fn tell(&self, progress: &impl Serialize) {
        if let (Ok(progress), Some(job)) =
            (serde_json::to_value(progress), self.jobs.lock().jobs.get_mut(&self.id))
        {
            job.progress = progress;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_is_asked_for_until_it_has_ended_and_nothing_runs_beside_it() {
        let jobs = Jobs::default();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let begun = jobs.begin("verify", "token a", |teller| async move {
            teller.tell(&"half");
            let _told = ended.await;
            Ok(json!("equal"))
        });
        assert_eq!(begun, Ok(json!({"job": 1})));
        let busy = jobs.begin("up", "token b", |_| async { Ok(Value::Null) });
        assert!(matches!(busy, Err(ControlRefusal::Busy(why)) if why.contains("job 1 (`verify`)")));
        end.send(()).unwrap();
        let found = loop {
            let found = jobs.find(1).unwrap();
            if found["state"] != "running" {
                break found;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!((&found["state"], &found["result"]), (&json!("done"), &json!("equal")));
        assert_eq!(found["progress"], "half");
        assert_eq!(found["by"], "token a");
        assert!(matches!(jobs.find(2), Err(ControlRefusal::Missing(_))));
        assert_eq!(
            jobs.begin("up", "token b", |_| async { Err("no".to_owned()) }),
            Ok(json!({"job": 2}))
        );
        while jobs.find(2).unwrap()["state"] == "running" {
            tokio::task::yield_now().await;
        }
        assert_eq!(jobs.find(2).unwrap()["problem"], "no");
    }

    #[tokio::test]
    async fn only_a_job_of_the_verb_that_is_named_is_ended_and_another_begins_at_once() {
        let jobs = Jobs::default();
        let never = |_| std::future::pending::<Result<Value, String>>();
        jobs.begin("remove", "token a", never).unwrap();
        jobs.end("verify", "no more");
        assert!(matches!(jobs.begin("up", "token b", never), Err(ControlRefusal::Busy(_))));
        jobs.end("remove", "no more");
        assert_eq!(jobs.begin("up", "token b", never), Ok(json!({"job": 2})));
        let ended = jobs.find(1).unwrap();
        assert_eq!((&ended["state"], &ended["problem"]), (&json!("failed"), &json!("no more")));
    }
}
