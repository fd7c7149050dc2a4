//! What is in the log.
//!
//! An entry is `HL`, the format's version, its kind, the log's id, what the kind says, and a checksum over all that. It
//! means the same to every node, whatever engine it drives and whenever it reads it. What is not of this form was put
//! into the topic by somebody else and is passed over; what is, and is damaged or newer than this program, stops it.

use thiserror::Error;

use crate::{
    codec::{Malformed, Reader, Writer},
    identity::{LogId, Offset, RequestId, sha256},
    table::TableChange,
    writes::{Claim, RowChange},
};

/// The largest entry: what Kafka's topic is made to take.
pub const ENTRY_BYTES_MOST: usize = 8 * 1024 * 1024;

/// The newest version of the format that this program reads. An entry is written in the oldest one that has words for it,
/// so that programs of the version before go on reading until something new is used: 2 has foreign keys.
pub const FORMAT: u8 = 2;

const MAGIC: &[u8; 2] = b"HL";
const CHECKSUM: usize = 8;

/// What the log is: its first entry, and the rules that all nodes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// The log's id.
    pub log: LogId,
    /// For how many entries certification remembers who wrote what; a transaction that began earlier conflicts.
    pub window: u64,
    /// How many keys it remembers at most.
    pub keys: u64,
}

impl Genesis {
    /// A log with the usual limits: about ten minutes at a hundred transactions a second, and at most 64 MB of keys.
    #[must_use]
    pub fn new(log: LogId) -> Self {
        Self { log, window: 65_536, keys: 1_000_000 }
    }
}

/// Whose attempt an entry is. A request may be tried again under its id after a conflict, and never after anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// The request.
    pub request: RequestId,
    /// Counted from 1.
    pub number: u32,
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The first one.
    Genesis(Genesis),
    /// A transaction that ran on one node against the data at `base`.
    Write {
        /// Whose.
        attempt: Attempt,
        /// The last entry whose effects it saw.
        base: Offset,
        /// The keys that decide whether it commits.
        claims: Vec<Claim>,
        /// One change per row.
        rows: Vec<RowChange>,
    },
    /// SQL text to be run by every node. Nodes of this version refuse it, all alike.
    Statement {
        /// Whose.
        attempt: Attempt,
        /// The text.
        sql: String,
    },
    /// A change of a table.
    Define {
        /// Whose.
        attempt: Attempt,
        /// The last entry its author had seen.
        base: Offset,
        /// The change.
        change: TableChange,
    },
    /// Nothing but a place in the log: who has reached it has seen everything before.
    Barrier {
        /// Whose.
        attempt: Attempt,
    },
    /// The request is void unless an earlier entry has settled it.
    Cancel {
        /// The request.
        request: RequestId,
    },
    /// The operator's word that an entry which no node can apply is to be passed over.
    Skip {
        /// The entry.
        target: Offset,
    },
    /// Nothing before this place is needed by anybody any more.
    Trim {
        /// The first entry that is kept.
        below: Offset,
    },
    /// A node takes part, or does no longer.
    Member {
        /// The node.
        node: String,
        /// Whether it takes part.
        joined: bool,
    },
}

/// Why bytes are no entry of this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotAnEntry {
    /// Somebody else's, or an entry of another log: to be passed over, by every node alike.
    #[error("not an entry of this log")]
    Foreign,
    /// Once an entry of this log. Other nodes may have read it whole.
    #[error("a damaged entry: {0}")]
    Damaged(Malformed),
    /// Written by a later version of this program.
    #[error("an entry of format {0}, which a later version of Herdsman reads")]
    Newer(u8),
}

/// An entry that is larger than the log takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the transaction's changes take {0} bytes in the log, which takes {ENTRY_BYTES_MOST} at once; split the transaction"
)]
pub struct TooLarge(pub usize);

impl Entry {
    /// The entry in bytes.
    ///
    /// # Errors
    /// It is larger than [`ENTRY_BYTES_MOST`].
    pub fn encode(&self, log: LogId) -> Result<Vec<u8>, TooLarge> {
        let mut to = Writer::default();
        to.raw(MAGIC);
        to.byte(self.format());
        to.byte(self.kind());
        to.raw(&log.0);
        self.encode_body(&mut to);
        let sum = checksum(&to.0);
        to.raw(&sum);
        if to.0.len() > ENTRY_BYTES_MOST { Err(TooLarge(to.0.len())) } else { Ok(to.0) }
    }

    /// Reads an entry of the log with this id.
    ///
    /// # Errors
    /// See [`NotAnEntry`].
    pub fn decode(bytes: &[u8], log: LogId) -> Result<Self, NotAnEntry> {
        let (of, entry) = Self::decode_any(bytes)?;
        if of == log { entry.map_err(NotAnEntry::Damaged) } else { Err(NotAnEntry::Foreign) }
    }

