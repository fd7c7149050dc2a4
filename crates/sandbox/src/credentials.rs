//! The roles every cluster of a sandbox has, and their passwords.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use crate::{SandboxError, account};

/// The roles of a sandbox, see [`Credentials`].
pub const ROLES: [&str; 5] = ["postgres", "herdsman", "replicator", "app", "plain"];

/// Passwords of the roles of a sandbox, random for each sandbox and the same on all its nodes:
///
/// - `postgres`: superuser
/// - `herdsman`: what a watcher needs: `pg_monitor`, `herdsman_monitor.timeline_history()`, and may create its heartbeat table in
///   schema `public`
/// - `replicator`: streaming replication
/// - `app`: an application; may create in schema `public`
/// - `plain`: may log in, nothing else
#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials(BTreeMap<String, String>);

impl Credentials {
    pub(crate) fn random() -> Result<Self, SandboxError> {
        ROLES
            .iter()
            .map(|role| Ok(((*role).to_owned(), account::random_password()?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The password of a role.
    ///
    /// # Errors
    /// There is no such role.
    pub fn password(&self, role: &str) -> Result<&str, SandboxError> {
        self.0
            .get(role)
            .map(String::as_str)
            .ok_or_else(|| SandboxError::UnknownRole { name: role.to_owned() })
    }

    /// All roles with their passwords.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(role, password)| (role.as_str(), password.as_str()))
    }

    /// The statements that create the roles on a new cluster, where only `postgres` exists.
    pub(crate) async fn create_roles(
        &self,
        node: &str,
        superuser: &Client,
    ) -> Result<(), SandboxError> {
        const SETUP: [(&str, &str, &str); 4] = [
            ("herdsman", "LOGIN", WATCHER),
            ("replicator", "LOGIN REPLICATION", ""),
            ("app", "LOGIN", "GRANT USAGE, CREATE ON SCHEMA public TO app"),
            ("plain", "LOGIN", ""),
        ];
        let failed = |source| SandboxError::Sql {
            node: node.to_owned(),
            what: "the roles could not be created".to_owned(),
            source: Box::new(source),
        };
        for (role, attributes, grants) in SETUP {
            // CREATE ROLE takes no parameters; the server itself quotes the values into the statement.
            let statement: String = superuser
                .query_one(
                    "SELECT format('CREATE ROLE %I %s PASSWORD %L', $1::text, $2::text, $3::text)",
                    &[&role, &attributes, &self.password(role)?],
                )
                .await
                .map_err(failed)?
                .get(0);
            superuser.batch_execute(&statement).await.map_err(failed)?;
            superuser.batch_execute(grants).await.map_err(failed)?;
        }
        Ok(())
    }
}

/// What the documentation grants a watcher, and the right to make its heartbeat table.
const WATCHER: &str = r"
GRANT pg_monitor TO herdsman;
GRANT USAGE, CREATE ON SCHEMA public TO herdsman;
CREATE SCHEMA herdsman_monitor;
CREATE FUNCTION herdsman_monitor.timeline_history(OUT name text, OUT content text) RETURNS SETOF record
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
  AS $$ SELECT name, pg_read_file('pg_wal/' || name) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{8}\.history$' $$;
REVOKE EXECUTE ON FUNCTION herdsman_monitor.timeline_history() FROM PUBLIC;
GRANT USAGE ON SCHEMA herdsman_monitor TO herdsman;
GRANT EXECUTE ON FUNCTION herdsman_monitor.timeline_history() TO herdsman;
";

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
