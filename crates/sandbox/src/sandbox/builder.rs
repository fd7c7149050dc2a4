//! Setting a cluster up.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::try_join_all;

use super::{Node, Sandbox};
use crate::{
    Credentials, FaultProxy, PgBinaries, SandboxError,
    account::{self, Account},
    clock::{self, Clock},
    folder::Folder,
    ports::HeldPort,
    postgres,
    server::Server,
    tls::Certificates,
};

/// Nodes of one sandbox at most: each takes a walsender and a slot on every node it streams from, which has 20 of either.
const MAX_NODES: usize = 9;
/// A cold start on a loaded machine; a healthy one takes about a second per step.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);

type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// What cluster is wanted. Made by [`Sandbox::builder`].
#[derive(Clone)]
pub struct Builder {
    standbys: usize,
    writers: usize,
    major: Option<u32>,
    majors: Vec<u32>,
    pg_bin: Option<PathBuf>,
    dir: Option<PathBuf>,
    tls: bool,
    own_clocks: bool,
    extra: Vec<(String, String)>,
    deadline: Duration,
    progress: Progress,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            standbys: 0,
            writers: 0,
            major: None,
            majors: Vec::new(),
            pg_bin: None,
            dir: None,
            tls: false,
            own_clocks: false,
            extra: Vec::new(),
            deadline: DEFAULT_DEADLINE,
            progress: Arc::new(|_| {}),
        }
    }
}

impl Builder {
    /// How many standbys the primary has; none unless told.
    #[must_use]
    pub fn standbys(mut self, count: usize) -> Self {
        self.standbys = count;
        self
    }

    /// No cluster but so many servers of their own, each with a system identifier of its own and nobody's standby: what a
    /// mesh is made of. They have the role `mesh` besides.
    #[must_use]
    pub fn writers(mut self, count: usize) -> Self {
        self.writers = count;
        self
    }

    /// The major version of each writer, `n1`'s first; as many writers as versions unless told.
    #[must_use]
    pub fn versions(mut self, majors: impl IntoIterator<Item = u32>) -> Self {
        self.majors = majors.into_iter().collect();
        self
    }

    /// The major version of PostgreSQL; the first found unless told.
    #[must_use]
    pub fn pg_version(mut self, major: u32) -> Self {
        self.major = Some(major);
        self
    }

    /// The folder of the server binaries, instead of searching for them.
    #[must_use]
    pub fn pg_bin(mut self, folder: impl Into<PathBuf>) -> Self {
        self.pg_bin = Some(folder.into());
        self
    }

