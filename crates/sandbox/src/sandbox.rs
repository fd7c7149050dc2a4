//! A cluster with faults on demand.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_postgres::Client;

use crate::{
    Credentials, FaultProxy, PgBinaries, ProcessState, SandboxError,
    account::Account,
    folder::Folder,
    server::{self, Server},
    settings::{Settings, TlsFiles},
    sql,
};

mod builder;
mod config;
mod faults;
mod lifecycle;
mod observe;
mod rejoin;
pub(crate) mod saved;

pub use builder::Builder;
pub use observe::{LinkFault, NodeStatus, Role};
pub use rejoin::{RejoinBy, Rejoined};

/// A running cluster: one primary `n1` and its standbys `n2`, `n3`, … at first; or, where [`Builder::writers`] were asked
/// for, so many servers that have nothing to do with each other. Dropped, it ends every process, frozen ones too, and
/// removes its folder.
#[derive(Debug)]
pub struct Sandbox {
    // Dropped in this order: the folder goes last, and with it whatever is left.
    nodes: Vec<Node>,
    /// The proxy through which the first node reaches the second.
    links: BTreeMap<(usize, usize), FaultProxy>,
    folder: Folder,
    account: Account,
    /// The first node's.
    binaries: Arc<PgBinaries>,
    /// Every node is a server of its own.
    writers: bool,
    credentials: Credentials,
    tls: bool,
    extra: Vec<(String, String)>,
    deadline: Duration,
}

#[derive(Debug)]
struct Node {
    server: Server,
    /// Where clients and watchers connect.
    clients: FaultProxy,
    /// Whom its configuration tells it to stream from.
    follows: Mutex<Option<usize>>,
    /// One operation at a time per node.
    busy: tokio::sync::Mutex<()>,
}

