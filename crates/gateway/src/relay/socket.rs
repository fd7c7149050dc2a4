//! Plain TCP sockets, received from and sent to by the system call itself: in a program with threads, the C library makes each
//! of these a point where the thread may be cancelled, which costs as much as what is done with a small answer here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use herdsman_node::raw::RawStream;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::listen::ClientStream;

/// A socket of a client or a server.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// The socket itself, where bytes go over TCP as they are.
    fn plain(&self) -> Option<&TcpStream>;
}

impl Socket for ClientStream {
    fn plain(&self) -> Option<&TcpStream> {
        if let Self::Tcp(stream) = self { Some(stream) } else { None }
    }
}

impl Socket for RawStream {
    fn plain(&self) -> Option<&TcpStream> {
        if let Self::Tcp(stream) = self { Some(stream) } else { None }
    }
}

/// Receives into `room`; returns how much, 0 at the end.
#[inline]
pub(super) fn poll_receive<S: Socket>(
    socket: &mut S,
    cx: &mut Context<'_>,
    room: &mut [u8],
) -> Poll<io::Result<usize>> {
    if let Some(plain) = socket.plain() {
        let wanted = room.len();
        return poll_call(plain, Interest::READABLE, wanted, cx, || {
            Ok(recv(plain, &mut *room, RecvFlags::empty())?.1)
        });
    }
    let mut room = ReadBuf::new(room);
    ready!(Pin::new(socket).poll_read(cx, &mut room))?;
    Poll::Ready(Ok(room.filled().len()))
}

/// Sends of `bytes` as much as goes; returns how much.
#[inline]
pub(super) fn poll_send<S: Socket>(
    socket: &mut S,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    if let Some(plain) = socket.plain() {
        return poll_call(plain, Interest::WRITABLE, bytes.len(), cx, || {
            send(plain, bytes, SendFlags::NOSIGNAL)
        });
    }
    Pin::new(socket).poll_write(cx, bytes)
}

/// Makes a call as soon as the socket may be ready for it.
#[inline]
fn poll_call(
    plain: &TcpStream,
    interest: Interest,
    wanted: usize,
    cx: &mut Context<'_>,
    mut call: impl FnMut() -> rustix::io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        if interest.is_readable() {
            ready!(plain.poll_read_ready(cx))?;
        } else {
            ready!(plain.poll_write_ready(cx))?;
        }
        let mut partly = None;
        let outcome = plain.try_io(interest, || match retry_on_intr(&mut call) {
            // That was all for now, and the system will say when there is more: the runtime takes it so if it is told that
            // the call would have had to wait. Without that, it is asked in vain each time.
            Ok(count) if 0 < count && count < wanted => {
                partly = Some(count);
                Err(io::ErrorKind::WouldBlock.into())
            }
            Ok(count) => Ok(count),
            Err(Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        });
        match (outcome, partly) {
            (Err(_), Some(count)) => return Poll::Ready(Ok(count)),
            (Err(error), None) if error.kind() == io::ErrorKind::WouldBlock => {}
            (outcome, _) => return Poll::Ready(outcome),
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
