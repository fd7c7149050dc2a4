//! The account servers run under, and files that belong to it.
//!
//! PostgreSQL refuses to run as root, so a sandbox started by root drops to `postgres`, else `nobody`.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::SandboxError;

/// Under which account server processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// As we are: we are no root.
    Own,
    /// We are root and drop to this user and group.
    Drop { uid: u32, gid: u32 },
}

impl Account {
    /// Chooses the account.
    ///
    /// # Errors
    /// We are root and the machine has neither `postgres` nor `nobody`.
    pub(crate) fn choose() -> Result<Self, SandboxError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Own);
        }
        let users =
            fs::read_to_string("/etc/passwd").map_err(SandboxError::file("read", "/etc/passwd"))?;
        unprivileged(&users).ok_or_else(|| {
            SandboxError::not_now("sandbox", "PostgreSQL refuses to run as root and this machine has neither a user postgres nor nobody; run as an ordinary user")
        })
    }

    /// Gives a file or folder to the account.
    pub(crate) fn give(self, path: &Path) -> Result<(), SandboxError> {
        match self {
            Self::Own => Ok(()),
            Self::Drop { uid, gid } => std::os::unix::fs::lchown(path, Some(uid), Some(gid))
                .map_err(SandboxError::file("change the owner of", path)),
        }
    }

    /// Creates a folder only the account may enter.
    pub(crate) fn create_dir(self, path: &Path) -> Result<(), SandboxError> {
        fs::create_dir_all(path).map_err(SandboxError::file("create", path))?;
        set_mode(path, 0o700)?;
        self.give(path)
    }

    /// Writes a file only the account may read, replacing what was there.
    pub(crate) fn write(self, path: &Path, contents: &str) -> Result<(), SandboxError> {
        write_private(path, contents.as_bytes())?;
        self.give(path)
    }

    /// Sets user and group of a command about to be spawned.
    pub(crate) fn apply(self, command: &mut std::process::Command) {
        use std::os::unix::process::CommandExt as _;
        if let Self::Drop { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
    }
}

/// Writes a file with mode 0600 in one rename: a reader sees the old or the new contents, never half of them.
pub(crate) fn write_private(path: &Path, contents: &[u8]) -> Result<(), SandboxError> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!(".new-{}", std::process::id()));
    let staged = PathBuf::from(staged);
    // A leftover of a crash must not lend the new file its mode.
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(SandboxError::file("replace", &staged)(error));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&staged)
        .map_err(SandboxError::file("create", &staged))?;
    file.write_all(contents).map_err(SandboxError::file("write", &staged))?;
    fs::rename(&staged, path).map_err(SandboxError::file("write", path))
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), SandboxError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(SandboxError::file("change the mode of", path))
}

/// A password of 144 random bits, in characters that need no quoting anywhere.
pub(crate) fn random_password() -> Result<String, SandboxError> {
    Ok(random::<18>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What tells one cluster from every other.
pub(crate) fn random_identifier() -> Result<[u8; 8], SandboxError> {
    let mut bytes = random()?;
    // PostgreSQL's own are times of this century: positive as signed numbers, which is how they are shown.
    if let Some(highest) = bytes.last_mut() {
        *highest = *highest & 0x3f | 0x40;
    }
    Ok(bytes)
}

fn random<const N: usize>() -> Result<[u8; N], SandboxError> {
    let mut bytes = [0_u8; N];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(SandboxError::file("read", "/dev/urandom"))?;
    Ok(bytes)
}

/// The first folder on the way to `path` that other users may not pass through, if any.
pub(crate) fn closed_to_others(path: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(path).ok()?;
    let mut way: Vec<&Path> = real.ancestors().collect();
    way.reverse();
    way.into_iter()
        .find(|folder| fs::metadata(folder).is_ok_and(|meta| meta.mode() & 0o001 == 0))
        .map(Path::to_path_buf)
}

fn unprivileged(passwd: &str) -> Option<Account> {
    let lookup = |wanted: &str| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == wanted).then_some(())?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(Account::Drop { uid, gid })
        })
    };
    lookup("postgres").or_else(|| lookup("nobody"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_is_preferred_to_nobody() {
        let passwd = "root:x:0:0::/:/bin/sh\nnobody:x:65534:65533::/:/bin/false\npostgres:x:101:104:PG,,,:/v:/bin/sh\n";
        assert_eq!(unprivileged(passwd), Some(Account::Drop { uid: 101, gid: 104 }));
        assert_eq!(
            unprivileged("root:x:0:0::/:/\nnobody:x:65534:65533::/:/\n"),
            Some(Account::Drop { uid: 65534, gid: 65533 })
        );
        assert_eq!(unprivileged("root:x:0:0::/:/\n"), None);
    }

    #[test]
    fn passwords_are_long_and_never_the_same() {
        let (one, two) = (random_password().unwrap(), random_password().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 36);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
