//! From bytes to [`Message`]: pgoutput's protocol, versions 1 to 4. Pure: no I/O, no allocation per row.
//!
//! Malformed input is an error that names the message, never a panic; the names of relations and types are all that is
//! read as text here. What the numbers mean: the PostgreSQL manual, "Logical Replication Message Formats".

mod cursor;
mod message;
mod tuple;

pub(crate) use cursor::Cursor;
pub use message::{Message, Old, RelationBody, RelationColumn, Truncated};
pub use tuple::{Field, Fields, Tuple, TupleWriter};

use herdsman_node::Lsn;

/// A message is not what the protocol says it must be. The stream cannot go on: what follows would be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed `{}` message: {problem} ({left} bytes before its end)", char::from(*.tag))]
pub struct Malformed {
    /// The message's first byte.
    pub tag: u8,
    /// What is wrong with it.
    pub problem: &'static str,
    /// How many bytes had not been read.
    pub left: usize,
}

/// Decodes one stream's messages. Holds the one thing that a message's form depends on: whether it stands within a
/// streamed block of a transaction in progress, where each message begins with the transaction it belongs to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    streaming: bool,
}

impl Decoder {
    /// For messages that stand within a streamed block.
    pub(crate) fn within_a_block() -> Self {
        Self { streaming: true }
    }

    /// Decodes the message in `bytes`, all of them. The number beside it is the (sub)transaction that the message
    /// belongs to, where it stands within a streamed block.
    ///
    /// # Errors
    /// [`Malformed`], after which this stream cannot be decoded further.
    ///
    /// ```
    /// use herdsman_wal::decode::{Decoder, Message};
    /// // A block of transaction 7 begins, is empty, and ends.
    /// let mut decoder = Decoder::default();
    /// let (_, message) = decoder.decode(b"S\0\0\0\x07\x01").unwrap();
    /// assert_eq!(message, Message::StreamStart { xid: 7, first: true });
    /// assert_eq!(decoder.decode(b"E").unwrap().1, Message::StreamStop);
    /// assert!(decoder.decode(b"E?").is_err());
    /// ```
    #[inline]
    pub fn decode<'a>(&mut self, bytes: &'a [u8]) -> Result<(Option<u32>, Message<'a>), Malformed> {
        let Some((&tag, body)) = bytes.split_first() else {
            return Err(Malformed { tag: b'?', problem: "it is empty", left: 0 });
        };
        let mut cursor = Cursor::new(tag, body);
        let within = match tag {
            b'I' | b'U' | b'D' | b'T' | b'R' | b'Y' | b'M' if self.streaming => Some(cursor.u32()?),
            _ => None,
        };
        let message = match tag {
            b'I' => message::insert(&mut cursor)?,
            b'U' => message::update(&mut cursor)?,
            b'D' => message::delete(&mut cursor)?,
            b'B' => Message::Begin {
                commit_lsn: Lsn(cursor.u64()?),
                commit_time: cursor.i64()?,
                xid: cursor.u32()?,
            },
            b'C' => {
                cursor.u8()?;
                Message::Commit {
                    commit_lsn: Lsn(cursor.u64()?),
                    end_lsn: Lsn(cursor.u64()?),
                    commit_time: cursor.i64()?,
                }
            }
            _ => self.rare(tag, &mut cursor)?,
        };
        cursor.end()?;
        Ok((within, message))
    }

    #[cold]
    fn rare<'a>(&mut self, tag: u8, cursor: &mut Cursor<'a>) -> Result<Message<'a>, Malformed> {
        match tag {
            b'S' if self.streaming => Err(cursor.wrong("a block begins within a block")),
            b'E' if !self.streaming => Err(cursor.wrong("a block ends that has not begun")),
            b'S' => {
                self.streaming = true;
                Ok(Message::StreamStart { xid: cursor.u32()?, first: cursor.u8()? != 0 })
            }
            b'E' => {
                self.streaming = false;
                Ok(Message::StreamStop)
            }
            _ => message::rare(tag, cursor),
        }
    }
}

#[cfg(test)]
mod tests;
