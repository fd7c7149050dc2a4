//! Finding the configuration file and reading it within bounds.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{ConfigError, Problem};

/// Largest file read. A thousand nodes with certificates inline stay far below.
const MAX_BYTES: u64 = 1024 * 1024;

/// Where the configuration is looked for when no file is named, in this order.
pub(crate) const SEARCHED: [&str; 3] =
    ["herdsman.yml", "/etc/herdsman/herdsman.yml", "/etc/pgroute66/config.yaml"];

/// Variables that name the file; the first that is set wins.
pub(crate) const VARIABLES: [&str; 2] = ["HERDSMAN_CONFIG", "PGROUTE66CONFIG"];

/// Picks the file: the one named on the command line, else by a variable, else the first that exists.
///
/// A file that was named is taken whether it exists or not, so that a typing error is not covered up by another file.
pub(super) fn locate(
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
pub(super) fn read(path: &Path) -> Result<(String, bool), Problem> {
    let failed =
        |error: std::io::Error| Problem::of_file(path, format!("the file cannot be read: {error}"));
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(Problem::of_file(path, "this is a directory, expected a YAML file"));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Problem::of_file(
            path,
            "the file is larger than 1 MiB, expected a configuration file",
        ));
    }
    let text = String::from_utf8(bytes).map_err(|error| not_text(path, &error))?;
    let everybody = metadata.is_file() && metadata.permissions().mode() & 0o004 != 0;
    Ok((text, everybody))
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
