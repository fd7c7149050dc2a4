//! What of a sandbox is written down, so that another process can take it over.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Node, Sandbox, builder};
use crate::{
    Credentials, SandboxError,
    account::{self, Account},
    folder::Folder,
    ports::HeldPort,
    postgres,
    process::ProcessId,
    server::Server,
};

const STATE_FILE: &str = "state.json";
/// Raised when an older program could not read what a newer one writes.
const FORMAT: u32 = 1;
/// That of writers, whom a program that knows only clusters would take for one.
const WRITERS_FORMAT: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Saved {
    format: u32,
    pg_bin: std::path::PathBuf,
    tls: bool,
    extra: Vec<(String, String)>,
    deadline: Duration,
    credentials: Credentials,
    nodes: Vec<SavedNode>,
    links: Vec<SavedLink>,
}

#[derive(Serialize, Deserialize)]
struct SavedNode {
    name: String,
    /// Of a writer: its own server binaries.
    #[serde(default)]
    pg_bin: Option<std::path::PathBuf>,
    server_port: u16,
    client_port: u16,
    follows: Option<usize>,
    orphans: Vec<ProcessId>,
}

#[derive(Serialize, Deserialize)]
struct SavedLink {
    from: usize,
    to: usize,
    port: u16,
}

impl Sandbox {
    /// Writes down what another process needs to take the sandbox over, in one rename.
    pub(crate) fn save(&self) -> Result<(), SandboxError> {
        let nodes = self.nodes.iter().map(|node| SavedNode {
            name: node.server.name.clone(),
            pg_bin: self.writers.then(|| node.server.binaries.bin_dir.clone()),
            server_port: node.server.port.port(),
            client_port: node.clients.port(),
            follows: node.follows(),
            orphans: node.server.orphans(),
        });
        let links = self.links.iter().map(|(&(from, to), proxy)| SavedLink {
            from,
            to,
            port: proxy.port(),
        });
        let saved = Saved {
            format: if self.writers { WRITERS_FORMAT } else { FORMAT },
            pg_bin: self.binaries.bin_dir.clone(),
            tls: self.tls,
            extra: self.extra.clone(),
            deadline: self.deadline,
            credentials: self.credentials.clone(),
            nodes: nodes.collect(),
            links: links.collect(),
        };
        let path = self.dir().join(STATE_FILE);
        let text = serde_json::to_vec_pretty(&saved)
            .map_err(|error| SandboxError::file("write", &path)(error.into()))?;
        account::write_private(&path, &text)
    }

    /// Takes over a sandbox whose process is gone: its servers as they are, its proxies on the same ports and without
    /// faults. It outlives this value; dropping it ends nothing.
    pub(crate) async fn resume(dir: &Path) -> Result<Self, SandboxError> {
        let saved = read(dir)?;
        let binaries = Arc::new(postgres::find_in(&saved.pg_bin, None)?);
        let account = Account::choose()?;
        let folder = Folder::take_over(dir)?;
        let mut nodes = Vec::new();
        for saved in &saved.nodes {
            let port = HeldPort::retake(saved.server_port);
            let binaries = match &saved.pg_bin {
                Some(folder) => Arc::new(postgres::find_in(folder, None)?),
                None => Arc::clone(&binaries),
            };
            let server = Server::new(saved.name.clone(), folder.path(), port, account, binaries);
            server.adopt();
            server.remember_orphans(&saved.orphans);
            nodes.push(Node::new(server, saved.client_port).await?);
        }
        let ports: BTreeMap<_, _> =
            saved.links.iter().map(|link| ((link.from, link.to), link.port)).collect();
        let links = builder::links(&nodes, &ports).await?;
        for (node, saved) in nodes.iter_mut().zip(&saved.nodes) {
            *node.follows.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner) =
                saved.follows;
        }
        Ok(Self {
            nodes,
            links,
            folder,
            account,
            binaries,
            writers: saved.format == WRITERS_FORMAT,
            credentials: saved.credentials,
            tls: saved.tls,
            extra: saved.extra,
            deadline: saved.deadline,
        })
    }

    /// Lets the servers and the folder outlive this value.
    pub(crate) fn release(&mut self) {
        self.folder.release();
    }
}

/// Children of killed postmasters that the last owner knew of.
pub(crate) fn orphans(dir: &Path) -> Vec<ProcessId> {
    read(dir)
        .map(|saved| saved.nodes.into_iter().flat_map(|node| node.orphans).collect())
        .unwrap_or_default()
}

fn read(dir: &Path) -> Result<Saved, SandboxError> {
    let path = dir.join(STATE_FILE);
    let broken = |reason: &str| {
        SandboxError::not_now(
            dir.display().to_string(),
            format!("{reason}; run `herdsman sandbox destroy` and start again"),
        )
    };
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(broken("holds a sandbox that was never finished"));
        }
        Err(error) => return Err(SandboxError::file("read", &path)(error)),
    };
    match serde_json::from_slice::<Saved>(&text) {
        Ok(saved) if [FORMAT, WRITERS_FORMAT].contains(&saved.format) => Ok(saved),
        Ok(_) => Err(broken("holds a sandbox of another version of this program")),
        Err(_) => Err(broken("holds a state file that cannot be read")),
    }
}
