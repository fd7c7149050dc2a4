use std::net::SocketAddr;
use std::sync::Arc;

use herdsman_api::{Ssl, TlsIdentity};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{exchange, rest, send};
use crate::fixture::{config, start};

/// A certificate for `localhost`, ready to serve with, and to trust.
pub(crate) fn identity(organisation: &str) -> (TlsIdentity, CertificateDer<'static>) {
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::OrganizationName, organisation);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    let ssl = Ssl {
        cert: Some(certificate.pem()),
        key: Some(key.serialize_pem().into()),
        ..Ssl::default()
    };
    (ssl.load().unwrap(), certificate.der().clone())
}

async fn connect(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_served() {
    let (tls, trusted) = identity("a");
    let server = start(config(), Some(tls)).await;
    for (version, expected) in
        [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)]
    {
        let mut stream = connect(server.address, &trusted, &[version], &[]).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(expected));
        for _ in 0..2 {
            assert_eq!(exchange(&mut stream, "GET", "/v1/primary").await.body, "\"host1\"");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn tls_1_1_is_refused_where_1_2_is_taken() {
    let server = start(config(), Some(identity("a").0)).await;
    const HANDSHAKE: u8 = 0x16;
    const ALERT: u8 = 0x15;
    const FATAL_PROTOCOL_VERSION: &[u8] = &[2, 70];
    let answer = greet(server.address, [3, 3]).await;
    assert_eq!(answer[0], HANDSHAKE, "{answer:?}");
    let answer = greet(server.address, [3, 2]).await;
    assert_eq!((answer[0], &answer[5..7]), (ALERT, FATAL_PROTOCOL_VERSION), "{answer:?}");
    server.stop().await;
}

/// Sends a client hello that offers this version as the newest, and gives the start of the answer.
async fn greet(address: SocketAddr, version: [u8; 2]) -> [u8; 7] {
    let mut hello = version.to_vec();
    hello.extend([7; 32]);
    // No session; ECDHE-ECDSA with AES-128-GCM; no compression.
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    let x25519 = [0, 10, 0, 4, 0, 2, 0, 29];
    let uncompressed_points = [0, 11, 0, 2, 1, 0];
    let ecdsa_with_sha256 = [0, 13, 0, 4, 0, 2, 4, 3];
    hello.extend([0, 22]);
    hello.extend(x25519);
    hello.extend(uncompressed_points);
    hello.extend(ecdsa_with_sha256);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![0x16, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&record).await.unwrap();
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn http_2_is_agreed_on_and_spoken() {
    let (tls, trusted) = identity("a");
    let server = start(config(), Some(tls)).await;
    let alpn: &[&[u8]] = &[b"h2", b"http/1.1"];
    let mut stream = connect(server.address, &trusted, &[&TLS13], alpn).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    frame(&mut stream, 4, 0, 0, &[]).await;
    // :method GET, :scheme https, :path and :authority as literals.
    let mut headers = vec![0x82, 0x87, 0x04, 11];
    headers.extend(b"/v1/primary");
    headers.extend([0x01, 9]);
    headers.extend(b"localhost");
    const END_STREAM_AND_HEADERS: u8 = 0x5;
    frame(&mut stream, 1, END_STREAM_AND_HEADERS, 1, &headers).await;
    let (mut status_is_200, mut body) = (false, Vec::new());
    loop {
        let (kind, flags, stream_id, payload) = next_frame(&mut stream).await;
        match (kind, stream_id) {
            // The first header is `:status: 200`, number 8 of the static table.
            (1, 1) => status_is_200 = payload.first() == Some(&0x88),
            (0, 1) => body.extend(payload),
            _ => continue,
        }
        if flags & 1 == 1 {
            break;
        }
    }
    assert!(status_is_200);
    assert_eq!(body, b"\"host1\"");
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_wants_http_1_gets_it() {
    let (tls, trusted) = identity("a");
    let server = start(config(), Some(tls)).await;
    let mut stream = connect(server.address, &trusted, &[&TLS13], &[b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
    assert_eq!(exchange(&mut stream, "GET", "/v1/primary").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_at_the_next_handshake_and_old_connections_live_on() {
    let (tls, old) = identity("old");
    let (renewed, new) = identity("new");
    let server = start(config(), Some(tls)).await;
    let mut before = connect(server.address, &old, &[&TLS13], &[]).await.unwrap();
    assert_eq!(exchange(&mut before, "GET", "/v1/primary").await.status, 200);
    server.handle.reload_tls(renewed);
    let mut after = connect(server.address, &new, &[&TLS13], &[]).await.unwrap();
    let shown = after.get_ref().1.peer_certificates().unwrap();
    assert_eq!(shown, [new]);
    assert_eq!(exchange(&mut after, "GET", "/v1/primary").await.status, 200);
    assert_eq!(exchange(&mut before, "GET", "/v1/primary").await.status, 200);
    assert!(connect(server.address, &old, &[&TLS13], &[]).await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_told_so() {
    let server = start(config(), Some(identity("a").0)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    send(&mut stream, "GET /v1/primary HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let answer = String::from_utf8(rest(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.0 400 Bad Request\r\n"), "{answer}");
    assert!(answer.ends_with("use https:// in the address.\n"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn tls_on_the_plain_port_fails_and_the_server_goes_on() {
    let server = start(config(), None).await;
    let (_, trusted) = identity("a");
    assert!(connect(server.address, &trusted, &[&TLS13], &[]).await.is_err());
    server.handle.reload_tls(identity("b").0);
    let answer = crate::client::request(server.address, "GET", "/v1/primary").await;
    assert_eq!(answer.status, 200);
    server.stop().await;
}

async fn frame(stream: &mut TlsStream<TcpStream>, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    let length = u8::try_from(payload.len()).unwrap();
    let mut bytes = vec![0, 0, length, kind, flags];
    bytes.extend(id.to_be_bytes());
    bytes.extend(payload);
    stream.write_all(&bytes).await.unwrap();
    stream.flush().await.unwrap();
}

async fn next_frame(stream: &mut TlsStream<TcpStream>) -> (u8, u8, u32, Vec<u8>) {
    let mut head = [0; 9];
    let read = stream.read_exact(&mut head);
    tokio::time::timeout(std::time::Duration::from_secs(10), read)
        .await
        .expect("no frame")
        .unwrap();
    let [a, b, c, kind, flags, id @ ..] = head;
    let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap()];
    stream.read_exact(&mut payload).await.unwrap();
    (kind, flags, u32::from_be_bytes(id), payload)
}
