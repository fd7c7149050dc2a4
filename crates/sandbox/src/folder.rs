//! The folder of a sandbox, which is all that has to go for the sandbox to be gone.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Once,
    time::Duration,
};

use crate::{
    SandboxError,
    account::{self, Account},
    process::ProcessId,
    server,
};

/// Names the process that answers for the sandbox. Also what marks a folder as a sandbox that may be removed.
const OWNER_FILE: &str = "owner";
/// Folders the test harness makes for itself.
const TEST_PREFIX: &str = "herdsman-test-";

/// Removes the folder and ends every server in it when dropped, unless it is released.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    released: bool,
}

impl Folder {
    /// Creates the folder: the one named, which must not exist yet or be empty, or a temporary one.
    pub(crate) fn create(wanted: Option<&Path>, account: Account) -> Result<Self, SandboxError> {
        let path = match wanted {
            Some(path) => {
                fs::create_dir_all(path).map_err(SandboxError::file("create", path))?;
                let mut entries = fs::read_dir(path).map_err(SandboxError::file("read", path))?;
                if entries
                    .any(|entry| entry.is_ok_and(|entry| !is_supervisor_file(&entry.file_name())))
                {
                    return Err(SandboxError::not_now(
                        path.display().to_string(),
                        "is not empty; choose another folder, or run `herdsman sandbox destroy` if it holds a sandbox",
                    ));
                }
                path.to_path_buf()
            }
            None => {
                let base = temporary_base(account);
                sweep_once(&base);
                let path = base.join(format!("{TEST_PREFIX}{:016x}", fastrand::u64(..)));
                fs::create_dir(&path).map_err(SandboxError::file("create", &path))?;
                path
            }
        };
        let path = fs::canonicalize(&path).map_err(SandboxError::file("find", &path))?;
        // Servers of another account must pass through, and need not list it.
        account::set_mode(&path, 0o711)?;
        let folder = Self { path, released: false };
        folder.take_ownership()?;
        if account != Account::Own
            && let Some(closed) = account::closed_to_others(&folder.path)
        {
            return Err(SandboxError::not_now(
                folder.path.display().to_string(),
                format!(
                    "is out of reach for the user the servers run as: {} is closed to others; choose another folder",
                    closed.display()
                ),
            ));
        }
        Ok(folder)
    }

    /// Takes over the folder of a sandbox whose owner is gone.
    pub(crate) fn take_over(path: &Path) -> Result<Self, SandboxError> {
        let path = fs::canonicalize(path).map_err(SandboxError::file("find", path))?;
        // Released at first: a failed attempt must not destroy what is there.
        let folder = Self { path, released: true };
        folder.take_ownership()?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the folder and its servers outlive this value.
    pub(crate) fn release(&mut self) {
        self.released = true;
    }

    pub(crate) fn is_released(&self) -> bool {
        self.released
    }

    fn take_ownership(&self) -> Result<(), SandboxError> {
        let ours = i32::try_from(std::process::id()).ok().and_then(ProcessId::running);
        let text = serde_json::to_vec(&ours).unwrap_or_default();
        account::write_private(&self.path.join(OWNER_FILE), &text)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.released
            && let Err(error) = destroy(&self.path, &[])
        {
            tracing::error!(error = error.one_line(), "the sandbox is not quite gone");
        }
    }
}

/// The folder `herdsman sandbox` uses when none is named.
#[must_use]
pub fn default_folder() -> PathBuf {
    std::env::temp_dir().join("herdsman-sandbox")
}

/// Whether a folder holds a sandbox, dead or alive.
#[must_use]
pub fn is_sandbox(path: &Path) -> bool {
    path.join(OWNER_FILE).is_file()
}

/// Whether the process that answers for the sandbox is alive.
pub(crate) fn owner(path: &Path) -> Option<ProcessId> {
    let text = fs::read(path.join(OWNER_FILE)).ok()?;
    serde_json::from_slice::<Option<ProcessId>>(&text).ok()?.filter(|owner| owner.is_alive())
}

/// Ends every server in the folder of a sandbox, and those processes known besides, and removes it.
pub(crate) fn destroy(path: &Path, known: &[ProcessId]) -> Result<(), SandboxError> {
    const ATTEMPTS: u32 = 50;
    if !is_sandbox(path) {
        return Err(SandboxError::not_now(path.display().to_string(), "holds no sandbox"));
    }
    let real = fs::canonicalize(path).map_err(SandboxError::file("find", path))?;
    let data_folders = data_folders(&real);
    for _ in 0..ATTEMPTS {
        server::end_all(&data_folders, known);
        // What marks the folder goes last, so that a removal cut short can be taken up again.
        let result = remove_contents(&real).and_then(|()| fs::remove_dir_all(&real));
        match result {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !real.exists() => break,
            // A tool that was still writing made a new file in a folder being removed.
            Err(error)
                if error.kind() == io::ErrorKind::DirectoryNotEmpty
                    || error.kind() == io::ErrorKind::NotFound =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(SandboxError::file("remove", &real)(error)),
        }
    }
    if real.exists() {
        return Err(SandboxError::not_now(
            real.display().to_string(),
            "could not be emptied; something keeps writing into it",
        ));
    }
    end_late_comers(&data_folders);
    Ok(())
}

/// A tool that was just being started when its starter was killed shows its own name and arguments a moment later.
fn end_late_comers(data_folders: &[PathBuf]) {
    const ROUNDS: u32 = 5;
    for _ in 0..ROUNDS {
        std::thread::sleep(Duration::from_millis(10));
        server::end_all(data_folders, &[]);
    }
}

fn remove_contents(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == OWNER_FILE {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn data_folders(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    // Also those that are not there yet: somebody may be about to make them.
    let folders = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    folders.map(|folder| folder.join("data")).collect()
}

/// The supervisor writes its log before there is a sandbox.
fn is_supervisor_file(name: &std::ffi::OsStr) -> bool {
    name == crate::supervisor::LOG_FILE
}

/// `TMPDIR`, unless it is closed to the account the servers run as.
fn temporary_base(account: Account) -> PathBuf {
    let own = std::env::temp_dir();
    if account == Account::Own || account::closed_to_others(&own).is_none() {
        return own;
    }
    let open = ["/tmp", "/var/tmp"]
        .map(PathBuf::from)
        .into_iter()
        .find(|folder| account::closed_to_others(folder).is_none());
    open.unwrap_or(own)
}

/// Removes what killed test runs left behind, once per process.
fn sweep_once(base: &Path) {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| {
        let Ok(entries) = fs::read_dir(base) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(TEST_PREFIX));
            if ours && is_sandbox(&path) && owner(&path).is_none() {
                match destroy(&path, &[]) {
                    Ok(()) => {
                        tracing::info!(path = %path.display(), "removed an abandoned sandbox");
                    }
                    Err(error) => {
                        tracing::debug!(error = error.one_line(), "an abandoned sandbox stays");
                    }
                }
            }
        }
    });
}
