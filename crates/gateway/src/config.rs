//! The `gateway:` section.

mod address;
mod check;
mod databases;
mod files;
mod pool;
mod read;
mod switchover;
mod users;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

pub(crate) use address::Address;
pub(crate) use check::CONSOLES;
pub use databases::{DatabaseConfig, Target};
pub use pool::{PoolConfig, PoolMode, PoolOverrides};
pub use switchover::SwitchoverConfig;
pub use users::{AuthMethod, AuthQuery, UserConfig};

/// The `gateway:` section, with defaults filled in and secrets looked up. Without the section there is no gateway.
///
/// ```
/// use herdsman_gateway::config::{GatewayConfig, PoolMode};
///
/// let text = r#"{"listen": "localhost:6432", "pool": {"size": 5}}"#;
/// let config: GatewayConfig = serde_json::from_str(text)?;
/// assert_eq!((config.pool.size, config.pool.mode), (5, PoolMode::Transaction));
/// assert_eq!(config.hold, GatewayConfig::default().hold);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// Addresses to listen on, `host:port`: one, or a list. `*:6432` is every address of this machine. None: there is no
    /// gateway. Default `localhost:6432`, where there is a section.
    #[serde(deserialize_with = "read::one_or_more")]
    pub listen: Vec<String>,
    /// Folder for the unix socket `.s.PGSQL.<port of the first address>`. Default: no unix socket.
    pub unix_socket_dir: Option<PathBuf>,
    /// Threads that serve clients: 0 to 256. Default 0: half of the machine's, at least one.
    #[serde(deserialize_with = "read::workers")]
    pub workers: usize,
    /// Certificate, key, CA for client certificates, whether TLS is required. Default: no TLS.
    pub tls: Option<TlsConfig>,
    /// Whether clients come with a PROXY protocol header (version 2), as behind a load balancer. Default false.
    pub proxy_protocol: bool,
    /// How clients prove who they are unless their user says otherwise. Default `scram`.
    pub auth: AuthMethod,
    /// Clients on the loopback interface and the unix socket need no password. Default false.
    pub trust_loopback: bool,
    /// Users known by the file itself. Default: none.
    #[serde(deserialize_with = "read::entries")]
    pub users: BTreeMap<String, UserConfig>,
    /// PgBouncer's userlist.txt: `"user" "password, md5… or SCRAM-SHA-256$…"`. Default: none.
    pub auth_file: Option<PathBuf>,
    /// Where to look up users who are in neither. Default: nowhere.
    pub auth_query: Option<AuthQuery>,
    /// Databases by the name clients use; `*` stands for any other. Default: every database of the servers, split.
    #[serde(deserialize_with = "read::entries")]
    pub databases: BTreeMap<String, DatabaseConfig>,
    /// Users who may use the admin database `herdsman`. Default: none.
    pub admins: Vec<String>,
    /// Users who may look at the admin database but not change anything. Default: none.
    pub stats_users: Vec<String>,
    /// How long a new transaction waits while there is nowhere to send it, as during a promotion. Default 10 s; 0 s fails
    /// at once.
    #[serde(deserialize_with = "read::wait")]
    pub hold: Duration,
    /// How many may wait so: 0 to 1,000,000. Default 10,000.
    #[serde(deserialize_with = "read::queue")]
    pub hold_queue: usize,
    /// Most clients at once: 1 to 1,000,000. Default 10,000.
    #[serde(deserialize_with = "read::clients")]
    pub max_clients: usize,
    /// Most clients of one user, unless it says otherwise itself: 0 to 1,000,000. Default 0: no bound.
    #[serde(deserialize_with = "read::queue")]
    pub max_user_clients: usize,
    /// Most clients of one database, unless it says otherwise itself: 0 to 1,000,000. Default 0: no bound.
    #[serde(deserialize_with = "read::queue")]
    pub max_database_clients: usize,
    /// Most connections from one address, those that have not logged in included; of IPv6, from one network (/64): 0 to
    /// 1,000,000. Default 0: no bound.
    #[serde(deserialize_with = "read::queue")]
    pub max_address_clients: usize,
    /// How long a client may take to log in. Default 15 s.
    #[serde(deserialize_with = "read::timeout")]
    pub login_timeout: Duration,
    /// How long running clients may take to finish at SIGTERM. Default 30 s.
    #[serde(deserialize_with = "read::wait")]
    pub drain_timeout: Duration,
    /// How long clients may stay with a run that has handed its sockets to the next one (`herdsman run --take-over`); zero,
    /// written `never`, lets them. Default `never`.
    #[serde(deserialize_with = "read::or_never")]
    pub linger: Duration,
    /// What becomes of temporary tables, LISTEN and other session state in transaction mode. Default `pin`.
    pub session_state: SessionState,
    /// A check that travels with each write. Default `off`.
    #[serde(deserialize_with = "read::write_guard")]
    pub write_guard: WriteGuard,
    /// For how long one look at the primary vouches for it (`write_guard: deadline`). Default 1 s.
    #[serde(deserialize_with = "read::lease")]
    pub guard_lease: Duration,
    /// Whether standbys may be read while two nodes claim to be primary. Default true.
    pub read_in_split_brain: bool,
    /// Statements that take longer are logged, normalised; `never` for none. Default `never`.
    #[serde(deserialize_with = "read::slow_query")]
    pub slow_query: Option<Duration>,
    /// Prepared statements kept per server connection: 1 to 100,000. Default 500.
    #[serde(deserialize_with = "read::statements")]
    pub prepared_statements: usize,
    /// How a switchover is carried out.
    pub switchover: SwitchoverConfig,
    /// What holds for every pool unless its database or user says otherwise.
    pub pool: PoolConfig,
}

