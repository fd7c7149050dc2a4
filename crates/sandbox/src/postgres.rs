//! Finding PostgreSQL server binaries on this machine.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{SandboxError, account};

/// The oldest major version the sandbox can drive (`pg_backup_start` came with it).
pub const OLDEST_MAJOR: u32 = 15;

/// The server binaries of one installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgBinaries {
    /// The folder that holds them.
    pub bin_dir: PathBuf,
    /// Major version, such as 15.
    pub major: u32,
    /// Full version, such as "15.20".
    pub version: String,
    /// Creates a cluster.
    pub initdb: PathBuf,
    /// The server.
    pub postgres: PathBuf,
    /// Copies a cluster; some packages leave it out, the sandbox then copies by itself.
    pub pg_basebackup: Option<PathBuf>,
    /// Turns a diverged primary into a standby; some packages leave it out, the sandbox then copies anew.
    pub pg_rewind: Option<PathBuf>,
}

/// Where to look and for what.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Look here and nowhere else.
    pub only: Option<PathBuf>,
    /// Take this major version only; any supported one else.
    pub major: Option<u32>,
    /// Folders to look into, best first, when `only` is not set.
    pub folders: Vec<PathBuf>,
}

/// Finds server binaries of the given major version, or the first of any version.
///
/// Looked into, in this order: `HERDSMAN_PG_BIN`, `pg_config --bindir`, the usual folders of the distributions (newest
/// version first), the cache of `scripts/fetch-postgres`, `PATH`.
///
/// # Errors
/// [`SandboxError::NoBinaries`] naming every folder searched and what to do.
pub fn find(major: Option<u32>) -> Result<PgBinaries, SandboxError> {
    Search { only: None, major, folders: usual_folders() }.run()
}

/// Finds server binaries in one folder and nowhere else.
///
/// # Errors
/// [`SandboxError::NoBinaries`] when they are missing there or of another major version.
pub fn find_in(folder: impl Into<PathBuf>, major: Option<u32>) -> Result<PgBinaries, SandboxError> {
    Search { only: Some(folder.into()), major, folders: Vec::new() }.run()
}

/// Every supported major version that [`find`] would find.
#[must_use]
pub fn available_majors() -> BTreeSet<u32> {
    usual_folders()
        .iter()
        .filter_map(|folder| inspect(folder).ok())
        .map(|found| found.major)
        .collect()
}

/// The folder into which `scripts/fetch-postgres` unpacks, one folder per major version below it.
#[must_use]
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(chosen) = set("HERDSMAN_PG_CACHE") {
        return Some(chosen);
    }
    if rustix::process::geteuid().is_root() {
        // Servers then run as another user, to whom /root is closed.
        return Some(PathBuf::from("/var/cache/herdsman/postgresql"));
    }
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    Some(cache.join("herdsman/postgresql"))
}

impl Search {
    /// Searches.
    ///
    /// # Errors
    /// [`SandboxError::NoBinaries`] naming every folder searched and what to do.
    pub fn run(&self) -> Result<PgBinaries, SandboxError> {
        let folders = self.only.as_ref().map_or(self.folders.as_slice(), std::slice::from_ref);
        let mut searched = Vec::new();
        for folder in folders {
            match inspect(folder) {
                Ok(found) if self.major.is_none_or(|wanted| wanted == found.major) => {
                    return Ok(found);
                }
                Ok(found) => searched.push(format!("{} (is {})", folder.display(), found.major)),
                Err(Unusable::Absent) => searched.push(folder.display().to_string()),
                Err(Unusable::Because(reason)) => {
                    searched.push(format!("{} ({reason})", folder.display()));
                }
            }
        }
        let wanted = self.major.map(|major| format!("{major} ")).unwrap_or_default();
        Err(SandboxError::NoBinaries { wanted, searched, advice: advice(self.major) })
    }
}

fn advice(major: Option<u32>) -> String {
    let (package, fetch) = match major {
        Some(major) if major < OLDEST_MAJOR => {
            return format!("the sandbox needs PostgreSQL {OLDEST_MAJOR} or newer");
        }
        Some(major) => (format!("postgresql-{major}"), format!("scripts/fetch-postgres {major}")),
        None => ("postgresql".to_owned(), "scripts/fetch-postgres".to_owned()),
    };
    format!(
        "install them (Debian: apt-get install {package}), run {fetch}, or name their folder in HERDSMAN_PG_BIN or with --pg-bin"
    )
}

