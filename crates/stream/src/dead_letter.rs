//! Changes that no try could deliver, kept in full: below the state folder, one file of JSON lines for each sink.
//!
//! A file only ever grows by whole lines; a line that says what became of a letter takes it off the list. Every
//! operation locks the folder, opens the file and lets go of both, so that letters can be listed and dropped while the
//! stream runs.

mod file;
mod form;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use herdsman_wal::{Change, Kind};
use serde::{Deserialize, Serialize};

use self::file::{compact, extend, read};
use self::form::ChangeForm;
use crate::checkpoint::sync_folder_of;
use crate::lanes::Letter;

const FOLDER: &str = "dead-letters";
const LOCK: &str = "lock";
const ENDING: &str = "jsonl";
/// From this size on each new letter comes with a warning: nobody seems to look after them.
const LARGE: u64 = 64 << 20;

/// The dead letters of a stream.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    folder: PathBuf,
    /// What each file held after the last time we added to it: not to be read again each time.
    known: Arc<Mutex<HashMap<PathBuf, Known>>>,
}

/// The names in a file, for as long as nobody else has written to it.
#[derive(Debug)]
struct Known {
    stamp: (u64, Option<SystemTime>),
    ids: HashSet<String>,
}

/// A change to be kept.
#[derive(Clone, Debug)]
pub struct Record {
    /// The change.
    pub change: Arc<Change>,
    /// Why it was not delivered, the last time.
    pub error: String,
    /// How many times it was tried.
    pub attempts: u32,
}

/// A change that is kept.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Its name, for replaying or dropping it.
    pub id: String,
    /// When it was given up, in seconds since 1970.
    pub time: u64,
    /// The sink it was for.
    pub sink: String,
    /// How many times it was tried.
    pub attempts: u32,
    /// Why it was not delivered, the last time.
    pub error: String,
    /// The change's own name, the same each time it is delivered.
    pub idempotency_key: String,
    /// The change.
    pub change: Change,
}

/// What became of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Gone {
    Replayed,
    Dropped,
}

/// Dead letters cannot be kept or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeadLetterError {
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
    /// A line is not one of ours.
    #[error(
        "line {line} of `{path}` is no dead letter: {problem}; correct or remove the line, the others are whole"
    )]
    Corrupt {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no such letter.
    #[error("there is no dead letter `{id}`; see the list of those there are")]
    Unknown {
        /// What was asked for.
        id: String,
    },
}

/// One line of a file.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Letter(Box<LetterForm>),
    Gone { gone: String, how: Gone, time: u64 },
}

#[derive(Serialize, Deserialize)]
struct LetterForm {
    id: String,
    time: u64,
    sink: String,
    attempts: u32,
    error: String,
    idempotency_key: String,
    change: ChangeForm,
}

impl From<&Letter> for Record {
    fn from(letter: &Letter) -> Self {
        Self {
            change: Arc::clone(&letter.change),
            error: letter.error.to_string(),
            attempts: letter.attempts,
        }
    }
}

impl DeadLetters {
    /// The dead letters below this state folder.
    ///
    /// # Errors
    /// [`DeadLetterError::Io`] where the folder cannot be made.
    pub fn open(state: &Path) -> Result<Self, DeadLetterError> {
        let folder = state.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(|e| failed("create", &folder, &e))?;
        sync_folder_of(&folder).map_err(|e| failed("create", &folder, &e))?;
        Ok(Self { folder, known: Arc::default() })
    }

