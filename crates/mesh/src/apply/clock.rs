//! The member's clock, and what its server still knows of commit times: for tables to which nothing is added.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::Applier;
use crate::error::MeshError;
use crate::group::Group;
use crate::names;
use crate::resolve::untouched::{Sample, Wait, wait, witness};
use crate::stamp::NodeId;

/// How old what is known of the clock may be: it may have been set back since.
const FRESH: Duration = Duration::from_secs(1);
/// How long is waited before the clock is looked at again.
const LONGEST: Duration = Duration::from_secs(1);
/// How often a sample is taken, and how often it is looked which of them the server still knows: where it knows none any
/// more (all databases were frozen at once), what was committed before the next sample cannot be told from what is later.
const SAMPLE: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_secs(5);
/// Waits that are shorter are nobody's business.
const TOLD: i64 = 1_000_000;

/// What is known of the member's clock and memory.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// When it was read, and what it said.
    read: Option<(Instant, i64)>,
    samples: Vec<Sample>,
    sampled: Option<Instant>,
    looked: Option<Instant>,
    /// Whose changes carry the session's mark.
    pub(super) marked: Option<NodeId>,
    /// What is waited for, for the status.
    pub(super) waiting: Arc<Mutex<Option<String>>>,
}

impl Clock {
    /// A time that the clock is past by now, if it was read lately.
    fn at_least(&self) -> Option<i64> {
        let (when, said) = self.read?;
        let elapsed = when.elapsed();
        let micros = i64::try_from(elapsed.as_micros()).unwrap_or_default();
        (elapsed < FRESH).then(|| said.saturating_add(micros))
    }

    /// Whether it is known to be past a commit time.
    pub(super) fn is_past(&self, version: i64) -> bool {
        self.at_least().is_some_and(|now| wait(now, version) == Wait::Go)
    }

    /// See [`witness`].
    pub(super) fn witness(&self, version: i64) -> Option<i64> {
        witness(&self.samples, version)
    }

    /// What was known may be wrong.
    pub(super) fn forget(&mut self) {
        (self.read, self.looked) = (None, None);
    }

    fn tell(&self, waiting: Option<String>) {
        if let Ok(mut told) = self.waiting.lock() {
            *told = waiting;
        }
    }
}

impl Applier {
    /// What it says it waits for, for the status.
    pub(crate) fn waiting(&self) -> Arc<Mutex<Option<String>>> {
        Arc::clone(&self.clock.waiting)
    }

    /// Waits until the member's clock is past a transaction of another: what is written there from then on is later.
    pub(super) async fn wait_out(&mut self, group: &Group) -> Result<(), MeshError> {
        let Some(version) = group.end.map(|end| end.time.unix_micros()) else { return Ok(()) };
        if self.clock.is_past(version) {
            return Ok(());
        }
        let what = "read its clock";
        let sql = "SELECT (date_part('epoch', clock_timestamp()) * 1000000)::bigint";
        let outcome = loop {
            let row = self.session.row(what, sql, &[]).await?;
            let now: i64 = self.session.get(what, &row, 0)?;
            self.clock.read = Some((Instant::now(), now));
            match wait(now, version) {
                Wait::Go => break Ok(()),
                Wait::For(micros) => {
                    let (here, there) = (&self.member.name, self.name(group.source));
                    if micros > TOLD {
                        self.clock.tell(Some(format!(
                            "node `{here}`: its clock is behind that of `{there}`, and what comes from there waits until it is not ({:.1} s); set the clocks by NTP",
                            seconds(micros)
                        )));
                    }
                    let micros = Duration::from_micros(micros.unsigned_abs());
                    tokio::time::sleep(micros.min(LONGEST)).await;
                }
                Wait::Refuse(micros) => {
                    let (here, there) = (&self.member.name, self.name(group.source));
                    break Err(MeshError::refused(
                        format!(
                            "the clock of node `{here}` is {:.1} s behind a commit of node `{there}`, which is too far to wait for with `mode: untouched`",
                            seconds(micros)
                        ),
                        "set the clocks of both by NTP; what comes from there waits meanwhile",
                    ));
                }
            }
        };
        self.clock.tell(None);
        outcome
    }

    /// Looks which commit times the server still knows, where that was not done lately, and takes a sample now and then.
    pub(super) async fn look_at_memory(&mut self) -> Result<(), MeshError> {
        let due = |last: Option<Instant>, after: Duration| {
            last.is_none_or(|last| last.elapsed() >= after)
        };
        if !due(self.clock.looked, LOOK) {
            return Ok(());
        }
        let what = "see which commit times its server still knows";
        let memory = names::own("memory");
        if due(self.clock.sampled, SAMPLE) {
            self.take_sample().await?;
        }
        // Two numbers that are 2³² apart look alike to it: one from before the counter went round is not known, whatever it says
        // of another that has the same low bits.
        let known = "pg_xact_commit_timestamp(xid::text::xid8::xid) IS NOT NULL
  AND xid > pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 2147483648";
        self.session.run(what, &format!("DELETE FROM {memory} WHERE NOT ({known})")).await?;
        let sql = format!("SELECT xid, at, horizon, base FROM {memory} WHERE {known} ORDER BY xid");
        self.clock.samples = self.samples(&sql).await?;
        // All databases were frozen at once: it takes two to tell anything again.
        if witness(&self.clock.samples, i64::MAX).is_none() {
            self.take_sample().await?;
            self.clock.samples = self.samples(&sql).await?;
        }
        self.clock.looked = Some(Instant::now());
        Ok(())
    }

    async fn samples(&self, sql: &str) -> Result<Vec<Sample>, MeshError> {
        let what = "see which commit times its server still knows";
        let mut samples = Vec::new();
        for row in self.session.rows(what, sql, &[]).await? {
            samples.push(Sample {
                xid: self.session.get(what, &row, 0)?,
                at: self.session.get(what, &row, 1)?,
                horizon: self.session.get(what, &row, 2)?,
                base: self.session.get(what, &row, 3)?,
            });
        }
        Ok(samples)
    }

    async fn take_sample(&mut self) -> Result<(), MeshError> {
        self.session.run("remember when a transaction was", &sample(false)).await?;
        self.clock.sampled = Some(Instant::now());
        Ok(())
    }

    /// Marks what is written from here on as coming from this member.
    pub(super) async fn mark(&mut self, source: NodeId) -> Result<(), MeshError> {
        if self.clock.marked == Some(source) {
            return Ok(());
        }
        self.clock.marked = None;
        let lane = u16::try_from(source.0).unwrap_or_default();
        self.session.change_origin(&self.mesh, lane).await?;
        self.clock.marked = Some(source);
        Ok(())
    }
}

/// What takes a sample.
pub(crate) fn sample(base: bool) -> String {
    format!(
        "INSERT INTO {} (xid, at, horizon, base) VALUES (pg_current_xact_id()::text::bigint, (date_part('epoch', clock_timestamp()) * 1000000)::bigint, pg_snapshot_xmin(pg_current_snapshot())::text::bigint, {base})",
        names::own("memory")
    )
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
