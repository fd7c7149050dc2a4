//! The edge that keeps the topology current, and the handle through which everyone reads it.

mod dispatcher;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use herdsman_node::{Conninfo, NodeName, Tls, TlsError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::dispatcher::{Dispatcher, Request};
use crate::config::{AvailabilityConfig, WatchConfig};
use crate::judge::Memory;
use crate::reports::Desk;
use crate::{Event, Moment, Reports, Topology, state};

/// A handle on a running watcher: cheap to clone, never blocks, never fails.
#[derive(Clone, Debug)]
pub struct Watch {
    topology: watch::Receiver<Arc<Topology>>,
    requests: Option<mpsc::Sender<Request>>,
    desk: Desk,
    epoch: Instant,
}

/// What a watcher needs to begin.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The nodes to look at.
    pub nodes: BTreeMap<NodeName, Conninfo>,
    /// How to look and judge.
    pub watch: WatchConfig,
    /// The heartbeat behind availability.
    pub availability: AvailabilityConfig,
}

/// A watcher could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is nothing to watch.
    #[error("no hosts are configured; list at least one under `hosts`")]
    NoNodes,
    /// A node's TLS files do not work.
    #[error("failed to prepare TLS for node {node}: {source}")]
    Tls {
        /// The node.
        node: NodeName,
        /// What is wrong with its files.
        source: TlsError,
    },
    /// The state file cannot be read.
    #[error(
        "failed to read the state file `{path}`: {problem}; mend it, or delete it to forget the fences it keeps"
    )]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// A running watcher. Dropping it stops it.
#[derive(Debug)]
pub struct Watcher {
    watch: Watch,
    requests: mpsc::Sender<Request>,
    task: JoinHandle<()>,
}

/// Setup with everything that can fail done.
#[derive(Debug)]
struct Ready {
    nodes: BTreeMap<NodeName, (Conninfo, Tls)>,
    watch: WatchConfig,
    availability: AvailabilityConfig,
    pin_until: Option<Moment>,
}

impl Watch {
    /// A handle on topologies that come from somewhere else than a watcher: for tests and tools.
    #[must_use]
    pub fn detached(topology: watch::Receiver<Arc<Topology>>) -> Self {
        Self { topology, requests: None, desk: Desk::new(), epoch: Instant::now() }
    }

    /// The topology now. Answers from memory.
    #[must_use]
    pub fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology.borrow())
    }

    /// Follows the topology's changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Topology>> {
        self.topology.clone()
    }

    /// Tells all who follow [`reports`](Self::reports) of something that no topology shows: conflicts of a mesh, and the lag
    /// between its members. Returns at once.
    pub fn report(&self, event: Event) {
        self.desk.report(event);
    }

    /// Follows what is reported from now on, through any handle of this watcher. What topologies show is not among it:
    /// [`Event::between`] makes that of [`subscribe`](Self::subscribe).
    #[must_use]
    pub fn reports(&self) -> Reports {
        self.desk.follow()
    }

    /// The watcher's clock, which the moments inside a topology are on.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment(self.epoch.elapsed())
    }

    /// Tells the watcher that somebody wants to know the availability of a node. Returns at once.
    pub fn availability_wanted(&self) {
        if let Some(requests) = &self.requests {
            // A full queue holds the same wish already.
            let _already_wished = requests.try_send(Request::Availability);
        }
    }
}

impl Watcher {
    /// Starts watching; must be called inside a tokio runtime. Returns at once: the first topology says that nothing
    /// is known yet.
    ///
    /// # Errors
    /// [`StartError`] when there are no nodes, a node's TLS files cannot be used, or the state file cannot be read.
    pub fn start(setup: Setup) -> Result<Self, StartError> {
        let epoch = Instant::now();
        let memory = match &setup.watch.state_file {
            Some(path) => state::load(path)
                .map_err(|problem| StartError::State { path: path.clone(), problem })?,
            None => Memory::default(),
        };
        let ready = Ready::new(setup, epoch)?;
        let (requests, inbox) = mpsc::channel(16);
        let (dispatcher, topology) = Dispatcher::new(ready, memory, epoch);
        let task = tokio::spawn(dispatcher.run(inbox));
        let (asked, desk) = (Some(requests.clone()), Desk::new());
        let watch = Watch { topology, requests: asked, desk, epoch };
        Ok(Self { watch, requests, task })
    }

    /// The handle to read the topology through.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Continues with a changed configuration; what was learnt (fences, the last primary) is kept.
    ///
    /// # Errors
    /// [`StartError`] as for [`Watcher::start`]; the old configuration then stays in force.
    pub async fn reload(&mut self, setup: Setup) -> Result<(), StartError> {
        let ready = Box::new(Ready::new(setup, self.watch.epoch)?);
        // The dispatcher ends only with this handle.
        let _ended = self.requests.send(Request::Reload(ready)).await;
        Ok(())
    }

    /// Stops watching and waits, for a few seconds at most, until every connection is closed.
    pub async fn stop(mut self) {
        let (done, stopped) = oneshot::channel();
        if self.requests.send(Request::Stop(done)).await.is_ok() {
            let _deadline = tokio::time::timeout(Duration::from_secs(5), stopped).await;
        }
        let _ended = tokio::time::timeout(Duration::from_secs(1), &mut self.task).await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ready {
    fn new(setup: Setup, epoch: Instant) -> Result<Self, StartError> {
        if setup.nodes.is_empty() {
            return Err(StartError::NoNodes);
        }
        let prepare = |(node, info): (NodeName, Conninfo)| match Tls::new(&info) {
            Ok(tls) => Ok((node, (info, tls))),
            Err(source) => Err(StartError::Tls { node, source }),
        };
        let nodes = setup.nodes.into_iter().map(prepare).collect::<Result<_, _>>()?;
        let until = setup.watch.pin.as_ref().and_then(|pin| pin.until);
        let pin_until = until.map(|t| {
            Moment(epoch.elapsed()) + t.duration_since(SystemTime::now()).unwrap_or_default()
        });
        Ok(Self { nodes, watch: setup.watch, availability: setup.availability, pin_until })
    }
}
