//! A connection to a PostgreSQL server on which somebody else's messages go to and fro, and ours in between.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use bytes::{Buf, BytesMut};
use herdsman_node::{Conninfo, raw::RawConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::failed;
use crate::node::{
    dialect::Failure,
    session::{Ask, Heard, Rows, Told, next_rows},
};

/// How long a question of ours may take. What a transaction has changed is at most a few megabytes.
const ANSWER: Duration = Duration::from_secs(60);
/// A message's first byte and its length.
pub(super) const HEADER: usize = 5;

/// A connection in PostgreSQL's protocol, message by message.
#[derive(Debug)]
pub struct Wire {
    raw: RawConnection,
    info: Arc<Conninfo>,
    flushed: bool,
}

impl Wire {
    pub(super) fn new(raw: RawConnection, info: Arc<Conninfo>) -> Self {
        Self { raw, info, flushed: true }
    }

    /// What the server says of its session, as of now: `TimeZone`, `server_version`, …
    #[must_use]
    pub fn parameters(&self) -> &HashMap<String, String> {
        &self.raw.parameters
    }

    /// The server process, and the secret with which a request of it can be cancelled.
    #[must_use]
    pub fn backend(&self) -> Option<(i32, i32)> {
        self.raw.backend
    }

    /// Where the server is.
    #[must_use]
    pub fn info(&self) -> &Arc<Conninfo> {
        &self.info
    }

    /// Sends what `out` holds, empties it, and gives the server's next message, whole, as soon as it is there. Dropped half
    /// way, it has lost nothing. What the server says of its session is noted and not given.
    ///
    /// # Errors
    /// The connection has ended or failed.
    pub async fn exchange(&mut self, out: &mut BytesMut) -> io::Result<BytesMut> {
        loop {
            if let Some(message) = whole(&mut self.raw.buffer)? {
                if message.first() == Some(&b'S') {
                    self.note(message.get(HEADER..).unwrap_or_default());
                    continue;
                }
                return Ok(message);
            }
            let (mut reads, mut writes) = tokio::io::split(&mut self.raw.stream);
            let busy = !out.is_empty() || !self.flushed;
            let send = async {
                if out.is_empty() {
                    return writes.flush().await.map(|()| true);
                }
                writes.write_buf(out).await.map(|_| false)
            };
            tokio::select! {
                sent = send, if busy => self.flushed = sent?,
                read = reads.read_buf(&mut self.raw.buffer) => {
                    if read? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }

    /// A question of ours: its rows, in text.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Rows, Failure> {
        let heard = self.together(&[Ask::select(sql)]).await;
        let mut told = heard.all()?;
        Ok(next_rows(&mut told))
    }

    /// Several of ours, none with values, each one statement: in one message, so that there is one answer to wait for.
    pub(super) async fn together(&mut self, asks: &[Ask]) -> Heard {
        let mut heard = Heard::default();
        let mut texts = Vec::with_capacity(asks.len());
        for ask in asks {
            match ask {
                Ask::Command(sql) => texts.push(sql.as_str()),
                Ask::Select(sql, values) if values.is_empty() => texts.push(sql.as_str()),
                Ask::Select(..) | Ask::Execute(..) | Ask::Statement(..) => {
                    let why = "a client's own connection takes no values of ours";
                    heard.failed = Some(Failure::Environmental(why.to_owned()));
                    return heard;
                }
            }
        }
        let sql = texts.join("; ");
        let mut out = BytesMut::from(&b"Q"[..]);
        let length = i32::try_from(sql.len().saturating_add(5)).unwrap_or(i32::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(sql.as_bytes());
        out.extend_from_slice(&[0]);
        let trouble = match tokio::time::timeout(ANSWER, self.answer(&mut out, &mut heard)).await {
            Ok(Ok(())) => return heard,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {ANSWER:?}"),
        };
        heard.failed = Some(Failure::Environmental(trouble));
        heard
    }

    async fn answer(&mut self, out: &mut BytesMut, heard: &mut Heard) -> io::Result<()> {
        let mut rows = Rows::new();
        loop {
            let message = self.exchange(out).await?;
            let body = message.get(HEADER..).unwrap_or_default();
            match message.first() {
                Some(b'D') => rows.push(row(body)?),
                // The end of each statement.
                Some(b'C') => heard.told.push(Told::Rows(std::mem::take(&mut rows))),
                Some(b'E') if heard.failed.is_none() => {
                    heard.failed = Some(failed(&field(body, b'C'), field(body, b'M')));
                }
                Some(b'Z') => return Ok(()),
                _ => {}
            }
        }
    }

    fn note(&mut self, body: &[u8]) {
        let mut parts = body.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        if let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            self.raw.parameters.insert(name.into_owned(), value.into_owned());
        }
    }
}

/// The first message, if all of it is there.
fn whole(buffer: &mut BytesMut) -> io::Result<Option<BytesMut>> {
    let [_, a, b, c, d, ..] = **buffer else { return Ok(None) };
    let length = usize::try_from(i32::from_be_bytes([a, b, c, d])).ok().filter(|it| *it >= 4);
    let length = length.ok_or_else(|| invalid("its length is less than four"))?.saturating_add(1);
    if buffer.len() < length {
        buffer.reserve(length - buffer.len());
        return Ok(None);
    }
    Ok(Some(buffer.split_to(length)))
}

pub(super) fn row(mut body: &[u8]) -> io::Result<Vec<Option<String>>> {
    let short = |_| invalid("a row ends early");
    let columns = body.try_get_u16().map_err(short)?;
    let mut cells = Vec::with_capacity(usize::from(columns));
    for _ in 0..columns {
        let length = body.try_get_i32().map_err(short)?;
        let Ok(length) = usize::try_from(length) else {
            cells.push(None);
            continue;
        };
        let (cell, rest) =
            body.split_at_checked(length).ok_or_else(|| invalid("a row ends early"))?;
        cells.push(Some(String::from_utf8_lossy(cell).into_owned()));
        body = rest;
    }
    Ok(cells)
}

/// One field of an error, by its letter; empty where it is missing.
pub(super) fn field(body: &[u8], letter: u8) -> String {
    let mut fields = body.split(|byte| *byte == 0);
    let found = fields.find_map(|field| field.strip_prefix(&[letter]));
    found.map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
}

pub(super) fn invalid(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_whole_and_one_by_one() {
        let mut buffer = BytesMut::from(&b"Z\0\0\0\x05IZ\0\0\0\x05"[..]);
        assert_eq!(whole(&mut buffer).unwrap().unwrap(), b"Z\0\0\0\x05I"[..]);
        assert_eq!(whole(&mut buffer).unwrap(), None);
        buffer.extend_from_slice(b"T");
        assert_eq!(whole(&mut buffer).unwrap().unwrap(), b"Z\0\0\0\x05T"[..]);
        assert_eq!(whole(&mut buffer).unwrap(), None);
        assert!(whole(&mut BytesMut::from(&b"Z\0\0\0\x03"[..])).is_err());
    }

    #[test]
    fn rows_and_errors_are_read_and_short_ones_refused() {
        let cells = row(b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff").unwrap();
        assert_eq!(cells, [Some("ab".to_owned()), None]);
        assert!(row(b"\0\x02\0\0\0\x02ab").is_err());
        assert!(row(b"\0\x01\0\0\0\x09ab").is_err());
        let error = b"SERROR\0C40001\0Mtoo late\0\0";
        assert_eq!((field(error, b'C'), field(error, b'M')), ("40001".into(), "too late".into()));
        assert_eq!(field(error, b'D'), "");
    }
}
