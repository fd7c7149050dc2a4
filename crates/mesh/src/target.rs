//! Everything that comes to one member.
//!
//! One task for each member holds its only apply session, and with it the member's lease. What goes wrong there or on
//! the way ends the session and all links with it, and everything begins again from what is committed.

mod barrier;
mod blocked;
mod misfits;
mod schedule;
mod session;

use std::sync::Arc;
use std::time::Duration;

use herdsman_node::Conninfo;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::apply::Applier;
use crate::engine::backoff;
use crate::engine::roster::Roster;
use crate::error::MeshError;
use crate::link::Pauses;
use crate::setup::{Member, MemberState, Setup};
use crate::status::{TargetBoard, TargetState};
use session::Session;

/// How often somebody else's lease is asked for.
const LEASE_PAUSE: Duration = Duration::from_secs(1);
/// A session that lasted this long was a good one.
const GOOD: Duration = Duration::from_secs(10);
/// Bound on opening a session.
const OPEN_LIMIT: Duration = Duration::from_secs(30);

/// What the task of a member needs.
pub(crate) struct Target {
    pub(crate) setup: Arc<Setup>,
    pub(crate) member: Member,
    pub(crate) info: Conninfo,
    pub(crate) board: Arc<TargetBoard>,
    pub(crate) roster: watch::Receiver<Arc<Roster>>,
    pub(crate) pauses: watch::Receiver<Pauses>,
    pub(crate) stop: CancellationToken,
}

impl Target {
    /// Applies what comes until told to stop, whatever goes wrong meanwhile.
    pub(crate) async fn run(self) {
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            let error = match Box::pin(self.session()).await {
                Ok(()) => return,
                Err(error) => error,
            };
            self.board.stopped();
            if begun.elapsed() > GOOD {
                failures = 0;
            }
            failures += 1;
            let pause = self.failed(&error, failures);
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One session's life. Ends well when told to stop.
    async fn session(&self) -> Result<(), MeshError> {
        let opening = Applier::open(&self.setup, &self.member, &self.info);
        let applier = tokio::select! {
            () = self.stop.cancelled() => return Ok(()),
            opened = tokio::time::timeout(OPEN_LIMIT, opening) => match opened {
                Ok(opened) => opened?,
                Err(_) => return Err(self.timed_out("opening the apply session", OPEN_LIMIT)),
            },
        };
        self.board.set(TargetState::Working, None);
        let mut session = Session::new(self, applier);
        let outcome = session.run().await;
        session.end(outcome.is_ok()).await;
        outcome
    }

    fn timed_out(&self, what: &str, limit: Duration) -> MeshError {
        MeshError::TimedOut {
            node: self.member.name.clone(),
            what: what.to_owned(),
            seconds: limit.as_secs(),
        }
    }

    fn failed(&self, error: &MeshError, failures: u32) -> Duration {
        let node = &self.member.name;
        if let MeshError::LeaseHeld { .. } = error {
            self.board.set(TargetState::Waiting, Some(error.to_string()));
            return LEASE_PAUSE;
        }
        // What a joining member lacks is being made.
        let joining = self.roster.borrow().state(self.member.id) == Some(MemberState::Joining);
        let transient = joining || error.is_transient();
        match (transient, failures) {
            (false, 1) => tracing::error!(%node, %error, "nothing is applied"),
            (true, 1) => tracing::warn!(%node, %error, "applying begins again"),
            _ => tracing::debug!(%node, %error, failures, "still nothing is applied"),
        }
        self.board.set(TargetState::Failing, Some(error.to_string()));
        backoff::pause(failures, transient, fastrand::f64())
    }
}
