use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use herdsman_node::NodeName;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::connection::{self, Shared};
use crate::events::Events;
use crate::tally::Tally;
use crate::{
    ApiState, BindError, HookBoard, Listen, LiveStream, MeshControl, Metrics, TlsIdentity, agent,
    listen,
};

/// The HTTP server: bound, then run until told to stop.
///
/// ```
/// use std::sync::Arc;
/// use herdsman_api::{ApiConfig, ApiState, Groups, Listen, Server};
/// use herdsman_watch::{Topology, Watch};
/// use tokio_util::sync::CancellationToken;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), herdsman_api::BindError> {
/// # let (_publisher, topology) = tokio::sync::watch::channel(Arc::new(Topology::default()));
/// let state = ApiState {
///     watch: Watch::detached(topology),
///     groups: Groups::new(),
///     config: ApiConfig::default(),
///     writes: false,
/// };
/// let listen = Listen { bind: "localhost".to_owned(), port: 0 };
/// let server = Server::bind(listen, None, state).await?;
/// assert!(server.local_addrs()[0].ip().is_loopback());
///
/// let shutdown = CancellationToken::new();
/// let running = tokio::spawn(server.run(shutdown.clone()));
/// shutdown.cancel();
/// running.await.unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    doors: Vec<Door>,
    agents: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    handle: Handle,
}

/// Where clients come in, and the node they then ask about.
#[derive(Debug)]
struct Door {
    listener: TcpListener,
    about: Option<Arc<NodeName>>,
}

/// Changes a server while it runs. Cheap to clone.
///
/// ```
/// use herdsman_api::{ApiState, Handle, Ssl, SslError};
///
/// /// What a reload does once the new configuration has been read.
/// fn reload(handle: &Handle, state: ApiState, ssl: &Ssl) -> Result<(), SslError> {
///     // Load first: a certificate that is broken must not leave half a reload behind.
///     let identity = ssl.load()?;
///     handle.reload(state);
///     handle.reload_tls(identity);
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Handle {
    state: watch::Sender<Arc<ApiState>>,
    tls: Option<watch::Sender<TlsIdentity>>,
    live: watch::Sender<Option<Arc<dyn LiveStream>>>,
    mesh: watch::Sender<Option<Arc<dyn MeshControl>>>,
    metrics: watch::Sender<Option<Arc<dyn Metrics>>>,
    hooks: watch::Sender<Option<Arc<dyn HookBoard>>>,
}

/// How long requests in progress may take to end when the server stops.
const DRAIN: Duration = Duration::from_secs(5);
/// Accepting fails when file descriptors run out; trying again at once would only burn a processor.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Server {
    /// Listens on every address of `listen`, all on the same port, and there on the ports of single nodes and of the agent
    /// that `state.config` names. Clients wait until [`Server::run`] takes them.
    ///
    /// # Errors
    /// [`BindError`] when `bind` does not resolve or an address cannot be listened on. An address this machine does
    /// not have is left out as long as there is another.
    pub async fn bind(
        listen: Listen,
        tls: Option<TlsIdentity>,
        state: ApiState,
    ) -> Result<Self, BindError> {
        Self::bind_with(listen, tls, state, &mut |_| None).await
    }

    /// As [`Server::bind`], on sockets that are listened on already, where `passed` has them.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub async fn bind_with(
        listen: Listen,
        tls: Option<TlsIdentity>,
        state: ApiState,
        passed: listen::Passed<'_>,
    ) -> Result<Self, BindError> {
        let beside = |port| Listen { bind: listen.bind.clone(), port };
        let listeners = listen::listeners(&listen, passed).await?;
        let addresses = listeners.iter().filter_map(|l| l.local_addr().ok()).collect();
        let mut doors: Vec<_> =
            listeners.into_iter().map(|listener| Door { listener, about: None }).collect();
        for (node, port) in &state.config.node_ports {
            let about = Some(Arc::new(node.clone()));
            let listeners = listen::listeners(&beside(*port), passed).await?;
            doors.extend(
                listeners.into_iter().map(|listener| Door { listener, about: about.clone() }),
            );
        }
        let agents = match state.config.agent_port {
            Some(port) => listen::listeners(&beside(port), passed).await?,
            None => Vec::new(),
        };
        let handle = Handle {
            state: watch::Sender::new(Arc::new(state)),
            tls: tls.map(watch::Sender::new),
            live: watch::Sender::new(None),
            mesh: watch::Sender::new(None),
            metrics: watch::Sender::new(None),
            hooks: watch::Sender::new(None),
        };
        Ok(Self { doors, agents, addresses, handle })
    }

    /// The addresses that are listened on.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The sockets that are listened on once more, to be handed to another process.
    ///
    /// # Errors
    /// The system has no room for them.
    pub fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let listeners = self.doors.iter().map(|door| &door.listener).chain(&self.agents);
        listeners.map(|listener| listener.as_fd().try_clone_to_owned()).collect()
    }

    /// A handle to change the server with while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves until `shutdown` is cancelled; then takes no new connection, lets requests in progress end for at most
    /// five seconds, ends what follows a stream at once, and returns.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { doors, agents, addresses: _, handle } = self;
        let tally = Tally::default();
        let asked = agent::serve(agents, handle.state.subscribe(), tally.clone(), shutdown.clone());
        let events = Events::new();
        let happening = events.gather(handle.state.subscribe(), shutdown.clone());
        let shared = handle.shared(events.clone(), tally, shutdown.clone());
        tokio::join!(serve(doors, shared, shutdown), asked, happening);
    }
}

