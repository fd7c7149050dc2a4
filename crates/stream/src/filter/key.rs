//! The key that values are hashed with.

use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;

/// The key that values are hashed with. Whoever has it can find out which of the values he guesses was hashed; with
/// another key, the same values look different.
#[derive(Clone)]
pub struct MaskKey(hmac::Key);

/// The key's file cannot be read or made.
#[derive(Debug, thiserror::Error)]
#[error("failed to {what} the key for masked columns in `{}`: {problem}; it must be a file that only we can read", .path.display())]
pub struct MaskKeyError {
    what: &'static str,
    path: PathBuf,
    problem: String,
}

/// Its file in the state folder.
const FILE: &str = "mask.key";

/// Bytes of a new key: as many as the hash has.
const LENGTH: usize = 32;

/// Bytes taken from a file at most.
const LONGEST: u64 = 4096;

impl MaskKey {
    /// A key of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The key in this state folder, made there when it is first asked for. It belongs into the backup: without it, hashes
    /// made later match none of those made before.
    ///
    /// # Errors
    /// [`MaskKeyError`] where it cannot be read or made.
    pub fn in_folder(folder: &Path) -> Result<Self, MaskKeyError> {
        let path = folder.join(FILE);
        match std::fs::File::open(&path) {
            Ok(file) => Self::read(file, path),
            Err(error) if error.kind() == ErrorKind::NotFound => Self::create(folder, path),
            Err(error) => Err(failed("read", path, &error)),
        }
    }

    fn read(file: std::fs::File, path: PathBuf) -> Result<Self, MaskKeyError> {
        let mut bytes = Vec::new();
        if let Err(error) = file.take(LONGEST).read_to_end(&mut bytes) {
            return Err(failed("read", path, &error));
        }
        if bytes.len() < LENGTH {
            let problem = format!("it has {} bytes, expected at least {LENGTH}", bytes.len());
            return Err(MaskKeyError { what: "use", path, problem });
        }
        Ok(Self::from_bytes(&bytes))
    }

    /// Under another name first, so that it is there whole or not at all.
    fn create(folder: &Path, path: PathBuf) -> Result<Self, MaskKeyError> {
        let mut bytes = [0; LENGTH];
        if aws_lc_rs::rand::fill(&mut bytes).is_err() {
            let problem = "the system gives no random bytes".to_owned();
            return Err(MaskKeyError { what: "make", path, problem });
        }
        let made = std::fs::create_dir_all(folder).and_then(|()| {
            // Readable to its owner only.
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&bytes)?;
            file.as_file().sync_all()?;
            file.persist_noclobber(&path).map_err(|error| error.error).map(drop)
        });
        match made {
            Ok(()) => Ok(Self::from_bytes(&bytes)),
            // Another process made one meanwhile.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                match std::fs::File::open(&path) {
                    Ok(file) => Self::read(file, path),
                    Err(error) => Err(failed("read", path, &error)),
                }
            }
            Err(error) => Err(failed("make", path, &error)),
        }
    }

    /// The hash of a value, as hexadecimal digits.
    pub(super) fn hash(&self, value: &[u8]) -> String {
        let tag = hmac::sign(&self.0, value);
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl std::fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MaskKey(***)")
    }
}

fn failed(what: &'static str, path: PathBuf, error: &std::io::Error) -> MaskKeyError {
    MaskKeyError { what, path, problem: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let first = MaskKey::in_folder(&state).unwrap();
        let again = MaskKey::in_folder(&state).unwrap();
        assert_eq!(first.hash(b"x"), again.hash(b"x"));
        assert_ne!(first.hash(b"x"), first.hash(b"y"));
        assert_ne!(first.hash(b"x"), MaskKey::from_bytes(b"other").hash(b"x"));
        let mode = std::fs::metadata(state.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
        std::fs::write(state.join(FILE), b"short").unwrap();
        assert!(MaskKey::in_folder(&state).unwrap_err().to_string().contains("5 bytes"));
    }

    #[test]
    fn hashes_are_hmac_sha256() {
        // RFC 4231, test case 2.
        let hash = MaskKey::from_bytes(b"Jefe").hash(b"what do ya want for nothing?");
        assert_eq!(hash, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
