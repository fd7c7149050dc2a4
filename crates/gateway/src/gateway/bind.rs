//! Every port first: nothing else begins before each address is ours.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, lookup_host};

use super::StartError;
use super::socket::UnixSocket;
use crate::config::{Address, GatewayConfig};

/// Every address of the configuration, listened on; clients wait there until [`crate::Gateway::run`] is called.
#[derive(Debug)]
pub struct Bound {
    pub(super) tcp: Vec<TcpListener>,
    pub(super) unix: Option<UnixSocket>,
    pub(super) addresses: Vec<SocketAddr>,
}

/// Sockets that somebody listens on already: each is given once. A socket of one run of the program after the other loses no
/// client that comes between them.
pub trait Passed: Send {
    /// The one at this address, where there is one.
    fn tcp(&mut self, address: SocketAddr) -> Option<StdTcpListener>;

    /// The one at this path, where there is one.
    fn unix(&mut self, path: &Path) -> Option<StdUnixListener>;
}

/// There are none.
#[derive(Clone, Copy, Debug)]
pub struct NonePassed;

impl Passed for NonePassed {
    fn tcp(&mut self, _: SocketAddr) -> Option<StdTcpListener> {
        None
    }

    fn unix(&mut self, _: &Path) -> Option<StdUnixListener> {
        None
    }
}

const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Clients that come at once, as after a restart, wait here instead of being refused.
const BACKLOG: u32 = 4096;

impl Bound {
    /// The addresses, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The sockets themselves once more, to be handed to another process.
    ///
    /// # Errors
    /// The system has no room for them.
    pub fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let unix = self.unix.as_ref().and_then(|socket| socket.listener.as_ref());
        let unix = unix.map(AsFd::as_fd);
        let tcp = self.tcp.iter().map(AsFd::as_fd);
        tcp.chain(unix).map(|socket| socket.try_clone_to_owned()).collect()
    }

    pub(super) async fn new(
        config: &GatewayConfig,
        passed: &mut dyn Passed,
    ) -> Result<Self, StartError> {
        let mut bound = Self { tcp: Vec::new(), unix: None, addresses: Vec::new() };
        for text in &config.listen {
            let failed = |source| StartError::Listen { address: text.clone(), source };
            let address: Address = text.parse().map_err(|expected: &str| {
                failed(io::Error::new(ErrorKind::InvalidInput, format!("expected {expected}")))
            })?;
            for listener in listeners(&address, passed).await? {
                bound.addresses.push(listener.local_addr().map_err(failed)?);
                bound.tcp.push(listener);
            }
        }
        let first = bound.addresses.first().map(SocketAddr::port);
        if let (Some(folder), Some(port)) = (&config.unix_socket_dir, first) {
            bound.unix = Some(UnixSocket::bind_with(folder, port, passed)?);
        }
        Ok(bound)
    }
}

/// Listens on every address that the host has, all on the same port.
async fn listeners(
    wanted: &Address,
    passed: &mut dyn Passed,
) -> Result<Vec<TcpListener>, StartError> {
    let mut port = wanted.port;
    let mut listeners = Vec::new();
    let mut absent = None;
    for ip in resolve(wanted).await? {
        let address = SocketAddr::new(ip, port);
        let failed = |source| StartError::Listen { address: address.to_string(), source };
        let opened = passed.tcp(address).map_or_else(|| open(address), adopt);
        match opened {
            Ok(listener) => {
                port = listener.local_addr().map_err(failed)?.port();
                listeners.push(listener);
            }
            // `localhost` has an IPv6 address in many files on machines without IPv6.
            Err(source) if is_absent(&source) => absent = absent.or(Some(failed(source))),
            Err(source) => return Err(failed(source)),
        }
    }
    match absent {
        Some(error) if listeners.is_empty() => Err(error),
        Some(error) => {
            tracing::info!(%error, "not listening on an address this machine does not have");
            Ok(listeners)
        }
        None => Ok(listeners),
    }
}

async fn resolve(address: &Address) -> Result<Vec<IpAddr>, StartError> {
    let host = address.host.as_str();
    let failed = |source| StartError::Resolve { host: host.to_owned(), source };
    if host == "*" {
        return Ok(vec![everywhere()]);
    }
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    let lookup = tokio::time::timeout(RESOLVE_TIMEOUT, lookup_host((host, 0)));
    let found = lookup.await.map_err(|_| failed(ErrorKind::TimedOut.into()))?.map_err(failed)?;
    let mut addresses = Vec::new();
    for ip in found.map(|address| address.ip()) {
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    if addresses.is_empty() { Err(failed(ErrorKind::NotFound.into())) } else { Ok(addresses) }
}

/// The address that stands for all: the one of IPv6 takes IPv4 as well, where there is IPv6.
fn everywhere() -> IpAddr {
    match open(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0)) {
        Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait for the last connections of the run before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn adopt(listener: StdTcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn is_absent(error: &io::Error) -> bool {
    /// `EAFNOSUPPORT`, which has no stable [`ErrorKind`].
    const NO_SUCH_FAMILY: i32 = 97;
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(NO_SUCH_FAMILY)
}
