//! As little of an HTTP client as will do: on a small machine every cycle of it is missing to what is measured.

use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// One connection that is kept alive.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// What a number of connections got out of a server.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// Of each answered request, sorted.
    pub(crate) latencies: Vec<Duration>,
    /// Answers with another status than 200.
    pub(crate) not_ok: usize,
    /// Connections that broke.
    pub(crate) broken: usize,
    pub(crate) elapsed: Duration,
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Where the body begins.
    size: usize,
    body: usize,
}

/// Bound on one request outside of load, and on how much longer than asked for load may take.
const LIMIT: Duration = Duration::from_secs(5);
/// A topology of a hundred nodes is far below.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Gets one path over a connection of its own.
pub(crate) async fn get(port: u16, path: &str) -> io::Result<(u16, Vec<u8>)> {
    let asked = async {
        let mut client = Client::connect(port, path).await?;
        let head = client.ask().await?;
        let body = client.answer.get(head.size..head.size + head.body).unwrap_or_default();
        Ok((head.status, body.to_vec()))
    };
    timeout(LIMIT, asked).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// Asks for a path over and over, each connection as soon as it has its answer.
pub(crate) async fn load(
    port: u16,
    path: &'static str,
    connections: usize,
    span: Duration,
) -> Load {
    let started = Instant::now();
    let end = started + span;
    let mut running = JoinSet::new();
    for _ in 0..connections {
        running.spawn(async move {
            let mut part = Load::default();
            // An answer that never comes ends with the load, not with the bench.
            let in_time = timeout(span + LIMIT, one(port, path, end, &mut part)).await;
            if in_time.is_err() {
                part.broken += 1;
            }
            part
        });
    }
    let mut all = Load::default();
    while let Some(Ok(part)) = running.join_next().await {
        all.latencies.extend(part.latencies);
        all.not_ok += part.not_ok;
        all.broken += part.broken;
    }
    all.elapsed = started.elapsed();
    all.latencies.sort_unstable();
    all
}

async fn one(port: u16, path: &str, end: Instant, part: &mut Load) {
    const PAUSE: Duration = Duration::from_millis(10);
    while Instant::now() < end {
        if let Err(_broken) = keep_asking(port, path, end, part).await {
            part.broken += 1;
            sleep(PAUSE).await;
        }
    }
}

async fn keep_asking(port: u16, path: &str, end: Instant, part: &mut Load) -> io::Result<()> {
    let mut client = Client::connect(port, path).await?;
    let mut asked = Instant::now();
    while asked < end {
        let head = client.ask().await?;
        let answered = Instant::now();
        part.latencies.push(answered - asked);
        part.not_ok += usize::from(head.status != 200);
        asked = answered;
    }
    Ok(())
}

impl Client {
    async fn connect(port: u16, path: &str) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n").into_bytes();
        Ok(Self { stream, request, answer: Vec::with_capacity(1024) })
    }

    async fn ask(&mut self) -> io::Result<Head> {
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        loop {
            if let Some(head) = head(&self.answer)?
                && self.answer.len() >= head.size + head.body
            {
                return Ok(head);
            }
            if self.answer.len() > MAX_ANSWER {
                return Err(io::Error::new(ErrorKind::InvalidData, "the answer is too long"));
            }
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The head of an answer, once it is complete.
fn head(answer: &[u8]) -> io::Result<Option<Head>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let wrong = |what: &str| io::Error::new(ErrorKind::InvalidData, what.to_owned());
    let text = answer.get(..end).and_then(|head| std::str::from_utf8(head).ok());
    let mut lines = text.ok_or_else(|| wrong("the head is no text"))?.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .ok_or_else(|| wrong("the answer has no status"))?;
    let body = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or_else(|| wrong("the answer has no content-length"))?;
    Ok(Some(Head { status, size: end + 4, body }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_complete() {
        let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nx: y\r\n\r\n\"\"";
        assert_eq!(head(answer.get(..20).unwrap()).unwrap(), None);
        let expected = Head { status: 404, size: answer.len() - 2, body: 2 };
        assert_eq!(head(answer).unwrap(), Some(expected));
    }

    #[test]
    fn an_answer_of_unknown_length_is_refused() {
        let error = head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap_err();
        assert!(error.to_string().contains("content-length"), "{error}");
        assert!(head(b"nonsense\r\n\r\n").is_err());
    }
}
