//! Names of rotated files.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Digits of a moment, as in `20260131T120000Z`.
const MOMENT: usize = 16;
/// Digits of the number that tells files of one second apart.
const NUMBER: usize = 4;
const MOST: u32 = 9_999;

/// A name for what is rotated now, behind those of all files that are there: also where the clock was set back, and where
/// earlier files of the same second were deleted. `None` where the name of the file is not UTF-8, or there is none.
pub(super) fn free(path: &Path, now: SystemTime) -> io::Result<Option<PathBuf>> {
    let now: String = humantime::format_rfc3339_seconds(now)
        .to_string()
        .chars()
        .filter(|c| !matches!(c, '-' | ':'))
        .collect();
    let newest = rotated(path)?.pop();
    let newest = newest.as_ref().and_then(|newest| stamp(path, newest.file_name()?));
    let (moment, number) = match newest {
        Some((moment, number)) if moment >= now.as_str() && number < MOST => (moment, number + 1),
        _ => (now.as_str(), 0),
    };
    let name = parts(path)
        .map(|(stem, extension)| format!("{stem}.{moment}-{number:04}{extension}"))
        .map(|name| path.with_file_name(name));
    Ok(name.filter(|name| !name.exists()))
}

/// The rotated files of `path`, oldest first.
pub(super) fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        if stamp(path, &name).is_some() {
            found.push(path.with_file_name(name));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Moment and number in the name of a rotated file of `path`. Strict: whatever has them may be deleted.
fn stamp<'a>(path: &Path, name: &'a OsStr) -> Option<(&'a str, u32)> {
    let (stem, extension) = parts(path)?;
    let middle = name.to_str()?.strip_prefix(&stem)?.strip_prefix('.')?.strip_suffix(&extension)?;
    let (moment, number) = middle.split_once('-')?;
    let is_moment = |(index, byte): (usize, u8)| match index {
        8 => byte == b'T',
        15 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    };
    let is_stamp = moment.len() == MOMENT
        && moment.bytes().enumerate().all(is_moment)
        && number.len() == NUMBER
        && number.bytes().all(|byte| byte.is_ascii_digit());
    if is_stamp { Some((moment, number.parse().ok()?)) } else { None }
}

/// The name without its extension, and the extension with its dot.
fn parts(path: &Path) -> Option<(String, String)> {
    let stem = path.file_stem()?.to_str()?.to_owned();
    let extension = path.extension().and_then(OsStr::to_str).map(|e| format!(".{e}"));
    Some((stem, extension.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_same_name_and_form_count_as_rotated() {
        let path = Path::new("/a/changes.jsonl");
        for (name, expected) in [
            ("changes.20260131T120000Z-0000.jsonl", true),
            ("changes.20260131T120000Z-0000", false),
            ("changes.20260131T120000Z-000.jsonl", false),
            ("changes.20260131T12000xZ-0000.jsonl", false),
            ("changes.old-0000.jsonl", false),
            ("changes.jsonl", false),
            ("other.20260131T120000Z-0000.jsonl", false),
            ("changes.eu.20260131T120000Z-0000.jsonl", false),
        ] {
            assert_eq!(stamp(path, OsStr::new(name)).is_some(), expected, "{name}");
        }
        let stamp = stamp(Path::new("log"), OsStr::new("log.20260131T120000Z-0007"));
        assert_eq!(stamp, Some(("20260131T120000Z", 7)));
    }

    #[test]
    fn each_name_is_behind_all_before_it_whatever_the_clock_says_and_whatever_was_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changes.jsonl");
        let seconds = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let mut names = Vec::new();
        for now in [10, 10, 10, 5, 11, 10] {
            let name = free(&path, seconds(now)).unwrap().unwrap();
            std::fs::write(&name, "").unwrap();
            if let Some(older) = names.last() {
                std::fs::remove_file(older).unwrap();
            }
            names.push(name);
        }
        let names: Vec<_> = names.iter().map(|name| name.file_name().unwrap()).collect();
        assert_eq!(names[3], "changes.19700101T000010Z-0003.jsonl");
        assert_eq!(names[4], "changes.19700101T000011Z-0000.jsonl");
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }
}
