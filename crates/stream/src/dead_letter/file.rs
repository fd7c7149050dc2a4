//! One file: whole lines, of which only the last can be cut short.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::{DeadLetterError, LetterForm, Line, failed, shown};
use crate::checkpoint::{replace, sync_folder_of};

/// Lines that are over and done with may take this much of a file before it is written anew.
const DEBRIS: u64 = 1 << 20;

/// What is in a file: letters with their lines, and how much of it is not needed any more.
pub(super) struct Contents {
    pub(super) letters: Vec<(LetterForm, String)>,
    debris: u64,
}

/// The letters of a file that are still on the list.
pub(super) fn read(path: &Path) -> Result<Contents, DeadLetterError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed("read", path, &error)),
    };
    let mut contents = Contents { letters: Vec::new(), debris: 0 };
    for (number, line) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
        // Half a line is what a crash left of one that was never counted as kept.
        let Some(whole) = line.strip_suffix(b"\n") else { break };
        let wrong = |problem| DeadLetterError::Corrupt { path: shown(path), line: number, problem };
        let text = std::str::from_utf8(whole).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        match serde_json::from_str(text).map_err(|error| wrong(error.to_string()))? {
            Line::Letter(letter) => contents.letters.push((*letter, text.to_owned())),
            Line::Gone { gone, .. } => {
                contents.debris += length(line);
                for (_, text) in contents.letters.extract_if(.., |(l, _)| l.id == gone) {
                    contents.debris += length(text.as_bytes()) + 1;
                }
            }
        }
    }
    Ok(contents)
}

/// Adds whole lines durably, in the place of a half one; tells how large the file is then.
pub(super) fn extend(path: &Path, lines: &[u8]) -> io::Result<u64> {
    let new = !path.exists();
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = options?;
    let end = whole_lines(&mut file, path)?;
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end))?;
    file.write_all(lines)?;
    file.sync_all()?;
    if new {
        sync_folder_of(path)?;
    }
    Ok(end + length(lines))
}

/// How long the file is without half a line at its end.
fn whole_lines(file: &mut File, path: &Path) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let Some(before_last) = size.checked_sub(1) else { return Ok(0) };
    file.seek(SeekFrom::Start(before_last))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(size);
    }
    let bytes = std::fs::read(path)?;
    let end = bytes.iter().rposition(|byte| *byte == b'\n');
    Ok(end.map_or(0, |at| length(bytes.get(..=at).unwrap_or_default())))
}

/// Writes the file anew where much of it is not needed any more.
pub(super) fn compact(path: &Path) -> Result<(), DeadLetterError> {
    let contents = read(path)?;
    if !contents.letters.is_empty() && contents.debris < DEBRIS {
        return Ok(());
    }
    let lines: String =
        contents.letters.iter().flat_map(|(_, text)| [text.as_str(), "\n"]).collect();
    replace(path, lines.as_bytes()).map_err(|e| failed("write", path, &e))
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
