//! The mesh at work: one task for each member that changes come to, one for each link.

mod answering;
pub(crate) mod backoff;
mod heartbeat;
mod pruning;
pub(crate) mod roster;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::MeshError;
use crate::link::Pauses;
use crate::names;
use crate::setup::{Member, Setup};
use crate::stamp::NodeId;
use crate::status::{Board, LinkName, Status};
use crate::target::Target;
use roster::Roster;

/// How often the status is put together.
const STATUS_PAUSE: Duration = Duration::from_millis(250);
/// How long a proper end may take.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// The mesh at work. Dropping it stops it at once; [`Engine::stop`] properly.
#[derive(Debug)]
pub struct Engine {
    status: watch::Receiver<Arc<Status>>,
    pauses: watch::Sender<Pauses>,
    stop: CancellationToken,
    work: Work,
}

/// All tasks hang on this one, and end with it.
#[derive(Debug)]
struct Work(JoinHandle<()>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Engine {
    /// Starts. Nodes that cannot be reached are tried again for ever. Needs a tokio runtime, on which it lives.
    ///
    /// # Errors
    /// The configuration cannot be used at all.
    pub fn start(setup: Setup) -> Result<Self, MeshError> {
        names::publication(&setup.config.name)?;
        names::slot(&setup.config.name, NodeId(i16::MAX))?;
        let (told, status) = watch::channel(Arc::default());
        let pauses = watch::Sender::new(Pauses::default());
        let stop = CancellationToken::new();
        let supervisor = Supervisor {
            setup: Arc::new(setup),
            board: Arc::default(),
            roster: watch::Sender::new(Arc::default()),
            pauses: pauses.subscribe(),
            stop: stop.clone(),
            members: BTreeMap::new(),
            tasks: JoinSet::new(),
        };
        let work = Work(tokio::spawn(supervisor.run(told)));
        Ok(Self { status, pauses, stop, work })
    }

    /// How far every member is, put together a few times a second from what this process knows.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Arc<Status>> {
        self.status.clone()
    }

    /// Holds a link (`None`: all of them) or lets it go on; what is written meanwhile waits in its source's log. What
    /// the target has already been given is applied.
    pub fn pause(&self, link: Option<&LinkName>, paused: bool) {
        self.pauses.send_if_modified(|pauses| {
            let before = pauses.clone();
            pauses.set(link, paused);
            *pauses != before
        });
    }

    /// Finishes what is under way, so that no slot is read any more and nothing that is applied comes again, and stops.
    /// Takes no longer than 15 s.
    pub async fn stop(mut self) {
        self.stop.cancel();
        // What has not ended by then is ended with `self`, and comes again.
        let _in_time = tokio::time::timeout(STOP_LIMIT, &mut self.work.0).await;
    }
}

/// Starts and ends what members need.
struct Supervisor {
    setup: Arc<Setup>,
    board: Arc<Board>,
    roster: watch::Sender<Arc<Roster>>,
    pauses: watch::Receiver<Pauses>,
    stop: CancellationToken,
    members: BTreeMap<NodeId, Serving>,
    tasks: JoinSet<()>,
}

/// What runs for a member.
struct Serving {
    member: Member,
    stop: CancellationToken,
    heartbeat: AbortHandle,
    answering: Option<AbortHandle>,
}

impl Supervisor {
    async fn run(mut self, told: watch::Sender<Arc<Status>>) {
        let mut beside = JoinSet::new();
        let (setup, board) = (Arc::clone(&self.setup), Arc::clone(&self.board));
        beside.spawn(roster::run(setup, board, self.roster.clone()));
        beside.spawn(tell(Arc::clone(&self.board), told));
        let (setup, board) = (Arc::clone(&self.setup), Arc::clone(&self.board));
        beside.spawn(pruning::run(setup, board, self.roster.subscribe()));
        let mut roster = self.roster.subscribe();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                changed = roster.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let now = Arc::clone(&roster.borrow_and_update());
                    self.follow(&now);
                }
                Some(ended) = self.tasks.join_next() => {
                    if let Err(fault) = ended && fault.is_panic() {
                        tracing::error!(%fault, "a task of the mesh has ended by a fault of this program; please report it with the log");
                        self.begin_again();
                    }
                }
            }
        }
        beside.abort_all();
        for serving in self.members.values() {
            serving.abort();
        }
        // The targets have been told by the same token.
        while self.tasks.join_next().await.is_some() {}
    }

    fn follow(&mut self, roster: &Roster) {
        let gone: Vec<NodeId> =
            self.members.keys().filter(|id| roster.state(**id).is_none()).copied().collect();
        for id in gone {
            if let Some(serving) = self.members.remove(&id) {
                serving.end();
                self.board.forget(&serving.member.name);
            }
        }
        for member in &roster.members {
            if !self.members.contains_key(&member.id) {
                self.begin(member);
            }
        }
    }

    fn begin(&mut self, member: &Member) {
        let Some(info) = self.setup.nodes.get(&member.name) else { return };
        let stop = self.stop.child_token();
        let target = Target {
            setup: Arc::clone(&self.setup),
            member: member.clone(),
            info: info.clone(),
            board: self.board.target(&member.name),
            roster: self.roster.subscribe(),
            pauses: self.pauses.clone(),
            stop: stop.clone(),
        };
        self.tasks.spawn(target.run());
        let (setup, board) = (Arc::clone(&self.setup), Arc::clone(&self.board));
        let heartbeat = self.tasks.spawn(heartbeat::run(setup, member.clone(), board));
        let answering = answering::is_needed(&self.setup)
            .then(|| self.tasks.spawn(answering::run(Arc::clone(&self.setup), member.clone())));
        let serving = Serving { member: member.clone(), stop, heartbeat, answering };
        self.members.insert(member.id, serving);
    }

    /// Whose task it was is not told: all begin again.
    fn begin_again(&mut self) {
        for serving in std::mem::take(&mut self.members).into_values() {
            serving.end();
            self.begin(&serving.member);
        }
    }
}

impl Serving {
    fn end(&self) {
        self.stop.cancel();
        self.abort();
    }

    fn abort(&self) {
        self.heartbeat.abort();
        if let Some(answering) = &self.answering {
            answering.abort();
        }
    }
}

/// Puts the status together again and again.
async fn tell(board: Arc<Board>, told: watch::Sender<Arc<Status>>) {
    let mut before: BTreeMap<String, u64> = BTreeMap::new();
    let mut at = Instant::now();
    loop {
        let mut status = board.status();
        let span = at.elapsed().as_secs_f64().max(0.001);
        at = Instant::now();
        for (name, target) in &mut status.targets {
            let last = before.insert(name.clone(), target.rows).unwrap_or(target.rows);
            let new = u32::try_from(target.rows.saturating_sub(last)).unwrap_or(u32::MAX);
            let held = told.borrow().targets.get(name).map_or(0.0, |old| old.rows_per_second);
            // Smoothed over about two seconds.
            target.rows_per_second = held + (f64::from(new) / span - held) / 8.0;
            if target.rows_per_second < 0.05 {
                target.rows_per_second = 0.0;
            }
        }
        told.send_if_modified(|now| {
            let new = **now != status;
            if new {
                *now = Arc::new(status);
            }
            new
        });
        tokio::time::sleep(STATUS_PAUSE).await;
    }
}
