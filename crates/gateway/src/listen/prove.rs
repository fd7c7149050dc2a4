//! The login conversation, over a socket.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::ClientStream;
use crate::auth::LONGEST_MESSAGE;
use crate::wire::error::code;
use crate::wire::{self, HEADER, Problem, frontend};

/// How long a client that is sent away may take to hear why.
const FAREWELL: Duration = Duration::from_secs(1);
/// How much of what such a client still sends is read, so that it hears it at all: closing a socket with something
/// unread in it takes back what was sent.
const FAREWELL_BYTES: usize = 64 * 1024;

/// So much is read of a client that does not wait until it is in.
const AHEAD: usize = 16 * 1024;

/// Why a login ends.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The client left, or cannot be talked to.
    Gone(io::Error),
    /// The client is told.
    Told(Problem),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Told(problem)
    }
}

/// A client's socket while it logs in.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) stream: ClientStream,
    pub(super) unread: BytesMut,
    /// What goes out with the next flush.
    pub(super) out: Vec<u8>,
}

impl Talk {
    pub(super) fn new(stream: ClientStream) -> Self {
        Self { stream, unread: BytesMut::new(), out: Vec::new() }
    }

    /// The next message, which has to be the client's next step of its login; without its header.
    pub(super) async fn answer(&mut self) -> Result<BytesMut, Refusal> {
        loop {
            let violation =
                |what: String| Refusal::Told(Problem::new(code::PROTOCOL_VIOLATION, what));
            // The tag is looked at first: what else came may be no message at all.
            match self.unread.first() {
                None | Some(&frontend::PASSWORD) => {}
                Some(&frontend::TERMINATE) => {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                Some(tag) => {
                    return Err(violation(format!(
                        "expected a step of the login, and a message of type {tag} came"
                    )));
                }
            }
            let header =
                wire::header(&self.unread).map_err(|malformed| violation(malformed.to_string()))?;
            match header {
                Some(header) if header.len > HEADER + LONGEST_MESSAGE => {
                    let problem = format!("a step of the login has {} bytes", header.len);
                    return Err(violation(problem));
                }
                Some(header) if self.unread.len() >= header.len => {
                    let mut message = self.unread.split_to(header.len);
                    message.advance(HEADER);
                    return Ok(message);
                }
                _ => {}
            }
            self.unread.reserve(1024);
            if self.stream.read_buf(&mut self.unread).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// Ends when the client leaves before it has heard that it is in. What it says ahead is kept, up to a bound.
    pub(super) async fn left(&mut self) -> io::Error {
        while self.unread.len() < AHEAD {
            self.unread.reserve(1024);
            match self.stream.read_buf(&mut self.unread).await {
                Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
        std::future::pending().await
    }

    /// Sends what there is to be sent.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out).await?;
        self.out.clear();
        self.stream.flush().await
    }

    /// Tells the client why it is sent away, and closes the socket.
    pub(super) async fn farewell(mut self, problem: &Problem) {
        problem.put_fatal(&mut self.out);
        close(self.stream, &self.out).await;
    }
}

/// Sends the last that a client hears, and closes its socket. What goes wrong with that is nobody's concern any more.
pub(super) async fn close(mut stream: ClientStream, last: &[u8]) {
    let closing = async {
        stream.write_all(last).await?;
        stream.shutdown().await?;
        let mut passed_over = [0; 1024];
        let mut most = FAREWELL_BYTES;
        while let read @ 1.. = stream.read(&mut passed_over).await? {
            most = most.saturating_sub(read);
            if most == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    if let Ok(Err(error)) = timeout(FAREWELL, closing).await {
        tracing::trace!(%error, "a client that was sent away was not there to hear it");
    }
}
