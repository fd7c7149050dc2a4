//! What a verb logs in with, where that is not what `hosts` says, which is the monitoring user.

use std::collections::BTreeMap;
use std::path::PathBuf;

use herdsman_node::{Conninfo, NodeName, Tls};
use secrecy::SecretString;
use serde::Deserialize;

use crate::hosts::Host;
use crate::reading::{Depth, Reading};
use crate::secret::Secret;

/// What a verb logs in with, where it differs from what `hosts` says, which is the monitoring user.
///
/// Printing it never shows the password.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoginConfig {
    /// Role to log in as; to read the log it needs the attribute `REPLICATION`. The node's when left out.
    pub user: Option<String>,
    /// The database. The node's when left out.
    pub dbname: Option<String>,
    /// File with the client certificate. The node's when left out.
    pub sslcert: Option<PathBuf>,
    /// File with its key. The node's when left out.
    pub sslkey: Option<PathBuf>,
    /// The password. When left out: the node's where `user` is the same, else what `PGPASSWORD` or the password file has.
    pub password: Option<Secret>,
    /// The password in base64, instead of `password`.
    pub b64password: Option<Secret>,
    /// File whose first line is the password, instead of `password`.
    pub password_file: Option<PathBuf>,
    /// Variable that holds the password, instead of `password`.
    pub password_env: Option<String>,
    /// Program and arguments that print the password, instead of `password`.
    pub password_command: Option<String>,
    /// `plain` or `base64`: how the password is written, wherever it comes from.
    pub password_encoding: Option<String>,
}

impl LoginConfig {
    /// How a node is reached with it. Of the keys about passwords only `password` counts; [`LoginConfig::resolve`] puts
    /// there what the others lead to.
    #[must_use]
    pub fn apply(&self, node: &Conninfo) -> Conninfo {
        let password = self.password.as_ref().map(|secret| SecretString::from(secret.expose()));
        let mut login = node.for_login(self.user.as_deref(), password, self.dbname.as_deref());
        login.sslcert = self.sslcert.clone().or(login.sslcert);
        login.sslkey = self.sslkey.clone().or(login.sslkey);
        login
    }

    /// Looks up where the password is, so that `password` holds it afterwards, and tries the certificate. `path` is where
    /// this stands in the file; what is wrong is noted in `reading`.
    pub fn resolve(
        &mut self,
        reading: &mut Reading<'_>,
        path: &[&str],
        hosts: &BTreeMap<NodeName, Host>,
    ) {
        let file = self.password_file.take().map(|file| file.display().to_string());
        let keys = [
            ("password", self.password.take().map(|secret| secret.expose().to_owned())),
            ("b64password", self.b64password.take().map(|secret| secret.expose().to_owned())),
            ("password_file", file),
            ("password_env", self.password_env.take()),
            ("password_command", self.password_command.take()),
            ("password_encoding", self.password_encoding.take()),
        ];
        let given = keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        self.password = reading.password(path, &mut given.collect()).map(Secret::from);

        let certified = self.sslcert.is_some() || self.sslkey.is_some();
        if certified && reading.depth() == Depth::Full {
            let problem =
                hosts.values().find_map(|host| Tls::new(&self.apply(&host.conninfo)).err());
            if let Some(problem) = problem {
                let key = if self.sslcert.is_some() { "sslcert" } else { "sslkey" };
                let message = format!("`{}`: {problem}", path.join("."));
                reading.problem_at(&[path, &[key]].concat(), message);
            }
        }
    }
}