async fn serve(doors: Vec<Door>, shared: Shared, shutdown: CancellationToken) {
    let mut state = shared.state.clone();
    let mut connections = JoinSet::new();
    let mut turn = 0;
    loop {
        let most = state.borrow_and_update().config.max_connections;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            // The limit may be another one now.
            Ok(()) = state.changed() => {}
            accepted = accept(&doors, &mut turn), if connections.len() < most => match accepted {
                Ok((stream, peer, about)) => {
                    connections.spawn(connection::serve(stream, peer, about, shared.clone()));
                    if connections.len() == most {
                        tracing::debug!(limit = most, "further connections wait until one ends");
                    }
                }
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(doors);
    drain(connections).await;
}

impl Handle {
    fn shared(&self, events: Events, tally: Tally, stop: CancellationToken) -> Shared {
        Shared {
            state: self.state.subscribe(),
            tls: self.tls.as_ref().map(watch::Sender::subscribe),
            live: self.live.subscribe(),
            mesh: self.mesh.subscribe(),
            metrics: self.metrics.subscribe(),
            hooks: self.hooks.subscribe(),
            events,
            tally,
            stop,
        }
    }

    /// Answers from another state from now on, on open connections too.
    pub fn reload(&self, state: ApiState) {
        self.state.send_replace(Arc::new(state));
    }

    /// Offers a stream of changes at `/v2/stream` from now on, or none. Whoever follows one already goes on with that.
    pub fn offer_stream(&self, live: Option<Arc<dyn LiveStream>>) {
        self.live.send_replace(live);
    }

    /// Offers a mesh at `/v2/mesh` and `/rpc` from now on, or none.
    pub fn offer_mesh(&self, mesh: Option<Arc<dyn MeshControl>>) {
        self.mesh.send_replace(mesh);
    }

    /// Offers where hooks stand at `/v2/hooks` from now on, or none.
    pub fn offer_hooks(&self, hooks: Option<Arc<dyn HookBoard>>) {
        self.hooks.send_replace(hooks);
    }

    /// Offers metrics at `/metrics` from now on, or none.
    pub fn offer_metrics(&self, metrics: Option<Arc<dyn Metrics>>) {
        self.metrics.send_replace(metrics);
    }

    /// Shows another certificate from the next handshake on. Has no effect on a server that was bound without TLS:
    /// between plain HTTP and TLS only a restart can change.
    pub fn reload_tls(&self, identity: TlsIdentity) {
        match &self.tls {
            Some(tls) => {
                tls.send_replace(identity);
            }
            None => tracing::warn!(
                "the certificate is not used: the API was started without TLS; restart to use it"
            ),
        }
    }
}

/// The next connection of any door; which one is asked first goes round.
async fn accept(
    doors: &[Door],
    turn: &mut usize,
) -> io::Result<(TcpStream, SocketAddr, Option<Arc<NodeName>>)> {
    poll_fn(|cx| {
        for offset in 0..doors.len() {
            let index = (*turn + offset) % doors.len();
            let Some(Door { listener, about }) = doors.get(index) else { continue };
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                *turn = index + 1;
                return Poll::Ready(accepted.map(|(stream, peer)| (stream, peer, about.clone())));
            }
        }
        Poll::Pending
    })
    .await
}

/// Whether accepting failed because that client went away again.
pub(crate) fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection ended in a defect of the API");
    }
}

async fn drain(mut connections: JoinSet<()>) {
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(DRAIN, all_ended).await.is_err() {
        tracing::warn!(open = connections.len(), "cutting connections that did not end in time");
        connections.shutdown().await;
    }
}
