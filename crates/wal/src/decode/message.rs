//! What one message says.

use herdsman_node::Lsn;

use crate::decode::cursor::Cursor;
use crate::decode::{Malformed, Tuple};

/// One decoded message, borrowed from the receive buffer. Times are microseconds since 2000-01-01 UTC, as the server
/// counts them.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Message<'a> {
    /// A committed transaction begins.
    Begin {
        /// Where its commit record begins.
        commit_lsn: Lsn,
        /// When it was committed.
        commit_time: i64,
        /// Its number.
        xid: u32,
    },
    /// The transaction that began is complete.
    Commit {
        /// Where its commit record begins.
        commit_lsn: Lsn,
        /// Where its commit record ends: what is acknowledged.
        end_lsn: Lsn,
        /// When it was committed.
        commit_time: i64,
    },
    /// The transaction was replicated from elsewhere.
    Origin {
        /// Where it was committed there.
        lsn: Lsn,
        /// The origin's name here.
        name: &'a str,
    },
    /// What a table looks like from here on.
    Relation(RelationBody<'a>),
    /// The name of a type that is not built in.
    Type {
        /// Its number.
        oid: u32,
        /// Its schema.
        schema: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// A row was inserted.
    Insert {
        /// Into which relation.
        relation: u32,
        /// The row.
        new: Tuple<'a>,
    },
    /// A row was updated.
    Update {
        /// In which relation.
        relation: u32,
        /// What it was, as far as the replica identity tells.
        old: Option<Old<'a>>,
        /// What it is now.
        new: Tuple<'a>,
    },
    /// A row was deleted.
    Delete {
        /// From which relation.
        relation: u32,
        /// What it was, as far as the replica identity tells.
        old: Old<'a>,
    },
    /// Tables were emptied.
    Truncate(Truncated<'a>),
    /// Somebody called `pg_logical_emit_message`.
    Logical {
        /// Whether it belongs to the transaction around it.
        transactional: bool,
        /// Where it was written.
        lsn: Lsn,
        /// What kind of message it is, as its sender says.
        prefix: &'a str,
        /// What it says.
        content: &'a [u8],
    },
    /// A block of a transaction in progress begins.
    StreamStart {
        /// The top-level transaction.
        xid: u32,
        /// Whether this is its first block.
        first: bool,
    },
    /// The block ends.
    StreamStop,
    /// A transaction that was streamed in blocks is committed.
    StreamCommit {
        /// The transaction.
        xid: u32,
        /// Where its commit record begins.
        commit_lsn: Lsn,
        /// Where its commit record ends.
        end_lsn: Lsn,
        /// When it was committed.
        commit_time: i64,
    },
    /// A transaction that was streamed in blocks, or a part of it, never happened.
    StreamAbort {
        /// The top-level transaction.
        xid: u32,
        /// The part that never happened; `xid` when that is all of it.
        subxid: u32,
    },
    /// A prepared transaction begins.
    BeginPrepare {
        /// Where the prepare record begins.
        prepare_lsn: Lsn,
        /// Where it ends.
        end_lsn: Lsn,
        /// When it was prepared.
        prepare_time: i64,
        /// Its number.
        xid: u32,
        /// Its name.
        gid: &'a str,
    },
    /// The prepared transaction that began is complete, and waits for its fate.
    Prepare {
        /// Where the prepare record begins.
        prepare_lsn: Lsn,
        /// Where it ends.
        end_lsn: Lsn,
        /// When it was prepared.
        prepare_time: i64,
        /// Its number.
        xid: u32,
        /// Its name.
        gid: &'a str,
    },
    /// As [`Message::Prepare`], of a transaction that was streamed in blocks.
    StreamPrepare {
        /// Where the prepare record begins.
        prepare_lsn: Lsn,
        /// Where it ends.
        end_lsn: Lsn,
        /// When it was prepared.
        prepare_time: i64,
        /// Its number.
        xid: u32,
        /// Its name.
        gid: &'a str,
    },
    /// A prepared transaction is committed.
    CommitPrepared {
        /// Where the commit record begins.
        commit_lsn: Lsn,
        /// Where it ends.
        end_lsn: Lsn,
        /// When it was committed.
        commit_time: i64,
        /// Its number.
        xid: u32,
        /// Its name.
        gid: &'a str,
    },
    /// A prepared transaction is rolled back.
    RollbackPrepared {
        /// Where its prepare record ended.
        prepare_end_lsn: Lsn,
        /// Where the rollback record ends.
        end_lsn: Lsn,
        /// When it was rolled back.
        rollback_time: i64,
        /// Its number.
        xid: u32,
        /// Its name.
        gid: &'a str,
    },
}

/// What a row was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old<'a> {
    /// Only the columns of the replica identity are told, all others are NULL here.
    Key(Tuple<'a>),
    /// The whole row, under `REPLICA IDENTITY FULL`.
    Full(Tuple<'a>),
}

impl<'a> Old<'a> {
    /// The columns, whichever are told.
    #[must_use]
    pub fn tuple(self) -> Tuple<'a> {
        match self {
            Self::Key(tuple) | Self::Full(tuple) => tuple,
        }
    }
}

/// The body of a relation message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelationBody<'a> {
    /// The relation's number.
    pub oid: u32,
    /// Its schema.
    pub schema: &'a str,
    /// Its name.
    pub name: &'a str,
    /// `d`, `n`, `f` or `i`: see `pg_class.relreplident`.
    pub identity: u8,
    count: u16,
    columns: &'a [u8],
}

/// One column in a relation message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelationColumn<'a> {
    /// Whether it belongs to the replica identity.
    pub key: bool,
    /// Its name.
    pub name: &'a str,
    /// Number of its type.
    pub type_oid: u32,
    /// Its type's modifier, -1 for none.
    pub type_modifier: i32,
}

