//! Servers whose clocks can be set wrong, one by one, while they run: under libfaketime, which reads from a file how far a
//! clock is off. What is measured (timeouts, pauses) is not affected.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{SandboxError, account::Account};

/// The file in a node's folder.
const FILE: &str = "clock";

/// What a server is started with to have a clock of its own.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    library: PathBuf,
}

impl Clock {
    /// Finds the library: the one that `HERDSMAN_LIBFAKETIME` names, else the distribution's.
    pub(crate) fn find() -> Result<Self, SandboxError> {
        let given = env::var_os("HERDSMAN_LIBFAKETIME").filter(|path| !path.is_empty());
        let usual = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].into_iter().flat_map(|folder| {
            let inner = fs::read_dir(folder).into_iter().flatten().flatten();
            let inner = inner.map(|entry| entry.path().join("faketime"));
            inner.chain([Path::new(folder).join("faketime")]).collect::<Vec<_>>()
        });
        let usual = usual.map(|folder| folder.join("libfaketime.so.1"));
        let found = given.map(PathBuf::from).into_iter().chain(usual).find(|path| path.is_file());
        let library = found.ok_or_else(|| {
            SandboxError::not_now(
                "sandbox",
                "needs libfaketime for clocks that are set wrong (Debian: apt-get install faketime), or HERDSMAN_LIBFAKETIME to name it",
            )
        })?;
        Ok(Self { library })
    }

    /// Has a server go by the clock in its node's folder.
    pub(crate) fn apply(&self, command: &mut Command, node: &Path) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", node.join(FILE))
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
    }
}

/// Sets the clock in a node's folder.
pub(crate) fn set(node: &Path, account: Account, seconds: i64) -> Result<(), SandboxError> {
    let (file, new) = (node.join(FILE), node.join("clock.new"));
    account.write(&new, &format!("{seconds:+}s\n"))?;
    // At once: the server reads it all the time.
    fs::rename(&new, &file).map_err(SandboxError::file("rename", &new))
}
