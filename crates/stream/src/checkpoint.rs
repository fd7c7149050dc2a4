//! The state folder: how far everything has been handled, and who may say so.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use herdsman_node::{Lsn, SystemId, Timeline};
use herdsman_wal::Source;
use serde::{Deserialize, Serialize};

const POSITION: &str = "position";
const LOCK: &str = "lock";
const VERSION: u32 = 1;

/// A state folder that belongs to this process until it is dropped.
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    /// Holds the lock; the system lets go of it however the process ends.
    lock: File,
}

/// What the folder says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Which stream it is about.
    pub source: Source,
    /// Everything before this position has been handled by all sinks.
    pub safe: Lsn,
}

/// The state folder cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The system refused.
    #[error("failed to {what} `{path}`: {problem}; make room or correct its permissions")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: String,
        /// What the system said.
        problem: String,
    },
    /// Another process uses the folder.
    #[error(
        "the state folder `{folder}` is in use by {owner}; stop that one first, or give this stream a folder of its own"
    )]
    InUse {
        /// The folder.
        folder: String,
        /// Who has it.
        owner: String,
    },
    /// The file is not what it should be.
    #[error(
        "the position in `{path}` cannot be read: {problem}; restore the file, or delete it to go on from where the slot stands"
    )]
    Corrupt {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The folder belongs to another stream.
    #[error(
        "the state folder `{folder}` belongs to another stream: its {what} is {found}, this one's is {expected}; point the stream at the right server, or give it a new state folder"
    )]
    OtherStream {
        /// The folder.
        folder: String,
        /// What differs.
        what: &'static str,
        /// What the folder says.
        found: String,
        /// What the stream says.
        expected: String,
    },
}

/// The file as it is written: numbers as text, because 64 bits do not survive every tool that reads JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    system_id: SystemId,
    timeline: Timeline,
    database: String,
    slot: String,
    safe: String,
}

impl Checkpoint {
    /// Takes the folder, and makes it where it is missing.
    ///
    /// # Errors
    /// [`CheckpointError::InUse`] names the process that has it.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        std::fs::create_dir_all(folder).map_err(|e| failed("create", folder, &e))?;
        let path = folder.join(LOCK);
        let lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut lock = lock.map_err(|e| failed("open", &path, &e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(folder, &mut lock)),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path, &error)),
        }
        sign(&mut lock).map_err(|e| failed("write", &path, &e))?;
        Ok(Self { folder: folder.to_owned(), lock })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was saved last; nothing in a new folder.
    ///
    /// # Errors
    /// [`CheckpointError::Corrupt`] where the file is not a whole one of ours.
    pub fn load(&self) -> Result<Option<Saved>, CheckpointError> {
        let path = self.folder.join(POSITION);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path, &error)),
        };
        let corrupt = |problem| CheckpointError::Corrupt { path: shown(&path), problem };
        let document: Document =
            serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        if document.version != VERSION {
            return Err(corrupt(format!("it is of version {}", document.version)));
        }
        let safe = document
            .safe
            .parse()
            .map_err(|e: herdsman_node::ParseLsnError| corrupt(e.to_string()))?;
        let source = Source {
            system_id: document.system_id,
            timeline: document.timeline,
            database: document.database.into(),
            slot: document.slot.into(),
        };
        Ok(Some(Saved { source, safe }))
    }

    /// What was saved last, if it is about this stream. Another timeline of the same cluster is the same stream.
    ///
    /// # Errors
    /// [`CheckpointError::OtherStream`] where it is about another one, and what [`Checkpoint::load`] says.
    pub fn load_for(&self, source: &Source) -> Result<Option<Saved>, CheckpointError> {
        let Some(saved) = self.load()? else { return Ok(None) };
        let was = &saved.source;
        let differs = |what, found: String, expected: String| CheckpointError::OtherStream {
            folder: shown(&self.folder),
            what,
            found,
            expected,
        };
        if was.system_id != source.system_id {
            let (found, expected) = (was.system_id.to_string(), source.system_id.to_string());
            return Err(differs("system identifier", found, expected));
        }
        if was.database != source.database {
            return Err(differs("database", was.database.to_string(), source.database.to_string()));
        }
        if was.slot != source.slot {
            return Err(differs("slot", was.slot.to_string(), source.slot.to_string()));
        }
        Ok(Some(saved))
    }

    /// Saves durably that everything before `safe` has been handled. Whenever a crash comes, the file is the one from
    /// before or this one. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// [`CheckpointError::Io`]; then the position from before still stands.
    pub fn save(&self, source: &Source, safe: Lsn) -> Result<(), CheckpointError> {
        let document = Document {
            version: VERSION,
            system_id: source.system_id,
            timeline: source.timeline,
            database: source.database.to_string(),
            slot: source.slot.to_string(),
            safe: safe.to_string(),
        };
        let path = self.folder.join(POSITION);
        let mut bytes = serde_json::to_vec_pretty(&document)
            .map_err(|error| failed("write", &path, &io::Error::other(error)))?;
        bytes.push(b'\n');
        replace(&path, &bytes).map_err(|error| failed("write", &path, &error))
    }

    /// Forgets the position, for a stream that begins anew.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] where the file cannot be removed.
    pub fn forget(&self) -> Result<(), CheckpointError> {
        let path = self.folder.join(POSITION);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path, &error))
            }
            _ => sync_folder_of(&path).map_err(|error| failed("remove", &path, &error)),
        }
    }
}