impl<'a> RelationBody<'a> {
    /// The columns in order.
    ///
    /// # Errors
    /// None: the message was checked when it was decoded; [`Malformed`] keeps the walk honest.
    pub fn columns(&self) -> Result<Vec<RelationColumn<'a>>, Malformed> {
        let mut cursor = Cursor::new(b'R', self.columns);
        (0..self.count).map(|_| column(&mut cursor)).collect()
    }
}

fn column<'a>(cursor: &mut Cursor<'a>) -> Result<RelationColumn<'a>, Malformed> {
    Ok(RelationColumn {
        key: cursor.u8()? & 1 != 0,
        name: cursor.text()?,
        type_oid: cursor.u32()?,
        type_modifier: cursor.i32()?,
    })
}

/// The tables of one truncate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated<'a> {
    /// Whether tables that refer to these were emptied with them.
    pub cascade: bool,
    /// Whether sequences were restarted.
    pub restart_identity: bool,
    relations: &'a [u8],
}

impl Truncated<'_> {
    /// The relations' numbers.
    pub fn relations(&self) -> impl Iterator<Item = u32> {
        self.relations.as_chunks::<4>().0.iter().map(|oid| u32::from_be_bytes(*oid))
    }
}

#[inline]
pub(super) fn insert<'a>(cursor: &mut Cursor<'a>) -> Result<Message<'a>, Malformed> {
    let relation = cursor.u32()?;
    match cursor.u8()? {
        b'N' => Ok(Message::Insert { relation, new: Tuple::read(cursor)? }),
        _ => Err(cursor.wrong("it does not hold a new row")),
    }
}

#[inline]
pub(super) fn update<'a>(cursor: &mut Cursor<'a>) -> Result<Message<'a>, Malformed> {
    let relation = cursor.u32()?;
    let mut kind = cursor.u8()?;
    let old = match kind {
        b'K' => Some(Old::Key(Tuple::read(cursor)?)),
        b'O' => Some(Old::Full(Tuple::read(cursor)?)),
        _ => None,
    };
    if old.is_some() {
        kind = cursor.u8()?;
    }
    match kind {
        b'N' => Ok(Message::Update { relation, old, new: Tuple::read(cursor)? }),
        _ => Err(cursor.wrong("it does not hold a new row")),
    }
}

#[inline]
pub(super) fn delete<'a>(cursor: &mut Cursor<'a>) -> Result<Message<'a>, Malformed> {
    let relation = cursor.u32()?;
    let old = match cursor.u8()? {
        b'K' => Old::Key(Tuple::read(cursor)?),
        b'O' => Old::Full(Tuple::read(cursor)?),
        _ => return Err(cursor.wrong("it does not hold an old row")),
    };
    Ok(Message::Delete { relation, old })
}

