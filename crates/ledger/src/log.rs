//! The log: one place where every write goes, once, and that every node reads in the same order.
//!
//! The whole design rests on one premise: records come in order and none is left out. So every reader checks it, and
//! what fails the check ends it with [`ReadError::Fault`].
//!
//! Three logs stand behind the trait: [`embedded`] (a file, for one machine), [`kafka`] (what people run), and
//! [`memory`] (in this process, with faults, for tests). One suite of tests runs over all of them: `tests/servers/conformance.rs`.

pub mod embedded;
pub mod kafka;
pub mod memory;

use async_trait::async_trait;
use thiserror::Error;

use crate::{
    LogId, Offset,
    entry::{Entry, Genesis, NotAnEntry},
};

/// One record as the log gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place.
    pub at: Offset,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// A record is not in the log, or may not be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AppendError {
    /// It is surely not in the log.
    #[error("the log did not take the entry: {0}")]
    Rejected(String),
    /// It may be in the log, or get there later. Sending it again under another request could do it twice: wait until
    /// it is read back, or cancel the request.
    #[error("it is not known whether the log has the entry: {0}")]
    Unknown(String),
}

/// The log cannot be asked now; it may be later.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the log cannot be asked: {0}")]
pub struct Unavailable(pub String);

/// Records do not come.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The log does not answer now; the reader goes on where it was when asked again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The log no longer has the record that comes next.
    #[error("the log was trimmed: it begins at {first}, and entry {wanted} is needed")]
    Trimmed {
        /// What it still has.
        first: Offset,
        /// What was asked for.
        wanted: Offset,
    },
    /// The log has fewer records than were read from it before.
    #[error("the log ends before entry {wanted}: it has lost records, or is another one")]
    Short {
        /// What was asked for.
        wanted: Offset,
    },
    /// The log broke its one promise.
    #[error(
        "the log gave entry {found} where {wanted} belongs: records are missing, or came twice"
    )]
    Fault {
        /// What should have come.
        wanted: Offset,
        /// What came.
        found: Offset,
    },
}

/// A totally ordered, durable log.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Puts a record at the end. When this returns, it survives the loss of power, at the place returned.
    ///
    /// Calls at the same time share one write to the disk.
    async fn append(&self, body: Vec<u8>) -> Result<Offset, AppendError>;

    /// The place the next record would have. Of a log in several machines it may be late.
    async fn end(&self) -> Result<Offset, Unavailable>;

    /// The first record that is still there; the end if none is.
    async fn start(&self) -> Result<Offset, Unavailable>;

    /// Reads from `from` on.
    async fn read(&self, from: Offset) -> Result<Box<dyn Reader>, Unavailable>;

    /// Forgets what is before `below`, or less of it.
    async fn trim(&self, below: Offset) -> Result<(), Unavailable>;
}

/// Reads a log in order.
#[async_trait]
pub trait Reader: Send {
    /// The next records, one at least; waits until there is one. Dropping the future loses nothing.
    async fn next(&mut self) -> Result<Vec<Record>, ReadError>;
}

/// Why a log cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// It does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Its first entry could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its first entry could not be written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// What it begins with is not what a ledger begins with.
    #[error("the log does not begin as a ledger does ({0}); give the ledger a log of its own")]
    NotALedger(NotAnEntry),
}

/// The genesis of a log and its bytes. A log that is empty gets one; of several programs that do so at once, the first
/// one's counts. In a log that was trimmed it is found where the trimming repeated it.
///
/// # Errors
/// See [`OpenError`].
pub async fn open(log: &dyn Log, id: LogId) -> Result<(Genesis, Vec<u8>), OpenError> {
    let start = log.start().await?;
    if start > Offset::GENESIS {
        return repeated(log, start).await;
    }
    if log.end().await? == Offset::GENESIS {
        let genesis = Genesis::new(id);
        if let Ok(body) = Entry::Genesis(genesis).encode(id) {
            log.append(body).await?;
        }
    }
    let mut reader = log.read(Offset::GENESIS).await?;
    let first =
        reader.next().await?.into_iter().next().map(|record| record.body).unwrap_or_default();
    Entry::decode_genesis(&first).map(|genesis| (genesis, first)).map_err(OpenError::NotALedger)
}

/// The genesis of a log that no longer has its first record.
async fn repeated(log: &dyn Log, start: Offset) -> Result<(Genesis, Vec<u8>), OpenError> {
    let end = log.end().await?;
    let mut next = start;
    let mut reader = log.read(start).await?;
    while next < end {
        for record in reader.next().await? {
            next = record.at.next();
            if let Ok(genesis) = Entry::decode_genesis(&record.body) {
                return Ok((genesis, record.body));
            }
        }
    }
    Err(OpenError::NotALedger(NotAnEntry::Foreign))
}

/// Whether records follow each other.
pub(crate) fn check_order(next: &mut Offset, records: &[Record]) -> Result<(), ReadError> {
    for record in records {
        if record.at != *next {
            return Err(ReadError::Fault { wanted: *next, found: record.at });
        }
        *next = next.next();
    }
    Ok(())
}
