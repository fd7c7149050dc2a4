//! A value that is never shown.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use herdsman_node::environment;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// A value that is never printed.
///
/// ```
/// let secret = herdsman_config::Secret::from("hunter2".to_owned());
/// assert_eq!((format!("{secret:?}").as_str(), secret.expose()), ("***", "hunter2"));
/// ```
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// Where a secret comes from; at most one of these is given.
///
/// ```
/// use herdsman_config::{Secret, SecretSources};
/// let value = Secret::from("hunter2".to_owned());
/// let sources = SecretSources { key: "secret", value: Some(&value), environment: None, file: None, command: None };
/// assert_eq!(sources.read().unwrap().unwrap().expose(), "hunter2");
/// ```
#[derive(Clone, Debug)]
pub struct SecretSources<'a> {
    /// What the first key is called; the others are this with `_env`, `_file` and `_command` behind it.
    pub key: &'a str,
    /// The secret itself.
    pub value: Option<&'a Secret>,
    /// The variable that holds it.
    pub environment: Option<&'a str>,
    /// The file whose first line it is.
    pub file: Option<&'a PathBuf>,
    /// The program, with its arguments, that prints it.
    pub command: Option<&'a str>,
}

/// Longest secret taken from a file.
const LONGEST: u64 = 4096;

impl SecretSources<'_> {
    /// Takes the secret from where it is, now.
    ///
    /// # Errors
    /// What is wrong with the source; never the secret.
    pub fn read(&self) -> Result<Option<Secret>, String> {
        let found = match (self.value, self.environment, self.file, self.command) {
            (None, None, None, None) => return Ok(None),
            (Some(value), None, None, None) => value.clone(),
            (None, Some(variable), None, None) => {
                Secret::from(environment::secret(variable).map_err(|_| {
                    format!("the variable `{variable}` is not set, or is not UTF-8")
                })?)
            }
            (None, None, Some(file), None) => first_line(file)?,
            (None, None, None, Some(command)) => {
                Secret::from(crate::of_command(command, "secret")?)
            }
            _ => {
                let key = self.key;
                return Err(format!(
                    "the secret is given more than once, expected one of `{key}`, `{key}_env`, `{key}_file` and `{key}_command`"
                ));
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

    const NONE: SecretSources<'_> =
        SecretSources { key: "secret", value: None, environment: None, file: None, command: None };

    #[test]
    fn a_secret_is_taken_from_one_place_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "hunter2\nnot this\n").unwrap();
        let value = Secret::from("hunter2".to_owned());
        for sources in [
            SecretSources { value: Some(&value), ..NONE },
            SecretSources { file: Some(&file), ..NONE },
            SecretSources { command: Some("printf hunter2"), ..NONE },
        ] {
            assert_eq!(sources.read().unwrap().unwrap().expose(), "hunter2");
            assert!(sources.command.is_some() || !format!("{sources:?}").contains("hunter2"));
        }
        assert_eq!(NONE.read().unwrap(), None);
        let twice = SecretSources { value: Some(&value), file: Some(&file), ..NONE };
        assert!(twice.read().unwrap_err().contains("more than once"));
        let unset = SecretSources { environment: Some("HERDSMAN_NO_SUCH_VARIABLE"), ..NONE };
        assert!(unset.read().unwrap_err().contains("`HERDSMAN_NO_SUCH_VARIABLE` is not set"));
        std::fs::write(&file, "\n").unwrap();
        assert!(SecretSources { file: Some(&file), ..NONE }.read().is_err());
    }
}