pub(super) fn rare<'a>(tag: u8, cursor: &mut Cursor<'a>) -> Result<Message<'a>, Malformed> {
    match tag {
        b'R' => relation(cursor),
        b'Y' => {
            Ok(Message::Type { oid: cursor.u32()?, schema: cursor.text()?, name: cursor.text()? })
        }
        b'O' => Ok(Message::Origin { lsn: Lsn(cursor.u64()?), name: cursor.text()? }),
        b'T' => truncate(cursor),
        b'M' => logical(cursor),
        b'c' => {
            let xid = cursor.u32()?;
            cursor.u8()?;
            Ok(Message::StreamCommit {
                xid,
                commit_lsn: Lsn(cursor.u64()?),
                end_lsn: Lsn(cursor.u64()?),
                commit_time: cursor.i64()?,
            })
        }
        b'A' => stream_abort(cursor),
        _ => two_phase(tag, cursor),
    }
}

fn relation<'a>(cursor: &mut Cursor<'a>) -> Result<Message<'a>, Malformed> {
    let oid = cursor.u32()?;
    let schema = cursor.text()?;
    let name = cursor.text()?;
    let identity = cursor.u8()?;
    let count = cursor.u16()?;
    let columns = cursor.rest();
    for _ in 0..count {
        column(cursor)?;
    }
    // An empty schema on the wire means `pg_catalog`.
    let schema = if schema.is_empty() { "pg_catalog" } else { schema };
    Ok(Message::Relation(RelationBody { oid, schema, name, identity, count, columns }))
}

fn truncate<'a>(cursor: &mut Cursor<'a>) -> Result<Message<'a>, Malformed> {
    let count = cursor.length()?;
    let options = cursor.u8()?;
    let bytes = count.checked_mul(4).ok_or_else(|| cursor.wrong("a length is too great"))?;
    Ok(Message::Truncate(Truncated {
        cascade: options & 1 != 0,
        restart_identity: options & 2 != 0,
        relations: cursor.take(bytes)?,
    }))
}

fn logical<'a>(cursor: &mut Cursor<'a>) -> Result<Message<'a>, Malformed> {
    let transactional = cursor.u8()? & 1 != 0;
    let lsn = Lsn(cursor.u64()?);
    let prefix = cursor.text()?;
    let length = cursor.length()?;
    Ok(Message::Logical { transactional, lsn, prefix, content: cursor.take(length)? })
}

fn stream_abort<'a>(cursor: &mut Cursor<'a>) -> Result<Message<'a>, Malformed> {
    let message = Message::StreamAbort { xid: cursor.u32()?, subxid: cursor.u32()? };
    // Where and when, which only a subscriber that applies in parallel is told.
    if !cursor.rest().is_empty() {
        cursor.u64()?;
        cursor.i64()?;
    }
    Ok(message)
}

fn two_phase<'a>(tag: u8, cursor: &mut Cursor<'a>) -> Result<Message<'a>, Malformed> {
    if !matches!(tag, b'b' | b'P' | b'p' | b'K' | b'r') {
        return Err(cursor.wrong("no version of the protocol has such a message"));
    }
    if tag != b'b' {
        cursor.u8()?;
    }
    let first = Lsn(cursor.u64()?);
    let end_lsn = Lsn(cursor.u64()?);
    let mut time = cursor.i64()?;
    if tag == b'r' {
        time = cursor.i64()?;
    }
    let xid = cursor.u32()?;
    let gid = cursor.text()?;
    Ok(match tag {
        b'b' => Message::BeginPrepare { prepare_lsn: first, end_lsn, prepare_time: time, xid, gid },
        b'P' => Message::Prepare { prepare_lsn: first, end_lsn, prepare_time: time, xid, gid },
        b'p' => {
            Message::StreamPrepare { prepare_lsn: first, end_lsn, prepare_time: time, xid, gid }
        }
        b'K' => Message::CommitPrepared { commit_lsn: first, end_lsn, commit_time: time, xid, gid },
        _ => Message::RollbackPrepared {
            prepare_end_lsn: first,
            end_lsn,
            rollback_time: time,
            xid,
            gid,
        },
    })
}
