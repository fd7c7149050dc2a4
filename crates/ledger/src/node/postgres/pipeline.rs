//! A connection on which everything that has to be said is sent before the first answer is there, and is answered in one piece.

use std::{collections::HashMap, io, time::Duration};

use bytes::{BufMut, BytesMut};

use super::{
    failed,
    wire::{HEADER, Wire, field, invalid, row},
};
use crate::{
    Value,
    node::{
        dialect::Failure,
        session::{Ask, Heard, Rows, Told},
    },
};

/// How long the answers may take. A client's statement is among them, which may have much to do.
const ANSWER: Duration = Duration::from_secs(15 * 60);
/// How many statements of ours are kept prepared; beyond, all are forgotten.
const PREPARED_MOST: usize = 64;

/// A connection of ours.
#[derive(Debug)]
pub(super) struct Pipeline {
    wire: Wire,
    /// What is prepared, under which number.
    prepared: HashMap<String, usize>,
}

impl Pipeline {
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire, prepared: HashMap::new() }
    }

    pub(super) async fn query(&mut self, sql: &str) -> Result<Rows, Failure> {
        self.wire.query(sql).await
    }

    /// All of them, none with values of ours, each one statement: a second one in a text is refused by the server. After
    /// one that fails the rest is passed over, and the connection is of no more use.
    pub(super) async fn together(&mut self, asks: &[Ask]) -> Heard {
        let mut out = BytesMut::new();
        if self.prepared.len() >= PREPARED_MOST {
            self.prepared.clear();
            parse(&mut out, "", "DEALLOCATE ALL");
            execute(&mut out, "", &[]);
        }
        // What clears is answered like the rest.
        let cleared = usize::from(!out.is_empty());
        for ask in asks {
            match ask {
                // Where the values are in the text, the same text is seldom said again.
                Ask::Statement(sql, values) if values.is_empty() => {
                    parse(&mut out, "", sql);
                    execute(&mut out, "", &[]);
                }
                Ask::Statement(sql, values) => {
                    let texts: Vec<Option<String>> = values.iter().map(Value::to_text).collect();
                    self.prepare_and_execute(&mut out, sql, &texts);
                }
                Ask::Command(sql) => self.prepare_and_execute(&mut out, sql, &[]),
                Ask::Select(sql, values) if values.is_empty() => {
                    self.prepare_and_execute(&mut out, sql, &[]);
                }
                Ask::Select(..) | Ask::Execute(..) => {
                    let why = "values cannot be said on this connection";
                    return Heard {
                        failed: Some(Failure::Environmental(why.to_owned())),
                        ..Heard::default()
                    };
                }
            }
        }
        message(&mut out, b'S', |_| {});
        let mut heard = Heard::default();
        let answered = tokio::time::timeout(ANSWER, self.answer(&mut out, &mut heard)).await;
        match answered {
            Ok(Ok(())) => {}
            Ok(Err(error)) => heard.failed = Some(Failure::Environmental(error.to_string())),
            Err(_) => {
                let why = format!("no answer within {ANSWER:?}");
                heard.failed = Some(Failure::Environmental(why));
            }
        }
        heard.told.drain(..cleared.min(heard.told.len()));
        heard
    }

    fn prepare_and_execute(&mut self, out: &mut BytesMut, sql: &str, values: &[Option<String>]) {
        let next = self.prepared.len();
        let number = self.prepared.get(sql).copied().unwrap_or_else(|| {
            self.prepared.insert(sql.to_owned(), next);
            parse(out, &format!("herdsman_{next}"), sql);
            next
        });
        execute(out, &format!("herdsman_{number}"), values);
    }

    async fn answer(&mut self, out: &mut BytesMut, heard: &mut Heard) -> io::Result<()> {
        let mut rows = Rows::new();
        loop {
            let message = self.wire.exchange(out).await?;
            let body = message.get(HEADER..).unwrap_or_default();
            match message.first() {
                Some(b'D') => rows.push(row(body)?),
                Some(b'C') if rows.is_empty() => heard.told.push(Told::Changed(changed(body)?)),
                Some(b'C') => heard.told.push(Told::Rows(std::mem::take(&mut rows))),
                Some(b'E') if heard.failed.is_none() => {
                    heard.failed = Some(failed(&field(body, b'C'), field(body, b'M')));
                }
                Some(b'Z') => return Ok(()),
                _ => {}
            }
        }
    }
}

/// How many rows a statement has changed, as of its last word: `UPDATE 3`, `INSERT 0 3`, `BEGIN`.
fn changed(body: &[u8]) -> io::Result<u64> {
    let tag = body.strip_suffix(b"\0").and_then(|tag| std::str::from_utf8(tag).ok());
    let tag = tag.ok_or_else(|| invalid("what was done cannot be read"))?;
    Ok(tag.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default())
}

fn parse(out: &mut BytesMut, name: &str, sql: &str) {
    message(out, b'P', |out| {
        text(out, name);
        text(out, sql);
        out.put_u16(0);
    });
}

/// Binds what was parsed, all in text, and has all of it done.
fn execute(out: &mut BytesMut, name: &str, values: &[Option<String>]) {
    message(out, b'B', |out| {
        text(out, "");
        text(out, name);
        out.put_u16(0);
        out.put_u16(u16::try_from(values.len()).unwrap_or(u16::MAX));
        for value in values {
            match value {
                None => out.put_i32(-1),
                Some(value) => {
                    out.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
                    out.put_slice(value.as_bytes());
                }
            }
        }
        out.put_u16(0);
    });
    message(out, b'E', |out| {
        text(out, "");
        out.put_u32(0);
    });
}

/// What a zero would end early is ended there: the server then finds it wrong.
fn text(out: &mut BytesMut, text: &str) {
    out.put_slice(text.as_bytes());
    out.put_u8(0);
}

fn message(out: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind);
    let at = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_their_length_and_tags_their_number() {
        let mut out = BytesMut::new();
        parse(&mut out, "a", "b");
        assert_eq!(out, b"P\0\0\0\x0aa\0b\0\0\0"[..]);
        out.clear();
        execute(&mut out, "a", &[]);
        assert_eq!(out, b"B\0\0\0\x0d\0a\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0"[..]);
        out.clear();
        execute(&mut out, "", &[Some("7".to_owned()), None]);
        let bound = b"B\0\0\0\x15\0\0\0\0\0\x02\0\0\0\x017\xff\xff\xff\xff\0\0";
        assert!(out.starts_with(bound), "{out:?}");
        for (tag, rows) in [("UPDATE 3", 3), ("INSERT 0 7", 7), ("BEGIN", 0), ("SELECT 0", 0)] {
            assert_eq!(changed(format!("{tag}\0").as_bytes()).unwrap(), rows, "{tag}");
        }
        assert!(changed(b"UPDATE").is_err());
    }
}
