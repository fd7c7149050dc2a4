use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdTcpListener};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, lookup_host};

/// Where the API listens.
///
/// ```
/// let listen = herdsman_api::Listen { bind: "localhost".to_owned(), port: 8080 };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// A host name or an address of this machine; every address the name has is listened on. `*` or nothing: all.
    pub bind: String,
    /// The port; 0 lets the system choose one.
    pub port: u16,
}

/// The API could not begin to listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// `bind` names nothing.
    #[error(
        "failed to resolve `{bind}`: {source}; set `bind` to a host name or an address of this machine, or to `*` for all"
    )]
    Resolve {
        /// What was to be resolved.
        bind: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// An address cannot be listened on.
    #[error("failed to listen on {address}: {source}; {advice}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
        /// What to do.
        advice: &'static str,
    },
}

/// Gives a socket that somebody listens on already at this address, where there is one: each once. A socket of one run of
/// the program after the other loses no request that comes between them.
pub type Passed<'p> = &'p mut (dyn FnMut(SocketAddr) -> Option<StdTcpListener> + Send);

const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections the kernel holds ready while the limit of served ones is reached.
const BACKLOG: u32 = 1024;
/// With port 0 the port the system gave on one address may be taken on the next.
const PORT_ATTEMPTS: usize = 16;

/// Listens on every address of `listen`, all on the same port.
pub(crate) async fn listeners(
    listen: &Listen,
    passed: Passed<'_>,
) -> Result<Vec<TcpListener>, BindError> {
    let addresses = resolve(listen).await?;
    let attempts = if listen.port == 0 { PORT_ATTEMPTS } else { 1 };
    let mut result = bind_all(&addresses, passed);
    for _ in 1..attempts {
        match &result {
            Err(BindError::Listen { source, .. }) if source.kind() == ErrorKind::AddrInUse => {
                result = bind_all(&addresses, passed);
            }
            Ok(_) | Err(_) => break,
        }
    }
    result
}

async fn resolve(listen: &Listen) -> Result<Vec<SocketAddr>, BindError> {
    let port = listen.port;
    let failed = |source| BindError::Resolve { bind: listen.bind.clone(), source };
    let host = listen.bind.trim_start_matches('[').trim_end_matches(']');
    if matches!(host, "" | "*") {
        return Ok(vec![SocketAddr::new(everywhere(), port)]);
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let lookup = tokio::time::timeout(RESOLVE_TIMEOUT, lookup_host((host, port)));
    let found = lookup.await.map_err(|_| failed(ErrorKind::TimedOut.into()))?.map_err(failed)?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(failed(ErrorKind::NotFound.into()));
    }
    Ok(addresses)
}

/// The address that stands for all: the one of IPv6 takes IPv4 as well, where there is IPv6.
fn everywhere() -> IpAddr {
    match open(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0)) {
        Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

fn bind_all(addresses: &[SocketAddr], passed: Passed<'_>) -> Result<Vec<TcpListener>, BindError> {
    let mut port = None;
    let mut listeners = Vec::new();
    let mut absent = None;
    for &wanted in addresses {
        let address = SocketAddr::new(wanted.ip(), port.unwrap_or(wanted.port()));
        let opened = passed(address).map_or_else(|| open(address), adopt);
        let opened = opened.and_then(|l| Ok((l.local_addr()?.port(), l)));
        match opened {
            Ok((given, listener)) => {
                port = Some(given);
                listeners.push(listener);
            }
            // `localhost` has an IPv6 address in many files on machines without IPv6.
            Err(source) if is_absent(&source) => absent = absent.or(Some((address, source))),
            Err(source) => return Err(failure(address, source)),
        }
    }
    match absent {
        Some((address, source)) if listeners.is_empty() => Err(failure(address, source)),
        Some((address, source)) => {
            tracing::info!(%address, error = %source, "not listening on an address this machine does not have");
            Ok(listeners)
        }
        None => Ok(listeners),
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

fn failure(address: SocketAddr, source: io::Error) -> BindError {
    let advice = match source.kind() {
        ErrorKind::AddrInUse => "another program listens there: stop it or set another `port`",
        ErrorKind::PermissionDenied => {
            "the system allows this user no such port: set a `port` from 1024 on"
        }
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address: set `bind` to one it has, or to `*` for all"
        }
        _ => "set another `bind` or `port`",
    };
    BindError::Listen { address, source, advice }
}
