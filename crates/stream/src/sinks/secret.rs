//! Where a value that is never shown comes from.

use std::io::Read;
use std::path::{Path, PathBuf};

pub use herdsman_config::Secret;

/// Where a secret comes from; at most one of these is given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources<'a> {
    pub(crate) value: Option<&'a Secret>,
    pub(crate) environment: Option<&'a str>,
    pub(crate) file: Option<&'a PathBuf>,
    /// A program and its arguments.
    pub(crate) command: Option<&'a str>,
}

/// Longest secret taken from a file.
const LONGEST: u64 = 4096;

impl Sources<'_> {
    /// Takes the secret from where it is, now.
    ///
    /// # Errors
    /// What is wrong with the source; never the secret.
    pub(crate) fn read(&self) -> Result<Option<Secret>, String> {
        let found = match (self.value, self.environment, self.file, self.command) {
            (None, None, None, None) => return Ok(None),
            (Some(value), None, None, None) => value.clone(),
            (None, Some(variable), None, None) => {
                Secret::from(std::env::var(variable).map_err(|_| {
                    format!("the variable `{variable}` is not set, or is not UTF-8")
                })?)
            }
            (None, None, Some(file), None) => first_line(file)?,
            (None, None, None, Some(command)) => {
                Secret::from(herdsman_config::of_command(command, "secret")?)
            }
            _ => {
                return Err("the secret is given more than once, expected one of `secret`, \
                            `secret_env`, `secret_file` and `secret_command`"
                    .to_owned());
            }
        };
        if found.expose().is_empty() {
            Err("the secret is empty".to_owned())
        } else {
            Ok(Some(found))
        }
    }
}

fn first_line(path: &Path) -> Result<Secret, String> {
    let place = format!("the secret's file `{}`", path.display());
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text))
        .map_err(|error| format!("{place} cannot be read: {error}"))?;
    if text.len() as u64 > LONGEST {
        return Err(format!("{place} is longer than {LONGEST} bytes"));
    }
    Ok(Secret::from(text.lines().next().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_taken_from_one_place_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "hunter2\nnot this\n").unwrap();
        let value = Secret::from("hunter2".to_owned());
        for sources in [
            Sources { value: Some(&value), ..Sources::default() },
            Sources { file: Some(&file), ..Sources::default() },
            Sources { command: Some("printf hunter2"), ..Sources::default() },
        ] {
            assert_eq!(sources.read().unwrap().unwrap().expose(), "hunter2");
            assert!(sources.command.is_some() || !format!("{sources:?}").contains("hunter2"));
        }
        assert_eq!(Sources::default().read().unwrap(), None);
        let twice = Sources { value: Some(&value), file: Some(&file), ..Sources::default() };
        assert!(twice.read().unwrap_err().contains("more than once"));
        let unset =
            Sources { environment: Some("HERDSMAN_NO_SUCH_VARIABLE"), ..Sources::default() };
        assert!(unset.read().unwrap_err().contains("`HERDSMAN_NO_SUCH_VARIABLE` is not set"));
        std::fs::write(&file, "\n").unwrap();
        assert!(Sources { file: Some(&file), ..Sources::default() }.read().is_err());
    }
}
