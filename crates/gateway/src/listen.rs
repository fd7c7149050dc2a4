//! From an accepted socket to a client that is logged in.

mod ask;
mod enter;
mod first;
mod login;
mod prove;
mod reception;
mod stream;
mod tls;

use std::fmt;
use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use bytes::BytesMut;

use crate::client::Card;
use crate::config::Target;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::{admin, ledger, relay};

pub(crate) use reception::Reception;
pub(crate) use stream::ClientStream;
pub(crate) use tls::TlsError;

/// A client that has logged in and been told that we are ready.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: ClientStream,
    /// What came after its login.
    pub(crate) unread: BytesMut,
    pub(crate) card: Arc<Card>,
    /// What its start-up packet asked for.
    pub(crate) settings: Settings,
    /// `-c herdsman.target=…` in its options.
    pub(crate) target: Option<Target>,
    /// Which worker serves it.
    pub(crate) worker: usize,
}

/// A socket just accepted, which does not block and belongs to no runtime yet.
#[derive(Debug)]
pub(crate) enum Socket {
    /// TCP, and who is at its other end.
    Tcp(StdTcpStream, SocketAddr),
    /// The unix socket.
    Unix(StdUnixStream),
}

/// Serves whoever is at the other end of a socket, from its first byte until it leaves. To be spawned on a worker.
pub(crate) async fn serve(socket: Socket, shared: Arc<Shared>, worker: usize) {
    // On the heap: what a login needs is large, and a client keeps this task's memory for as long as it stays.
    let Some(guest) = Box::pin(login::admit(socket, &shared, worker)).await else { return };
    // Until it has left it is on the list of clients, and counted.
    let _stay = guest.stay;
    if guest.console {
        Box::pin(admin::serve(guest.client, shared)).await;
    } else if let Some(door) = shared.ledger.clone() {
        Box::pin(ledger::serve(guest.client, shared, door)).await;
    } else {
        // It sees to it itself that others have their turn.
        tokio::task::unconstrained(relay::serve(guest.client, shared)).await;
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Peer {
    /// Whose address is shown. `None`: the unix socket.
    address: Option<SocketAddr>,
    /// Whether it is certain that it is on this machine.
    local: bool,
}

impl Peer {
    const fn unix() -> Self {
        Self { address: None, local: true }
    }

    fn direct(address: SocketAddr) -> Self {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { address: Some(address), local: address.ip().is_loopback() }
    }

    /// `client`, by the word of a proxy: taken to be local only where both are, because anybody could say so.
    fn proxied(client: SocketAddr, proxy: SocketAddr) -> Self {
        let local = Self::direct(proxy).local && client.ip().is_loopback();
        Self { address: Some(client), local }
    }

    /// Somebody behind a proxy that does not say who.
    fn unknown(proxy: SocketAddr) -> Self {
        Self { local: false, ..Self::direct(proxy) }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str("unix socket"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
