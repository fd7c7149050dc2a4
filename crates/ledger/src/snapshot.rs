//! All that a node holds at one place in the log, in a form that every engine can take: parts, one after the other, and
//! a file of them.
//!
//! The file is `HERDSNAP`, the format's version, the parts, each behind its length, and the SHA-256 of all that. It is
//! only ever there whole: it is written under another name, synced, and renamed.

mod codec;

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, BufWriter, Read as _, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::{ChainHash, LogId, Offset, Value, codec::Malformed, replica::Durable};

/// The version of the file that this program writes, and the newest it reads: 2 has foreign keys.
pub const FORMAT: u8 = 2;

const MAGIC: &[u8; 8] = b"HERDSNAP";
const SUM: u64 = 32;
/// What whoever gives a snapshot says when the other side has ended; the reason is there.
pub(crate) const NOBODY_TAKES: &str = "nobody takes the snapshot any more";
/// No part is longer: pages of rows end at a few entries' worth.
const PART_MOST: usize = 64 * 1024 * 1024;

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first one: what the node has written down about itself.
    Begin(Box<Durable>),
    /// Rows of a table.
    Rows {
        /// The table.
        table: String,
        /// Whole rows, in the order of its columns.
        rows: Vec<Vec<Value>>,
    },
    /// The last one: there is no more.
    End,
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The log it was taken from.
    pub log: LogId,
    /// The last entry in it.
    pub at: Offset,
    /// The log up to there.
    pub hash: ChainHash,
    /// How many tables it has.
    pub tables: usize,
    /// How many rows they have.
    pub rows: u64,
}

/// A backup cannot be written or read.
#[derive(Debug, Error)]
#[error("backup {}: {reason}", path.display())]
pub struct SnapshotError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// Counts what goes by.
#[derive(Default)]
struct Tally(Option<Backup>, bool);

impl Tally {
    /// Parts come in their order, or there is something wrong.
    fn add(&mut self, part: &Part) -> Result<(), Malformed> {
        match (part, &mut self.0) {
            _ if self.1 => return Err(Malformed("it goes on after its end")),
            (Part::Begin(durable), None) => {
                let (log, at, hash) = (durable.genesis.log, durable.applied, durable.hash);
                let tables = durable.catalogue.0.len();
                self.0 = Some(Backup { log, at, hash, tables, rows: 0 });
            }
            (Part::Rows { rows, .. }, Some(backup)) => {
                let more = u64::try_from(rows.len()).unwrap_or(u64::MAX);
                backup.rows = backup.rows.saturating_add(more);
            }
            (Part::End, Some(_)) => self.1 = true,
            _ => return Err(Malformed("its parts are not in order")),
        }
        Ok(())
    }

    fn whole(self) -> Result<Backup, Malformed> {
        self.0.filter(|_| self.1).ok_or(Malformed("it ends too early"))
    }
}

/// Writes the parts that come into a file. Blocks.
pub(crate) fn write(path: &Path, mut parts: mpsc::Receiver<Part>) -> Result<Backup, SnapshotError> {
    let failed = |reason: String| SnapshotError { path: path.to_path_buf(), reason };
    let mut name = path.file_name().ok_or_else(|| failed("it is no file".to_owned()))?.to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let mut into = || -> Result<Backup, String> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&partial).map_err(|error| error.to_string())?;
        let mut to = Summed { file: BufWriter::new(file), sum: Context::new(&SHA256) };
        to.put(MAGIC)?;
        to.put(&[FORMAT])?;
        let mut tally = Tally::default();
        while let Some(part) = parts.blocking_recv() {
            tally.add(&part).map_err(|it| it.to_string())?;
            let bytes = codec::encode(&part);
            let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= PART_MOST);
            let length = length.ok_or("one of its parts is too large")?;
            to.put(&length.to_be_bytes())?;
            to.put(&bytes)?;
        }
        let backup = tally.whole().map_err(|it| it.to_string())?;
        let sum = to.sum.clone().finish();
        to.put(sum.as_ref())?;
        let file = to.file.into_inner().map_err(|error| error.to_string())?;
        file.sync_all().map_err(|error| error.to_string())?;
        std::fs::rename(&partial, path).map_err(|error| error.to_string())?;
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new("."))).map_err(|it| it.to_string())?;
        folder.sync_all().map_err(|error| error.to_string())?;
        Ok(backup)
    };
    into().map_err(|reason| {
        // What was begun is of no use to anybody.
        drop(std::fs::remove_file(&partial));
        failed(reason)
    })
}

struct Summed {
    file: BufWriter<File>,
    sum: Context,
}

impl Summed {
    fn put(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.sum.update(bytes);
        self.file.write_all(bytes).map_err(|error| error.to_string())
    }
}

/// Whether a file is a whole backup, byte for byte, and of what. Blocks.
///
/// # Errors
/// It is not, or cannot be read.
pub fn check(path: &Path) -> Result<Backup, SnapshotError> {
    let failed = |reason: String| SnapshotError { path: path.to_path_buf(), reason };
    let mut tally = Tally::default();
    each(path, |part| tally.add(&part).map_err(|it| it.to_string())).map_err(failed)?;
    tally.whole().map_err(|malformed| failed(malformed.to_string()))
}

/// Reads a file into parts. Blocks, and takes the file to be one that was checked.
pub(crate) fn read(path: &Path, to: &mpsc::Sender<Part>) -> Result<(), SnapshotError> {
    each(path, |part| to.blocking_send(part).map_err(|_| "nobody takes its parts".to_owned()))
        .map_err(|reason| SnapshotError { path: path.to_path_buf(), reason })
}

/// Every part. The sum is compared first.
fn each(path: &Path, mut take: impl FnMut(Part) -> Result<(), String>) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let open = || File::open(path).map_err(text);
    let length = open()?.metadata().map_err(text)?.len();
    let head = u64::try_from(MAGIC.len() + 1).unwrap_or_default();
    let body = length.checked_sub(SUM).filter(|it| *it >= head).ok_or("it is no backup")?;
    let mut from = BufReader::new(open()?).take(head);
    let mut first = Vec::new();
    from.read_to_end(&mut first).map_err(text)?;
    let format = match first.strip_prefix(MAGIC.as_slice()) {
        Some([format @ 1..=FORMAT]) => *format,
        Some(_) => return Err("a later version of Herdsman wrote it".to_owned()),
        None => return Err("it is no backup of a ledger".to_owned()),
    };
    let mut whole = BufReader::new(open()?);
    let mut sum = Context::new(&SHA256);
    let mut left = body;
    let mut chunk = vec![0; 64 * 1024];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        let some = whole.read(chunk.get_mut(..most).unwrap_or_default()).map_err(text)?;
        if some == 0 {
            return Err("it became shorter while it was read".to_owned());
        }
        sum.update(chunk.get(..some).unwrap_or_default());
        left = left.saturating_sub(u64::try_from(some).unwrap_or(u64::MAX));
    }
    let mut stored = Vec::new();
    whole.read_to_end(&mut stored).map_err(text)?;
    if stored != sum.finish().as_ref() {
        return Err("it is damaged: its checksum is wrong".to_owned());
    }
    let mut parts = BufReader::new(open()?).take(body);
    parts.read_exact(&mut first).map_err(text)?;
    while parts.limit() > 0 {
        let mut length = [0; 4];
        parts.read_exact(&mut length).map_err(text)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > PART_MOST {
            return Err("one of its parts is too large".to_owned());
        }
        let mut bytes = vec![0; length];
        parts.read_exact(&mut bytes).map_err(text)?;
        take(codec::decode(&bytes, format).map_err(|malformed| malformed.to_string())?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