    /// Keeps these for `sink`, durably. One that is kept already is not kept twice. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// [`DeadLetterError`]; then none of them counts as kept.
    pub fn append(&self, sink: &str, records: &[Record]) -> Result<(), DeadLetterError> {
        let _lock = self.lock()?;
        let path = self.path(sink);
        let mut taken = self.ids_in(&path)?;
        let mut lines = Vec::new();
        for record in records {
            let Some(letter) = LetterForm::new(sink, record, &taken) else { continue };
            taken.insert(letter.id.clone());
            write_line(&mut lines, &Line::Letter(Box::new(letter)))
                .map_err(|e| failed("write", &path, &e))?;
        }
        let size = extend(&path, &lines).map_err(|e| failed("write", &path, &e))?;
        if let Some(stamp) = stamp(&path) {
            let known = Known { stamp, ids: taken };
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone(), known);
        }
        if size > LARGE {
            tracing::warn!(sink, bytes = size, path = %path.display(), "dead letters pile up; replay or drop them");
        }
        Ok(())
    }

    /// All that are kept, sink by sink, the oldest first.
    ///
    /// # Errors
    /// [`DeadLetterError::Corrupt`] names a line that cannot be read.
    pub fn list(&self) -> Result<Vec<DeadLetter>, DeadLetterError> {
        let _lock = self.lock()?;
        let mut letters = Vec::new();
        for path in self.files()? {
            for (number, (letter, _)) in (1..).zip(read(&path)?.letters) {
                let wrong = |problem| DeadLetterError::Corrupt {
                    path: shown(&path),
                    line: number,
                    problem,
                };
                letters.push(letter.read().map_err(wrong)?);
            }
        }
        Ok(letters)
    }

    /// This one.
    ///
    /// # Errors
    /// [`DeadLetterError::Unknown`] where there is no such letter, and what [`DeadLetters::list`] says.
    pub fn get(&self, id: &str) -> Result<DeadLetter, DeadLetterError> {
        let found = self.list()?.into_iter().find(|letter| letter.id == id);
        found.ok_or_else(|| DeadLetterError::Unknown { id: id.to_owned() })
    }

    /// The changes of these, to be delivered once more, in the order asked for. They stay on the list until
    /// [`DeadLetters::replayed`] says that they were.
    ///
    /// # Errors
    /// As [`DeadLetters::get`].
    pub fn replay(&self, ids: &[String]) -> Result<Vec<Change>, DeadLetterError> {
        let letters = self.list()?;
        let find = |id: &String| {
            let found = letters.iter().find(|letter| letter.id == *id);
            found
                .map(|l| l.change.clone())
                .ok_or_else(|| DeadLetterError::Unknown { id: id.clone() })
        };
        ids.iter().map(find).collect()
    }

    /// These have been delivered after all: they leave the list.
    ///
    /// # Errors
    /// As [`DeadLetters::get`]; then all stay.
    pub fn replayed(&self, ids: &[String]) -> Result<(), DeadLetterError> {
        self.take_off(ids, Gone::Replayed)
    }

    /// Nobody wants these any more: they leave the list.
    ///
    /// # Errors
    /// As [`DeadLetters::get`]; then all stay.
    pub fn drop(&self, ids: &[String]) -> Result<(), DeadLetterError> {
        self.take_off(ids, Gone::Dropped)
    }

    fn take_off(&self, ids: &[String], how: Gone) -> Result<(), DeadLetterError> {
        let _lock = self.lock()?;
        let mut left: HashSet<&str> = ids.iter().map(String::as_str).collect();
        let mut marks = Vec::new();
        for path in self.files()? {
            let contents = read(&path)?;
            let here: Vec<_> =
                contents.letters.iter().filter(|(l, _)| left.remove(l.id.as_str())).collect();
            let mut lines = Vec::new();
            for (letter, _) in here {
                let line = Line::Gone { gone: letter.id.clone(), how, time: seconds_now() };
                write_line(&mut lines, &line).map_err(|e| failed("write", &path, &e))?;
            }
            if !lines.is_empty() {
                marks.push((path, lines));
            }
        }
        if let Some(unknown) = left.into_iter().next() {
            return Err(DeadLetterError::Unknown { id: unknown.to_owned() });
        }
        for (path, lines) in marks {
            extend(&path, &lines).map_err(|e| failed("write", &path, &e))?;
            compact(&path)?;
        }
        Ok(())
    }

    fn ids_in(&self, path: &Path) -> Result<HashSet<String>, DeadLetterError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
        match known {
            Some(known) if stamp(path) == Some(known.stamp) => Ok(known.ids),
            _ => Ok(read(path)?.letters.into_iter().map(|(letter, _)| letter.id).collect()),
        }
    }

    fn files(&self) -> Result<Vec<PathBuf>, DeadLetterError> {
        let failed = |e| failed("read", &self.folder, &e);
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|ending| ending == ENDING) {
                paths.push(path);
            }
        }
        paths.sort_unstable();
        Ok(paths)
    }

    fn path(&self, sink: &str) -> PathBuf {
        self.folder.join(format!("{}.{ENDING}", file_name(sink)))
    }

    /// Held for one operation, which is short, so that waiting for it is.
    fn lock(&self) -> Result<File, DeadLetterError> {
        let path = self.folder.join(LOCK);
        let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = open.map_err(|e| failed("open", &path, &e))?;
        file.lock().map_err(|e| failed("lock", &path, &e))?;
        Ok(file)
    }
}

impl LetterForm {
    /// `None` where it is kept already.
    fn new(sink: &str, record: &Record, taken: &HashSet<String>) -> Option<Self> {
        let view = record.change.view();
        let (commit_lsn, ordinal) = view.id();
        let mut id = format!("{sink}:{commit_lsn}:{ordinal}");
        if view.kind() == Kind::Read {
            // Rows of different snapshots may share a number.
            let plain = id.clone();
            id = (1..).map(|n: u64| format!("{plain}:{n}")).find(|id| !taken.contains(id))?;
        } else if taken.contains(&id) {
            return None;
        }
        Some(Self {
            id,
            time: seconds_now(),
            sink: sink.to_owned(),
            attempts: record.attempts,
            error: record.error.clone(),
            idempotency_key: format!("{}:{commit_lsn}:{ordinal}", view.source.system_id),
            change: ChangeForm::from(&*record.change),
        })
    }

    fn read(self) -> Result<DeadLetter, String> {
        Ok(DeadLetter {
            id: self.id,
            time: self.time,
            sink: self.sink,
            attempts: self.attempts,
            error: self.error,
            idempotency_key: self.idempotency_key,
            change: self.change.read()?,
        })
    }
}

fn write_line(lines: &mut Vec<u8>, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *lines, line)?;
    lines.push(b'\n');
    Ok(())
}

/// A sink's name as a file's: what is no plain letter is written as its number.
fn file_name(sink: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    sink.bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// What changes whenever a file is written to.
fn stamp(path: &Path) -> Option<(u64, Option<SystemTime>)> {
    let facts = std::fs::metadata(path).ok()?;
    Some((facts.len(), facts.modified().ok()))
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn failed(what: &'static str, path: &Path, error: &io::Error) -> DeadLetterError {
    DeadLetterError::Io { what, path: shown(path), problem: error.to_string() }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
