//! Making one connection to one server, bounded in time, with an error that says what to do.

use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use tokio_postgres::config::SslMode as WireSslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{Conninfo, SslMode, Tls};

type Wire =
    tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// An open connection: the client to send queries with, and the driver that must run for anything to move.
pub struct Connection {
    /// Sends queries.
    pub client: Client,
    driver: Wire,
}

/// A connection could not be made. Says what failed, where, and what to do; never shows a secret.
#[derive(Debug, thiserror::Error)]
#[error("failed to connect to {endpoint}: {problem}; {}", .kind.advice())]
pub struct ConnectError {
    /// What kind of failure it was.
    pub kind: ConnectErrorKind,
    /// `host:port` that was tried.
    pub endpoint: String,
    /// What the system or the server said.
    pub problem: String,
}

/// Kinds of connection failures, by what a person would do about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectErrorKind {
    /// Nothing listens there.
    Refused,
    /// No answer in time.
    TimedOut,
    /// The server is starting, stopping or recovering.
    NotReady,
    /// Something accepted the connection and closed it without a word.
    Dropped,
    /// The server has no connection to spare.
    TooManyConnections,
    /// The server knows us not, or the password is wrong.
    Rejected,
    /// TLS failed.
    Tls,
    /// The host name has no address, or the network is down.
    Unreachable,
    /// Anything else.
    Other,
}

impl ConnectErrorKind {
    /// What an error of the socket means.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe => Self::Dropped,
            _ => Self::Unreachable,
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Refused => {
                "check that PostgreSQL runs there and listens on this address and port"
            }
            Self::TimedOut => {
                "check that the machine is up, not frozen, and reachable through every firewall"
            }
            Self::Dropped => {
                "check that PostgreSQL runs there, and not only a proxy in front of it"
            }
            Self::NotReady => "it will be tried again until the server is ready",
            Self::TooManyConnections => {
                "raise max_connections or reserve connections for monitoring"
            }
            Self::Rejected => {
                "check user, password and database here, and pg_hba.conf on the server"
            }
            Self::Tls => "check sslmode and the certificates on both sides",
            Self::Unreachable => "check the host name and the network",
            Self::Other => "see the server's log",
        }
    }
}

/// Connects to `info`, giving up after `limit`.
///
/// The socket gets TCP keepalive and `tcp_user_timeout` of the order of `limit`, so that a peer that vanished is
/// noticed even while nothing is being sent.
///
/// # Errors
/// [`ConnectError`] with the reason and the advice that fits it.
pub async fn connect(
    info: &Conninfo,
    tls: &Tls,
    limit: Duration,
) -> Result<Connection, ConnectError> {
    let attempt = |mode| dial(info, tls, mode, limit);
    let connecting = async {
        match info.sslmode {
            SslMode::Disable => attempt(WireSslMode::Disable).await,
            SslMode::Prefer => attempt(WireSslMode::Prefer).await,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                attempt(WireSslMode::Require).await
            }
            SslMode::Allow => match attempt(WireSslMode::Disable).await {
                Err(error) if error.as_db_error().is_some() => {
                    attempt(WireSslMode::Require).await.map_err(|_| error)
                }
                outcome => outcome,
            },
        }
    };
    // On the heap: two handshakes deep, this future is large, and a watcher holds hundreds of them.
    match tokio::time::timeout(limit, Box::pin(connecting)).await {
        Ok(Ok((client, driver))) => Ok(Connection { client, driver }),
        Ok(Err(error)) => Err(classify(info, &error)),
        Err(_) => Err(ConnectError {
            kind: ConnectErrorKind::TimedOut,
            endpoint: info.endpoint(),
            problem: format!("no answer within {limit:?}"),
        }),
    }
}

