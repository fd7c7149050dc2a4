//! Programs that are measured beside ours where their path is given.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::error::BenchError;

/// To say a version.
const SAYS_WITHIN: Duration = Duration::from_secs(10);

/// A proxy that the bench can configure, besides PgBouncer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    PgCat,
    PgDog,
    Odyssey,
    PgDoorman,
}

impl Peer {
    pub(crate) const ALL: [Self; 4] = [Self::PgCat, Self::PgDog, Self::Odyssey, Self::PgDoorman];

    /// As it stands in the tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PgCat => "pgcat",
            Self::PgDog => "pgdog",
            Self::Odyssey => "odyssey",
            Self::PgDoorman => "pg_doorman",
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The path, if there is a program.
///
/// # Errors
/// There is no file, or none that may be run.
pub(crate) fn existing(
    name: &'static str,
    path: PathBuf,
    advice: &'static str,
) -> Result<PathBuf, BenchError> {
    let problem = match std::fs::metadata(&path) {
        Ok(found) if !found.is_file() => "is no file",
        Ok(found) if found.permissions().mode() & 0o111 == 0 => "may not be run",
        Ok(_) => return Ok(path),
        Err(_) => "is not there",
    };
    Err(BenchError::NoProgram { name, path: path.display().to_string(), problem, advice })
}

/// The first line of `--version`, such as `PgBouncer 1.18.0`.
///
/// # Errors
/// It cannot be run, takes too long, or says nothing.
pub(crate) async fn version(name: &'static str, program: &Path) -> Result<String, BenchError> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let failed = |problem: String, log: &[u8]| BenchError::Program {
        program: name.to_owned(),
        problem: format!("({}) {problem} when asked for its version", program.display()),
        log: String::from_utf8_lossy(log).trim().to_owned(),
    };
    let output = match timeout(SAYS_WITHIN, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(failed(format!("did not run ({error})"), &[])),
        Err(_) => return Err(failed(format!("was silent for {SAYS_WITHIN:?}"), &[])),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    match said.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) if output.status.success() => Ok(line.to_owned()),
        _ => Err(failed(format!("ended with {}", output.status), &output.stderr)),
    }
}

/// Whether this version of PgBouncer keeps prepared statements apart in transaction mode: since 1.21.
pub(crate) fn has_prepared_statements(version: &str) -> bool {
    let mut numbers = version.trim_start_matches("PgBouncer ").split('.').map(str::parse::<u32>);
    let (major, minor) = (numbers.next(), numbers.next());
    matches!((major, minor), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (1, 21))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_debian_package_has_no_prepared_statements_in_transaction_mode() {
        assert!(!has_prepared_statements("PgBouncer 1.18.0"));
        assert!(has_prepared_statements("PgBouncer 1.21.0"));
        assert!(has_prepared_statements("PgBouncer 1.25.2"));
        assert!(!has_prepared_statements("something else"));
    }

    #[test]
    fn what_is_no_program_is_said_with_the_contestants_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pgcat");
        let said = |path: &Path| {
            existing("pgcat", path.to_owned(), "name it with --pgcat").unwrap_err().to_string()
        };
        assert!(said(&file).contains("is not there"), "{}", said(&file));
        assert!(said(folder.path()).contains("is no file"));
        std::fs::write(&file, "").unwrap();
        assert!(said(&file).starts_with("pgcat"), "{}", said(&file));
        assert!(said(&file).contains("may not be run"));
    }

    #[tokio::test]
    async fn a_program_that_says_no_version_is_refused_with_what_it_said() {
        let error = version("odyssey", Path::new("/bin/false")).await.unwrap_err().to_string();
        assert!(error.contains("odyssey") && error.contains("version"), "{error}");
        // Of all programs, this one says nothing.
        assert!(version("odyssey", Path::new("/usr/bin/test")).await.is_err());
    }
}
