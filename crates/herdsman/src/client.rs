//! Asking a running Herdsman over HTTP: one bounded request.

use std::sync::Arc;
use std::time::Duration;

use herdsman_node::Trust;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::Config;

pub(crate) mod follow;
pub(crate) mod trust;

/// Bound on one request, from looking up the name to the last byte. Answers come from memory: what takes longer is
/// not going to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Largest answer taken: a thousand nodes with long reasons stay below.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// Where a running Herdsman listens, and how to know that it is the one.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    host: String,
    port: u16,
    /// `None` is plain HTTP.
    trust: Option<Trust>,
}

/// A connection, encrypted or not.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for S {}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Nobody answered, or not in HTTP.
#[derive(Debug, thiserror::Error)]
#[error("failed to ask {url}: {problem}")]
pub(crate) struct AskError {
    url: String,
    problem: String,
}

impl Endpoint {
    /// The API that a program with this configuration serves on this machine.
    ///
    /// # Errors
    /// What is wrong with the configured certificate.
    pub(crate) fn of_config(config: &Config) -> Result<Self, String> {
        let trust = config.ssl.as_ref().map(|ssl| trust::of_config(ssl, &config.api));
        let trust = trust.transpose()?;
        let host = match config.listen.bind.as_str() {
            "" | "*" | "0.0.0.0" | "::" => "localhost".to_owned(),
            other => other.to_owned(),
        };
        Ok(Self { host, port: config.listen.port, trust })
    }

    /// The API at a URL such as `https://db-watch:8443`.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub(crate) fn of_url(
        url: &str,
        trust: impl FnOnce() -> Result<Trust, String>,
    ) -> Result<Self, String> {
        let wrong =
            || format!("`{url}` is not a URL, expected http://HOST:PORT or https://HOST:PORT");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let (trust, port) = match uri.scheme_str() {
            Some("http") => (None, 8080),
            Some("https") => (Some(trust()?), 8443),
            _ => return Err(wrong()),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!(
                "`{url}` has a path, expected http://HOST:PORT or https://HOST:PORT"
            ));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(port), trust })
    }

    /// Trusts others than the configuration says, or shows another certificate, where there is TLS at all.
    ///
    /// # Errors
    /// What `change` says is wrong.
    pub(crate) fn change_trust(
        &mut self,
        change: impl FnOnce(Trust) -> Result<Trust, String>,
    ) -> Result<(), String> {
        self.trust = self.trust.take().map(change).transpose()?;
        Ok(())
    }

    /// Whether there is TLS, and so somebody to show a certificate to.
    pub(crate) fn is_tls(&self) -> bool {
        self.trust.is_some()
    }

    /// The URL, as it is shown in messages.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.trust.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// Gets one path.
    ///
    /// # Errors
    /// [`AskError`] when there is no HTTP answer within five seconds.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer, AskError> {
        let request = Request::get(path).body(Full::default());
        self.ask(request.map_err(|error| error.to_string())).await
    }

    /// Posts JSON to a path, with a token if there is one.
    ///
    /// # Errors
    /// [`AskError`] when there is no HTTP answer within five seconds.
    pub(crate) async fn post(
        &self,
        path: &str,
        token: Option<&str>,
        json: &str,
    ) -> Result<Answer, AskError> {
        let mut request = Request::post(path).header(CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::from(json.to_owned()));
        self.ask(request.map_err(|error| error.to_string())).await
    }

    /// Sends a request that somebody else has made, for a path below this address.
    ///
    /// # Errors
    /// [`AskError`] when there is no HTTP answer within five seconds.
    #[cfg(feature = "otel")]
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, AskError> {
        self.ask(Ok(request)).await
    }

    async fn ask(&self, request: Result<Request<Full<Bytes>>, String>) -> Result<Answer, AskError> {
        let asking = async { self.connected(request?).await };
        let asked = tokio::time::timeout(TIMEOUT, Box::pin(asking)).await;
        asked
            .unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")))
            .map_err(|problem| AskError { url: self.url(), problem })
    }

    async fn connected(&self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let stream = self.connect().await?;
        self.exchange(stream, request).await
    }

    async fn connect(&self) -> Result<Box<dyn Wire>, String> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| error.to_string())?;
        let Some(trust) = &self.trust else {
            return Ok(Box::new(tcp));
        };
        let tls = TlsConnector::from(Arc::<ClientConfig>::new(trust.client()?));
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| format!("`{}` cannot be the name in a certificate", self.host))?;
        let stream = tls.connect(name, tcp).await.map_err(|error| format!("TLS: {error}"))?;
        Ok(Box::new(stream))
    }

    async fn exchange(
        &self,
        stream: Box<dyn Wire>,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, String> {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let request = self.addressed(request, "application/json")?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| whole(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok(Answer { status, body })
        };
        // The connection moves only while it is polled; that it ended is told by the exchange.
        let mut exchange = std::pin::pin!(exchange);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            answer = &mut exchange => answer,
            ended = &mut connection => match (exchange.await, ended) {
                // Only the connection knows that the other side wanted another certificate.
                (Err(_), Err(error)) => Err(whole(&error)),
                (answer, _) => answer,
            },
        }
    }

    /// With the headers that every request has.
    fn addressed(
        &self,
        mut request: Request<Full<Bytes>>,
        accept: &'static str,
    ) -> Result<Request<Full<Bytes>>, String> {
        let host = HeaderValue::try_from(self.authority()).map_err(|error| error.to_string())?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
        Ok(request)
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// An error with all that is behind it.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Result<&str, &str>) {
        let found = Endpoint::of_url(url, || Err("no trust needed".to_owned()));
        match expected {
            Ok(expected) => assert_eq!(found.unwrap().url(), expected),
            Err(part) => assert!(found.unwrap_err().contains(part), "{url}"),
        }
    }

    #[test]
    fn urls_get_the_default_ports_and_nonsense_is_refused() {
        check("http://a", Ok("http://a:8080"));
        check("https://a/", Err("no trust needed"));
        check("http://[::1]:7", Ok("http://[::1]:7"));
        check("http://a/v1", Err("has a path"));
        check("a:8080", Err("is not a URL"));
        check("ftp://a", Err("is not a URL"));
        check("", Err("is not a URL"));
    }
}