impl Sandbox {
    /// Says what cluster is wanted.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The names of the nodes, `n1` first.
    #[must_use]
    pub fn node_names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.server.name.clone()).collect()
    }

    /// The folder that holds everything. Node X's server log is the file `X/log` in it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// The server binaries in use; of writers those of `n1`.
    #[must_use]
    pub fn binaries(&self) -> &PgBinaries {
        &self.binaries
    }

    /// The server binaries of a node.
    ///
    /// # Errors
    /// There is no such node.
    pub fn binaries_of(&self, node: &str) -> Result<&PgBinaries, SandboxError> {
        Ok(&self.node(node)?.server.binaries)
    }

    /// Whether every node is a server of its own, see [`Builder::writers`].
    #[must_use]
    pub fn is_of_writers(&self) -> bool {
        self.writers
    }

    /// The passwords of the roles, the same on all nodes.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The certificate of the authority that vouches for the servers, when TLS is on.
    #[must_use]
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.tls.then(|| self.dir().join("tls/ca.pem"))
    }

    /// Where clients and watchers reach the node: host and port of its proxy.
    ///
    /// # Errors
    /// There is no such node.
    pub fn endpoint(&self, node: &str) -> Result<(String, u16), SandboxError> {
        Ok(("127.0.0.1".to_owned(), self.node(node)?.clients.port()))
    }

    /// The port the server itself listens on, past every proxy.
    ///
    /// # Errors
    /// There is no such node.
    pub fn server_port(&self, node: &str) -> Result<u16, SandboxError> {
        Ok(self.node(node)?.server.port.port())
    }

    /// Every `host:port` under which other nodes know this one, as a standby's `pg_stat_wal_receiver` shows it.
    ///
    /// # Errors
    /// There is no such node.
    pub fn replication_addresses(&self, node: &str) -> Result<Vec<String>, SandboxError> {
        let to = self.index(node)?;
        let links = self
            .links
            .iter()
            .filter(|((_, upstream), _)| *upstream == to)
            .map(|(_, proxy)| proxy.port());
        Ok(links.chain([self.server_port(node)?]).map(|port| format!("127.0.0.1:{port}")).collect())
    }

    /// How a role connects to a node through its proxy, as libpq's keys and values.
    ///
    /// # Errors
    /// There is no such node or role.
    pub fn conninfo(
        &self,
        node: &str,
        role: &str,
    ) -> Result<BTreeMap<String, String>, SandboxError> {
        let (host, port) = self.endpoint(node)?;
        let password = self.credentials.password(role)?.to_owned();
        let mut keys = BTreeMap::from([
            ("host".to_owned(), host),
            ("port".to_owned(), port.to_string()),
            ("user".to_owned(), role.to_owned()),
            ("password".to_owned(), password),
            ("dbname".to_owned(), "postgres".to_owned()),
        ]);
        match self.ca_file() {
            Some(authority) => {
                keys.insert("sslmode".to_owned(), "verify-full".to_owned());
                keys.insert("sslrootcert".to_owned(), authority.to_string_lossy().into_owned());
            }
            None => {
                keys.insert("sslmode".to_owned(), "disable".to_owned());
            }
        }
        Ok(keys)
    }

    /// Logs in to a node straight at its server, past every proxy: for checkers that must see the truth whatever faults
    /// are set. Gives up after 5 s.
    ///
    /// # Errors
    /// There is no such node or role, or the server does not let the role in.
    pub async fn sql(&self, node: &str, role: &str) -> Result<Client, SandboxError> {
        sql::connect(&self.node(node)?.server, role, &self.credentials).await
    }

    fn index(&self, name: &str) -> Result<usize, SandboxError> {
        self.nodes.iter().position(|node| node.server.name == name).ok_or_else(|| {
            SandboxError::UnknownNode { name: name.to_owned(), known: self.node_names() }
        })
    }

    fn node(&self, name: &str) -> Result<&Node, SandboxError> {
        let index = self.index(name)?;
        self.at(index)
    }

    fn at(&self, index: usize) -> Result<&Node, SandboxError> {
        self.nodes.get(index).ok_or_else(|| SandboxError::UnknownNode {
            name: index.to_string(),
            known: self.node_names(),
        })
    }

    async fn superuser(&self, node: &Node) -> Result<Client, SandboxError> {
        sql::connect(&node.server, "postgres", &self.credentials).await
    }

    /// Writes the configuration of a node, for a standby of `upstream` or for a primary.
    fn configure(
        &self,
        index: usize,
        upstream: Option<usize>,
        once: &[(String, String)],
    ) -> Result<(), SandboxError> {
        let node = self.at(index)?;
        let folder = &node.server.folder;
        let upstream_port = match upstream {
            None => None,
            Some(upstream) => {
                let link = self.links.get(&(index, upstream)).ok_or_else(|| {
                    SandboxError::not_now(&node.server.name, "cannot follow itself")
                })?;
                Some(link.port())
            }
        };
        let settings = Settings {
            name: node.server.name.clone(),
            port: node.server.port.port(),
            hba_file: folder.join("hba.conf"),
            passfile: folder.join("passfile"),
            tls: self.tls.then(|| TlsFiles {
                certificate: self.dir().join("tls/server.pem"),
                key: self.dir().join("tls/server.key"),
            }),
            upstream_port,
            major: node.server.binaries.major,
            writer: self.writers,
            extra: self.extra.iter().chain(once).cloned().collect(),
        };
        let replicator = format!("*:*:*:replicator:{}\n", self.credentials.password("replicator")?);
        self.account.write(&settings.passfile, &replicator)?;
        self.account.write(&settings.hba_file, &settings.hba())?;
        self.account.write(&folder.join("server.conf"), &settings.server_conf())?;
        *node.follows.lock().unwrap_or_else(PoisonError::into_inner) = upstream;
        Ok(())
    }
}

impl Node {
    fn follows(&self) -> Option<usize> {
        *self.follows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_running(&self) -> bool {
        self.server.state() == ProcessState::Running
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.folder.is_released() {
            return;
        }
        let folders: Vec<PathBuf> = self.nodes.iter().map(|node| node.server.data()).collect();
        let known: Vec<_> =
            self.nodes.iter().flat_map(|node| node.server.known_processes()).collect();
        server::end_all(&folders, &known);
        for node in &self.nodes {
            node.server.take_note();
        }
    }
}
