//! Where `status` and `primary` get a topology from: a running Herdsman, or a look of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use herdsman_api::{ApiConfig, Groups};
use herdsman_node::{NodeName, Role, Trust};
use herdsman_watch::{HeartbeatSchedule, Topology, Verdict, Watch, Watcher, Why};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::cli::{AskArgs, Global};
use crate::client::{Endpoint, trust};
use crate::config::{Config, ConfigError, Depth};
use crate::exit::{Exit, Failed};

/// Everything that can be asked.
const PATH: &str = "/v2/topology";

/// The copy of the state file.
const MEMORY: &str = "state.json";

/// How often a topology that has not settled is looked at again.
const GLANCE: Duration = Duration::from_millis(20);

/// What was told, in the shape of the API's document.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    #[serde(flatten)]
    pub(super) topology: Topology,
    pub(super) groups: Groups,
}

/// The part of the document that stands beside the topology.
#[derive(Deserialize)]
struct Beside {
    #[serde(default)]
    groups: BTreeMap<String, Vec<NodeName>>,
}

/// A look of our own at the nodes.
pub(super) struct Direct {
    watcher: Watcher,
    watch: Watch,
    groups: Groups,
    /// The longest that settling can take.
    bound: Duration,
    /// Where it remembers what it concludes, as long as it looks.
    _memory: Option<TempDir>,
}

/// Whom the arguments mean; where they name nobody, whom the configuration describes.
pub(super) fn endpoint(args: &AskArgs, global: &Global) -> Result<Endpoint, Failed> {
    let mut endpoint = match &args.url {
        Some(url) => of_url(url, args, global),
        None => of_config(args, global),
    }?;
    if let (Some(cert), Some(key)) = (&args.cert, &args.key) {
        if !endpoint.is_tls() {
            let problem = format!(
                "{} is not encrypted, so that nobody asks for a certificate there; leave `--cert` and `--key` out",
                endpoint.url()
            );
            return Err(Exit::Usage.with(problem));
        }
        let shown = endpoint.change_trust(|trust| trust.showing(cert, key));
        shown.map_err(|problem| Exit::Usage.with(problem))?;
    }
    Ok(endpoint)
}

fn of_url(url: &str, args: &AskArgs, global: &Global) -> Result<Endpoint, Failed> {
    let endpoint = Endpoint::of_url(url, || {
        // Our own configuration knows the certificates where this is our own Herdsman.
        let config = || Config::load(global.config.as_deref(), Depth::Outline).ok();
        match &args.cacert {
            Some(file) => Trust::of_file(file),
            None => config().and_then(|config| Some((config.ssl?, config.api))).map_or_else(
                || Err("https needs certificates to trust; give `--cacert FILE`".to_owned()),
                |(ssl, api)| match args.cert {
                    Some(_) => trust::of_config(&ssl, &ApiConfig::default()),
                    None => trust::of_config(&ssl, &api),
                },
            ),
        }
    });
    endpoint.map_err(|problem| Exit::Usage.with(problem))
}

fn of_config(args: &AskArgs, global: &Global) -> Result<Endpoint, Failed> {
    let mut config =
        Config::load(global.config.as_deref(), Depth::Outline).map_err(|error| match error {
            ConfigError::NotFound => {
                Exit::Config.with(format!("{error}, or a running Herdsman with `--url URL`"))
            }
            ConfigError::Problems(_) => error.into(),
        })?;
    // Another one is shown instead; this one may not be readable for whoever asks.
    if args.cert.is_some() {
        config.api.client = None;
    }
    let mut endpoint =
        Endpoint::of_config(&config).map_err(|problem| Exit::Config.with(problem))?;
    if let Some(file) = &args.cacert {
        let instead = |_| trust::showing(Trust::of_file(file)?, &config.api);
        endpoint.change_trust(instead).map_err(|problem| Exit::Usage.with(problem))?;
    }
    Ok(endpoint)
}

/// Asks a running Herdsman.
pub(super) async fn remote(endpoint: &Endpoint) -> Result<Told, Failed> {
    let unavailable = |problem: String| Exit::Unavailable.with(problem);
    let answer = endpoint.get(PATH).await.map_err(|error| unavailable(error.to_string()))?;
    if !answer.status.is_success() {
        return Err(unavailable(format!(
            "{} answers {} to {PATH}; is that a Herdsman?",
            endpoint.url(),
            answer.status
        )));
    }
    let wrong = |error: serde_json::Error| {
        unavailable(format!("{} answers something else than a topology: {error}", endpoint.url()))
    };
    let topology = serde_json::from_slice(&answer.body).map_err(wrong)?;
    let Beside { groups } = serde_json::from_slice(&answer.body).map_err(wrong)?;
    Ok(Told { topology, groups })
}

