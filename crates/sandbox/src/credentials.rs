//! The roles every cluster of a sandbox has, and their passwords.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use crate::{SandboxError, account};

/// The roles of a sandbox, see [`Credentials`].
pub const ROLES: [&str; 5] = ["postgres", "herdsman", "replicator", "app", "plain"];
/// What a writer has besides.
const MESH: &str = "mesh";

/// Passwords of the roles of a sandbox, random for each sandbox and the same on all its nodes:
///
/// - `postgres`: superuser
/// - `herdsman`: what a watcher needs: `pg_monitor`, `herdsman_monitor.timeline_history()`, and may create its heartbeat table in
///   schema `public`
/// - `replicator`: streaming replication
/// - `app`: an application; may create in schema `public`
/// - `plain`: may log in, nothing else
/// - `mesh`, in a sandbox of writers: what a mesh needs: `REPLICATION`, membership in `app`, which owns the tables, `CREATE`
///   on the database, the functions of replication origins, and `session_replication_role`
#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials(BTreeMap<String, String>);

impl Credentials {
    pub(crate) fn random(writers: bool) -> Result<Self, SandboxError> {
        let mesh = writers.then_some(&MESH);
        ROLES
            .iter()
            .chain(mesh)
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

    /// Runs the statements that create the roles on a new cluster, where only `postgres` exists, and gives that its password.
    pub(crate) async fn create_roles(
        &self,
        node: &str,
        superuser: &Client,
    ) -> Result<(), SandboxError> {
        // Made from a template, the cluster's superuser has the template's password.
        const SETUP: [(&str, &str, &str, &str); 6] = [
            ("ALTER", "postgres", "", ""),
            ("CREATE", "herdsman", "LOGIN", WATCHER),
            ("CREATE", "replicator", "LOGIN REPLICATION", ""),
            ("CREATE", "app", "LOGIN", "GRANT USAGE, CREATE ON SCHEMA public TO app"),
            ("CREATE", "plain", "LOGIN", ""),
            ("CREATE", MESH, "LOGIN REPLICATION", MESHING),
        ];
        let failed = |source| SandboxError::Sql {
            node: node.to_owned(),
            what: "the roles could not be created".to_owned(),
            source: Box::new(source),
        };
        for (verb, role, attributes, grants) in SETUP {
            if !self.0.contains_key(role) {
                continue;
            }
            // Roles take no parameters; the server itself quotes the values into the statement.
            let statement: String = superuser
                .query_one(
                    "SELECT format('%s ROLE %I %s PASSWORD %L', $1::text, $2::text, $3::text, $4::text)",
                    &[&verb, &role, &attributes, &self.password(role)?],
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

/// What the documentation grants a mesh.
const MESHING: &str = r"
GRANT app TO mesh;
GRANT CREATE ON DATABASE postgres TO mesh;
GRANT CREATE, USAGE ON SCHEMA public TO mesh;
GRANT SET ON PARAMETER session_replication_role TO mesh;
GRANT EXECUTE ON FUNCTION
  pg_replication_origin_create(text), pg_replication_origin_drop(text), pg_replication_origin_oid(text),
  pg_replication_origin_session_setup(text), pg_replication_origin_session_reset(),
  pg_replication_origin_session_is_setup(), pg_replication_origin_session_progress(boolean),
  pg_replication_origin_xact_setup(pg_lsn, timestamptz), pg_replication_origin_xact_reset(),
  pg_replication_origin_advance(text, pg_lsn), pg_replication_origin_progress(text, boolean),
  pg_show_replication_origin_status()
  TO mesh;
GRANT pg_read_all_settings, pg_read_all_stats TO mesh;
";

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
