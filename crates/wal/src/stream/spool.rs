//! Transactions in progress, kept until it is known what becomes of them: in memory, and past a bound on disk.

mod file;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;

use herdsman_node::Lsn;

use super::state::Place;
use tokio::task::JoinHandle;

use crate::{Timestamp, Transaction, WalError};
use file::SpillFile;

/// Bytes before each kept message: its length, its subtransaction, its position.
const HEADER: usize = 16;

/// All transactions in progress.
#[derive(Debug)]
pub(super) struct Spools {
    /// Bytes of all of them that may be in memory.
    bound: usize,
    folder: PathBuf,
    by_xid: HashMap<u32, Spool>,
    in_memory: usize,
    /// The transaction whose block is open.
    open: Option<u32>,
    /// What is being written to disk, and of which transaction. Kept here, and not in a future that may be dropped.
    writing: Option<(u32, JoinHandle<Result<SpillFile, WalError>>)>,
    playing: Option<Playing>,
}

#[derive(Debug, Default)]
struct Spool {
    begin_lsn: Lsn,
    origin: Option<Box<str>>,
    /// What has not gone to disk.
    memory: Vec<u8>,
    file: Option<SpillFile>,
    /// Subtransactions that never happened.
    aborted: HashSet<u32>,
}

/// A transaction that is played back.
#[derive(Debug)]
struct Playing {
    transaction: Option<Transaction>,
    end_lsn: Lsn,
    prepared: bool,
    aborted: HashSet<u32>,
    file: Option<SpillFile>,
    /// What comes after the file.
    memory: Vec<u8>,
    /// What is being walked, and from where on.
    buffer: Vec<u8>,
    at: usize,
    part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    File,
    Memory,
    Done,
}

/// A transaction that is about to be played back.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) transaction: Transaction,
}

impl Spools {
    pub(super) fn new(bound: usize, folder: Option<PathBuf>) -> Self {
        Self {
            bound,
            folder: folder.unwrap_or_else(std::env::temp_dir),
            by_xid: HashMap::new(),
            in_memory: 0,
            open: None,
            writing: None,
            playing: None,
        }
    }

    /// Bytes in memory, and on disk.
    pub(super) fn bytes(&self) -> (usize, u64) {
        let files = self.by_xid.values().filter_map(|spool| spool.file.as_ref());
        (self.in_memory, files.map(SpillFile::length).sum())
    }

    /// A block of a transaction begins.
    pub(super) fn open(&mut self, xid: u32, first: bool, lsn: Lsn) {
        if first {
            // It is sent from its beginning: after a reconnect nothing from before may be left of it.
            self.forget(xid);
        }
        self.by_xid.entry(xid).or_insert_with(|| Spool { begin_lsn: lsn, ..Spool::default() });
        self.open = Some(xid);
    }

    pub(super) fn open_block(&self) -> Option<u32> {
        self.open
    }

    pub(super) fn close_block(&mut self) {
        self.open = None;
    }

    pub(super) fn set_origin(&mut self, name: &str) {
        if let Some(spool) = self.open.and_then(|xid| self.by_xid.get_mut(&xid)) {
            spool.origin = Some(name.into());
        }
    }

    /// Keeps a message of the open block.
    pub(super) fn push(&mut self, subxid: u32, lsn: Lsn, tag: &[u8], rest: &[u8]) {
        let Some(spool) = self.open.and_then(|xid| self.by_xid.get_mut(&xid)) else { return };
        let Ok(length) = u32::try_from(tag.len() + rest.len()) else { return };
        if spool.begin_lsn == Lsn(0) {
            spool.begin_lsn = lsn;
        }
        for part in
            [&length.to_be_bytes()[..], &subxid.to_be_bytes(), &lsn.0.to_be_bytes(), tag, rest]
        {
            spool.memory.extend_from_slice(part);
        }
        self.in_memory += HEADER + tag.len() + rest.len();
    }

    /// Writes the largest to disk while there is more in memory than may be.
    pub(super) async fn make_room(&mut self) -> Result<(), WalError> {
        loop {
            if let Some((xid, writing)) = &mut self.writing {
                let written = writing.await.unwrap_or_else(|ended| {
                    Err(file::wrong("write", *xid, &self.folder, &std::io::Error::other(ended)))
                });
                if let Some(spool) = self.by_xid.get_mut(xid) {
                    spool.file = Some(written?);
                }
                self.writing = None;
            }
            if self.in_memory <= self.bound {
                return Ok(());
            }
            let largest = self.by_xid.iter_mut().max_by_key(|(_, spool)| spool.memory.len());
            let Some((&xid, spool)) = largest.filter(|(_, spool)| !spool.memory.is_empty()) else {
                return Ok(());
            };
            let bytes = std::mem::take(&mut spool.memory);
            self.in_memory -= bytes.len();
            let (file, folder) = (spool.file.take(), self.folder.clone());
            self.writing = Some((
                xid,
                tokio::spawn(async move {
                    let file = match file {
                        Some(file) => file,
                        None => SpillFile::create(xid, &folder).await?,
                    };
                    file.append(bytes).await
                }),
            ));
        }
    }

