//! Where a receiver listens, and how to know that it is the one.

use std::path::Path;
use std::sync::Arc;

use herdsman_node::Trust;
use http::Uri;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A receiver.
#[derive(Clone)]
pub(super) struct Address {
    host: String,
    port: u16,
    /// Path and query.
    pub(super) path: String,
    /// `None` is plain HTTP.
    tls: Option<Arc<ClientConfig>>,
}

/// An open connection.
#[expect(clippy::large_enum_variant, reason = "moved once, into the task that drives it")]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(TlsStream<TcpStream>),
}

/// Where systems keep the authorities they trust.
const SYSTEM: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

impl Address {
    /// The receiver at a URL.
    ///
    /// # Errors
    /// What is wrong with it, without repeating it.
    pub(super) fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, String> {
        let (uri, tls) = parse(url)?;
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let tls = if tls { Some(Arc::new(trust(ca_file)?.client()?)) } else { None };
        Ok(Self { host, port, path, tls })
    }

    /// Scheme and host of a URL: all that is shown of it.
    pub(super) fn origin(url: &str) -> Result<String, String> {
        let (uri, tls) = parse(url)?;
        let scheme = if tls { "https" } else { "http" };
        Ok(format!("{scheme}://{}", uri.authority().map_or("", |authority| authority.as_str())))
    }

    /// Host and port, as the `host` header has them.
    pub(super) fn authority(&self) -> String {
        let host = &self.host;
        let standard = if self.tls.is_some() { 443 } else { 80 };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        if self.port == standard { host } else { format!("{host}:{}", self.port) }
    }

    /// The receiver as it is shown.
    pub(super) fn target(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// Opens a connection.
    pub(super) async fn connect(&self) -> Result<Stream, String> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| error.to_string())?;
        let _only_slower = tcp.set_nodelay(true);
        let Some(tls) = &self.tls else { return Ok(Stream::Plain(tcp)) };
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| "its host cannot be the name in a certificate".to_owned())?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await;
        stream.map(Stream::Tls).map_err(|error| format!("TLS: {error}"))
    }
}

fn parse(url: &str) -> Result<(Uri, bool), String> {
    let wrong = || "`url` is none, expected http://HOST/PATH or https://HOST/PATH".to_owned();
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(wrong()),
    };
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("`url` has a user or password; put what it needs into `headers`".to_owned());
    }
    if uri.host().is_none_or(str::is_empty) { Err(wrong()) } else { Ok((uri, tls)) }
}

fn trust(ca_file: Option<&Path>) -> Result<Trust, String> {
    if let Some(file) = ca_file {
        return Trust::of_file(file);
    }
    let system = SYSTEM.iter().map(Path::new).find(|path| path.is_file());
    Trust::of_file(system.ok_or_else(|| {
        "this machine has no file of trusted authorities; install it, or set `ca_file`".to_owned()
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_get_their_default_ports_and_only_their_origin_is_shown() {
        for (url, authority, path) in [
            ("http://a", "a", "/"),
            ("http://a:80/b?c=d", "a", "/b?c=d"),
            ("http://a:8080/b", "a:8080", "/b"),
            ("http://[::1]:7/", "[::1]:7", "/"),
        ] {
            let address = Address::new(url, None).unwrap();
            assert_eq!((address.authority().as_str(), address.path.as_str()), (authority, path));
            assert_eq!(address.target(), format!("http://{authority}"));
        }
        assert_eq!(Address::origin("https://a/secret").unwrap(), "https://a");
        for url in ["", "a", "/a", "https://", "http:///a"] {
            assert!(Address::new(url, None).is_err(), "{url}");
        }
    }
}