    /// The folder of the sandbox, which must be empty or not exist; a temporary one unless told.
    #[must_use]
    pub fn dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.dir = Some(folder.into());
        self
    }

    /// Whether the servers offer TLS, with certificates of the sandbox's own authority.
    #[must_use]
    pub fn tls(mut self, on: bool) -> Self {
        self.tls = on;
        self
    }

    /// Whether each server has a clock of its own, which [`Sandbox::set_clock`] sets wrong. They run under libfaketime then,
    /// which has to be there (Debian: `faketime`).
    #[must_use]
    pub fn own_clocks(mut self, on: bool) -> Self {
        self.own_clocks = on;
        self
    }

    /// A PostgreSQL setting for all nodes, such as `("wal_sender_timeout", "5s")`. It wins over the sandbox's own.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extra.push((name.into(), value.into()));
        self
    }

    /// How long any one operation may take, starting a server for instance.
    #[must_use]
    pub fn deadline(mut self, within: Duration) -> Self {
        self.deadline = within;
        self
    }

    /// Is told each step of the start.
    #[must_use]
    pub fn on_progress(mut self, tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.progress = Arc::new(tell);
        self
    }

    /// Starts the cluster and waits until all standbys stream. If it fails midway, or its future is dropped, nothing is
    /// left behind.
    ///
    /// # Errors
    /// No binaries, no folder, a server that does not come up, or a wrong setting.
    pub async fn start(self) -> Result<Sandbox, SandboxError> {
        check_settings(&self.extra)?;
        let binaries = self.binaries()?;
        let first = binaries.first().cloned().ok_or_else(|| refused("needs a node".to_owned()))?;
        let mut told = BTreeSet::new();
        for found in binaries.iter().filter(|found| told.insert(found.bin_dir.clone())) {
            let (version, folder) = (&found.version, found.bin_dir.display());
            (self.progress)(&format!("PostgreSQL {version} from {folder}"));
        }
        let clock = self.own_clocks.then(Clock::find).transpose()?;
        let account = Account::choose()?;
        let folder = Folder::create(self.dir.as_deref(), account)?;
        let mut nodes = Vec::new();
        for (place, binaries) in binaries.into_iter().enumerate() {
            let port = HeldPort::take().map_err(SandboxError::system("get a free port"))?;
            let mut server =
                Server::new(format!("n{}", place + 1), folder.path(), port, account, binaries);
            server.clock.clone_from(&clock);
            nodes.push(Node::new(server, 0).await?);
        }
        let links = links(&nodes, &BTreeMap::new()).await?;
        let sandbox = Sandbox {
            nodes,
            links,
            folder,
            account,
            binaries: first,
            writers: self.is_of_writers(),
            credentials: Credentials::random(self.is_of_writers())?,
            tls: self.tls,
            extra: self.extra,
            deadline: self.deadline,
        };
        sandbox.prepare_folders()?;
        if sandbox.writers {
            sandbox.bring_up_writers(&self.progress).await?;
        } else {
            sandbox.bring_up(&self.progress).await?;
        }
        Ok(sandbox)
    }

    fn is_of_writers(&self) -> bool {
        self.writers > 0 || !self.majors.is_empty()
    }

    /// Those of each node.
    fn binaries(&self) -> Result<Vec<Arc<PgBinaries>>, SandboxError> {
        let count = match (self.writers, self.majors.len()) {
            (0, 0) => self.standbys + 1,
            _ if self.standbys > 0 => {
                return Err(refused("of writers has no standbys".to_owned()));
            }
            (0, versions) => versions,
            (writers, versions) if versions == 0 || versions == writers => writers,
            (writers, versions) => {
                return Err(refused(format!(
                    "of {writers} writers needs as many versions, {versions} were named"
                )));
            }
        };
        if count > MAX_NODES {
            let (kind, most, asked) = if self.is_of_writers() {
                ("writers", MAX_NODES, count)
            } else {
                ("standbys", MAX_NODES - 1, self.standbys)
            };
            return Err(refused(format!("has at most {most} {kind}, {asked} were asked for")));
        }
        let find = |major: Option<u32>| match &self.pg_bin {
            Some(folder) => postgres::find_in(folder, major),
            None => postgres::find(major),
        };
        if self.majors.is_empty() {
            let common = Arc::new(find(self.major)?);
            return Ok(vec![common; count]);
        }
        let mut found = BTreeMap::new();
        let mut all = Vec::new();
        for major in &self.majors {
            let binaries = match found.entry(*major) {
                Entry::Occupied(known) => Arc::clone(known.get()),
                Entry::Vacant(new) => Arc::clone(new.insert(Arc::new(find(Some(*major))?))),
            };
            all.push(binaries);
        }
        Ok(all)
    }
}

fn refused(reason: String) -> SandboxError {
    SandboxError::not_now("sandbox", reason)
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("standbys", &self.standbys)
            .field("writers", &self.writers)
            .field("major", &self.major)
            .field("majors", &self.majors)
            .field("pg_bin", &self.pg_bin)
            .field("dir", &self.dir)
            .field("tls", &self.tls)
            .field("own_clocks", &self.own_clocks)
            .field("extra", &self.extra)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// A node whose clients' proxy listens on `client_port`, 0 for any.
    pub(super) async fn new(server: Server, client_port: u16) -> Result<Self, SandboxError> {
        let clients = proxy(client_port, &server).await?;
        Ok(Self { server, clients, follows: Mutex::default(), busy: tokio::sync::Mutex::default() })
    }
}

