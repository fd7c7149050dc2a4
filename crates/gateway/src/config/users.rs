//! Users as clients name them.

use std::path::PathBuf;

use herdsman::Secret;
use serde::Deserialize;

use super::{PoolOverrides, read};

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// SCRAM-SHA-256, with channel binding where there is TLS. Default.
    #[default]
    Scram,
    /// md5.
    Md5,
    /// A client certificate whose common name is the user.
    Cert,
    /// Nothing is asked; only for loopback and unix sockets.
    Trust,
}

/// A user in the file. Printing it never shows the passwords.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserConfig {
    /// The password, or a verifier (`SCRAM-SHA-256$…`, `md5…`).
    pub password: Option<Secret>,
    /// The password in base64, instead of `password`.
    pub b64password: Option<Secret>,
    /// File whose first line is the password, instead of `password`.
    pub password_file: Option<PathBuf>,
    /// Variable that holds the password, instead of `password`.
    pub password_env: Option<String>,
    /// Program and arguments that print the password, instead of `password`.
    pub password_command: Option<String>,
    /// Another method than the general one.
    pub auth: Option<AuthMethod>,
    /// Who to be on the servers, if not this user.
    pub server_user: Option<String>,
    /// With which password, if not this one.
    pub server_password: Option<Secret>,
    /// That password in base64, instead of `server_password`.
    pub server_b64password: Option<Secret>,
    /// File whose first line is that password, instead of `server_password`.
    pub server_password_file: Option<PathBuf>,
    /// Variable that holds that password, instead of `server_password`.
    pub server_password_env: Option<String>,
    /// Program and arguments that print that password, instead of `server_password`.
    pub server_password_command: Option<String>,
    /// Most clients of this user, whatever the database: 0 to 1,000,000, where 0 is no bound. Default: `max_user_clients`.
    #[serde(deserialize_with = "read::some_queue")]
    pub max_clients: Option<usize>,
    /// What holds for this user's pools.
    pub pool: PoolOverrides,
}

/// Where users are looked up. Printing it never shows the password.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthQuery {
    /// Who asks.
    pub user: String,
    /// With which password. Default: the one of `users`, where the user is there.
    pub password: Option<Secret>,
    /// The password in base64, instead of `password`.
    pub b64password: Option<Secret>,
    /// File whose first line is the password, instead of `password`.
    pub password_file: Option<PathBuf>,
    /// Variable that holds the password, instead of `password`.
    pub password_env: Option<String>,
    /// Program and arguments that print the password, instead of `password`.
    pub password_command: Option<String>,
    /// In which database. Default `postgres`.
    pub database: String,
    /// One parameter, the user; two columns, name and verifier. Default: `pg_authid`, without roles that have expired or
    /// may not log in, for a superuser; a function that belongs to one does for others.
    pub query: String,
}

/// Nobody gets in whose password has run out or who may not log in.
const DEFAULT_QUERY: &str = "SELECT rolname, CASE WHEN rolvaliduntil <= pg_catalog.now() THEN NULL ELSE rolpassword END \
    FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin";

impl Default for AuthQuery {
    fn default() -> Self {
        Self {
            user: String::new(),
            password: None,
            b64password: None,
            password_file: None,
            password_env: None,
            password_command: None,
            database: "postgres".to_owned(),
            query: DEFAULT_QUERY.to_owned(),
        }
    }
}