impl Drop for Checkpoint {
    /// A process that this one starts at this moment holds a copy of the file, and with it the lock, until it has become
    /// another program: the lock does not go with the last file but now.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(folder = %self.folder.display(), %error, "the state folder may stay locked for a moment");
        }
    }
}

/// Replaces a file in one step that a crash leaves done or not begun.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let next = path.with_added_extension("new");
    let mut file = File::create(&next)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&next, path)?;
    sync_folder_of(path)
}

/// Makes names in the file's folder durable.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn sign(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

fn in_use(folder: &Path, lock: &mut File) -> CheckpointError {
    let mut text = String::new();
    let pid = lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok());
    let owner = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    CheckpointError::InUse { folder: shown(folder), owner }
}

fn failed(what: &'static str, path: &Path, error: &io::Error) -> CheckpointError {
    CheckpointError::Io { what, path: shown(path), problem: error.to_string() }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        Source {
            system_id: SystemId(7_431_982_345_678_901_234),
            timeline: Timeline(3),
            database: "shop".into(),
            slot: "herdsman".into(),
        }
    }

    #[test]
    fn what_was_saved_is_loaded_and_a_new_folder_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::open(&folder.path().join("deep/state")).unwrap();
        assert_eq!(checkpoint.load(), Ok(None));
        for safe in [Lsn(5), Lsn(u64::MAX)] {
            checkpoint.save(&source(), safe).unwrap();
            assert_eq!(checkpoint.load(), Ok(Some(Saved { source: source(), safe })));
        }
        // A crash while the next one was written leaves half a file beside it.
        std::fs::write(checkpoint.folder().join("position.new"), "{\"vers").unwrap();
        assert_eq!(checkpoint.load().unwrap().unwrap().safe, Lsn(u64::MAX));
        checkpoint.save(&source(), Lsn(9)).unwrap();
        assert_eq!(checkpoint.load().unwrap().unwrap().safe, Lsn(9));
        checkpoint.forget().unwrap();
        checkpoint.forget().unwrap();
        assert_eq!(checkpoint.load(), Ok(None));
    }

    #[test]
    fn a_folder_has_one_owner_and_the_error_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = Checkpoint::open(folder.path()).unwrap();
        let error = Checkpoint::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        Checkpoint::open(folder.path()).unwrap();
    }

    #[test]
    fn a_broken_position_is_told_and_never_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        checkpoint.save(&source(), Lsn(5)).unwrap();
        let path = folder.path().join(POSITION);
        let whole = std::fs::read_to_string(&path).unwrap();
        let half: String = whole.chars().take(whole.len() / 2).collect();
        let newer = whole.replace("\"version\": 1", "\"version\": 2");
        let odd = whole.replace("0/5", "0-5");
        for text in ["", "{}", half.as_str(), newer.as_str(), odd.as_str()] {
            std::fs::write(&path, text).unwrap();
            let error = checkpoint.load().unwrap_err();
            assert!(matches!(error, CheckpointError::Corrupt { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn a_folder_of_another_stream_is_refused_and_another_timeline_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        checkpoint.save(&source(), Lsn(5)).unwrap();
        let promoted = Source { timeline: Timeline(4), ..source() };
        assert_eq!(checkpoint.load_for(&promoted).unwrap().unwrap().safe, Lsn(5));
        for other in [
            Source { system_id: SystemId(1), ..source() },
            Source { database: "other".into(), ..source() },
            Source { slot: "other".into(), ..source() },
        ] {
            let error = checkpoint.load_for(&other).unwrap_err();
            assert!(matches!(error, CheckpointError::OtherStream { .. }), "{error}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Checkpoint::open(&file.join("state")).unwrap_err();
        assert!(error.to_string().contains("failed to create"), "{error}");
    }
}
