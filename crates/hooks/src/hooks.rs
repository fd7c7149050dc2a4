//! All hooks of a configuration, and going on with another one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use herdsman_node::{Conninfo, NodeName};
use herdsman_watch::Watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::{HookConfig, HooksConfig};
use crate::haproxy::HaProxy;
use crate::herd::{Place, Places};
use crate::hosts::HostsFile;
use crate::pgbouncer::PgBouncer;
use crate::post;
use crate::runner::{How, Keeper, Sources, Teller, What, keep, known, tell};
use crate::status::{Board, Statuses};

/// What hooks need to begin.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The section, as [`HooksConfig::read`] leaves it: with its secrets.
    pub config: HooksConfig,
    /// How the nodes are reached; clients reach them at the same addresses.
    pub nodes: BTreeMap<NodeName, Conninfo>,
    /// Where the verdict is read.
    pub watch: Watch,
}

/// Running hooks. Dropping them ends them at once.
#[derive(Debug, Default)]
pub struct Hooks {
    tasks: Vec<Task>,
    statuses: Statuses,
}

/// One that runs.
#[derive(Debug)]
struct Task {
    config: HookConfig,
    places: Places,
    board: Arc<Board>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// How long runs that are under way may take to end. What takes longer is ended.
const FAREWELL: Duration = Duration::from_secs(5);

impl Hooks {
    /// Starts all of them; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// What of a hook cannot be used.
    pub fn start(setup: &Setup) -> Result<Self, String> {
        let mut hooks = Self::default();
        for prepared in prepared(setup)? {
            hooks.tasks.push(prepared.begin(&setup.watch));
        }
        hooks.show();
        Ok(hooks)
    }

    /// Goes on with another configuration: who has changed begins anew, everybody else does not notice.
    ///
    /// # Errors
    /// What of a hook cannot be used; then nothing has changed.
    pub async fn reload(&mut self, setup: &Setup) -> Result<(), String> {
        let mut old = std::mem::take(&mut self.tasks);
        let prepared = match prepared(setup) {
            Ok(prepared) => prepared,
            Err(problem) => {
                self.tasks = old;
                return Err(problem);
            }
        };
        let mut places = Vec::new();
        for next in prepared {
            let same = old.iter().position(|task| {
                task.config == next.config && task.places == next.places && !task.task.is_finished()
            });
            places.push(match same {
                Some(place) => Ok(old.swap_remove(place)),
                None => Err(next),
            });
        }
        // Two of one hook must never run beside each other.
        stop(old).await;
        let begin =
            |place: Result<Task, Prepared>| place.unwrap_or_else(|next| next.begin(&setup.watch));
        self.tasks = places.into_iter().map(begin).collect();
        self.show();
        Ok(())
    }

    /// Where they stand, for whoever wants to know; goes on to be right after a reload.
    #[must_use]
    pub fn statuses(&self) -> Statuses {
        self.statuses.clone()
    }

    /// Lets runs that are under way end, for some seconds. Events that wait are not told any more.
    pub async fn stop(mut self) {
        stop(std::mem::take(&mut self.tasks)).await;
    }

    fn show(&self) {
        self.statuses.show(self.tasks.iter().map(|task| Arc::clone(&task.board)).collect());
    }
}

async fn stop(tasks: Vec<Task>) {
    for task in &tasks {
        task.stop.cancel();
    }
    let deadline = tokio::time::Instant::now() + FAREWELL;
    for mut task in tasks {
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        if timeout(left, &mut task.task).await.is_err() {
            tracing::warn!(hook = task.config.name, "ended while it ran");
            task.task.abort();
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A hook with everything that can fail done.
struct Prepared {
    config: HookConfig,
    places: Places,
    kind: &'static str,
    shape: Shape,
}

enum Shape {
    Message(Teller),
    State(Keeper),
}

fn prepared(setup: &Setup) -> Result<Vec<Prepared>, String> {
    let places: Places =
        setup.nodes.iter().map(|(name, info)| (name.clone(), Place::from(info))).collect();
    let hooks = setup.config.0.iter();
    hooks
        .map(|config| {
            prepare(config, &places)
                .map_err(|problem| format!("the hook `{}`: {problem}", config.name))
        })
        .collect()
}

fn prepare(config: &HookConfig, places: &Places) -> Result<Prepared, String> {
    let timeout = config.timeout;
    let message = |how| {
        Shape::Message(Teller {
            name: config.name.clone(),
            events: config.events().to_vec(),
            retry: config.retry.clone(),
            queue: config.queue,
            how,
        })
    };
    let state = |what| {
        Shape::State(Keeper {
            name: config.name.clone(),
            timeout,
            retry: config.retry.clone(),
            what,
        })
    };
    let shape = if let Some(exec) = &config.exec {
        message(How::Exec { config: exec.clone(), timeout, places: places.clone() })
    } else if let Some(webhook) = &config.webhook {
        message(How::Webhook(post::webhook(webhook, timeout)?))
    } else if let Some(slack) = &config.slack {
        let poster = post::slack(slack, timeout)?;
        message(How::Slack { poster, title: slack.title.clone() })
    } else if let Some(pgbouncer) = &config.pgbouncer {
        let hook = PgBouncer::new(pgbouncer.clone(), places.clone(), timeout);
        state(What::PgBouncer(Box::new(hook.map_err(|error| error.to_string())?)))
    } else if let Some(haproxy) = &config.haproxy {
        state(What::HaProxy(HaProxy { config: haproxy.clone() }))
    } else if let Some(hosts) = &config.hosts {
        state(What::Hosts(HostsFile { config: hosts.clone(), places: places.clone() }))
    } else {
        return Err("it does nothing".to_owned());
    };
    let kind = config.kind().unwrap_or_default();
    Ok(Prepared { config: config.clone(), places: places.clone(), kind, shape })
}

impl Prepared {
    fn begin(self, watch: &Watch) -> Task {
        let Self { config, places, kind, shape } = self;
        let board = Arc::new(Board::new(&config.name, kind));
        let stop = CancellationToken::new();
        let topology = watch.subscribe();
        let task = match shape {
            Shape::Message(teller) => {
                // Now, and not when the task begins: whatever comes in between is told.
                let base = known(&topology);
                let sources = Sources { base, topology, reports: watch.reports() };
                tokio::spawn(tell(teller, sources, Arc::clone(&board), stop.clone()))
            }
            Shape::State(keeper) => {
                tokio::spawn(keep(keeper, topology, Arc::clone(&board), stop.clone()))
            }
        };
        Task { config, places, board, stop, task }
    }
}
