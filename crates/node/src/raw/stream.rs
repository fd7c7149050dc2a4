//! The socket, with or without TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use rustix::net::sockopt;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Failure, binding};
use crate::{Conninfo, Tls};

/// A socket to a server.
#[derive(Debug)]
pub enum RawStream {
    /// TCP without TLS.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TCP with TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl RawStream {
    pub(super) async fn dial(info: &Conninfo, limit: Duration) -> Result<Self, Failure> {
        if info.host.starts_with('/') && info.hostaddr.is_none() {
            let path = format!("{}/.s.PGSQL.{}", info.host, info.port);
            return Ok(Self::Unix(UnixStream::connect(path).await?));
        }
        let addresses: Vec<_> = match info.hostaddr {
            Some(address) => vec![(address, info.port).into()],
            None => lookup_host((info.host.as_str(), info.port)).await?.collect(),
        };
        let mut last = io::Error::new(io::ErrorKind::HostUnreachable, "the name has no address");
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    notice_a_vanished_peer(&stream, limit)?;
                    return Ok(Self::Tcp(stream));
                }
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }

    pub(super) fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// Asks for TLS and shakes hands. Without it where the server has none and none is required.
    pub(super) async fn secured(
        self,
        info: &Conninfo,
        tls: &Tls,
        required: bool,
    ) -> Result<Self, Failure> {
        let Self::Tcp(mut stream) = self else { return Ok(self) };
        let mut request = BytesMut::new();
        postgres_protocol::message::frontend::ssl_request(&mut request);
        stream.write_all(&request).await?;
        // One byte and no more: what followed it unencrypted would not be from whom we think.
        match stream.read_u8().await? {
            b'S' => {}
            b'N' if !required => return Ok(Self::Tcp(stream)),
            b'N' => return Err(Failure::Tls("the server does not offer TLS".to_owned())),
            _ => {
                return Err(Failure::Strange("it does not speak PostgreSQL's protocol".to_owned()));
            }
        }
        let name = ServerName::try_from(info.host.clone())
            .map_err(|_| Failure::Tls(format!("`{}` is no name for a certificate", info.host)))?;
        let connector = TlsConnector::from(Arc::clone(tls.client_config()));
        let stream = connector.connect(name, stream).await;
        Ok(Self::Tls(Box::new(stream.map_err(|error| Failure::Tls(error.to_string()))?)))
    }

    /// What binds a login to this TLS connection: a hash of the server's certificate.
    pub(super) fn binding(&self) -> Option<Vec<u8>> {
        match self {
            Self::Tls(stream) => {
                binding::end_point(stream.get_ref().1.peer_certificates()?.first()?)
            }
            _ => None,
        }
    }
}

/// Keepalive and `tcp_user_timeout` of the order of `limit`, as for every other connection of ours.
fn notice_a_vanished_peer(stream: &TcpStream, limit: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(2))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(1))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    #[cfg(target_os = "linux")]
    {
        let millis = limit.saturating_mul(2).as_millis();
        sockopt::set_tcp_user_timeout(stream, u32::try_from(millis).unwrap_or(u32::MAX))?;
    }
    Ok(())
}

impl AsyncRead for RawStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for RawStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