async fn dial(
    info: &Conninfo,
    tls: &Tls,
    mode: WireSslMode,
    limit: Duration,
) -> Result<(Client, Wire), tokio_postgres::Error> {
    let mut config = Config::new();
    config
        .host(&info.host)
        .port(info.port)
        .user(&info.user)
        .dbname(&info.dbname)
        .application_name(&info.application_name)
        .ssl_mode(mode)
        .connect_timeout(info.connect_timeout.map_or(limit, |own| own.min(limit)))
        .tcp_user_timeout(limit * 2)
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(2))
        .keepalives_interval(Duration::from_secs(1))
        .keepalives_retries(3);
    if let Some(address) = info.hostaddr {
        config.hostaddr(address);
    }
    if let Some(password) = info.password_text() {
        config.password(password);
    }
    if !info.options.is_empty() {
        config.options(&info.options);
    }
    config.connect(tls.connector.clone()).await
}

fn classify(info: &Conninfo, error: &tokio_postgres::Error) -> ConnectError {
    let kind = if let Some(state) = error.code() {
        kind_of_code(state.code())
    } else if let Some(io) = error.source().and_then(|s| s.downcast_ref::<io::Error>()) {
        match ConnectErrorKind::of_io(io) {
            ConnectErrorKind::Unreachable if error.to_string().contains("TLS") => {
                ConnectErrorKind::Tls
            }
            kind => kind,
        }
    } else {
        match error.to_string().as_str() {
            text if text.contains("TLS") => ConnectErrorKind::Tls,
            text if text.contains("configuration") || text.contains("authentication") => {
                ConnectErrorKind::Rejected
            }
            _ if error.is_closed() => ConnectErrorKind::Dropped,
            _ => ConnectErrorKind::Other,
        }
    };
    ConnectError { kind, endpoint: info.endpoint(), problem: describe(error) }
}

pub(crate) fn kind_of_code(sqlstate: &str) -> ConnectErrorKind {
    match sqlstate {
        "57P01" | "57P02" | "57P03" => ConnectErrorKind::NotReady,
        "53300" => ConnectErrorKind::TooManyConnections,
        code if code.starts_with("28") || matches!(code, "3D000" | "42501") => {
            ConnectErrorKind::Rejected
        }
        _ => ConnectErrorKind::Other,
    }
}

/// The whole story of a client error in one line: what failed, and why, as the server or the system put it.
#[must_use]
pub fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl Connection {
    /// Splits into the client and a future that drives the connection until it ends, returning why it ended.
    ///
    /// `on_standby` is called with each new value of the server's `in_hot_standby` report: a standby that has been
    /// promoted says `false` with the first answer it gives afterwards, whatever the question was.
    pub fn split(
        self,
        on_standby: impl FnMut(bool) + Send + 'static,
    ) -> (Client, impl Future<Output = String> + Send + 'static) {
        self.split_telling(on_standby, |_| {})
    }

    /// As [`Connection::split`], and `on_notice` is called with the text of each notice.
    pub fn split_telling(
        self,
        mut on_standby: impl FnMut(bool) + Send + 'static,
        mut on_notice: impl FnMut(&str) + Send + 'static,
    ) -> (Client, impl Future<Output = String> + Send + 'static) {
        let mut driver = self.driver;
        let mut last = None;
        let mut story = "the connection was closed".to_owned();
        let driving = poll_fn(move |cx| {
            loop {
                let polled = driver.poll_message(cx);
                let now = driver.parameter("in_hot_standby").map(|v| v == "on");
                if now != last {
                    last = now;
                    if let Some(standby) = now {
                        on_standby(standby);
                    }
                }
                match polled {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(AsyncMessage::Notice(notice)))) => {
                        on_notice(notice.message());
                    }
                    Poll::Ready(Some(Ok(_notification))) => {}
                    Poll::Ready(Some(Err(error))) => {
                        story = describe(&error);
                        return Poll::Ready(std::mem::take(&mut story));
                    }
                    Poll::Ready(None) => return Poll::Ready(std::mem::take(&mut story)),
                }
            }
        });
        (self.client, driving)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}
