//! One node's edge: a long-lived connection that is asked, and a door that is knocked at.
//!
//! Each node has its own task, so that a frozen one delays nobody else's news.

use std::sync::Arc;
use std::time::Duration;

use herdsman_node::{ConnectErrorKind, Connection, Conninfo, NodeName, Timeline, Tls, connect};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::config::WatchConfig;
use crate::evidence::{Branch, Evidence, Sighting};
use crate::probe::{self, HistoryAccess, ProbeError};
use crate::topology::Heartbeat;
use crate::{Moment, heartbeat};

/// What a node's tasks tell the watcher.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) node: NodeName,
    pub(crate) at: Moment,
    /// How long the node took to answer, of a sighting that has an answer.
    pub(crate) took: Option<Duration>,
    pub(crate) news: News,
}

/// The news in a report.
#[derive(Debug)]
pub(crate) enum News {
    Sighting(Sighting),
    Addresses(Vec<String>),
    Heartbeat(Heartbeat),
    /// Whether new connections are accepted, beside the one that is held.
    Door(Result<(), String>),
}

/// What the watcher wants of all probers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// No primary is proven: look more often.
    pub(crate) suspect: bool,
    /// Read the heartbeat row after each probe.
    pub(crate) read_heartbeat: bool,
}

/// One node's tasks.
pub(crate) struct Prober {
    pub(crate) node: NodeName,
    pub(crate) info: Conninfo,
    pub(crate) tls: Tls,
    pub(crate) config: Arc<WatchConfig>,
    pub(crate) epoch: Instant,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) orders: watch::Receiver<Orders>,
    /// Asks for a heartbeat to be written here.
    pub(crate) beat: Arc<Notify>,
    /// Keeps count of open connections, so that a stop can wait for them.
    pub(crate) connections: TaskTracker,
}

/// An open connection and what is known of it.
struct Session {
    client: Client,
    driver: JoinHandle<String>,
    /// The server has just reported that it left recovery.
    promoted: Arc<Notify>,
    access: HistoryAccess,
    branches: Option<(Timeline, Vec<Branch>)>,
    standby: bool,
    /// The newest timeline this server was seen to replay: its control file lags behind.
    replayed: Timeline,
    /// How long it took to answer the last probe.
    took: Option<Duration>,
}

impl Prober {
    /// Watches the node until the task is aborted.
    pub(crate) async fn run(mut self) {
        let mut pause = self.config.backoff_min;
        loop {
            // Side by side: a slow name server must not stand between a broken connection and the next attempt.
            let (addresses, attempt) = tokio::join!(
                probe::resolve(&self.info, self.config.timeout),
                connect(&self.info, &self.tls, self.config.timeout),
            );
            self.report(News::Addresses(addresses)).await;
            match attempt {
                Ok(connection) => {
                    // A server that accepts and then fails every probe must not be connected to in a busy loop.
                    if self.hold(connection).await {
                        pause = self.config.backoff_min;
                        continue;
                    }
                }
                Err(error) if error.kind == ConnectErrorKind::TimedOut => {
                    self.report(News::Sighting(Sighting::Missed(error.to_string()))).await;
                }
                Err(error) => self.report(News::Sighting(Sighting::Gone(error.to_string()))).await,
            }
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(self.config.backoff_max);
        }
    }

    /// Knocks at the door now and then: a stopped postmaster still serves the connections it has.
    pub(crate) async fn knock(self) {
        let (interval, limit) = (self.config.fresh_connect_interval, self.config.timeout);
        let mut failures = 0_u32;
        sleep(jittered(interval)).await;
        loop {
            let outcome = connect(&self.info, &self.tls, limit).await;
            let shut = outcome.err().filter(|e| {
                matches!(
                    e.kind,
                    ConnectErrorKind::TimedOut
                        | ConnectErrorKind::Refused
                        | ConnectErrorKind::Dropped
                )
            });
            failures = if shut.is_some() { failures.saturating_add(1) } else { 0 };
            // One lost packet is no closed door.
            if failures != 1 {
                self.report(News::Door(shut.map_or(Ok(()), |e| Err(e.to_string())))).await;
            }
            sleep(if failures == 0 { jittered(interval) } else { self.config.interval }).await;
        }
    }

