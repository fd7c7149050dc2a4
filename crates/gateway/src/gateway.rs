//! The gateway as a whole: start, reload, stop.

mod accept;
mod bind;
mod drain;
mod janitor;
mod socket;
mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use herdsman_node::{Conninfo, NodeName};
use herdsman_watch::Watch;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use bind::{Bound, NonePassed, Passed};

use self::accept::{Door, accept};
use self::worker::Worker;
use crate::GatewayConfig;
use crate::admin::{EndWishes, Ending, ReloadWishes};
use crate::cancel::{CancelRequest, Canceller};
use crate::ledger::LedgerDoor;
use crate::shared::Shared;
use crate::stats::GatewayStatistics;

/// What a gateway needs to begin.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its section of the configuration.
    pub config: GatewayConfig,
    /// The nodes.
    pub nodes: BTreeMap<NodeName, Conninfo>,
    /// Groups of nodes by name.
    pub groups: BTreeMap<String, Vec<NodeName>>,
    /// Who is primary.
    pub watch: Watch,
}

/// A gateway could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A name has no address.
    #[error(
        "failed to resolve `{host}`: {source}; set `gateway.listen` to an address of this machine, or to `*` for all"
    )]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// An address cannot be listened on.
    #[error("failed to listen on {address}: {source}; {}", advice(.source))]
    Listen {
        /// Which.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The unix socket cannot be listened on.
    #[error("failed to listen on {}: {source}", .path.display())]
    Socket {
        /// Where it would be.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A thread did not start.
    #[error("failed to start a thread of the gateway: {0}")]
    Worker(io::Error),
    /// A file that the configuration names cannot be used.
    #[error("{0}")]
    Config(String),
}

/// A running gateway. Dropping it ends it at once; [`Gateway::stop`] lets clients finish.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    workers: Arc<[Worker]>,
    /// The doors and the janitor: each ends only when it is told to.
    tasks: JoinSet<&'static str>,
    addresses: Vec<SocketAddr>,
    socket: Option<socket::UnixSocket>,
    /// What needs a restart to change.
    begun_with: Fixed,
}

/// The keys whose change a running gateway cannot follow.
#[derive(Debug, PartialEq, Eq)]
struct Fixed {
    listen: Vec<String>,
    unix_socket_dir: Option<PathBuf>,
    workers: usize,
}

/// Reads what a gateway has counted. Cheap to clone.
#[derive(Clone)]
pub struct Statistics(Arc<Shared>);

impl Statistics {
    /// Everything, at this moment.
    #[must_use]
    pub fn read(&self) -> GatewayStatistics {
        crate::admin::statistics(&self.0)
    }
}

impl fmt::Debug for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statistics").finish_non_exhaustive()
    }
}

impl Gateway {
    /// Listens on every address, without serving anybody yet.
    ///
    /// # Errors
    /// [`StartError`] names the first address that cannot be had, and why.
    pub async fn bind(config: &GatewayConfig) -> Result<Bound, StartError> {
        Self::bind_with(config, &mut NonePassed).await
    }

    /// As [`Gateway::bind`], on sockets that are listened on already, where `passed` has them.
    ///
    /// # Errors
    /// [`StartError`] names the first address that cannot be had, and why.
    pub async fn bind_with(
        config: &GatewayConfig,
        passed: &mut dyn Passed,
    ) -> Result<Bound, StartError> {
        Bound::new(config, passed).await
    }

    /// Listens and serves. Must be called in a runtime with more than one thread: clients are accepted there, and served
    /// on threads of the gateway's own.
    ///
    /// # Errors
    /// [`StartError`]; nothing has begun then.
    pub async fn start(setup: Setup) -> Result<Self, StartError> {
        let bound = Self::bind(&setup.config).await?;
        Self::run(bound, setup).await
    }

    /// Serves those who come to the addresses of [`Gateway::bind`].
    ///
    /// # Errors
    /// [`StartError`]; nothing has begun then.
    pub async fn run(bound: Bound, setup: Setup) -> Result<Self, StartError> {
        Self::run_with(bound, setup, None).await
    }

    /// Serves a ledger's database to those who come to the addresses of [`Gateway::bind`]. Users, TLS and limits are those
    /// of the configuration; its nodes and databases are not looked at.
    ///
    /// # Errors
    /// [`StartError`]; nothing has begun then.
    pub async fn serve_ledger(
        bound: Bound,
        config: GatewayConfig,
        door: LedgerDoor,
    ) -> Result<Self, StartError> {
        let (_, nobody) = tokio::sync::watch::channel(Arc::default());
        let config = GatewayConfig { databases: BTreeMap::new(), ..config };
        let (nodes, groups) = (BTreeMap::new(), BTreeMap::new());
        let setup = Setup { config, nodes, groups, watch: Watch::detached(nobody) };
        Self::run_with(bound, setup, Some(Arc::new(door))).await
    }

    async fn run_with(
        mut bound: Bound,
        setup: Setup,
        ledger: Option<Arc<LedgerDoor>>,
    ) -> Result<Self, StartError> {
        let begun_with = Fixed::of(&setup.config);
        let mut workers = Vec::new();
        for number in 0..setup.config.workers() {
            workers.push(Worker::start(number).await.map_err(StartError::Worker)?);
        }
        let mut shared = Shared::new(setup).map_err(StartError::Config)?;
        shared.ledger = ledger;
        let shared = Arc::new(shared);
        shared.start();
        let workers: Arc<[Worker]> = workers.into();
        // On a worker, since it uses server connections, which live there.
        if let (Some(worker), None) = (workers.first(), &shared.ledger) {
            worker.handle().spawn(crate::catalogue::learn(Arc::clone(&shared)));
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(janitor::keep(Arc::clone(&shared)));
        let tcp = std::mem::take(&mut bound.tcp).into_iter().map(Door::Tcp);
        let unix = bound.unix.as_mut().and_then(|socket| socket.listener.take()).map(Door::Unix);
        for door in tcp.chain(unix) {
            tasks.spawn(accept(door, Arc::clone(&workers), Arc::clone(&shared)));
        }
        let addresses = std::mem::take(&mut bound.addresses);
        Ok(Self { shared, workers, tasks, addresses, socket: bound.unix, begun_with })
    }

    /// The addresses it listens on, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The unix socket, where there is one.
    #[must_use]
    pub fn unix_socket(&self) -> Option<&Path> {
        self.socket.as_ref().map(|socket| socket.path.as_path())
    }

    /// How many clients there are.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.shared.clients.count()
    }

