//! Plain sockets, received from and sent to by the system call itself: in a program with threads, the C library makes each
//! of these a point where the thread may be cancelled, which costs as much as what is done with a small answer here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use herdsman_node::raw::RawStream;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::listen::ClientStream;

/// A socket where bytes go as they are.
#[derive(Clone, Copy)]
pub(super) enum Plain<'a> {
    Tcp(&'a TcpStream),
    Unix(&'a UnixStream),
}

/// A socket of a client or a server.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// The socket itself, where nothing stands between it and the protocol.
    fn plain(&self) -> Option<Plain<'_>>;
}

impl Socket for ClientStream {
    #[inline]
    fn plain(&self) -> Option<Plain<'_>> {
        match self {
            Self::Tcp(stream) => Some(Plain::Tcp(stream)),
            Self::Unix(stream) => Some(Plain::Unix(stream)),
            Self::Tls(_) => None,
        }
    }
}

impl Socket for RawStream {
    #[inline]
    fn plain(&self) -> Option<Plain<'_>> {
        match self {
            Self::Tcp(stream) => Some(Plain::Tcp(stream)),
            Self::Unix(stream) => Some(Plain::Unix(stream)),
            Self::Tls(_) => None,
        }
    }
}

/// What is known of a socket's next bytes.
///
/// The runtime remembers whom to wake until it has woken them; being asked to each time costs more than the system call
/// does for a small message. So it is asked only where it has forgotten, which is when it has found the socket readable.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ears {
    /// There was nothing more to be heard when it was last tried.
    pub(super) quiet: bool,
    /// The runtime wakes the task when there is.
    pub(super) armed: bool,
}

/// Receives into `room`; returns how much, 0 at the end. Where there is nothing, only [`poll_wake`] sees to it that the task
/// is woken.
#[inline]
pub(super) fn receive<S: Socket>(
    socket: &mut S,
    cx: &mut Context<'_>,
    room: &mut [u8],
    ears: &mut Ears,
) -> Poll<io::Result<usize>> {
    let Some(plain) = socket.plain() else { return receive_wrapped(socket, cx, room, ears) };
    let wanted = room.len();
    let heard = plain.try_call(Interest::READABLE, wanted, || {
        // The runtime has found it readable, and has woken whom it was to.
        ears.armed = false;
        recv_from(plain, room)
    });
    ears.quiet = !matches!(heard, Poll::Ready(Ok(count)) if count == wanted);
    heard
}

/// Waits until there is something to be received. [`receive`] has been tried before.
#[inline]
pub(super) fn poll_wake<S: Socket>(
    socket: &S,
    cx: &mut Context<'_>,
    ears: &mut Ears,
) -> Poll<io::Result<()>> {
    let woken = match socket.plain() {
        None => Poll::Pending,
        Some(Plain::Tcp(stream)) => stream.poll_read_ready(cx),
        Some(Plain::Unix(stream)) => stream.poll_read_ready(cx),
    };
    *ears = Ears { quiet: woken.is_pending(), armed: woken.is_pending() };
    woken
}

/// As [`receive`], and the task is woken.
pub(super) fn poll_receive<S: Socket>(
    socket: &mut S,
    cx: &mut Context<'_>,
    room: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut ears = Ears::default();
    loop {
        if let heard @ Poll::Ready(_) = receive(socket, cx, room, &mut ears) {
            return heard;
        }
        ready!(poll_wake(socket, cx, &mut ears))?;
    }
}

/// Sends of `bytes` as much as goes; returns how much.
#[inline]
pub(super) fn poll_send<S: Socket>(
    socket: &mut S,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    let Some(plain) = socket.plain() else { return poll_send_wrapped(socket, cx, bytes) };
    loop {
        let sent = plain.try_call(Interest::WRITABLE, bytes.len(), || match plain {
            Plain::Tcp(stream) => send(stream, bytes, SendFlags::NOSIGNAL),
            Plain::Unix(stream) => send(stream, bytes, SendFlags::NOSIGNAL),
        });
        if sent.is_ready() {
            return sent;
        }
        match plain {
            Plain::Tcp(stream) => ready!(stream.poll_write_ready(cx))?,
            Plain::Unix(stream) => ready!(stream.poll_write_ready(cx))?,
        }
    }
}

/// Sends what [`poll_send`] has left with the socket, as TLS does.
#[inline]
pub(super) fn flush<S: Socket>(socket: &mut S, cx: &mut Context<'_>) -> io::Result<()> {
    if socket.plain().is_some() { Ok(()) } else { flush_wrapped(socket, cx) }
}

