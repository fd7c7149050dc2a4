//! One program on a machine has the nodes of a ledger follow its log; the others ask it.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use herdsman_ledger::config::with_behind;

use crate::exit::{Exit, Failed};

/// The right to do so, for as long as this is there. It ends with the process, however that ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes it, if nobody has it.
    ///
    /// # Errors
    /// Its file cannot be opened.
    pub(super) fn take(socket: &Path) -> Result<Option<Self>, Failed> {
        let path = place(socket);
        let failed =
            |error| Exit::Unavailable.with(format!("{} cannot be locked: {error}", path.display()));
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

/// The file that is locked.
pub(super) fn place(socket: &Path) -> PathBuf {
    with_behind(socket, ".lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("all.log.socket");
        let first = Lock::take(&socket).unwrap();
        assert!(first.is_some());
        assert!(Lock::take(&socket).unwrap().is_none());
        drop(first);
        assert!(Lock::take(&socket).unwrap().is_some());
        assert!(Lock::take(&folder.path().join("no/such/socket")).is_err());
    }
}