    /// Reads the first entry of a log whose id is not known yet.
    ///
    /// # Errors
    /// See [`NotAnEntry`]; any other entry is foreign.
    pub fn decode_genesis(bytes: &[u8]) -> Result<Genesis, NotAnEntry> {
        match Self::decode_any(bytes)? {
            (log, Ok(Self::Genesis(genesis))) if genesis.log == log => Ok(genesis),
            (_, Ok(_)) => Err(NotAnEntry::Foreign),
            (_, Err(malformed)) => Err(NotAnEntry::Damaged(malformed)),
        }
    }

    fn decode_any(bytes: &[u8]) -> Result<(LogId, Result<Self, Malformed>), NotAnEntry> {
        let damaged = NotAnEntry::Damaged;
        if !bytes.starts_with(MAGIC) {
            return Err(NotAnEntry::Foreign);
        }
        let end = bytes.len().saturating_sub(CHECKSUM);
        let (whole, sum) = bytes.split_at_checked(end).ok_or(NotAnEntry::Foreign)?;
        // Before anything in it is believed, its version included.
        if checksum(whole) != sum {
            return Err(damaged(Malformed("its checksum is wrong")));
        }
        let mut from = Reader::new(whole);
        from.array::<2>().map_err(damaged)?;
        let version = from.byte().map_err(damaged)?;
        if !(1..=FORMAT).contains(&version) {
            return Err(NotAnEntry::Newer(version));
        }
        let kind = from.byte().map_err(damaged)?;
        let log = LogId(from.array().map_err(damaged)?);
        let entry = Self::decode_body(kind, log, &mut from);
        let entry = entry.and_then(|entry| from.end().map(|()| entry)).and_then(|entry| {
            let other = Malformed("it is written in another format than its own");
            if entry.format() == version { Ok(entry) } else { Err(other) }
        });
        Ok((log, entry))
    }

    fn format(&self) -> u8 {
        match self {
            Self::Define { change: TableChange::Create(table), .. }
                if !table.references.is_empty() =>
            {
                2
            }
            _ => 1,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Genesis(_) => 0,
            Self::Write { .. } => 1,
            Self::Statement { .. } => 2,
            Self::Define { .. } => 3,
            Self::Barrier { .. } => 4,
            Self::Cancel { .. } => 5,
            Self::Skip { .. } => 6,
            Self::Trim { .. } => 7,
            Self::Member { .. } => 8,
        }
    }

    fn encode_body(&self, to: &mut Writer) {
        match self {
            Self::Genesis(genesis) => {
                to.number(genesis.window);
                to.number(genesis.keys);
            }
            Self::Write { attempt, base, claims, rows } => {
                attempt.encode(to);
                to.number(base.0);
                to.length(claims.len());
                claims.iter().for_each(|claim| claim.encode(to));
                to.length(rows.len());
                rows.iter().for_each(|row| row.encode(to));
            }
            Self::Statement { attempt, sql } => {
                attempt.encode(to);
                to.bytes(sql.as_bytes());
            }
            Self::Define { attempt, base, change } => {
                attempt.encode(to);
                to.number(base.0);
                change.encode(to);
            }
            Self::Barrier { attempt } => attempt.encode(to),
            Self::Cancel { request } => to.raw(&request.0),
            Self::Skip { target } => to.number(target.0),
            Self::Trim { below } => to.number(below.0),
            Self::Member { node, joined } => {
                to.bytes(node.as_bytes());
                to.byte(u8::from(*joined));
            }
        }
    }

    fn decode_body(kind: u8, log: LogId, from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match kind {
            0 => Self::Genesis(Genesis { log, window: from.number()?, keys: from.number()? }),
            1 => Self::Write {
                attempt: Attempt::decode(from)?,
                base: Offset(from.number()?),
                claims: from.many(Claim::decode)?,
                rows: from.many(RowChange::decode)?,
            },
            2 => Self::Statement { attempt: Attempt::decode(from)?, sql: from.text()?.to_owned() },
            3 => Self::Define {
                attempt: Attempt::decode(from)?,
                base: Offset(from.number()?),
                change: TableChange::decode(from)?,
            },
            4 => Self::Barrier { attempt: Attempt::decode(from)? },
            5 => Self::Cancel { request: RequestId(from.array()?) },
            6 => Self::Skip { target: Offset(from.number()?) },
            7 => Self::Trim { below: Offset(from.number()?) },
            8 => Self::Member { node: from.text()?.to_owned(), joined: from.flag()? },
            _ => return Err(Malformed("it is of no known kind")),
        })
    }
}

impl Attempt {
    fn encode(self, to: &mut Writer) {
        to.raw(&self.request.0);
        to.number(u64::from(self.number));
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let request = RequestId(from.array()?);
        let number =
            u32::try_from(from.number()?).map_err(|_| Malformed("a number is too large"))?;
        Ok(Self { request, number })
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut sum = [0; CHECKSUM];
    for (to, from) in sum.iter_mut().zip(sha256(bytes)) {
        *to = from;
    }
    sum
}

#[cfg(test)]
mod tests;
