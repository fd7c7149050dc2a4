//! A file without a name: it is gone when we are, however we end.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::WalError;

/// Read at once when playing back.
const PIECE: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct SpillFile {
    xid: u32,
    folder: PathBuf,
    /// Shared with the blocking task that works on it, so that a caller who gives up waiting leaves it whole.
    file: Arc<Mutex<std::fs::File>>,
    length: u64,
    read: u64,
}

impl SpillFile {
    pub(super) async fn create(xid: u32, folder: &Path) -> Result<Self, WalError> {
        let place = folder.to_owned();
        let created = blocking(move || tempfile::tempfile_in(place)).await;
        let file = created.map_err(|problem| wrong("create", xid, folder, &problem))?;
        Ok(Self {
            xid,
            folder: folder.to_owned(),
            file: Arc::new(Mutex::new(file)),
            length: 0,
            read: 0,
        })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) async fn append(mut self, bytes: Vec<u8>) -> Result<Self, WalError> {
        let file = Arc::clone(&self.file);
        self.length += bytes.len() as u64;
        let written =
            blocking(move || file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&bytes));
        match written.await {
            Ok(()) => Ok(self),
            Err(problem) => Err(wrong("write", self.xid, &self.folder, &problem)),
        }
    }

    /// Reads the next piece to the end of `buffer`; `false` at the end of the file.
    pub(super) async fn read_into(&mut self, buffer: &mut Vec<u8>) -> Result<bool, WalError> {
        let (file, from) = (Arc::clone(&self.file), self.read);
        let read = blocking(move || {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(from))?;
            let mut piece = Vec::with_capacity(PIECE);
            Read::by_ref(&mut *file).take(PIECE as u64).read_to_end(&mut piece)?;
            Ok(piece)
        });
        match read.await {
            Ok(piece) => {
                self.read += piece.len() as u64;
                buffer.extend_from_slice(&piece);
                Ok(!piece.is_empty())
            }
            Err(problem) => Err(wrong("read", self.xid, &self.folder, &problem)),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|ended| Err(std::io::Error::other(ended)))
}

pub(super) fn wrong(
    what: &'static str,
    xid: u32,
    folder: &Path,
    problem: &std::io::Error,
) -> WalError {
    WalError::Spill {
        what,
        xid,
        folder: folder.display().to_string(),
        problem: problem.to_string(),
    }
}
