//! Short conversations of the gateway's own with a server: one simple query, its answer read to the end.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use herdsman_node::raw::{RawStream, ServerMessage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error::{Refusal, TalkError};
use super::server::Server;
use crate::settings::Settings;
use crate::wire::{self, Malformed, backend, frontend};

/// No message in an answer to a question of ours is longer; a length beyond it is not PostgreSQL's.
const LONGEST_MESSAGE: usize = 1 << 20;

/// The first row of an answer, as text.
pub(super) type Row = Vec<Option<String>>;

/// Runs `sql` as a simple query. `report` is told of every parameter that the server reports meanwhile.
///
/// # Errors
/// [`TalkError::Refused`] after which the connection may be used; [`TalkError::Broken`] after which it may not.
pub(super) async fn query(
    stream: &mut RawStream,
    unread: &mut BytesMut,
    sql: &str,
    mut report: impl FnMut(&[u8], &[u8]),
) -> Result<Row, TalkError> {
    let mut out = Vec::with_capacity(sql.len() + 8);
    frontend::put_query(&mut out, sql.as_bytes());
    stream.write_all(&out).await?;
    stream.flush().await?;
    let mut row: Option<Row> = None;
    let mut refusal = None;
    loop {
        let (tag, message) = next(stream, unread).await?;
        let body = message.get(wire::HEADER..).unwrap_or_default();
        match tag {
            backend::PARAMETER_STATUS => {
                let (name, value) = backend::parameter(body).map_err(malformed)?;
                report(name, value);
            }
            backend::DATA_ROW if row.is_none() => row = Some(columns(body).map_err(malformed)?),
            backend::ERROR if refusal.is_none() => {
                refusal = Some(Box::new(Refusal { message: read_error(body) }));
            }
            backend::READY => {
                let status = backend::Status::read(body).map_err(malformed)?;
                if status != backend::Status::Idle {
                    return Err(invalid("a question of the gateway left a transaction open").into());
                }
                return match refusal {
                    Some(refusal) => Err(TalkError::Refused(refusal)),
                    None => Ok(row.unwrap_or_default()),
                };
            }
            backend::COPY_IN | backend::COPY_OUT | backend::COPY_BOTH => {
                return Err(invalid("a question of the gateway began a COPY").into());
            }
            _ => {}
        }
    }
}

/// The next message, whole.
async fn next(stream: &mut RawStream, unread: &mut BytesMut) -> io::Result<(u8, BytesMut)> {
    loop {
        if let Some(header) = wire::header(unread).map_err(malformed)? {
            if header.len > LONGEST_MESSAGE {
                return Err(invalid("a message is longer than any that may come here"));
            }
            if unread.len() >= header.len {
                return Ok((header.tag, unread.split_to(header.len)));
            }
        }
        if stream.read_buf(unread).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn columns(mut body: &[u8]) -> Result<Row, Malformed> {
    const SHORT: Malformed = Malformed("a row ends early");
    let count = body.try_get_i16().map_err(|_| SHORT)?;
    (0..count)
        .map(|_| {
            let len = body.try_get_i32().map_err(|_| SHORT)?;
            let Ok(len) = usize::try_from(len) else { return Ok(None) };
            let (value, rest) = body.split_at_checked(len).ok_or(SHORT)?;
            body = rest;
            Ok(Some(String::from_utf8_lossy(value).into_owned()))
        })
        .collect()
}

fn read_error(body: &[u8]) -> ServerMessage {
    let text = |letter| {
        let field = backend::field(body, letter).unwrap_or_default();
        String::from_utf8_lossy(field).into_owned()
    };
    let more: Vec<String> =
        [text(b'D'), text(b'H')].into_iter().filter(|text| !text.is_empty()).collect();
    ServerMessage {
        severity: text(b'V'),
        code: text(b'C'),
        message: text(b'M'),
        more: more.join("; "),
    }
}

fn malformed(error: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn invalid(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

impl Server {
    /// Runs `sql` as a simple query and awaits the answer: its first row. Dropped half way, it leaves the connection
    /// marked as one that can only be closed.
    ///
    /// # Errors
    /// As the server says; see [`TalkError`].
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Row, TalkError> {
        self.dirty = true;
        let mut reports = Vec::new();
        let answer = query(&mut self.stream, &mut self.unread, sql, |name, value| {
            reports.push((name.to_vec(), value.to_vec()));
        })
        .await;
        for (name, value) in reports {
            self.report(&name, &value);
        }
        if !matches!(answer, Err(TalkError::Broken(_))) {
            self.dirty = !self.unread.is_empty();
        }
        answer
    }

    /// Makes `settings` those of the connection. Where they are already, nothing is sent.
    ///
    /// # Errors
    /// [`TalkError::Refused`] with the server's words: then the settings are as before.
    pub(crate) async fn apply(&mut self, settings: &Settings) -> Result<(), TalkError> {
        if settings.id == self.settings.id {
            return Ok(());
        }
        let sql = settings.change_from(&self.settings);
        if !sql.is_empty() {
            self.query(&sql).await?;
        }
        self.settings = settings.clone();
        Ok(())
    }

    /// Whether the server answers an empty query within `limit`.
    pub(super) async fn answers(&mut self, limit: Duration) -> bool {
        matches!(tokio::time::timeout(limit, self.query("")).await, Ok(Ok(_)))
    }
}
