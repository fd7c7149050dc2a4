//! libpq connection parameters: keyword pairs, keyword strings and URIs, with libpq's names and defaults.

mod hosts;
mod login;
mod parse;
mod passfile;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

pub use hosts::{Hosts, LoadBalanceHosts, TargetSessionAttrs};

/// How one server is reached: what libpq calls a connection string, parsed and checked.
///
/// Built [from keyword pairs](Conninfo::from_pairs), or parsed from a keyword string (`host=a port=5433`) or a URI
/// (`postgres://user@a:5433/db`). What is left out comes from libpq's environment variables (`PGHOST`, `PGPORT`, …)
/// and the password file, then from libpq's defaults. One host only: Herdsman gives each node its own `Conninfo`;
/// [`Hosts`] reads a string with several.
///
/// Printing it, also with `{:?}`, never shows the password.
///
/// ```
/// use herdsman_node::Conninfo;
/// let info: Conninfo = "postgres://mon:secret@db1:5433/app?sslmode=require".parse().unwrap();
/// assert_eq!((info.host.as_str(), info.port), ("db1", 5433));
/// assert!(!format!("{info} {info:?}").contains("secret"));
/// ```
#[derive(Clone)]
pub struct Conninfo {
    /// Host name, IP address, or (starting with `/`) the directory of a Unix socket.
    pub host: String,
    /// Address to connect to instead of looking `host` up.
    pub hostaddr: Option<IpAddr>,
    /// TCP port, or the number in the Unix socket's name.
    pub port: u16,
    /// Role to log in as.
    pub user: String,
    /// Password, from the parameters, `PGPASSWORD` or the password file.
    pub password: Option<SecretString>,
    /// File that passwords are looked up in which the parameters do not give.
    pub passfile: Option<PathBuf>,
    /// Database to connect to; the role's name where none is given.
    pub dbname: String,
    /// What the server lists this connection as.
    pub application_name: String,
    /// Bound on making a connection, where the parameters set one.
    pub connect_timeout: Option<Duration>,
    /// Whether and how TLS is used.
    pub sslmode: SslMode,
    /// File with the certificates to trust.
    pub sslrootcert: Option<PathBuf>,
    /// File with our client certificate.
    pub sslcert: Option<PathBuf>,
    /// File with the key of our client certificate.
    pub sslkey: Option<PathBuf>,
    /// Server settings to start the session with, as `options` or as unknown keys gave them.
    pub options: String,
    /// Parameters that were accepted and have no effect here (the `pool_*` keys of pgx), to be told to the user.
    pub ignored: Vec<String>,
}

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// Without TLS first; with TLS if the server refuses that.
    Allow,
    /// TLS where the server offers it, without checking who the server is.
    Prefer,
    /// TLS or nothing; the certificate is checked only where `sslrootcert` exists.
    Require,
    /// TLS with a certificate signed by a trusted authority.
    VerifyCa,
    /// As `verify-ca`, and the certificate must name the host.
    VerifyFull,
}

/// A connection parameter is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection parameter `{key}`: {problem}")]
pub struct ConninfoError {
    /// The parameter's name.
    pub key: String,
    /// What was found and what is allowed; never a secret.
    pub problem: String,
}

