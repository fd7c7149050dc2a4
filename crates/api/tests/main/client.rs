//! A client made of bytes, so that nothing between it and the server is polite.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// One request on a connection of its own.
pub(crate) async fn request(address: SocketAddr, method: &str, target: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    exchange(&mut stream, method, target).await
}

/// One request on an open connection; the server may go on with it.
pub(crate) async fn exchange<S>(stream: &mut S, method: &str, target: &str) -> Answer
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send(stream, &format!("{method} {target} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
    receive(stream, method == "HEAD").await
}

pub(crate) async fn send<S: AsyncWrite + Unpin>(stream: &mut S, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

pub(crate) async fn receive<S: AsyncRead + Unpin>(stream: &mut S, head_only: bool) -> Answer {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let read = timeout(PATIENCE, stream.read_u8()).await.expect("no answer");
        bytes.push(read.expect("the connection ended inside of an answer"));
    }
    let head = String::from_utf8(bytes).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; if head_only { 0 } else { length }];
    timeout(PATIENCE, stream.read_exact(&mut body)).await.expect("no body").unwrap();
    Answer { status, head, body: String::from_utf8(body).unwrap() }
}

/// Everything the server sends until it closes.
pub(crate) async fn rest<S: AsyncRead + Unpin>(stream: &mut S) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset ends a connection as well as a close does.
    let _end = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("still open");
    bytes
}
