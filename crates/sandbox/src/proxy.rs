//! A TCP proxy with faults on demand.
//!
//! What real networks do to connections, on one loopback port: pass, delay, swallow silently (a blackhole: the peer
//! stays "connected" and hears nothing), close, reset. It looks at no byte it carries.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

mod carry;

/// Connections one proxy holds at most; further ones are reset. Far above what a watcher, its fresh connects and an
/// application of a test need, and low enough that a leak is noticed before the machine runs out of sockets.
const MAX_CONNECTIONS: usize = 512;

/// What a proxy does to the traffic it carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// Nothing: bytes pass at once.
    #[default]
    Pass,
    /// Every byte comes this much later, in both directions.
    Delay(Duration),
    /// A blackhole: connections are accepted and held, existing ones stay open, and nothing passes either way. What was
    /// swallowed is delivered when the fault ends, as TCP does once a network is back.
    Stall,
    /// A one-way blackhole: the server hears the client, the client does not hear the server.
    StallToClient,
    /// Existing connections are closed in an orderly way (FIN), new ones are reset at once.
    Cut,
    /// Existing connections are reset (RST) once; the proxy then passes again.
    Reset,
}

/// A proxy on a loopback port of its own in front of one server. Dropped, it closes everything it holds.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    upstream: SocketAddr,
    order: watch::Sender<Order>,
    counts: Arc<Counts>,
    listener: AbortHandle,
}

/// What every connection is to do now. The counters let a connection notice a cut or reset that was over before it
/// looked.
#[derive(Clone, Copy, Debug, Default)]
struct Order {
    fault: Fault,
    cuts: u64,
    resets: u64,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    live: AtomicUsize,
}

impl FaultProxy {
    /// Listens on a free port of 127.0.0.1 and passes to `upstream`. Needs a tokio runtime, on which it lives.
    ///
    /// # Errors
    /// The system has no port to give.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        Self::start_on(0, upstream).await
    }

    /// As [`FaultProxy::start`], on a given port; 0 means any.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn start_on(port: u16, upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = listener.local_addr()?.port();
        let (order, orders) = watch::channel(Order::default());
        let counts = Arc::new(Counts::default());
        let accepting = tokio::spawn(accept(listener, upstream, orders, Arc::clone(&counts)));
        Ok(Self { port, upstream, order, counts, listener: accepting.abort_handle() })
    }

    /// The port clients connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server behind it.
    #[must_use]
    pub fn upstream(&self) -> SocketAddr {
        self.upstream
    }

    /// Changes what happens to the traffic, existing connections included.
    pub fn set(&self, fault: Fault) {
        self.order.send_modify(|order| {
            order.fault = if fault == Fault::Reset { Fault::Pass } else { fault };
            order.cuts += u64::from(fault == Fault::Cut);
            order.resets += u64::from(fault == Fault::Reset);
        });
    }

    /// The fault in force. Never [`Fault::Reset`], which is over as soon as it is set.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.order.borrow().fault
    }

    /// Connections accepted since the start.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// Connections held now.
    #[must_use]
    pub fn live(&self) -> usize {
        self.counts.live.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // The task owns all connections, so they go with it.
        self.listener.abort();
    }
}

async fn accept(
    listener: TcpListener,
    upstream: SocketAddr,
    orders: watch::Receiver<Order>,
    counts: Arc<Counts>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    counts.accepted.fetch_add(1, Ordering::Relaxed);
                    if orders.borrow().fault == Fault::Cut || connections.len() >= MAX_CONNECTIONS {
                        carry::reset(&client);
                        continue;
                    }
                    let guard = Live::enter(&counts);
                    let orders = orders.clone();
                    connections.spawn(async move {
                        let _guard = guard;
                        carry::carry(client, upstream, orders).await;
                    });
                }
                Err(error) => {
                    // Out of file descriptors, for one: it may pass, and must not turn into a busy loop.
                    tracing::warn!(%error, "proxy cannot accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// Counts one connection for as long as it lives, also when its task is aborted.
struct Live(Arc<Counts>);

impl Live {
    fn enter(counts: &Arc<Counts>) -> Self {
        counts.live.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counts))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Connects to the server as a client would, within a bound.
async fn connect(upstream: SocketAddr) -> io::Result<TcpStream> {
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(upstream)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}