// TLS, apart from what plain sockets need: where it was counted as well, its code is laid out within theirs otherwise, and
// what each message executes is no longer one piece.

#[inline(never)]
fn receive_wrapped<S: Socket>(
    socket: &mut S,
    cx: &mut Context<'_>,
    room: &mut [u8],
    ears: &mut Ears,
) -> Poll<io::Result<usize>> {
    let mut room = ReadBuf::new(room);
    let read = Pin::new(socket).poll_read(cx, &mut room);
    *ears = Ears { quiet: read.is_pending(), armed: read.is_pending() };
    read.map_ok(|()| room.filled().len())
}

#[inline(never)]
fn poll_send_wrapped<S: Socket>(
    socket: &mut S,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    Pin::new(socket).poll_write(cx, bytes)
}

#[inline(never)]
fn flush_wrapped<S: Socket>(socket: &mut S, cx: &mut Context<'_>) -> io::Result<()> {
    match Pin::new(socket).poll_flush(cx) {
        Poll::Ready(flushed) => flushed,
        Poll::Pending => Ok(()),
    }
}

#[inline]
fn recv_from(plain: Plain<'_>, room: &mut [u8]) -> rustix::io::Result<usize> {
    let flags = RecvFlags::empty();
    Ok(match plain {
        Plain::Tcp(stream) => recv(stream, room, flags)?.1,
        Plain::Unix(stream) => recv(stream, room, flags)?.1,
    })
}

impl Plain<'_> {
    /// Makes a call, if the runtime has found the socket ready for it.
    #[inline]
    fn try_call(
        self,
        interest: Interest,
        wanted: usize,
        mut call: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let mut partly = None;
        let once = || match retry_on_intr(&mut call) {
            // That was all for now, and the system will say when there is more: the runtime takes it so if it is told that
            // the call would have had to wait. Without that, it is asked in vain each time.
            Ok(count) if 0 < count && count < wanted => {
                partly = Some(count);
                Err(io::ErrorKind::WouldBlock.into())
            }
            Ok(count) => Ok(count),
            Err(Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        };
        let outcome = match self {
            Self::Tcp(stream) => stream.try_io(interest, once),
            Self::Unix(stream) => stream.try_io(interest, once),
        };
        match (outcome, partly) {
            (Err(_), Some(count)) => Poll::Ready(Ok(count)),
            (Err(error), None) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            (outcome, _) => Poll::Ready(outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    async fn pair() -> (ClientStream, ClientStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
        (ClientStream::Tcp(one.unwrap()), ClientStream::Tcp(other.unwrap().0))
    }

    async fn receive(socket: &mut ClientStream, room: &mut [u8]) -> usize {
        let some = poll_fn(|cx| poll_receive(socket, cx, room));
        timeout(LIMIT, some).await.expect("nothing arrives").unwrap()
    }

    async fn send_all(socket: &mut ClientStream, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let some = poll_fn(|cx| poll_send(socket, cx, bytes));
            let count = timeout(LIMIT, some).await.expect("nothing goes").unwrap();
            bytes = &bytes[count..];
        }
    }

    #[tokio::test]
    async fn more_than_fits_arrives_in_order_and_so_does_the_end() {
        let (mut one, mut other) = pair().await;
        let bytes: Vec<u8> = (0..=250).cycle().take(20_000_000).collect();
        let sending = async {
            send_all(&mut one, &bytes).await;
            drop(one);
        };
        let receiving = async {
            let (mut all, mut room) = (Vec::new(), vec![0; 10_000]);
            loop {
                match receive(&mut other, &mut room).await {
                    0 => return all,
                    count => all.extend_from_slice(&room[..count]),
                }
            }
        };
        let ((), all) = tokio::join!(sending, receiving);
        assert!(all == bytes, "{} of {} bytes arrived, or others", all.len(), bytes.len());
    }

    #[tokio::test]
    async fn each_of_many_small_messages_wakes_who_waits_for_it() {
        let (mut one, mut other) = pair().await;
        let echo = tokio::spawn(async move {
            let mut room = [0; 100];
            loop {
                match receive(&mut other, &mut room).await {
                    0 => return,
                    count => send_all(&mut other, &room[..count]).await,
                }
            }
        });
        let mut room = [0; 100];
        for n in 0..1000_u32 {
            send_all(&mut one, &n.to_be_bytes()).await;
            assert_eq!(receive(&mut one, &mut room).await, 4);
            assert_eq!(room[..4], n.to_be_bytes());
        }
        drop(one);
        echo.await.unwrap();
    }
}
