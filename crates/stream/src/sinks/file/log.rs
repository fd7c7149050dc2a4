//! The open file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{FileConfig, name};
use crate::sink::SinkError;

/// A file that ends with a whole line, locked, and everything in it on the disk.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    path: PathBuf,
    length: u64,
    born: SystemTime,
}

/// How much is read at once when the last line end is looked for.
const STEP: u64 = 64 * 1024;

impl Log {
    /// Opens the file, makes it where it is missing, and cuts off a last line that has no end.
    pub(super) fn open(config: &FileConfig) -> Result<Self, SinkError> {
        let path = &config.path;
        Self::open_at(path).map_err(|error| failed("open", path, &error))
    }

    fn open_at(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        // Not for appending only: the end may have to be cut off and read.
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::new(ErrorKind::ResourceBusy, "another program writes to it")
            }
            TryLockError::Error(error) => error,
        })?;
        let metadata = file.metadata()?;
        let length = whole_lines(&mut file, metadata.len())?;
        if length < metadata.len() {
            tracing::warn!(
                file = %path.display(),
                bytes = metadata.len() - length,
                "cut off the last line, which a crash had left torn; its change comes again"
            );
            file.set_len(length)?;
        }
        file.sync_all()?;
        sync_folder(path)?;
        file.seek(SeekFrom::Start(length))?;
        // Not every file system tells when a file was made.
        let born = metadata.created().or_else(|_| metadata.modified())?;
        Ok(Self { file, path: path.to_owned(), length, born })
    }

    /// Whether a new file has to be begun before so many bytes are written.
    pub(super) fn is_due(&self, config: &FileConfig, bytes: usize, now: SystemTime) -> bool {
        let rotate = &config.rotate;
        let after = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(self.length);
        let age = now.duration_since(self.born).unwrap_or_default();
        self.length > 0 && (after > rotate.bytes || rotate.age.is_some_and(|limit| age >= limit))
    }

    /// Gives the file its name for ever and begins a new one.
    pub(super) fn rotate(self, config: &FileConfig, now: SystemTime) -> Result<Self, SinkError> {
        let path = self.path.clone();
        let wrong = |error: &io::Error| failed("rotate", &path, error);
        let name = name::free(&path, now).map_err(|error| wrong(&error))?;
        let name = name.ok_or_else(|| {
            wrong(&io::Error::other("no name is free for it, or its name is not UTF-8"))
        })?;
        // Locked until it has its new name: nobody else takes it for the current one.
        std::fs::rename(&path, &name).map_err(|error| wrong(&error))?;
        sync_folder(&path).map_err(|error| wrong(&error))?;
        tracing::info!(file = %name.display(), bytes = self.length, "rotated");
        drop(self);
        let log = Self::open(config)?;
        if let Some(keep) = config.rotate.keep {
            // Whether old files go is no reason to hold up changes.
            if let Err(error) = forget(&path, keep) {
                tracing::warn!(file = %path.display(), %error, "failed to delete old files");
            }
        }
        Ok(log)
    }

    /// Writes whole lines and waits until they are on the disk. After a failure the file must be opened anew.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let Err(error) = self.file.write_all(bytes).and_then(|()| self.file.sync_data()) else {
            self.length =
                self.length.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            return Ok(());
        };
        // What got there of the batch comes again as a whole; where cutting fails too, opening cuts the torn line.
        let _repaired_when_opened = self.file.set_len(self.length);
        Err(failed("write to", &self.path, &error))
    }
}

/// Length of the file up to and with its last line end.
fn whole_lines(file: &mut File, length: u64) -> io::Result<u64> {
    let mut end = length;
    let mut buffer = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(begin))?;
        buffer.clear();
        file.take(end - begin).read_to_end(&mut buffer)?;
        if let Some(last) = buffer.iter().rposition(|byte| *byte == b'\n') {
            return Ok(begin + u64::try_from(last).unwrap_or(0) + 1);
        }
        end = begin;
    }
    Ok(0)
}

/// Deletes the oldest rotated files but `keep`.
fn forget(path: &Path, keep: usize) -> io::Result<()> {
    let rotated = name::rotated(path)?;
    let old = rotated.len().saturating_sub(keep);
    for file in rotated.iter().take(old) {
        std::fs::remove_file(file)?;
    }
    Ok(())
}

/// A file's name is on the disk when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

fn failed(what: &'static str, path: &Path, error: &io::Error) -> SinkError {
    let advice = match error.kind() {
        ErrorKind::NotFound => "make its folder",
        ErrorKind::PermissionDenied => "let this account write there",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room on its disk",
        ErrorKind::ResourceBusy => "stop the other program, or set another `path`",
        _ => "look at its disk",
    };
    SinkError {
        what,
        target: format!("`{}`", path.display()),
        problem: error.to_string(),
        advice,
        reopen: true,
    }
}