    /// Goes on with another configuration; no client is dropped. Returns the keys whose change takes a restart.
    ///
    /// # Errors
    /// What cannot be used, in words; then everything stays as it was.
    pub fn reload(&self, setup: Setup) -> Result<Vec<&'static str>, String> {
        let keys = self.begun_with.changed(&Fixed::of(&setup.config));
        self.shared.reload(setup)?;
        Ok(keys)
    }

    /// Has new transactions wait; those that run may end, and their server connections are closed then. As `PAUSE` in the
    /// admin database, which waits for that.
    pub fn pause(&self) {
        self.shared.pools.pause(None);
    }

    /// Ends what [`Gateway::pause`] began, and `PAUSE`, `KILL` or `HOLD` in the admin database. Whether there was anything
    /// to end.
    pub fn resume(&self) -> bool {
        crate::admin::resume(&self.shared)
    }

    /// Everything it has counted: for metrics.
    #[must_use]
    pub fn statistics(&self) -> GatewayStatistics {
        crate::admin::statistics(&self.shared)
    }

    /// Where [`Gateway::statistics`] can be read from elsewhere, for as long as anybody wants.
    #[must_use]
    pub fn statistics_reader(&self) -> Statistics {
        Statistics(Arc::clone(&self.shared))
    }

    /// Where administrators ask for the configuration to be read again (`RELOAD` in the admin database). Whoever runs the
    /// gateway does so, calls [`Gateway::reload`], and answers the wish.
    #[must_use]
    pub fn reload_wishes(&self) -> ReloadWishes {
        self.shared.desk.wishes()
    }

    /// Where administrators ask for the gateway to end (`SHUTDOWN` in the admin database). Whoever runs the gateway calls
    /// [`Gateway::leave`] with what it is told there, and then [`Gateway::stop`].
    #[must_use]
    pub fn end_wishes(&self) -> EndWishes {
        self.shared.desk.end_wishes()
    }

    /// Requests to cancel that come with a key that nobody holds here, from now on; at most 64 wait. Whoever has taken the
    /// sockets over from another process, where clients stayed, passes them on to it, for its [`Gateway::canceller`].
    #[must_use]
    pub fn unknown_cancels(&self) -> mpsc::Receiver<CancelRequest> {
        self.shared.reception.cancels.unknown()
    }

    /// Carries out requests to cancel that came to another process.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller(Arc::clone(&self.shared))
    }

    /// Accepts nobody any more, and comes back when clients have left as `how` says, however long that takes. Dropped before
    /// that, nobody is accepted all the same; [`Gateway::stop`] is what comes next either way.
    pub async fn leave(&self, how: Ending) {
        let served = || self.workers.iter().map(Worker::clients).sum();
        drain::leave(&self.shared, how, served).await;
    }

    /// Leaves the unix socket's file behind when it ends: another process listens there on the same socket.
    pub fn hand_over(&mut self) {
        if let Some(socket) = &mut self.socket {
            socket.leave_behind();
        }
    }

    /// Comes back when a part of the gateway has died, and says which: then it is not to be relied on any more.
    pub async fn failed(&mut self) -> String {
        let workers = Arc::clone(&self.workers);
        tokio::select! {
            ended = self.tasks.join_next() => match ended {
                Some(Ok(what)) => format!("{what} of the gateway ended by itself"),
                Some(Err(error)) => format!("a task of the gateway ended badly: {error}"),
                None => "the gateway has been stopped".to_owned(),
            },
            name = worker::first_to_end(&workers) => format!("the thread {name} ended by itself"),
        }
    }

    /// Lets clients leave in order: no new ones, those who are idle at once, those in a transaction when it is over,
    /// and those who take longer than `drain_timeout` then.
    pub async fn stop(mut self) {
        drain::drain(&self.shared).await;
        self.shared.ended.cancel();
        self.tasks.shutdown().await;
        drop(self.socket.take());
        for worker in &*self.workers {
            worker.stop().await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // The herd's tasks are nobody else's to end.
        self.shared.closed.cancel();
        self.shared.draining.cancel();
        self.shared.ended.cancel();
    }
}

impl Fixed {
    fn of(config: &GatewayConfig) -> Self {
        Self {
            listen: config.listen.clone(),
            unix_socket_dir: config.unix_socket_dir.clone(),
            workers: config.workers(),
        }
    }

    fn changed(&self, other: &Self) -> Vec<&'static str> {
        let changed = [
            ("gateway.listen", self.listen != other.listen),
            ("gateway.unix_socket_dir", self.unix_socket_dir != other.unix_socket_dir),
            ("gateway.workers", self.workers != other.workers),
        ];
        changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there: stop it or set another port in `gateway.listen`"
        }
        io::ErrorKind::PermissionDenied => {
            "the system allows this user no such port: set one from 1024 on in `gateway.listen`"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: set `gateway.listen` to one it has, or to `*:port` for all"
        }
        _ => "set another address in `gateway.listen`",
    }
}
