//! Finding Java and Kafka's jars on this machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use super::NAME;
use crate::SandboxError;

/// What `scripts/fetch-kafka` fetches.
const VERSION: &str = "4.1.1";
/// The jar that holds the broker; the rest is what it needs.
const BROKER_JAR: &str = "kafka_2.13-";

/// What it takes to run Kafka.
#[derive(Clone, Debug)]
pub(super) struct Jars {
    /// The Java machine.
    pub(super) java: PathBuf,
    /// The folder of the jars.
    pub(super) folder: PathBuf,
}

/// Looks into `HERDSMAN_KAFKA_HOME`, else into the cache of `scripts/fetch-kafka`, and nowhere else: another version of
/// Kafka on this machine is somebody else's.
pub(super) fn find() -> Result<Jars, SandboxError> {
    let home = home().ok_or_else(|| {
        SandboxError::not_now(NAME, "nowhere to look for its jars: set HERDSMAN_KAFKA_HOME or HOME")
    })?;
    find_in(&home)
}

fn find_in(home: &Path) -> Result<Jars, SandboxError> {
    // Kafka's own archive calls the folder `libs`.
    let folder = ["lib", "libs"].map(|name| home.join(name)).into_iter().find(|it| is_kafka(it));
    let folder = folder.ok_or_else(|| {
        SandboxError::not_now(
            NAME,
            format!("no jars of Kafka in {}; run `scripts/fetch-kafka`", home.display()),
        )
    })?;
    Ok(Jars { java: java()?, folder })
}

fn set(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn home() -> Option<PathBuf> {
    if let Some(chosen) = set("HERDSMAN_KAFKA_HOME") {
        return Some(chosen);
    }
    let cache = if rustix::process::geteuid().is_root() {
        PathBuf::from("/var/cache")
    } else {
        set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?
    };
    Some(cache.join("herdsman/kafka").join(VERSION))
}

fn is_kafka(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            entry.file_name().to_str().is_some_and(|name| name.starts_with(BROKER_JAR))
        })
    })
}

fn java() -> Result<PathBuf, SandboxError> {
    let chosen = set("JAVA_HOME").map(|home| home.join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    chosen
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|folder| folder.join("java"))
        .find(|java| java.is_file())
        .ok_or_else(|| {
            SandboxError::not_now(
                NAME,
                "Kafka runs on Java 17 or newer, and there is none in JAVA_HOME or PATH; install it (Debian: apt-get install default-jre-headless)",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_cache_names_the_folder_and_what_to_run() {
        let error = find_in(Path::new("/nonexistent/kafka")).unwrap_err().one_line();
        assert!(error.contains("/nonexistent/kafka"), "{error}");
        assert!(error.contains("run `scripts/fetch-kafka`"), "{error}");
    }
}