/// Where `Conninfo` looks up what the parameters leave out: the process environment, or a table in tests.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Conninfo {
    /// Builds from libpq keyword pairs, completed from the environment as libpq does it.
    ///
    /// # Errors
    /// [`ConninfoError`] names the first parameter that is wrong and what it may be.
    pub fn from_pairs<K: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConninfoError> {
        let pairs = pairs
            .into_iter()
            .map(|(k, v)| (k.as_ref().to_owned(), v.as_ref().to_owned()))
            .collect();
        Self::build(pairs, &|name| std::env::var(name).ok())
    }

    /// Splits a keyword string or URI into its pairs, checking nothing and completing nothing: for strings a server
    /// shows, such as the one in `pg_stat_wal_receiver`.
    ///
    /// # Errors
    /// [`ConninfoError`] when the text is in neither form.
    pub fn pairs(text: &str) -> Result<BTreeMap<String, String>, ConninfoError> {
        parse::pairs(text)
    }

    /// `host:port`, the way errors and tables name this server.
    #[must_use]
    pub fn endpoint(&self) -> String {
        endpoint(&self.host, self.port)
    }

    fn build(mut pairs: BTreeMap<String, String>, env: Lookup<'_>) -> Result<Self, ConninfoError> {
        let mut take = |key: &str, variable: &str| {
            let given = pairs.remove(key).filter(|v| !v.is_empty());
            given.or_else(|| {
                (!variable.is_empty()).then(|| env(variable)).flatten().filter(|v| !v.is_empty())
            })
        };
        let home = env("HOME").map(PathBuf::from);
        let in_home = |name: &str| {
            home.as_ref().map(|h| h.join(".postgresql").join(name)).filter(|p| p.exists())
        };

        let host = take("host", "PGHOST").unwrap_or_else(|| "localhost".to_owned());
        if host.contains(',') {
            return Err(wrong("host", "names several hosts; list each as a node of its own"));
        }
        let hostaddr = take("hostaddr", "PGHOSTADDR")
            .map(|v| {
                v.parse().map_err(|_| wrong("hostaddr", &format!("`{v}` is not an IP address")))
            })
            .transpose()?;
        let port = take("port", "PGPORT").map_or(Ok(5432), |v| match v.parse() {
            Ok(0) | Err(_) => {
                Err(wrong("port", &format!("`{v}` is not a port; expected 1 to 65535")))
            }
            Ok(port) => Ok(port),
        })?;
        let user = take("user", "PGUSER")
            .or_else(|| env("USER").filter(|v| !v.is_empty()))
            .unwrap_or_else(|| "postgres".to_owned());
        let dbname = take("dbname", "PGDATABASE").unwrap_or_else(|| user.clone());
        let passfile = take("passfile", "PGPASSFILE")
            .map(PathBuf::from)
            .or_else(|| home.as_ref().map(|h| h.join(".pgpass")));
        let password = take("password", "PGPASSWORD")
            .or_else(|| passfile::lookup(passfile.as_deref()?, &host, port, &dbname, &user))
            .map(SecretString::from);
        let sslmode = take("sslmode", "PGSSLMODE").map_or(Ok(SslMode::Prefer), |v| v.parse())?;
        let connect_timeout = take("connect_timeout", "PGCONNECT_TIMEOUT")
            .map(|v| {
                v.parse().map_err(|_| {
                    wrong("connect_timeout", &format!("`{v}` is not a number of seconds"))
                })
            })
            .transpose()?
            .filter(|&seconds| seconds > 0)
            .map(Duration::from_secs);

        let mut info = Self {
            host,
            hostaddr,
            port,
            user,
            password,
            passfile,
            dbname,
            application_name: take("application_name", "PGAPPNAME")
                .unwrap_or_else(|| "herdsman".to_owned()),
            connect_timeout,
            sslmode,
            sslrootcert: take("sslrootcert", "PGSSLROOTCERT")
                .map(PathBuf::from)
                .or_else(|| in_home("root.crt")),
            sslcert: take("sslcert", "PGSSLCERT")
                .map(PathBuf::from)
                .or_else(|| in_home("postgresql.crt")),
            sslkey: take("sslkey", "PGSSLKEY")
                .map(PathBuf::from)
                .or_else(|| in_home("postgresql.key")),
            options: take("options", "PGOPTIONS").unwrap_or_default(),
            ignored: Vec::new(),
        };
        info.take_rest(pairs)?;
        Ok(info)
    }

    /// What is neither ours nor known to have no effect becomes a server setting, as pgx treats it.
    fn take_rest(&mut self, pairs: BTreeMap<String, String>) -> Result<(), ConninfoError> {
        for (key, value) in pairs {
            if key.starts_with("pool_") || NO_EFFECT.contains(&key.as_str()) {
                self.ignored.push(key);
            } else if key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'))
                && !key.is_empty()
            {
                if !self.options.is_empty() {
                    self.options.push(' ');
                }
                self.options.push_str(&format!("-c {key}={}", escape_option(&value)));
            } else {
                return Err(wrong(
                    &key,
                    "is neither a libpq parameter nor the name of a server setting",
                ));
            }
        }
        Ok(())
    }

    /// The password's text, for the one place that sends it.
    pub(crate) fn password_text(&self) -> Option<&str> {
        self.password.as_ref().map(ExposeSecret::expose_secret)
    }
}

/// libpq parameters that change nothing for a watcher with its own timeouts, keepalives and one host per node.
const NO_EFFECT: &[&str] = &[
    "channel_binding",
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "service",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslnegotiation",
    "sslpassword",
    "sslsni",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "target_session_attrs",
    "tcp_user_timeout",
];

impl ConninfoError {
    fn without_value(mut self) -> Self {
        if let Some((_, rest)) = self.problem.strip_prefix('`').and_then(|p| p.split_once('`')) {
            self.problem = format!("the value{rest}");
        }
        self
    }
}

/// `host:port` with the brackets IPv6 needs.
pub(crate) fn endpoint(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn wrong(key: &str, problem: &str) -> ConninfoError {
    ConninfoError { key: key.to_owned(), problem: problem.to_owned() }
}

/// The server splits `options` at unescaped white space.
fn escape_option(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        if c.is_ascii_whitespace() || c == '\\' {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

impl FromStr for Conninfo {
    type Err = ConninfoError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // In a string, a piece of a badly escaped password can end up as any other value: none is shown.
        Self::from_pairs(parse::pairs(text)?).map_err(ConninfoError::without_value)
    }
}

impl fmt::Display for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host={} port={} user={} dbname={}", self.host, self.port, self.user, self.dbname)
    }
}

impl fmt::Debug for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conninfo({self})")
    }
}

impl FromStr for SslMode {
    type Err = ConninfoError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            other => {
                let allowed = "disable, allow, prefer, require, verify-ca or verify-full";
                return Err(wrong(
                    "sslmode",
                    &format!("`{other}` is not a mode; expected {allowed}"),
                ));
            }
        })
    }
}

#[cfg(test)]
mod tests;
