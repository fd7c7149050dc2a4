//! One connection to a server, and its place in a pool.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use bytes::BytesMut;
use herdsman_node::Conninfo;
use herdsman_node::raw::RawStream;
use rustix::net::{RecvFlags, Shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::Pool;
use crate::settings::Settings;
use crate::statements::ServerStatements;
use crate::wire::{self, backend};

/// Several of them. Boxed, because each goes from hand to hand as one pointer.
pub(super) type Servers = Vec<Box<Server>>;

/// A server connection that is nobody's, or in the hands of one client. Dropping it closes the connection and frees its
/// place in the pool, wherever that happens.
#[derive(Debug)]
pub(crate) struct Server {
    /// The socket.
    pub(crate) stream: RawStream,
    /// What was received and not looked at; empty between two clients.
    pub(crate) unread: BytesMut,
    /// Who it is, for cancelling and for those who look.
    pub(crate) identity: Arc<ServerIdentity>,
    /// Parameters as the server last reported them.
    pub(crate) reported: Vec<(Box<str>, Box<str>)>,
    /// The settings that were made on it.
    pub(crate) settings: Settings,
    /// What is prepared on it.
    pub(crate) statements: ServerStatements,
    /// Whether commits here are acknowledged before they are flushed (`synchronous_commit = off` for this login).
    pub(crate) commits_early: bool,
    /// Whether the server was a standby when it last said so.
    pub(crate) in_recovery: bool,
    /// Born, last used: coarse clock.
    pub(crate) born: u64,
    pub(crate) used: u64,
    /// It is in the middle of something, or was left so: it can only be closed.
    pub(crate) dirty: bool,
    /// It has to answer an empty query before anybody gets it, however fresh it is.
    pub(super) check: bool,
    /// The pool's generation when it was opened.
    pub(super) generation: u64,
    /// The worker whose runtime watches the socket.
    pub(super) worker: usize,
    /// Its place in the pool. After `stream`: fields are dropped in this order.
    pub(super) _slot: Slot,
}

impl Server {
    /// Notes what the server reported: `ParameterStatus`.
    pub(crate) fn report(&mut self, name: &[u8], value: &[u8]) {
        if name == b"in_hot_standby" {
            self.in_recovery = value == b"on";
        }
        let value = String::from_utf8_lossy(value);
        match self.reported.iter_mut().find(|(known, _)| known.as_bytes() == name) {
            Some((_, old)) if **old == *value => {}
            Some((_, old)) => *old = value.into(),
            None => self.reported.push((String::from_utf8_lossy(name).into(), value.into())),
        }
    }

    /// Whether the connection is still there and has nothing to say but what may come at any time, which is noted. Costs
    /// no system call while the runtime has seen nothing arrive.
    #[inline]
    pub(super) fn is_quiet(&mut self) -> bool {
        loop {
            let read = match &mut self.stream {
                RawStream::Tcp(stream) => stream.try_read_buf(&mut self.unread),
                RawStream::Unix(stream) => stream.try_read_buf(&mut self.unread),
                RawStream::Tls(stream) => {
                    let mut bytes = [0; 512];
                    let mut buffer = ReadBuf::new(&mut bytes);
                    let mut cx = Context::from_waker(Waker::noop());
                    match Pin::new(&mut **stream).poll_read(&mut cx, &mut buffer) {
                        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
                        Poll::Ready(outcome) => outcome.map(|()| {
                            self.unread.extend_from_slice(buffer.filled());
                            buffer.filled().len()
                        }),
                    }
                }
            };
            match read {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.unread.is_empty() || self.heed();
                }
                Err(_) => return false,
            }
        }
    }

    /// Reads what a server says unasked. Whether that was all there is, and harmless.
    fn heed(&mut self) -> bool {
        while let Ok(Some(header)) = wire::header(&self.unread) {
            if header.len > self.unread.len() {
                return false;
            }
            let message = self.unread.split_to(header.len);
            let body = message.get(wire::HEADER..).unwrap_or_default();
            match header.tag {
                backend::PARAMETER_STATUS => match backend::parameter(body) {
                    Ok((name, value)) => self.report(name, value),
                    Err(_) => return false,
                },
                backend::NOTICE => {}
                _ => return false,
            }
        }
        self.unread.is_empty()
    }

    /// Has the runtime of `worker`, which must be the current one, watch the socket. TLS connections are left where they
    /// are: they work anywhere, with a wake-up across threads.
    pub(super) fn moved_to(mut self: Box<Self>, worker: usize) -> io::Result<Box<Self>> {
        if self.worker == worker || matches!(self.stream, RawStream::Tls(_)) {
            return Ok(self);
        }
        // The new runtime knows nothing yet of what has arrived, so the system is asked.
        let mut ended = false;
        let mut bytes = [0; 512];
        loop {
            match rustix::net::recv(self.fd(), &mut bytes[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => ended = true,
                Ok((count, _)) => {
                    self.unread.extend_from_slice(bytes.get(..count).unwrap_or_default());
                    continue;
                }
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
            break;
        }
        if ended {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.stream = match self.stream {
            RawStream::Tcp(stream) => RawStream::Tcp(TcpStream::from_std(stream.into_std()?)?),
            RawStream::Unix(stream) => RawStream::Unix(UnixStream::from_std(stream.into_std()?)?),
            tls @ RawStream::Tls(_) => tls,
        };
        self.worker = worker;
        Ok(self)
    }

    /// Tells the server goodbye, before the connection is dropped: it could log that a client vanished otherwise.
    pub(super) fn farewell(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let goodbye = [wire::frontend::TERMINATE, 0, 0, 0, 4];
        // Only if it can be said at once.
        let mut stream = Pin::new(&mut self.stream);
        if let Poll::Ready(Ok(_)) = stream.as_mut().poll_write(&mut cx, &goodbye) {
            let _flushed = stream.poll_flush(&mut cx).is_ready();
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        fd_of(&self.stream)
    }
}

/// The socket's number.
pub(super) fn fd_of(stream: &RawStream) -> BorrowedFd<'_> {
    match stream {
        RawStream::Tcp(stream) => stream.as_fd(),
        RawStream::Unix(stream) => stream.as_fd(),
        RawStream::Tls(stream) => stream.get_ref().0.as_fd(),
    }
}

/// A connection's place among those its pool may have. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) pool: Weak<Pool>,
    pub(super) identity: Arc<ServerIdentity>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Others may hold the identity, and with it the socket, for longer.
        self.identity.shut();
        if let Some(pool) = self.pool.upgrade() {
            pool.freed(self.identity.id);
        }
    }
}

/// What a connection is doing, as its pool sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Use {
    /// In the pool.
    Idle = 0,
    /// On its way to a client.
    Taken = 1,
    /// With a client that reads.
    Reader = 2,
    /// With a client that may write.
    Writer = 3,
}

