//! `api.tokens`, `api.certificates` and `api.client`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use herdsman_config::{Reading, Secret, quoted};
use serde::Deserialize;

use super::Scope;
use crate::ApiConfig;

/// A token that opens the API: an entry of `api.tokens`.
///
/// Of the keys about the token only `token` counts; [`ApiConfig::read`] puts there what the others lead to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// Whose it is, as it is called in the log.
    pub name: String,
    /// What it may be used for.
    pub scope: Scope,
    /// The token: `Authorization: Bearer TOKEN`. 8 or more letters, digits and signs.
    #[serde(default)]
    pub token: Option<Secret>,
    /// File whose first line is the token, instead of `token`.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Variable that holds the token, instead of `token`.
    #[serde(default)]
    pub token_env: Option<String>,
    /// Program and arguments that print the token, instead of `token`.
    #[serde(default)]
    pub token_command: Option<String>,
}

/// A client's certificate that opens the API: an entry of `api.certificates`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateConfig {
    /// The common name of its subject, or one of its alternative names: a host name, mail address, URI or IP address.
    pub name: String,
    /// What it may be used for.
    pub scope: Scope,
}

/// The certificate that the commands of this program show to the API: `api.client`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// PEM file with the certificate, and those between it and its authority.
    pub cert: PathBuf,
    /// PEM file with its key.
    pub key: PathBuf,
}

/// More than these are a list of people, which belongs into a proxy.
const MOST: usize = 100;
/// Names stand in every line of the log that is about them.
const LONGEST_NAME: usize = 64;
/// URIs are longer than what people are called.
const LONGEST_SUBJECT: usize = 255;

impl ApiConfig {
    /// Looks up the tokens, so that `token` of each holds it afterwards, and notes in `reading` what is wrong.
    pub(crate) fn resolve_access(&mut self, reading: &mut Reading<'_>) {
        for (key, length) in
            [("tokens", self.tokens.len()), ("certificates", self.certificates.len())]
        {
            if length > MOST {
                let message = format!("`api.{key}` has {length} entries, expected at most {MOST}");
                reading.problem_at(&["api", key], message);
            }
        }
        self.resolve_tokens(reading);
        let mut seen = BTreeMap::new();
        for (number, certificate) in (1..).zip(&self.certificates) {
            let place = Place { list: "certificates", number, longest: LONGEST_SUBJECT };
            place.expect_name(reading, &certificate.name, &mut seen);
        }
    }

    fn resolve_tokens(&mut self, reading: &mut Reading<'_>) {
        let mut seen = BTreeMap::new();
        let mut earlier: Vec<(String, Secret)> = Vec::new();
        for (number, entry) in (1..).zip(&mut self.tokens) {
            let place = Place { list: "tokens", number, longest: LONGEST_NAME };
            place.expect_name(reading, &entry.name, &mut seen);
            let keys = [
                ("token", entry.token.take().map(|secret| secret.expose().to_owned())),
                ("token_file", entry.token_file.take().map(|file| file.display().to_string())),
                ("token_env", entry.token_env.take()),
                ("token_command", entry.token_command.take()),
            ];
            let given: Vec<_> =
                keys.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
            let index = number.to_string();
            let path = ["api", "tokens", index.as_str()];
            if given.is_empty() {
                let message = format!(
                    "`{}` has no token, expected one of `token`, `token_file`, `token_env` and `token_command`",
                    path.join(".")
                );
                reading.problem_at(&path, message);
            }
            entry.token = reading.token(&path, &given).map(Secret::from);
            let Some(token) = &entry.token else { continue };
            // Which of the two would be in the log?
            if let Some((other, _)) = earlier.iter().find(|(_, earlier)| earlier == token) {
                let message = format!(
                    "`{}` has the token of {}, expected one of its own",
                    path.join("."),
                    quoted(other)
                );
                reading.problem_at(&path, message);
            }
            earlier.push((entry.name.clone(), token.clone()));
        }
    }
}

/// An entry of a list.
struct Place {
    list: &'static str,
    number: usize,
    longest: usize,
}

impl Place {
    fn expect_name(
        &self,
        reading: &mut Reading<'_>,
        name: &str,
        seen: &mut BTreeMap<String, usize>,
    ) {
        let number = self.number.to_string();
        let path = ["api", self.list, number.as_str(), "name"];
        let fits = |c: char| !c.is_control() && !c.is_whitespace();
        if name.is_empty() || name.len() > self.longest || !name.chars().all(fits) {
            let message = format!(
                "`{}` is {}, expected 1 to {} signs without blanks",
                path.join("."),
                quoted(name),
                self.longest
            );
            reading.problem_at(&path, message);
        } else if let Some(first) = seen.insert(name.to_owned(), self.number) {
            let message = format!(
                "`{}` is {}, as entry {first} of the list is already, expected each name once",
                path.join("."),
                quoted(name)
            );
            reading.problem_at(&path, message);
        }
    }
}
