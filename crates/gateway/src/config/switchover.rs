//! How a switchover is carried out.

use std::time::Duration;

use serde::Deserialize;

use super::read;

/// Commands per node that carry out a switchover: a program and its arguments, without a shell.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwitchoverConfig {
    /// Makes the old primary stop being one; `{node}`, `{host}`, `{port}`, `{new}` are filled in as arguments.
    pub demote: Vec<String>,
    /// Makes the standby primary. Empty: `pg_promote()` over the watcher's login.
    pub promote: Vec<String>,
    /// Makes another standby, or the old primary, follow the new one. Empty: nothing is run.
    pub follow: Vec<String>,
    /// How long running transactions may take to end. Default 10 s.
    #[serde(deserialize_with = "read::wait")]
    pub drain: Duration,
    /// How long each command may take. Default 60 s.
    #[serde(deserialize_with = "read::timeout")]
    pub command_timeout: Duration,
}

/// What stands for something else in a command.
pub(super) const PLACEHOLDERS: [&str; 4] = ["{node}", "{host}", "{port}", "{new}"];

impl Default for SwitchoverConfig {
    fn default() -> Self {
        Self {
            demote: Vec::new(),
            promote: Vec::new(),
            follow: Vec::new(),
            // As long as clients wait by default: a longer wait would fail them.
            drain: Duration::from_secs(10),
            // A server that is shut down writes a checkpoint first.
            command_timeout: Duration::from_secs(60),
        }
    }
}