    /// Asks over one connection until it ends. Tells whether it ever answered a probe.
    async fn hold(&mut self, connection: Connection) -> bool {
        let mut session = Session::begin(connection, &self.connections);
        let mut answered = false;
        let mut last_probe: Option<Instant> = None;
        let beat = Arc::clone(&self.beat);
        loop {
            let orders = *self.orders.borrow_and_update();
            let interval =
                if orders.suspect { self.config.suspect_interval } else { self.config.interval };
            // A little out of step, so that no node is always looked at just before another.
            let step = interval.min(self.config.interval).mul_f64(0.9 + fastrand::f64() / 10.0);
            let due = last_probe.map_or_else(Instant::now, |at| at + step);
            let pulse = if session.standby { self.config.pulse.min(interval) } else { interval };
            let promoted = Arc::clone(&session.promoted);
            tokio::select! {
                // The connection broke. Not news in itself: whether the server is gone, the next attempt shows at once.
                _ = &mut session.driver => return answered,
                () = tokio::time::sleep_until(due) => {}
                () = promoted.notified() => {}
                () = sleep(pulse) => {
                    if session.standby && !self.bounded(probe::pulse(&session.client)).await { return answered }
                    continue;
                }
                changed = self.orders.changed() => {
                    if changed.is_err() { return answered }
                    continue;
                }
                () = beat.notified() => {
                    if let Ok(Err(error)) = timeout(self.config.timeout, heartbeat::touch(&session.client)).await {
                        tracing::warn!(node = %self.node, "failed to write the heartbeat: {error}");
                    }
                    continue;
                }
            }
            last_probe = Some(Instant::now());
            // Dated from the question: the answer may be as old as that.
            let at = self.now();
            let Some(evidence) = self.look(&mut session).await else { return answered };
            answered = true;
            let seen = News::Sighting(Sighting::Seen(Box::new(evidence)));
            self.report_at(at, session.took, seen).await;
            if orders.read_heartbeat {
                let now = self.now();
                if let Ok(found) =
                    timeout(self.config.timeout, heartbeat::read(&session.client, now)).await
                {
                    self.report(News::Heartbeat(found)).await;
                }
            }
        }
    }

    /// Probes once, within the timeout; `None`, after reporting, when this connection is of no more use.
    async fn look(&self, session: &mut Session) -> Option<Evidence> {
        let span = tracing::debug_span!(
            target: "otel",
            "watch probe",
            otel.kind = "client",
            db.system.name = "postgresql",
            herdsman.node = %self.node,
        );
        match timeout(self.config.timeout, session.look().instrument(span)).await {
            Ok(Ok(evidence)) => Some(evidence),
            // Whether the server is gone too, the next attempt shows at once.
            Ok(Err(ProbeError::Broken(story))) => {
                tracing::debug!(node = %self.node, "the connection broke: {story}");
                None
            }
            Ok(Err(error)) => {
                self.report(News::Sighting(Sighting::Gone(error.to_string()))).await;
                None
            }
            Err(_) => {
                let limit = self.config.timeout;
                let error = format!(
                    "no answer to the probe within {limit:?}; the server is frozen, overloaded or cut off"
                );
                self.report(News::Sighting(Sighting::Missed(error))).await;
                None
            }
        }
    }

    /// Runs something small within the timeout; reports a miss when it does not answer.
    async fn bounded<E>(&self, work: impl Future<Output = Result<(), E>>) -> bool {
        match timeout(self.config.timeout, work).await {
            Ok(Ok(())) => true,
            // Closed: the driver ends next.
            Ok(Err(_)) => false,
            Err(_) => {
                let error = format!("no answer within {:?}", self.config.timeout);
                self.report(News::Sighting(Sighting::Missed(error))).await;
                false
            }
        }
    }

    async fn report(&self, news: News) {
        self.report_at(self.now(), None, news).await;
    }

    async fn report_at(&self, at: Moment, took: Option<Duration>, news: News) {
        let report = Report { node: self.node.clone(), at, took, news };
        // The watcher is gone only when everything ends.
        let _ended = self.reports.send(report).await;
    }

    fn now(&self) -> Moment {
        Moment(self.epoch.elapsed())
    }
}

impl Session {
    /// The driver is not aborted with the session: it ends by itself once the client is dropped, after saying goodbye.
    fn begin(connection: Connection, connections: &TaskTracker) -> Self {
        let promoted = Arc::new(Notify::new());
        let flag = Arc::clone(&promoted);
        let mut was_standby = false;
        let (client, driving) = connection.split(move |standby| {
            if was_standby && !standby {
                flag.notify_one();
            }
            was_standby = standby;
        });
        Self {
            client,
            driver: connections.spawn(driving),
            promoted,
            access: HistoryAccess::Closed,
            branches: None,
            standby: false,
            replayed: Timeline(0),
            took: None,
        }
    }

    async fn look(&mut self) -> Result<Evidence, ProbeError> {
        let asked = Instant::now();
        let mut evidence = probe::probe(&self.client).await?;
        // Not what the history takes, which is read once a timeline.
        self.took = Some(asked.elapsed());
        self.standby = evidence.in_recovery;
        if evidence.in_recovery {
            self.replayed = self.replayed.max(evidence.timeline);
            evidence.timeline = self.replayed;
        } else if evidence.timeline > Timeline(1) {
            let known =
                self.branches.as_ref().filter(|(timeline, _)| *timeline == evidence.timeline);
            evidence.branches = match known {
                Some((_, branches)) => branches.clone(),
                None => {
                    self.access = probe::history_access(&self.client).await;
                    let found = probe::branches(&self.client, self.access, evidence.timeline).await;
                    if !found.is_empty() || self.access == HistoryAccess::Closed {
                        self.branches = Some((evidence.timeline, found.clone()));
                    }
                    found
                }
            };
        }
        Ok(evidence)
    }
}

/// Half to all of `span`, so that a herd of watchers does not come back in step.
fn jittered(span: Duration) -> Duration {
    span.mul_f64(0.5 + fastrand::f64() / 2.0)
}
