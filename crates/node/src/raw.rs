//! A connection with nothing between us and the protocol: for replication, and for whoever speaks it byte by byte.
//!
//! [`connect_raw`] does what every client does first – TLS as `sslmode` asks, the start-up packet, the login with
//! SCRAM and channel binding – and hands over the socket where the server says that it is ready.

mod binding;
mod cancel;
mod credential;
mod login;
mod scram;
mod stream;

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use postgres_protocol::message::backend::{ErrorResponseBody, Header, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connect::kind_of_code;
use crate::{ConnectError, ConnectErrorKind, Conninfo, SslMode, Tls};

pub use binding::end_point;
pub use cancel::cancel_raw;
pub use credential::{Credential, ScramKeys};
pub use stream::RawStream;

/// No message before the server is ready is longer than this; a length beyond it is not PostgreSQL's.
const LONGEST_MESSAGE: usize = 1 << 20;

/// A connection on which the server waits for the first command.
#[derive(Debug)]
pub struct RawConnection {
    /// The socket.
    pub stream: RawStream,
    /// What was received and not looked at.
    pub buffer: BytesMut,
    /// What the server said of itself: `server_version`, `in_hot_standby`, …
    pub parameters: HashMap<String, String>,
    /// The server process, and the secret with which a request of it can be cancelled.
    pub backend: Option<(i32, i32)>,
}

/// What a server says when it refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerMessage {
    /// `ERROR`, `FATAL` or another severity.
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    /// What it says.
    pub message: String,
    /// What it adds: detail and hint.
    pub more: String,
}

impl ServerMessage {
    /// Reads an error or notice; what is missing or broken in it is left empty.
    #[must_use]
    pub fn read(body: &ErrorResponseBody) -> Self {
        use fallible_iterator::FallibleIterator as _;
        let mut read = Self {
            severity: String::new(),
            code: String::new(),
            message: String::new(),
            more: String::new(),
        };
        let mut fields = body.fields();
        while let Ok(Some(field)) = fields.next() {
            let value = || String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'V' => read.severity = value(),
                b'C' => read.code = value(),
                b'M' => read.message = value(),
                b'D' | b'H' if read.more.is_empty() => read.more = value(),
                b'D' | b'H' => read.more = format!("{}; {}", read.more, value()),
                _ => {}
            }
        }
        read
    }
}

/// Why a login did not come about, before it is put into words.
enum Failure {
    Io(io::Error),
    Tls(String),
    Server(ServerMessage),
    Rejected(String),
    Strange(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Connects to `info` and logs in, giving up after `limit`. `startup` is added to the start-up packet:
/// `("replication", "database")`, or settings of the session.
///
/// # Errors
/// [`ConnectError`] with the reason and the advice that fits it.
pub async fn connect_raw(
    info: &Conninfo,
    tls: &Tls,
    limit: Duration,
    startup: &[(&str, &str)],
) -> Result<RawConnection, ConnectError> {
    connect_raw_as(info, tls, limit, startup, &Credential::None).await
}

/// As [`connect_raw`], with another proof than the password `info` has.
///
/// # Errors
/// As [`connect_raw`]; and where the server wants another proof than there is.
pub async fn connect_raw_as(
    info: &Conninfo,
    tls: &Tls,
    limit: Duration,
    startup: &[(&str, &str)],
    credential: &Credential,
) -> Result<RawConnection, ConnectError> {
    let startup = (startup, credential);
    let connecting = async {
        match info.sslmode {
            SslMode::Allow => match attempt(info, None, limit, startup).await {
                Err(Failure::Server(refused)) => {
                    let again = attempt(info, Some((tls, true)), limit, startup).await;
                    again.map_err(|_| Failure::Server(refused))
                }
                outcome => outcome,
            },
            SslMode::Disable => attempt(info, None, limit, startup).await,
            SslMode::Prefer => attempt(info, Some((tls, false)), limit, startup).await,
            _ => attempt(info, Some((tls, true)), limit, startup).await,
        }
    };
    match tokio::time::timeout(limit, Box::pin(connecting)).await {
        Ok(outcome) => outcome.map_err(|failure| told(info, failure)),
        Err(_) => Err(ConnectError {
            kind: ConnectErrorKind::TimedOut,
            endpoint: info.endpoint(),
            problem: format!("no answer within {limit:?}"),
        }),
    }
}

/// One attempt; `tls` with whether the server must offer it.
async fn attempt(
    info: &Conninfo,
    tls: Option<(&Tls, bool)>,
    limit: Duration,
    (startup, credential): (&[(&str, &str)], &Credential),
) -> Result<RawConnection, Failure> {
    let plain = RawStream::dial(info, limit).await?;
    let stream = match tls {
        Some((tls, required)) if !plain.is_unix() => plain.secured(info, tls, required).await?,
        _ => plain,
    };
    let mut connection = RawConnection {
        stream,
        buffer: BytesMut::with_capacity(8 << 10),
        parameters: HashMap::new(),
        backend: None,
    };
    login::login(&mut connection, info, startup, credential).await?;
    Ok(connection)
}

fn told(info: &Conninfo, failure: Failure) -> ConnectError {
    let (kind, problem) = match failure {
        Failure::Io(error) => (ConnectErrorKind::of_io(&error), error.to_string()),
        Failure::Tls(problem) => (ConnectErrorKind::Tls, problem),
        Failure::Server(said) => {
            (kind_of_code(&said.code), format!("{} (SQLSTATE {})", said.message, said.code))
        }
        Failure::Rejected(problem) => (ConnectErrorKind::Rejected, problem),
        Failure::Strange(problem) => (ConnectErrorKind::Other, problem),
    };
    ConnectError { kind, endpoint: info.endpoint(), problem }
}

impl RawConnection {
    /// The next message of the server, whole. Meant for the few messages before a stream of data begins, so it refuses
    /// what is over 1 MiB.
    ///
    /// # Errors
    /// When the connection ends or fails, or what comes is no message.
    pub async fn message(&mut self) -> io::Result<Message> {
        loop {
            if let Some(header) = Header::parse(&self.buffer)? {
                if usize::try_from(header.len()).map_or(true, |length| length > LONGEST_MESSAGE) {
                    return Err(invalid("a message is longer than any that may come here"));
                }
                if let Some(message) = Message::parse(&mut self.buffer)? {
                    return Ok(message);
                }
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends what `bytes` holds and empties it.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn send(&mut self, bytes: &mut BytesMut) -> io::Result<()> {
        self.stream.write_all_buf(bytes).await?;
        self.stream.flush().await
    }

    /// The server's version as `server_version_num` has it, such as 150018; 0 where it does not say.
    #[must_use]
    pub fn server_version(&self) -> u32 {
        let Some(text) = self.parameters.get("server_version") else { return 0 };
        let digits = text.split(|c: char| !c.is_ascii_digit() && c != '.').next();
        let mut parts = digits.unwrap_or_default().split('.').map(|part| part.parse().unwrap_or(0));
        let (major, minor): (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        major.saturating_mul(10_000).saturating_add(minor)
    }

    /// Drops what was received, for a caller that starts anew.
    pub fn forget_received(&mut self) {
        self.buffer.advance(self.buffer.len());
    }
}

fn invalid(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
