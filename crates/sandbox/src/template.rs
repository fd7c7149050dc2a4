//! A cluster kept as `initdb` made it, and new clusters as copies of it.
//!
//! `initdb` takes most of the time a small cluster needs to come up, and a test run makes hundreds. With
//! `HERDSMAN_SANDBOX_TEMPLATES` naming a folder of ours, it runs once for each version; each copy gets a system identifier
//! of its own, in the two places where PostgreSQL looks for it.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    SandboxError,
    account::{self, Account},
    copying,
    postgres::PgBinaries,
};

/// Names the folder of the templates. Unset: every cluster is made by `initdb`.
const FOLDER: &str = "HERDSMAN_SANDBOX_TEMPLATES";
/// Goes up whenever a template is made otherwise than before, so that older ones are not used.
const FORMAT: u32 = 1;
/// Beside the template's data: what its superuser logs in with.
const PASSWORD: &str = "password";
const DATA: &str = "data";
/// The first segment a new cluster writes. Its first page says whose it is.
const FIRST_SEGMENT: &str = "pg_wal/000000010000000000000001";
const CONTROL: &str = "global/pg_control";
/// Where the long header of a segment's first page holds the system identifier.
const IDENTIFIER_IN_SEGMENT: std::ops::Range<usize> = 24..32;

/// The template of one version.
#[derive(Clone, Debug)]
pub(crate) struct Template(PathBuf);

impl Template {
    /// Where the template of these binaries is kept, or is to be; `None` where nobody asked for templates.
    pub(crate) fn wanted(binaries: &PgBinaries) -> Option<Self> {
        let folder = std::env::var_os(FOLDER).filter(|folder| !folder.is_empty())?;
        Some(Self(PathBuf::from(folder).join(format!("{}-{FORMAT}", binaries.version))))
    }

    /// Makes a new cluster of it, and returns its superuser's password; `None` where there is no template yet.
    pub(crate) fn copy_to(
        &self,
        data: &Path,
        account: Account,
    ) -> Result<Option<String>, SandboxError> {
        let password = self.0.join(PASSWORD);
        let password = match fs::read_to_string(&password) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(SandboxError::file("read", password))?,
        };
        account.create_dir(data)?;
        copying::copy_tree(&self.0.join(DATA), data, account, &mut |_| true)?;
        make_its_own(data)?;
        Ok(Some(password))
    }

    /// Keeps a cluster that was just made and never started. Whoever comes first wins.
    pub(crate) fn keep(&self, data: &Path, password: &str) -> Result<(), SandboxError> {
        let mut staged = OsString::from(&self.0);
        staged.push(format!(".new-{}", account::random_password()?));
        let staged = PathBuf::from(staged);
        let kept = self.stage(&staged, data, password);
        if staged.exists() {
            fs::remove_dir_all(&staged).map_err(SandboxError::file("remove", &staged))?;
        }
        kept
    }

    fn stage(&self, staged: &Path, data: &Path, password: &str) -> Result<(), SandboxError> {
        // It is ours, not the servers' account's: nobody runs it.
        let to = staged.join(DATA);
        Account::Own.create_dir(&to)?;
        copying::copy_tree(data, &to, Account::Own, &mut |_| true)?;
        account::write_private(&staged.join(PASSWORD), password.as_bytes())?;
        match fs::rename(staged, &self.0) {
            Err(error) if !self.0.join(PASSWORD).exists() => {
                Err(SandboxError::file("keep", &self.0)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Gives a copied cluster a system identifier of its own.
fn make_its_own(data: &Path) -> Result<(), SandboxError> {
    let identifier = account::random_identifier()?;
    let unknown = |path: &Path| {
        let why = io::Error::new(io::ErrorKind::InvalidData, "it is not as PostgreSQL writes it");
        SandboxError::file("give an identifier to", path)(why)
    };
    let (control, segment) = (data.join(CONTROL), data.join(FIRST_SEGMENT));
    let mut bytes = fs::read(&control).map_err(SandboxError::file("read", &control))?;
    let old = identify_control(&mut bytes, identifier).ok_or_else(|| unknown(&control))?;
    fs::write(&control, &bytes).map_err(SandboxError::file("write", &control))?;
    let mut bytes = fs::read(&segment).map_err(SandboxError::file("read", &segment))?;
    let place = bytes.get_mut(IDENTIFIER_IN_SEGMENT).filter(|held| **held == old);
    place.ok_or_else(|| unknown(&segment))?.copy_from_slice(&identifier);
    fs::write(&segment, &bytes).map_err(SandboxError::file("write", &segment))
}

/// Replaces the identifier in a control file and returns the old one. The file starts with it; the checksum follows the
/// last field, where versions differ, so it is looked for.
fn identify_control(control: &mut [u8], identifier: [u8; 8]) -> Option<[u8; 8]> {
    const SHORTEST: usize = 200;
    let end = (SHORTEST..control.len().saturating_sub(4)).step_by(4).find(|end| {
        let (fields, rest) = control.split_at(*end);
        rest.first_chunk() == Some(&crc32c(fields).to_ne_bytes())
    })?;
    let (fields, rest) = control.split_at_mut(end);
    let first = fields.first_chunk_mut::<8>()?;
    let old = std::mem::replace(first, identifier);
    *rest.first_chunk_mut()? = crc32c(fields).to_ne_bytes();
    Some(old)
}

/// The checksum PostgreSQL uses (CRC-32C), bit by bit: it is for some hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_control_file_gets_the_new_identifier_and_a_checksum_that_fits() {
        let mut control: Vec<u8> = (0_u8..=255).cycle().take(288).collect();
        let old = *control.first_chunk::<8>().unwrap();
        control.extend(crc32c(&control).to_ne_bytes());
        control.resize(8192, 0);
        assert_eq!(identify_control(&mut control, *b"new name"), Some(old));
        assert_eq!(identify_control(&mut control, *b"a second"), Some(*b"new name"));
        control[100] ^= 1;
        assert_eq!(identify_control(&mut control, *b"a third "), None, "it was damaged");
    }
}
