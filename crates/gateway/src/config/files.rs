//! The files that the section names.

use std::path::Path;

use herdsman_config::{Reading, quoted};

use super::{GatewayConfig, TlsConfig};
use crate::auth::{Users, UsersError, names_of_file};
use crate::listen::{Reception, TlsError};

impl GatewayConfig {
    /// The names of the users in a `userlist.txt`, as `auth_file` takes it, sorted.
    ///
    /// # Errors
    /// It cannot be read, or a line of it cannot. The message names file and line, and shows nothing of what stands there.
    pub fn users_of_file(path: &Path) -> Result<Vec<String>, String> {
        names_of_file(path).map_err(|error| error.to_string())
    }

    /// Reads every file once, so that what is missing is found before anything is started.
    pub(super) fn check_files(&self, reading: &mut Reading<'_>) {
        if let Some(folder) = &self.unix_socket_dir
            && !folder.is_dir()
        {
            let message = format!(
                "`gateway.unix_socket_dir`: {} is not a directory, expected one that exists",
                quoted(&folder.display().to_string())
            );
            reading.problem_at(&["gateway", "unix_socket_dir"], message);
        }
        let complete =
            |tls: &TlsConfig| [&tls.cert, &tls.key].iter().all(|f| !f.as_os_str().is_empty());
        if self.tls.as_ref().is_none_or(complete)
            && let Err(error) = Reception::new(self)
        {
            let field = match &error {
                TlsError::File { field, .. } => field,
                TlsError::Unusable(_) => "key",
            };
            reading.problem_at(&["gateway", "tls", field], error.to_string());
        }
        // Nobody is looked up at a server here.
        if let Err(error) = Users::new(self, Box::new(Vec::new)) {
            let path = match &error {
                UsersError::User { user, .. } => vec!["gateway", "users", user, "password"],
                UsersError::File { .. } | UsersError::Line { .. } | UsersError::Random => {
                    vec!["gateway", "auth_file"]
                }
            };
            reading.problem_at(&path, error.to_string());
        }
    }
}
