//! The mesh of `herdsman run`: beside the watcher, the gateway and the stream.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use herdsman_api::Handle;
use herdsman_mesh::MeshConfig;
use herdsman_mesh::engine::Engine;
use herdsman_mesh::status::{LinkName, Status};
use herdsman_watch::{LagAlarm, Watch};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::alarms::Alarms;
use super::door::Door;
use super::jobs::Jobs;
use crate::config::Config;
use crate::exit::{Exit, Failed};
use crate::metrics::Metrics;

/// The engine, which others may tell something until it is stopped.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared(Arc<Mutex<Option<Engine>>>);

impl Shared {
    /// Holds links or lets them go on.
    pub(super) fn pause(&self, link: Option<&LinkName>, paused: bool) {
        if let Some(engine) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            engine.pause(link, paused);
        }
    }

    fn take(&self) -> Option<Engine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The mesh, where the configuration has one.
pub(crate) struct Beside {
    engine: Shared,
    /// What is under way outlasts a reload.
    jobs: Jobs,
    metrics: Metrics,
    told_of: watch::Sender<ToldOf>,
    telling: JoinHandle<()>,
}

/// What is told of as events.
#[derive(Clone, Debug)]
struct ToldOf {
    /// Where the mesh stands, if there is one.
    status: Option<watch::Receiver<Arc<Status>>>,
    bound: LagAlarm,
}

/// How often the mesh is looked at for something to tell.
const LOOK: Duration = Duration::from_secs(1);

impl Beside {
    /// Starts it, where `mesh` lists nodes, and offers it at the API's door.
    ///
    /// # Errors
    /// The section cannot be used at all.
    pub(crate) fn start(
        config: &Config,
        api: &Handle,
        metrics: Metrics,
        watch: Watch,
    ) -> Result<Self, Failed> {
        let bound = config.watch.lag_alarm;
        let (told_of, receiver) = watch::channel(ToldOf { status: None, bound });
        let (engine, jobs) = (Shared::default(), Jobs::default());
        let telling = tokio::spawn(tell(receiver, watch));
        let mut beside = Self { engine, jobs, metrics, told_of, telling };
        beside.begin(config, api).map_err(|problem| Exit::Config.with(problem))?;
        Ok(beside)
    }

    /// Goes on with another configuration: anew, where what concerns the mesh has changed.
    pub(crate) async fn reload(&mut self, old: &Config, new: &Config, api: &Handle) {
        self.told_of.send_modify(|told_of| told_of.bound = new.watch.lag_alarm);
        if (&old.mesh, old.hosts_print) == (&new.mesh, new.hosts_print) {
            return;
        }
        api.offer_mesh(None);
        self.metrics.offer_mesh(None);
        self.end().await;
        if let Err(problem) = self.begin(new, api) {
            tracing::error!(problem, "the mesh cannot start");
        }
    }

    /// Finishes what is under way.
    pub(crate) async fn stop(self) {
        self.end().await;
    }

    fn begin(&mut self, config: &Config, api: &Handle) -> Result<(), String> {
        if config.mesh.nodes.is_empty() {
            self.told_of.send_modify(|told_of| told_of.status = None);
            return Ok(());
        }
        let setup = config.mesh.setup(&config.nodes);
        let engine = Engine::start(setup.clone()).map_err(|error| error.to_string())?;
        announce(&config.mesh);
        let status = engine.status();
        self.metrics.offer_mesh(Some(status.clone()));
        self.told_of.send_modify(|told_of| told_of.status = Some(status.clone()));
        self.engine = Shared(Arc::new(Mutex::new(Some(engine))));
        let door = Door::new(setup, self.engine.clone(), status, self.jobs.clone());
        api.offer_mesh(Some(Arc::new(door)));
        Ok(())
    }

    async fn end(&self) {
        if let Some(engine) = self.engine.take() {
            engine.stop().await;
            tracing::info!("the mesh has stopped");
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.telling.abort();
    }
}

/// Tells of conflicts and lag, for as long as it runs.
async fn tell(told_of: watch::Receiver<ToldOf>, watch: Watch) {
    let (mut alarms, begun) = (Alarms::default(), Instant::now());
    loop {
        let ToldOf { status, bound } = told_of.borrow().clone();
        let status = status.map(|status| Arc::clone(&status.borrow())).unwrap_or_default();
        for event in alarms.look(&status, &bound, begun.elapsed()) {
            watch.report(event);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Tells the log that it begins.
pub(super) fn announce(mesh: &MeshConfig) {
    let nodes: Vec<_> = mesh.nodes.iter().map(ToString::to_string).collect();
    tracing::info!(mesh = mesh.name, nodes = nodes.join(" "), "the mesh is up");
}
