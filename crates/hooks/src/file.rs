//! Replacing a file in one step, so that whoever reads it finds the old one or the new one.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Gid, Uid, fchown};

/// Largest file that is read: a hundred thousand lines of a PgBouncer's databases.
const LARGEST: u64 = 16 << 20;

/// The text of a file; `None` where there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>, String> {
    let told = |problem: &dyn std::fmt::Display| {
        format!("failed to read `{}`: {problem}; check that it may be read by us", path.display())
    };
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text)) {
        Ok(_) if text.len() as u64 > LARGEST => Err(told(&format!("more than {LARGEST} bytes"))),
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(told(&error)),
    }
}

/// Who may read a file that was not there before.
#[derive(Clone, Copy, Debug)]
pub(crate) enum New<'a> {
    /// Everybody.
    Public,
    /// Whoever may read this one, which also says the owner.
    Like(&'a Path),
}

/// Puts a text in the place of a file, with the owner and the rights that the file had.
pub(crate) fn replace(path: &Path, text: &str, new: New<'_>) -> Result<(), String> {
    // A link goes on pointing to the file.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    put(&target, text, new).map_err(|error| {
        format!(
            "failed to replace `{}`: {error}; check that its folder may be written by us, and that we may keep the \
             file's owner",
            path.display()
        )
    })
}

fn put(path: &Path, text: &str, new: New<'_>) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let old = match (fs::metadata(path), new) {
        (Ok(old), _) => Some(old),
        (Err(error), New::Public) if error.kind() == io::ErrorKind::NotFound => None,
        (Err(error), New::Like(like)) if error.kind() == io::ErrorKind::NotFound => {
            Some(fs::metadata(like)?)
        }
        (Err(error), _) => return Err(error),
    };
    // Only we may read it before it has its owner: it may hold passwords.
    let mut next = tempfile::Builder::new().prefix(".herdsman-").tempfile_in(folder)?;
    next.write_all(text.as_bytes())?;
    match &old {
        Some(old) => {
            keep_owner(next.as_file(), old)?;
            next.as_file().set_permissions(old.permissions())?;
        }
        None => next.as_file().set_permissions(fs::Permissions::from_mode(0o644))?,
    }
    next.as_file().sync_all()?;
    next.persist(path).map_err(|error| error.error)?;
    // So that it is still there after the power was lost; the file itself is good without.
    let _best_effort = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

fn keep_owner(next: &File, old: &Metadata) -> io::Result<()> {
    let new = next.metadata()?;
    if (new.uid(), new.gid()) == (old.uid(), old.gid()) {
        return Ok(());
    }
    let owner = (new.uid() != old.uid()).then(|| Uid::from_raw(old.uid()));
    Ok(fchown(next, owner, Some(Gid::from_raw(old.gid())))?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_with_the_rights_it_had_and_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (file, link) = (path("real.ini"), path("link.ini"));
        assert_eq!(read(&file), Ok(None));
        let rights = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        replace(&file, "old", New::Public).unwrap();
        assert_eq!(rights(&file), 0o644);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        replace(&link, "new", New::Public).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!((read(&file), rights(&file)), (Ok(Some("new".to_owned())), 0o640));
        replace(&path("another.ini"), "", New::Like(&file)).unwrap();
        assert_eq!(rights(&path("another.ini")), 0o640);
        // Nothing else is left behind.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        let error = replace(Path::new("/no/such/folder/file"), "", New::Public).unwrap_err();
        assert!(error.starts_with("failed to replace `/no/such/folder/file`"), "{error}");
    }
}
