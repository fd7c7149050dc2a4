//! One Herdsman's API: a connection that is kept, and one bounded question over it.

use std::fmt;
use std::sync::Arc;

use herdsman_node::Trust;
use herdsman_watch::Topology;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::RemoteError;

/// What is asked for.
const PATH: &str = "/v2/topology";

/// Largest answer taken: a thousand nodes with long reasons stay below.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// Where a Herdsman listens, and how to know that it is the one.
#[derive(Clone)]
pub(super) struct Address {
    host: String,
    port: u16,
    /// `None` is plain HTTP.
    tls: Option<Arc<ClientConfig>>,
}

/// An open connection.
pub(super) struct Line {
    sender: SendRequest<Empty<Bytes>>,
    driver: AbortHandle,
}

impl Address {
    /// The API at a URL such as `https://db-watch:8443`.
    pub(super) fn new(url: &str, trust: Option<&Trust>) -> Result<Self, RemoteError> {
        if url.contains('@') {
            return Err(RemoteError::Login);
        }
        let wrong = || RemoteError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let (tls, port) = match uri.scheme_str() {
            Some("http") => (None, 8080),
            Some("https") => {
                let trust = trust.ok_or_else(|| RemoteError::NoTrust(url.to_owned()))?;
                (Some(Arc::new(trust.client().map_err(RemoteError::Certificates)?)), 8443)
            }
            _ => return Err(wrong()),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong());
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(port), tls })
    }

    /// Opens a connection.
    pub(super) async fn connect(&self) -> Result<Line, String> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| error.to_string())?;
        let _only_slower = tcp.set_nodelay(true);
        let Some(tls) = &self.tls else { return handshake(tcp).await };
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| format!("`{}` cannot be the name in a certificate", self.host))?;
        let connector = TlsConnector::from(Arc::clone(tls));
        handshake(connector.connect(name, tcp).await.map_err(|error| format!("TLS: {error}"))?)
            .await
    }

    /// Asks for the topology.
    pub(super) async fn ask(&self, line: &mut Line) -> Result<Topology, String> {
        let request = Request::get(PATH)
            .header(HOST, self.authority())
            .header(ACCEPT, "application/json")
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        line.sender.ready().await.map_err(|error| error.to_string())?;
        let response =
            line.sender.send_request(request).await.map_err(|error| error.to_string())?;
        if response.status() != StatusCode::OK {
            return Err(format!("it answered {PATH} with {}", response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        serde_json::from_slice(&body)
            .map_err(|error| format!("its answer to {PATH} is no topology: {error}"))
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn handshake<S>(stream: S) -> Result<Line, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // That the connection ended is told by the next question.
    let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
    Ok(Line { sender, driver })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Result<&str, &str>) {
        let found = Address::new(url, None);
        match expected {
            Ok(expected) => assert_eq!(found.unwrap().to_string(), expected),
            Err(part) => {
                let error = found.unwrap_err().to_string();
                assert!(error.contains(part) && !error.contains("secret"), "{url}: {error}");
            }
        }
    }

    #[test]
    fn urls_get_the_default_ports_and_nonsense_is_refused() {
        check("http://a", Ok("http://a:8080"));
        check("http://a:7/", Ok("http://a:7"));
        check("http://[::1]:7", Ok("http://[::1]:7"));
        check("https://a", Err("Remote::with_certificates"));
        check("http://a/v2", Err("expected http://HOST:PORT or https://HOST:PORT"));
        check("a:8080", Err("expected http://HOST:PORT"));
        check("ftp://a", Err("expected http://HOST:PORT"));
        check("", Err("expected http://HOST:PORT"));
        check("http://u:secret@a", Err("a user or password"));
    }
}