/// Certificate files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Who signs clients' certificates, PEM. Default: clients are not asked for one.
    pub client_ca: Option<PathBuf>,
    /// Which of their certificates were taken back, PEM: a list (CRL) of every authority that signs any, none of them past its
    /// next update. Default: none was.
    pub client_crl: Option<PathBuf>,
    /// Clients without TLS are refused (but for the unix socket). Default false.
    pub required: bool,
}

/// What becomes of temporary tables, LISTEN, session advisory locks, WITH HOLD cursors in transaction mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// The client keeps its server connection from then on. Default.
    #[default]
    Pin,
    /// The statement is refused with an error that says so.
    Refuse,
}

/// See `write_guard`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteGuard {
    /// None. Default.
    #[default]
    Off,
    /// The server's clock must not be past the last look plus the lease.
    Deadline,
    /// The primary must still have the same standbys connected.
    Followers,
}

/// PgBouncer's port, which clients' configurations have already.
pub(crate) const DEFAULT_LISTEN: &str = "localhost:6432";
/// A promotion takes a few seconds; clients' own time limits are rarely shorter than this.
const HOLD: Duration = Duration::from_secs(10);
/// A waiting client costs a few kilobytes: these are tens of megabytes.
const QUEUE: usize = 10_000;
/// An idle client costs a few kilobytes and one file descriptor.
const CLIENTS: usize = 10_000;
/// Long enough for a slow TLS handshake and SCRAM over a bad line, short enough against clients that say nothing.
const LOGIN: Duration = Duration::from_secs(15);
/// What service managers allow before they kill is 90 s; most transactions are far shorter than this.
const DRAIN: Duration = Duration::from_secs(30);
/// Two looks of the watcher and a slow answer.
const LEASE: Duration = Duration::from_secs(1);
/// More than most applications have; each costs the server some ten kilobytes per connection.
const STATEMENTS: usize = 500;

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            unix_socket_dir: None,
            workers: 0,
            tls: None,
            proxy_protocol: false,
            auth: AuthMethod::default(),
            trust_loopback: false,
            users: BTreeMap::new(),
            auth_file: None,
            auth_query: None,
            databases: BTreeMap::new(),
            admins: Vec::new(),
            stats_users: Vec::new(),
            hold: HOLD,
            hold_queue: QUEUE,
            max_clients: CLIENTS,
            max_user_clients: 0,
            max_database_clients: 0,
            max_address_clients: 0,
            login_timeout: LOGIN,
            drain_timeout: DRAIN,
            linger: Duration::ZERO,
            session_state: SessionState::default(),
            write_guard: WriteGuard::default(),
            guard_lease: LEASE,
            read_in_split_brain: true,
            slow_query: None,
            prepared_statements: STATEMENTS,
            switchover: SwitchoverConfig::default(),
            pool: PoolConfig::default(),
        }
    }
}

impl GatewayConfig {
    /// How many threads serve clients, on this machine.
    #[must_use]
    pub fn workers(&self) -> usize {
        match self.workers {
            // The servers, or the application, are often on the same machine.
            0 => std::thread::available_parallelism().map_or(1, |threads| threads.get() / 2).max(1),
            workers => workers,
        }
    }
}

#[cfg(test)]
mod tests;