/// One server connection as others see it.
pub(crate) struct ServerIdentity {
    /// A number of its own, for the console.
    pub(crate) id: u64,
    /// Index of the node in the herd.
    pub(crate) node: usize,
    /// When it was opened.
    pub(crate) since: SystemTime,
    /// The server process and its secret.
    pub(crate) backend: Option<(i32, i32)>,
    /// Where it is: a cancel request goes the same way.
    pub(crate) conninfo: Arc<Conninfo>,
    /// How many cancel requests for it are under way.
    cancelling: AtomicU32,
    /// A [`Use`].
    doing: AtomicU8,
    /// The socket once more, to shut it from elsewhere.
    socket: Option<OwnedFd>,
    /// The pool to tell when it is no longer being cancelled.
    home: Weak<Pool>,
}

impl ServerIdentity {
    pub(crate) fn new(
        id: u64,
        node: usize,
        backend: Option<(i32, i32)>,
        conninfo: Arc<Conninfo>,
    ) -> Self {
        Self {
            id,
            node,
            since: SystemTime::now(),
            backend,
            conninfo,
            cancelling: AtomicU32::new(0),
            doing: AtomicU8::new(Use::Taken as u8),
            socket: None,
            home: Weak::new(),
        }
    }

    /// The same in a pool, with the socket.
    pub(super) fn at_home(mut self, home: Weak<Pool>, socket: OwnedFd) -> Self {
        self.home = home;
        self.socket = Some(socket);
        self
    }

    pub(super) fn has_socket(&self) -> bool {
        self.socket.is_some()
    }

    /// Begins or ends a cancel request.
    pub(crate) fn cancelling(&self, begins: bool) {
        let before = if begins {
            self.cancelling.fetch_add(1, Ordering::AcqRel)
        } else {
            self.cancelling.fetch_sub(1, Ordering::AcqRel)
        };
        if before == u32::from(!begins)
            && let Some(home) = self.home.upgrade()
        {
            home.cancelling(self.id, begins);
        }
    }

    /// Whether a cancel request may still hit it.
    #[inline]
    pub(crate) fn is_being_cancelled(&self) -> bool {
        self.cancelling.load(Ordering::Acquire) > 0
    }

    /// What it is doing.
    pub(crate) fn doing(&self) -> Use {
        match self.doing.load(Ordering::Acquire) {
            0 => Use::Idle,
            1 => Use::Taken,
            2 => Use::Reader,
            _ => Use::Writer,
        }
    }

    #[inline]
    pub(super) fn enter(&self, doing: Use) {
        self.doing.store(doing as u8, Ordering::Release);
    }

    /// Where the connection leads to. `None`: a unix socket, or it is broken.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        SocketAddr::try_from(rustix::net::getpeername(self.socket.as_ref()?).ok()??).ok()
    }

    /// Ends the connection from outside: whoever waits on its socket wakes up and finds it closed.
    pub(crate) fn shut(&self) {
        if let Some(socket) = &self.socket {
            // One that is closed already needs nothing.
            let _closed_already = rustix::net::shutdown(socket, Shutdown::Both).is_err();
        }
    }
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server {} on node {}", self.id, self.node)
    }
}