/// A proxy for every ordered pair of nodes, on known ports where there are any.
pub(super) async fn links(
    nodes: &[Node],
    ports: &BTreeMap<(usize, usize), u16>,
) -> Result<BTreeMap<(usize, usize), FaultProxy>, SandboxError> {
    let mut links = BTreeMap::new();
    for from in 0..nodes.len() {
        for (to, upstream) in nodes.iter().enumerate().filter(|(to, _)| *to != from) {
            let port = ports.get(&(from, to)).copied().unwrap_or(0);
            links.insert((from, to), proxy(port, &upstream.server).await?);
        }
    }
    Ok(links)
}

async fn proxy(port: u16, server: &Server) -> Result<FaultProxy, SandboxError> {
    let upstream = SocketAddr::from(([127, 0, 0, 1], server.port.port()));
    FaultProxy::start_on(port, upstream)
        .await
        .map_err(SandboxError::system(format!("start a proxy in front of {}", server.name)))
}

/// A name that is no name would end up as a line of its own in the configuration.
fn check_settings(extra: &[(String, String)]) -> Result<(), SandboxError> {
    let plain = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte))
    };
    match extra.iter().find(|(name, value)| !plain(name) || value.contains(['\n', '\r'])) {
        Some((name, _)) => Err(SandboxError::not_now(
            "sandbox",
            format!("cannot set {name:?}: not a setting with a one-line value"),
        )),
        None => Ok(()),
    }
}

impl Sandbox {
    fn prepare_folders(&self) -> Result<(), SandboxError> {
        for node in &self.nodes {
            self.account.create_dir(&node.server.folder)?;
            if node.server.clock.is_some() {
                clock::set(&node.server.folder, self.account, 0)?;
            }
        }
        if !self.tls {
            return Ok(());
        }
        let folder = self.dir().join("tls");
        let made = Certificates::issue()?;
        self.account.create_dir(&folder)?;
        // The authority's certificate is for everybody to read.
        account::set_mode(&folder, 0o711)?;
        let write =
            |name: &str, text: &str| self.account.write(Path::new(&folder.join(name)), text);
        write("server.key", &made.server_key)?;
        write("server.pem", &made.server)?;
        write("ca.pem", &made.authority)?;
        account::set_mode(&folder.join("ca.pem"), 0o644)
    }

    async fn bring_up(&self, progress: &Progress) -> Result<(), SandboxError> {
        progress("n1: creating the primary");
        self.create_cluster(0).await?;
        let primary = self.at(0)?;
        let client = self.superuser(primary).await?;
        self.ensure_slots(0, &client, true).await?;
        drop(client);
        let standbys = (1..self.nodes.len()).map(|index| async move {
            progress(&format!("{}: copying the primary", self.at(index)?.server.name));
            self.copy_as_standby(index, 0).await?;
            self.await_streaming(index).await?;
            progress(&format!("{}: streaming from n1", self.at(index)?.server.name));
            Ok::<(), SandboxError>(())
        });
        try_join_all(standbys).await.map(|_| ())
    }

    async fn bring_up_writers(&self, progress: &Progress) -> Result<(), SandboxError> {
        let writers = (0..self.nodes.len()).map(|index| async move {
            let server = &self.at(index)?.server;
            let (name, version) = (&server.name, &server.binaries.version);
            progress(&format!("{name}: creating a server of version {version}"));
            self.create_cluster(index).await?;
            progress(&format!("{name}: takes writes"));
            Ok::<(), SandboxError>(())
        });
        try_join_all(writers).await.map(|_| ())
    }
}
