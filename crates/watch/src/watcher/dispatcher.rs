//! The one task that owns the judge: reports go in, topologies come out, everything in one order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use herdsman_node::NodeName;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use super::Ready;
use crate::config::HeartbeatSchedule;
use crate::evidence::Sighting;
use crate::judge::{Judge, Memory};
use crate::prober::{News, Orders, Prober, Report};
use crate::topology::{Lag, NodeView, Topology, Verdict, Why};
use crate::{Moment, authority, probe, state};

/// News that changes nothing is gathered this long before the judge looks, so that a large herd costs little.
const GATHER: Duration = Duration::from_millis(20);
/// The judge looks at least this often: evidence grows old without anybody reporting it.
const LOOK: Duration = Duration::from_millis(100);
/// On-demand heartbeats go on this long after the last availability request.
const WANTED_FOR: Duration = Duration::from_secs(600);

/// What the handles ask of the dispatcher.
#[derive(Debug)]
pub(super) enum Request {
    /// Somebody asked for availability.
    Availability,
    /// The configuration changed.
    Reload(Box<Ready>),
    /// It is over; answer when everything is closed.
    Stop(oneshot::Sender<()>),
}

/// Owns the judge and the node tasks.
pub(super) struct Dispatcher {
    ready: Ready,
    judge: Judge,
    epoch: Instant,
    publish: watch::Sender<Arc<Topology>>,
    published_at: Moment,
    orders: watch::Sender<Orders>,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    answers: (mpsc::Sender<Option<NodeName>>, mpsc::Receiver<Option<NodeName>>),
    beats: BTreeMap<NodeName, Arc<Notify>>,
    beat_at: Option<Moment>,
    wanted_at: Option<Moment>,
    tasks: JoinSet<()>,
    connections: TaskTracker,
    saved: Memory,
    saving: Option<JoinHandle<()>>,
}

