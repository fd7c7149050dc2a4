//! The mesh of `herdsman run`: beside the watcher, the gateway and the stream.

use std::sync::{Arc, Mutex, PoisonError};

use herdsman_api::Handle;
use herdsman_mesh::MeshConfig;
use herdsman_mesh::engine::Engine;
use herdsman_mesh::status::LinkName;

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
}

impl Beside {
    /// Starts it, where `mesh` lists nodes, and offers it at the API's door.
    ///
    /// # Errors
    /// The section cannot be used at all.
    pub(crate) fn start(config: &Config, api: &Handle, metrics: Metrics) -> Result<Self, Failed> {
        let mut beside = Self { engine: Shared::default(), jobs: Jobs::default(), metrics };
        beside.begin(config, api).map_err(|problem| Exit::Config.with(problem))?;
        Ok(beside)
    }

    /// Goes on with another configuration: anew, where what concerns the mesh has changed.
    pub(crate) async fn reload(&mut self, old: &Config, new: &Config, api: &Handle) {
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
            return Ok(());
        }
        let setup = config.mesh.setup(&config.nodes);
        let engine = Engine::start(setup.clone()).map_err(|error| error.to_string())?;
        announce(&config.mesh);
        let status = engine.status();
        self.metrics.offer_mesh(Some(status.clone()));
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

/// Tells the log that it begins.
pub(super) fn announce(mesh: &MeshConfig) {
    let nodes: Vec<_> = mesh.nodes.iter().map(ToString::to_string).collect();
    tracing::info!(mesh = mesh.name, nodes = nodes.join(" "), "the mesh is up");
}
