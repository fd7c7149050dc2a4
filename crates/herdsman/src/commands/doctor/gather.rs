//! Looks at everything. Nothing here changes anything on a server, decides anything, or waits for ever.

mod gateway;
mod ledger;
mod node;
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use herdsman_hooks::Obstacle;
use herdsman_mesh::install::{self, Options};
use herdsman_node::{Conninfo, NodeName};
use tokio::task::JoinSet;

use super::evidence::{Evidence, MeshSeen, Seen, Unreached};
use crate::commands::ask::{Direct, Told};
use crate::config::Config;

/// Bound on connecting, and on each question: a person waits for it.
const LIMIT: Duration = Duration::from_secs(10);
/// Bound on all questions to one node: a node that freezes between two of them is not waited for at each.
const NODE: Duration = Duration::from_secs(30);
/// Bound on asking the members how far they are, each of which is let in within 10 s.
const STATUS: Duration = Duration::from_secs(30);
/// Where Linux tells how many connections may wait at a socket.
const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";
/// Nodes looked at at the same time.
const AT_ONCE: usize = 32;

/// Looks at all nodes at once, then at what depends on who is the primary.
pub(super) async fn gather(config: &Config) -> Evidence {
    let (nodes, told, mesh) = tokio::join!(
        Box::pin(nodes(&config.nodes)),
        Box::pin(told(config)),
        Box::pin(mesh(config)),
    );
    let (stream, logins, auth_query, hooks, ledger) = tokio::join!(
        Box::pin(stream::look(config, told.as_ref())),
        Box::pin(gateway::logins(config, &nodes)),
        Box::pin(gateway::auth_query(config, &nodes)),
        Box::pin(hooks(config)),
        Box::pin(ledger::look(config)),
    );
    let topology = told.map(|told| told.topology);
    let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let waiting = std::fs::read_to_string(SOMAXCONN).ok().and_then(|text| text.trim().parse().ok());
    Evidence {
        nodes,
        topology,
        stream,
        mesh,
        ledger,
        logins,
        auth_query,
        hooks,
        open_files,
        waiting,
    }
}

/// What a watcher that runs for a moment concludes.
async fn told(config: &Config) -> Option<Told> {
    // Where it cannot be started, the node whose settings are to blame says so itself.
    let direct = Direct::with(config).ok()?;
    let told = direct.settled().await;
    direct.stop().await;
    Some(told)
}

async fn nodes(nodes: &BTreeMap<NodeName, Conninfo>) -> BTreeMap<NodeName, Seen> {
    let mut waiting = nodes.clone().into_iter();
    let mut running = JoinSet::new();
    let mut seen = BTreeMap::new();
    loop {
        while running.len() < AT_ONCE
            && let Some((name, info)) = waiting.next()
        {
            running.spawn(async move {
                let looking = tokio::time::timeout(NODE, Box::pin(node::look(&info, LIMIT))).await;
                let seen = looking.unwrap_or_else(|_| {
                    Seen::Out(Unreached {
                        kind: Some(herdsman_node::ConnectErrorKind::TimedOut),
                        endpoint: info.endpoint(),
                        problem: format!("it let us in, and did not answer all within {NODE:?}"),
                    })
                });
                (name, seen)
            });
        }
        match running.join_next().await {
            Some(Ok((name, node))) => drop(seen.insert(name, node)),
            // A task ends early only by a defect; its node is then missing.
            Some(Err(error)) => tracing::error!(%error, "a look at a node ended early"),
            None => return seen,
        }
    }
}

async fn hooks(config: &Config) -> Vec<(String, Vec<Obstacle>)> {
    let looks = config.hooks.0.iter().map(async |hook| {
        let found = Box::pin(herdsman_hooks::look(hook, LIMIT)).await?;
        Some((hook.name.clone(), found))
    });
    join_all(looks).await.into_iter().flatten().collect()
}

async fn mesh(config: &Config) -> Option<MeshSeen> {
    if config.mesh.nodes.is_empty() {
        return None;
    }
    let setup = Arc::new(config.mesh.setup(&config.nodes));
    let (survey, failed) = Box::pin(install::survey_each(&setup)).await;
    let plan = install::plan_with(&setup, &survey, &Options::default());
    let is_up = survey.nodes.values().any(|found| found.own.is_some());
    let status = match is_up {
        false => None,
        true => Some(
            match tokio::time::timeout(STATUS, Box::pin(herdsman_mesh::look::look(&setup))).await {
                Ok(outcome) => outcome.map_err(|error| error.to_string()),
                Err(_) => Err(format!("the members did not tell how far they are in {STATUS:?}")),
            },
        ),
    };
    let unreached = failed.into_iter().map(|(node, error)| (node, error.to_string())).collect();
    Some(MeshSeen { survey, unreached, plan, status })
}