impl Dispatcher {
    /// A dispatcher, and where it publishes: first a topology in which every node is still unknown.
    pub(super) fn new(
        ready: Ready,
        memory: Memory,
        epoch: Instant,
    ) -> (Self, watch::Receiver<Arc<Topology>>) {
        let mut judge =
            Judge::new(ready.watch.clone(), addresses(&ready), memory.clone(), ready.pin_until);
        let (publish, topology) = watch::channel(Arc::new(judge.judge(Moment(epoch.elapsed()))));
        // Each node has a handful of reports under way at most; a full queue only makes probers wait.
        let room = ready.nodes.len() * 4 + 16;
        let dispatcher = Self {
            judge,
            epoch,
            publish,
            published_at: Moment::default(),
            orders: watch::Sender::new(Orders { suspect: true, read_heartbeat: false }),
            reports: mpsc::channel(room),
            answers: mpsc::channel(1),
            beats: BTreeMap::new(),
            beat_at: None,
            wanted_at: None,
            tasks: JoinSet::new(),
            connections: TaskTracker::new(),
            saved: memory,
            saving: None,
            ready,
        };
        (dispatcher, topology)
    }

    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        self.spawn_tasks();
        let mut look_at = Instant::now() + LOOK;
        loop {
            tokio::select! {
                report = self.reports.1.recv() => {
                    let mut urgent = report.is_some_and(|r| self.take(r));
                    while let Ok(report) = self.reports.1.try_recv() {
                        urgent |= self.take(report);
                    }
                    look_at = if urgent { Instant::now() } else { look_at.min(Instant::now() + GATHER) };
                    if !urgent {
                        continue;
                    }
                }
                Some(named) = self.answers.1.recv() => self.judge.hear_authority(self.now(), named),
                request = requests.recv() => match request {
                    Some(Request::Availability) => self.availability_wanted(),
                    Some(Request::Reload(ready)) => self.reload(*ready).await,
                    Some(Request::Stop(done)) => {
                        self.stop_tasks().await;
                        let _nobody_waits = done.send(());
                        return;
                    }
                    None => return self.stop_tasks().await,
                },
                () = sleep_until(look_at) => {}
            }
            self.look();
            look_at = Instant::now() + LOOK;
        }
    }

    fn now(&self) -> Moment {
        Moment(self.epoch.elapsed())
    }

    fn spawn_tasks(&mut self) {
        let config = Arc::new(self.ready.watch.clone());
        for (node, (info, tls)) in &self.ready.nodes {
            let beat = Arc::new(Notify::new());
            self.beats.insert(node.clone(), Arc::clone(&beat));
            let prober = || Prober {
                node: node.clone(),
                info: info.clone(),
                tls: tls.clone(),
                config: Arc::clone(&config),
                epoch: self.epoch,
                reports: self.reports.0.clone(),
                orders: self.orders.subscribe(),
                beat: Arc::clone(&beat),
                connections: self.connections.clone(),
            };
            self.tasks.spawn(prober().run());
            self.tasks.spawn(prober().knock());
        }
        if let Some(authority) = &self.ready.watch.authority {
            let nodes: BTreeSet<_> = self.ready.nodes.keys().cloned().collect();
            self.tasks.spawn(authority::run(
                authority.clone(),
                Arc::new(nodes),
                self.answers.0.clone(),
            ));
        }
    }

    async fn stop_tasks(&mut self) {
        self.tasks.shutdown().await;
        self.connections.close();
        // A frozen server cannot make us wait for its goodbye.
        let _deadline = tokio::time::timeout(Duration::from_secs(2), self.connections.wait()).await;
        self.connections = TaskTracker::new();
        self.beats.clear();
    }

    async fn reload(&mut self, ready: Ready) {
        self.stop_tasks().await;
        // What the old tasks said last is about nodes that may be gone; what the judge knows of them it keeps.
        while self.reports.1.try_recv().is_ok() {}
        self.judge.reconfigure(ready.watch.clone(), addresses(&ready), ready.pin_until);
        self.ready = ready;
        self.spawn_tasks();
    }

    /// Takes in one report; tells whether the judge should look at once.
    fn take(&mut self, Report { node, at, took, news }: Report) -> bool {
        if let Some(took) = took {
            self.judge.hear_latency(&node, took);
        }
        match news {
            News::Sighting(sighting) => {
                let urgent =
                    !matches!(&sighting, Sighting::Seen(e) if self.judge.expects(&node, e));
                self.judge.observe(at, &node, sighting);
                urgent
            }
            News::Addresses(addresses) => {
                self.judge.hear_addresses(&node, addresses);
                false
            }
            News::Heartbeat(heartbeat) => {
                self.judge.hear_heartbeat(&node, heartbeat);
                false
            }
            News::Door(door) => self.judge.hear_door(at, &node, door.err()),
        }
    }

    fn availability_wanted(&mut self) {
        let now = self.now();
        self.wanted_at = Some(now);
        if self.ready.availability.writes {
            self.beat();
        }
    }

    /// Judges, publishes what changed, and gives the orders that follow from it.
    fn look(&mut self) {
        let now = self.now();
        let topology = self.judge.judge(now);
        let before = Arc::clone(&self.publish.borrow());
        let changed = !same_but_for_progress(&before, &topology);
        if changed {
            announce(&before, &topology);
        }
        let wanted = self.wanted_at.is_some_and(|at| now.since(at) <= WANTED_FOR);
        let always = self.ready.availability.heartbeat == HeartbeatSchedule::Always;
        // Of a mesh nobody is waited for to become the primary.
        let suspect = topology.primary().is_none() && !topology.is_mesh();
        let orders = Orders { suspect, read_heartbeat: wanted || always };
        self.orders.send_if_modified(|old| std::mem::replace(old, orders) != orders);
        if changed || now.since(self.published_at) >= self.ready.watch.interval / 2 {
            self.published_at = now;
            self.publish.send_replace(Arc::new(topology));
        }
        self.save_memory();
        let scheduled = match self.ready.availability.heartbeat {
            HeartbeatSchedule::Always => true,
            HeartbeatSchedule::OnDemand => wanted,
            HeartbeatSchedule::Never => false,
        };
        let due = self.beat_at.is_none_or(|at| now.since(at) >= self.ready.availability.interval);
        if scheduled && due && !self.ready.availability.writes {
            self.beat_at = Some(now);
            self.beat();
        }
    }

    /// Has the heartbeat written on the proven primary, and nowhere else.
    fn beat(&self) {
        let topology = Arc::clone(&self.publish.borrow());
        if let Some(beat) = topology.primary().and_then(|node| self.beats.get(node)) {
            beat.notify_one();
        }
    }

    fn save_memory(&mut self) {
        let Some(path) = self.ready.watch.state_file.clone() else { return };
        // One save at a time, so that they land in order; the next look comes soon.
        let busy = self.saving.as_ref().is_some_and(|task| !task.is_finished());
        if busy || !self.judge.memory().is_worth_saving_over(&self.saved) {
            return;
        }
        let memory = self.judge.memory().clone();
        self.saved = memory.clone();
        self.saving = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = state::save(&path, &memory) {
                let path = path.display();
                tracing::error!(
                    "failed to write the state file `{path}`: {error}; fences would not survive a restart"
                );
            }
        }));
    }
}