    /// A transaction, or a part of it, never happened.
    pub(super) fn abort(&mut self, xid: u32, subxid: u32) {
        if xid == subxid {
            self.forget(xid);
        } else if let Some(spool) = self.by_xid.get_mut(&xid) {
            spool.aborted.insert(subxid);
        }
    }

    fn forget(&mut self, xid: u32) {
        if let Some(spool) = self.by_xid.remove(&xid) {
            self.in_memory -= spool.memory.len();
        }
    }

    /// A transaction is committed or prepared: it is played back from here on.
    pub(super) fn play(
        &mut self,
        xid: u32,
        commit_lsn: Lsn,
        end_lsn: Lsn,
        commit_time: Timestamp,
        gid: Option<&str>,
    ) {
        let spool = self.by_xid.remove(&xid).unwrap_or_default();
        self.in_memory -= spool.memory.len();
        self.playing = Some(Playing {
            transaction: Some(Transaction {
                xid,
                begin_lsn: spool.begin_lsn,
                commit_lsn,
                commit_time,
                origin: spool.origin,
                gid: gid.map(Into::into),
            }),
            end_lsn,
            prepared: gid.is_some(),
            aborted: spool.aborted,
            part: if spool.file.is_some() { Part::File } else { Part::Memory },
            file: spool.file,
            memory: spool.memory,
            buffer: Vec::new(),
            at: 0,
        });
    }

    pub(super) fn is_playing(&self) -> bool {
        self.playing.is_some()
    }

    /// The transaction to be played back, once.
    pub(super) fn begin(&mut self) -> Option<Played> {
        let transaction = self.playing.as_mut()?.transaction.take()?;
        Some(Played { transaction })
    }

    /// The next message that is played back; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Place>, WalError> {
        let Some(playing) = &mut self.playing else { return Ok(None) };
        loop {
            if let Some((subxid, place)) = playing.take() {
                // What describes tables counts even from a part that never happened: it may not be sent again.
                let describes = matches!(playing.buffer.get(place.at.start), Some(b'R' | b'Y'));
                if describes || !playing.aborted.contains(&subxid) {
                    return Ok(Some(place));
                }
                continue;
            }
            if !playing.refill().await? {
                return Ok(None);
            }
        }
    }

    pub(super) fn bytes_at(&self, at: &Range<usize>) -> &[u8] {
        let buffer = self.playing.as_ref().map(|playing| playing.buffer.as_slice());
        buffer.and_then(|buffer| buffer.get(at.clone())).unwrap_or_default()
    }

    /// The end of what was played back: where the transaction ends, and whether it is only prepared.
    pub(super) fn finish(&mut self) -> Option<(Lsn, bool)> {
        self.playing.take().map(|playing| (playing.end_lsn, playing.prepared))
    }
}

impl Playing {
    fn take(&mut self) -> Option<(u32, Place)> {
        let rest = self.buffer.get(self.at..)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (subxid, rest) = rest.split_first_chunk::<4>()?;
        let (lsn, rest) = rest.split_first_chunk::<8>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        if rest.len() < length {
            return None;
        }
        let from = self.at + HEADER;
        self.at = from + length;
        let lsn = Lsn(u64::from_be_bytes(*lsn));
        Some((u32::from_be_bytes(*subxid), Place { at: from..self.at, lsn, spooled: true }))
    }

    /// Gets more to walk; `false` where there is none.
    async fn refill(&mut self) -> Result<bool, WalError> {
        match self.part {
            Part::File => {
                self.buffer.drain(..self.at);
                self.at = 0;
                // One at a time, so that a wait that is given up loses neither: both come back, or the stream is over.
                let Some(file) = &mut self.file else { return Ok(false) };
                if !file.read_into(&mut self.buffer).await? {
                    self.part = Part::Memory;
                    self.file = None;
                }
                Ok(true)
            }
            Part::Memory => {
                self.buffer = std::mem::take(&mut self.memory);
                self.at = 0;
                self.part = Part::Done;
                Ok(true)
            }
            Part::Done => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests;
