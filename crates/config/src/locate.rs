//! Finding the configuration file and reading it within bounds.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::{Problem, yaml};

/// Largest file read. A thousand nodes with certificates inline stay far below.
const MAX_BYTES: u64 = 1024 * 1024;

/// A configuration file as it was found. It may hold secrets: there is no way to print it.
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
    /// Whether every user of this machine may read it.
    pub everybody: bool,
}

/// There is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No file was named and none is in the usual places.
    #[error("no configuration file was found; looked at {}; name one with `-c FILE`", looked())]
    NotFound,
    /// The file has problems; each says where and what.
    #[error("{}", list(.0))]
    Problems(Vec<Problem>),
}

/// Where the configuration is looked for when no file is named, in this order.
pub const SEARCHED: [&str; 3] =
    ["herdsman.yml", "/etc/herdsman/herdsman.yml", "/etc/pgroute66/config.yaml"];

/// Variables that name the file; the first that is set wins.
pub const VARIABLES: [&str; 2] = ["HERDSMAN_CONFIG", "PGROUTE66CONFIG"];

impl File {
    /// Finds the file (`named`, else by [`VARIABLES`], else the first of [`SEARCHED`] that exists) and reads it.
    ///
    /// # Errors
    /// [`ConfigError`] when there is none, or it cannot be read.
    pub fn load(named: Option<&Path>) -> Result<Self, ConfigError> {
        let path = locate(named, |name| std::env::var_os(name), Path::exists)?;
        let (text, everybody) =
            read(&path).map_err(|problem| ConfigError::Problems(vec![problem]))?;
        Ok(Self { path, text, everybody })
    }
}

/// Picks the file: the one named on the command line, else by a variable, else the first that exists.
///
/// A file that was named is taken whether it exists or not, so that a typing error is not covered up by another file.
fn locate(
    named: Option<&Path>,
    variable: impl Fn(&str) -> Option<OsString>,
    exists: impl Fn(&Path) -> bool,
) -> Result<PathBuf, ConfigError> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let set = VARIABLES.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
    if let Some(path) = set {
        return Ok(path.into());
    }
    SEARCHED.iter().map(PathBuf::from).find(|path| exists(path)).ok_or(ConfigError::NotFound)
}

/// The file's text, and whether everybody on this machine may read it.
fn read(path: &Path) -> Result<(String, bool), Problem> {
    let failed =
        |error: std::io::Error| Problem::of_file(path, format!("the file cannot be read: {error}"));
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(Problem::of_file(path, "this is a directory, expected a YAML file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Problem::of_file(
            path,
            "the file is larger than 1 MiB, expected a configuration file",
        ));
    }
    let text = String::from_utf8(bytes).map_err(|error| not_text(path, &error))?;
    Ok((text, metadata.is_file() && is_open_to_all(&metadata)))
}

#[cfg(unix)]
fn is_open_to_all(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o004 != 0
}

#[cfg(not(unix))]
fn is_open_to_all(_: &fs::Metadata) -> bool {
    false
}

fn looked() -> String {
    let variables = VARIABLES.iter().map(|name| format!("${name}"));
    yaml::and(&variables.chain(SEARCHED.iter().map(|&path| path.to_owned())).collect::<Vec<_>>())
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn not_text(path: &Path, error: &std::string::FromUtf8Error) -> Problem {
    let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
    let line = good.iter().filter(|&&byte| byte == b'\n').count() + 1;
    Problem::of_file(path, format!("line {line} is not UTF-8 text, expected a YAML file in UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(named: Option<&str>, variables: &[(&str, &str)], files: &[&str], expected: &str) {
        let found = locate(
            named.map(Path::new),
            |name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into()),
            |path| files.iter().any(|file| Path::new(file) == path),
        );
        assert_eq!(found.map_or_else(|e| e.to_string(), |p| p.display().to_string()), expected);
    }

    #[test]
    fn the_search_order_is_argument_then_variables_then_usual_places() {
        let all = ["herdsman.yml", "/etc/herdsman/herdsman.yml", "/etc/pgroute66/config.yaml"];
        let both = [("HERDSMAN_CONFIG", "h"), ("PGROUTE66CONFIG", "p")];
        check(Some("x"), &both, &all, "x");
        check(None, &both, &all, "h");
        check(None, &[("HERDSMAN_CONFIG", ""), ("PGROUTE66CONFIG", "p")], &all, "p");
        check(None, &[], &all, "herdsman.yml");
        check(None, &[], &all[1..], "/etc/herdsman/herdsman.yml");
        check(None, &[], &all[2..], "/etc/pgroute66/config.yaml");
        check(
            None,
            &[],
            &[],
            "no configuration file was found; looked at $HERDSMAN_CONFIG, $PGROUTE66CONFIG, herdsman.yml, /etc/herdsman/herdsman.yml and /etc/pgroute66/config.yaml; name one with `-c FILE`",
        );
    }
}