/// Why a folder does not serve.
enum Unusable {
    /// It has no server binaries.
    Absent,
    /// It has, but: in a few words.
    Because(String),
}

fn inspect(folder: &Path) -> Result<PgBinaries, Unusable> {
    let because = Unusable::Because;
    let postgres = folder.join("postgres");
    let initdb = folder.join("initdb");
    if !postgres.is_file() || !initdb.is_file() {
        return Err(Unusable::Absent);
    }
    if rustix::process::geteuid().is_root()
        && let Some(closed) = account::closed_to_others(folder)
    {
        let closed = closed.display();
        return Err(because(format!(
            "out of reach for the servers' user: {closed} is closed to others"
        )));
    }
    let output = Command::new(&postgres)
        .arg("--version")
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| because(format!("does not run: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (version, major) =
        parse_version(&text).ok_or_else(|| because("does not tell its version".to_owned()))?;
    if major < OLDEST_MAJOR {
        return Err(because(format!("is {major}, too old")));
    }
    let optional = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
    Ok(PgBinaries {
        bin_dir: folder.to_path_buf(),
        major,
        version,
        initdb,
        postgres,
        pg_basebackup: optional("pg_basebackup"),
        pg_rewind: optional("pg_rewind"),
    })
}

/// "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)" → ("15.20", 15).
fn parse_version(text: &str) -> Option<(String, u32)> {
    let version = text.split_once("(PostgreSQL)")?.1.split_whitespace().next()?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((version.to_owned(), digits.parse().ok()?))
}

fn usual_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    folders.extend(
        env::var_os("HERDSMAN_PG_BIN").filter(|value| !value.is_empty()).map(PathBuf::from),
    );
    folders.extend(pg_config_folder());
    folders.extend(versioned("/usr/lib/postgresql", "", "bin"));
    folders.extend(versioned("/usr", "pgsql-", "bin"));
    folders.push(PathBuf::from("/usr/local/pgsql/bin"));
    for brew in ["/opt/homebrew/opt", "/usr/local/opt", "/home/linuxbrew/.linuxbrew/opt"] {
        folders.extend(versioned(brew, "postgresql@", "bin"));
    }
    folders.extend(cache_folder().into_iter().flat_map(|cache| versioned(cache, "", "bin")));
    folders.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
    let mut seen = BTreeSet::new();
    folders.retain(|folder| seen.insert(folder.clone()));
    folders
}

fn pg_config_folder() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(folder.trim())).filter(|folder| folder.is_absolute())
}

/// `parent/<prefix><number>/<tail>` for every number there is, the highest first.
fn versioned(parent: impl AsRef<Path>, prefix: &str, tail: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent.as_ref()) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((number, entry.path().join(tail)))
        })
        .collect();
    found.sort_unstable_by(|left, right| right.cmp(left));
    found.into_iter().map(|(_, folder)| folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_distributions_and_of_the_project_are_read() {
        let debian = "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n";
        assert_eq!(parse_version(debian), Some(("15.20".to_owned(), 15)));
        assert_eq!(parse_version("postgres (PostgreSQL) 18.4"), Some(("18.4".to_owned(), 18)));
        assert_eq!(
            parse_version("postgres (PostgreSQL) 19devel"),
            Some(("19devel".to_owned(), 19))
        );
        assert_eq!(parse_version("segmentation fault"), None);
    }

    #[test]
    fn an_error_names_every_folder_searched_and_what_to_do() {
        let folders = vec![PathBuf::from("/nonexistent/one"), PathBuf::from("/nonexistent/two")];
        let error = Search { only: None, major: Some(17), folders }.run().unwrap_err().one_line();
        for part in [
            "PostgreSQL 17 server",
            "/nonexistent/one",
            "/nonexistent/two",
            "postgresql-17",
            "scripts/fetch-postgres 17",
        ] {
            assert!(error.contains(part), "{part:?} is missing in {error:?}");
        }
    }

    #[test]
    fn a_major_too_old_is_told_so_rather_than_to_be_installed() {
        let error = find_in("/nonexistent", Some(9)).unwrap_err().one_line();
        assert!(error.contains("needs PostgreSQL 15 or newer"), "{error}");
    }
}