fn addresses(ready: &Ready) -> BTreeMap<NodeName, Vec<String>> {
    let extra = &ready.watch.replication_addresses;
    ready
        .nodes
        .iter()
        .map(|(name, (info, _))| (name.clone(), probe::configured_addresses(name, info, extra)))
        .collect()
}

/// Whether two topologies differ in nothing but positions, lags and ages.
fn same_but_for_progress(a: &Topology, b: &Topology) -> bool {
    let same_view = |a: &NodeView, b: &NodeView| {
        a.role == b.role
            && a.readable == b.readable
            && a.fenced == b.fenced
            && a.foreign == b.foreign
            && a.lag_alarm == b.lag_alarm
            && a.timeline == b.timeline
            && a.follows == b.follows
            && a.error == b.error
    };
    a.verdict == b.verdict
        && a.term == b.term
        && a.nodes.len() == b.nodes.len()
        && a.nodes.iter().zip(&b.nodes).all(|((m, a), (n, b))| m == n && same_view(a, b))
}

/// Tells the log what changed.
fn announce(before: &Topology, after: &Topology) {
    if before.version == 1 || !same_conclusion(&before.verdict, &after.verdict) {
        match &after.verdict {
            Verdict::None { why: Why::Mesh, .. } => tracing::info!("{}", after.verdict),
            Verdict::Primary { .. } => tracing::info!(term = after.term, "{}", after.verdict),
            Verdict::SplitBrain { .. } | Verdict::None { .. } => {
                tracing::warn!("{}", after.verdict);
            }
        }
    }
    for (name, view) in &after.nodes {
        let alarmed = before.nodes.get(name).is_some_and(|old| old.lag_alarm);
        match (alarmed, view.lag_alarm, view.lag) {
            (false, true, Some(Lag { bytes, seconds })) => {
                tracing::warn!(
                    "{name} is {bytes} bytes and {seconds:.1} s behind (watch.lag_alarm)"
                );
            }
            (true, false, _) => tracing::info!("{name} is not far behind any more"),
            _ => {}
        }
        let seen = |v: &NodeView| (v.role, v.readable, v.fenced);
        if before.nodes.get(name).is_none_or(|old| seen(old) != seen(view)) {
            let readable = if view.readable { "readable" } else { "not readable" };
            let separator = if view.reasons.is_empty() { "" } else { ": " };
            tracing::info!(
                "{name} is {}, {readable}{separator}{}",
                view.role,
                view.reasons.join("; ")
            );
        }
    }
}

/// Whether two verdicts differ at most in their words: a reason may count bytes that grow with every look.
fn same_conclusion(a: &Verdict, b: &Verdict) -> bool {
    match (a, b) {
        (
            Verdict::Primary { node: a, timeline: t, .. },
            Verdict::Primary { node: b, timeline: u, .. },
        ) => (a, t) == (b, u),
        (Verdict::SplitBrain { claimants: a, .. }, Verdict::SplitBrain { claimants: b, .. }) => {
            a == b
        }
        (Verdict::None { why: a, .. }, Verdict::None { why: b, .. }) => a == b,
        _ => false,
    }
}
