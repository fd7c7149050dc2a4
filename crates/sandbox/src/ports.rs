//! Loopback ports that stay ours while a server is down.

use std::{io, net::SocketAddr};

use tokio::net::TcpSocket;

/// A port of 127.0.0.1 kept for one server for as long as the sandbox lives.
///
/// On Linux a socket stays bound to it without listening. That keeps the system from handing the port to anybody who
/// asks for a free one or opens an outgoing connection, also while the server is down, yet lets the server itself bind
/// it (both set `SO_REUSEADDR`, and only one listens). The system lets go of it when our process ends, however it ends.
#[derive(Debug)]
pub(crate) struct HeldPort {
    port: u16,
    _held: Option<TcpSocket>,
}

impl HeldPort {
    /// Takes a free port.
    pub(crate) fn take() -> io::Result<Self> {
        let socket = bound(0)?;
        let port = socket.local_addr()?.port();
        Ok(Self { port, _held: keep(socket) })
    }

    /// Takes a given port again, or goes without holding it: its server may be listening already.
    pub(crate) fn retake(port: u16) -> Self {
        Self { port, _held: bound(port).ok().and_then(keep) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

fn bound(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    Ok(socket)
}

/// Other systems refuse a second bind, so there the port is only found, not held.
fn keep(socket: TcpSocket) -> Option<TcpSocket> {
    cfg!(target_os = "linux").then_some(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn a_held_port_can_be_listened_on_and_is_given_to_nobody_else() {
        let held: Vec<HeldPort> = (0..50).map(|_| HeldPort::take().unwrap()).collect();
        let mut ports: Vec<u16> = held.iter().map(HeldPort::port).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 50);
        let first = held.first().unwrap().port();
        // `std` sets SO_REUSEADDR, as PostgreSQL does.
        drop(TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap());
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, first)).is_ok(), "also a second time");
    }

    #[test]
    fn nobody_answers_on_a_held_port_until_its_server_listens() {
        let held = HeldPort::take().unwrap();
        let error = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, held.port())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