impl Direct {
    /// Starts looking.
    pub(super) fn start(global: &Global) -> Result<Self, Failed> {
        Self::with(&Config::load(global.config.as_deref(), Depth::Full)?)
    }

    /// Starts looking at the nodes of a configuration that was read already. It writes nothing: no heartbeat, and what it
    /// remembers goes into a copy, since the state file belongs to the Herdsman that runs.
    pub(super) fn with(config: &Config) -> Result<Self, Failed> {
        let mut setup = config.setup();
        setup.availability.heartbeat = HeartbeatSchedule::Never;
        let memory = setup.watch.state_file.as_ref().map(|file| copied(file)).transpose()?;
        setup.watch.state_file = memory.as_ref().map(|folder| folder.path().join(MEMORY));
        let watcher = Watcher::start(setup).map_err(|error| Exit::Config.with(error))?;
        let bound = config.watch.lease() * 2 + config.watch.suspect_grace;
        let groups = config.groups.clone();
        Ok(Self { watch: watcher.watch(), watcher, groups, bound, _memory: memory })
    }

    /// What is seen once it has settled, or when it had long enough to.
    pub(super) async fn settled(&self) -> Told {
        let settling = async {
            while !is_settled(&self.watch.topology()) {
                tokio::time::sleep(GLANCE).await;
            }
        };
        // What has not settled by then is told as it is: the verdict says what is missing.
        let _settled_or_not = tokio::time::timeout(self.bound, settling).await;
        self.now()
    }

    /// What is seen at this moment.
    pub(super) fn now(&self) -> Told {
        let topology = self.watch.topology().aged(self.watch.now());
        Told { topology, groups: self.groups.clone() }
    }

    /// Stops looking.
    pub(super) async fn stop(self) {
        self.watcher.stop().await;
    }
}

/// A folder with a copy of the state file, if there is one yet.
fn copied(file: &Path) -> Result<TempDir, Failed> {
    let copying = || {
        let folder = tempfile::tempdir()?;
        match std::fs::copy(file, folder.path().join(MEMORY)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            Ok(_) | Err(_) => Ok(folder),
        }
    };
    copying().map_err(|error: std::io::Error| {
        let file = file.display();
        Exit::Config.with(format!("cannot look at a copy of `{file}` (watch.state_file): {error}"))
    })
}

/// Whether waiting longer would tell no more: every node has spoken or failed, and there is a verdict that does not
/// wait for anything.
fn is_settled(topology: &Topology) -> bool {
    let heard =
        topology.nodes.values().all(|view| view.evidence_at.is_some() || view.error.is_some());
    let waits = match &topology.verdict {
        Verdict::Primary { .. } | Verdict::None { why: Why::Mesh, .. } => false,
        // Nobody claims it and everybody has spoken: nothing is on its way.
        Verdict::None { why: Why::NoClaimant, .. } => {
            topology.nodes.values().any(|view| view.role == Role::Primary)
        }
        Verdict::None { .. } | Verdict::SplitBrain { .. } => true,
    };
    heard && !topology.nodes.is_empty() && !waits
}

#[cfg(test)]
mod tests {
    use herdsman_watch::{Moment, NodeView};

    use super::*;

    fn topology(verdict: Verdict, heard: bool) -> Topology {
        let view = NodeView { evidence_at: heard.then(Moment::default), ..NodeView::default() };
        let nodes = [(NodeName::new("a").unwrap(), view)].into();
        Topology { verdict, nodes, ..Topology::default() }
    }

    #[test]
    fn it_has_settled_when_all_were_heard_and_nothing_is_awaited() {
        let none = |why| Verdict::None { why, reason: String::new() };
        assert!(is_settled(&topology(none(Why::NoClaimant), true)));
        assert!(!is_settled(&topology(none(Why::NoClaimant), false)));
        assert!(!is_settled(&topology(none(Why::Unattested), true)));
        assert!(!is_settled(&Topology::default()));
    }
}
