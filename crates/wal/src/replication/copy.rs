//! The frames of a stream: `CopyData` in both directions, which the driver's own parser does not know.

use std::io;
use std::ops::Range;

use bytes::{Buf, BytesMut};
use herdsman_node::Lsn;
use herdsman_node::raw::{RawConnection, RawStream, ServerMessage};
use postgres_protocol::message::backend::Message;
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::time::Instant;

use super::gathering::Gathering;

/// What the server answers to the command that starts a stream.
pub(super) enum Answer {
    Copying,
    Refused(ServerMessage),
    Other,
}

/// Waits for one message of that answer.
pub(super) async fn first_answer(connection: &mut RawConnection) -> io::Result<Answer> {
    loop {
        if let Some(&tag) = connection.buffer.first() {
            if tag != b'W' {
                return Ok(match connection.message().await? {
                    Message::ErrorResponse(body) => Answer::Refused(ServerMessage::read(&body)),
                    _ => Answer::Other,
                });
            }
            if let Some(length) = length_of(&connection.buffer)
                && connection.buffer.len() > length
            {
                connection.buffer.advance(length + 1);
                return Ok(Answer::Copying);
            }
        }
        if connection.stream.read_buf(&mut connection.buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The length in a message's header, which does not count the first byte.
fn length_of(bytes: &[u8]) -> Option<usize> {
    let (length, _) = bytes.get(1..)?.split_first_chunk::<4>()?;
    usize::try_from(u32::from_be_bytes(*length)).ok()
}

/// One frame, whose bytes lie in the reader's buffer.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    /// A message of the plugin.
    Data {
        /// Where it was logged.
        lsn: Lsn,
        /// Where its bytes are.
        at: Range<usize>,
    },
    /// The server is alive.
    Keepalive {
        /// Everything before this has been sent.
        wal_end: Lsn,
        /// Whether it wants to hear from us at once.
        answer: bool,
    },
    /// The server has ended the stream.
    Ended,
    /// The server has ended the stream and says why.
    Refused(ServerMessage),
}

/// Reads frames into one buffer that is used again and again.
#[derive(Debug)]
pub(crate) struct CopyReader {
    stream: ReadHalf<RawStream>,
    buffer: Vec<u8>,
    /// What of the buffer has been received and not been given out.
    filled: Range<usize>,
    gathering: Gathering,
}

/// What the buffer begins with and comes back to: 256 KiB hold what one visit to the socket brings.
const USUAL: usize = 256 << 10;
/// Frames cannot be longer: PostgreSQL's own limit on one allocation.
const LONGEST: usize = 1 << 30;
const HEADER: usize = 5;
const DATA_HEADER: usize = HEADER + 1 + 24;

impl CopyReader {
    pub(crate) fn new(stream: ReadHalf<RawStream>, received: &BytesMut) -> Self {
        let mut buffer = vec![0; USUAL.max(received.len())];
        if let Some(front) = buffer.get_mut(..received.len()) {
            front.copy_from_slice(received);
        }
        Self { stream, buffer, filled: 0..received.len(), gathering: Gathering::default() }
    }

    /// The bytes of a frame given out last.
    #[inline]
    pub(crate) fn bytes(&self, at: &Range<usize>) -> &[u8] {
        self.buffer.get(at.clone()).unwrap_or_default()
    }

    /// The next frame. May be dropped while it waits and called again; nothing is lost by that.
    #[inline]
    pub(crate) async fn frame(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            self.receive().await?;
        }
    }

    #[inline]
    fn take(&mut self) -> io::Result<Option<Frame>> {
        let from = self.filled.start;
        let Some(received) = self.buffer.get(self.filled.clone()) else { return Ok(None) };
        let Some(length) = length_of(received) else { return Ok(None) };
        if !(4..LONGEST).contains(&length) {
            return Err(invalid("a frame is of no possible length"));
        }
        let Some(frame) = received.get(..=length) else { return Ok(None) };
        self.filled.start = from + length + 1;
        match frame {
            [b'd', _, _, _, _, b'w', rest @ ..] => {
                let (lsn, _) = rest.split_first_chunk::<8>().ok_or_else(short)?;
                if frame.len() < DATA_HEADER {
                    return Err(short());
                }
                let lsn = Lsn(u64::from_be_bytes(*lsn));
                Ok(Some(Frame::Data { lsn, at: from + DATA_HEADER..from + length + 1 }))
            }
            _ => Self::rare(frame).map(Some),
        }
    }

    #[cold]
    fn rare(frame: &[u8]) -> io::Result<Frame> {
        match frame {
            [b'd', _, _, _, _, b'k', rest @ ..] => {
                let (wal_end, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
                let answer = rest.get(8).ok_or_else(short)?;
                Ok(Frame::Keepalive {
                    wal_end: Lsn(u64::from_be_bytes(*wal_end)),
                    answer: *answer != 0,
                })
            }
            [b'c' | b'C' | b'Z', ..] => Ok(Frame::Ended),
            [b'E', ..] => match Message::parse(&mut BytesMut::from(frame))? {
                Some(Message::ErrorResponse(body)) => {
                    Ok(Frame::Refused(ServerMessage::read(&body)))
                }
                _ => Err(short()),
            },
            // A notice or a changed setting.
            [b'N' | b'S' | b'A', ..] => Ok(Frame::Keepalive { wal_end: Lsn(0), answer: false }),
            _ => Err(invalid("a frame is of no known kind")),
        }
    }

    /// Waits for bytes from the server.
    async fn receive(&mut self) -> io::Result<()> {
        self.gathering.wait().await;
        self.make_room();
        let free = self.buffer.get_mut(self.filled.end..).unwrap_or_default();
        match self.stream.read(free).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.filled.end += count;
                self.gathering.received(count, Instant::now());
                Ok(())
            }
        }
    }

    /// Moves what is left to the front, and has room for the whole of a frame that is longer than the buffer.
    fn make_room(&mut self) {
        let left = self.filled.len();
        if left == 0 {
            self.filled = 0..0;
            if self.buffer.len() > USUAL {
                self.buffer = vec![0; USUAL];
            }
            return;
        }
        let wanted = length_of(self.buffer.get(self.filled.clone()).unwrap_or_default())
            .map_or(HEADER, |length| length.saturating_add(1));
        let fits = wanted <= self.buffer.len() - self.filled.start;
        if fits && self.filled.end < self.buffer.len() {
            return;
        }
        self.buffer.copy_within(self.filled.clone(), 0);
        self.filled = 0..left;
        if wanted > self.buffer.len() {
            self.buffer.resize(wanted.min(LONGEST + 1), 0);
        }
    }
}

fn short() -> io::Error {
    invalid("a frame ends too early")
}

fn invalid(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
